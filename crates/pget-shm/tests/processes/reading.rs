//! Reads of a segment that is being filled.

use std::time::{Duration, Instant};

use pget_core::{Error, ErrorKind};
use pget_shm::{Placement, SharedBuffer, State};

use crate::{DIGEST, content, digest, fresh_name, other::Other};

#[test]
fn what_is_put_is_what_is_read() {
    for length in [0, 1, 4095, 4096, 4097, 100_000] {
        for placement in [
            Placement::Anonymous,
            Placement::Named(format!("/{}", fresh_name(&format!("put-{length}")))),
        ] {
            let bytes = content(length);
            let (mut shared, filler) =
                SharedBuffer::create(placement, length as u64, "etag \"é\"").expect("a segment");
            let attached = SharedBuffer::attach(shared.name()).expect("attached");
            assert_eq!((attached.len(), attached.state()), (length, State::Filling));
            let half = length / 2;
            filler.put(half as u64, &bytes[half..]).expect("room");
            filler.landed(half as u64..length as u64);
            assert_eq!(attached.as_slice().len(), if half == 0 { length } else { 0 });
            filler.put(0, &bytes[..half]).expect("room");
            filler.landed(0..half as u64);
            assert_eq!(attached.as_slice(), bytes);
            // All bytes have arrived, but the segment is not marked complete yet.
            let soon = Instant::now() + Duration::from_millis(20);
            let error = attached.wait_until(length, soon).expect_err("not complete");
            assert_eq!(error.kind(), ErrorKind::Timeout);
            filler.finish(Ok(())).expect("complete");
            drop(filler);
            for buffer in [&shared, &attached] {
                assert_eq!(buffer.wait_for(length).expect("complete"), bytes);
                assert_eq!(
                    (buffer.state(), buffer.revision()),
                    (State::Complete, "etag \"é\"")
                );
                let behind = buffer.wait_for(length + 1).expect_err("past the end");
                assert_eq!(behind.kind(), ErrorKind::InvalidArgument);
            }
            let name = shared.name().to_owned();
            shared.close();
            shared.close();
            assert!(shared.is_empty() && shared.as_slice().is_empty());
            let error = SharedBuffer::attach(&name).expect_err("gone");
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            // A reader that is attached keeps the segment.
            assert_eq!(attached.as_slice(), bytes);
            assert_eq!(attached.state(), State::Complete);
        }
    }
}

#[test]
fn the_data_is_as_long_as_the_object_for_any_program() {
    let (shared, filler) =
        SharedBuffer::create(Placement::Named(fresh_name("plain")), 5000, "").expect("a segment");
    filler.put(0, &content(5000)).expect("room");
    let plain = std::fs::read(format!("/dev/shm/{}", shared.name())).expect("a file");
    assert_eq!(plain, content(5000));
    let (shared, filler) = SharedBuffer::create(Placement::Anonymous, 5000, "").expect("a segment");
    filler.put(0, &content(5000)).expect("room");
    assert_eq!(std::fs::read(shared.name()).expect("a file"), content(5000));
}

/// The task that fills a segment can hold it for a moment after the last byte has arrived.
#[test]
fn after_a_close_no_one_attaches_though_the_filler_is_still_there() {
    for placement in [Placement::Anonymous, Placement::Named(fresh_name("closed"))] {
        let (mut shared, filler) = SharedBuffer::create(placement, 10, "").expect("a segment");
        filler.put(0, &content(10)).expect("room");
        filler.landed(0..10);
        filler.finish(Ok(())).expect("complete");
        let name = shared.name().to_owned();
        let attached = SharedBuffer::attach(&name).expect("attached");
        shared.close();
        let refused = SharedBuffer::attach(&name).expect_err("closed");
        assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
        assert_eq!(attached.as_slice(), content(10));
        drop(filler);
    }
}

#[test]
fn four_processes_read_while_it_is_filled() {
    let length = 3_000_000;
    for name in ["-".to_owned(), fresh_name("four")] {
        let mut filler = Other::start("fill", &format!("{name} {length}"));
        let name = filler.says().expect("its name");
        let mut readers: Vec<_> = (0..4).map(|_| Other::start("read", &name)).collect();
        for reader in &mut readers {
            assert_eq!(reader.says().as_deref(), Some("attached"));
        }
        for until in (0..=length).step_by(250_000) {
            filler.tell(&until.to_string());
            assert_eq!(filler.says().as_deref(), Some("done"));
        }
        filler.tell("end");
        let right = digest(&content(length), DIGEST);
        for mut reader in readers {
            assert_eq!(reader.says(), Some(format!("digest {right:016x}")));
            reader.ends_well();
        }
        filler.ends_well();
        assert!(!crate::is_there(&name));
    }
}

#[test]
fn a_failure_is_told_to_all_with_its_kind_and_cause() {
    for (end, kind, says) in [
        ("fail", "ObjectChanged", "it was replaced"),
        ("close", "Cancelled", "closed by the process that filled it"),
    ] {
        let mut filler = Other::start("fill", "- 1000");
        let name = filler.says().expect("its name");
        let mut reader = Other::start("read", &name);
        assert_eq!(reader.says().as_deref(), Some("attached"));
        filler.tell("500");
        filler.tell(end);
        let said = reader.says().expect("a word");
        assert!(said.starts_with(kind) && said.contains(says), "{said}");
        reader.ends_well();
        filler.ends_well();
    }
}

#[test]
fn a_filler_that_goes_away_or_says_what_is_not_so_fails_it() {
    let (shared, filler) = SharedBuffer::create(Placement::Anonymous, 10, "").expect("a segment");
    drop(filler);
    assert_eq!(shared.state(), State::Failed);
    assert_eq!(
        shared.wait_for(1).expect_err("given up").kind(),
        ErrorKind::Cancelled
    );
    let (shared, filler) = SharedBuffer::create(Placement::Anonymous, 10, "").expect("a segment");
    filler.put(0, &content(9)).expect("room");
    filler.landed(0..9);
    let error = filler.finish(Ok(())).expect_err("a byte is missing");
    assert_eq!(error.kind(), ErrorKind::Internal);
    // The first reported end remains.
    filler.finish(Ok(())).expect("an end was reported before");
    assert_eq!(shared.state(), State::Failed);
    assert_eq!(shared.wait_for(9).expect("there").len(), 9);
    assert_eq!(
        shared.wait_for(10).expect_err("failed").kind(),
        ErrorKind::Internal
    );
    let outside = filler.put(8, &[0; 3]).expect_err("past the end");
    assert_eq!(outside.kind(), ErrorKind::Internal);
}

#[test]
fn a_long_failure_is_cut_between_characters() {
    let (shared, filler) =
        SharedBuffer::create(Placement::Anonymous, 10, &"ü".repeat(900)).expect("a segment");
    let attached = SharedBuffer::attach(shared.name()).expect("attached");
    assert_eq!(attached.revision(), "ü".repeat(512));
    let error = Error::new(ErrorKind::Protocol, "", "ß".repeat(5000));
    filler.finish(Err(&error)).expect_err("failed");
    let told = attached.wait_for(1).expect_err("failed").to_line();
    assert!(told.contains("ßßß") && told.len() > 2900, "{told}");
    assert!(!told.contains('\u{fffd}'), "{told}");
}

#[test]
fn what_another_process_wrote_has_no_control_characters() {
    let (shared, filler) =
        SharedBuffer::create(Placement::Anonymous, 10, "etag \"a\"\nb\u{1b}[2J").expect("a segment");
    let attached = SharedBuffer::attach(shared.name()).expect("attached");
    assert_eq!(attached.revision(), "etag \"a\" b [2J");
    drop(filler);
}
