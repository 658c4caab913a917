//! Answers of S3 that the installed servers do not produce, and the requests that they cause.
//!
//! They include expired signatures, other regions, throttling, and 200 with an error.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use pget_core::{ErrorKind, RangeSource};
use pget_s3::{S3Source, Settings};
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, Seen, When},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::common::{check, client, open, options, read, texts, within};

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

fn answer(status: u16, headers: &[(&str, &str)], code: &str, message: &str) -> Fault {
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
async fn fetch(route: Route) -> (Hostile, Result<Vec<u8>, pget_core::Error>) {
    let server = Hostile::start().expect("a server");
    server.route("/bucket/k", route);
    let source = open("s3://bucket/k", &settings(&server));
    let outcome = within(read(source, options(CHUNK, 4))).await;
    (server, outcome)
}

fn refused(outcome: Result<Vec<u8>, pget_core::Error>, kind: ErrorKind) -> String {
    let error = outcome.expect_err("it must fail");
    assert_eq!(error.kind(), kind, "{}", error.to_line());
    texts(&error)
}

/// Returns the requests for bytes. Another request asks for the checksum.
fn gets(server: &Hostile, path: &str) -> Vec<Seen> {
    let mut seen = server.requests(path);
    seen.retain(|seen| seen.method == "GET");
    seen
}

fn query<'a>(seen: &'a Seen, name: &str) -> Option<&'a str> {
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

/// Returns settings that request credentials from `url` and `/credentials`.
fn temporary(url: &str, folder: &Path) -> Settings {
    let token = folder.join("token");
    std::fs::write(&token, "canary-token").expect("a token file");
    Settings::new().environment([
        ("AWS_ENDPOINT_URL".to_owned(), url.to_owned()),
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI".to_owned(),
            format!("{url}{CREDENTIALS}"),
        ),
        (
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE".to_owned(),
            token.to_str().expect("a path").to_owned(),
        ),
        ("AWS_REGION".to_owned(), "eu-north-9".to_owned()),
    ])
}

const CREDENTIALS: &str = "/credentials";

fn credentials(token: &str) -> String {
    format!(
        r#"{{"AccessKeyId":"temporary","SecretAccessKey":"canary","Token":"{token}","Expiration":"2099-01-01T00:00:00Z"}}"#
    )
}

/// A server of credentials and of the object. With the first credentials, it serves only the first
/// three ranges.
struct Expiring {
    refusal: String,
    issued: AtomicU32,
    served: AtomicU32,
    refused: AtomicU32,
}

impl Expiring {
    fn new(status: &str, code: &str, message: &str) -> Self {
        let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        let refusal = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Self {
            refusal,
            issued: AtomicU32::new(0),
            served: AtomicU32::new(0),
            refused: AtomicU32::new(0),
        }
    }

    async fn start(self: Arc<Self>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        // The task ends with the test's runtime.
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let server = Arc::clone(&self);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await?);
                    }
                    stream
                        .write_all(&server.answer(&String::from_utf8_lossy(&head)))
                        .await
                });
            }
        });
        address
    }

    fn answer(&self, head: &str) -> Vec<u8> {
        if head.contains(CREDENTIALS) {
            let number = self.issued.fetch_add(1, Ordering::SeqCst) + 1;
            let body = credentials(&format!("token{number}"));
            return format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes();
        }
        if head.contains("x-amz-security-token: token1\r\n")
            && self.served.fetch_add(1, Ordering::SeqCst) >= 3
        {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return self.refusal.clone().into_bytes();
        }
        let (_, range) = head.split_once("Range: bytes=").expect("a range");
        let (start, rest) = range.split_once('-').expect("from");
        let (last, _) = rest.split_once("\r\n").expect("to");
        let start: u64 = start.parse().expect("a number");
        let end = last.parse::<u64>().expect("a number").saturating_add(1).min(SIZE);
        let mut answer = format!(
            "HTTP/1.1 206 Partial Content\r\nConnection: close\r\nETag: \"e\"\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{SIZE}\r\n\r\n",
            end - start,
            end - 1
        )
        .into_bytes();
        let length = usize::try_from(end - start).expect("small");
        answer.extend(Pattern::new(SEED).bytes(start, length));
        answer
    }
}

/// A server of temporary credentials that counts the requests for new ones.
struct Temporary {
    settings: Settings,
    _folder: tempfile::TempDir,
}

impl Temporary {
    fn new(server: &Hostile, fault: Option<Fault>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let fault = fault.unwrap_or_else(|| Fault::Answer {
            status: 200,
            headers: vec![("Content-Type".into(), "application/json".into())],
            body: credentials("session/+token").into_bytes(),
        });
        server.route(CREDENTIALS, Route::new(object()).fault(When::Always, fault));
        Self {
            settings: temporary(&server.url(""), folder.path()),
            _folder: folder,
        }
    }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn temporary_credentials_are_asked_for_once_and_used() {
    let server = Hostile::start().expect("a server");
    server.route("/bucket/k", Route::new(object()));
    let temporary = Temporary::new(&server, None);
    let source = open("s3://bucket/k", &temporary.settings);
    check(
        &within(read(source, options(CHUNK, 4))).await.expect("it reads"),
        Pattern::new(SEED),
        SIZE,
    );
    let asked = server.requests(CREDENTIALS);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("authorization"), Some("canary-token"));
    let reads = gets(&server, "/bucket/k");
    assert!(reads.len() > 4);
    for read in &reads {
        assert_eq!(read.header("x-amz-security-token"), Some("session/+token"));
        let credential = signed(read, "Credential").expect("a credential");
        assert!(
            credential.starts_with("temporary/") && credential.contains("/eu-north-9/s3/"),
            "{credential}"
        );
        assert_eq!(read.target, "/bucket/k", "nothing of it is in the address");
    }
    let later = reads
        .iter()
        .find(|read| read.header("if-match").is_some())
        .expect("later reads are conditional");
    assert_eq!(later.header("if-match"), object().etag.as_deref());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_credentials_are_told_as_such() {
    let server = Hostile::start().expect("a server");
    server.route("/bucket/k", Route::new(object()));
    let temporary = Temporary::new(&server, Some(document(403, "AccessDenied", "no")));
    let outcome = within(read(
        open("s3://bucket/k", &temporary.settings),
        options(CHUNK, 4),
    ))
    .await;
    refused(outcome, ErrorKind::PermissionDenied);
    assert!(
        server.requests("/bucket/k").is_empty(),
        "nothing is sent unsigned"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_credentials_the_metadata_service_is_asked_and_its_lack_told() {
    let server = Hostile::start().expect("a server");
    server.route("/bucket/k", Route::new(object()));
    let settings = Settings::new()
        .property("aws.endpoint", server.url(""))
        // No server listens at this address.
        .property("aws.metadata_endpoint", "http://127.0.0.1:1");
    let required = settings.clone().property("aws.skip_signature", "false");
    let outcome = within(read(open("s3://bucket/k", &required), options(CHUNK, 4))).await;
    let text = refused(outcome, ErrorKind::PermissionDenied);
    for place in ["AWS_ACCESS_KEY_ID", "profile", "CONTAINER", "http://127.0.0.1:1"] {
        assert!(text.contains(place), "{place} in {text}");
    }
    assert!(
        server.requests("/bucket/k").is_empty(),
        "nothing is sent unsigned"
    );
    // A public bucket serves the object without credentials.
    let outcome = within(read(open("s3://bucket/k", &settings), options(CHUNK, 4))).await;
    check(&outcome.expect("it is public"), Pattern::new(SEED), SIZE);
    for seen in server.requests("/bucket/k") {
        assert_eq!(seen.header("authorization"), None);
    }
    let denied = document(403, "AccessDenied", "No");
    server.route("/bucket/k", Route::new(object()).fault(When::HeadToo, denied));
    let outcome = within(read(open("s3://bucket/k", &settings), options(CHUNK, 4))).await;
    let text = refused(outcome, ErrorKind::PermissionDenied);
    assert!(
        text.contains("AccessDenied: No") && text.contains("http://127.0.0.1:1"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_35_and_37_an_expired_signature_is_replaced_once_for_all() {
    for (status, code, message) in [
        ("403 Forbidden", "AccessDenied", "Request has expired"),
        (
            "400 Bad Request",
            "ExpiredToken",
            "The provided token has expired.",
        ),
        ("403 Forbidden", "AccessDenied", "Access Denied"),
    ] {
        let server = Arc::new(Expiring::new(status, code, message));
        let address = Arc::clone(&server).start().await;
        let folder = tempfile::tempdir().expect("a folder");
        let settings = temporary(&format!("http://{address}"), folder.path());
        let mut options = options(CHUNK, 4);
        options.retries = Some(0);
        let outcome = within(read(open("s3://bucket/k", &settings), options)).await;
        let bytes = outcome.unwrap_or_else(|error| panic!("{code}: {}", error.to_line()));
        check(&bytes, Pattern::new(SEED), SIZE);
        assert!(
            server.refused.load(Ordering::SeqCst) > 0,
            "{code}: nothing was refused"
        );
        assert_eq!(
            server.issued.load(Ordering::SeqCst),
            2,
            "{code}: new credentials, once for all"
        );
    }
}

#[tokio::test]
async fn a_refusal_for_good_is_not_argued_with() {
    let (server, outcome) =
        fetch(Route::new(object()).fault(When::HeadToo, document(403, "AccessDenied", "No"))).await;
    let text = refused(outcome, ErrorKind::PermissionDenied);
    assert!(text.contains("AccessDenied: No"), "{text}");
    assert_eq!(
        gets(&server, "/bucket/k").len(),
        3,
        "for a range, for everything, and once more with a fresh signature"
    );

    let expired = document(403, "AccessDenied", "Request has expired");
    let (server, outcome) = fetch(Route::new(object()).fault(When::Always, expired)).await;
    refused(outcome, ErrorKind::PermissionDenied);
    assert_eq!(gets(&server, "/bucket/k").len(), 2, "once more, not endlessly");
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
async fn case_36_a_servers_time_is_signed_for_once_it_has_refused_this_machines() {
    for (ahead, code, message) in [
        (3600, "RequestTimeTooSkewed", "too far"),
        (-23 * 3600, "RequestTimeTooSkewed", "too far"),
        (7200, "AccessDenied", "Request has expired"),
        (-7200, "AccessDenied", "Request is not valid yet"),
    ] {
        let (when, fault) = skewed(ahead, code, message);
        let (server, outcome) = fetch(Route::new(object()).fault(when, fault)).await;
        let bytes = outcome.unwrap_or_else(|error| panic!("{ahead}: {}", error.to_line()));
        check(&bytes, Pattern::new(SEED), SIZE);
        let gets = gets(&server, "/bucket/k");
        let refused = gets.iter().filter(|get| get.rule.is_some()).count();
        assert_eq!(refused, 1, "{ahead}: one offset serves all ranges");
    }
}

#[tokio::test]
async fn case_36_a_clock_that_cannot_be_corrected_is_told() {
    // The refusals have no date, a date that is too far off, and a date that is refused again.
    let silent = (When::Always, document(403, "RequestTimeTooSkewed", "too far"));
    let far = skewed(30 * 3600, "RequestTimeTooSkewed", "too far");
    let (_, liar) = skewed(3600, "RequestTimeTooSkewed", "too far");
    for ((when, fault), asked) in [(silent, 1), (far, 1), ((When::HeadToo, liar), 2)] {
        let (server, outcome) = fetch(Route::new(object()).fault(when, fault)).await;
        let text = refused(outcome, ErrorKind::PermissionDenied);
        assert!(text.contains("clock"), "{text}");
        assert_eq!(gets(&server, "/bucket/k").len(), asked);
    }
}

#[tokio::test]
async fn credentials_revoked_while_reading_are_a_refusal() {
    let revoked = document(403, "InvalidAccessKeyId", "gone");
    let (server, outcome) = fetch(Route::new(object()).fault(When::From(3), revoked)).await;
    refused(outcome, ErrorKind::PermissionDenied);
    assert!(server.served("/bucket/k") > 0);
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

#[tokio::test]
async fn case_66_the_path_on_the_wire_is_the_key() {
    let server = Hostile::start().expect("a server");
    for (key, path) in [
        ("a+b c", "/bucket/a%2Bb%20c"),
        ("%2541~", "/bucket/%2541~"),
        ("dir//dbl", "/bucket/dir//dbl"),
        ("/lead", "/bucket//lead"),
        ("trail/", "/bucket/trail/"),
        ("ä?/€".replace('?', "%3F").as_str(), "/bucket/%C3%A4%3F/%E2%82%AC"),
        ("..a/b.", "/bucket/..a/b."),
    ] {
        server.route(path, Route::new(object()));
        let settings = settings(&server).property("aws.session_token", "canary");
        let bytes = within(read(
            open(&format!("s3://bucket/{key}"), &settings),
            options(CHUNK, 2),
        ))
        .await;
        check(
            &bytes.unwrap_or_else(|error| panic!("{key}: {}", error.to_line())),
            Pattern::new(SEED),
            SIZE,
        );
        for seen in server.requests(path) {
            let by_header =
                seen.header("authorization").is_some() && seen.header("x-amz-security-token").is_some();
            assert!(by_header && !seen.target.contains('?'), "{key}: {}", seen.target);
        }
    }
}

#[tokio::test]
async fn versions_payers_and_hosts_are_where_they_belong() {
    let server = Hostile::start().expect("a server");
    server.route("/bucket/k", Route::new(object()));
    server.route("/bucket/k/", Route::new(object()));
    server.route("/k", Route::new(object()));
    for (key, path) in [("k", "/bucket/k"), ("k/", "/bucket/k/")] {
        let payer = settings(&server).property("aws.request_payer", "requester");
        let source = open(&format!("s3://bucket/{key}?versionId=v%2F1"), &payer);
        within(read(source, options(CHUNK, 2))).await.expect("it reads");
        for seen in server.requests(path) {
            assert_eq!(query(&seen, "versionId"), Some("v%2F1"));
            let payer = seen.header("x-amz-request-payer");
            assert_eq!(payer, Some("requester"), "{key}");
        }
    }
    // The endpoint of a virtual-hosted bucket has the bucket's name in the host.
    for bucket in ["127", "127.0.0.1"] {
        let source = open(&format!("s3://{bucket}/k"), &hosted(settings(&server)));
        within(read(source, options(CHUNK, 2))).await.expect("it reads");
    }
    assert!(!server.requests("/k").is_empty());
}

/// Makes the server read the bucket from the host.
///
/// Every machine resolves 127.0.0.1, which here is the host of bucket `127`.
fn hosted(settings: Settings) -> Settings {
    settings.property("aws.virtual_hosted_style_request", "true")
}

#[tokio::test]
async fn a_virtual_hosted_endpoint_of_another_bucket_is_not_read_from() {
    let server = Hostile::start().expect("a server");
    server.route("/k", Route::new(object()));
    let by_variables = Settings::new().environment([
        ("AWS_ENDPOINT_URL_S3".to_owned(), server.url("")),
        ("AWS_ENDPOINT_URL".to_owned(), "http://other".to_owned()),
        ("AWS_SKIP_SIGNATURE".to_owned(), "true".to_owned()),
        ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST".to_owned(), "true".to_owned()),
    ]);
    for settings in [hosted(settings(&server)), by_variables] {
        for bucket in ["other", "12", "127.0.0.2", "0.0.1"] {
            let address = format!("s3://{bucket}/k");
            let outcome = async {
                read(
                    Arc::new(S3Source::open(&address, &settings, client())?),
                    options(CHUNK, 2),
                )
                .await
            };
            let text = refused(within(outcome).await, ErrorKind::InvalidArgument);
            assert!(text.contains(&format!("{bucket}.HOST")), "{text}");
        }
    }
    assert!(server.requests("/k").is_empty(), "nothing is sent");
}

#[tokio::test]
async fn a_slash_behind_the_endpoint_does_not_become_the_keys() {
    let server = Hostile::start().expect("a server");
    for front in ["", "/", "//", "/a%20b", "/a%20b/"] {
        let trimmed = front.trim_end_matches('/');
        for (is_hosted, key) in [(false, "k"), (true, "k"), (false, "/k"), (true, "/k")] {
            let bucket = if is_hosted { "" } else { "/127" };
            let path = format!("{trimmed}{bucket}/{key}");
            server.route(&path, Route::new(object()));
            for unsigned in ["false", "true"] {
                let settings = settings(&server)
                    .property("aws.endpoint", server.url(front))
                    .property("aws.skip_signature", unsigned);
                let settings = if is_hosted { hosted(settings) } else { settings };
                let before = server.requests(&path).len();
                let source = open(&format!("s3://127/{key}"), &settings);
                let bytes = within(read(source, options(CHUNK, 2))).await;
                let bytes = bytes.unwrap_or_else(|error| panic!("{front} {path}: {}", error.to_line()));
                check(&bytes, Pattern::new(SEED), SIZE);
                assert!(server.requests(&path).len() > before, "{front} {path}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_of_another_version_than_asked_for_is_refused() {
    for (told, right) in [("v/1", true), ("w", false), ("null", false)] {
        let server = Hostile::start().expect("a server");
        let mut object = object();
        object.headers.push(("x-amz-version-id".into(), told.into()));
        server.route("/bucket/k", Route::new(object));
        let source = open("s3://bucket/k?versionId=v%2F1", &settings(&server));
        let info = within(source.head()).await;
        assert_eq!(
            info.map(|info| info.size).map_err(|error| error.kind()),
            if right {
                Ok(Some(SIZE))
            } else {
                Err(ErrorKind::Protocol)
            },
            "{told}"
        );
        for concurrency in [1, 4] {
            let outcome = within(read(Arc::clone(&source), options(CHUNK, concurrency))).await;
            if right {
                check(&outcome.expect("it reads"), Pattern::new(SEED), SIZE);
            } else {
                assert!(refused(outcome, ErrorKind::Protocol).contains("another version"));
            }
        }
    }
}
