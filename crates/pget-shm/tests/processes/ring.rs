//! Streams from one process to another.

use std::time::{Duration, Instant};

use pget_core::{Error, ErrorKind};
use pget_shm::{Placement, RingReader, RingWriter, SharedBuffer};

use crate::{DIGEST, content, digest, fresh_name, is_there, other::Other};

const NOTICED: Duration = Duration::from_secs(2);

#[test]
fn another_process_reads_all_of_it_at_its_pace() {
    let bytes = content(1_000_003);
    let right = digest(&bytes, DIGEST);
    for (name, capacity) in [(None, 1), (Some(fresh_name("ring")), 100_000)] {
        for piece in [1000, 4096, 300_000] {
            let mut ring = RingWriter::create(name.as_deref(), capacity, "version 7").expect("a ring");
            let mut reader = Other::start("ring", ring.name());
            for piece in bytes.chunks(piece) {
                ring.put(piece).expect("it is read");
            }
            ring.finish(Ok(())).expect("all was read");
            assert_eq!(reader.says(), Some(format!("digest {right:016x}")));
            reader.ends_well();
        }
    }
    assert!(!is_there(&fresh_name("ring")));
}

#[test]
fn an_end_without_bytes_and_a_failure_behind_some() {
    let ring = RingWriter::create(None, 1, "").expect("a ring");
    let mut reader = RingReader::attach(ring.name()).expect("attached");
    ring.finish(Ok(())).expect("nothing to take");
    assert_eq!(reader.next_bytes().expect("the end"), None);
    let mut ring = RingWriter::create(None, 4096, "etag \"x\"").expect("a ring");
    let mut reader = RingReader::attach(ring.name()).expect("attached");
    assert_eq!(reader.revision(), "etag \"x\"");
    ring.put(b"some").expect("room");
    let failure = Error::new(ErrorKind::ObjectChanged, "", "it was replaced");
    ring.finish(Err(&failure)).expect_err("failed");
    assert_eq!(reader.next_bytes().expect("some"), Some(&b"some"[..]));
    for _ in 0..2 {
        let error = reader.next_bytes().expect_err("failed");
        assert_eq!(error.kind(), ErrorKind::ObjectChanged, "{error}");
    }
    let ring = RingWriter::create(None, 4096, "").expect("a ring");
    let mut reader = RingReader::attach(ring.name()).expect("attached");
    drop(ring);
    let error = reader.next_bytes().expect_err("given up");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[test]
fn each_end_hears_of_the_others_death() {
    for name in [None, Some(fresh_name("ring-death"))] {
        let mut ring = RingWriter::create(name.as_deref(), 4096, "").expect("a ring");
        let mut reader = Other::start("ring-stuck", ring.name());
        ring.put(&[1; 4096]).expect("room");
        assert_eq!(reader.says().as_deref(), Some("has some"));
        reader.kill();
        let killed = Instant::now();
        let error = ring.put(&[1]).expect_err("nobody makes room");
        assert_eq!(error.kind(), ErrorKind::Destination);
        assert!(killed.elapsed() < NOTICED, "{:?}", killed.elapsed());
        drop(ring);

        let mut writer = Other::start("ring-write", name.as_deref().unwrap_or("-"));
        let told = writer.says().expect("its name");
        let mut reader = RingReader::attach(&told).expect("attached");
        assert_eq!(reader.next_bytes().expect("some"), Some(&b"some"[..]));
        writer.kill();
        let killed = Instant::now();
        let error = reader.next_bytes().expect_err("dead");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(killed.elapsed() < NOTICED, "{:?}", killed.elapsed());
    }
    pget_shm::sweep().expect("swept");
    assert!(!is_there(&fresh_name("ring-death")));
}

#[test]
fn a_reader_that_leaves_ends_it_and_there_is_one_reader() {
    let mut ring = RingWriter::create(None, 4096, "").expect("a ring");
    let reader = RingReader::attach(ring.name()).expect("attached");
    let error = RingReader::attach(ring.name()).expect_err("it has one");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    ring.put(&[1; 4096]).expect("room");
    drop(reader);
    let error = ring.put(&[1]).expect_err("nobody makes room");
    assert_eq!(error.kind(), ErrorKind::Destination);
    let error = RingReader::attach(ring.name()).expect_err("bytes are gone");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[test]
fn a_ring_is_no_object_and_an_object_no_ring() {
    let ring = RingWriter::create(None, 4096, "").expect("a ring");
    let error = SharedBuffer::attach(ring.name()).expect_err("a ring");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    let (shared, _filler) = SharedBuffer::create(Placement::Anonymous, 10_000, "").expect("a segment");
    let error = RingReader::attach(shared.name()).expect_err("an object");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}
