//! Credentials that a service issues: they are requested once, expire, or are refused.
//!
//! So is a signature whose time the server does not accept.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use pget_core::ErrorKind;
use pget_s3::Settings;
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Route, When},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{
    answers::{CHUNK, SEED, SIZE, document, fetch, gets, object, refused, signed, skewed},
    common::{check, open, options, read, within},
};

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
