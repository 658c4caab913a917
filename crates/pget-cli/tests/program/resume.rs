//! A get that was killed or has failed is resumed.
//!
//! The bytes are right, and no byte in the journal is fetched again.

use std::{
    fs,
    io::Write as _,
    ops::Range,
    os::unix::fs::{FileExt as _, MetadataExt as _, chown},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pget_testkit::hostile::{Asked, Fault, Hostile, Object, Route, Seen, When};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::{
    interrupts::until,
    run::{Ended, pget, run, spawn, wait},
    servers::PATTERN,
};

pub(crate) const CHUNK: u64 = 64 << 10;
pub(crate) const SIZE: u64 = 20 * CHUNK + 3;

/// Returns the names in a folder, in order.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.into_string().expect("a name"))
        .collect();
    names.sort();
    names
}

/// A server, a folder, and the object 7 at `/o`.
pub(crate) struct Scene {
    pub(crate) server: Hostile,
    folder: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self {
            server: Hostile::start().expect("a server"),
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn serve(&self, route: Route) -> String {
        self.server.route("/o", route)
    }

    /// Returns `get … -o x` in the folder.
    pub(crate) fn get(&self, options: &[&str]) -> std::process::Command {
        let mut command = pget(["get", &self.server.url("/o"), "-o", "x", "--chunk-size", "64KiB"]);
        command
            .args(["--retries", "0", "--concurrency", "4"])
            .args(options);
        command.current_dir(self.folder.path());
        command
    }

    pub(crate) fn run(&self, options: &[&str]) -> Ended {
        run(&mut self.get(options))
    }

    /// Makes a get fail after some chunks. Returns the ranges in its journal.
    pub(crate) fn fail_with_something_landed(&self) -> Vec<Range<u64>> {
        let good = Route::new(Object::new(7, SIZE));
        self.serve(good.fault(When::From(8), Fault::status(503)));
        self.run(&["--resume"]).failed(6, "503");
        assert_eq!(self.names(), ["x.pget-journal", "x.pget-part"]);
        let landed = journaled(&self.at("x.pget-journal"));
        assert!(total(&landed) >= 3 * CHUNK, "{landed:?}");
        landed
    }

    pub(crate) fn names(&self) -> Vec<String> {
        names(self.folder.path())
    }

    /// Checks that the file is complete, and that no other file remains.
    #[track_caller]
    pub(crate) fn complete(&self) {
        assert_eq!(self.names(), ["x"]);
        let bytes = fs::read(self.at("x")).expect("a file");
        assert_eq!((bytes.len() as u64, PATTERN.check(0, &bytes)), (SIZE, Ok(())));
    }

    /// Resumes, and checks that almost nothing was fetched.
    #[track_caller]
    pub(crate) fn completes_what_is_there(&self) {
        let before = self.server.load().body_bytes;
        self.run(&["--resume"]).succeeded();
        self.complete();
        assert!(
            self.server.load().body_bytes - before <= CHUNK,
            "it was all there"
        );
    }

    /// Checks that none of these bytes was requested after the first `before` requests.
    #[track_caller]
    fn none_again(&self, before: usize, landed: &[Range<u64>]) {
        for seen in &self.server.requests("/o")[before..] {
            let range = asked(seen);
            for known in landed {
                let (start, end) = (range.start.max(known.start), range.end.min(known.end));
                assert!(start >= end, "{range:?} was asked for, and {known:?} was there");
            }
        }
    }
}

pub(crate) fn asked(seen: &Seen) -> Range<u64> {
    match seen.asked {
        Some(Asked::From { start, end }) => start..end.unwrap_or(SIZE).min(SIZE),
        _ => 0..SIZE,
    }
}

pub(crate) fn total(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

#[test]
fn a_journal_that_is_not_this_users_alone_is_not_believed() {
    let scene = Scene::new();
    scene.fail_with_something_landed();
    scene.serve(Route::new(Object::new(7, SIZE)));
    let (journal, aside) = (scene.at("x.pget-journal"), scene.at("aside"));
    if nix::unistd::geteuid().is_root() {
        const NOBODY: u32 = 65534;
        // The check needs a real root: a container may lack the capability or other users.
        if chown(&journal, Some(NOBODY), None).is_ok() {
            scene.run(&["--resume"]).failed(8, "belongs to another user");
            chown(&journal, Some(0), None).expect("root may");
        } else {
            eprintln!("skipped: no file can be given to another user here");
        }
    }
    fs::hard_link(&journal, &aside).expect("a link");
    scene.run(&["--resume"]).failed(8, "another name");
    fs::remove_file(&journal).expect("it is there");
    nix::unistd::mkfifo(&journal, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    scene.run(&["--resume"]).failed(8, "no plain file");
    fs::rename(&aside, &journal).expect("renamed");
    assert_eq!(scene.names(), ["x.pget-journal", "x.pget-part"]);
    // The failed attempt has lost nothing.
    let (before, landed) = (scene.server.requests("/o").len(), journaled(&journal));
    assert!(!landed.is_empty());
    scene.run(&["--resume"]).succeeded();
    scene.none_again(before, &landed);
    scene.complete();
}

/// Returns the ranges in a journal.
///
/// The function follows the format's description and does not use the library. Of the intact slots,
/// it takes the one with the highest sequence number.
pub(crate) fn journaled(path: &Path) -> Vec<Range<u64>> {
    let Ok(bytes) = fs::read(path) else {
        return Vec::new();
    };
    let slots = bytes.chunks(256 << 10).filter_map(|slot| {
        let line = slot.iter().position(|byte| *byte == b'\n')?;
        let head: Vec<&str> = str::from_utf8(&slot[..line]).ok()?.split(' ').collect();
        let [magic, version, sequence, length, digest] = head.try_into().ok()?;
        let body = slot.get(line + 1..line + 1 + length.parse::<usize>().ok()?)?;
        let mut hasher = Sha256::new();
        hasher.update(format!("{magic} {version} {sequence} {length}\n"));
        hasher.update(body);
        let is_whole = hasher
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
            == digest;
        let body: serde_json::Value = is_whole.then(|| serde_json::from_slice(body).ok())??;
        let landed: Vec<(u64, u64)> = serde_json::from_value(body["landed"].clone()).ok()?;
        Some((sequence.parse::<u64>().ok()?, landed))
    });
    let (_, landed) = slots.max_by_key(|(sequence, _)| *sequence).unwrap_or_default();
    landed.into_iter().map(|(start, end)| start..end).collect()
}

#[test]
fn killed_at_random_moments_it_goes_on_and_fetches_nothing_twice() {
    const THREADS: u64 = 4;
    const KILLS: u64 = 200 / THREADS;
    let went_on = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    (0..KILLS)
                        .map(|turn| kill_and_resume(thread * KILLS + turn))
                        .sum::<u64>()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("it holds"))
            .sum::<u64>()
    });
    // With fewer, the test would only check fresh starts. Of the attempts that wait for a journal,
    // a few may finish before they write one.
    assert!(went_on >= 60, "only {went_on} had something to go on from");
    println!("{went_on} of 200 had something to go on from");
}

/// Returns 1 if there was a journal to resume from.
fn kill_and_resume(turn: u64) -> u64 {
    let scene = Scene::new();
    let good = Route::new(Object::new(7, SIZE));
    let pace = Fault::Pace {
        bytes_per_second: SIZE,
    };
    scene.serve(good.clone().fault(When::Always, pace));
    let child = spawn(&mut scene.get(&["--journal-interval", "10ms", "--progress", "always"]));
    // The moment is a number of bytes from the first to the last. A multiplication scatters the
    // moments.
    let moment = (turn + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) % SIZE;
    until(&scene.server, |server| server.load().body_bytes >= moment);
    if turn.is_multiple_of(2) {
        // Poll for the journal, however long a sync takes here: only its file shows that it exists.
        let deadline = Instant::now() + Duration::from_secs(20);
        while journaled(&scene.at("x.pget-journal")).is_empty() && !scene.at("x").exists() {
            assert!(Instant::now() < deadline, "neither a journal nor the file");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let id = i32::try_from(child.id()).expect("a process id");
    kill(Pid::from_raw(id), Signal::SIGKILL).expect("it is our child");
    wait(child);
    until(&scene.server, |server| server.load().open == 0);
    let landed = journaled(&scene.at("x.pget-journal"));
    if scene.at("x").exists() {
        // The download finished before the kill. The resume reads the object again.
        PATTERN
            .check(0, &fs::read(scene.at("x")).expect("a file"))
            .expect("complete");
    } else if let Ok(part) = fs::File::open(scene.at("x.pget-part")) {
        for range in &landed {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).expect("small")];
            part.read_exact_at(&mut bytes, range.start).expect("it is there");
            assert_eq!(
                PATTERN.check(range.start, &bytes),
                Ok(()),
                "the journal says that {range:?} is there"
            );
        }
    }
    let has_part = scene.at("x.pget-part").exists();
    let before = scene.server.requests("/o").len();
    scene.serve(good);
    scene.run(&["--resume"]).succeeded();
    scene.complete();
    if has_part {
        scene.none_again(before, &landed);
    }
    u64::from(has_part && !landed.is_empty())
}

#[test]
fn a_failed_one_goes_on_with_what_is_missing() {
    let scene = Scene::new();
    let mut known = 0;
    // Each attempt fetches some bytes.
    for _ in 0..2 {
        let before = scene.server.requests("/o").len();
        let landed = journaled(&scene.at("x.pget-journal"));
        let now = scene.fail_with_something_landed();
        scene.none_again(before, &landed);
        assert!(total(&now) > known, "{now:?}");
        known = total(&now);
    }
    let landed = journaled(&scene.at("x.pget-journal"));
    let before = scene.server.requests("/o").len();
    scene.serve(Route::new(Object::new(7, SIZE)));
    let ended = scene.run(&["--resume", "--sync", "--json", "--progress", "never"]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let told: serde_json::Value = serde_json::from_str(&ended.stderr).expect("one object");
    assert_eq!(told["bytes"], SIZE - known, "{told}");
    scene.none_again(before, &landed);
    scene.complete();
    // Without a part and a journal, the download starts from nothing.
    scene.run(&["--resume"]).succeeded();
    scene.complete();
}

#[test]
fn another_revision_is_5_and_leaves_what_is_there() {
    let scene = Scene::new();
    let landed = scene.fail_with_something_landed();
    // The change shows in a condition that the server honours, or in the reply.
    for other in [
        Route::new(Object::new(8, SIZE)),
        Route::new(Object::new(8, SIZE)).ignoring_conditions(),
        Route::new(Object::new(7, SIZE + 1)).ignoring_conditions(),
    ] {
        scene.serve(other);
        scene.run(&["--resume"]).failed(5, "without resume to start over");
        assert_eq!(scene.names(), ["x.pget-journal", "x.pget-part"]);
        assert_eq!(journaled(&scene.at("x.pget-journal")), landed);
    }
    // The object is back, and the download resumes.
    scene.serve(Route::new(Object::new(7, SIZE)));
    let before = scene.server.requests("/o").len();
    scene.run(&["--resume"]).succeeded();
    scene.none_again(before, &landed);
    scene.complete();
    // Or the object is read again.
    fs::remove_file(scene.at("x")).expect("a file");
    scene.fail_with_something_landed();
    scene.serve(Route::new(Object::new(7, SIZE)));
    scene.run(&[]).succeeded();
    scene.complete();
}

#[test]
fn what_is_of_another_address_or_range_is_left_alone() {
    let scene = Scene::new();
    scene.fail_with_something_landed();
    scene.serve(Route::new(Object::new(7, SIZE)));
    let other = scene.server.route("/other", Route::new(Object::new(7, SIZE)));
    run(pget(["get", &other, "-o", "x", "--resume"]).current_dir(scene.folder.path()))
        .failed(8, "another address");
    scene
        .run(&["--resume", "--offset", "1"])
        .failed(8, "another range");
    scene
        .run(&["--resume", "--length", "5"])
        .failed(8, "another range");
    // A failure before the first byte changes nothing either.
    run(pget(["get", &scene.server.url("/missing"), "-o", "x"]).current_dir(scene.folder.path()))
        .failed(3, "not found");
    assert_eq!(scene.names(), ["x.pget-journal", "x.pget-part"]);
    scene.run(&["--resume"]).succeeded();
    scene.complete();
}

#[test]
fn a_range_of_the_object_goes_on_too() {
    let scene = Scene::new();
    let good = Route::new(Object::new(7, SIZE));
    scene.serve(good.clone().fault(When::From(8), Fault::status(503)));
    let part = ["--resume", "--offset", "100001", "--length", "1000000"];
    scene.run(&part).failed(6, "503");
    let landed = journaled(&scene.at("x.pget-journal"));
    assert!(
        landed
            .iter()
            .all(|range| range.start >= 100_001 && range.end <= 1_100_001),
        "{landed:?}"
    );
    let before = scene.server.requests("/o").len();
    scene.serve(good);
    scene.run(&part).succeeded();
    scene.none_again(before, &landed);
    let bytes = fs::read(scene.at("x")).expect("a file");
    assert_eq!((bytes.len(), PATTERN.check(100_001, &bytes)), (1_000_000, Ok(())));
}

#[test]
fn a_complete_part_only_gets_its_name_if_the_object_is_still_that() {
    let scene = Scene::new();
    let landed = scene.fail_with_something_landed();
    scene.serve(Route::new(Object::new(7, SIZE)));
    // A crash between the last entry and the rename leaves this state: all bytes landed, and the
    // journal says so.
    let part = fs::OpenOptions::new()
        .write(true)
        .open(scene.at("x.pget-part"))
        .expect("a file");
    part.write_all_at(&PATTERN.bytes(0, usize::try_from(SIZE).expect("small")), 0)
        .expect("written");
    let journal = fs::read(scene.at("x.pget-journal")).expect("a file");
    let slot = journal
        .chunks(256 << 10)
        .find(|slot| slot.first() == Some(&b'p'))
        .expect("a slot");
    let text = String::from_utf8_lossy(slot);
    let body = text[text.find('{').expect("a body")..].trim_end_matches('\0');
    let mut body: serde_json::Value = serde_json::from_str(body).expect("an object");
    assert!(total(&landed) < SIZE);
    body["landed"] = serde_json::json!([[0, SIZE]]);
    let body = body.to_string();
    let head = format!("pget-journal 2 99 {}", body.len());
    let digest = Sha256::digest(format!("{head}\n{body}"));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = fs::File::create(scene.at("x.pget-journal")).expect("a file");
    write!(file, "{head} {digest}\n{body}").expect("written");
    drop(file);
    assert_eq!(total(&journaled(&scene.at("x.pget-journal"))), SIZE);
    scene.serve(Route::new(Object::new(8, SIZE)).ignoring_conditions());
    scene.run(&["--resume"]).failed(5, "changed");
    scene.serve(Route::new(Object::new(7, SIZE)));
    scene.completes_what_is_there();
}

#[test]
fn files_have_the_mode_that_the_umask_leaves_and_journals_are_private() {
    let scene = Scene::new();
    scene.fail_with_something_landed();
    let mode = |name: &str| fs::metadata(scene.at(name)).expect("a file").mode() & 0o777;
    let plain = scene.at("plain");
    fs::write(&plain, "").expect("a file");
    let usual = mode("plain");
    fs::remove_file(plain).expect("a file");
    assert_eq!((mode("x.pget-part"), mode("x.pget-journal")), (usual, 0o600));
    scene.serve(Route::new(Object::new(7, SIZE)));
    scene.run(&["--resume"]).succeeded();
    assert_eq!(mode("x"), usual);
}

#[test]
fn a_journal_holds_no_credential() {
    const CANARY: &str = "canary7f3a91secret";
    let scene = Scene::new();
    let target = "/o?X-Amz-Signature=canary7f3a91secret&token=canary7f3a91secret&X-Amz-Date=1";
    let good = Route::new(Object::new(7, SIZE));
    scene.serve(good.clone().fault(When::From(8), Fault::status(503)));
    let with = |target: &str| {
        let url = scene
            .server
            .url(target)
            .replace("http://", &format!("http://user:{CANARY}@"));
        let mut command = pget([
            "get",
            &url,
            "-o",
            "x",
            "--chunk-size",
            "64KiB",
            // With these options, the ninth request is not sent before six chunks have landed.
            "--concurrency",
            "2",
            "--retries",
            "0",
            "--resume",
        ]);
        command.current_dir(scene.folder.path());
        run(&mut command)
    };
    with(target).failed(6, "503");
    let journal = fs::read(scene.at("x.pget-journal")).expect("a file");
    let text = String::from_utf8_lossy(&journal);
    assert!(text.contains("127.0.0.1") && !text.contains(CANARY), "{text}");
    // With a new signature, the download resumes.
    let landed = journaled(&scene.at("x.pget-journal"));
    assert!(!landed.is_empty());
    let anew = "/o?token=canary7f3a91secret&X-Amz-Date=2&X-Amz-Signature=other";
    scene.serve(good);
    let before = scene.server.requests("/o").len();
    with(anew).succeeded();
    scene.complete();
    let asked_for = scene.server.requests("/o").split_off(before);
    let sum: u64 = asked_for.iter().map(|seen| total(&[asked(seen)])).sum();
    assert_eq!(sum, SIZE - total(&landed));
}

#[test]
fn an_interrupted_get_can_be_resumed_without_having_asked_for_it() {
    let scene = Scene::new();
    let good = Route::new(Object::new(7, SIZE));
    let pace = Fault::Pace {
        bytes_per_second: SIZE / 4,
    };
    scene.serve(good.clone().fault(When::Always, pace));
    let child = spawn(&mut scene.get(&["--journal-interval", "10ms"]));
    until(&scene.server, |_| {
        !journaled(&scene.at("x.pget-journal")).is_empty()
    });
    // Another process has to wait for it.
    scene.run(&["--resume"]).failed(8, "another pget");
    let id = i32::try_from(child.id()).expect("a process id");
    kill(Pid::from_raw(id), Signal::SIGTERM).expect("it is our child");
    wait(child);
    until(&scene.server, |server| server.load().open == 0);
    let landed = journaled(&scene.at("x.pget-journal"));
    let before = scene.server.requests("/o").len();
    scene.serve(good);
    scene.run(&["--resume"]).succeeded();
    scene.none_again(before, &landed);
    scene.complete();
}
