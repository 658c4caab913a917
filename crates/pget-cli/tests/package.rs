//! The Debian package: a folder that lacks a part of it is refused before anything is built.

use std::{fs, path::Path, process::Command};

#[test]
fn a_package_without_a_program_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    for (missing, present) in [
        ("libpget.so", &[][..]),
        ("libpget.a", &["libpget.so"]),
        ("pget", &["libpget.so", "libpget.a"]),
    ] {
        for name in present {
            fs::write(folder.path().join(name), "").expect("written");
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/deb.sh");
        let output = Command::new(script).env("LIBS", folder.path()).output();
        let output = output.expect("a shell");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let expected = format!("deb: {} has no {missing}: run make", folder.path().display());
        assert!(text.starts_with(&expected), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}
