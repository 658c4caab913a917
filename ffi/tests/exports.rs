//! Checks the shared library: its soname, that it stays loaded, and its exports.
//!
//! It must export exactly the functions of the header.

mod support;

use std::{collections::BTreeSet, fs, process::Command, time::Duration};

use support::{built, root, succeed, tool};

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn only_the_headers_functions_are_exported() {
    let Some(nm) = tool("nm") else { return };
    let library = built().join("libpget.so");
    let table = succeed(
        Command::new(nm)
            .args(["-D", "--defined-only", "--format=posix"])
            .arg(library),
        WITHIN,
    );
    let exported: BTreeSet<String> = String::from_utf8_lossy(&table)
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    let header = fs::read_to_string(root().join("include/pget.h")).expect("include/pget.h");
    // A declaration begins at the start of a line. The name of the function stands before the
    // parenthesis.
    let declared: BTreeSet<String> = header
        .lines()
        .filter(|line| !line.starts_with([' ', '/', '#']) && !line.starts_with("typedef"))
        .filter_map(|line| line.split_once('('))
        .filter_map(|(before, _)| before.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("pget_") || name.starts_with("parallel_get"))
        .map(str::to_owned)
        .collect();
    assert!(declared.len() > 35, "{declared:?}");
    assert_eq!(exported, declared);
}

#[test]
fn it_has_a_soname_and_is_never_unloaded() {
    let Some(readelf) = tool("readelf") else { return };
    let output = succeed(
        Command::new(readelf)
            .args(["-d", "--wide"])
            .arg(built().join("libpget.so")),
        WITHIN,
    );
    let dynamic = String::from_utf8_lossy(&output);
    assert!(dynamic.contains("[libpget.so.0]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
}
