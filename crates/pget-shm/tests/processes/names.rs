//! Names that are taken, planted, or owned by another user.

use std::{
    fs::{self, OpenOptions, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};

use pget_core::ErrorKind;
use pget_shm::{Placement, SharedBuffer, sweep};

use crate::{content, fresh_name, is_there, other::Other};

fn at(file: &str) -> String {
    format!("/dev/shm/{file}")
}

fn refused(name: &str) -> ErrorKind {
    SharedBuffer::attach(name).expect_err("refused").kind()
}

#[test]
fn a_name_that_another_program_uses_is_left_alone() {
    let name = fresh_name("taken");
    fs::write(at(&name), "another's").expect("a file");
    let made = SharedBuffer::create(Placement::Named(name.clone()), 10, "");
    let error = made.expect_err("taken");
    assert_eq!(error.kind(), ErrorKind::Destination);
    assert!(!fs::exists(at(&format!("{name}.pget"))).expect("looked"));
    assert_eq!(refused(&name), ErrorKind::InvalidArgument);
    assert_eq!(fs::read(at(&name)).expect("a file"), b"another's");
    fs::remove_file(at(&name)).expect("removed");
    assert_eq!(refused(&name), ErrorKind::NotFound);
    // The companion's name may be taken too.
    let beside = at(&format!("{name}.pget"));
    for text in ["", "short", &"x".repeat(4096)] {
        fs::write(&beside, text).expect("a file");
        fs::set_permissions(&beside, Permissions::from_mode(0o600)).expect("private");
        SharedBuffer::create(Placement::Named(name.clone()), 10, "").expect_err("taken");
        assert_eq!(fs::read(&beside).expect("a file"), text.as_bytes());
    }
    fs::remove_file(&beside).expect("removed");
}

#[test]
fn a_file_that_took_a_dead_segments_name_is_not_swept() {
    let name = fresh_name("successor");
    let mut filler = Other::start("fill", &format!("{name} 1000"));
    filler.says().expect("its name");
    fs::remove_file(at(&name)).expect("removed");
    fs::write(at(&name), "another's").expect("a file");
    filler.kill();
    sweep().expect("swept");
    assert!(!fs::exists(at(&format!("{name}.pget"))).expect("looked"));
    assert_eq!(fs::read(at(&name)).expect("a file"), b"another's");
    fs::remove_file(at(&name)).expect("removed");
}

#[test]
fn links_are_not_followed_and_what_others_may_change_is_refused() {
    let name = fresh_name("planted");
    let planted = fresh_name("planted-link");
    let (shared, filler) = SharedBuffer::create(Placement::Named(name.clone()), 10, "").expect("a segment");
    filler.put(0, &content(10)).expect("room");
    let (data, beside) = (at(&name), at(&format!("{name}.pget")));
    assert_eq!(fs::metadata(&data).expect("a file").mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(&beside).expect("a file").mode() & 0o7777, 0o600);
    // Both parts, or only one, are symbolic links.
    symlink(&beside, at(&format!("{planted}.pget"))).expect("a link");
    assert_eq!(refused(&planted), ErrorKind::PermissionDenied);
    symlink(&data, at(&planted)).expect("a link");
    assert_eq!(refused(&planted), ErrorKind::PermissionDenied);
    // A creation does not follow a link.
    let made = SharedBuffer::create(Placement::Named(planted.clone()), 3, "");
    assert_eq!(made.expect_err("taken").kind(), ErrorKind::Destination);
    fs::remove_file(at(&format!("{planted}.pget"))).expect("removed");
    let made = SharedBuffer::create(Placement::Named(planted.clone()), 3, "");
    assert_eq!(made.expect_err("taken").kind(), ErrorKind::Destination);
    assert_eq!(fs::read(&data).expect("a file"), content(10));
    fs::remove_file(at(&planted)).expect("removed");
    assert!(!is_there(&planted));

    fs::hard_link(&data, at(&planted)).expect("a link");
    assert_eq!(refused(&name), ErrorKind::PermissionDenied);
    fs::remove_file(at(&planted)).expect("removed");
    for file in [&data, &beside] {
        fs::set_permissions(file, Permissions::from_mode(0o644)).expect("changed");
        assert_eq!(refused(&name), ErrorKind::PermissionDenied);
        fs::set_permissions(file, Permissions::from_mode(0o600)).expect("changed");
        if is_root() {
            std::os::unix::fs::chown(file, Some(12345), None).expect("given away");
            assert_eq!(refused(&name), ErrorKind::PermissionDenied);
            std::os::unix::fs::chown(file, Some(0), None).expect("taken back");
        } else {
            eprintln!("skipped: only root can give files away");
        }
    }
    SharedBuffer::attach(&name).expect("as it was");
    // The owner's close removes only its own files.
    fs::remove_file(&data).expect("removed");
    fs::write(&data, "another's").expect("a file");
    drop(shared);
    assert!(!fs::exists(&beside).expect("looked"));
    assert_eq!(fs::read(&data).expect("a file"), b"another's");
    fs::remove_file(&data).expect("removed");
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn an_anonymous_segment_cannot_be_cut_by_others() {
    let (shared, filler) = SharedBuffer::create(Placement::Anonymous, 10_000, "").expect("a segment");
    filler.put(0, &content(10_000)).expect("room");
    let file = OpenOptions::new()
        .write(true)
        .open(shared.name())
        .expect("the same user may");
    for length in [0, 9_999, 10_001] {
        let error = file.set_len(length).expect_err("sealed");
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    }
}

#[test]
fn what_is_no_segment_is_refused() {
    for (name, kind) in [
        ("/proc/self/fd/0", ErrorKind::InvalidArgument),
        ("/proc/self/status", ErrorKind::InvalidArgument),
        ("/proc/self/fd/99999", ErrorKind::NotFound),
        ("/proc/999999999/fd/3", ErrorKind::NotFound),
        ("a/b", ErrorKind::InvalidArgument),
        ("", ErrorKind::InvalidArgument),
    ] {
        assert_eq!(refused(name), kind, "{name}");
    }
}

#[test]
fn many_make_and_sweep_at_once_and_no_living_segment_goes() {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for round in 0..50 {
                    // Two threads at a time compete for one name.
                    let name = fresh_name(&format!("race-{}", thread / 2));
                    match SharedBuffer::create(Placement::Named(name), 100, "") {
                        Ok((shared, filler)) => {
                            filler.put(0, &[thread; 100]).expect("room");
                            filler.landed(0..100);
                            sweep().expect("swept");
                            let attached = SharedBuffer::attach(shared.name()).expect("it lives");
                            assert_eq!(attached.as_slice(), [thread; 100], "round {round}");
                        }
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Destination, "{error}"),
                    }
                }
            });
        }
    });
    assert!(!is_there(&fresh_name("race-0")) && !is_there(&fresh_name("race-1")));
}
