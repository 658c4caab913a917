//! The writing of the project: plain English, at most 100 characters a line.
//!
//! Checks comments, documentation and messages in the places of [`CHECKED`]. The list only grows, until
//! it is the whole tree. `cargo test -p pget-testkit --test writing -- --ignored --nocapture` prints how
//! many lines of the other places are still to be rewritten.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Files, and folders with everything in them.
const CHECKED: &[&str] = &[
    ".github",
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "COMPARE.md",
    "CONTRIBUTING.md",
    "Cargo.toml",
    "DESIGN.md",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "benches",
    "clippy.toml",
    "crates/pget",
    "crates/pget-aistore",
    "crates/pget-cli",
    "crates/pget-core/Cargo.toml",
    "crates/pget-core/README.md",
    "crates/pget-core/src",
    "crates/pget-core/tests/afterwards.rs",
    "crates/pget-core/tests/awaited.rs",
    "crates/pget-core/tests/crowd.rs",
    "crates/pget-core/tests/delivery.rs",
    "crates/pget-core/tests/destination",
    "crates/pget-core/tests/download",
    "crates/pget-core/tests/initialised.rs",
    "crates/pget-core/tests/lingers.rs",
    "crates/pget-core/tests/options.rs",
    "crates/pget-core/tests/place.rs",
    "crates/pget-core/tests/ranges.rs",
    "crates/pget-core/tests/sizes.rs",
    "crates/pget-core/tests/verify.rs",
    "crates/pget-file",
    "crates/pget-http/README.md",
    "crates/pget-http/src",
    "crates/pget-object-store",
    "crates/pget-s3",
    "crates/pget-schedule/README.md",
    "crates/pget-schedule/src",
    "crates/pget-shm",
    "crates/pget-testkit",
    "deny.toml",
    "docs/architecture.md",
    "docs/benchmarks.md",
    "docs/c.md",
    "docs/clouds.md",
    "docs/files.md",
    "docs/glossary.md",
    "docs/options.md",
    "docs/platforms.md",
    "docs/python.md",
    "docs/releasing.md",
    "docs/reliability.md",
    "docs/security.md",
    "docs/verification.md",
    "examples",
    "ffi",
    "fuzz",
    "go",
    "include",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "scripts",
];

/// Words and phrases that the project's texts do without.
const WORDS: [&str; 20] = [
    "tell",
    "tells",
    "told",
    "gives",
    "held against",
    "behind",
    "but for",
    "at the most",
    "for ever",
    "anew",
    "mend",
    "mends",
    "is none",
    "all the same",
    "and the like",
    "and its like",
    "meanwhile",
    "nobody",
    "somebody",
    "whoever",
];

const WIDTH: usize = 100;

fn root() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).expect("the workspace")
}

/// The project's texts, by their path from the root.
fn texts() -> Vec<(String, String)> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    assert!(listed.status.success());
    let names = String::from_utf8(listed.stdout).expect("names are text");
    let names = names
        .split('\0')
        .filter(|name| language(name).is_some() && !name.ends_with("tests/writing.rs"));
    // A removed file is still listed.
    names
        .filter_map(|name| Some((name.to_owned(), fs::read_to_string(root().join(name)).ok()?)))
        .collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    Markdown,
    /// Comments begin with two slashes, or stand between a slash and a star.
    Slashes,
    /// Comments begin with a hash.
    Hash,
}

fn language(name: &str) -> Option<Language> {
    let file = name.rsplit('/').next()?;
    if file == "Makefile" {
        return Some(Language::Hash);
    }
    let ending = file.rsplit_once('.').map_or("", |(_, ending)| ending);
    match ending {
        "md" => Some(Language::Markdown),
        "rs" | "go" | "h" | "hpp" | "c" | "cpp" => Some(Language::Slashes),
        "sh" | "py" | "toml" | "yml" => Some(Language::Hash),
        _ => None,
    }
}

/// One line's prose, and whether its width counts: rustfmt minds code, and a table's row cannot be
/// wrapped.
struct Line<'a> {
    prose: String,
    width_counts: bool,
    whole: &'a str,
}

fn lines(language: Language, text: &str) -> Vec<Line<'_>> {
    let mut in_code = false;
    let mut in_block = false;
    text.lines()
        .map(|whole| {
            let trimmed = whole.trim_start();
            let (prose, width_counts) = match language {
                Language::Markdown => {
                    let fence = trimmed.starts_with("```");
                    in_code ^= fence;
                    let is_table = trimmed.starts_with('|');
                    let is_code = in_code || fence || whole.starts_with("    ");
                    (
                        if is_code {
                            String::new()
                        } else {
                            without_code(trimmed)
                        },
                        !is_table,
                    )
                }
                Language::Hash => {
                    let comment = comment_after(whole, "#");
                    (without_code(comment), !comment.is_empty())
                }
                Language::Slashes => {
                    let comment = if in_block || trimmed.starts_with("/*") {
                        in_block = !trimmed.contains("*/");
                        trimmed
                    } else {
                        comment_after(whole, "//")
                    };
                    let is_table = comment
                        .trim_start_matches(['/', '!'])
                        .trim_start()
                        .starts_with('|');
                    let message = messages(&whole[..whole.len() - comment.len()]);
                    let width_counts = !is_table && !comment.is_empty();
                    (format!("{} {message}", without_code(comment)), width_counts)
                }
            };
            Line {
                prose,
                width_counts,
                whole,
            }
        })
        .collect()
}

/// The comment of a line of code; a mark in a string begins none.
fn comment_after<'a>(line: &'a str, mark: &str) -> &'a str {
    let mut in_string = false;
    let mut escaped = false;
    let mut raw_end = 0;
    for (at, sign) in line.char_indices() {
        if at < raw_end {
            continue;
        }
        if !in_string && line[at..].starts_with("r#\"") {
            raw_end = line[at..].find("\"#").map_or(line.len(), |end| at + end + 2);
            continue;
        }
        // An address in a raw string.
        let is_address = line[..at].ends_with(':');
        if !in_string && !is_address && line[at..].starts_with(mark) {
            return &line[at..];
        }
        in_string ^= sign == '"' && !escaped;
        escaped = sign == '\\' && !escaped;
    }
    ""
}

/// The strings of a line of code that are sentences, without the names of values in them.
fn messages(code: &str) -> String {
    let strings = code.split('"').skip(1).step_by(2);
    let sentences: Vec<_> = strings.filter(|text| text.contains(' ')).collect();
    let sentences = sentences.join(" ");
    let mut parts = sentences.split('{');
    let first = parts.next().unwrap_or_default();
    let others = parts.map(|part| part.split_once('}').map_or(part, |(_, rest)| rest));
    std::iter::once(first).chain(others).collect::<Vec<_>>().join(" ")
}

/// Prose without what stands between backquotes, and without the targets of links.
fn without_code(text: &str) -> String {
    let prose: Vec<_> = text.split('`').step_by(2).collect();
    let prose = prose.join(" ");
    let mut kept = String::new();
    for (index, part) in prose.split("](").enumerate() {
        let rest = if index == 0 {
            part
        } else {
            part.split_once(')').map_or("", |(_, rest)| rest)
        };
        kept.push_str(rest);
        kept.push(' ');
    }
    kept
}

/// The first word of [`WORDS`] in `prose`.
fn word(prose: &str) -> Option<&'static str> {
    let words: Vec<_> = prose
        .split(|sign: char| !sign.is_alphanumeric() && sign != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let text = format!(" {} ", words.join(" "));
    WORDS.into_iter().find(|word| text.contains(&format!(" {word} ")))
}

/// What is wrong in a text, by line.
fn faults(name: &str, text: &str) -> Vec<String> {
    let Some(language) = language(name) else {
        return Vec::new();
    };
    let mut faults = Vec::new();
    for (index, line) in lines(language, text).iter().enumerate() {
        let width = line.whole.chars().count();
        let is_address = line.whole.contains("://") && !line.whole.trim().contains(' ');
        if line.width_counts && width > WIDTH && !is_address {
            faults.push(format!("{name}:{}: {width} characters wide", index + 1));
        }
        if let Some(word) = word(&line.prose) {
            faults.push(format!("{name}:{}: {word:?}", index + 1));
        }
    }
    faults
}

fn is_in(name: &str, place: &str) -> bool {
    name.strip_prefix(place)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_checked(name: &str) -> bool {
    CHECKED.iter().any(|place| is_in(name, place))
}

#[test]
fn rewritten_texts_stay_plain() {
    let texts = texts();
    for place in CHECKED {
        assert!(
            texts.iter().any(|(name, _)| is_in(name, place)),
            "there is no {place}"
        );
    }
    let checked = texts.iter().filter(|(name, _)| is_checked(name));
    let faults: Vec<_> = checked.flat_map(|(name, text)| faults(name, text)).collect();
    assert!(
        faults.is_empty(),
        "{} lines:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

#[test]
fn the_readme_is_short() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let lines = readme.lines().count();
    assert!((20..=150).contains(&lines), "README.md has {lines} lines");
}

#[test]
fn faults_are_found() {
    for (name, text, count) in [
        ("a.rs", "/// Tells the size.\nlet told = 1; // for ever\n", 2),
        ("a.rs", "let url = \"http://told\"; // right\n", 0),
        ("a.rs", "let raw = r#\"{\"a\":\"ais://told\"}\"#;\n", 0),
        ("a.rs", "r#\"{\"a\":\"//told\"}\"# // told\n", 1),
        ("a.rs", "Err(\"it was told so\")\n", 1),
        ("a.rs", "Err(\"{it} was told {so}\")\n", 1),
        ("a.rs", "Err(\"it was {told} so\")\n", 0),
        ("a.rs", "/// Reads `told` and [`it`](Self::tell).\n", 0),
        ("a.md", "It is held\nagainst it, held against it.\n", 1),
        ("a.md", "| a | told |\n```\ntold\n```\n    told\n", 1),
        ("a.sh", "echo \"# told\" # done anew\n", 1),
        ("x/Makefile", "# Done anew.\nall: told\n", 1),
        ("a.h", "/* one\n * told\n */\nint told;\n", 1),
    ] {
        assert_eq!(faults(name, text).len(), count, "{text}");
    }
    let wide = format!("// {}\n", "x".repeat(98));
    assert_eq!(faults("a.rs", &wide).len(), 1);
    assert_eq!(faults("a.md", &format!("| {} |", "x".repeat(98))).len(), 0);
}

#[test]
#[ignore = "prints what is still to be rewritten"]
fn what_is_left() {
    let mut left: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (name, text) in texts().iter().filter(|(name, _)| !is_checked(name)) {
        let folder = name.rsplit_once('/').map_or(name.as_str(), |(folder, _)| folder);
        let found = left.entry(folder.to_owned()).or_default();
        found.0 += faults(name, text).len();
        found.1 += text.lines().count();
        for fault in faults(name, text) {
            println!("{fault}");
        }
    }
    for (folder, (faults, lines)) in left {
        println!("{faults:6} of {lines:6} lines: {folder}");
    }
}
