//! Checks that the real servers start, behave as documented, and are gone after drop.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use pget_testkit::content::Pattern;
use pget_testkit::servers::{
    Authority, Gofakes3, Nginx, NginxOptions, PythonServer, Validity, Versitygw, VersitygwOptions, require,
    sparse_file,
};

/// Returns the answer of the server at `url` to a GET with these extra header lines, as text.
///
/// The connection closes after it.
fn get(url: &str, headers: &str) -> String {
    let (host, path) = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .expect("a URL with a path");
    let mut stream = TcpStream::connect(host).expect("the server listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a deadline");
    write!(
        stream,
        "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n"
    )
    .expect("sent");
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .expect("an answer before the deadline");
    String::from_utf8_lossy(&answer).into_owned()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a head").1
}

#[test]
fn nginx_serves_ranges_and_takes_directives_and_stops() {
    let options = NginxOptions {
        server: "location /whole/ { max_ranges 0; alias /dev/null; } location /loop { return 302 /loop; }"
            .into(),
        ..NginxOptions::default()
    };
    let Some(nginx) = require(Nginx::start(&options)) else {
        return;
    };
    nginx.put("a", "0123456789").expect("written");
    let answer = get(&nginx.url("/a"), "Range: bytes=2-4\r\n");
    assert!(answer.starts_with("HTTP/1.1 206 "), "{answer}");
    assert!(answer.contains("Content-Range: bytes 2-4/10"), "{answer}");
    assert_eq!(body(&answer), "234");
    assert!(get(&nginx.url("/loop"), "").contains("302 Moved"));
    assert!(nginx.https_url("/a").is_none());
    let log = nginx.access_log().expect("a log");
    assert!(log[0].ends_with(r#"206 GET /a "bytes=2-4" 3"#), "{log:?}");

    let (url, root) = (nginx.url("/a"), nginx.root());
    drop(nginx);
    let host = url
        .trim_start_matches("http://")
        .split('/')
        .next()
        .expect("a host");
    assert!(TcpStream::connect(host).is_err(), "nginx must be gone");
    assert!(!root.exists(), "its folder must be gone");
}

#[test]
fn nginx_without_ranges_sends_everything() {
    let options = NginxOptions {
        server: "max_ranges 0; etag off;".into(),
        ..NginxOptions::default()
    };
    let Some(nginx) = require(Nginx::start(&options)) else {
        return;
    };
    nginx.put("a", "0123456789").expect("written");
    let answer = get(&nginx.url("/a"), "Range: bytes=2-4\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(!answer.contains("ETag"), "{answer}");
    assert_eq!(body(&answer), "0123456789");
}

#[tokio::test]
async fn nginx_speaks_tls_with_a_certificate_of_our_own_authority() {
    let authority = Authority::new().expect("an authority");
    let fetch = async |leaf, name: &str| {
        let options = NginxOptions {
            tls: Some(leaf),
            ..NginxOptions::default()
        };
        let nginx = require(Nginx::start(&options))?;
        nginx.put(name, "over TLS").expect("written");
        let provider = rustls::crypto::ring::default_provider();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der().into()).expect("a certificate");
        let config = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .build()
            .expect("a client");
        let url = nginx.https_url(&format!("/{name}")).expect("TLS was asked for");
        let work = async { client.get(url).send().await?.text().await };
        Some(
            tokio::time::timeout(Duration::from_secs(10), work)
                .await
                .expect("before the deadline"),
        )
    };
    let good = authority
        .leaf(&["localhost", "127.0.0.1"], Validity::Now)
        .expect("a leaf");
    let Some(text) = fetch(good, "a").await else {
        return;
    };
    assert_eq!(text.expect("a trusted connection"), "over TLS");
    for bad in [
        authority.leaf(&["localhost"], Validity::Expired),
        authority.leaf(&["other.example"], Validity::Now),
        Authority::new()
            .expect("an authority")
            .leaf(&["localhost"], Validity::Now),
    ] {
        let result = fetch(bad.expect("a leaf"), "a")
            .await
            .expect("nginx was there before");
        assert!(result.expect_err("must not be trusted").is_connect());
    }
}

#[test]
fn versitygw_checks_conditions_and_gofakes3_does_not() {
    let Some(gateway) = require(Versitygw::start(VersitygwOptions {
        versioning: true,
        anonymous: true,
    })) else {
        return;
    };
    let endpoint = gateway.endpoint();
    let url = format!("{}/{}/dir/a", endpoint.url(), endpoint.bucket());
    let etag = endpoint.put("dir/a", b"hello\n").expect("put");
    assert_eq!(etag, "\"b1946ac92492d2347c6235b4d2611184\"");
    let answer = get(&url, "Range: bytes=1-2\r\nIf-Match: \"other\"\r\n");
    assert!(answer.starts_with("HTTP/1.1 412 "), "{answer}");
    let answer = get(&url, &format!("Range: bytes=1-2\r\nIf-Match: {etag}\r\n"));
    assert!(
        answer.starts_with("HTTP/1.1 206 ") && body(&answer) == "el",
        "{answer}"
    );
    assert!(answer.to_lowercase().contains("x-amz-version-id: "), "{answer}");
    let length = 3 << 20;
    endpoint.put_pattern("big", Pattern::new(1), length).expect("put");
    assert_eq!(
        std::fs::metadata(gateway.bucket_folder().join("big"))
            .expect("a file")
            .len(),
        length
    );
    endpoint.delete("dir/a").expect("deleted");
    assert!(get(&url, "").starts_with("HTTP/1.1 404 "));

    let Some(other) = require(Gofakes3::start()) else {
        return;
    };
    let endpoint = other.endpoint();
    endpoint.put("a", b"hello\n").expect("put");
    let url = format!("{}/{}/a", endpoint.url(), endpoint.bucket());
    let answer = get(&url, "Range: bytes=1-2\r\nIf-Match: \"other\"\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 206 ") && body(&answer) == "el",
        "{answer}"
    );
}

#[test]
fn versitygw_refuses_the_unsigned_and_sees_files_placed_in_its_folder() {
    let Some(private) = require(Versitygw::start(VersitygwOptions::default())) else {
        return;
    };
    let endpoint = private.endpoint();
    endpoint.put("a", b"hello\n").expect("put");
    assert!(get(&format!("{}/{}/a", endpoint.url(), endpoint.bucket()), "").starts_with("HTTP/1.1 403 "));

    let options = VersitygwOptions {
        anonymous: true,
        ..VersitygwOptions::default()
    };
    let Some(open) = require(Versitygw::start(options)) else {
        return;
    };
    sparse_file(&open.bucket_folder().join("huge"), 64 << 30).expect("a sparse file");
    let url = format!("{}/{}/huge", open.endpoint().url(), open.endpoint().bucket());
    let answer = get(&url, "Range: bytes=68719476730-\r\n");
    assert!(
        answer.contains("bytes 68719476730-68719476735/68719476736"),
        "{answer}"
    );
    assert!(!answer.to_lowercase().contains("etag: \""), "{answer}");
}

#[test]
fn python_ignores_ranges() {
    let Some(python) = require(PythonServer::start()) else {
        return;
    };
    python.put("a", "0123456789").expect("written");
    let answer = get(&python.url("/a"), "Range: bytes=2-4\r\n");
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    assert_eq!(body(&answer), "0123456789");
}
