//! Cases 58 to 68, as far as they concern HTTP.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use pget_core::{Error, ErrorKind, RangeSource as _, Retry, SourceError};
use pget_http::{
    ByteRange, Client, ClientOptions, HttpSource, ProxyChoice, RedirectPolicy, RequestHead, TlsError,
};
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Route, When},
    servers::{Authority, Leaf, Nginx, NginxOptions, Validity, require},
};
use url::Url;

use crate::{
    SEED, SIZE, client, fails, object, options, proxy::Tunnels, read, read_with, source, with, within,
};

#[tokio::test]
async fn case_58_a_name_without_an_address_is_unavailable() {
    let mut options = options();
    options.retries = Some(1);
    let error = read_with(source("http://nothing.invalid/o"), options)
        .await
        .failed(Pattern::new(SEED), ErrorKind::Unavailable);
    assert!(error.to_line().contains("nothing.invalid"), "{}", error.to_line());
}

#[tokio::test]
async fn case_59_a_refused_connection_is_unavailable_and_a_hanging_one_times_out() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("its address");
    drop(free);
    read(&format!("http://{address}/o"))
        .await
        .failed(Pattern::new(SEED), ErrorKind::Unavailable);
    // A TLS handshake that is never answered hangs in connecting.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut settings = ClientOptions::default();
    settings.connect_timeout = Duration::from_millis(100);
    let client = Client::new(&settings).expect("sound options");
    let url = format!("https://{}/o", silent.local_addr().expect("its address"));
    let source = HttpSource::new(client, &url, HeaderMap::new()).expect("an address");
    let error = within(source.head()).await.expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

pub(crate) fn trusting(authority: &Authority) -> Client {
    let mut settings = ClientOptions::default();
    settings.tls.platform_roots = false;
    settings.tls.extra_roots = vec![authority.pem().into_bytes()];
    Client::new(&settings).expect("sound options")
}

async fn over_tls(
    client: Client,
    names: &[&str],
    validity: Validity,
    authority: &Authority,
) -> Option<Result<(), Error>> {
    let leaf = authority.leaf(names, validity).expect("a certificate");
    let nginx = require(Nginx::start(&NginxOptions {
        tls: Some(leaf),
        ..NginxOptions::default()
    }))?;
    nginx
        .put("o", Pattern::new(SEED).bytes(0, 1_000_003))
        .expect("a file");
    let url = nginx.https_url("/o").expect("it has TLS");
    let source = HttpSource::new(client, &url, HeaderMap::new()).expect("an address");
    let outcome = read_with(source, options()).await;
    assert_eq!(Pattern::new(SEED).check(0, &outcome.bytes), Ok(()));
    Some(outcome.end.map(|_| assert_eq!(outcome.bytes.len() as u64, SIZE)))
}

#[tokio::test]
async fn case_60_bad_certificates_are_typed_and_final() {
    let authority = Authority::new().expect("an authority");
    let stranger = Authority::new().expect("an authority");
    let good = over_tls(trusting(&authority), &["localhost"], Validity::Now, &authority).await;
    let Some(good) = good else { return };
    good.expect("it is to be trusted");
    let mut settings = ClientOptions::default();
    settings.tls.skip_verify = true;
    let careless = Client::new(&settings).expect("sound options");
    over_tls(careless, &["elsewhere"], Validity::Expired, &stranger)
        .await
        .expect("nginx was there before")
        .expect("verification is off");
    for (client, name, validity) in [
        (trusting(&stranger), "localhost", Validity::Now),
        (trusting(&authority), "elsewhere", Validity::Now),
        (trusting(&authority), "localhost", Validity::Expired),
    ] {
        let error = over_tls(client, &[name], validity, &authority)
            .await
            .expect("nginx was there before")
            .expect_err("it is not to be trusted");
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Protocol, 1));
        let cause = std::error::Error::source(&error).expect("a cause");
        let tls = cause.downcast_ref::<TlsError>();
        assert!(matches!(tls, Some(TlsError::Certificate(_))), "{cause:?}");
    }
    // TLS spoken to a server that does not.
    let nginx = Nginx::start(&NginxOptions::default()).expect("nginx was there before");
    let url = nginx.url("/o").replace("http:", "https:");
    let source = HttpSource::new(trusting(&authority), &url, HeaderMap::new()).expect("an address");
    let error = within(source.head()).await.expect_err("no TLS there");
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    let mut settings = ClientOptions::default();
    settings.tls.extra_roots = vec![b"no certificate".to_vec()];
    let error = Client::new(&settings).expect_err("no roots in it");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn case_60_self_signed_certificates_and_old_versions_are_refused() {
    let authority = Authority::new().expect("an authority");
    let itself = Leaf::self_signed(&["localhost"]).expect("a certificate");
    let good = authority
        .leaf(&["localhost"], Validity::Now)
        .expect("a certificate");
    let old = "ssl_protocols TLSv1 TLSv1.1; ssl_ciphers ALL:@SECLEVEL=0;";
    for (leaf, server, is_certificate) in [(itself, "", true), (good, old, false)] {
        let options = NginxOptions {
            tls: Some(leaf),
            server: server.into(),
            ..NginxOptions::default()
        };
        let Some(nginx) = require(Nginx::start(&options)) else {
            return;
        };
        let url = nginx.https_url("/o").expect("it has TLS");
        let source = HttpSource::new(trusting(&authority), &url, HeaderMap::new()).expect("an address");
        let error = within(source.head()).await.expect_err("it is not to be trusted");
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Protocol, Retry::Never));
        let cause = std::error::Error::source(&error).expect("a cause");
        match cause.downcast_ref::<TlsError>() {
            Some(TlsError::Certificate(_)) => assert!(is_certificate, "{cause:?}"),
            Some(TlsError::Handshake(_)) => assert!(!is_certificate, "{cause:?}"),
            other => panic!("{other:?}"),
        }
    }
}

/// What is asked of a server with the certificate `leaf`, by a client that trusts `trusted`.
async fn ask_with(leaf: Leaf, trusted: &str, proxied: bool) -> Option<Result<(), SourceError>> {
    let nginx = require(Nginx::start(&NginxOptions {
        tls: Some(leaf),
        ..NginxOptions::default()
    }))?;
    nginx.put("o", vec![7; 1000]).expect("a file");
    let url = nginx.https_url("/o").expect("it has TLS");
    let mut settings = ClientOptions::default();
    settings.tls.platform_roots = false;
    settings.tls.extra_roots = vec![trusted.as_bytes().to_vec()];
    let tunnels = Tunnels::start(Some(nginx_tls(&url))).await;
    if proxied {
        let proxy = Url::parse(&format!("http://{}", tunnels.address)).expect("an address");
        settings.proxy = ProxyChoice::Url(proxy);
    }
    let client = Client::new(&settings).expect("sound options");
    let source = HttpSource::new(client, &url, HeaderMap::new()).expect("an address");
    let asked = within(source.head()).await;
    assert_eq!(tunnels.asked() > 0, proxied);
    Some(asked.map(|info| assert_eq!(info.size, Some(1000))))
}

fn nginx_tls(url: &str) -> SocketAddr {
    let port = Url::parse(url).expect("an address").port().expect("a port");
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[tokio::test]
async fn case_126_a_certificate_that_is_itself_trusted_is_trusted() {
    let own = |name| Leaf::own_authority(&[name], Validity::Now).expect("a certificate");
    let authority = Authority::new().expect("an authority");
    for proxied in [false, true] {
        let signed = authority.leaf(&["localhost"], Validity::Now);
        for leaf in [
            own("localhost"),
            Leaf::self_signed(&["localhost"]).expect("a certificate"),
            // One by an authority that nobody knows.
            signed.expect("a certificate"),
        ] {
            let trusted = leaf.certificate_pem.clone() + &authority_of_another().pem();
            let Some(asked) = ask_with(leaf, &trusted, proxied).await else {
                return;
            };
            asked.expect("it is trusted");
        }
        // Not another one of the same names, of another name, out of date, or only of a trusted key.
        let stranger = own("localhost").certificate_pem;
        let elsewhere = own("elsewhere");
        let expired = Leaf::own_authority(&["localhost"], Validity::Expired).expect("a certificate");
        for (leaf, trusted) in [
            (own("localhost"), Some(stranger)),
            (elsewhere, None),
            (expired, None),
        ] {
            let trusted = trusted.unwrap_or_else(|| leaf.certificate_pem.clone());
            let asked = ask_with(leaf, &trusted, proxied).await.expect("nginx was there");
            let error = asked.expect_err("it is not to be trusted");
            assert_eq!((error.kind(), error.retry()), (ErrorKind::Protocol, Retry::Never));
            let cause = std::error::Error::source(&error).expect("a cause");
            let tls = cause.downcast_ref::<TlsError>();
            assert!(matches!(tls, Some(TlsError::Certificate(_))), "{cause:?}");
        }
    }
}

/// `openssl req -x509 -subj /CN=localhost` lists no names. Its common name counts only if the
/// certificate is itself trusted.
#[tokio::test]
async fn case_126_a_common_name_counts_where_no_names_are_listed() {
    let named = |name| Leaf::commonly_named(name, &[], Validity::Now).expect("a certificate");
    for name in ["localhost", "LocalHost"] {
        let leaf = named(name);
        let trusted = leaf.certificate_pem.clone();
        let Some(asked) = ask_with(leaf, &trusted, false).await else {
            return;
        };
        asked.expect("it is trusted");
    }
    let stranger = named("localhost").certificate_pem;
    let expired = Leaf::commonly_named("localhost", &[], Validity::Expired).expect("a certificate");
    let listed = Leaf::commonly_named("localhost", &["elsewhere"], Validity::Now);
    for (leaf, trusted) in [
        (named("localhost"), Some(stranger)),
        (named("elsewhere"), None),
        (named("*"), None),
        (named("localhost.elsewhere"), None),
        (named(""), None),
        (listed.expect("a certificate"), None),
        (expired, None),
    ] {
        let trusted = trusted.unwrap_or_else(|| leaf.certificate_pem.clone());
        let asked = ask_with(leaf, &trusted, false).await.expect("nginx was there");
        let error = asked.expect_err("it is not to be trusted");
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Protocol, Retry::Never));
    }
}

fn authority_of_another() -> Authority {
    Authority::new().expect("an authority")
}

#[tokio::test]
async fn tls_connections_serve_many_ranges() {
    let authority = Authority::new().expect("an authority");
    for _ in 0..2 {
        let client = trusting(&authority);
        let Some(end) = over_tls(client, &["localhost"], Validity::Now, &authority).await else {
            return;
        };
        end.expect("it is to be trusted");
    }
}

#[tokio::test]
async fn case_62_another_origin_gets_no_credentials_and_the_same_one_does() {
    let first = Hostile::start().expect("a server");
    let second = Hostile::start().expect("a server");
    let target = second.route("/o", Route::new(object()));
    let away = first.route("/away", with(When::HeadToo, Fault::redirect(307, &target)));
    first.route("/o", Route::new(object()));
    let within_origin = first.route("/here", with(When::HeadToo, Fault::redirect(302, "/o")));
    let mut headers = HeaderMap::new();
    for name in ["cookie", "x-amz-security-token", "ais-token", "x-own"] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static("SECRET"));
    }
    for url in [&away, &within_origin] {
        let url = url.replace("http://", "http://user:SECRET@");
        let source = HttpSource::new(client(), &url, headers.clone()).expect("an address");
        read_with(source, options())
            .await
            .complete(Pattern::new(SEED), SIZE);
    }
    assert!(first.served("/away") > 0 && first.served("/here") > 0);
    for request in second.requests("/o") {
        let told = request
            .headers
            .iter()
            .any(|(name, value)| value.contains("SECRET") || name.eq_ignore_ascii_case("authorization"));
        assert!(!told, "{:?}", request.headers);
        assert!(request.header("range").is_some(), "case 64: the range is kept");
    }
    for request in first.requests("/o") {
        assert_eq!(request.header("x-own"), Some("SECRET"));
        assert!(
            request
                .header("authorization")
                .is_some_and(|value| value.starts_with("Basic "))
        );
        assert!(request.header("range").is_some());
    }
}

#[tokio::test]
async fn case_63_redirects_are_bounded_and_their_targets_checked() {
    let server = Hostile::start().expect("a server");
    for (hops, reaches) in [(1, true), (10, true), (11, false), (u32::MAX, false)] {
        let path = format!("/{hops}");
        let url = server.route(&path, with(When::HeadToo, Fault::RedirectChain { hops }));
        let outcome = read(&url).await;
        if reaches {
            outcome.complete(Pattern::new(SEED), SIZE);
        } else {
            outcome.failed(Pattern::new(SEED), ErrorKind::Protocol);
        }
        assert!(server.served(&path) > 0);
    }
    for to in [
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "unix:/run/docker.sock",
        "gopher://127.0.0.1/",
        "http://",
        "",
    ] {
        fails(with(When::Always, Fault::redirect(302, to)), ErrorKind::Protocol).await;
    }
}

#[tokio::test]
async fn case_64_redirects_keep_range_and_method_and_the_connection() {
    let server = Hostile::start().expect("a server");
    server.route("/o", Route::new(object()));
    for status in [301, 302, 303, 307, 308] {
        let path = format!("/{status}");
        let url = server.route(&path, with(When::HeadToo, Fault::redirect(status, "/o")));
        let before = server.requests("/o").len();
        let connections = server.load().connections;
        let mut head = RequestHead::get(Url::parse(&url).expect("an address"));
        head.range = ByteRange::new(5, Some(9));
        let response = within(client().get(head)).await.expect("it is served");
        assert_eq!((response.status.as_u16(), response.url.path()), (206, "/o"));
        let body = within(response.body.bytes(100)).await.expect("it is whole");
        assert_eq!(Pattern::new(SEED).check(5, &body), Ok(()));
        assert_eq!(body.len(), 4);
        assert_eq!(
            server.load().connections,
            connections + 1,
            "one connection for both"
        );
        let mut head = RequestHead::head(Url::parse(&url).expect("an address"));
        head.follow = RedirectPolicy::Yes;
        within(client().get(head)).await.expect("it is served");
        let seen = server.requests("/o");
        let methods: Vec<_> = seen[before..]
            .iter()
            .map(|request| request.method.as_str())
            .collect();
        assert_eq!(methods, ["GET", "HEAD"]);
        assert_eq!(seen[before].header("range"), Some("bytes=5-8"));
    }
    let mut head = RequestHead::get(Url::parse(&server.url("/307")).expect("an address"));
    head.follow = RedirectPolicy::No;
    let response = within(client().get(head)).await.expect("it is served");
    assert!(response.is_redirect());
    assert_eq!(response.location().expect("it says where").path(), "/o");
}

#[tokio::test]
async fn case_65_control_characters_are_refused_before_a_socket_opens() {
    let server = Hostile::start().expect("a server");
    let base = server.route("/o", Route::new(object()));
    for bad in ["\r\nX: y", "\n", "\0", "\t", "%zz\u{7f}"] {
        let error = HttpSource::new(client(), &format!("{base}{bad}"), HeaderMap::new())
            .expect_err("it must not be sent");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    let with_user = base.replace("http://", "http://us%0d%0aer:pass@");
    let error = HttpSource::new(client(), &with_user, HeaderMap::new()).expect_err("it must not be sent");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let mut settings = ClientOptions::default();
    settings.user_agent = "a\r\nb: c".into();
    assert!(Client::new(&settings).is_err());
    for bad in ["ftp://h/", "http://", "o", "", "http://h:0/", "http://h:99999/"] {
        assert!(
            HttpSource::new(client(), bad, HeaderMap::new()).is_err(),
            "{bad:?}"
        );
    }
    assert_eq!(server.load().connections, 0);
}

#[tokio::test]
async fn case_66_paths_are_sent_as_written() {
    let server = Hostile::start().expect("a server");
    for (written, sent) in [
        ("/b/../up", "/b/../up"),
        ("/./dot", "/./dot"),
        ("/dir//dbl", "/dir//dbl"),
        ("/trail/", "/trail/"),
        ("/%41%2e%2E/x", "/%41%2e%2E/x"),
        ("/a+b?x=1+2&y", "/a+b?x=1+2&y"),
        ("/a b", "/a%20b"),
        ("/\u{e9}", "/%C3%A9"),
        ("/a%3F%23#fragment", "/a%3F%23"),
    ] {
        server.route(sent.split('?').next().unwrap_or_default(), Route::new(object()));
        let url = format!("http://{}{written}", server.address());
        let info = within(source(&url).head())
            .await
            .unwrap_or_else(|error| panic!("{written}: {error}"));
        assert_eq!(info.size, Some(SIZE), "{written}");
    }
}

#[tokio::test]
async fn case_67_no_credential_shows_in_names_errors_and_debug() {
    const CANARY: &str = "CANARY-5d41";
    let mut headers = HeaderMap::new();
    headers.insert("x-token", HeaderValue::from_static(CANARY));
    for (scheme_and_user, port) in [("http://user:CANARY-5d41@", 1), ("https://CANARY-5d41@", 1)] {
        let url = format!("{scheme_and_user}127.0.0.1:{port}/o?X-Amz-Signature={CANARY}&{CANARY}");
        let source = HttpSource::new(client(), &url, headers.clone()).expect("an address");
        let mut shown = format!("{} {source:?}", source.name());
        let mut settings = options();
        settings.retries = Some(0);
        let outcome = read_with(source, settings).await;
        let error = outcome.end.expect_err("nobody listens on port 1");
        shown.push_str(&format!("{error} {error:?} {}", error.to_line()));
        assert!(!shown.contains(CANARY), "{shown}");
    }
    let mut settings = ClientOptions::default();
    let proxy = format!("http://user:{CANARY}@h/?{CANARY}");
    settings.proxy = ProxyChoice::Url(Url::parse(&proxy).expect("an address"));
    let server = Hostile::start().expect("a server");
    let signed = format!("{}?sig={CANARY}", server.route("/o", Route::new(object())));
    let response = within(client().get(RequestHead::get(Url::parse(&signed).expect("an address")))).await;
    let shown = format!("{settings:?} {:?}", response.expect("it is served"));
    assert!(!shown.contains(CANARY), "{shown}");
    let error = HttpSource::new(
        client(),
        &format!("ftp://u:{CANARY}@h/?{CANARY}"),
        HeaderMap::new(),
    )
    .expect_err("not HTTP");
    let shown = format!("{error} {error:?} {}", error.to_line());
    assert!(!shown.contains(CANARY), "{shown}");
}
