//! Checks the structure of the tree.
//!
//! - The files of a crate do not import each other in a circle.
//! - No folder of `pget-core` holds most of it.
//!
//! Imports are read from the sources: `use` declarations and paths in code, followed through
//! re-exports to the file that defines the name. Code under `cfg(test)` does not count, and neither
//! does a bare re-export. A method call names no file, so the test does not see it.

#[path = "structure/graph.rs"]
mod graph;
#[path = "structure/syntax.rs"]
mod syntax;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use graph::Crate;

/// Largest allowed percentage of core's lines in one folder.
const LARGEST_FOLDER: usize = 25;

fn root() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).expect("the workspace")
}

/// Returns the `src` folders of all crates that have a library.
fn libraries() -> Vec<PathBuf> {
    let root = root();
    let mut folders: Vec<_> = fs::read_dir(root.join("crates"))
        .expect("the crates")
        .map(|entry| entry.expect("a crate").path())
        .collect();
    folders.extend(["benches", "ffi", "fuzz", "python"].map(|name| root.join(name)));
    folders.sort();
    let sources = folders.into_iter().map(|folder| folder.join("src"));
    sources.filter(|source| source.join("lib.rs").exists()).collect()
}

#[test]
fn no_files_of_a_crate_import_each_other_in_a_circle() {
    let root = root();
    let mut circles = Vec::new();
    let mut files = 0;
    for source in libraries() {
        let read = Crate::read(&source);
        files += read.files();
        let name = source.strip_prefix(&root).expect("a crate of ours");
        let found = read.circles().into_iter();
        circles.extend(found.map(|circle| format!("{}: {circle}", name.display())));
    }
    assert!(files > 200, "{files} files: is that all?");
    assert!(circles.is_empty(), "circles of imports:\n{}", circles.join("\n"));
}

#[test]
fn a_circle_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    write("lib.rs", "mod a;\nmod b;\nmod c;\npub use b::B;\n");
    write("a.rs", "use crate::B;\npub(crate) struct A(B);\n");
    write("c.rs", "pub(crate) fn c() -> crate::a::A { todo!() }\n");
    // Texts and tests do not count.
    write(
        "b.rs",
        "/* use crate::a::A; */ pub struct B(&'static str);\n#[cfg(test)]\nmod tests { use crate::c::c; }\n",
    );
    assert!(Crate::read(folder.path()).circles().is_empty());
    write("b.rs", "pub struct B;\nimpl B { fn c() { super::c::c(); } }\n");
    let circles = Crate::read(folder.path()).circles();
    let names = ["a.rs", "b.rs", "c.rs"].map(str::to_owned);
    assert_eq!(circles.len(), 1);
    assert_eq!(circles[0].files, BTreeSet::from(names));
}

#[test]
fn no_folder_of_core_holds_most_of_it() {
    let source = root().join("crates/pget-core/src");
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    let mut open = vec![source.clone()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let inside = path.strip_prefix(&source).expect("below the source");
            let top = inside.iter().next().expect("a name").to_str().expect("text");
            // Files next to the folders do not count as a folder.
            let top = if inside.iter().count() == 1 { "." } else { top };
            let text = fs::read_to_string(&path).expect("source text");
            *lines.entry(top.to_owned()).or_default() += text.lines().count();
        }
    }
    let all: usize = lines.values().sum();
    lines.remove(".");
    assert!(
        lines.len() >= 3 && all > 5000,
        "the folders of core have moved: {lines:?}"
    );
    for (folder, own) in lines {
        let percent = own * 100 / all;
        assert!(
            percent <= LARGEST_FOLDER,
            "{folder} has {own} of core's {all} lines: {percent} %, and at most {LARGEST_FOLDER} % are allowed"
        );
    }
}
