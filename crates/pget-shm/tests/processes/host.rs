//! A host that changes its process: limits, descriptors, and output.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use pget_core::{Error, ErrorKind};
use pget_shm::{Placement, RingReader, RingWriter, SharedBuffer, State};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{content, fresh_name, is_there, other::Other};

/// By default, the signal for the limit ends the process.
#[test]
fn a_limit_on_files_is_an_error_and_no_signal() {
    let mut other = Other::start("limited", "");
    assert_eq!(other.says().as_deref(), Some("still there"));
    other.ends_well();
}

pub(crate) fn where_files_are_short() {
    const LENGTH: usize = 1 << 20;
    let limit = |bytes: usize| {
        let limit = Rlimit {
            current: Some(bytes as u64),
            maximum: getrlimit(Resource::Fsize).maximum,
        };
        setrlimit(Resource::Fsize, limit).expect("below what it may be");
    };
    let too_large = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::Destination, "{error}");
        assert!(error.to_line().contains("File too large"), "{}", error.to_line());
    };
    let filled = || {
        let (shared, filler) =
            SharedBuffer::create(Placement::Anonymous, LENGTH as u64, "").expect("a segment");
        filler.put(0, &content(LENGTH)).expect("room");
        filler.landed(0..LENGTH as u64);
        filler.finish(Ok(())).expect("complete");
        shared
    };
    let (old, name) = (filled(), fresh_name("limited"));
    let (_shared, filler) = SharedBuffer::create(Placement::Anonymous, LENGTH as u64, "").expect("a segment");
    let mut ring = RingWriter::create(None, LENGTH).expect("a ring");
    let _reader = RingReader::attach(ring.name()).expect("attached");
    ring.begin("", None).expect("the reader is there");
    // The second limit is too small for the companion's page.
    for bytes in [LENGTH - 1, 100] {
        limit(bytes);
        for placement in [Placement::Anonymous, Placement::Named(name.clone())] {
            let made = SharedBuffer::create(placement, LENGTH as u64, "");
            too_large(made.expect_err("too large"));
        }
        for name in [None, Some(name.as_str())] {
            too_large(RingWriter::create(name, LENGTH).expect_err("too large"));
        }
        assert!(!is_there(&name));
    }
    limit(LENGTH / 2);
    let half = content(LENGTH / 2);
    filler.put(0, &half).expect("below the limit");
    too_large(filler.put(1, &half).expect_err("past the limit"));
    too_large(ring.put(&half).expect_err("its end is past the limit"));
    let reused = SharedBuffer::create(Placement::Reuse(old), LENGTH as u64, "");
    too_large(reused.expect_err("too large"));
    println!("> still there");
}

/// Without the check, the host's output would land in the object.
#[test]
fn a_host_without_standard_streams_does_not_print_into_objects() {
    let mut other = Other::start("closed", &fresh_name("closed"));
    assert_eq!(other.says().as_deref(), Some("as it was"));
    other.ends_well();
}

#[allow(unsafe_code, reason = "closes the standard streams")]
pub(crate) fn without_standard_streams(name: &str) {
    let said_to = std::io::stdout().as_fd().try_clone_to_owned().expect("a copy");
    assert!(said_to.as_raw_fd() > 2);
    for number in 0..3 {
        // SAFETY: the descriptor is open, and nothing else owns it. Code that prints after this
        // gets an error.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
    let print = || {
        for number in 0..3 {
            // SAFETY: the descriptor is only borrowed. At worst, no descriptor has that
            // number.
            let stream = unsafe { BorrowedFd::borrow_raw(number) };
            rustix::io::write(stream, b"what a host prints").ok();
        }
    };
    for placement in [Placement::Anonymous, Placement::Named(name.to_owned())] {
        let (shared, filler) = SharedBuffer::create(placement, 50, "version 7").expect("a segment");
        filler.put(0, &content(50)).expect("room");
        print();
        filler.landed(0..50);
        let attached = SharedBuffer::attach(shared.name()).expect("attached");
        print();
        filler.finish(Ok(())).expect("complete");
        assert_eq!(attached.wait_for(50).expect("complete"), content(50));
        assert_eq!(
            (attached.revision(), attached.state()),
            ("version 7", State::Complete)
        );
    }
    for name in [None, Some(name)] {
        let mut ring = RingWriter::create(name, 4096).expect("a ring");
        let mut reader = RingReader::attach(ring.name()).expect("attached");
        print();
        ring.begin("", Some(50)).expect("the reader is there");
        ring.put(&content(50)).expect("room");
        reader.next_object().expect("an answer").expect("an object");
        print();
        assert_eq!(reader.next_bytes().expect("some").expect("some"), content(50));
    }
    rustix::io::write(said_to, b"> as it was\n").expect("the test reads it");
    // The test harness prints when it ends, so leave before that.
    std::process::exit(0);
}
