//! `pget get` of several objects: from the command line and from lists, into a folder, with
//! failures.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, When},
};
use tempfile::TempDir;

use crate::{
    interrupts::until,
    resume::names,
    run::{pget, run, wait},
};

const SIZE: u64 = 100_003;

fn object(seed: u64, size: u64) -> Route {
    Route::new(Object::new(seed, size))
}

fn scene() -> (Hostile, TempDir) {
    (
        Hostile::start().expect("a server"),
        tempfile::tempdir().expect("a folder"),
    )
}

fn get(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = pget(["get"]);
    command.args(arguments).current_dir(folder.path());
    command
}

fn check(folder: &TempDir, name: &str, seed: u64, size: u64) {
    let bytes = fs::read(folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(bytes.len() as u64, size, "{name}");
    assert_eq!(Pattern::new(seed).check(0, &bytes), Ok(()), "{name}");
}

#[test]
fn objects_of_the_command_line_come_into_a_folder() {
    let (server, folder) = scene();
    let urls: Vec<_> = (0..3)
        .map(|seed| server.route(&format!("/o{seed}"), object(seed, SIZE + seed)))
        .collect();
    let ended = run(&mut get(
        &folder,
        &["--dir", "new/deep", &urls[0], &urls[1], &urls[2]],
    ));
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("3 objects complete, 0 failed"),
        "{}",
        ended.stderr
    );
    assert_eq!(names(&folder.path().join("new/deep")), ["o0", "o1", "o2"]);
    for seed in 0..3 {
        check(&folder, &format!("new/deep/o{seed}"), seed, SIZE + seed);
    }
    // A single object can go into the folder too, and needs no summary.
    let ended = run(&mut get(&folder, &["-d", "one", &urls[1]]));
    assert!(
        ended.status.success() && ended.stderr.is_empty(),
        "{}",
        ended.stderr
    );
    check(&folder, "one/o1", 1, SIZE + 1);
}

#[test]
fn a_list_names_objects_and_files() {
    let (server, folder) = scene();
    let url = |seed: u64| server.route(&format!("/o{seed}"), object(seed, SIZE));
    let list = format!(
        "# a comment\n{}\n\n{} second\n{}\tdir/the third\r\n",
        url(1),
        url(2),
        url(3)
    );
    fs::write(folder.path().join("list"), &list).expect("a file");
    let ended = run(&mut get(
        &folder,
        &["--input-file", "list", "--dir", "a", "--json"],
    ));
    assert!(ended.status.success(), "{}", ended.stderr);
    let summary: serde_json::Value = serde_json::from_str(&ended.stderr).expect("one JSON object");
    assert_eq!(
        (&summary["objects"], &summary["failed"], &summary["bytes"]),
        (&3.into(), &0.into(), &(3 * SIZE).into())
    );
    check(&folder, "a/o1", 1, SIZE);
    check(&folder, "a/second", 2, SIZE);
    check(&folder, "a/dir/the third", 3, SIZE);
    // The list comes from standard input, in addition to a URL on the command line.
    let fourth = url(4);
    let mut command = get(&folder, &["-i", "-", "--dir", "b", &fourth]);
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(list.as_bytes()).expect("it reads");
    drop(input);
    let ended = wait(child);
    assert!(ended.status.success(), "{}", ended.stderr);
    check(&folder, "b/second", 2, SIZE);
    check(&folder, "b/o4", 4, SIZE);
}

#[test]
fn a_failure_ends_no_other_and_the_worst_is_the_status() {
    let (server, folder) = scene();
    let good = server.route("/good", object(1, SIZE));
    let missing = server.url("/missing");
    let denied = server.route(
        "/denied",
        object(2, SIZE).fault(When::HeadToo, Fault::status(403)),
    );
    let last = server.route("/last", object(3, SIZE));
    let ended = run(&mut get(
        &folder,
        &["--dir", "d", "--retries", "0", &good, &missing, &denied, &last],
    ));
    assert_eq!(ended.status.code(), Some(4), "{}", ended.stderr);
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for part in ["/missing", "/denied", "2 objects complete, 2 failed"] {
        assert!(lines.iter().any(|line| line.contains(part)), "{part}: {lines:?}");
    }
    assert_eq!(names(&folder.path().join("d")), ["good", "last"]);
    check(&folder, "d/good", 1, SIZE);
    check(&folder, "d/last", 3, SIZE);
}

#[test]
fn a_list_that_cannot_be_used_is_refused_before_anything_is_fetched() {
    let (server, folder) = scene();
    let url = server.route("/o", object(1, SIZE));
    let other = server.route("/dir/o", object(2, SIZE));
    for (list, part) in [
        (format!("{url}\n{other}\n"), "two objects"),
        (format!("{url} x\n{other} ./x\n"), "two objects"),
        (format!("{url} ../x\n"), "line 1"),
        (format!("{url}\n{other} /etc/x\n"), "line 2"),
        (format!("{url}\nhttp://user:hunter2@[bad\n"), "line 2"),
        (format!("{}\n", server.url("/")), "line 1"),
    ] {
        fs::write(folder.path().join("list"), &list).expect("a file");
        let ended = run(&mut get(&folder, &["-i", "list", "--dir", "d"]));
        assert_eq!(ended.status.code(), Some(2), "{list}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(part), "{list}: {}", ended.stderr);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
    assert!(server.requests("/o").is_empty());
    for arguments in [
        &["-i", "no-such"][..],
        &["-o", "x", &url, &other],
        &["-o", "x", "--dir", "d", &url],
        &["--jobs", "0", &url],
        &[],
    ] {
        let ended = run(&mut get(&folder, arguments));
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}: {}", ended.stderr);
    }
    assert_eq!(names(folder.path()), ["list"]);
}

#[test]
fn a_thousand_objects_are_fetched_over_few_connections() {
    let (server, folder) = scene();
    let mut list = String::new();
    for seed in 0..1_000 {
        let url = server.route(&format!("/many/{seed}"), object(seed, 1_000 + seed));
        list.push_str(&format!("{url}\n"));
    }
    fs::write(folder.path().join("list"), list).expect("a file");
    let ended = run(&mut get(
        &folder,
        &[
            "-i",
            "list",
            "--dir",
            "d",
            "--jobs",
            "8",
            "--memory-limit",
            "4MiB",
        ],
    ));
    assert!(ended.status.success(), "{}", ended.stderr);
    for seed in 0..1_000 {
        check(&folder, &format!("d/{seed}"), seed, 1_000 + seed);
    }
    assert!(
        server.load().connections <= 64,
        "{} connections for a thousand objects",
        server.load().connections
    );
}

#[test]
fn what_was_killed_goes_on() {
    let (server, folder) = scene();
    let size = 40 * (64 << 10);
    let pace = Fault::Pace {
        bytes_per_second: 200_000,
    };
    let url = server.route("/big", object(5, size).fault(When::Always, pace));
    let small = server.route("/small", object(6, SIZE));
    let arguments = [
        "--dir",
        "d",
        "--resume",
        "--journal-interval",
        "100ms",
        "--chunk-size",
        "64KiB",
        "--concurrency",
        "4",
        &url,
        &small,
    ];
    let mut child = get(&folder, &arguments)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // Ten chunks have landed, and the journal was written after that. The journal sends no signal,
    // so poll.
    until(&server, |server| server.requests("/big").len() > 14);
    let journal = || fs::read(folder.path().join("d/big.pget-journal")).unwrap_or_default();
    let (before, deadline) = (journal(), Instant::now() + Duration::from_secs(20));
    while journal() == before {
        assert!(Instant::now() < deadline, "the journal is not written");
        thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("it runs");
    wait(child);
    let before = server.requests("/big").len();
    server.route("/big", object(5, size));
    let ended = run(&mut get(&folder, &arguments));
    assert!(ended.status.success(), "{}", ended.stderr);
    check(&folder, "d/big", 5, size);
    check(&folder, "d/small", 6, SIZE);
    let after = server.requests("/big").len() - before;
    assert!((1..35).contains(&after), "{after} requests for what was left");
    assert_eq!(names(&folder.path().join("d")), ["big", "small"]);
}

/// A property of one object is not a misspelt one of another.
#[test]
fn case_140_a_property_is_for_the_objects_that_have_it() {
    let (server, folder) = scene();
    let http = server.route("/o", object(1, SIZE));
    server.route("/bucket/k", object(2, SIZE));
    let endpoint = format!("aws.endpoint=http://{}", server.address());
    let settings = [
        "--set",
        &endpoint,
        "--set",
        "aws.skip_signature=true",
        "--retries",
        "0",
    ];
    let both = [&settings[..], &[&http, "s3://bucket/k"]].concat();
    let ended = run(&mut get(&folder, &both));
    assert!(ended.status.success(), "{}", ended.stderr);
    check(&folder, "o", 1, SIZE);
    check(&folder, "k", 2, SIZE);
    // One that is of no object is refused for each, and one that is misspelt for its own.
    let asked = server.requests("/o").len();
    for (foreign, misspelt) in [
        ("ais.token=hunter2", 0),
        ("http.proxy=hunter2", 0),
        ("aws.regoin=hunter2", 1),
    ] {
        let before = server.requests("/bucket/k").len();
        let wrong = [&both[..], &["--set", foreign]].concat();
        let ended = run(&mut get(&folder, &wrong));
        let name = foreign.split('=').next().expect("a name");
        assert!(ended.stderr.contains(&format!("{name:?}")), "{}", ended.stderr);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
        assert_eq!(server.requests("/bucket/k").len(), before);
        assert_eq!(server.requests("/o").len(), asked + misspelt);
    }
}
