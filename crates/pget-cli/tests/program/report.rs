//! Output in addition to the bytes: `stat`, the summary, the bar, the log.

use std::{fs::File, process::Stdio};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use pget_testkit::hostile::{Fault, Hostile, Object, Route, When};
use serde_json::Value;

use crate::{
    run::{pget, run, wait},
    servers::{PATTERN, Transports},
};

const SIZE: usize = 1_000_000;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

#[test]
fn stat_tells_size_and_revision_on_every_transport() {
    let transports = Transports::start();
    transports.put("o", SIZE);
    for (transport, mut command) in transports.commands("stat", "o", &[]) {
        let text = String::from_utf8(run(&mut command).succeeded()).expect("text");
        assert!(
            text.starts_with("size: 1000000 bytes\nrevision: "),
            "{transport}: {text}"
        );
        assert!(
            text.ends_with('\n') && text.lines().count() <= 3,
            "{transport}: {text}"
        );
    }
    for (transport, mut command) in transports.commands("stat", "o", &["--json"]) {
        let text = String::from_utf8(run(&mut command).succeeded()).expect("text");
        assert_eq!(text.lines().count(), 1, "{transport}");
        let told = json(&text);
        assert_eq!(told["size"], SIZE, "{transport}: {told}");
        let revision = told["revision"].as_object().expect("an object");
        assert!(
            revision.values().any(|part| !part.is_null()),
            "{transport}: {told}"
        );
        assert!(
            told.get("chunk_size").is_some() && told.get("ranges").is_some(),
            "{transport}"
        );
    }
}

#[test]
fn a_log_that_cannot_be_written_is_nobodys_loss() {
    let server = Hostile::start().expect("a server");
    for (path, reader_is_gone) in [("/full", false), ("/gone", true)] {
        // A retry is logged too.
        let object = Route::new(Object::new(7, SIZE as u64));
        let url = server.route(path, object.fault_times(When::Always, 1, Fault::status(503)));
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let stderr: Stdio = if reader_is_gone {
            writer.into()
        } else {
            let full = File::options().write(true).open("/dev/full");
            full.expect("a device").into()
        };
        let mut command = pget(["cat", &url, "-v", "--chunk-size", "64KiB"]);
        let child = command.stdout(Stdio::piped()).stderr(stderr).spawn();
        let bytes = wait(child.expect("the program starts")).succeeded();
        assert_eq!((bytes.len(), PATTERN.check(0, &bytes)), (SIZE, Ok(())), "{path}");
        assert_eq!(server.served(path), 1, "it was tried again");
    }
}

#[test]
fn the_summary_adds_up() {
    let server = Hostile::start().expect("a server");
    let route =
        Route::new(Object::new(7, SIZE as u64)).fault_times(When::Later, 1, Fault::Reset { after: 0 });
    let url = server.route("/o", route);
    let options = [
        "--json",
        "--chunk-size",
        "100KB",
        "--window",
        "4",
        "--concurrency",
        "2",
    ];
    let folder = tempfile::tempdir().expect("a folder");
    for (command, requests, retries) in [("cat", 11, 1), ("get", 10, 0)] {
        let mut command = pget([command, &url]);
        command.args(options);
        let ended = run(command.current_dir(folder.path()));
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1);
        let told = json(&ended.stderr);
        assert_eq!(told["bytes"], SIZE, "{told}");
        assert_eq!(
            (&told["requests"], &told["retries"]),
            (&requests.into(), &retries.into()),
            "{told}"
        );
        let number = |name: &str| told[name].as_f64().unwrap_or_else(|| panic!("{name} of {told}"));
        assert!(number("seconds") > 0.0);
        let rate = 1e6 / number("seconds");
        assert!((number("bytes_per_second") / rate - 1.0).abs() < 0.01, "{told}");
        // There are four slots, each of whole pages.
        let peak = number("peak_buffered_bytes");
        assert!(peak >= 1.0 && peak <= 4.0 * f64::from(1 << 20), "{told}");
    }
    // The count is the server's view of both reads.
    assert_eq!(server.requests("/o").len(), 21);
}

#[test]
fn every_transport_has_a_summary() {
    let transports = Transports::start();
    transports.put("o", SIZE);
    for (transport, mut command) in transports.commands("cat", "o", &["--json", "--chunk-size", "64KiB"]) {
        let ended = run(&mut command);
        let told = json(&ended.stderr);
        assert_eq!(
            (&told["bytes"], ended.stdout.len()),
            (&SIZE.into(), SIZE),
            "{transport}"
        );
        let requests = told["requests"].as_u64().expect("a number");
        let one_stream = transport == "python";
        assert_eq!(told["one_stream"], one_stream, "{transport}: {told}");
        // Chunk sizes may be aligned, but not multiplied.
        assert!(
            if one_stream {
                requests == 1
            } else {
                (8..=17).contains(&requests)
            },
            "{transport}: {told}"
        );
    }
}

#[test]
fn the_published_checksum_is_verified_and_told() {
    let server = Hostile::start().expect("a server");
    let mut object = Object::new(7, SIZE as u64);
    let mut hasher = pget::verify::Hasher::new(pget::verify::Algorithm::Crc32c);
    hasher.update(&PATTERN.bytes(0, SIZE));
    let crc = hasher.finish();
    let text = |value: &[u8]| format!("crc32c={}", BASE64_STANDARD.encode(value));
    object.headers.push(("x-goog-hash".into(), text(crc.bytes())));
    let right = server.route("/right", Route::new(object.clone()));
    object.headers[0].1 = text(&[0; 4]);
    let wrong = server.route("/wrong", Route::new(object));
    let silent = server.route("/silent", Route::new(Object::new(7, SIZE as u64)));
    for (url, verify, status, verification) in [
        (&right, "auto", 0, "verified"),
        (&right, "require", 0, "verified"),
        (&right, "off", 0, "off"),
        (&silent, "auto", 0, "unpublished"),
        (&silent, "require", 9, ""),
        (&wrong, "auto", 7, ""),
        (&wrong, "off", 0, "off"),
    ] {
        let ended = run(&mut pget([
            "cat",
            url,
            "--json",
            "--chunk-size",
            "64KiB",
            "--verify",
            verify,
        ]));
        assert_eq!(
            ended.status.code(),
            Some(status),
            "{url} {verify}: {}",
            ended.stderr
        );
        if status == 0 {
            let told = json(&ended.stderr);
            assert_eq!(told["verification"], verification, "{told}");
            let named = if verification == "verified" {
                "crc32c".into()
            } else {
                Value::Null
            };
            assert_eq!(told["checksum"], named, "{told}");
        } else {
            let why = if status == 9 {
                "cannot verify"
            } else {
                "checksum mismatch"
            };
            assert!(ended.stderr.contains(why), "{}", ended.stderr);
            assert!(ended.stdout.len() < SIZE, "the last bytes are kept back");
        }
    }
}

#[test]
fn the_bar_is_on_standard_error_only_and_only_when_wanted() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, SIZE as u64)));
    for (when, drawn) in [("always", true), ("never", false), ("auto", false)] {
        let ended = run(&mut pget(["cat", &url, "--progress", when]));
        assert_eq!(ended.status.code(), Some(0));
        assert_eq!(PATTERN.check(0, &ended.stdout), Ok(()), "{when}");
        assert_eq!(ended.stdout.len(), SIZE, "{when}");
        // Standard error is not a terminal, so "auto" means no.
        assert_eq!(ended.stderr.contains("100%"), drawn, "{when}: {ended:?}");
        assert_eq!(ended.stderr.is_empty(), !drawn, "{when}: {ended:?}");
        assert!(
            !ended.stderr.contains('\u{1b}'),
            "codes for a terminal: {ended:?}"
        );
    }
    let ended = run(&mut pget([
        "cat",
        &server.url("/missing"),
        "--progress",
        "always",
    ]));
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert!(
        ended.status.code() == Some(3) && last.starts_with("pget: "),
        "{ended:?}"
    );
}

#[test]
fn the_log_is_on_standard_error_and_tells_retries() {
    let server = Hostile::start().expect("a server");
    let route = Route::new(Object::new(7, SIZE as u64)).fault_times(When::Always, 1, Fault::status(503));
    let url = server.route("/o", route);
    let ended = run(&mut pget(["-v", "cat", &url]));
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(0), SIZE));
    assert!(ended.stderr.contains("503"), "{}", ended.stderr);
}
