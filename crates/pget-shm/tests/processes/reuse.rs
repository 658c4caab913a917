//! The memory of one object is reused for the next.

use std::{
    io::{Read as _, Write as _},
    process::Command,
    sync::{Arc, Mutex},
};

use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, fork},
};
use pget_core::{Destination as _, Error, ErrorKind, ObjectInfo, Transfer};
use pget_shm::{IntoShared, Placement, SharedBuffer, State};

use crate::{DIGEST, content, digest, fresh_name, other::Other};

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

/// Between its start and its exec, another process has copies of this process's descriptors, and
/// thus of its locks.
#[test]
fn processes_that_are_being_started_are_no_readers() {
    std::thread::scope(|scope| {
        let starting: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let status = Command::new("true").status();
                        assert!(status.expect("it starts").success());
                    }
                })
            })
            .collect();
        let mut shared = filled(Placement::Anonymous, b"first", "");
        let first = inode(shared.name());
        while !starting.iter().all(|thread| thread.is_finished()) {
            drop(SharedBuffer::attach(shared.name()).expect("attached"));
            shared = filled(Placement::Reuse(shared), b"next", "");
            assert_eq!(inode(shared.name()), first);
        }
    });
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
fn a_forked_child_keeps_the_old_object() {
    for name in ["-".to_owned(), fresh_name("read-on")] {
        let mut other = Other::start("read-on", &name);
        assert_eq!(other.says().as_deref(), Some("Ok(Exited(0))"), "{name}");
        assert_eq!(other.says().as_deref(), Some("new, then the same"), "{name}");
        other.ends_well();
    }
}

#[allow(unsafe_code, reason = "forks")]
pub(crate) fn where_a_child_reads_on(name: &str) {
    let placement = match name {
        "-" => Placement::Anonymous,
        name => Placement::Named(name.to_owned()),
    };
    let (mut reused, mut tells) = std::io::pipe().expect("a pipe");
    let mut shared = filled(placement, &content(50_000), "version 1");
    let first = inode(shared.name());
    // SAFETY: the child calls only functions that this library allows in a forked child, and ends.
    let child = match unsafe { fork() }.expect("a child") {
        ForkResult::Child => {
            drop(tells);
            let before = digest(shared.as_slice(), DIGEST);
            // The child lives until the parent has reused the segment or has ended.
            let told = reused.read(&mut [0]).is_ok_and(|count| count == 1);
            let is_same = told && digest(shared.as_slice(), DIGEST) == before;
            std::process::exit(i32::from(!is_same));
        }
        ForkResult::Parent { child } => child,
    };
    shared = filled(Placement::Reuse(shared), &[7; 50_000], "version 2");
    let second = inode(shared.name());
    tells.write_all(b"x").expect("the child listens");
    let status = waitpid(child, None).map(|status| match status {
        WaitStatus::Exited(_, code) => format!("Exited({code})"),
        other => format!("{other:?}"),
    });
    println!("> {}", format!("{status:?}").replace('"', ""));
    // The child has only the first segment.
    shared = filled(Placement::Reuse(shared), &[8; 50_000], "version 3");
    let third = inode(shared.name());
    let word = |one, other| if one == other { "the same" } else { "new" };
    println!("> {}, then {}", word(first, second), word(second, third));
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

/// Begins a download into a segment, up to its first byte.
fn begun(placement: Placement, length: usize) -> (IntoShared, SharedBuffer, Transfer) {
    let made = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&made);
    let into = IntoShared::new(placement, move |buffer| {
        *keep.lock().expect("no panic") = Some(buffer);
    });
    let place = into.begin(&ObjectInfo::default(), 0, Some(length as u64));
    let buffer = made.lock().expect("no panic").take().expect("made");
    (into, buffer, place.expect("begun"))
}

#[test]
fn bytes_go_straight_into_pages_that_were_used_before_and_only_those() {
    for (placement, steps) in [
        (
            Placement::Anonymous,
            [(50_000, true), (7, true), (30_000, true), (60_000, false)],
        ),
        (
            Placement::Named(fresh_name("straight")),
            // A named segment is cut to the length of its object. Memory after the cut is new.
            [(50_000, true), (7, true), (30_000, false), (30_000, true)],
        ),
    ] {
        let mut shared = filled(placement, &content(50_000), "version 1");
        for (version, (length, is_straight)) in (2_u8..).zip(steps) {
            let bytes: Vec<u8> = content(length).iter().map(|byte| byte ^ version).collect();
            let (into, buffer, mut place) = begun(Placement::Reuse(shared), length);
            shared = buffer;
            assert!(shared.as_slice().is_empty(), "nothing of the old object");
            let half = length / 2;
            for range in [half..length, 0..half] {
                match &mut place {
                    Transfer::Memory(memory) => {
                        let memory = (**memory).as_mut();
                        assert_eq!(memory.len(), length);
                        memory[range.clone()].copy_from_slice(&bytes[range.clone()]);
                    }
                    _ => into.put(range.start as u64, &bytes[range.clone()]).expect("room"),
                }
                into.landed(range.start as u64..range.end as u64).expect("wanted");
                let there = if range.start == 0 { length } else { 0 };
                assert_eq!(shared.as_slice(), &bytes[..there]);
            }
            assert_eq!(matches!(place, Transfer::Memory(_)), is_straight, "{length}");
            drop(place);
            into.finish(Ok(())).expect("complete");
            assert_eq!(shared.wait_for(length).expect("complete"), bytes);
        }
        let reader = SharedBuffer::attach(shared.name()).expect("attached");
        assert_eq!(reader.as_slice(), shared.as_slice());
    }
}

/// Reuse works even while tasks of the download still own its destination.
#[test]
fn a_download_that_never_began_closes_what_it_was_to_use_again() {
    let name = fresh_name("never");
    let shared = filled(Placement::Named(name.clone()), &content(5000), "version 1");
    let into = IntoShared::new(Placement::Reuse(shared), |_| panic!("nothing was made"));
    let error = Error::new(ErrorKind::NotFound, "", "no such object");
    into.finish(Err(&error)).expect_err("not found");
    assert!(!crate::is_there(&name));
    drop(into);
}

#[test]
fn what_a_writer_still_has_is_no_other_objects() {
    for placement in [Placement::Anonymous, Placement::Named(fresh_name("lent"))] {
        let shared = filled(placement, &content(5000), "version 1");
        let (into, shared, place) = begun(Placement::Reuse(shared), 5000);
        let Transfer::Memory(mut memory) = place else {
            panic!("all of it was used before")
        };
        let first = inode(shared.name());
        into.landed(0..5000).expect("wanted");
        into.finish(Ok(())).expect("complete");
        let shared = filled(Placement::Reuse(shared), &[7; 5000], "version 3");
        assert_ne!(inode(shared.name()), first);
        (*memory).as_mut().fill(9);
        assert_eq!(shared.as_slice(), [7; 5000]);
        drop(memory);
        assert_eq!(shared.as_slice(), [7; 5000]);
    }
}

#[test]
fn a_creator_that_closes_it_ends_what_goes_straight_into_it() {
    let shared = filled(Placement::Anonymous, &content(5000), "version 1");
    let (into, mut shared, place) = begun(Placement::Reuse(shared), 5000);
    assert!(matches!(place, Transfer::Memory(_)));
    into.landed(0..10).expect("wanted");
    shared.close();
    let error = into.landed(10..20).expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    drop(place);
}

/// Takes the lock that a creator holds while it creates another object in a segment.
///
/// The creator holds it indefinitely if it is stopped at that moment (SIGSTOP, a debugger, a frozen
/// control group).
fn creators_lock(name: &str) -> std::fs::File {
    use nix::{
        fcntl::{FcntlArg, fcntl},
        libc,
    };
    let companion = std::fs::File::options()
        .read(true)
        .write(true)
        .open(format!("/dev/shm/{name}.pget"))
        .expect("a companion");
    let alone = libc::flock {
        l_type: libc::c_short::try_from(libc::F_WRLCK).expect("a small number"),
        l_whence: 0,
        l_start: 1,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&companion, FcntlArg::F_OFD_SETLK(&alone)).expect("it is free");
    companion
}

#[test]
fn case_137_a_stopped_creator_does_not_hold_up_who_attaches() {
    let name = fresh_name("stopped");
    let shared = filled(Placement::Named(name.clone()), b"there", "");
    let lock = creators_lock(&name);
    let began = std::time::Instant::now();
    let error = SharedBuffer::attach(&name).map(drop).expect_err("it is locked");
    let took = began.elapsed().as_secs_f64();
    assert!((4.9..20.0).contains(&took), "{took} s");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let line = error.to_line();
    assert!(line.contains(&name) && line.contains("may be stopped"), "{line}");
    drop(lock);
    drop(shared);
}

#[test]
fn case_137_a_creator_that_is_done_in_time_is_waited_for() {
    let name = fresh_name("slow");
    let shared = filled(Placement::Named(name.clone()), b"there", "");
    let lock = creators_lock(&name);
    std::thread::scope(|scope| {
        let attached = scope.spawn(|| SharedBuffer::attach(&name).expect("attached").as_slice().to_vec());
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(!attached.is_finished(), "it is locked");
        drop(lock);
        assert_eq!(attached.join().expect("no panic"), b"there");
    });
    drop(shared);
}

#[test]
fn case_137_nothing_else_waits_for_a_stopped_process() {
    let name = fresh_name("others");
    let shared = filled(Placement::Named(name.clone()), b"there", "");
    let lock = creators_lock(&name);
    let began = std::time::Instant::now();
    let listed = pget_shm::list().expect("listed");
    assert!(listed.iter().any(|one| one.name == name));
    pget_shm::sweep().expect("swept");
    // The creator takes this lock for that of a reader, so the next object gets new memory.
    let next = filled(Placement::Reuse(shared), b"next", "");
    assert_eq!(
        SharedBuffer::attach(next.name()).expect("attached").as_slice(),
        b"next"
    );
    assert!(began.elapsed().as_secs() < 4, "{:?}", began.elapsed());
    drop(lock);
}
