//! The schedule stays sans-io: what it is made of names no clock, no task, no thread, no randomness and no I/O.

#[test]
fn the_schedule_names_nothing_of_the_world() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/schedule");
    let files: Vec<_> = std::fs::read_dir(directory)
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
            "rand::",
            "fastrand",
            "async",
        ] {
            let found = code.clone().find(|line| line.contains(word));
            assert_eq!(found, None, "{word} in {}", path.display());
        }
    }
}
