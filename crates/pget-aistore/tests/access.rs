//! Access: tokens, signatures and TLS, and the texts that must not show a secret.

mod support;

use std::{path::Path, sync::Arc};

use pget_core::{ErrorKind, RangeSource};
use pget_http::{ClientIdentity, ClientOptions};
use pget_testkit::{
    aistore::{Bucket, ClusterOptions, Fault, Node, Rule},
    content::Pattern,
    servers::{Authority, Validity},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use support::{BUCKET, Place, expect_content, expect_error, pattern, script, standin, within};

const SECRET: &str = "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.signature";

async fn guarded() -> Place {
    let place = standin(ClusterOptions {
        token: Some(SECRET.into()),
        ..ClusterOptions::default()
    })
    .await;
    place.fake().put(BUCKET, "o", pattern(1, 1_000_000));
    place
}

fn with(place: &Place, properties: &[(&str, &str)]) -> Arc<dyn RangeSource> {
    place.open(&format!("ais://{BUCKET}/o"), properties)
}

fn write(file: &Path, token: &str) {
    std::fs::write(file, format!(r#"{{"token": "{token}"}}"#)).expect("a file can be written");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_goes_to_the_proxy_only() {
    let place = guarded().await;
    let source = with(&place, &[("ais.token", SECRET)]);
    expect_content(&source, Pattern::new(1), 1_000_000).await;
    within(source.head()).await.expect("it is there");
    assert_eq!(place.counts().tokens_at_targets, 0);
    let bearer = format!("Bearer {SECRET}");
    let (proxy, targets) = place.exchanges();
    assert!(
        proxy
            .iter()
            .all(|exchange| exchange.header("authorization") == Some(&bearer))
    );
    for exchange in targets {
        let sent = format!("{} {:?}", exchange.target, exchange.headers);
        assert!(!sent.contains(SECRET), "{sent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn token_file_is_read_again_after_401() {
    let place = guarded().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("auth.token");
    write(&file, SECRET);
    let path = file.to_str().expect("a name in UTF-8");
    let source = with(&place, &[("ais.token_file", path)]);
    let mut narrow = support::options(10_000, 2);
    narrow.window = Some(2);
    let mut reader = support::reader(&source, narrow);
    let mut known = 0;
    while known < 100_000 {
        known += support::first_of(&mut reader).await.len();
    }
    // The token changes in the middle of the read. The old one is refused from here on, and the
    // targets redirect a request with it to the proxy.
    write(&file, "another.token");
    place.fake().set_token(Some("another.token"));
    place.fake().inject(Rule::new(Fault::Status(401)).at_targets());
    within(support::rest_of(&mut reader))
        .await
        .expect("with the new token it goes on");
    assert_eq!(place.counts().fault("status"), 1);
    let refused = place
        .counts()
        .answers
        .get(&(Node::Proxy, 401))
        .copied()
        .unwrap_or(0);
    // Two ranges are in flight. The refusal of one also informs the other.
    assert!((1..=2).contains(&refused), "{refused} refused at the proxy");
    // Without a new token the refusal is an error, after one look at the file.
    place.fake().set_token(Some("a.third"));
    let before = place.counts().at_proxy("GET");
    expect_error(
        &with(&place, &[("ais.token_file", path)]),
        ErrorKind::PermissionDenied,
    )
    .await;
    assert_eq!(place.counts().at_proxy("GET") - before, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_a_wrong_one_and_one_without_permission_are_refused() {
    let place = guarded().await;
    place.fake().deny_token("denied");
    for (properties, told) in [
        (&[][..], "token required"),
        (&[("ais.token", "wrong")], "invalid token"),
        (&[("ais.token", "denied")], "insufficient permissions"),
    ] {
        let error = expect_error(&with(&place, properties), ErrorKind::PermissionDenied).await;
        assert!(error.to_string().contains(told), "{error}");
        let error = within(with(&place, properties).head())
            .await
            .expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_token_file_is_a_clear_error() {
    let place = guarded().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("auth.token");
    let path = file.to_str().expect("a name in UTF-8");
    for content in [
        None,
        Some(SECRET),
        Some("{}"),
        Some(r#"{"token": 5}"#),
        Some("{\"token\": \"a\\r\\nb\"}"),
        Some(r#"{"token": ""}"#),
    ] {
        if let Some(content) = content {
            std::fs::write(&file, content).expect("a file can be written");
        }
        let source = with(&place, &[("ais.token_file", path)]);
        let error = expect_error(&source, ErrorKind::PermissionDenied).await;
        assert!(error.to_string().contains(path), "{error}");
        assert!(
            !format!("{error:?} {}", error.to_line()).contains(SECRET),
            "{error:?}"
        );
    }
    assert!(place.exchanges().0.is_empty(), "nothing was asked without it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_shows_nowhere() {
    // The server quotes the credentials that it received, in each of its ways.
    let server = script::Script::start(|head| {
        let shown = head.replace("\r\n", " ").replace('"', "'");
        let error = format!(r#"{{"tcode":"{shown}","message":"refused: {shown}","status":403}}"#);
        if head.starts_with("HEAD") {
            format!("HTTP/1.1 403 Forbidden\r\nHdr-Error: {error}\r\n\r\n")
        } else {
            format!(
                "HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{error}",
                error.len()
            )
        }
    })
    .await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("auth.token");
    write(&file, SECRET);
    let path = file.to_str().expect("a name in UTF-8");
    for property in [("ais.token", SECRET), ("ais.token_file", path)] {
        let source = support::open_at(&support::client(), &server.endpoint(), "ais://b/o", &[property]);
        let error = expect_error(&source, ErrorKind::PermissionDenied).await;
        let refused = within(source.head()).await.expect_err("refused");
        let all = format!(
            "{source:?} {error:?} {error} {} {refused:?} {refused}",
            error.to_line()
        );
        assert!(!all.contains(SECRET) && !all.contains("c2VjcmV0"), "{all}");
        assert!(all.contains("refused: GET /v1/objects/b/o"), "{all}");
    }
    assert!(server.heads().iter().all(|head| head.contains(SECRET)));
    let shown = format!(
        "{:?}",
        support::config("http://user:password@h", &[("ais.token", SECRET)])
    );
    assert!(!shown.contains(SECRET) && !shown.contains("password"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_token_shows_nowhere_either() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("auth.token");
    // The renewed token begins with the old one.
    let renewed = format!("{SECRET}.renewed");
    write(&file, SECRET);
    let path = file.to_str().expect("a name in UTF-8").to_owned();
    // The server refuses the first token, and quotes both in its answer to the second.
    let server = script::Script::start({
        let renewed = renewed.clone();
        move |head| {
            if !head.contains(&renewed) {
                write(&file, &renewed);
                return "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".into();
            }
            let text = format!("refused: not {SECRET}, nor {renewed}");
            format!(
                "HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            )
        }
    })
    .await;
    let properties = [("ais.token_file", path.as_str())];
    let source = support::open_at(&support::client(), &server.endpoint(), "ais://b/o", &properties);
    let error = expect_error(&source, ErrorKind::PermissionDenied).await;
    let line = error.to_line();
    assert!(line.contains("refused: not ***, nor ***"), "{line}");
    let heads = server.heads();
    assert!(heads.iter().any(|head| head.contains(&renewed)), "{heads:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_cluster() {
    let place = standin(ClusterOptions {
        signing: true,
        ..ClusterOptions::default()
    })
    .await;
    place.fake().put(BUCKET, "o", pattern(1, 1_000_000));
    expect_content(&place.object("o"), Pattern::new(1), 1_000_000).await;
    let counts = place.counts();
    assert_eq!(counts.ranges, 10);
    assert!(
        counts.at_proxy("GET") <= 4,
        "a signed Location serves other ranges too"
    );
    let (_, targets) = place.exchanges();
    assert!(
        targets
            .iter()
            .all(|exchange| exchange.target.contains("&vpams=") && exchange.status < 300)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_and_providers() {
    let place = standin(ClusterOptions::default()).await;
    let buckets = [
        ("ais://b/o", None, Bucket::ais("b")),
        ("ais://b/o", Some("aws"), Bucket::new("aws", "", "b")),
        ("ais://b/o", Some("s3"), Bucket::new("aws", "", "b")),
        ("ais://b/o", Some("gs"), Bucket::new("gcp", "", "b")),
        ("ais://b/o", Some("azure"), Bucket::new("azure", "", "b")),
        ("ais://b/o", Some("oci"), Bucket::new("oci", "", "b")),
        ("ais://@uuid#ns/b/o", None, Bucket::new("ais", "@uuid#ns", "b")),
        ("ais://#ns/b/o", None, Bucket::new("ais", "#ns", "b")),
    ];
    for (seed, (address, provider, bucket)) in (1..).zip(buckets) {
        place.fake().put(bucket, "o", pattern(seed, 250_000));
        let properties: Vec<_> = provider
            .iter()
            .map(|provider| ("ais.provider", *provider))
            .collect();
        let source = place.open(address, &properties);
        expect_content(&source, Pattern::new(seed), 250_000).await;
        assert_eq!(
            within(source.head()).await.expect("it is there").size,
            Some(250_000)
        );
    }
}

/// Starts a server over TLS that acts as proxy and target. Returns it and its address.
async fn over_tls(
    authority: &Authority,
    names: &[&str],
    clients: Option<&Authority>,
) -> (script::Script, String) {
    let leaf = authority.leaf(names, Validity::Now).expect("a certificate");
    let certificate = CertificateDer::from_pem_slice(leaf.certificate_pem.as_bytes()).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).expect("PEM");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("default versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(clients.der().into()).expect("an authority");
            let verifier =
                rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let mut config = builder.with_single_cert(vec![certificate], key).expect("a pair");
    // Configure ALPN as AIStore does. The client may agree only on http/1.1.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let server = script::Script::serve("127.0.0.1:0", Some(acceptor), |head| {
        if script::target(head).contains("pid=") {
            script::whole("over TLS")
        } else {
            script::redirect("/v1/objects/b/o?pid=p")
        }
    })
    .await;
    let endpoint = format!("https://127.0.0.1:{}", server.port());
    (server, endpoint)
}

async fn read_over_tls(endpoint: &str, options: &ClientOptions) -> Result<Vec<u8>, pget_core::Error> {
    let client = pget_http::Client::new(options).expect("good options");
    let source = support::open_at(&client, endpoint, "ais://b/o", &[]);
    let mut few = support::options(1000, 2);
    few.retries = Some(0);
    support::read(&source, few).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_options() {
    let authority = Authority::new().expect("an authority");
    let (_server, endpoint) = over_tls(&authority, &["127.0.0.1"], None).await;
    let mut trusting = ClientOptions::default();
    trusting.tls.extra_roots = vec![authority.pem().into_bytes()];
    assert_eq!(
        read_over_tls(&endpoint, &trusting).await.expect("trusted"),
        b"over TLS"
    );
    let mut careless = ClientOptions::default();
    careless.tls.skip_verify = true;
    assert_eq!(
        read_over_tls(&endpoint, &careless).await.expect("not looked at"),
        b"over TLS"
    );
    let error = read_over_tls(&endpoint, &ClientOptions::default())
        .await
        .expect_err("an unknown authority");
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    let (_other, elsewhere) = over_tls(&authority, &["other.example"], None).await;
    read_over_tls(&elsewhere, &trusting)
        .await
        .expect_err("another host's certificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_client_certificate() {
    let (authority, clients) = (
        Authority::new().expect("an authority"),
        Authority::new().expect("an authority"),
    );
    let (_server, endpoint) = over_tls(&authority, &["127.0.0.1"], Some(&clients)).await;
    let mut options = ClientOptions::default();
    options.tls.extra_roots = vec![authority.pem().into_bytes()];
    let error = read_over_tls(&endpoint, &options)
        .await
        .expect_err("the server wants to know who asks");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    let leaf = clients.client_leaf("pget test client").expect("a certificate");
    options.tls.identity = Some(ClientIdentity::from_pem(
        leaf.certificate_pem.into_bytes(),
        leaf.key_pem.into_bytes(),
    ));
    assert_eq!(
        read_over_tls(&endpoint, &options).await.expect("known"),
        b"over TLS"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_cluster_does_not_lead_to_plain_http() {
    let authority = Authority::new().expect("an authority");
    let leaf = authority
        .leaf(&["127.0.0.1"], Validity::Now)
        .expect("a certificate");
    let target = script::Script::start(|_| script::whole("in the clear")).await;
    let to = format!("{}/v1/objects/b/o?pid=p", target.endpoint());
    let certificate = CertificateDer::from_pem_slice(leaf.certificate_pem.as_bytes()).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).expect("PEM");
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("default versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a pair");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let proxy = script::Script::serve("127.0.0.1:0", Some(acceptor), move |_| script::redirect(&to)).await;
    let mut options = ClientOptions::default();
    options.tls.extra_roots = vec![authority.der()];
    let error = read_over_tls(&format!("https://127.0.0.1:{}", proxy.port()), &options)
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert_eq!(target.heads().len(), 0);
}
