//! The committed corpora of the fuzz targets (`fuzz/corpus`).
//!
//! Unit tests run a fuzz target over its corpus in an ordinary build.

use std::{fs, path::Path};

/// Runs `target` on each input of the corpus `name`.
///
/// # Panics
/// If the corpus cannot be read or is empty, or if `target` panics.
pub fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(name);
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("the corpus") {
        let path = entry.expect("an entry").path();
        target(&fs::read(&path).expect("an input"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}
