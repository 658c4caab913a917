//! Whatever fails, the program prints no secret, even at the finest log level.

use std::process::Command;

use pget_testkit::{
    aistore::ClusterOptions,
    hostile::{Fault, Hostile, Object, Route, When},
    servers::{Versitygw, VersitygwOptions, require},
};

use crate::{
    run::{pget, run},
    servers::{Aistore, ais, s3},
};

const CANARY: &str = "canary7f3a91secret";

#[track_caller]
fn nothing_shown(command: &mut Command) {
    let ended = run(command);
    let stdout = String::from_utf8_lossy(&ended.stdout);
    for (name, text) in [("output", stdout.as_ref()), ("error", &ended.stderr)] {
        assert!(!text.contains(CANARY), "the standard {name} shows it: {text}");
        // The parts are the canary in basic authentication, in each of the three alignments of
        // base64.
        for part in [
            "Y2FuYXJ5N2YzYTkxc2VjcmV0",
            "NhbmFyeTdmM2E5MXNlY3Jl",
            "jYW5hcnk3ZjNhOTFzZWNyZX",
        ] {
            assert!(
                !text.contains(part),
                "the standard {name} shows it in base64: {text}"
            );
        }
        assert!(!text.contains("panicked"), "{text}");
    }
}

/// Runs `cat`, `get` and `stat` with the finest log level, and `cat` without a log.
#[track_caller]
fn never_shown(make: impl Fn(&[&str]) -> Command) {
    let quick = [
        "--retries",
        "1",
        "--stall-timeout",
        "300ms",
        "--first-byte-timeout",
        "300ms",
    ];
    for command in ["cat", "get", "stat"] {
        let output: &[&str] = if command == "get" {
            &["-o", "/dev/null"]
        } else {
            &[]
        };
        nothing_shown(make(&["-vv", command]).args(quick).args(output));
    }
    let all = ["--chunk-size", "1KiB", "--json", "--progress", "always"];
    nothing_shown(make(&["cat"]).args(quick).args(all));
}

#[test]
fn http_secrets_stay_secret() {
    let server = Hostile::start().expect("a server");
    let route = || Route::new(Object::new(7, 100_000));
    let with_secret = |path: &str| {
        server
            .url(path)
            .replace("http://", &format!("http://user:{CANARY}@"))
    };
    let redirect = |url: &str| Fault::redirect(307, url);
    server.route("/plain", route());
    let presigned = format!("{}?X-Amz-Signature={CANARY}", with_secret("/plain"));
    for (path, fault) in [
        ("/ok", None),
        ("/denied", Some(Fault::status(403))),
        ("/login", Some(Fault::status(401))),
        ("/broken", Some(Fault::status(500))),
        ("/silent", Some(Fault::StallBeforeHead)),
        ("/reset", Some(Fault::Reset { after: 10 })),
        ("/rubbish", Some(Fault::Raw(b"rubbish".to_vec()))),
        ("/shifted", Some(Fault::Shifted { by: 8 })),
        ("/changed", Some(Fault::Etag(Some("\"other\"".into())))),
        ("/onward", Some(redirect(&presigned))),
        (
            "/refused",
            Some(redirect(&format!(
                "http://u:{CANARY}@127.0.0.1:1/{CANARY}?t={CANARY}"
            ))),
        ),
        ("/to-file", Some(redirect(&format!("file:///{CANARY}?{CANARY}")))),
        ("/to-junk", Some(redirect(&format!("http://{CANARY}:x:y/")))),
        ("/loop", Some(Fault::RedirectChain { hops: u32::MAX })),
    ] {
        let route = match fault {
            Some(fault) => route().fault(When::HeadToo, fault),
            None => route(),
        };
        server.route(path, route);
        let url = format!(
            "{}?X-Amz-Signature={CANARY}&X-Amz-Credential={CANARY}",
            with_secret(path)
        );
        never_shown(|arguments| {
            let mut command = pget(arguments);
            command.arg(&url);
            command.args([
                "--header",
                &format!("X-Token: {CANARY}"),
                "--header",
                &format!("Cookie: a={CANARY}"),
            ]);
            command
        });
        assert!(!server.requests(path).is_empty(), "{path}: nothing was asked");
    }
    for address in [
        format!("http://user:{CANARY}@127.0.0.1:1/x?token={CANARY}"),
        format!("http://user:{CANARY}@no-such-host.invalid/x?token={CANARY}"),
        format!("http://user:{CANARY}@[::1/x"),
        format!("http://user:{CANARY}@host:port/x"),
        format!("http://user:{CANARY}@"),
        format!("https://user:{CANARY}@{}/x?{CANARY}", server.address()),
        format!("ftp://user:{CANARY}@host/x"),
        format!("s3://bucket?{CANARY}"),
    ] {
        never_shown(|arguments| {
            let mut command = pget(arguments);
            command.arg(&address);
            command
        });
    }
}

#[test]
fn case_139_addresses_without_a_scheme_show_no_credential() {
    for address in [
        format!("user:{CANARY}@host/x"),
        format!("//user:{CANARY}@host/x"),
        format!("user:{CANARY}%40host/x"),
        format!("host/x?X-Amz-Signature={CANARY}"),
        format!("host.blob.core.windows.net/c/x?sv=1&sig={CANARY}"),
        format!("storage.googleapis.com/b/x?X-Goog-Signature={CANARY}"),
        format!("host/x#access_token={CANARY}"),
        format!("host/x?key={CANARY}#f"),
        format!("./host/x?token={CANARY}"),
        format!("/host/user:{CANARY}@x"),
        format!("file:///host/x?sig={CANARY}"),
    ] {
        for command in ["cat", "stat", "get"] {
            let folder = tempfile::tempdir().expect("a folder");
            let mut program = pget(["-vv", command, &address]);
            program.current_dir(folder.path());
            nothing_shown(&mut program);
            nothing_shown(pget([command, &address, "--retries", "0"]).current_dir(folder.path()));
        }
    }
    // A file with such a name can be read, and its name is not printed in full.
    let folder = tempfile::tempdir().expect("a folder");
    let name = format!("x?X-Amz-Signature={CANARY}");
    std::fs::write(folder.path().join(&name), "text").expect("written");
    let read = run(pget(["cat", &name]).current_dir(folder.path()));
    assert_eq!(read.succeeded(), b"text");
    nothing_shown(pget(["-vv", "cat", &name, "--offset", "9"]).current_dir(folder.path()));
}

#[test]
fn case_139_unusual_addresses_and_properties_show_no_credential() {
    for address in [
        format!("sftp://user:{CANARY}@host/x"),
        format!("azure://user:{CANARY}@host/x"),
        format!("S3://user:{CANARY}@bucket"),
        format!("https:/user:{CANARY}@host/x"),
        format!("sftp:/user:{CANARY}@host/x"),
        format!("ht_tp://user:{CANARY}@host/x"),
        format!(" http://user:{CANARY}@127.0.0.1:1/x"),
        format!("http://user%3A{CANARY}%40127.0.0.1:1/x"),
        format!("http://127.0.0.1:1/x;token={CANARY}"),
        format!("http://127.0.0.1:1/x#access_token={CANARY}"),
        format!("ais://user:{CANARY}@bucket/o"),
        format!("ais://bucket/o?token={CANARY}"),
        format!("s3://user:{CANARY}@bucket/o"),
        format!("s3://bucket/o?X-Amz-Signature={CANARY}"),
        format!("az://user:{CANARY}@bucket/o"),
    ] {
        never_shown(|arguments| {
            let mut command = pget(arguments);
            command
                .arg(&address)
                .env("AIS_ENDPOINT", format!("http://user:{CANARY}@127.0.0.1:1"))
                .env("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
                .env("AWS_ACCESS_KEY_ID", "key")
                .env("AWS_SECRET_ACCESS_KEY", CANARY);
            command
        });
    }
    let url = format!("http://user:{CANARY}@127.0.0.1:1");
    for arguments in [
        vec![url.as_str()],
        vec!["cat", "ais://b/o", "--verify", &url],
        vec!["cat", "ais://b/o", "--progress", &url],
        vec!["cat", "ais://b/o", "--set", &format!("ais.endpoint={url}")],
        vec!["cat", "s3://b/o", "--set", &format!("aws.endpoint={url}")],
        vec!["cat", "s3://b/o", "--set", &format!("aws.proxy_url={url}")],
        vec!["cat", "s3://b/o", "--set", &format!("{url}=x")],
        vec!["cat", &url, "--set", &format!("token:{CANARY}=x")],
        vec![
            "cat",
            &url,
            "--header",
            &format!("Authorization=Bearer {CANARY}: x"),
        ],
    ] {
        let all = ["-vv"].into_iter().chain(arguments);
        nothing_shown(&mut pget(all.chain(["--retries", "0"])));
    }
}

#[test]
fn words_out_of_place_are_not_repeated() {
    for arguments in [
        vec!["cat", "http://127.0.0.1:1/x", "--header", CANARY],
        vec!["cat", "http://127.0.0.1:1/x", "--set", CANARY],
        vec!["cat", "http://127.0.0.1:1/x", CANARY],
        vec!["cat", "http://127.0.0.1:1/x", &format!("--heder=A: {CANARY}")],
        vec![
            "cat",
            "http://127.0.0.1:1/x",
            "--header",
            &format!("A: {CANARY}\r\nB: x"),
        ],
        vec![
            "cat",
            "http://127.0.0.1:1/x",
            "--header",
            &format!("A b: {CANARY}"),
        ],
        vec![
            "cat",
            "ais://b/o",
            "--set",
            &format!("ais.token={CANARY} x"),
            "--set",
            "ais.endpoint=127.0.0.1:1",
        ],
        vec![
            "cat",
            "ais://b/o",
            "--set",
            &format!("ais.endpoint=http://u:{CANARY}@:x"),
        ],
        vec!["cat", "ais://b/o", "--set", &format!("ais.latest={CANARY}")],
        vec![
            "cat",
            "s3://b/k",
            "--set",
            &format!("aws.skip_signature={CANARY}"),
        ],
        vec!["cat", "s3://b/k", "--set", &format!("aws.endpoint={CANARY}")],
    ] {
        nothing_shown(&mut pget(&arguments));
    }
}

#[test]
fn tokens_and_keys_stay_secret() {
    let aistore = Aistore::start(ClusterOptions {
        token: Some("right".into()),
        ..ClusterOptions::default()
    });
    aistore
        .cluster
        .put("bucket", "o", pget_testkit::aistore::Object::pattern(1, 1000));
    for endpoint in [aistore.cluster.endpoint(), "http://127.0.0.1:1".to_owned()] {
        never_shown(|arguments| {
            let mut command = ais(&endpoint, arguments);
            command.arg("ais://bucket/o").env("AIS_AUTHN_TOKEN", CANARY);
            command
        });
        never_shown(|arguments| {
            let mut command = ais(&endpoint, arguments);
            command.args(["ais://bucket/o", "--set", &format!("ais.token={CANARY}")]);
            command
        });
    }
    aistore.cluster.set_token(Some(CANARY));
    never_shown(|arguments| {
        let mut command = ais(&aistore.cluster.endpoint(), arguments);
        command.arg("ais://bucket/o").env("AIS_AUTHN_TOKEN", CANARY);
        command
    });
    let Some(server) = require(Versitygw::start(VersitygwOptions::default())) else {
        return;
    };
    server.endpoint().put("o", b"text").expect("an object");
    for (variable, value) in [
        ("AWS_SECRET_ACCESS_KEY", CANARY.to_owned()),
        ("AWS_SESSION_TOKEN", CANARY.to_owned()),
        ("AWS_ENDPOINT_URL", format!("http://u:{CANARY}@127.0.0.1:1")),
        ("AWS_METADATA_ENDPOINT", format!("http://u:{CANARY}@127.0.0.1:1")),
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            format!("http://u:{CANARY}@127.0.0.1:1/x?{CANARY}"),
        ),
    ] {
        never_shown(|arguments| {
            let mut command = s3(server.endpoint(), arguments);
            command.arg("s3://bucket/o").env(variable, &value);
            // With keys in the environment, the program would not request others.
            if !variable.starts_with("AWS_S") && variable != "AWS_ENDPOINT_URL" {
                command
                    .env_remove("AWS_ACCESS_KEY_ID")
                    .env_remove("AWS_SECRET_ACCESS_KEY");
            }
            command
        });
    }
}
