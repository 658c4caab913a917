//! The part of Rust's syntax that shows which names a file uses: words, `use` trees, items.

/// A word or a sign of the source. `::` is one sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Word(String),
    Sign(char),
    Path,
}

impl Token {
    pub(crate) fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own == word)
    }

    pub(crate) fn is_sign(&self, sign: char) -> bool {
        *self == Self::Sign(sign)
    }

    pub(crate) fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            Self::Sign(_) | Self::Path => None,
        }
    }
}

/// One name that a `use` declaration brings in.
#[derive(Clone, Debug)]
pub(crate) struct Import {
    /// The name in this file; `*` for all names.
    pub(crate) name: String,
    pub(crate) path: Vec<String>,
    pub(crate) is_public: bool,
}

/// The relevant contents of one file.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// The names of `mod name;`.
    pub(crate) modules: Vec<String>,
    pub(crate) defines: Vec<String>,
    pub(crate) imports: Vec<Import>,
    /// Paths of two words or more outside of `use`.
    pub(crate) paths: Vec<Vec<String>>,
    /// Words outside of `use`.
    pub(crate) words: Vec<String>,
}

/// Returns the tokens of `text`, without comments, strings, characters and lifetimes.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let text: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let here = text[at];
        let next = text.get(at + 1).copied().unwrap_or(' ');
        if here == '/' && next == '/' {
            at = end_of(&text, at, '\n');
        } else if here == '/' && next == '*' {
            at = past_block_comment(&text, at);
        } else if here == '"' {
            at = past_string(&text, at + 1);
        } else if here == '\'' {
            at = past_quote(&text, at);
        } else if here.is_alphabetic() || here == '_' {
            let end = at
                + text[at..]
                    .iter()
                    .take_while(|c| c.is_alphanumeric() || **c == '_')
                    .count();
            let word: String = text[at..end].iter().collect();
            let raw = matches!(word.as_str(), "r" | "br" | "cr");
            if raw && text.get(end).is_some_and(|c| matches!(c, '"' | '#')) {
                at = past_raw_string(&text, end);
            } else {
                tokens.push(Token::Word(word));
                at = end;
            }
        } else if here == ':' && next == ':' {
            tokens.push(Token::Path);
            at += 2;
        } else {
            if !here.is_whitespace() {
                tokens.push(Token::Sign(here));
            }
            at += 1;
        }
    }
    tokens
}

fn end_of(text: &[char], at: usize, sign: char) -> usize {
    text[at..]
        .iter()
        .position(|c| *c == sign)
        .map_or(text.len(), |found| at + found + 1)
}

fn past_block_comment(text: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < text.len() {
        match (text[at], text.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    break;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn past_string(text: &[char], mut at: usize) -> usize {
    while at < text.len() && text[at] != '"' {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn past_raw_string(text: &[char], at: usize) -> usize {
    let hashes = text[at..].iter().take_while(|c| **c == '#').count();
    if text.get(at + hashes) != Some(&'"') {
        // The word is a raw identifier.
        return at + hashes;
    }
    let mut end = at + hashes + 1;
    while end < text.len() {
        if text[end] == '"' && text[end + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes {
            return end + 1 + hashes;
        }
        end += 1;
    }
    end
}

/// Returns the position after a character or a lifetime.
fn past_quote(text: &[char], at: usize) -> usize {
    match (text.get(at + 1), text.get(at + 2)) {
        (Some('\\'), _) => end_of(text, at + 3, '\''),
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

/// Parses the text of a file.
pub(crate) fn parse(text: &str) -> Source {
    let tokens = without_tests(&tokens(text));
    let mut source = Source::default();
    let mut depth = 0_usize;
    let mut at = 0;
    while at < tokens.len() {
        let after = &tokens[at + 1..];
        match &tokens[at] {
            Token::Sign('{') => depth += 1,
            Token::Sign('}') => depth -= 1,
            Token::Word(word) if word == "use" && starts_item(&tokens, at) => {
                let end = at
                    + tokens[at..]
                        .iter()
                        .position(|token| token.is_sign(';'))
                        .expect("use ends");
                let is_public = at > 0 && (tokens[at - 1].is("pub") || tokens[at - 1].is_sign(')'));
                let mut rest = &tokens[at + 1..end];
                tree(&mut rest, &[], is_public, &mut source.imports);
                at = end;
            }
            Token::Word(word) if word == "mod" && after.get(1).is_some_and(|token| token.is_sign(';')) => {
                let name = after[0].word().expect("a module has a name");
                source.modules.push(name.to_owned());
                at += 2;
            }
            Token::Word(word) => {
                if depth == 0 && is_definition(word) {
                    // In `const fn`, `unsafe extern fn` and so on, the last word is the name.
                    if let Some(name) = after
                        .first()
                        .and_then(Token::word)
                        .filter(|name| !is_definition(name))
                    {
                        source.defines.push(name.to_owned());
                    }
                } else if depth == 0 && word == "macro_rules" {
                    source
                        .defines
                        .extend(after.get(1).and_then(Token::word).map(str::to_owned));
                }
                let path = path_at(&tokens, at);
                source.words.push(word.clone());
                if path.len() > 1 {
                    at += 2 * (path.len() - 1);
                    source.words.extend(path[1..].iter().cloned());
                    source.paths.push(path);
                }
            }
            Token::Sign(_) | Token::Path => {}
        }
        at += 1;
    }
    source
}

/// Returns whether the `use` at this place begins a declaration. It also occurs in `impl … +
/// use<'a>`.
fn starts_item(tokens: &[Token], at: usize) -> bool {
    !tokens.get(at + 1).is_some_and(|token| token.is_sign('<'))
}

fn is_definition(word: &str) -> bool {
    [
        "fn", "struct", "enum", "trait", "type", "const", "static", "union", "mod",
    ]
    .contains(&word)
}

/// Returns the path that begins at this word.
///
/// The path is empty if the word is in the middle of a path, or is a method call.
fn path_at(tokens: &[Token], at: usize) -> Vec<String> {
    if at > 0 && (tokens[at - 1] == Token::Path || tokens[at - 1].is_sign('.')) {
        return Vec::new();
    }
    let mut path = Vec::new();
    let mut rest = tokens[at..].iter();
    while let Some(word) = rest.next().and_then(Token::word) {
        path.push(word.to_owned());
        if rest.next() != Some(&Token::Path) {
            break;
        }
    }
    path
}

/// Parses one `use` tree from the front of `rest`.
fn tree(rest: &mut &[Token], before: &[String], is_public: bool, into: &mut Vec<Import>) {
    let mut path = before.to_vec();
    loop {
        match rest.split_first() {
            Some((Token::Word(word), after)) => {
                path.push(word.clone());
                *rest = after;
            }
            Some((Token::Sign('*'), after)) => {
                *rest = after;
                let name = "*".to_owned();
                into.push(Import {
                    name,
                    path,
                    is_public,
                });
                return;
            }
            Some((Token::Sign('{'), after)) => {
                *rest = after;
                while rest.first().is_some_and(|token| !token.is_sign('}')) {
                    tree(rest, &path, is_public, into);
                    if rest.first().is_some_and(|token| token.is_sign(',')) {
                        *rest = &rest[1..];
                    }
                }
                *rest = &rest[1..];
                return;
            }
            _ => {}
        }
        match rest.first() {
            Some(Token::Path) => *rest = &rest[1..],
            _ => break,
        }
    }
    // `use a::{self}` brings in `a`.
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let mut name = path.last().cloned().unwrap_or_default();
    if rest.first().is_some_and(|token| token.is("as")) {
        name = rest.get(1).and_then(Token::word).unwrap_or("_").to_owned();
        *rest = &rest[2..];
    }
    into.push(Import {
        name,
        path,
        is_public,
    });
}

/// Removes attributes, and items that only tests have.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at].is_sign('#') {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let open = if tokens[at + 1].is_sign('!') {
            at + 2
        } else {
            at + 1
        };
        if !tokens.get(open).is_some_and(|token| token.is_sign('[')) {
            at += 1;
            continue;
        }
        let end = past_group(tokens, open);
        let attribute = &tokens[open + 1..end];
        at = end;
        let is_test = attribute[0].is("cfg") && attribute.iter().any(|token| token.is("test"));
        let is_not = attribute
            .windows(3)
            .any(|three| three[0].is("not") && three[1].is_sign('(') && three[2].is("test"));
        if is_test && !is_not {
            at = past_item(tokens, at);
        }
    }
    kept
}

/// Returns the position after the bracket that closes the one at `open`.
fn past_group(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Sign('[' | '{' | '(') => depth += 1,
            Token::Sign(']' | '}' | ')') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

fn past_item(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() {
        match tokens[at] {
            // The item was a field, a variant, or an argument.
            Token::Sign(';' | ',') => return at + 1,
            Token::Sign('{') => return past_group(tokens, at),
            // The block around the attribute's item ends here.
            Token::Sign('}') => return at,
            Token::Sign('(' | '[') => at = past_group(tokens, at),
            _ => at += 1,
        }
    }
    at
}
