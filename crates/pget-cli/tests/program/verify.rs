//! `--verify` for files and shared memory.
//!
//! Wrong bytes get no final name, and the bytes of an earlier attempt are verified with the rest.

use std::{fs, os::unix::fs::FileExt as _, process::Command};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pget::{
    ErrorKind, SharedBuffer,
    verify::{Algorithm, Hasher},
};
use pget_testkit::hostile::{Fault, Hostile, Object, Route, When};

use crate::{
    resume::{SIZE, Scene, asked, journaled},
    run::{pget, run, spawn, wait},
    servers::PATTERN,
};

/// Returns the object with a right or wrong crc32c, as Google Cloud Storage and S3 publish it.
fn published(is_right: bool) -> Object {
    let mut hasher = Hasher::new(Algorithm::Crc32c);
    hasher.update(&PATTERN.bytes(0, usize::try_from(SIZE).expect("small")));
    let sum = hasher.finish();
    let sum = if is_right { sum.bytes() } else { &[0; 4] };
    let text = BASE64_STANDARD.encode(sum);
    let mut object = Object::new(7, SIZE);
    object
        .headers
        .push(("x-goog-hash".into(), format!("crc32c={text}")));
    object.headers.push(("x-amz-checksum-crc32c".into(), text));
    object
        .headers
        .push(("x-amz-checksum-type".into(), "FULL_OBJECT".into()));
    object
}

/// Returns a `get` into `x` of the scene's folder, over plain HTTP or as an S3 object of that
/// server.
fn get(scene: &Scene, by_s3: bool, options: &[&str]) -> Command {
    let http = scene.server.url("/bucket/o");
    let url = if by_s3 { "s3://bucket/o" } else { &http };
    let mut command = pget(["get", url, "-o", "x", "--chunk-size", "64KiB", "--retries", "0"]);
    command.args(["--concurrency", "4"]).args(options);
    command
        .env("AWS_ENDPOINT_URL", scene.server.url("").trim_end_matches('/'))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .current_dir(scene.folder());
    command
}

#[test]
fn a_file_gets_its_name_only_if_its_checksum_is_right() {
    for by_s3 in [false, true] {
        let scene = Scene::new();
        for (is_right, verify, told) in [
            (true, "auto", "verified"),
            (true, "require", "verified"),
            (true, "off", "off"),
            (false, "off", "off"),
            (false, "auto", ""),
            (false, "require", ""),
        ] {
            scene.server.route("/bucket/o", Route::new(published(is_right)));
            let options = ["--verify", verify, "--json", "--progress", "never", "--resume"];
            let ended = run(&mut get(&scene, by_s3, &options));
            if told.is_empty() {
                assert_eq!(ended.status.code(), Some(7), "{by_s3} {verify}: {ended:?}");
                assert!(ended.stderr.contains("checksum mismatch"), "{ended:?}");
                // Bytes that are known to be wrong are not kept for a resume.
                assert!(scene.names().is_empty(), "{by_s3} {verify}: {:?}", scene.names());
                // The file that already has the name keeps it.
                fs::write(scene.at("x"), "before").expect("written");
                run(&mut get(&scene, by_s3, &["--verify", verify])).failed(7, "checksum mismatch");
                assert_eq!(fs::read(scene.at("x")).expect("a file"), b"before");
            } else {
                assert_eq!(ended.status.code(), Some(0), "{by_s3} {verify}: {ended:?}");
                let summary: serde_json::Value = serde_json::from_str(&ended.stderr).expect("one object");
                assert_eq!(summary["verification"], told, "{summary}");
                scene.complete();
            }
            fs::remove_file(scene.at("x")).ok();
        }
    }
}

#[test]
fn what_was_there_before_a_resume_is_verified_too() {
    for by_s3 in [false, true] {
        for (verify, is_damaged) in [
            ("auto", false),
            ("require", false),
            ("auto", true),
            ("require", true),
            ("off", true),
        ] {
            let what = format!("by S3: {by_s3}, {verify}, damaged: {is_damaged}");
            let scene = Scene::new();
            // The HEAD for the checksum succeeds.
            let broken = Route::new(published(true)).fault(When::From(8), Fault::status(503));
            scene.server.route("/bucket/o", broken);
            run(&mut get(&scene, by_s3, &["--resume"])).failed(6, "503");
            let landed = journaled(&scene.at("x.pget-journal"));
            let first = landed.first().expect("something landed").clone();
            if is_damaged {
                let part = fs::OpenOptions::new()
                    .write(true)
                    .open(scene.at("x.pget-part"))
                    .expect("a part");
                let byte = PATTERN.bytes(first.end - 1, 1)[0] ^ 0x10;
                part.write_all_at(&[byte], first.end - 1).expect("written");
            }
            scene.server.route("/bucket/o", Route::new(published(true)));
            let before = scene.server.requests("/bucket/o").len();
            let options = ["--resume", "--verify", verify, "--json", "--progress", "never"];
            let ended = run(&mut get(&scene, by_s3, &options));
            if is_damaged && verify != "off" {
                assert_eq!(ended.status.code(), Some(7), "{what}: {ended:?}");
                assert!(ended.stderr.contains("checksum mismatch"), "{what}: {ended:?}");
                assert!(scene.names().is_empty(), "{what}: {:?}", scene.names());
                continue;
            }
            assert_eq!(ended.status.code(), Some(0), "{what}: {ended:?}");
            let summary: serde_json::Value = serde_json::from_str(&ended.stderr).expect("one object");
            let told = if verify == "off" { "off" } else { "verified" };
            assert_eq!(summary["verification"], told, "{what}: {summary}");
            for seen in &scene.server.requests("/bucket/o")[before..] {
                let range = asked(seen);
                let again = range.start < first.end && first.start < range.end;
                assert!(seen.method != "GET" || !again, "{what}: {range:?} again");
            }
            if is_damaged {
                assert_eq!(scene.names(), ["x"], "{what}: nothing was verified");
            } else {
                scene.complete();
            }
        }
    }
}

#[test]
fn shared_memory_is_verified_and_readers_are_told() {
    let server = Hostile::start().expect("a server");
    let name = format!("pget-cli-{}-verified", std::process::id());
    for (is_right, verify) in [
        (true, "auto"),
        (true, "require"),
        (false, "off"),
        (false, "auto"),
        (false, "require"),
    ] {
        // The server is slow, so that a reader can attach before the end.
        let pace = Fault::Pace {
            bytes_per_second: SIZE / 8,
        };
        let url = server.route("/o", Route::new(published(is_right)).fault(When::UpTo(1), pace));
        let mut child = spawn(
            pget(["shm", "get", &url, "--name", &name, "--verify", verify]).args([
                "--chunk-size",
                "512KiB",
                "--concurrency",
                "4",
            ]),
        );
        let mut line = String::new();
        let mut out = std::io::BufReader::new(child.stdout.take().expect("piped"));
        std::io::BufRead::read_line(&mut out, &mut line).expect("text");
        assert_eq!(line.trim_end(), name);
        let shared = SharedBuffer::attach(&name).expect("attached");
        let waited = shared.wait_for(shared.len());
        if is_right || verify == "off" {
            assert_eq!(PATTERN.check(0, waited.expect("all of it")), Ok(()));
            let id = i32::try_from(child.id()).expect("a process id");
            kill(Pid::from_raw(id), Signal::SIGTERM).expect("it runs");
            wait(child).succeeded();
        } else {
            wait(child).failed(7, "checksum mismatch");
            // All bytes may have arrived before the error was known. The state shows that they are
            // not valid.
            if let Err(error) = waited {
                assert_eq!(error.kind(), ErrorKind::Checksum, "{error}");
            }
            assert_eq!(shared.state(), pget::shm::State::Failed, "{verify}");
        }
        assert!(!fs::exists(format!("/dev/shm/{name}")).expect("looked"));
    }
}

#[test]
fn case_141_what_cannot_be_verified_is_no_mismatch() {
    let composite = || {
        let mut object = Object::new(7, SIZE);
        let headers = [
            ("x-amz-checksum-crc32c", "AAAAAA==-3"),
            ("x-amz-checksum-type", "COMPOSITE"),
        ];
        let headers = headers.map(|(name, value)| (name.into(), value.into()));
        object.headers.extend(headers);
        object
    };
    let unknown = || {
        let mut object = Object::new(7, SIZE);
        let headers = [("x-goog-hash", "sha3=AAAA"), ("x-amz-checksum-blake3", "AAAA")];
        let headers = headers.map(|(name, value)| (name.into(), value.into()));
        object.headers.extend(headers);
        // An MD5 in quotes would be usable.
        object.etag = Some("\"not an MD5\"".into());
        object
    };
    let refused = || Route::new(published(true)).fault(When::Head, Fault::status(403));
    for (by_s3, route, says) in [
        (
            false,
            Route::new(Object::new(7, SIZE)),
            "no checksum of a known kind is published",
        ),
        (
            true,
            Route::new(Object::new(7, SIZE)),
            "no checksum of a known kind is published",
        ),
        (
            false,
            Route::new(unknown()),
            "no checksum of a known kind is published",
        ),
        (
            true,
            Route::new(unknown()),
            "no checksum of a known kind is published",
        ),
        (true, Route::new(composite()), "is a composite one"),
        (true, refused(), "HEAD, which reports its checksum, is refused"),
    ] {
        let scene = Scene::new();
        scene.server.route("/bucket/o", route);
        let ended = run(&mut get(&scene, by_s3, &["--verify", "require"]));
        assert!(!ended.stderr.contains("mismatch"), "{ended:?}");
        assert!(ended.stderr.contains("cannot verify"), "{ended:?}");
        ended.failed(9, says);
        assert!(scene.names().is_empty(), "{:?}", scene.names());
    }
    // A part is refused before any request.
    let scene = Scene::new();
    scene.server.route("/bucket/o", Route::new(published(true)));
    let mut part = get(&scene, false, &["--verify", "require", "--length", "5"]);
    run(&mut part).failed(2, "verif");
    assert!(scene.server.requests("/bucket/o").is_empty());
}

/// A digest that is garbled, or that is of another body than the whole object's, does not count.
#[test]
fn case_141_a_digest_that_cannot_be_used_is_no_mismatch() {
    for (name, value) in [
        ("x-goog-hash", "crc32c=!!!"),
        ("x-goog-hash", "crc32c="),
        ("x-goog-hash", "md5=AAAA"),
        ("Content-MD5", "not base64"),
        ("Content-Digest", "sha-256=:AAAA:"),
        ("x-amz-checksum-sha256", "AAAA"),
    ] {
        let mut object = Object::new(7, SIZE);
        object.headers.push((name.into(), value.into()));
        let scene = Scene::new();
        scene.server.route("/bucket/o", Route::new(object));
        for by_s3 in [false, true] {
            let ended = run(&mut get(&scene, by_s3, &["--verify", "require"]));
            assert!(!ended.stderr.contains("mismatch"), "{name}: {value}: {ended:?}");
            ended.failed(9, "cannot verify");
            assert!(scene.names().is_empty(), "{name}: {value}: {:?}", scene.names());
        }
        run(&mut get(&scene, false, &[])).succeeded();
        fs::remove_file(scene.folder().join("x")).ok();
    }
}
