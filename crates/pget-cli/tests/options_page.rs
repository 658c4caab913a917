//! Compares `docs/options.md` with the code.
//!
//! Every option of Rust, C, Go and the program is in its table, and the table names nothing else.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the names in column `column` of the table of options, without quotes.
///
/// A dash means that the language does not have the option.
fn column(column: usize) -> BTreeSet<String> {
    let page = read("docs/options.md");
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| option |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('|').nth(column + 1).expect("a cell"))
        .map(|cell| cell.trim().trim_matches('`').to_owned())
        .filter(|cell| cell != "–")
        .collect()
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

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn the_table_has_every_option_of_rust() {
    let text = read("crates/pget/src/builder.rs");
    let setters: BTreeSet<_> = text
        .split("pub ")
        .filter_map(|item| item.trim_start_matches("const ").strip_prefix("fn "))
        .filter(|item| item.contains("(mut self"))
        .filter(|item| item.find("(mut self") < item.find('{'))
        .filter_map(|item| item.split(['(', '<']).next().map(str::to_owned))
        .collect();
    assert!(
        setters.contains("chunk_size"),
        "the search finds setters: {setters:?}"
    );
    // These methods share an object among several reads, or replace all options at once.
    let others = set(&["budget", "client", "settings"]);
    assert_eq!(&setters - &others, column(1));
}

#[test]
fn the_table_has_every_option_of_c() {
    let setters = names_after(&read("include/pget.h"), "pget_options_set_");
    assert!(setters.contains("range"), "the search finds setters: {setters:?}");
    assert_eq!(setters, column(2));
}

#[test]
fn the_table_has_every_option_of_go() {
    let text = read("go/options.go");
    let setters = names_after(&text, "\nfunc With");
    assert!(
        setters.contains("ChunkSize"),
        "the search finds setters: {setters:?}"
    );
    let setters: BTreeSet<_> = setters.iter().map(|name| format!("With{name}")).collect();
    assert_eq!(setters, column(3));
}

#[test]
fn the_table_has_every_option_of_the_program() {
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
    assert!(
        flags.contains("--chunk-size"),
        "the search finds options: {flags:?}"
    );
    // These options select objects, the display, and the destination.
    let others = set(&[
        "--dir",
        "--help",
        "--input-file",
        "--jobs",
        "--json",
        "--output",
        "--shared-ring",
        "--verbose",
    ]);
    assert_eq!(&flags - &others, column(4));
}
