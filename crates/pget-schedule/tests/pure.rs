//! The schedule stays sans-io: it depends on no crate, and names no clock, task, thread, randomness or I/O of std.

use std::path::Path;

#[test]
fn the_schedule_names_nothing_of_the_world() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("the manifest");
    assert!(manifest.contains("\n[dev-dependencies]\n"), "{manifest}");
    for section in ["[dependencies", "[target", "[build-dependencies"] {
        assert!(!manifest.contains(section), "the schedule has {section}]");
    }
    let files: Vec<_> = std::fs::read_dir(root.join("src"))
        .expect("the schedule's folder")
        .collect();
    assert!(files.len() >= 3, "the schedule has moved");
    for file in files {
        let path = file.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("source text");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for word in [
            "tokio",
            "Instant",
            "SystemTime",
            "thread",
            "std::net",
            "std::io",
            "std::fs",
            "std::process",
            "std::env",
            "rand::",
            "fastrand",
            "async",
        ] {
            let found = code.clone().find(|line| line.contains(word));
            assert_eq!(found, None, "{word} in {}", path.display());
        }
    }
}
