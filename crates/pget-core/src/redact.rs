//! Names and texts as messages may show them: without a password, a signature or a token.
//!
//! An address that was given without its scheme is read as a path, and a path is named in full. So
//! what looks like a credential is left out of every name, wherever it stands. Pure.

/// Stands for a credential.
const HIDDEN: &str = "***";

/// Returns `name`, a path or an address, with `***` in the place of what may be a credential:
/// user and password before an `@`, and values after `?`, `#` or `;`.
#[must_use]
pub fn name(name: &str) -> String {
    let (place, more) = match name.find(['?', '#', ';']).or_else(|| encoded(name, "%3f")) {
        Some(at) => name.split_at(at),
        None => (name, ""),
    };
    without_user(place) + &without_values(more)
}

/// Longest message that is kept, in characters.
const LONGEST: usize = 600;

/// Returns `text`, which a server or a library wrote, as one line of at most 600 characters and an
/// ellipsis: without users, passwords and queries of addresses, without control characters, and
/// without an XML document, which may repeat a request's signature.
#[must_use]
pub fn message(text: &str) -> String {
    let document = ["<?xml", "<Error"]
        .into_iter()
        .filter_map(|tag| text.find(tag))
        .min();
    let plain = plain(&text[..document.unwrap_or(text.len())]);
    let mut clipped: String = plain.chars().take(LONGEST).collect();
    if clipped.len() < plain.len() {
        clipped.push('…');
    }
    clipped.trim().to_owned()
}

/// Without control characters, and without users, passwords and queries of URLs.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut address = false;
    // Where the host, or the user before it, begins in `plain`.
    let mut authority = None;
    let mut query = false;
    let mut last = [' '; 3];
    for c in text.chars() {
        last = [last[1], last[2], c];
        if last == [':', '/', '/'] && !query {
            address = true;
            authority = Some(plain.len() + 1);
        } else if c.is_whitespace() || matches!(c, '"' | '<' | '>' | '`') {
            // None of these stands in a query as it is sent; brackets and apostrophes may.
            (address, authority, query) = (false, None, false);
        } else if address && c == '?' {
            plain.push_str("?…");
            query = true;
        } else if c == '/' {
            authority = None;
        } else if c == '@'
            && let Some(begin) = authority
        {
            plain.truncate(begin);
            plain.push('…');
        }
        if !query {
            plain.push(if c.is_control() { ' ' } else { c });
        }
    }
    plain
}

/// Where `code`, a percent-encoded byte in lower case, begins.
fn encoded(text: &str, code: &str) -> Option<usize> {
    text.to_ascii_lowercase().find(code)
}

/// Removes the text before the last `@`, if that text contains a colon. A path that is absolute or
/// begins with a dot is not an address: the text is removed from each of its parts.
fn without_user(place: &str) -> String {
    let is_path = place.starts_with("./") || place.starts_with("../");
    if is_path || place.starts_with('/') && !place.starts_with("//") {
        let parts = place.split('/').map(without_user_in);
        return parts.collect::<Vec<_>>().join("/");
    }
    match place.split_once("//") {
        Some((scheme, rest)) if !has_user(scheme) => format!("{scheme}//{}", without_user_in(rest)),
        _ => without_user_in(place),
    }
}

fn has_user(text: &str) -> bool {
    without_user_in(text) != text
}

fn without_user_in(part: &str) -> String {
    let lower = part.to_ascii_lowercase();
    let at = [
        lower.rfind('@').map(|at| (at, 1)),
        lower.rfind("%40").map(|at| (at, 3)),
    ];
    let Some((at, length)) = at.into_iter().flatten().max() else {
        return part.to_owned();
    };
    if lower[..at].contains(':') || lower[..at].contains("%3a") {
        format!("{HIDDEN}@{}", &part[at + length..])
    } else {
        part.to_owned()
    }
}

/// A query, a fragment or parameters, with names and without values. A bare word after `?` may be a
/// token, too.
fn without_values(more: &str) -> String {
    let is_mark = |letter: char| "?#;&".contains(letter);
    let mut shown = String::new();
    let mut rest = more;
    while let Some(first) = rest.chars().next() {
        let (mark, after) = if is_mark(first) {
            rest.split_at(1)
        } else {
            ("", rest)
        };
        let end = after.find(is_mark).unwrap_or(after.len());
        let (pair, next) = after.split_at(end);
        shown.push_str(mark);
        match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.trim_matches('=').is_empty() => {
                shown.push_str(&format!("{key}={HIDDEN}"));
            }
            Some(_) => shown.push_str(HIDDEN),
            // `C#` and `a;b` are names.
            None if matches!(mark, "#" | ";") || pair.is_empty() => shown.push_str(pair),
            None => shown.push_str(HIDDEN),
        }
        rest = next;
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_no_queries_and_no_documents() {
        let denied = "<?xml?><Error><Code>AccessDenied</Code><StringToSign>canary</StringToSign></Error>";
        let text = format!(
            "GET http://host:1/b/k?X-Amz-Signature=canary failed (see \"s3://b/k?sig=canary\"): {denied}"
        );
        assert_eq!(
            message(&text),
            "GET http://host:1/b/k?… failed (see \"s3://b/k?…\"):"
        );
        assert_eq!(message("why? because\r\nso"), "why? because  so");
        assert_eq!(
            message("a <Error><StringToSign>canary <?xml ?><Code>C</Code>"),
            "a"
        );
        let text = "PUT http://u:p@w@h:1/a@b?c@d, s3://e@f";
        assert_eq!(message(text), "PUT http://…@h:1/a@b?… s3://…@f");
        let text = "http://h/k?name=a(1)'&sig=canary http://h/x";
        assert_eq!(message(text), "http://h/k?… http://h/x");
        assert!(message(&"é".repeat(10_000)).chars().count() <= LONGEST + 1);
    }

    #[test]
    fn case_139_names_show_no_credential() {
        for hidden in [
            "user:hunter2@host/x",
            "//user:hunter2@host/x",
            "user:hun/ter2/hunter2@host/x",
            "user%3Ahunter2%40host/x",
            "user:hunter2%40host/x",
            " http://user:hunter2@host/x",
            "ht_tp://user:hunter2@host/x",
            "sftp:/user:hunter2@host/x",
            "/mnt/user:hunter2@host/x",
            "./user:hunter2@host/x",
            "host/x?X-Amz-Signature=hunter2",
            "host/x?a=b&sig=hunter2",
            "host/x?hunter2",
            "host/x?hunter2==",
            "host/x%3Fsig=hunter2",
            "host/x#access_token=hunter2",
            "host/x#a&access_token=hunter2",
            "host/x;token=hunter2/y",
            "ais://user:hunter2@bucket/key",
        ] {
            assert!(
                !name(hidden).contains("ter2"),
                "{hidden} is shown as {}",
                name(hidden)
            );
        }
        for shown in [
            "",
            "/home/me/file.bin",
            "me@home/file",
            "a:b/file",
            "/a:b/c@d",
            "C#/notes; draft",
            "ais://@alias#ns/bucket/o",
            "ais://bucket/a:b/c",
        ] {
            assert_eq!(name(shown), shown);
        }
        assert_eq!(name("u:p@h/x?a=b&c"), "***@h/x?a=***&***");
    }
}
