//! A call that is only a convenience fails, and the file is complete (cases 119 and 123).
//!
//! A failure that may have lost bytes stays a failure, and the landed bytes are kept.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::Command,
};

use nix::errno::Errno;
use pget_testkit::hostile::{Fault, Object, Route, When};

use crate::{
    resume::{SIZE, Scene},
    run::{Ended, pget, plain_environment, run},
    servers::PATTERN,
    shim::{Fails, Shim},
};

pub(super) const PART: &str = ".pget-part";
pub(super) const JOURNAL: &str = ".pget-journal";

pub(super) fn good() -> Route {
    Route::new(Object::new(7, SIZE))
}

/// Makes the server slow enough for a journal that is written every 10 ms, even if a sync takes
/// some time.
pub(super) fn slow(scene: &Scene) {
    let pace = Fault::Pace {
        bytes_per_second: SIZE / 4,
    };
    scene.serve(good().fault(When::Always, pace));
}

/// Runs a get of the scene's object with failing calls.
pub(super) fn get(scene: &Scene, shim: &Shim, fails: &[Fails], options: &[&str]) -> Ended {
    let mut command = scene.get(options);
    shim.fail(&mut command, fails);
    run(&mut command)
}

pub(super) fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").mode() & 0o7777
}

pub(super) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
}

/// Returns a shell script with the program in `$PGET`, the URL in `$URL` and the folder in `$DIR`.
pub(super) fn script(scene: &Scene, text: &str) -> Command {
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
