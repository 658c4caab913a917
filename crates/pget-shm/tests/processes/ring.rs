//! Streams from one process to another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use pget_core::{Error, ErrorKind};
use pget_shm::{Placement, RingReader, RingWriter, SharedBuffer};

use crate::{DIGEST, content, digest, fresh_name, is_there, other::Other};

const NOTICED: Duration = Duration::from_secs(2);

/// Returns a ring with an object of unknown size that has begun.
fn begun(name: Option<&str>, capacity: usize) -> RingWriter {
    let mut ring = RingWriter::create(name, capacity).expect("a ring");
    ring.begin("version 1", None).expect("begun");
    ring
}

/// Returns the only reader of the ring, at the first object.
fn reading(name: &str) -> RingReader {
    let mut reader = RingReader::attach(name).expect("attached");
    reader.next_object().expect("an answer").expect("an object");
    reader
}

#[test]
fn another_process_reads_all_of_it_at_its_pace() {
    let bytes = content(1_000_003);
    let right = digest(&bytes, DIGEST);
    for (name, capacity) in [(None, 1), (Some(fresh_name("ring")), 100_000)] {
        for piece in [1000, 4096, 300_000] {
            let mut ring = RingWriter::create(name.as_deref(), capacity).expect("a ring");
            let mut reader = Other::start("ring", ring.name());
            ring.begin("version 7", None).expect("begun");
            for piece in bytes.chunks(piece) {
                ring.put(piece).expect("it is read");
            }
            ring.finish(Ok(())).expect("all was read");
            assert_eq!(reader.says(), Some(format!("version 7 None digest {right:016x}")));
            reader.ends_well();
        }
    }
    assert!(!is_there(&fresh_name("ring")));
}

#[test]
fn the_same_ring_carries_the_next_object() {
    let name = fresh_name("ring-next");
    let mut ring = RingWriter::create(Some(&name), 10_000).expect("a ring");
    let mut reader = Other::start("ring", &name);
    // The objects are as long as the ring, wrap around its end, or are longer. One fails in the
    // middle, and some are empty.
    for (number, length) in [12_288, 1, 0, 5_000, 40_000, 0, 12_287].into_iter().enumerate() {
        let revision = format!("version {number}");
        let bytes: Vec<u8> = content(length).iter().map(|byte| byte ^ 0x55).collect();
        let size = (number % 2 == 0).then_some(length as u64);
        ring.begin(&revision, size).expect("begun");
        for piece in bytes.chunks(3_001) {
            ring.put(piece).expect("it is read");
        }
        let sum = digest(&bytes, DIGEST);
        if number == 3 {
            let failure = Error::new(ErrorKind::ObjectChanged, "", "it was replaced");
            let error = ring.end(Err(&failure)).expect_err("failed");
            assert_eq!(error.kind(), ErrorKind::ObjectChanged);
            assert_eq!(
                reader.says(),
                Some(format!("{revision} None failed ObjectChanged"))
            );
        } else {
            ring.end(Ok(())).expect("all was read");
            assert_eq!(
                reader.says(),
                Some(format!("{revision} {size:?} digest {sum:016x}"))
            );
        }
    }
    drop(ring);
    assert_eq!(reader.says().as_deref(), Some("no more"));
    reader.ends_well();
    assert!(!is_there(&name));
}

#[test]
fn what_is_left_of_an_object_may_be_passed_over() {
    let mut ring = RingWriter::create(None, 4096).expect("a ring");
    let mut reader = RingReader::attach(ring.name()).expect("attached");
    let error = reader.next_bytes().expect_err("which object?");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..3 {
                ring.begin(&number.to_string(), Some(20_000)).expect("begun");
                ring.put(&content(20_000)).expect("it is passed over");
                let failure = Error::new(ErrorKind::ObjectChanged, "", "it was replaced");
                let outcome = if number == 1 { Err(&failure) } else { Ok(()) };
                assert_eq!(ring.end(outcome).is_ok(), number != 1);
            }
            ring.begin("last", Some(2)).expect("begun");
            ring.put(b"xy").expect("room");
            ring.finish(Ok(())).expect("taken");
        });
        for number in 0..3 {
            let object = reader.next_object().expect("an answer").expect("an object");
            assert_eq!((object.revision, object.size), (number.to_string(), Some(20_000)));
            if number == 0 {
                assert!(reader.next_bytes().expect("some").is_some());
            }
        }
        let object = reader.next_object().expect("an answer").expect("an object");
        assert_eq!(object.revision, "last");
        assert_eq!(reader.next_bytes().expect("bytes"), Some(&b"xy"[..]));
        for _ in 0..2 {
            assert_eq!(reader.next_bytes().expect("the end"), None);
        }
        for _ in 0..2 {
            assert_eq!(reader.next_object().expect("no more"), None);
        }
    });
}

#[test]
fn an_object_that_is_passed_over_is_not_read_on() {
    let mut ring = RingWriter::create(None, 4096).expect("a ring");
    let mut reader = RingReader::attach(ring.name()).expect("attached");
    let bytes = content(6000);
    let refused = |reader: &mut RingReader| {
        for _ in 0..2 {
            let error = reader.next_bytes().expect_err("some are gone");
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        }
    };
    let looks = |reader: &mut RingReader| {
        let looked = reader.next_object_unless(Some(Instant::now()), &|| false);
        assert_eq!(looked.expect_err("not there").kind(), ErrorKind::Timeout);
    };
    ring.begin("first", Some(6000)).expect("begun");
    ring.put(&bytes[..4096]).expect("room");
    reader.next_object().expect("an answer").expect("an object");
    assert_eq!(reader.next_bytes().expect("some"), Some(&bytes[..4096]));
    // Check after a look, after a wait that was stopped, and at the end.
    looks(&mut reader);
    refused(&mut reader);
    ring.put(&bytes[4096..]).expect("it was given back");
    let stopped = reader.next_object_unless(None, &|| true);
    assert_eq!(stopped.expect_err("stopped").kind(), ErrorKind::Cancelled);
    refused(&mut reader);
    ring.end(Ok(())).expect("all was passed over");
    looks(&mut reader);
    refused(&mut reader);

    ring.begin("second", Some(2)).expect("the end was seen");
    ring.put(b"xy").expect("room");
    let object = reader.next_object().expect("an answer").expect("an object");
    assert_eq!(object.revision, "second");
    assert_eq!(reader.next_bytes().expect("bytes"), Some(&b"xy"[..]));
    // The object fails during the wait, and the reader gets the error.
    looks(&mut reader);
    let failure = Error::new(ErrorKind::ObjectChanged, "", "it was replaced");
    ring.end(Err(&failure)).expect_err("failed");
    looks(&mut reader);
    let error = reader.next_bytes().expect_err("failed");
    assert_eq!(error.kind(), ErrorKind::ObjectChanged, "{error}");
}

#[test]
fn an_object_has_its_size_or_fails() {
    let mut ring = RingWriter::create(None, 4096).expect("a ring");
    let mut reader = RingReader::attach(ring.name()).expect("attached");
    let invalid = |result: Result<(), Error>| {
        let error = result.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    };
    invalid(ring.put(b"x"));
    invalid(ring.end(Ok(())));
    ring.begin("short", Some(5)).expect("begun");
    invalid(ring.begin("another", None));
    invalid(ring.put(b"longer"));
    ring.put(b"four").expect("room");
    let error = ring.end(Ok(())).expect_err("a byte is missing");
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    reader.next_object().expect("an answer").expect("an object");
    assert_eq!(reader.next_bytes().expect("bytes"), Some(&b"four"[..]));
    let error = reader.next_bytes().expect_err("a byte is missing");
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
}

#[test]
fn waits_end_when_they_are_told_to() {
    let mut ring = RingWriter::create(None, 4096).expect("a ring");
    let mut reader = RingReader::attach(ring.name()).expect("attached");
    let soon = || Some(Instant::now() + Duration::from_millis(10));
    let error = reader.next_object_unless(soon(), &|| false).expect_err("late");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    // The flag is set by another thread, before or during the wait.
    let told = AtomicBool::new(false);
    let waker = reader.waker();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            told.store(true, Ordering::SeqCst);
            waker.wake();
        });
        let stopped = reader.next_object_unless(None, &|| told.load(Ordering::SeqCst));
        assert_eq!(stopped.expect_err("stopped").kind(), ErrorKind::Cancelled);
    });
    ring.begin("", None).expect("begun");
    assert!(reader.next_object().expect("an answer").is_some());
    let error = reader.next_bytes_unless(soon(), &|| false).expect_err("late");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let told = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&told);
    ring.stop_when(move || stop.load(Ordering::SeqCst));
    let waker = ring.waker();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            told.store(true, Ordering::SeqCst);
            waker.wake();
        });
        let error = ring.put(&[1; 5000]).expect_err("no reader makes room");
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    });
    assert_eq!(reader.next_bytes().expect("some").expect("some").len(), 4096);
}

#[test]
fn an_end_without_bytes_and_a_failure_behind_some() {
    let ring = begun(None, 1);
    let mut reader = reading(ring.name());
    ring.finish(Ok(())).expect("nothing to take");
    assert_eq!(reader.next_bytes().expect("the end"), None);
    let mut ring = begun(None, 4096);
    let mut reader = reading(ring.name());
    ring.put(b"some").expect("room");
    let failure = Error::new(ErrorKind::ObjectChanged, "", "it was replaced");
    ring.finish(Err(&failure)).expect_err("failed");
    assert_eq!(reader.next_bytes().expect("some"), Some(&b"some"[..]));
    for _ in 0..2 {
        let error = reader.next_bytes().expect_err("failed");
        assert_eq!(error.kind(), ErrorKind::ObjectChanged, "{error}");
    }
    assert_eq!(reader.next_object().expect("no more"), None);
    let ring = begun(None, 4096);
    let mut reader = reading(ring.name());
    drop(ring);
    let error = reader.next_bytes().expect_err("given up");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[test]
fn each_end_hears_of_the_others_death() {
    for name in [None, Some(fresh_name("ring-death"))] {
        let mut ring = begun(name.as_deref(), 4096);
        let mut reader = Other::start("ring-stuck", ring.name());
        ring.put(&[1; 4096]).expect("room");
        assert_eq!(reader.says().as_deref(), Some("has some"));
        reader.kill();
        let killed = Instant::now();
        let error = ring.put(&[1]).expect_err("no reader makes room");
        assert_eq!(error.kind(), ErrorKind::Destination);
        assert!(killed.elapsed() < NOTICED, "{:?}", killed.elapsed());
        drop(ring);

        // The writer is killed within an object, and between two objects.
        for role in ["ring-write", "ring-between"] {
            let mut writer = Other::start(role, name.as_deref().unwrap_or("-"));
            let told = writer.says().expect("its name");
            let mut reader = reading(&told);
            assert_eq!(reader.next_bytes().expect("some"), Some(&b"some"[..]));
            if role == "ring-between" {
                assert_eq!(reader.next_bytes().expect("the end"), None);
                assert_eq!(writer.says().as_deref(), Some("taken"));
            }
            writer.kill();
            let killed = Instant::now();
            let error = match role {
                "ring-write" => reader.next_bytes().expect_err("dead"),
                _ => reader.next_object().expect_err("dead"),
            };
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(killed.elapsed() < NOTICED, "{:?}", killed.elapsed());
            let error = reader.next_object().expect_err("dead");
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            drop(reader);
            pget_shm::sweep().expect("swept");
        }
    }
    assert!(!is_there(&fresh_name("ring-death")));
}

#[test]
fn a_reader_that_leaves_ends_it_and_there_is_one_reader() {
    let mut ring = begun(None, 4096);
    let reader = RingReader::attach(ring.name()).expect("attached");
    let error = RingReader::attach(ring.name()).expect_err("it has one");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    ring.put(&[1; 4096]).expect("room");
    drop(reader);
    let error = ring.put(&[1]).expect_err("no reader makes room");
    assert_eq!(error.kind(), ErrorKind::Destination);
    let error = RingReader::attach(ring.name()).expect_err("bytes are gone");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    ring.end(Err(&error)).expect_err("the error is returned");
    let error = ring.begin("", None).expect_err("there is no reader");
    assert_eq!(error.kind(), ErrorKind::Destination);
}

#[test]
fn a_ring_is_no_object_and_an_object_no_ring() {
    let ring = RingWriter::create(None, 4096).expect("a ring");
    let error = SharedBuffer::attach(ring.name()).expect_err("a ring");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    let (shared, _filler) = SharedBuffer::create(Placement::Anonymous, 10_000, "").expect("a segment");
    let error = RingReader::attach(shared.name()).expect_err("an object");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}

#[test]
fn a_forked_child_is_neither_end() {
    Other::start("ring-fork", "").ends_well();
}

#[test]
fn two_parts_that_do_not_fit_are_no_ring() {
    let (one, other) = (fresh_name("ring-one"), fresh_name("ring-other"));
    let mut ring = begun(Some(&one), 4096);
    let stray = begun(Some(&other), 4096);
    // A reader can attach between its two opens: the ring is then closed, and another one is
    // created.
    let path = |name: &str, end: &str| format!("/dev/shm/{name}{end}");
    std::fs::rename(path(&one, ""), path(&other, "")).expect("renamed");
    let error = RingReader::attach(&other).expect_err("two halves");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    std::fs::rename(path(&other, ""), path(&one, "")).expect("renamed");
    drop(stray);
    // The failed attach has not touched this ring.
    let mut reader = reading(&one);
    ring.put(b"some").expect("room");
    assert_eq!(reader.next_bytes().expect("some"), Some(&b"some"[..]));
}
