//! What lies at the target's name when a file is written: cases 120 and 121.
//!
//! A name that cannot be replaced is written in place or refused, and nothing else is lost.

use std::{
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, symlink},
    },
    process::Command,
};

use nix::errno::Errno;
use pget_testkit::hostile::{Fault, When};

use crate::{
    conveniences::{PART, chmod, get, good, mode, script},
    interrupts::until_served,
    resume::{CHUNK, SIZE, Scene},
    run::{Ended, can_mount, pget, run, spawn, wait},
    servers::PATTERN,
    shim::{Fails, Shim},
};

#[test]
fn case_120_a_name_that_cannot_be_replaced_is_written_in_place() {
    let Some(shim) = Shim::new() else { return };
    for errno in [
        Errno::EBUSY,
        Errno::ETXTBSY,
        Errno::EXDEV,
        Errno::EPERM,
        Errno::EACCES,
        Errno::ENOSYS,
    ] {
        let rename = [Fails {
            call: "rename",
            errno,
            end: PART,
        }];
        for before in [None, Some(10), Some(3_000_000)] {
            for options in [&[][..], &["--sync"]] {
                let scene = Scene::new();
                scene.serve(good());
                let mut inode = None;
                if let Some(length) = before {
                    fs::write(scene.at("x"), vec![b'o'; length]).expect("written");
                    chmod(&scene.at("x"), 0o640);
                    inode = Some(fs::metadata(scene.at("x")).expect("a file").ino());
                }
                get(&scene, &shim, &rename, options).warned("written in place");
                scene.complete();
                if let Some(inode) = inode {
                    let meta = fs::metadata(scene.at("x")).expect("a file");
                    assert_eq!((meta.ino(), mode(&scene.at("x"))), (inode, 0o640));
                }
            }
        }
        // A file that its owner cannot read is replaced even if it cannot be updated in place.
        let scene = Scene::new();
        scene.serve(good());
        fs::write(scene.at("x"), "old").expect("written");
        chmod(&scene.at("x"), 0o200);
        get(&scene, &shim, &rename, &[]).warned("written in place");
        assert_eq!(mode(&scene.at("x")), 0o200);
        // A link may be another user's, so pget does not write through it.
        let scene = Scene::new();
        scene.serve(good());
        fs::write(scene.at("aim"), "kept").expect("written");
        symlink("aim", scene.at("x")).expect("a link");
        get(&scene, &shim, &rename, &[]).failed(8, "all bytes are in");
        assert_eq!(fs::read(scene.at("aim")).expect("a file"), b"kept");
        assert_eq!(scene.names(), ["aim", "x", "x.pget-journal", "x.pget-part"]);
    }
}

#[test]
fn case_120_a_mount_point_is_written_in_place_or_refused_at_once() {
    let scene = Scene::new();
    scene.serve(good());
    let mount = "unshare -m sh -c 'mount --bind \"$DIR/host\" \"$DIR/x\"";
    fs::write(scene.at("host"), "old").expect("written");
    fs::write(scene.at("x"), "").expect("written");
    let probe = run(&mut script(&scene, &format!("{mount}'")));
    if !can_mount(probe.status.success(), &probe.stderr) {
        return;
    }
    let get = "exec \"$PGET\" get \"$URL\" -o \"$DIR/x\" --chunk-size 64KiB";
    run(&mut script(&scene, &format!("{mount} && {get}'"))).warned("written in place");
    let bytes = fs::read(scene.at("host")).expect("a file");
    assert_eq!((bytes.len() as u64, PATTERN.check(0, &bytes)), (SIZE, Ok(())));
    assert_eq!(scene.names(), ["host", "x"]);
    // The mount is read-only, so the file cannot be written either.
    let before = scene.server.requests("/o").len();
    let read_only = format!("{mount} && mount -o remount,bind,ro \"$DIR/x\" && {get}'");
    run(&mut script(&scene, &read_only)).failed(8, "is a mount point");
    assert_eq!(scene.server.requests("/o").len(), before, "nothing was asked for");
    assert_eq!(scene.names(), ["host", "x"]);
}

/// Runs a script as another user. Returns `None` if that is not possible.
fn as_nobody(scene: &Scene, text: &str) -> Option<Ended> {
    use std::os::unix::process::CommandExt as _;
    const NOBODY: u32 = 65534;
    let probe = Command::new("true").uid(NOBODY).gid(NOBODY).status();
    if !probe.as_ref().is_ok_and(std::process::ExitStatus::success) {
        eprintln!("skipped: no other user to be here: {probe:?}");
        return None;
    }
    // Every user can reach this place.
    let program = scene.at("program");
    fs::copy(env!("CARGO_BIN_EXE_pget"), &program).expect("a copy");
    chmod(&program, 0o755);
    let mut command = script(scene, text);
    command.env("PGET", &program).uid(NOBODY).gid(NOBODY);
    let ended = run(&mut command);
    fs::remove_file(program).expect("a copy");
    Some(ended)
}

#[test]
fn case_120_folders_that_do_not_let_a_file_be_replaced() {
    let scene = Scene::new();
    scene.serve(good());
    let folder = scene.at("f");
    fs::create_dir(&folder).expect("a folder");
    let target = folder.join("x");
    let before = |mode: u32| {
        fs::write(&target, "old").expect("written");
        chmod(&target, mode);
    };
    let untouched = |scene: &Scene, requests: usize| {
        assert_eq!(fs::read(&target).expect("a file"), b"old");
        assert_eq!(
            scene.server.requests("/o").len(),
            requests,
            "nothing was asked for"
        );
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 1);
    };
    chmod(scene.folder(), 0o755);
    let get = "\"$PGET\" get \"$URL\" -o \"$DIR/f/x\" --chunk-size 64KiB";
    before(0o666);
    chmod(&folder, 0o1777);
    let Some(ended) = as_nobody(&scene, get) else {
        return;
    };
    ended.warned("written in place");
    let bytes = fs::read(&target).expect("a file");
    assert_eq!((bytes.len() as u64, PATTERN.check(0, &bytes)), (SIZE, Ok(())));
    // The file can be neither replaced nor written.
    before(0o644);
    let requests = scene.server.requests("/o").len();
    let ended = as_nobody(&scene, get).expect("the same user");
    ended.failed(8, "another user's in a sticky folder");
    untouched(&scene, requests);
    // The folder accepts no new file, but the file itself can be written.
    before(0o666);
    chmod(&folder, 0o755);
    let ended = as_nobody(&scene, get).expect("the same user");
    ended.failed(8, "pget cat URL > FILE");
    untouched(&scene, requests);
    let ended = as_nobody(&scene, "\"$PGET\" cat \"$URL\" > \"$DIR/f/x\"").expect("the same user");
    assert!(ended.status.success(), "{ended:?}");
    // A folder that cannot be read can be written and synced.
    fs::remove_file(&target).expect("a file");
    chmod(&folder, 0o333);
    let ended = as_nobody(&scene, &format!("{get} --sync")).expect("the same user");
    ended.succeeded();
    assert_eq!(fs::metadata(&target).expect("a file").len(), SIZE);
    chmod(&folder, 0o755);
}

#[test]
fn case_120_a_target_that_becomes_something_else_loses_nothing() {
    // The part is complete when its name is refused, because a folder now has the name.
    let scene = Scene::new();
    let pace = Fault::Pace {
        bytes_per_second: SIZE / 16,
    };
    scene.serve(good().fault(When::Always, pace));
    let child = spawn(&mut scene.get(&[]));
    until_served(&scene.server, |bytes| bytes > CHUNK);
    fs::create_dir(scene.at("x")).expect("a folder");
    wait(child).failed(8, "all bytes are in");
    assert_eq!(scene.names(), ["x", "x.pget-journal", "x.pget-part"]);
    fs::remove_dir(scene.at("x")).expect("a folder");
    scene.serve(good());
    scene.completes_what_is_there();
}

#[test]
fn case_120_a_folder_that_vanishes_is_an_error() {
    let scene = Scene::new();
    let pace = Fault::Pace {
        bytes_per_second: SIZE / 4,
    };
    scene.serve(good().fault(When::Always, pace));
    fs::create_dir(scene.at("f")).expect("a folder");
    let url = scene.server.url("/o");
    let child = spawn(pget(["get", &url, "-o", "f/x", "--concurrency", "1"]).current_dir(scene.folder()));
    until_served(&scene.server, |bytes| bytes > CHUNK);
    fs::remove_dir_all(scene.at("f")).expect("a folder");
    wait(child).failed(8, "removed or replaced");
    assert!(scene.names().is_empty());
}

#[test]
fn case_121_long_names_are_written_and_resumed() {
    let names = [
        "n".repeat(243).into_bytes(),
        "n".repeat(255).into_bytes(),
        [&[b'n'; 254][..], b"m"].concat(),
        "é".repeat(127).into_bytes(),
        [&[0xff; 200][..], &[b'x'; 50]].concat(),
    ];
    let scene = Scene::new();
    let at = |name: &[u8]| scene.folder().join(std::ffi::OsStr::from_bytes(name));
    let run_with = |name: &[u8], options: &[&str]| {
        let mut command = pget(["get", &scene.server.url("/o"), "--chunk-size", "64KiB"]);
        command.args(["--retries", "0", "--concurrency", "4", "-o"]);
        run(command.arg(at(name)).args(options))
    };
    // They all run at the same time. None takes another's part.
    for name in &names {
        scene.serve(good().fault(When::From(8), Fault::status(503)));
        run_with(name, &["--resume"]).failed(6, "503");
    }
    assert_eq!(
        fs::read_dir(scene.folder()).expect("a folder").count(),
        2 * names.len()
    );
    scene.serve(good());
    for name in &names {
        let before = scene.server.load().body_bytes;
        run_with(name, &["--resume"]).succeeded();
        assert!(scene.server.load().body_bytes - before < SIZE, "it went on");
        let bytes = fs::read(at(name)).expect("a file");
        assert_eq!((bytes.len() as u64, PATTERN.check(0, &bytes)), (SIZE, Ok(())));
    }
    assert_eq!(
        fs::read_dir(scene.folder()).expect("a folder").count(),
        names.len()
    );
    let before = scene.server.requests("/o").len();
    run_with(&[b'n'; 256], &[]).failed(8, "name that is too long");
    assert_eq!(scene.server.requests("/o").len(), before, "nothing was asked for");
}
