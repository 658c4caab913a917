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
    let mut files = Vec::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of the schedule") {
            let path = entry.expect("an entry").path();
            let list = if path.is_dir() { &mut folders } else { &mut files };
            list.push(path);
        }
    }
    assert!(files.len() >= 3, "the schedule has moved");
    for path in files {
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
