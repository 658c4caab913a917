//! The runtime of the process: threads without one share it, and it keeps nothing of a read.

use std::{
    io::Read,
    time::{Duration, Instant},
};

use pget_testkit::hostile::{Hostile, Object, Route};

use crate::{DEADLINE, PATTERN, in_child};

#[test]
fn thirty_two_threads_share_one_runtime() {
    in_child("runtime::child_with_many_threads", &[]);
}

/// Runs inside [`in_child`].
#[test]
#[ignore = "run by another test in a process of its own, whose threads it counts"]
fn child_with_many_threads() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, 2 << 20)));
    let threads: Vec<_> = (0..32_u64)
        .map(|thread| {
            let url = url.clone();
            std::thread::spawn(move || {
                let offset = thread * 1000 + 1;
                let mut reader = pget::builder(&url)
                    .chunk_size(100_000)
                    .offset(offset)
                    .blocking()
                    .and_then(|object| object.reader())
                    .expect("a reader");
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes).expect("all of it");
                assert_eq!(bytes.len() as u64, (2 << 20) - offset);
                assert_eq!(PATTERN.check(offset, &bytes), Ok(()));
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    // If several threads come first at the same time, each creates a runtime, and all except one
    // discard it. The threads of those end a moment later, which nothing reports.
    let deadline = Instant::now() + DEADLINE;
    while !(1..=8).contains(&workers().len()) {
        assert!(Instant::now() < deadline, "{} workers", workers().len());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn reads_leave_nothing_behind() {
    in_child("runtime::child_that_reads_often", &[]);
}

/// Runs inside [`in_child`].
#[test]
#[ignore = "run by another test in a process of its own, whose descriptors it counts"]
fn child_that_reads_often() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, 100_000)));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("o");
    std::fs::write(&path, PATTERN.bytes(0, 100_000)).expect("a file");
    let once = |round: usize| {
        for address in [url.as_str(), path.to_str().expect("text")] {
            let builder = pget::builder(address).chunk_size(30_000);
            let mut reader = builder
                .blocking()
                .and_then(|object| object.reader())
                .expect("a reader");
            // Every other reader is dropped in the middle.
            if round.is_multiple_of(2) {
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes).expect("all of it");
                assert_eq!((bytes.len(), PATTERN.check(0, &bytes)), (100_000, Ok(())));
            }
            builder.blocking().expect("an object").stat().expect("an answer");
        }
    };
    let count = |folder: &str| std::fs::read_dir(folder).expect("Linux").count();
    (0..10).for_each(once);
    let open = server.load().open;
    let descriptors = count("/proc/self/fd");
    let threads = count("/proc/self/task");
    (0..100).for_each(once);
    // The number of idle connections may vary. Each has a descriptor at both ends, because the
    // server runs in this process too.
    let now = [
        server.load().open,
        count("/proc/self/fd") as u64,
        count("/proc/self/task") as u64,
    ];
    let before = [open, descriptors as u64, threads as u64];
    let few = [8, 16, 8];
    assert!(
        (0..3).all(|what| now[what] <= before[what] + few[what]),
        "connections, descriptors, threads: {before:?}, now {now:?}"
    );
}

/// Returns the status files of the runtime's threads, without its helpers for blocking work.
fn workers() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    tasks
        .filter_map(|task| {
            let folder = task.ok()?.path();
            let name = std::fs::read_to_string(folder.join("comm")).ok()?;
            (name == "pget\n").then(|| std::fs::read_to_string(folder.join("status")).ok())?
        })
        .collect()
}

/// Runs inside [`in_child`]: reads on the process's runtime, and prints the changes in the process.
#[test]
#[ignore = "run by other tests in a process of its own"]
fn child_is_a_host() {
    let signals = || {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
        let lines = status
            .lines()
            .filter(|line| line.starts_with("SigIgn") || line.starts_with("SigCgt"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = signals();
    let address = std::env::var("TEST_ADDRESS").expect("an address");
    let mut bytes = Vec::new();
    match pget::blocking::open(&address) {
        Ok(mut reader) => {
            reader.read_to_end(&mut bytes).expect("all of it");
        }
        Err(error) => {
            println!("failed: {:?} {}", error.kind(), error.to_line());
            return;
        }
    }
    assert_eq!(signals(), before, "no handler is installed");
    // A thread sets its name and blocks the signal before it does anything else. This check may run
    // before another thread has begun, which nothing reports.
    let begun = |worker: &String| {
        let mask = worker.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.expect("a mask") >> 12 & 1 == 1
    };
    let wanted: usize = std::env::var("PGET_THREADS")
        .expect("set")
        .parse()
        .expect("a number");
    let deadline = Instant::now() + DEADLINE;
    let mut workers = workers();
    while workers.len() < wanted || !workers.iter().all(begun) {
        assert!(Instant::now() < deadline, "SIGPIPE is not blocked: {workers:?}");
        std::thread::sleep(Duration::from_millis(5));
        workers = self::workers();
    }
    println!("{} workers", workers.len());
}

#[test]
fn the_environment_sets_the_number_of_threads() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, 100_000)));
    for count in ["1", "3", "17"] {
        let told = in_child(
            "runtime::child_is_a_host",
            &[("TEST_ADDRESS", url.as_str()), ("PGET_THREADS", count)],
        );
        assert!(told.contains(&format!("{count} workers")), "{told}");
    }
    let told = in_child(
        "runtime::child_is_a_host",
        &[("TEST_ADDRESS", url.as_str()), ("PGET_THREADS", "0")],
    );
    assert!(
        told.contains("InvalidArgument") && told.contains("PGET_THREADS"),
        "{told}"
    );
}
