//! What a failure or a copy leaves is kept: cases 134 and 135.

use std::{
    fs,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    process::Command,
};

use nix::errno::Errno;
use pget_testkit::hostile::{Fault, Object, Route, When};
use sha2::Digest as _;

use crate::{
    conveniences::{JOURNAL, PART, get, good, script},
    resume::{CHUNK, SIZE, Scene, journaled, total},
    run::{can_mount, pget, run},
    servers::PATTERN,
    shim::{Fails, Shim},
};

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
