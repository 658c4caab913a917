//! The pages of one object for the next.

use pget_core::ErrorKind;
use pget_shm::{Placement, SharedBuffer, State};

use crate::{content, fresh_name};

fn filled(placement: Placement, bytes: &[u8], revision: &str) -> SharedBuffer {
    let (shared, filler) = SharedBuffer::create(placement, bytes.len() as u64, revision).expect("a segment");
    assert_eq!((shared.len(), shared.as_slice().len()), (bytes.len(), 0));
    filler.put(0, bytes).expect("room");
    filler.landed(0..bytes.len() as u64);
    filler.finish(Ok(())).expect("complete");
    shared
}

fn inode(name: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let path = if name.starts_with('/') {
        name.to_owned()
    } else {
        format!("/dev/shm/{name}")
    };
    std::fs::metadata(path).expect("a file").ino()
}

#[test]
fn nobody_attached_the_pages_stay() {
    for placement in [Placement::Anonymous, Placement::Named(fresh_name("reuse"))] {
        let is_named = matches!(placement, Placement::Named(_));
        let mut shared = filled(placement, &content(50_000), "version 1");
        let (name, first) = (shared.name().to_owned(), inode(shared.name()));
        for (version, length) in [(2, 50_000), (3, 7), (4, 0), (5, 30_000), (6, 60_000)] {
            let bytes: Vec<u8> = content(length).iter().map(|byte| byte ^ version).collect();
            let revision = format!("version {version}");
            shared = filled(Placement::Reuse(shared), &bytes, &revision);
            assert_eq!(shared.as_slice(), bytes);
            let attached = SharedBuffer::attach(shared.name()).expect("attached");
            assert_eq!((attached.as_slice(), attached.revision()), (&*bytes, &*revision));
            let is_same = inode(shared.name()) == first;
            // A memfd keeps its length.
            assert_eq!(is_same, is_named || length <= 50_000, "{length}");
            if is_same {
                assert_eq!(shared.name(), name);
            }
            if is_named {
                let file = std::fs::metadata(format!("/dev/shm/{name}")).expect("a file");
                assert_eq!(file.len(), length as u64);
            }
        }
        drop(shared);
        assert!(!crate::is_there(&name));
    }
}

#[test]
fn who_is_attached_keeps_the_old_object() {
    for placement in [Placement::Anonymous, Placement::Named(fresh_name("kept"))] {
        let shared = filled(placement, &content(5000), "version 1");
        let old = SharedBuffer::attach(shared.name()).expect("attached");
        let is_named = !shared.name().starts_with('/');
        let name = shared.name().to_owned();
        let shared = filled(Placement::Reuse(shared), &[7; 5000], "version 2");
        assert_eq!(old.as_slice(), content(5000));
        assert_eq!((old.state(), old.revision()), (State::Complete, "version 1"));
        let new = SharedBuffer::attach(shared.name()).expect("attached");
        assert_eq!(new.as_slice(), [7; 5000]);
        assert_eq!(shared.name() == name, is_named);
    }
}

#[test]
fn what_is_not_complete_or_not_ones_own_cannot_be_reused() {
    let refused = |buffer| {
        let made = SharedBuffer::create(Placement::Reuse(buffer), 1, "");
        assert_eq!(made.expect_err("refused").kind(), ErrorKind::InvalidArgument);
    };
    let name = fresh_name("unfit");
    let (filling, filler) = SharedBuffer::create(Placement::Named(name.clone()), 10, "").expect("a segment");
    refused(filling);
    assert!(!crate::is_there(&name));
    let error = filler.finish(Ok(())).expect_err("nothing has landed");
    assert_eq!(error.kind(), ErrorKind::Internal);
    let shared = filled(Placement::Anonymous, b"x", "");
    refused(SharedBuffer::attach(shared.name()).expect("attached"));
    let mut closed = shared;
    closed.close();
    refused(closed);
}
