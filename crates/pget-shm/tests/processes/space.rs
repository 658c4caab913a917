//! Devices that are too small.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use pget_core::ErrorKind;
use pget_shm::{Placement, RingReader, RingWriter, SharedBuffer, State};

use crate::{content, other::Other};

/// Runs this program in a role, with a `/dev/shm` of its own of `size`.
///
/// Returns `None` if the system does not permit that.
fn with_device(size: &str, role: &str) -> Option<Other> {
    let mount = format!("mount -t tmpfs -o size={size} tmpfs /dev/shm");
    let tried = Command::new("unshare").args(["-m", "sh", "-c", &mount]).output();
    let permitted = tried.is_ok_and(|tried| tried.status.success());
    if !permitted {
        let root = nix::unistd::geteuid().is_root();
        assert!(
            !root || std::env::var_os("CI").is_none(),
            "root in CI, and no mount namespace"
        );
        eprintln!("skipped: no mount namespace of one's own here (needs root)");
        return None;
    }
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new("unshare");
    let script = format!("{mount} && exec \"$0\" \"$@\"");
    command.args(["-m", "sh", "-c", &script]).arg(program);
    Some(Other::of(command, role, ""))
}

#[test]
fn a_device_that_is_too_small_is_an_error_at_once() {
    if let Some(other) = with_device("8m", "full") {
        other.ends_well();
    }
}

pub(crate) fn in_a_small_device() {
    let empty = || fs::read_dir("/dev/shm").expect("a folder").next().is_none();
    for length in [9 << 20, 64 << 20, 1 << 40] {
        let made = SharedBuffer::create(Placement::Named("large".into()), length, "");
        let error = made.expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::Destination, "{error}");
        assert!(error.to_line().contains("No space left"), "{}", error.to_line());
        assert!(empty());
    }
    let (shared, filler) =
        SharedBuffer::create(Placement::Named("fits".into()), 7 << 20, "").expect("a segment");
    filler.put(0, &content(7 << 20)).expect("room");
    drop((shared, filler));
    assert!(empty());
}

#[test]
fn a_device_that_others_use_up_meanwhile_is_an_error_and_no_signal() {
    if let Some(other) = with_device("40m", "use-up") {
        other.ends_well();
    }
}

pub(crate) fn where_others_use_up_the_device() {
    // The file has more than one piece. The thread and the other program compete for the rest of
    // the space. A put fails in either case.
    fs::write("/dev/shm/other", vec![1; 6 << 20]).expect("room");
    let (shared, filler) =
        SharedBuffer::create(Placement::Named("mine".into()), 32 << 20, "").expect("a segment");
    let rest = fs::write("/dev/shm/more", vec![1; 18 << 20]);
    let piece = content(1 << 20);
    let mut error = None;
    for start in (0..32 << 20).step_by(piece.len()) {
        if let Err(failed) = filler.put(start, &piece) {
            error = Some(failed);
            break;
        }
        filler.landed(start..start + (1 << 20));
    }
    match error {
        Some(error) => {
            assert_eq!(error.kind(), ErrorKind::Destination, "{error}");
            filler.finish(Err(&error)).expect_err("failed");
            assert_eq!(shared.state(), State::Failed);
            assert_eq!(
                shared.wait_for(32 << 20).expect_err("failed").kind(),
                ErrorKind::Destination
            );
            // The bytes that have arrived can be read.
            assert_eq!(shared.as_slice()[..1 << 20], piece);
        }
        // If the thread was faster, the other program has no space.
        None => assert!(rest.is_err()),
    }
    drop((shared, filler));
    fs::remove_file("/dev/shm/other").expect("removed");
    fs::remove_file("/dev/shm/more").ok();
    assert!(fs::read_dir("/dev/shm").expect("a folder").next().is_none());
}

#[test]
fn a_device_without_a_free_page_is_an_error_and_no_signal() {
    if let Some(other) = with_device("1m", "no-page") {
        other.ends_well();
    }
}

pub(crate) fn where_no_page_is_free() {
    // A page that the other program never wrote cannot be read here.
    fs::File::create("/dev/shm/hole.pget")
        .and_then(|file| file.set_len(4096))
        .expect("a hole");
    fs::set_permissions("/dev/shm/hole.pget", PermissionsExt::from_mode(0o600)).expect("its owner's");
    fs::write("/dev/shm/all", vec![1; 2 << 20]).expect_err("more than there is");
    for length in [0, 1, 5000] {
        let made = SharedBuffer::create(Placement::Named("mine".into()), length, "");
        assert_eq!(made.expect_err("full").kind(), ErrorKind::Destination);
    }
    let made = RingWriter::create(Some("mine"), 4096);
    assert_eq!(made.expect_err("full").kind(), ErrorKind::Destination);
    assert_eq!(pget_shm::list().expect("a folder"), []);
    let left = fs::read_dir("/dev/shm").expect("a folder").count();
    assert_eq!(left, 2, "what others made");

    // The device has a page for the companion and none for the ring. A reader that polls for the
    // ring must not touch a missing page.
    let page = fs::metadata("/dev/shm/all").expect("a file").len() - 4096;
    let all = fs::OpenOptions::new().write(true).open("/dev/shm/all");
    all.and_then(|all| all.set_len(page)).expect("cut");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                RingReader::attach("mine").map(drop).ok();
            }
        });
        for _ in 0..500 {
            let made = RingWriter::create(Some("mine"), 4096);
            assert_eq!(made.expect_err("full").kind(), ErrorKind::Destination);
        }
        done.store(true, Ordering::Relaxed);
    });
}
