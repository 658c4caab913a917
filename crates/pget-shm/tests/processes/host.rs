//! What the host does with its process.

use pget_core::{Error, ErrorKind};
use pget_shm::{Placement, RingReader, RingWriter, SharedBuffer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{content, fresh_name, is_there, other::Other};

/// At its default, the signal for it ends the process.
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
    // The companion's page is too long for the second.
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
    too_large(filler.put(1, &half).expect_err("behind it"));
    too_large(ring.put(&half).expect_err("its end is behind it"));
    let reused = SharedBuffer::create(Placement::Reuse(old), LENGTH as u64, "");
    too_large(reused.expect_err("too large"));
    println!("> still there");
}
