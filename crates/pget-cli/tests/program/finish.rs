//! A disk that fails while a file is finished.
//!
//! The outcome is reported, the final name does not appear, and the bytes that were secured before
//! can be resumed. The calls fail only in the program, by a library that is loaded before the
//! system's.

use std::{ops::Range, os::unix::fs::FileExt as _, process::Stdio};

use nix::errno::Errno;

use pget_testkit::hostile::{Fault, Object, Route, When};

use crate::{
    resume::{CHUNK, SIZE, Scene, asked, journaled, total},
    run::{Ended, pget, run, wait},
    servers::PATTERN,
    shim::{Fails, Shim},
};

/// Returns a failing call of the disk. A failing `flock` reports that locks are not supported.
const fn of<'a>(call: &'a str, end: &'a str) -> Fails<'a> {
    Fails {
        call,
        errno: if matches!(call.as_bytes(), b"flock") {
            Errno::ENOSYS
        } else {
            Errno::EIO
        },
        end,
    }
}

/// A scene with failing calls.
struct Failing {
    scene: Scene,
    shim: Shim,
}

impl Failing {
    /// Returns `None` where no C compiler is installed.
    fn new() -> Option<Self> {
        Some(Self {
            scene: Scene::new(),
            shim: Shim::new()?,
        })
    }

    /// Reads the object while all such calls fail.
    fn run(&self, call: &str, end: &str, options: &[&str]) -> Ended {
        let mut command = self.scene.get(options);
        if !options.contains(&"--journal-interval") {
            // Without periodic entries, the last one is recognisable, however slow the machine is.
            command.args(["--journal-interval", "1h"]);
        }
        self.shim.fail(&mut command, &[of(call, end)]);
        run(&mut command)
    }

    fn serve(&self) {
        self.scene.serve(Route::new(Object::new(7, SIZE)));
    }

    /// Resumes the download, and checks that nothing in `journaled` is fetched again.
    #[track_caller]
    fn goes_on(&self) {
        let landed = journaled(&self.scene.at("x.pget-journal"));
        let part = std::fs::File::open(self.scene.at("x.pget-part")).expect("a part");
        for range in &landed {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).expect("small")];
            part.read_exact_at(&mut bytes, range.start).expect("it is there");
            assert_eq!(PATTERN.check(range.start, &bytes), Ok(()));
        }
        drop(part);
        self.serve();
        let before = self.scene.server.requests("/o").len();
        self.scene.run(&["--resume"]).succeeded();
        self.scene.complete();
        let requests = self.scene.server.requests("/o").split_off(before);
        // A slow machine makes a request look slow, and then the rest of its range is asked for
        // again.
        let brought = total(&merged(requests.iter().map(asked).collect()));
        // If all bytes have landed, the last byte is fetched.
        assert_eq!(brought, (SIZE - total(&landed)).max(1), "{landed:?}");
        std::fs::remove_file(self.scene.at("x")).expect("a file");
    }
}

/// Returns the bytes that are in any of `ranges`, each once.
fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[test]
fn what_cannot_be_finished_gets_no_name_and_can_be_gone_on_with() {
    let Some(failing) = Failing::new() else { return };
    for (call, options, says, is_sound) in [
        ("fsync", &["--resume", "--sync"][..], "cannot be synced", false),
        ("close", &["--resume"], "cannot be written", false),
        ("rename", &["--resume"], "cannot be renamed", true),
        ("rename", &["--resume", "--sync"], "cannot be renamed", true),
    ] {
        let end = ".pget-part";
        // An earlier attempt left a journal. Only a sound part may be added to it.
        let landed = failing.scene.fail_with_something_landed();
        failing.serve();
        failing.run(call, end, options).failed(8, says);
        assert_eq!(failing.scene.names(), ["x.pget-journal", "x.pget-part"], "{call}");
        let now = journaled(&failing.scene.at("x.pget-journal"));
        if is_sound {
            assert_eq!(total(&now), SIZE, "{call}: all of it is there");
        } else {
            assert_eq!(now, landed, "{call}: what was lost is not known");
        }
        failing.goes_on();
        // Without a journal, only trustworthy bytes remain.
        failing.run(call, end, options).failed(8, says);
        if is_sound {
            failing.goes_on();
        } else {
            assert!(
                failing.scene.names().is_empty(),
                "{call}: {:?}",
                failing.scene.names()
            );
        }
        // The file that has the name keeps it.
        std::fs::write(failing.scene.at("x"), "before").expect("written");
        let plain: Vec<_> = options
            .iter()
            .copied()
            .filter(|option| *option != "--resume")
            .collect();
        failing.run(call, end, &plain).failed(8, says);
        if is_sound {
            let kept = ["x", "x.pget-journal", "x.pget-part"];
            assert_eq!(failing.scene.names(), kept, "{call}: it is complete");
            std::fs::remove_file(failing.scene.at("x.pget-journal")).expect("a file");
            std::fs::remove_file(failing.scene.at("x.pget-part")).expect("a file");
        } else {
            assert_eq!(failing.scene.names(), ["x"], "{call}");
        }
        assert_eq!(std::fs::read(failing.scene.at("x")).expect("a file"), b"before");
        std::fs::remove_file(failing.scene.at("x")).expect("a file");
    }
}

#[test]
fn what_only_the_close_of_an_open_file_tells_is_told() {
    let Some(failing) = Failing::new() else { return };
    failing.serve();
    let url = failing.scene.server.url("/o");
    for arguments in [&["cat", &url][..], &["get", &url, "-o", "/dev/stdout"]] {
        let output = std::fs::File::create(failing.scene.at("output")).expect("a file");
        let mut command = pget(arguments);
        failing.shim.fail(&mut command, &[of("close", "/output")]);
        let child = command.stdout(output).stderr(Stdio::piped()).spawn();
        wait(child.expect("the program starts")).failed(8, "cannot be written");
    }
}

#[test]
fn a_sync_that_fails_meanwhile_ends_the_download_and_leaves_the_journal_of_before() {
    let Some(failing) = Failing::new() else { return };
    let landed = failing.scene.fail_with_something_landed();
    // The server is slow, so that bytes arrive after the sync has failed.
    let pace = Fault::Pace {
        bytes_per_second: SIZE / 32,
    };
    let slow = Route::new(Object::new(7, SIZE)).fault(When::Always, pace);
    failing.scene.serve(slow.clone());
    let often = ["--journal-interval", "10ms"];
    let resume = ["--resume", often[0], often[1]];
    failing
        .run("fdatasync", ".pget-part", &resume)
        .failed(8, "cannot be synced");
    assert_eq!(failing.scene.names(), ["x.pget-journal", "x.pget-part"]);
    assert_eq!(journaled(&failing.scene.at("x.pget-journal")), landed);
    failing.goes_on();
    failing.scene.serve(slow);
    failing
        .run("fdatasync", ".pget-part", &often)
        .failed(8, "cannot be synced");
    assert!(failing.scene.names().is_empty(), "{:?}", failing.scene.names());
}

#[test]
fn a_journal_that_cannot_be_synced_ends_the_journal_only() {
    let Some(failing) = Failing::new() else { return };
    let pace = Fault::Pace {
        bytes_per_second: CHUNK * 4,
    };
    failing
        .scene
        .serve(Route::new(Object::new(7, SIZE)).fault(When::UpTo(1), pace));
    let ended = failing.run("fdatasync", ".pget-journal", &["--journal-interval", "10ms"]);
    ended.warned("x.pget-journal cannot be written");
    failing.scene.complete();
}

#[test]
fn where_nothing_can_be_locked_only_a_part_of_its_own_is_written_to() {
    let Some(failing) = Failing::new() else { return };
    let landed = failing.scene.fail_with_something_landed();
    assert!(!landed.is_empty());
    failing.serve();
    let part = std::fs::read(failing.scene.at("x.pget-part")).expect("a part");
    for options in [&[][..], &["--resume"]] {
        let ended = failing.run("flock", ".pget-part", options);
        ended.failed(8, "cannot be locked on this file system");
    }
    assert_eq!(failing.scene.names(), ["x.pget-journal", "x.pget-part"]);
    assert!(std::fs::read(failing.scene.at("x.pget-part")).expect("a part") == part);
    std::fs::remove_file(failing.scene.at("x.pget-part")).expect("it is there");
    failing.run("flock", ".pget-part", &[]).warned("no locks");
    failing.scene.complete();
}

#[test]
fn a_folder_that_cannot_be_synced_is_told_when_the_file_is_there() {
    let Some(failing) = Failing::new() else { return };
    failing.serve();
    let folder = failing.scene.at("");
    let end = folder.to_str().expect("text").trim_end_matches('/').to_owned();
    failing
        .run("fsync", &end, &["--sync"])
        .failed(8, "cannot be synced");
    failing.scene.complete();
}
