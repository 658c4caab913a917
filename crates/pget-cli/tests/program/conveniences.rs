//! A call that is only a convenience fails, and the file is complete (cases 119 to 123, 134, 135).
//!
//! A failure that may have lost bytes stays a failure, and the landed bytes are kept.

use std::{
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::Path,
    process::Command,
};

use nix::errno::Errno;
use pget_testkit::hostile::{Fault, Object, Route, When};
use sha2::Digest as _;

use crate::{
    resume::{CHUNK, SIZE, Scene, journaled, total},
    run::{Ended, can_mount, pget, plain_environment, run},
    servers::PATTERN,
    shim::{Fails, Shim},
};

const PART: &str = ".pget-part";
const JOURNAL: &str = ".pget-journal";

fn good() -> Route {
    Route::new(Object::new(7, SIZE))
}

/// Makes the server slow enough for a journal that is written every 10 ms, even if a sync takes
/// some time.
fn slow(scene: &Scene) {
    let pace = Fault::Pace {
        bytes_per_second: SIZE / 4,
    };
    scene.serve(good().fault(When::Always, pace));
}

/// Runs a get of the scene's object with failing calls.
fn get(scene: &Scene, shim: &Shim, fails: &[Fails], options: &[&str]) -> Ended {
    let mut command = scene.get(options);
    shim.fail(&mut command, fails);
    run(&mut command)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
}

/// Returns a shell script with the program in `$PGET`, the URL in `$URL` and the folder in `$DIR`.
fn script(scene: &Scene, text: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(text);
    plain_environment(&mut command);
    command
        .env("PGET", env!("CARGO_BIN_EXE_pget"))
        .env("URL", scene.server.url("/o"))
        .env("DIR", scene.folder());
    command
}

#[test]
fn case_119_a_refused_convenience_costs_no_file() {
    let Some(shim) = Shim::new() else { return };
    let shim = &shim;
    std::thread::scope(|scope| {
        for errno in [
            Errno::EINVAL,
            Errno::ENOSYS,
            Errno::EOPNOTSUPP,
            Errno::EPERM,
            Errno::EROFS,
        ] {
            scope.spawn(move || refused(shim, errno));
        }
    });
}

fn refused(shim: &Shim, errno: Errno) {
    let often = &["--journal-interval", "10ms"][..];
    let fails = |call, end| Fails { call, errno, end };
    for (calls, says) in [
        (vec![fails("fdatasync", PART)], "cannot be synced here"),
        (
            vec![fails("fdatasync", JOURNAL)],
            "x.pget-journal cannot be written",
        ),
        (vec![fails("pwrite", JOURNAL)], "x.pget-journal cannot be written"),
        (vec![fails("flock", PART)], "no locks"),
        (vec![fails("fallocate", ""), fails("fsync", "")], ""),
    ] {
        let scene = Scene::new();
        slow(&scene);
        let ended = get(&scene, shim, &calls, often);
        if says.is_empty() {
            ended.succeeded();
        } else {
            ended.warned(says);
        }
        scene.complete();
    }
    // The part is emptied and the folder is not synced: the file that was there before is replaced.
    let scene = Scene::new();
    let folder = scene.folder().to_str().expect("text").to_owned();
    scene.fail_with_something_landed();
    scene.serve(good());
    let calls = [fails("ftruncate", PART), fails("fsync", &folder)];
    get(&scene, shim, &calls, &[]).succeeded();
    scene.complete();
    // A folder that cannot be synced alone is synced with all others, as `--sync` asks.
    get(&scene, shim, &[fails("fsync", &folder)], &["--sync"]).succeeded();
    let neither = [fails("fsync", &folder), fails("syncfs", "")];
    get(&scene, shim, &neither, &["--sync"]).warned("cannot be synced");
    get(&scene, shim, &[fails("fsync", PART)], &["--sync"]).succeeded();
    scene.complete();
    // If the file cannot be synced, it exists, but `--sync` is not fulfilled.
    let none = [
        fails("fsync", PART),
        fails("fdatasync", PART),
        fails("syncfs", ""),
    ];
    get(&scene, shim, &none, &["--sync"]).failed(8, "refuses to sync");
    scene.complete();
}

#[test]
fn case_119_a_lost_byte_is_no_refusal() {
    let Some(shim) = Shim::new() else { return };
    for errno in [Errno::EIO, Errno::ENOSPC, Errno::EDQUOT, Errno::ESTALE] {
        let fails = |call| Fails {
            call,
            errno,
            end: PART,
        };
        let scene = Scene::new();
        slow(&scene);
        let often = ["--journal-interval", "10ms"];
        get(&scene, &shim, &[fails("fdatasync")], &often).failed(8, "cannot be synced");
        assert!(scene.names().is_empty(), "{:?}", scene.names());
        get(&scene, &shim, &[fails("fsync")], &["--sync"]).failed(8, "cannot be synced");
        get(&scene, &shim, &[fails("close")], &[]).failed(8, "cannot be written");
        if errno != Errno::ESTALE {
            get(&scene, &shim, &[fails("fallocate")], &[]).failed(8, "has no room");
        }
        assert!(scene.names().is_empty(), "{:?}", scene.names());
    }
}

#[test]
fn case_119_a_journal_that_cannot_be_made_costs_no_file() {
    let scene = Scene::new();
    scene.serve(good());
    // The journal's name belongs to something that is not a journal of this user, and cannot be
    // removed as one.
    fs::create_dir(scene.at("x.pget-journal")).expect("a folder");
    let ended = scene.run(&[]);
    ended.failed(8, "x.pget-journal");
    fs::remove_dir(scene.at("x.pget-journal")).expect("a folder");
    // There is a descriptor too few for the journal, or a connection fewer. Whatever fails first,
    // no file remains.
    let text = "ulimit -n 14; exec \"$PGET\" get \"$URL\" -o \"$DIR/x\" --concurrency 1";
    let ended = run(&mut script(&scene, text));
    if ended.status.success() {
        scene.complete();
    } else {
        assert!(scene.names().is_empty(), "{ended:?} {:?}", scene.names());
    }
}

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
    let child = scene
        .get(&[])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    crate::interrupts::until(&scene.server, |server| server.load().body_bytes > CHUNK);
    fs::create_dir(scene.at("x")).expect("a folder");
    crate::run::wait(child).failed(8, "all bytes are in");
    assert_eq!(scene.names(), ["x", "x.pget-journal", "x.pget-part"]);
    fs::remove_dir(scene.at("x")).expect("a folder");
    scene.serve(good());
    let before = scene.server.load().body_bytes;
    scene.run(&["--resume"]).succeeded();
    scene.complete();
    assert!(
        scene.server.load().body_bytes - before <= CHUNK,
        "it was all there"
    );
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
    let child = pget(["get", &url, "-o", "f/x", "--concurrency", "1"])
        .current_dir(scene.folder())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    crate::interrupts::until(&scene.server, |server| server.load().body_bytes > CHUNK);
    fs::remove_dir_all(scene.at("f")).expect("a folder");
    crate::run::wait(child).failed(8, "removed or replaced");
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
    let child = scene
        .get(&[])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    crate::interrupts::until(&scene.server, |server| server.load().body_bytes > before + CHUNK);
    assert_eq!(mode(&scene.at("x.pget-part")), 0o600);
    crate::run::wait(child).succeeded();
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

#[test]
fn case_123_a_file_system_that_takes_bytes_in_order_gets_them_in_order() {
    let Some(shim) = Shim::new() else { return };
    let fails = |call, errno| Fails {
        call,
        errno,
        end: PART,
    };
    for errno in [Errno::EINVAL, Errno::ESPIPE, Errno::EOPNOTSUPP, Errno::EPERM] {
        let order = fails("order", errno);
        let no_length = [
            order,
            fails("fallocate", Errno::EOPNOTSUPP),
            fails("ftruncate", Errno::EOPNOTSUPP),
        ];
        // The refusal is known before the first byte, or found by the first byte out of order.
        let found_late = [order, fails("fallocate", Errno::EOPNOTSUPP)];
        for calls in [&no_length[..], &found_late] {
            for options in [
                &["--concurrency", "4"][..],
                &["--concurrency", "1"],
                &["--sync"],
                &["--resume"],
                &["--verify", "off", "--concurrency", "16"],
            ] {
                let scene = Scene::new();
                scene.serve(good());
                let get = || {
                    let url = scene.server.url("/o");
                    let mut command = pget(["get", &url, "-o", "x", "--chunk-size", "64KiB"]);
                    command.args(options).current_dir(scene.folder());
                    shim.fail(&mut command, calls);
                    run(&mut command).succeeded();
                    scene.complete();
                };
                get();
                // The download replaces an older file, and the part of an earlier attempt.
                fs::write(scene.at("x.pget-part"), "an earlier one").expect("written");
                get();
            }
            let scene = Scene::new();
            scene.serve(good());
            let piece = ["--offset", "100001", "--length", "1000000"];
            get(&scene, &shim, calls, &piece).succeeded();
            let bytes = fs::read(scene.at("x")).expect("a file");
            assert_eq!((bytes.len(), PATTERN.check(100_001, &bytes)), (1_000_000, Ok(())));
            // The name cannot be replaced either, as in a mounted object store.
            let calls = [calls, &[fails("rename", Errno::ENOSYS)]].concat();
            for _ in 0..2 {
                get(&scene, &shim, &calls, &[]).warned("written in place");
                scene.complete();
            }
            // A failure in the middle leaves nothing that could be resumed.
            scene.serve(good().fault(When::From(12), Fault::status(503)));
            get(&scene, &shim, &calls, &[]).failed(6, "503");
            assert_eq!(scene.names(), ["x"]);
        }
    }
}

#[test]
fn case_134_a_part_that_was_copied_is_not_emptied() {
    let scene = Scene::new();
    let landed = scene.fail_with_something_landed();
    scene.serve(good());
    let (part, journal) = (scene.at("x.pget-part"), scene.at("x.pget-journal"));
    let copy = |name: &str| {
        fs::copy(scene.at(name), scene.at("copy")).expect("a copy");
        fs::rename(scene.at("copy"), scene.at(name)).expect("renamed");
    };
    // If they are moved within one file system, they are the same files.
    fs::rename(&part, scene.at("y.pget-part")).expect("renamed");
    fs::rename(&journal, scene.at("y.pget-journal")).expect("renamed");
    fs::rename(scene.at("y.pget-part"), &part).expect("renamed");
    fs::rename(scene.at("y.pget-journal"), &journal).expect("renamed");
    copy("x.pget-journal");
    copy("x.pget-part");
    let bytes = fs::read(&part).expect("a part");
    let refused = |says: &str| {
        let before = scene.server.requests("/o").len();
        scene.run(&["--resume"]).failed(8, says);
        assert_eq!(scene.server.requests("/o").len(), before, "nothing was asked for");
        assert_eq!(scene.names(), ["x.pget-journal", "x.pget-part"]);
    };
    refused("is not the file that");
    assert!(fs::read(&part).expect("a part") == bytes, "nothing was touched");
    // The part is cut, as by a copy that was interrupted.
    fs::OpenOptions::new()
        .write(true)
        .open(&part)
        .and_then(|part| part.set_len(CHUNK))
        .expect("cut");
    refused("fewer than");
    fs::write(&part, &bytes).expect("written");
    // Both entries of its journal are garbled.
    let good_journal = fs::read(&journal).expect("a journal");
    let mut garbled = good_journal.clone();
    for byte in &mut garbled {
        *byte ^= 0x55;
    }
    fs::write(&journal, &garbled).expect("written");
    refused("is garbled");
    assert!(fs::read(&part).expect("a part") == bytes, "nothing was touched");
    assert!(total(&landed) > 0);
    // Without resume, the download starts over, as always.
    scene.run(&[]).succeeded();
    scene.complete();
}

/// Returns a route of the object 7 in S3, with its checksum.
fn published() -> Route {
    let mut object = Object::new(7, SIZE);
    let bytes = PATTERN.bytes(0, usize::try_from(SIZE).expect("small"));
    let digest = sha2::Sha256::digest(bytes);
    let digest = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest);
    object.headers = vec![
        ("x-amz-checksum-sha256".to_owned(), digest),
        ("x-amz-checksum-type".to_owned(), "FULL_OBJECT".to_owned()),
    ];
    Route::new(object)
}

/// Returns a get of that object that resumes.
fn get_from_s3(scene: &Scene) -> Command {
    let endpoint = scene.server.url("").trim_end_matches('/').to_owned();
    let mut command = pget(["get", "s3://b/o", "-o", "x", "--chunk-size", "64KiB"]);
    command
        .args(["--retries", "0", "--concurrency", "4", "--resume"])
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_REGION", "us-east-1")
        .current_dir(scene.folder());
    command
}

/// Makes a get fail after some chunks. Returns the ranges in its journal.
fn some_from_s3(scene: &Scene) -> Vec<std::ops::Range<u64>> {
    let busy = published().fault(When::From(8), Fault::status(503));
    scene.server.route("/b/o", busy);
    run(&mut get_from_s3(scene)).failed(6, "503");
    scene.server.route("/b/o", published());
    let landed = journaled(&scene.at("x.pget-journal"));
    assert!(total(&landed) > 0, "{landed:?}");
    landed
}

#[test]
fn case_134_a_copy_is_gone_on_with_where_all_is_verified() {
    for damaged in [false, true] {
        let scene = Scene::new();
        let landed = some_from_s3(&scene);
        fs::copy(scene.at("x.pget-part"), scene.at("copy")).expect("a copy");
        fs::rename(scene.at("copy"), scene.at("x.pget-part")).expect("renamed");
        if damaged {
            let part = fs::OpenOptions::new().write(true).open(scene.at("x.pget-part"));
            part.and_then(|part| part.write_all_at(b"damaged", landed[0].start))
                .expect("written");
        }
        run(&mut get_from_s3(&scene)).failed(8, "--verify require");
        let before = scene.server.load().body_bytes;
        let ended = run(get_from_s3(&scene).args(["--verify", "require"]));
        if damaged {
            ended.failed(7, "checksum");
            assert!(scene.names().is_empty(), "{:?}", scene.names());
        } else {
            ended.succeeded();
            assert!(scene.server.load().body_bytes - before < SIZE, "it went on");
            scene.complete();
        }
    }
}

#[test]
fn case_134_a_file_with_the_number_of_a_removed_one_is_another() {
    let scene = Scene::new();
    scene.fail_with_something_landed();
    scene.serve(good());
    // A restored backup is a new file. The file system may assign it the number of the removed one.
    let part = scene.at("x.pget-part");
    let (bytes, inode) = (
        fs::read(&part).expect("a part"),
        fs::metadata(&part).expect("a part").ino(),
    );
    fs::remove_file(&part).expect("a part");
    let made = fs::metadata(&part).is_err() && fs::write(&part, bytes).is_ok();
    assert!(made);
    let meta = fs::metadata(&part).expect("a part");
    if meta.created().is_err() && meta.ino() == inode {
        eprintln!("skipped: no time of birth here");
        return;
    }
    scene.run(&["--resume"]).failed(8, "is not the file that");
    assert_eq!(scene.names(), ["x.pget-journal", "x.pget-part"]);
}

#[test]
fn case_135_a_disk_that_fills_keeps_what_has_landed() {
    let Some(shim) = Shim::new() else { return };
    for options in [&[][..], &["--resume"]] {
        let scene = Scene::new();
        scene.serve(good());
        let mut command = scene.get(options);
        // The file system reserves nothing, and is full after some chunks.
        let list = format!("fallocate:95:{PART};full:{}:{PART};", 10 * CHUNK);
        shim.set(&mut command, &list);
        run(&mut command).failed(8, "read with resume to go on (pget get --resume)");
        assert_eq!(scene.names(), ["x.pget-journal", "x.pget-part"]);
        let landed = journaled(&scene.at("x.pget-journal"));
        assert!(total(&landed) >= 3 * CHUNK, "{landed:?}");
        let part = fs::File::open(scene.at("x.pget-part")).expect("a part");
        for range in &landed {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).expect("small")];
            part.read_exact_at(&mut bytes, range.start).expect("it is there");
            assert_eq!(PATTERN.check(range.start, &bytes), Ok(()));
        }
        let before = scene.server.load().body_bytes;
        scene.run(&["--resume"]).succeeded();
        scene.complete();
        assert_eq!(scene.server.load().body_bytes - before, SIZE - total(&landed));
    }
}

#[test]
fn case_135_a_full_disk_takes_the_journal_of_a_part() {
    const BIG: u64 = 24 << 20;
    let scene = Scene::new();
    scene.server.route("/o", Route::new(Object::new(7, BIG)));
    let mount = "unshare -m sh -c 'mount -t tmpfs -o size=40m none \"$DIR\"";
    let probe = run(&mut script(&scene, &format!("{mount}'")));
    if !can_mount(probe.status.success(), &probe.stderr) {
        return;
    }
    // Other programs fill the disk after the download has begun. In memory, nothing is reserved.
    // The reader of the first bytes shows when to do that.
    let pace = Fault::Pace {
        bytes_per_second: 3 << 20,
    };
    let route = Route::new(Object::new(7, BIG)).fault(When::Always, pace);
    scene.server.route("/o", route);
    let text = format!(
        "{mount} && {{ \"$PGET\" get \"$URL\" -o \"$DIR/x\" --chunk-size 1MiB --concurrency 2 & \
         while [ ! -e \"$DIR/x.pget-journal\" ]; do sleep 0.02; done; \
         head -c 30m /dev/zero > \"$DIR/others\"; wait $!; status=$?; ls -A \"$DIR\" >&2; \
         rm \"$DIR/others\"; \"$PGET\" get \"$URL\" -o \"$DIR/x\" --resume --json --progress never; \
         cat \"$DIR/x\"; exit $status; }}'"
    );
    let ended = run(&mut script(&scene, &text));
    assert_eq!(ended.status.code(), Some(8), "{}", ended.stderr);
    assert!(ended.stderr.contains("pget get --resume"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("x.pget-journal\nx.pget-part"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stdout.len() as u64, BIG, "{}", ended.stderr);
    assert_eq!(PATTERN.check(0, &ended.stdout), Ok(()));
    let json = ended
        .stderr
        .lines()
        .find(|line| line.starts_with('{'))
        .expect("figures");
    let figures: serde_json::Value = serde_json::from_str(json).expect("one object");
    assert!(figures["bytes"].as_u64() < Some(BIG), "it went on: {json}");
}

#[test]
fn case_135_a_name_that_is_refused_at_the_end_keeps_all() {
    let Some(shim) = Shim::new() else { return };
    for route in [
        good(),
        // An object without an identity has no journal, but the part is complete.
        Route::new(Object {
            etag: None,
            last_modified: None,
            ..Object::new(7, SIZE)
        }),
    ] {
        let scene = Scene::new();
        scene.serve(route);
        let fails = [Fails {
            call: "rename",
            errno: Errno::EIO,
            end: PART,
        }];
        get(&scene, &shim, &fails, &[]).failed(8, "all bytes are in");
        assert!(scene.at("x.pget-part").exists());
        let bytes = fs::read(scene.at("x.pget-part")).expect("a part");
        assert_eq!((bytes.len() as u64, PATTERN.check(0, &bytes)), (SIZE, Ok(())));
    }
}

#[test]
fn case_135_what_cannot_be_read_back_is_kept() {
    let Some(shim) = Shim::new() else { return };
    for (end, says) in [(JOURNAL, "cannot be read"), (PART, "cannot be read back")] {
        let scene = Scene::new();
        let landed = some_from_s3(&scene);
        let mut command = get_from_s3(&scene);
        let fails = Fails {
            call: "pread",
            errno: Errno::EIO,
            end,
        };
        shim.fail(&mut command, &[fails]);
        run(&mut command).failed(8, says);
        assert_eq!(scene.names(), ["x.pget-journal", "x.pget-part"]);
        let now = journaled(&scene.at("x.pget-journal"));
        assert!(total(&now) >= total(&landed), "{now:?}");
        let before = scene.server.load().body_bytes;
        run(&mut get_from_s3(&scene)).succeeded();
        scene.complete();
        assert!(scene.server.load().body_bytes - before < SIZE, "it went on");
    }
}
