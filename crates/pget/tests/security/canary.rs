//! Case 67: a secret appears in no text of the library, whichever way it was passed.
//!
//! The texts are errors and their causes, `Debug`, names, and every event at the finest level.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use pget::{Address, Builder, Error};
use pget_testkit::hostile::{Fault, Hostile, Object, Route, When};
use tracing_subscriber::filter::LevelFilter;

use crate::{on_aistore, on_s3, quick, read};

const CANARY: &str = "canary7f3a91secret";
/// The canary in basic authorization, in each of the three alignments of base64.
const IN_BASE64: [&str; 3] = [
    "Y2FuYXJ5N2YzYTkxc2VjcmV0",
    "NhbmFyeTdmM2E5MXNlY3Jl",
    "jYW5hcnk3ZjNhOTFzZWNyZX",
];

/// All events of the process so far.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[track_caller]
fn clean(what: &str, text: &str) {
    assert!(!text.contains(CANARY), "{what} shows it: {text}");
    for part in IN_BASE64 {
        assert!(!text.contains(part), "{what} shows it in base64: {text}");
    }
}

fn everything(error: &Error) -> String {
    let mut text = format!(
        "{error} {error:?} {error:#?} {} {}",
        error.to_line(),
        error.object()
    );
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(" {inner} {inner:?}"));
        cause = inner.source();
    }
    text.push_str(&io::Error::from(error.clone()).to_string());
    text
}

/// Reads the object and stats it. Checks every text for the canary. Returns whether the read
/// failed.
async fn try_it(what: &str, builder: &Builder) -> bool {
    clean(what, &format!("{builder:?} {builder:#?}"));
    match builder.object() {
        Ok(object) => {
            clean(what, &format!("{} {object:?} {object:#?}", object.name()));
            let source = object.source().expect("as before");
            clean(what, &format!("{} {source:?} {source:#?}", source.name()));
            if let Err(error) = crate::within(object.stat()).await {
                clean(what, &everything(&error));
            }
        }
        Err(error) => clean(what, &everything(&error)),
    }
    match read(builder).await {
        Ok(_) => false,
        Err(error) => {
            clean(what, &everything(&error));
            true
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_67_a_secret_shows_nowhere() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let server = Hostile::start().expect("a server");
    let to = |path: &str| {
        format!(
            "http://user:{CANARY}@{}{path}?X-Amz-Signature={CANARY}&{CANARY}",
            server.address()
        )
    };
    let faults: Vec<(&str, Option<Fault>)> = vec![
        ("ok", None),
        ("denied", Some(Fault::status(403))),
        ("broken", Some(Fault::status(500))),
        ("silent", Some(Fault::StallBeforeHead)),
        ("reset", Some(Fault::Reset { after: 10 })),
        ("rubbish", Some(Fault::Raw(b"rubbish".to_vec()))),
        ("changed", Some(Fault::Etag(Some("\"other\"".into())))),
        ("away", Some(Fault::redirect(307, &format!("http://u:{CANARY}@127.0.0.1:1/x?sig={CANARY}")))),
        ("to-file", Some(Fault::redirect(302, &format!("file:///x?{CANARY}")))),
        ("to-junk", Some(Fault::redirect(302, &format!("http://{CANARY}:x:y/")))),
        // Servers quote the credentials that they received.
        (
            "quoting",
            Some(Fault::Answer {
                status: 403,
                headers: vec![("Content-Type".into(), "application/xml".into())],
                body: format!(
                    "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message><StringToSign>{CANARY}</StringToSign></Error>"
                )
                .into_bytes(),
            }),
        ),
        (
            "quoting-json",
            Some(Fault::Answer {
                status: 401,
                headers: Vec::new(),
                body: format!("{{\"status\":401,\"message\":\"token {CANARY} is bad\"}}").into_bytes(),
            }),
        ),
    ];
    let mut failures = 0;
    for (name, fault) in faults {
        for path in [
            format!("/{name}"),
            format!("/b/{name}"),
            format!("/v1/objects/b/{name}"),
        ] {
            let route = Route::new(Object::new(7, 10_000));
            server.route(
                &path,
                match &fault {
                    Some(fault) => route.fault(When::HeadToo, fault.clone()),
                    None => route,
                },
            );
        }
        let http = quick(pget::builder(&to(&format!("/{name}"))))
            .header("x-token", CANARY)
            .header("cookie", format!("a={CANARY}"));
        let s3 = on_s3(&format!("s3://b/{name}"), &server.url(""))
            .property("aws.secret_access_key", CANARY)
            .property("aws.session_token", CANARY);
        let in_headers = on_s3(&format!("s3://b//{name}"), &server.url(""))
            .property("aws.secret_access_key", CANARY)
            .property("aws.session_token", CANARY);
        let ais = on_aistore(&format!("ais://b/{name}"), &server.url("")).property("ais.token", CANARY);
        for (transport, builder) in [
            ("http", http),
            ("s3", s3),
            ("s3 by header", in_headers),
            ("ais", ais),
        ] {
            let failed = try_it(&format!("{transport} {name}"), &builder).await;
            failures += u32::from(failed);
        }
    }
    for address in [
        format!("http://user:{CANARY}@127.0.0.1:1/x?token={CANARY}"),
        format!("https://user:{CANARY}@{}/x?{CANARY}", server.address()),
        format!("http://user:{CANARY}@no-such-host.invalid/x"),
        format!("http://user:{CANARY}@[::1/x"),
        format!("http://user:{CANARY}@h:port/x"),
        format!("http://user:{CANARY}@"),
        format!("http:/user:{CANARY}@h/x"),
        format!("https:user:{CANARY}@h/x"),
        format!("ftp://user:{CANARY}@h/x"),
        format!("s3://user:{CANARY}@b/"),
        format!("s3://user:{CANARY}@b/k"),
        format!("s3://b/k?X-Amz-Signature={CANARY}"),
        format!("gs://user:{CANARY}@b/"),
    ] {
        assert!(
            try_it("an address", &quick(pget::builder(&address))).await,
            "{address} was read"
        );
        if let Ok(parsed) = Address::parse(&address) {
            clean("an address", &format!("{parsed:?}"));
        }
    }
    for endpoint in [
        format!("http://u:{CANARY}@127.0.0.1:1"),
        format!("http://u:{CANARY}@:x"),
    ] {
        for builder in [on_aistore("ais://b/o", &endpoint), on_s3("s3://b/k", &endpoint)] {
            assert!(try_it("an endpoint", &builder).await);
        }
    }
    let careless = on_aistore("ais://b/ok", &server.url("")).property("ais.skip_verify_crt", "yes");
    try_it("without verification", &careless).await;
    assert!(failures >= 30, "only {failures} of the reads failed");
    let log = log.0.lock().unwrap_or_else(PoisonError::into_inner);
    let text = String::from_utf8_lossy(&log);
    assert!(
        text.contains("DEBUG") && text.contains("attempt failed"),
        "the log is not there: {}",
        text.len()
    );
    assert!(
        text.contains("certificates of servers are not verified"),
        "case 60: a warning is logged"
    );
    for line in text.lines() {
        clean("the log", line);
    }
}
