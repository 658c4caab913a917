//! Derives the table of `docs/options.md` from the code.
//!
//! The order, the meaning and the default of an option are those of the Rust builder. The other
//! languages and the program either have the option under its name, or under one of [`OTHERWISE`],
//! or not at all. `scripts/header.sh` writes the table, and a test fails if it is stale.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Option, language, and the name that it has there.
const OTHERWISE: [(&str, Language, &str); 5] = [
    ("offset", Language::C, "range"),
    ("length", Language::C, "range"),
    ("property", Language::Python, "properties"),
    ("header", Language::Python, "headers"),
    ("property", Language::Program, "--set"),
];

/// A column of the table beside Rust's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    C,
    Go,
    Python,
    Program,
}

impl Language {
    const ALL: [Self; 4] = [Self::C, Self::Go, Self::Python, Self::Program];

    /// Returns the name of an option of Rust, if the language has it.
    fn name(self, option: &str) -> String {
        let other = OTHERWISE
            .iter()
            .find(|(of, language, _)| *of == option && *language == self);
        if let Some((_, _, name)) = other {
            return (*name).to_owned();
        }
        match self {
            Self::C | Self::Python => option.to_owned(),
            Self::Go => option.split('_').fold("With".to_owned(), |name, word| {
                name + &word[..1].to_uppercase() + &word[1..]
            }),
            Self::Program => format!("--{}", option.replace('_', "-")),
        }
    }

    /// Returns the names of the options that the language has.
    fn names(self) -> BTreeSet<String> {
        match self {
            Self::C => names_after(&read("include/pget.h"), "pget_options_set_"),
            Self::Go => {
                let text = read("go/options.go") + &read("go/options_numbers.go");
                let names = names_after(&text, "\nfunc With");
                names.iter().map(|name| format!("With{name}")).collect()
            }
            Self::Python => {
                let text = read("python/src/settings.rs");
                let set = text.split("match name {").nth(1).expect("a match over names");
                let set = set.split("unknown =>").next().expect("its last arm");
                set.lines()
                    .filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" =>"))
                    .map(|(name, _)| name.to_owned())
                    .collect()
            }
            Self::Program => flags(),
        }
    }
}

/// One setter of the builder.
struct Setter {
    name: String,
    meaning: String,
    default: String,
}

fn path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Returns the builder's setters in their order.
fn setters() -> Vec<Setter> {
    // These methods share an object among several reads, or replace all options at once.
    let others = ["budget", "client", "settings"];
    let text = read("crates/pget/src/builder.rs");
    let mut comment = String::new();
    let mut setters = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("///") {
            comment += if words.is_empty() { "\n" } else { words };
        } else if !line.starts_with("#[") {
            let comment = std::mem::take(&mut comment);
            let function = line
                .strip_prefix("pub fn ")
                .or_else(|| line.strip_prefix("pub const fn "));
            let Some((name, _)) = function.and_then(|item| item.split_once("(mut self")) else {
                continue;
            };
            if !others.contains(&name) {
                setters.push(Setter::new(name, &without_links(&comment)));
            }
        }
    }
    assert!(
        setters.iter().any(|setter| setter.name == "chunk_size"),
        "the search finds setters"
    );
    setters
}

impl Setter {
    /// Splits a comment: "Sets MEANING. Default: DEFAULT.", and paragraphs for Rust only.
    fn new(name: &str, comment: &str) -> Self {
        let mut paragraphs = comment.split('\n').map(str::trim);
        let first = paragraphs.next().unwrap_or_default();
        let first = first
            .strip_prefix("Sets ")
            .or_else(|| first.strip_prefix("Adds "));
        let first = first.unwrap_or_else(|| panic!("{name}: the comment begins with Sets or Adds"));
        let mark = "Default: ";
        let (meaning, default) = first.split_once(mark).unwrap_or((first, ""));
        let default = match default {
            "" => paragraphs.find_map(|paragraph| paragraph.strip_prefix(mark)),
            default => Some(default),
        };
        let phrase = |text: &str| text.trim().trim_end_matches('.').to_owned();
        Self {
            name: name.to_owned(),
            meaning: phrase(meaning),
            default: default.map_or_else(|| "–".to_owned(), phrase),
        }
    }
}

/// Returns `text` with the names of rustdoc's links alone.
fn without_links(text: &str) -> String {
    let mut rest = text;
    let mut plain = String::new();
    while let Some((before, link)) = rest.split_once("[`") {
        let (name, after) = link.split_once("`]").expect("the end of a link");
        plain += &format!("{before}`{name}`");
        rest = match after.strip_prefix('(') {
            Some(target) => target.split_once(')').expect("the end of a target").1,
            None => after,
        };
    }
    plain + rest
}

/// Returns the names that follow `before` in `text`.
fn names_after(text: &str, before: &str) -> BTreeSet<String> {
    text.split(before)
        .skip(1)
        .filter_map(|rest| {
            let name = rest
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .next()?;
            (!name.is_empty()).then(|| name.to_owned())
        })
        .collect()
}

/// Returns the options of the program that are the library's.
fn flags() -> BTreeSet<String> {
    let mut flags = BTreeSet::new();
    for command in ["get", "cat"] {
        let output = Command::new(env!("CARGO_BIN_EXE_pget"))
            .args([command, "--help"])
            .output()
            .expect("the program runs");
        let help = String::from_utf8(output.stdout).expect("help is text");
        flags.extend(help.lines().filter_map(|line| {
            let flag = line.trim_start();
            // A short name may come first.
            let flag = flag.split_once(", ").map_or(flag, |(_, long)| long);
            let flag = flag.strip_prefix("--")?;
            let end = flag.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
            Some(format!("--{}", &flag[..end.unwrap_or(flag.len())]))
        }));
    }
    // These options select objects, the display, and the destination.
    for other in [
        "--dir",
        "--help",
        "--input-file",
        "--jobs",
        "--json",
        "--output",
        "--shared-ring",
        "--verbose",
    ] {
        assert!(flags.remove(other), "{other} is still an option");
    }
    flags
}

/// Returns the table.
fn table() -> String {
    let languages = Language::ALL.map(|language| (language, language.names()));
    let mut table = "| Rust | C | Go | Python | program | meaning, range | default |\n\
                     |---|---|---|---|---|---|---|\n"
        .to_owned();
    for setter in setters() {
        table += &format!("| `{}` |", setter.name);
        for (language, names) in &languages {
            let name = language.name(&setter.name);
            table += &if names.contains(&name) {
                format!(" `{name}` |")
            } else {
                " – |".to_owned()
            };
        }
        table += &format!(" {} | {} |\n", setter.meaning, setter.default);
    }
    table
}

/// Checks that the table has every option of a language, and that the exceptions are in use.
fn has_every_option_of(language: Language) {
    let options: BTreeSet<_> = setters().into_iter().map(|setter| setter.name).collect();
    let listed: BTreeSet<_> = options.iter().map(|option| language.name(option)).collect();
    let names = language.names();
    let chunk_size = language.name("chunk_size");
    assert!(names.contains(&chunk_size), "the search finds options: {names:?}");
    let missing: Vec<_> = names.difference(&listed).collect();
    assert!(missing.is_empty(), "the builder does not have {missing:?}");
    for (option, of, name) in OTHERWISE {
        assert!(options.contains(option), "there is no {option}");
        assert!(of != language || names.contains(name), "there is no {name}");
    }
}

#[test]
fn the_table_has_every_option_of_c() {
    has_every_option_of(Language::C);
}

#[test]
fn the_table_has_every_option_of_go() {
    has_every_option_of(Language::Go);
}

#[test]
fn the_table_has_every_option_of_python() {
    has_every_option_of(Language::Python);
}

#[test]
fn the_table_has_every_option_of_the_program() {
    has_every_option_of(Language::Program);
}

#[test]
fn the_table_is_what_the_code_makes() {
    let file = path("docs/options.md");
    let page = read("docs/options.md");
    let (before, rest) = page.split_once("| Rust | C |").expect("where the table begins");
    let (_, after) = rest.split_once("\n\n").expect("where the table ends");
    let fresh = format!("{before}{}\n{after}", table());
    pget_testkit::committed(&file, &fresh);
}
