//! Answers of S3 that the installed servers do not produce, and the requests that they cause.
//!
//! They include expired signatures, other regions, throttling, and 200 with an error.

use std::time::{Duration, SystemTime};

use pget_core::{ErrorKind, RangeSource};
use pget_s3::Settings;
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, Seen, When},
};

use super::common::{check, open, options, read, texts, within};

pub(super) const SEED: u64 = 51;
pub(super) const CHUNK: u64 = 32 << 10;
pub(super) const SIZE: u64 = 16 * CHUNK + 5;

pub(super) fn settings(server: &Hostile) -> Settings {
    Settings::new()
        .property("aws.endpoint", server.url(""))
        .property("aws.access_key_id", "keyid")
        .property("aws.secret_access_key", "canary")
}

pub(super) fn object() -> Object {
    Object::new(SEED, SIZE)
}

pub(super) fn document(status: u16, code: &str, message: &str) -> Fault {
    answer(status, &[], code, message)
}

pub(super) fn answer(status: u16, headers: &[(&str, &str)], code: &str, message: &str) -> Fault {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
         <AWSAccessKeyId>canary</AWSAccessKeyId><StringToSign>canary</StringToSign></Error>"
    );
    let mut all = vec![("Content-Type".to_owned(), "application/xml".to_owned())];
    all.extend(
        headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    Fault::Answer {
        status,
        headers: all,
        body: body.into_bytes(),
    }
}

/// Reads `s3://bucket/k`, which `route` serves.
pub(super) async fn fetch(route: Route) -> (Hostile, Result<Vec<u8>, pget_core::Error>) {
    let server = Hostile::start().expect("a server");
    server.route("/bucket/k", route);
    let source = open("s3://bucket/k", &settings(&server));
    let outcome = within(read(source, options(CHUNK, 4))).await;
    (server, outcome)
}

pub(super) fn refused(outcome: Result<Vec<u8>, pget_core::Error>, kind: ErrorKind) -> String {
    let error = outcome.expect_err("it must fail");
    assert_eq!(error.kind(), kind, "{}", error.to_line());
    texts(&error)
}

/// Returns the requests for bytes. Another request asks for the checksum.
pub(super) fn gets(server: &Hostile, path: &str) -> Vec<Seen> {
    let mut seen = server.requests(path);
    seen.retain(|seen| seen.method == "GET");
    seen
}

pub(super) fn query<'a>(seen: &'a Seen, name: &str) -> Option<&'a str> {
    let (_, query) = seen.target.split_once('?')?;
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Returns the part of the `Authorization` header that begins with `name`.
pub(super) fn signed<'a>(seen: &'a Seen, name: &str) -> Option<&'a str> {
    let mut parts = seen.header("authorization")?.split([' ', ',']);
    parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

/// `aws s3 cp --content-encoding gzip` sets a property of the object. Bytes and ranges are those
/// that were stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_was_put_with_a_coding_is_read_as_it_is() {
    for coding in ["gzip", "aws-chunked"] {
        let coded = Route::new(object()).fault(When::Always, Fault::ContentEncoding(coding.into()));
        let (server, outcome) = fetch(coded).await;
        check(&outcome.expect(coding), Pattern::new(SEED), SIZE);
        let source = open("s3://bucket/k", &settings(&server));
        let bytes = within(read(source, options(CHUNK, 1))).await.expect(coding);
        check(&bytes, Pattern::new(SEED), SIZE);
    }
}

/// Returns the answer of an S3 server whose clock is `ahead` seconds ahead, and the requests that
/// get it.
pub(super) fn skewed(ahead: i64, code: &str, message: &str) -> (When, Fault) {
    let ahead_by = Duration::from_secs(ahead.unsigned_abs());
    let now = SystemTime::now();
    let date = if ahead < 0 { now - ahead_by } else { now + ahead_by };
    let date = httpdate::fmt_http_date(date);
    (
        When::SignedOff { ahead },
        answer(403, &[("Date", &date)], code, message),
    )
}

#[tokio::test]
async fn case_38_another_region_is_believed_once() {
    let region = [("x-amz-bucket-region", "eu-west-7")];
    let malformed = Fault::Answer {
        status: 400,
        headers: Vec::new(),
        body: b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>m</Message><Region>eu-west-7</Region></Error>".to_vec(),
    };
    for elsewhere in [
        answer(301, &region, "PermanentRedirect", "use the endpoint"),
        answer(307, &region, "TemporaryRedirect", "later"),
        malformed,
    ] {
        let (server, outcome) = fetch(Route::new(object()).fault(When::Nth(1), elsewhere.clone())).await;
        check(
            &outcome.unwrap_or_else(|error| panic!("{}", error.to_line())),
            Pattern::new(SEED),
            SIZE,
        );
        let requests = gets(&server, "/bucket/k");
        assert!(signed(&requests[0], "Credential").is_some_and(|c| c.contains("/us-east-1/")));
        for later in &requests[1..] {
            assert!(signed(later, "Credential").is_some_and(|c| c.contains("/eu-west-7/")));
        }
    }
    let (server, outcome) =
        fetch(Route::new(object()).fault(When::Always, answer(301, &region, "PermanentRedirect", "m"))).await;
    let text = refused(outcome, ErrorKind::Protocol);
    assert!(text.contains("eu-west-7"), "{text}");
    assert_eq!(gets(&server, "/bucket/k").len(), 2);
    for name in ["evil.example/", "", "US-EAST"] {
        let evil = answer(301, &[("x-amz-bucket-region", name)], "PermanentRedirect", "m");
        let (server, outcome) = fetch(Route::new(object()).fault(When::Always, evil)).await;
        refused(outcome, ErrorKind::Protocol);
        assert_eq!(gets(&server, "/bucket/k").len(), 1, "{name}");
    }
}

/// MinIO reports its configured region with every refusal, whatever that region is.
#[tokio::test]
async fn case_38_a_refusal_that_names_no_region_is_what_it_says() {
    for named in ["EU_home", ""] {
        for signed in ["EU_home", "eu-north-9"] {
            let outcome = async |when, status, code| {
                let server = Hostile::start().expect("a server");
                let settings = settings(&server).property("aws.region", signed);
                let fault = answer(status, &[("x-amz-bucket-region", named)], code, "denied");
                server.route("/bucket/k", Route::new(object()).fault(when, fault));
                within(read(open("s3://bucket/k", &settings), options(CHUNK, 4))).await
            };
            let denied = outcome(When::HeadToo, 403, "AccessDenied").await;
            let text = refused(denied, ErrorKind::PermissionDenied);
            assert!(text.contains("AccessDenied: denied"), "{text}");
            let expired = outcome(When::Nth(1), 400, "ExpiredToken").await;
            let bytes = expired.unwrap_or_else(|error| panic!("{named}, {signed}: {}", error.to_line()));
            check(&bytes, Pattern::new(SEED), SIZE);
        }
    }
}

/// A gateway distributes its work. The redirected request is signed again for the other host.
#[tokio::test]
async fn a_redirect_of_a_gateway_is_signed_anew_and_others_are_not_followed() {
    let node = Hostile::start().expect("another server");
    let url = node.route("/other/path", Route::new(object()));
    for status in [301, 302, 303, 307, 308] {
        let followed = status >= 307;
        let sent_on = Fault::redirect(status, &format!("{url}?pid=1&x=a%2Fb"));
        let before = node.requests("/other/path").len();
        let (server, outcome) = fetch(Route::new(object()).fault(When::HeadToo, sent_on)).await;
        assert!(server.served("/bucket/k") > 0);
        let reached = node.requests("/other/path").split_off(before);
        if !followed {
            refused(outcome, ErrorKind::Protocol);
            assert!(reached.is_empty(), "{status}");
            continue;
        }
        let bytes = outcome.unwrap_or_else(|error| panic!("{status}: {}", error.to_line()));
        check(&bytes, Pattern::new(SEED), SIZE);
        for seen in reached {
            assert_eq!(seen.target, "/other/path?pid=1&x=a%2Fb");
            assert!(signed(&seen, "Signature").is_some(), "{status}");
        }
    }
    // The client follows neither a circle nor an endless chain.
    let server = Hostile::start().expect("a server");
    let itself = Fault::redirect(307, &server.url("/bucket/k"));
    server.route("/bucket/k", Route::new(object()).fault(When::HeadToo, itself));
    let outcome = within(read(open("s3://bucket/k", &settings(&server)), options(CHUNK, 4))).await;
    refused(outcome, ErrorKind::Protocol);
    assert_eq!(gets(&server, "/bucket/k").len(), 6);
}

#[tokio::test]
async fn throttling_and_server_errors_pass() {
    for fault in [
        Fault::throttle(503, "0"),
        document(503, "SlowDown", "Please reduce your request rate."),
        document(500, "InternalError", "We encountered an internal error."),
        document(200, "InternalError", "We encountered an internal error."),
        document(400, "RequestTimeout", "idle"),
    ] {
        for when in [When::First, When::Later] {
            let (server, outcome) = fetch(Route::new(object()).fault_times(when, 1, fault.clone())).await;
            let bytes = outcome.unwrap_or_else(|error| panic!("{fault:?} {when:?}: {}", error.to_line()));
            check(&bytes, Pattern::new(SEED), SIZE);
            assert_eq!(server.served("/bucket/k"), 1, "{fault:?} {when:?}");
        }
    }
    let (_, outcome) = fetch(Route::new(object()).fault(When::Always, Fault::error_document())).await;
    refused(outcome, ErrorKind::Unavailable);
    let (_, outcome) = fetch(Route::new(object()).fault(When::Always, document(503, "SlowDown", "m"))).await;
    refused(outcome, ErrorKind::Unavailable);
}

#[tokio::test]
async fn case_14_and_16_an_object_that_got_shorter_has_changed() {
    for total in [None, Some(CHUNK)] {
        let (server, outcome) =
            fetch(Route::new(object()).fault(When::Later, Fault::unsatisfiable(total))).await;
        refused(outcome, ErrorKind::ObjectChanged);
        assert!(server.served("/bucket/k") > 0);
    }
}

#[tokio::test]
async fn case_51_a_refused_head_is_made_up_for_by_a_get() {
    for status in [403, 405] {
        let server = Hostile::start().expect("a server");
        server.route(
            "/bucket/k",
            Route::new(object()).fault(When::Head, Fault::status(status)),
        );
        let info = within(open("s3://bucket/k", &settings(&server)).head())
            .await
            .expect("by GET");
        assert_eq!(info.size, Some(SIZE));
        assert_eq!(info.revision.etag, object().etag);
        assert_eq!(server.served("/bucket/k"), 1);
    }
}

#[tokio::test]
async fn a_changed_object_is_noticed_by_its_version_too() {
    let versioned = |version: &str| {
        let mut object = object();
        object.etag = None;
        object.last_modified = None;
        object.headers.push(("x-amz-version-id".into(), version.into()));
        object
    };
    let route = Route::new(versioned("a")).fault(When::Later, Fault::Revision(versioned("b")));
    let (server, outcome) = fetch(route).await;
    refused(outcome, ErrorKind::ObjectChanged);
    assert!(server.served("/bucket/k") > 0);
}
