//! What becomes of a part that another process removed or replaced while it grew.

use std::{path::PathBuf, time::Duration};

use pget_core::Revision;
use tempfile::TempDir;

use super::*;

struct Scene(TempDir);

impl Scene {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).expect("a folder");
        let mut names: Vec<_> = entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("a name")
            })
            .collect();
        names.sort();
        names
    }

    fn take(&self, resume: bool) -> Part {
        let asked = Asked {
            object: "http://h/o".into(),
            address: "d".repeat(64),
            offset: 0,
            length: None,
        };
        let settings = Settings {
            resume,
            journal_interval: Duration::from_secs(3600),
            ..Settings::default()
        };
        let plan = Plan {
            names: Names::of(&self.at("x")).expect("a name"),
            asked,
            settings,
            is_verified: false,
            in_order: false,
        };
        Part::take(plan, &self.at("x")).expect("it is free")
    }

    /// With these as its first bytes, of 8.
    fn begun(&self, bytes: &[u8]) -> Part {
        let part = self.take(false);
        begin(&part).expect("it begins");
        put(&part, 0, bytes);
        part
    }
}

fn begin(part: &Part) -> Result<Transfer, Error> {
    let object = ObjectInfo {
        size: Some(8),
        revision: Revision {
            etag: Some("\"a\"".into()),
            ..Revision::default()
        },
        ..ObjectInfo::default()
    };
    part.begin(&object, 0, Some(8))
}

fn put(part: &Part, offset: u64, bytes: &[u8]) {
    part.put(offset, bytes).expect("there is room");
    part.landed(offset..offset + bytes.len() as u64)
        .expect("it counts");
}

const BOTH: [&str; 2] = ["x.pget-journal", "x.pget-part"];

#[test]
fn another_ones_part_gets_no_name_and_stays() {
    let scene = Scene::new();
    let first = scene.begun(b"first 12");
    fs::remove_file(scene.at("x.pget-part")).expect("it is there");
    let second = scene.begun(b"seco");
    let refused = first.finish(&scene.at("x")).expect_err("it is not its own");
    assert_eq!(refused.kind(), ErrorKind::Destination, "{refused}");
    assert!(refused.to_string().contains("removed or replaced"), "{refused}");
    first.fail(refused);
    drop(first);
    assert_eq!(scene.names(), BOTH);
    put(&second, 4, b"nd 1");
    second.finish(&scene.at("x")).expect("it is complete");
    assert_eq!(fs::read(scene.at("x")).expect("a file"), b"second 1");
    assert_eq!(scene.names(), ["x"]);
}

#[test]
fn a_file_that_was_put_in_its_place_gets_no_name() {
    let scene = Scene::new();
    let part = scene.begun(b"first 12");
    fs::write(scene.at("other"), b"complete").expect("written");
    fs::rename(scene.at("other"), scene.at("x.pget-part")).expect("renamed");
    let refused = part.finish(&scene.at("x")).expect_err("it is not its own");
    part.fail(refused);
    assert_eq!(scene.names(), ["x.pget-part"]);
    assert_eq!(fs::read(scene.at("x.pget-part")).expect("a file"), b"complete");
}

#[test]
fn whoever_fails_removes_nothing_of_the_next_one() {
    for why in [
        ErrorKind::NotFound,
        ErrorKind::ObjectChanged,
        ErrorKind::Checksum,
        ErrorKind::Cancelled,
    ] {
        let scene = Scene::new();
        let first = scene.begun(b"firs");
        for name in BOTH {
            fs::remove_file(scene.at(name)).expect("it is there");
        }
        let second = scene.begun(b"second 1");
        first.fail(Error::new(why, "", ""));
        drop(first);
        assert_eq!(scene.names(), BOTH, "{why:?}");
        second.finish(&scene.at("x")).expect("it is complete");
        assert_eq!(scene.names(), ["x"]);
    }
}

#[test]
fn one_that_has_not_begun_takes_no_journal_away() {
    let scene = Scene::new();
    let first = scene.take(false);
    fs::remove_file(scene.at("x.pget-part")).expect("it is there");
    let second = scene.begun(b"second 1");
    let refused = begin(&first).expect_err("its part is gone");
    assert_eq!(refused.kind(), ErrorKind::Destination, "{refused}");
    first.fail(refused);
    assert_eq!(scene.names(), BOTH);
    drop(second);
}

#[test]
fn a_journal_does_not_stay_without_its_part() {
    for resume in [false, true] {
        let scene = Scene::new();
        let part = scene.take(resume);
        begin(&part).expect("it begins");
        put(&part, 0, b"firs");
        fs::remove_file(scene.at("x.pget-part")).expect("it is there");
        part.fail(Error::new(ErrorKind::Unavailable, "", ""));
        assert!(scene.names().is_empty(), "{:?}", scene.names());
    }
}

#[test]
fn only_what_was_written_to_is_known_to_be_wrong() {
    let scene = Scene::new();
    let part = scene.take(true);
    begin(&part).expect("it begins");
    put(&part, 0, b"firs");
    part.fail(Error::new(ErrorKind::Unavailable, "", ""));
    assert_eq!(scene.names(), BOTH);
    // It cannot be verified, which is reported before anything begins.
    scene
        .take(true)
        .fail(Error::new(ErrorKind::Checksum, "", "not published"));
    assert_eq!(scene.names(), BOTH);
    let part = scene.take(true);
    begin(&part).expect("it goes on");
    part.fail(Error::new(ErrorKind::Checksum, "", "mismatch"));
    assert!(scene.names().is_empty(), "{:?}", scene.names());
}
