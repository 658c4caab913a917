//! Checks the table of `docs/reliability.md`.
//!
//! It must list each case of the catalogue of faults once, and every test that it names must exist.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Number of cases. Each of them has a row.
const CASES: usize = 143;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Collects the names of all functions in the Rust, Go and C sources below `folder`.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if !path.ends_with("target") {
                functions(&path, found);
            }
            continue;
        }
        let keywords: &[&str] = match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => &["fn "],
            Some("go") => &["func "],
            Some("c") => &["void "],
            _ => continue,
        };
        let text = fs::read_to_string(&path).expect("a source");
        for keyword in keywords {
            for (at, _) in text.match_indices(keyword) {
                let rest = &text[at + keyword.len()..];
                let end = rest.find(|letter: char| letter != '_' && !letter.is_ascii_alphanumeric());
                let name = &rest[..end.unwrap_or(rest.len())];
                if rest[name.len()..].starts_with('(') {
                    found.insert(name.to_owned());
                }
            }
        }
    }
}

#[test]
fn every_case_is_listed_and_every_test_that_is_named_exists() {
    let mut found = BTreeSet::new();
    for folder in ["crates", "ffi", "go"] {
        functions(&root().join(folder), &mut found);
    }
    let document = fs::read_to_string(root().join("docs/reliability.md")).expect("docs/reliability.md");
    let mut cases = Vec::new();
    for line in document.lines().filter(|line| line.starts_with("| ")) {
        let columns: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [number, case, outcome, tests] = columns[..] else {
            continue;
        };
        let Ok(number) = number.parse::<usize>() else {
            continue;
        };
        cases.push(number);
        assert!(!case.is_empty() && !outcome.is_empty(), "{line}");
        let named: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        for test in &named {
            assert!(found.contains(*test), "case {number}: there is no test {test}");
        }
        let excused = ["not tested", "undetectable"]
            .iter()
            .any(|word| outcome.contains(word));
        assert!(
            !named.is_empty() || excused,
            "case {number} has neither a test nor a reason"
        );
    }
    assert!(cases.is_sorted_by(|one, next| one < next), "{cases:?}");
    assert_eq!(cases, (1..=CASES).collect::<Vec<_>>());
}
