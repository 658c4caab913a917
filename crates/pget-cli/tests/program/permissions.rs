//! Who may read a file that replaces another: case 122.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::Path,
    process::Command,
};

use nix::errno::Errno;
use pget_testkit::hostile::{Fault, When};

use crate::{
    conveniences::{PART, chmod, get, good, mode, script},
    interrupts::until_served,
    resume::{CHUNK, SIZE, Scene},
    run::{run, spawn, wait},
    shim::{Fails, Shim},
};

#[test]
fn case_122_a_replaced_file_keeps_its_mode() {
    let scene = Scene::new();
    for umask in ["022", "077", "000"] {
        for was in [0o600, 0o640, 0o644, 0o444, 0o400, 0o755, 0o666, 0o4755] {
            scene.serve(good());
            fs::write(scene.at("x"), "old").expect("written");
            chmod(&scene.at("x"), was);
            let text = format!("umask {umask}; exec \"$PGET\" get \"$URL\" -o \"$DIR/x\"");
            run(&mut script(&scene, &text)).succeeded();
            scene.complete();
            assert_eq!(mode(&scene.at("x")), was & 0o777, "umask {umask}, mode {was:o}");
        }
        // The file is new, or replaces a link. Its mode is not wider than that of the link's
        // target.
        for (aim, expected) in [(None, 0o666), (Some(0o640), 0o640), (Some(0o755), 0o644)] {
            fs::remove_file(scene.at("x")).expect("a file");
            if let Some(aim) = aim {
                fs::write(scene.at("aim"), "old").expect("written");
                chmod(&scene.at("aim"), aim);
                symlink("aim", scene.at("x")).expect("a link");
            }
            let text = format!("umask {umask}; exec \"$PGET\" get \"$URL\" -o \"$DIR/x\"");
            run(&mut script(&scene, &text)).succeeded();
            fs::remove_file(scene.at("aim")).ok();
            let left = !u32::from_str_radix(umask, 8).expect("digits");
            assert_eq!(mode(&scene.at("x")), expected & left, "umask {umask}, {aim:?}");
        }
    }
}

#[test]
fn case_122_a_part_is_as_private_as_the_file() {
    let scene = Scene::new();
    // The part belongs to a file that did not exist, and that is private at the next attempt.
    scene.fail_with_something_landed();
    chmod(&scene.at("x.pget-part"), 0o644);
    fs::write(scene.at("x"), "old").expect("written");
    chmod(&scene.at("x"), 0o600);
    scene.serve(good().fault(When::From(1), Fault::status(503)));
    scene.run(&["--resume"]).failed(6, "503");
    assert_eq!(mode(&scene.at("x.pget-part")), 0o600);
    for options in [&["--resume"][..], &[]] {
        scene.serve(good());
        scene.run(options).succeeded();
        scene.complete();
        assert_eq!(mode(&scene.at("x")), 0o600);
    }
    // Check while the part grows.
    let before = scene.server.load().body_bytes;
    let pace = Fault::Pace {
        bytes_per_second: SIZE / 16,
    };
    scene.serve(good().fault(When::Always, pace));
    let child = spawn(&mut scene.get(&[]));
    until_served(&scene.server, |bytes| bytes > before + CHUNK);
    assert_eq!(mode(&scene.at("x.pget-part")), 0o600);
    wait(child).succeeded();
    // A mode that cannot be set leaves fewer permissions, not more.
    let Some(shim) = Shim::new() else { return };
    scene.serve(good());
    chmod(&scene.at("x"), 0o644);
    let fails = [Fails {
        call: "fchmod",
        errno: Errno::EPERM,
        end: PART,
    }];
    get(&scene, &shim, &fails, &[]).warned("the mode of");
    assert_eq!(mode(&scene.at("x")), 0o600);
}

#[test]
fn case_122_owner_group_and_access_list_are_kept_or_nobody_gets_more() {
    let scene = Scene::new();
    scene.serve(good());
    let target = scene.at("x");
    let set = |owner: Option<u32>, group: Option<u32>, mode: u32| {
        fs::write(&target, "old").expect("written");
        let given = std::os::unix::fs::chown(&target, owner, group);
        chmod(&target, mode);
        given.is_ok()
    };
    if !nix::unistd::geteuid().is_root() || !set(Some(65534), Some(65534), 0o640) {
        eprintln!("skipped: no file can be given to another user here");
        return;
    }
    scene.run(&[]).succeeded();
    let meta = fs::metadata(&target).expect("a file");
    assert_eq!((meta.uid(), meta.gid(), mode(&target)), (65534, 65534, 0o640));
    // The new file has another group, which gets no more rights than all others.
    let Some(shim) = Shim::new() else { return };
    let fails = [Fails {
        call: "fchown",
        errno: Errno::EPERM,
        end: PART,
    }];
    get(&scene, &shim, &fails, &[]).warned("the group of");
    let meta = fs::metadata(&target).expect("a file");
    assert_eq!((meta.uid(), meta.gid(), mode(&target)), (0, 0, 0o600));
    // If its name is refused, the part belongs to this user again, for another attempt.
    set(Some(65534), Some(65534), 0o640);
    let fails = [Fails {
        call: "rename",
        errno: Errno::EIO,
        end: PART,
    }];
    get(&scene, &shim, &fails, &[]).failed(8, "all bytes are in");
    scene.run(&["--resume"]).succeeded();
    scene.complete();
    // With an access list, the middle of the mode is its mask, to which the group has no right.
    set(Some(0), Some(0), 0o600);
    let list = |path: &Path| Command::new("getfacl").args(["-cp"]).arg(path).output();
    let add = Command::new("setfacl")
        .args(["-m", "u:65534:rw"])
        .arg(&target)
        .status();
    if !add.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no access lists here");
        return;
    }
    let before = list(&target).expect("its list").stdout;
    scene.run(&[]).succeeded();
    assert_eq!(list(&target).expect("its list").stdout, before);
    // An access list that the folder passes to new files is not the file's own.
    let folder = Command::new("setfacl")
        .args(["-d", "-m", "u:65534:rw"])
        .arg(scene.folder())
        .status();
    assert!(folder.is_ok_and(|status| status.success()));
    fs::remove_file(&target).expect("a file");
    set(Some(0), Some(0), 0o660);
    let bare = Command::new("setfacl").arg("-b").arg(&target).status();
    assert!(bare.is_ok_and(|status| status.success()));
    let before = list(&target).expect("its list").stdout;
    scene.run(&[]).succeeded();
    assert_eq!(list(&target).expect("its list").stdout, before);
}
