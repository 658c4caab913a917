//! The exit status shows the kind of failure on every transport, and the bytes that `cat` has
//! written are right.

use std::{
    ffi::OsStr,
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};

use pget_testkit::{
    aistore::ClusterOptions,
    hostile::{Fault, Hostile, Object, Route, When},
    servers::{Gofakes3, Nginx, NginxOptions, Versitygw, VersitygwOptions, require},
};

use crate::{
    run::{pget, run, spawn, wait},
    servers::{Aistore, PATTERN, Transports, ais, s3},
};

const SIZE: usize = 1_000_000;

#[test]
fn every_transport_reads_and_says_what_is_missing() {
    let transports = Transports::start();
    for (name, size) in [("empty", 0), ("one", 1), ("many", SIZE)] {
        transports.put(name, size);
        for (transport, mut command) in transports.commands("cat", name, &["--chunk-size", "64KiB"]) {
            let bytes = run(&mut command).succeeded();
            assert_eq!(bytes.len(), size, "{transport}");
            assert_eq!(PATTERN.check(0, &bytes), Ok(()), "{transport}");
        }
    }
    // At the end of the object there is nothing to read. An offset past the end is an error.
    for (transport, mut command) in transports.commands("cat", "many", &["--offset", "1000000"]) {
        assert!(run(&mut command).succeeded().is_empty(), "{transport}");
    }
    for (transport, mut command) in transports.commands("cat", "empty", &["--offset", "0", "--length", "5"]) {
        assert!(run(&mut command).succeeded().is_empty(), "{transport}");
    }
    for (name, offset) in [
        ("many", "1000001"),
        ("empty", "1"),
        ("many", "18446744073709551614"),
    ] {
        for (transport, mut command) in
            transports.commands("cat", name, &["--offset", offset, "--retries", "1"])
        {
            let ended = run(&mut command);
            assert!(ended.stderr.contains("range"), "{transport} {offset}: {ended:?}");
            assert!(ended.failed(1, "").is_empty(), "{transport}");
        }
    }
    for command in ["cat", "get", "stat"] {
        for (transport, mut command) in transports.commands(command, "missing", &[]) {
            let ended = run(&mut command);
            assert!(ended.stdout.is_empty(), "{transport}");
            ended.failed(3, "not found");
        }
    }
    for (_, mut command) in transports.commands("cat", "many", &["--offset", "999990", "--length", "5"]) {
        assert_eq!(run(&mut command).succeeded(), PATTERN.bytes(999_990, 5));
    }
}

#[test]
fn refused_credentials_are_4() {
    let aistore = Aistore::start(ClusterOptions {
        token: Some("right".into()),
        ..ClusterOptions::default()
    });
    aistore
        .cluster
        .put("bucket", "o", pget_testkit::aistore::Object::pattern(1, 1000));
    for token in ["", "wrong"] {
        let mut command = ais(&aistore.cluster.endpoint(), &["cat", "ais://bucket/o"]);
        run(command.env("AIS_AUTHN_TOKEN", token)).failed(4, "permission denied");
    }
    let mut command = ais(&aistore.cluster.endpoint(), &["cat", "ais://bucket/o"]);
    assert_eq!(
        run(command.env("AIS_AUTHN_TOKEN", "right")).succeeded().len(),
        1000
    );

    if let Some(server) = require(Versitygw::start(VersitygwOptions::default())) {
        server.endpoint().put("o", b"text").expect("an object");
        for (variable, value) in [
            ("AWS_SECRET_ACCESS_KEY", "wrong"),
            ("AWS_ACCESS_KEY_ID", "nobody"),
        ] {
            let mut command = s3(server.endpoint(), &["cat", "s3://bucket/o"]);
            run(command.env(variable, value)).failed(4, "permission denied");
        }
    }
    let options = NginxOptions {
        server: "location /denied { return 403; } location /login { return 401; }".into(),
        ..NginxOptions::default()
    };
    if let Some(nginx) = require(Nginx::start(&options)) {
        for path in ["/denied", "/login"] {
            run(&mut pget(["cat", &nginx.url(path)])).failed(4, "permission denied");
            run(&mut pget(["stat", &nginx.url(path)])).failed(4, "permission denied");
        }
    }
}

/// Root may read every file, so root runs the program as another user.
#[test]
fn a_file_that_may_not_be_read_is_4() {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};
    const NOBODY: u32 = 65534;
    let is_root = nix::unistd::geteuid().is_root();
    let pget = |argument: &OsStr| {
        let mut command = pget(["cat".as_ref(), argument]);
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    if is_root && pget("/dev/null".as_ref()).output().is_err() {
        eprintln!(
            "skipped: root may read every file, and no other user may run the program where it was built"
        );
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).expect("a mode");
    let path = folder.path().join("closed");
    std::fs::write(&path, "text").expect("a file");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o0)).expect("a mode");
    run(&mut pget(path.as_os_str())).failed(4, "permission denied");
}

#[test]
fn a_changed_object_is_5_and_what_was_written_is_right() {
    let server = Hostile::start().expect("a server");
    let changed = Fault::Revision(Object::new(8, SIZE as u64));
    let route = Route::new(Object::new(7, SIZE as u64)).ignoring_conditions();
    let cases = [
        ("/overwritten", route.clone().fault(When::Later, changed)),
        ("/deleted", route.clone().fault(When::Later, Fault::status(404))),
        (
            "/grown",
            route
                .clone()
                .fault(When::Later, Fault::content_range("bytes {start}-{end}/1000001")),
        ),
        ("/precondition", route.fault(When::Later, Fault::status(412))),
    ];
    for (path, route) in cases {
        let url = server.route(path, route);
        let bytes = run(&mut pget(["cat", &url, "--chunk-size", "64KiB"])).failed(5, "changed");
        assert!(server.served(path) > 0, "{path}: no fault was met");
        assert!(bytes.len() < SIZE, "{path}");
        assert_eq!(PATTERN.check(0, &bytes), Ok(()), "{path}");
    }
    // Timing alone cannot change the object between two reads of one download on a server that
    // ignores If-Match. The object can change after the first range, because the consumer pauses.
    if let Some(server) = require(Gofakes3::start()) {
        let size = 8 << 20;
        server
            .endpoint()
            .put("o", &PATTERN.bytes(0, size))
            .expect("an object");
        let options = [
            "cat",
            "s3://bucket/o",
            "--chunk-size",
            "64KiB",
            "--window",
            "2",
            "--concurrency",
            "2",
        ];
        let mut child = spawn(&mut s3(server.endpoint(), &options));
        let mut first = vec![0; 100];
        let mut output = child.stdout.take().expect("a pipe");
        std::io::Read::read_exact(&mut output, &mut first).expect("it has begun");
        // The pipe and the window are far smaller than the object.
        server
            .endpoint()
            .put("o", &vec![b'x'; size])
            .expect("another object");
        let rest = std::thread::spawn(move || {
            std::io::Read::read_to_end(&mut output, &mut first).expect("a pipe can be read");
            first
        });
        wait(child).failed(5, "changed");
        let bytes = rest.join().expect("a reader");
        assert!(bytes.len() < size);
        assert_eq!(PATTERN.check(0, &bytes), Ok(()));
    }
}

#[test]
fn what_does_not_answer_is_6() {
    let server = Hostile::start().expect("a server");
    let route = || Route::new(Object::new(7, SIZE as u64));
    let patience = [
        "--chunk-size",
        "64KiB",
        "--retries",
        "1",
        "--stall-timeout",
        "500ms",
    ];
    for (path, when, fault, says) in [
        ("/silent", When::Always, Fault::StallBeforeHead, "timed out"),
        ("/stall", When::Later, Fault::Stall { after: 100 }, "timed out"),
        ("/busy", When::Later, Fault::status(503), "unavailable"),
        (
            "/slow-down",
            When::Always,
            Fault::throttle(429, "0"),
            "unavailable",
        ),
        ("/broken", When::Always, Fault::status(500), "unavailable"),
    ] {
        let url = server.route(path, route().fault(when, fault));
        let arguments = [&["cat", &url, "--first-byte-timeout", "500ms"][..], &patience].concat();
        let bytes = run(&mut pget(arguments)).failed(6, says);
        assert!(server.served(path) > 1, "{path}: it was not tried again");
        assert!(bytes.len() < SIZE && PATTERN.check(0, &bytes).is_ok(), "{path}");
    }
    let url = server.route("/silent", route().fault(When::HeadToo, Fault::StallBeforeHead));
    run(&mut pget([
        "stat",
        &url,
        "--retries",
        "1",
        "--first-byte-timeout",
        "300ms",
    ]))
    .failed(6, "timed out");

    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a port without a listener")
        .port();
    let address = format!("http://127.0.0.1:{port}");
    let refused = &["--retries", "1"];
    run(pget(["cat", &format!("{address}/x")]).args(refused)).failed(6, "127.0.0.1");
    run(ais(&address, &["cat", "ais://b/o"]).args(refused)).failed(6, "unavailable");
    run(pget(["cat", "s3://b/k"])
        .args(refused)
        .args(["--set", "aws.allow_http=true"])
        .env("AWS_ENDPOINT_URL", &address)
        .env("AWS_ACCESS_KEY_ID", "x")
        .env("AWS_SECRET_ACCESS_KEY", "y"))
    .failed(6, "unavailable");
    run(pget(["cat", "http://no-such-host.invalid/x"]).args(refused)).failed(6, "no-such-host.invalid");
}

#[test]
fn answers_that_make_no_sense_are_7() {
    let server = Hostile::start().expect("a server");
    let route = || Route::new(Object::new(7, SIZE as u64));
    let elsewhere = |location: &str| Fault::redirect(302, location);
    for (path, when, fault) in [
        ("/shifted", When::Later, Fault::Shifted { by: 8 }),
        ("/no-label", When::Always, Fault::NoContentRange),
        ("/longer", When::Always, Fault::LongLength { by: 1 }),
        ("/extended", When::Later, Fault::Extended { by: 1 }),
        (
            "/huge",
            When::Later,
            Fault::content_range("bytes 0-18446744073709551615/18446744073709551615"),
        ),
        ("/coded", When::Later, Fault::ContentEncoding("gzip".into())),
        ("/parts", When::Always, Fault::Multipart),
        ("/loop", When::Always, Fault::RedirectChain { hops: u32::MAX }),
        ("/to-file", When::Always, elsewhere("file:///etc/passwd")),
        ("/to-junk", When::Always, elsewhere("http://[::1/")),
        ("/short", When::Later, Fault::ShortLength { by: 64 << 10 }),
        (
            "/no-http",
            When::Always,
            Fault::Raw(b"220 mail.example ESMTP\r\n".to_vec()),
        ),
        ("/length", When::Always, Fault::ContentLength("-5".into())),
        ("/whole", When::Later, Fault::RangeIgnored),
    ] {
        let url = server.route(path, route().fault(when, fault));
        let arguments = ["cat", &url, "--chunk-size", "64KiB", "--retries", "1"];
        let ended = run(&mut pget(arguments));
        assert!(server.served(path) > 0, "{path}: no fault was met");
        assert!(!ended.stderr.contains("root:"), "{path}");
        let bytes = ended.failed(7, path);
        assert!(bytes.len() < SIZE && PATTERN.check(0, &bytes).is_ok(), "{path}");
    }
}

#[test]
fn a_fault_that_passes_is_no_failure() {
    let server = Hostile::start().expect("a server");
    let route = Route::new(Object::new(7, SIZE as u64))
        .fault_times(When::Later, 2, Fault::Reset { after: 1000 })
        .fault_times(When::Later, 1, Fault::status(503))
        .fault_times(When::First, 1, Fault::Stall { after: 5000 });
    let url = server.route("/o", route);
    let ended = run(&mut pget([
        "cat",
        &url,
        "--chunk-size",
        "64KiB",
        "--stall-timeout",
        "500ms",
    ]));
    let bytes = ended.succeeded();
    assert_eq!((bytes.len(), PATTERN.check(0, &bytes)), (SIZE, Ok(())));
    assert_eq!(server.served("/o"), 4);
}

#[test]
fn a_read_that_cannot_go_on_ends_soon() {
    let server = Hostile::start().expect("a server");
    let fault = Fault::Pace {
        bytes_per_second: 1000,
    };
    let slow = server.route(
        "/o",
        Route::new(Object::new(7, SIZE as u64)).fault(When::Later, fault),
    );
    let began = std::time::Instant::now();
    // The other connections are very slow. The first one has no reader.
    let mut child = spawn(&mut pget(["cat", &slow, "--chunk-size", "64KiB"]));
    drop(child.stdout.take());
    wait(child).ended_by_its_reader();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
