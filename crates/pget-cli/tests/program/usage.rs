//! Command lines that cannot be right: status 2, one line, and no request.

use pget_testkit::hostile::{Hostile, Object, Route};

use crate::run::{pget, run};

#[test]
fn unusable_options_are_told_before_anything_is_sent() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(1, 1000)));
    for (options, says) in [
        (vec!["--concurrency", "0"], "concurrency"),
        (vec!["--concurrency", "1000000000"], "concurrency"),
        (vec!["--concurrency", "4294967296"], "--concurrency"),
        (vec!["--concurrency=-1"], "--concurrency"),
        (vec!["--concurrency", "-1"], "-1"),
        (vec!["--chunk-size", "0"], "chunk_size"),
        (vec!["--chunk-size", "9223372036854775808"], "chunk_size"),
        (vec!["--chunk-size", "99999999999999999999"], "--chunk-size"),
        (vec!["--chunk-size=-1"], "--chunk-size"),
        (vec!["--chunk-size", "8 parsecs"], "--chunk-size"),
        (vec!["--chunk-size", ""], "--chunk-size"),
        (vec!["--window", "0"], "window"),
        (vec!["--window", "65537"], "window"),
        (vec!["--window", "many"], "--window"),
        (vec!["--retries", "1001"], "retries"),
        (vec!["--retries=-1"], "--retries"),
        (vec!["--retry-timeout", "0s"], "retry_timeout"),
        (vec!["--retry-timeout", "2days"], "retry_timeout"),
        (vec!["--offset=-1"], "--offset"),
        (vec!["--offset", "18446744073709551616"], "--offset"),
        (vec!["--offset", "18446744073709551615"], "offset"),
        (
            vec!["--offset", "18446744073709551614", "--length", "2"],
            "offset",
        ),
        (vec!["--length", "1e400"], "--length"),
        (vec!["--memory-limit", "0"], "--memory-limit"),
        (vec!["--stall-timeout", "0s"], "stall_timeout"),
        (vec!["--stall-timeout", "25h"], "stall_timeout"),
        (vec!["--stall-timeout", "soon"], "--stall-timeout"),
        (vec!["--stall-timeout=-1s"], "--stall-timeout"),
        (
            vec!["--connect-timeout", "99999999999999999999s"],
            "--connect-timeout",
        ),
        (vec!["--connect-timeout", "0ms"], "connect_timeout"),
        (vec!["--first-byte-timeout", ""], "--first-byte-timeout"),
        (vec!["--first-byte-timeout", "0s"], "first_byte_timeout"),
        (vec!["--set", "x"], "--set"),
        (vec!["--set", "=x"], "--set"),
        (vec!["--header", "x"], "--header"),
        (vec!["--header", ": x"], "--header"),
        (vec!["--header", "a b: x"], "header"),
        (vec!["--header", "A: x\r\nB: y"], "header"),
        (vec!["--progress", "sometimes"], "--progress"),
        (vec!["--resume-from-nowhere"], "--resume-from-nowhere"),
    ] {
        for command in ["cat", "get"] {
            let arguments = [&[command, url.as_str()][..], &options].concat();
            let stdout = run(&mut pget(&arguments)).failed(2, says);
            assert!(stdout.is_empty(), "{arguments:?}");
        }
    }
    // `get` accepts several objects.
    for command in ["cat", "stat"] {
        let stdout = run(&mut pget([command, url.as_str(), "another"])).failed(2, "too many");
        assert!(stdout.is_empty(), "{command}");
    }
    for options in [
        ["--retries", "1001"],
        ["--first-byte-timeout", "0s"],
        ["--connect-timeout", "25h"],
    ] {
        let arguments = [&["stat", url.as_str()][..], &options].concat();
        run(&mut pget(&arguments)).failed(2, &options[0][2..].replace('-', "_"));
    }
    assert_eq!(server.load().connections, 0, "nothing was sent");
}

#[test]
fn unusable_addresses_are_told() {
    for (address, says) in [
        ("", "empty"),
        ("ftp://host/x", "ftp"),
        ("s3://", "bucket"),
        ("s3://bucket", "object"),
        ("s3://bucket/", "no object"),
        ("s3:///key", "bucket"),
        ("gs://bucket", "object"),
        ("az://container/", "object"),
        ("ais://", "bucket"),
        ("ais://bucket", "needs"),
        ("ais://bucket/", "needs"),
        ("http://", "http"),
        ("https://:80/x", "https"),
        ("http://[::1/x", "http"),
        ("http://host:99999/x", "http"),
        ("file://host/x", "file"),
        ("file:///a%00b", "%00"),
        ("http://host/\u{1}", "control"),
    ] {
        for command in ["cat", "get", "stat"] {
            // Without -o, `get` would first report that the file has no name.
            let output: &[&str] = if command == "get" { &["-o", "x"] } else { &[] };
            let mut command = pget([command, address].iter().chain(output));
            run(command.env("AIS_ENDPOINT", "http://127.0.0.1:1")).failed(2, says);
        }
    }
    run(&mut pget(["cat", "ais://bucket/object"])).failed(2, "AIS_ENDPOINT");
    run(&mut pget(["get", "http://127.0.0.1:1/folder/"])).failed(2, "-o FILE");
}

#[test]
fn an_option_that_does_not_fit_the_transport_is_told() {
    run(&mut pget(["cat", "/dev/null", "--header", "A: b"])).failed(2, "http");
    let ais = [
        "cat",
        "ais://b/o",
        "--set",
        "ais.endpoint=http://127.0.0.1:1",
        "--set",
        "ais.tokn=x",
    ];
    run(&mut pget(ais)).failed(2, "ais.tokn");
    run(&mut pget(["cat", "s3://b/k", "--set", "aws.regoin=x"])).failed(2, "aws.regoin");
}

#[test]
fn without_a_command_there_is_help() {
    let ended = run(&mut pget::<&str>([]));
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("Usage: pget"), "{ended:?}");
    let ended = run(&mut pget(["--help"]));
    assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(0), ""));
    let help = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(
        ["get", "cat", "stat"]
            .iter()
            .all(|command| help.contains(command))
    );
    run(&mut pget(["cat"])).failed(2, "URL");
}

#[test]
fn the_version_names_the_build() {
    let short = String::from_utf8(run(&mut pget(["-V"])).succeeded()).expect("text");
    assert_eq!(short, concat!("pget ", env!("CARGO_PKG_VERSION"), "\n"));
    let long = String::from_utf8(run(&mut pget(["--version"])).succeeded()).expect("text");
    assert!(long.starts_with(short.trim_end()), "{long}");
    for fact in ["\ncommit: ", "\ntarget: ", "\ncompiler: rustc ", "\ntransports: "] {
        let (_, value) = long
            .split_once(fact)
            .unwrap_or_else(|| panic!("{fact} in {long}"));
        let value = value.lines().next().unwrap_or_default();
        assert!(!value.is_empty() && value != "unknown", "{fact} in {long}");
    }
}

#[test]
fn help_is_grouped_and_has_examples() {
    for command in ["get", "cat"] {
        let help = run(&mut pget([command, "--help"])).succeeded();
        let help = String::from_utf8(help).expect("text");
        let mut at = 0;
        for heading in [
            "\nUsage:",
            "\nArguments:",
            "\nOptions:",
            "\nHow to read:",
            "\nNetwork:",
            "\nOutput:",
            "\nExamples:",
        ] {
            let found = help[at..].find(heading);
            at += found.unwrap_or_else(|| panic!("{heading} at its place in {help}"));
        }
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    }
}

#[test]
fn completions_and_pages_come_from_the_definitions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = run(&mut pget(["completions", shell])).succeeded();
        let text = String::from_utf8(text).expect("text");
        for word in ["--retry-timeout", "retry-timeout", "shm"].iter().skip(1) {
            assert!(text.contains(word), "{word} for {shell}");
        }
    }
    run(&mut pget(["completions", "cmd.exe"])).failed(2, "bash");
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("man/man1");
    run(pget(["man-pages"]).arg(&pages)).succeeded();
    for (page, says) in [
        ("pget.1", "pget\\-get"),
        ("pget-get.1", "\\-\\-retry\\-timeout"),
        ("pget-cat.1", "Examples"),
        ("pget-stat.1", "\\-\\-json"),
        ("pget-shm.1", "clean"),
        ("pget-shm-get.1", "\\-\\-name"),
    ] {
        let text =
            std::fs::read_to_string(pages.join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.contains(says), "{says} in {page}: {text}");
    }
    run(pget(["man-pages", "/dev/null/man"]).env("LC_ALL", "C")).failed(8, "manual");
}
