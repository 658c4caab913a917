//! Case 68: through a proxy the same is sent, and the same believed of an answer.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::HeaderMap;
use pget_core::ErrorKind;
use pget_http::{Client, ClientOptions, HttpSource, ProxyChoice, TlsError};
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Route, When},
    servers::Authority,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use url::Url;

use crate::{
    SEED, SIZE, object, patient, read_with, source,
    tls::{End, Server},
    with,
};

/// Reads `target` through `proxy`: the misbehaving server takes the absolute form of a request's target for a path, as a proxy would.
fn through(proxy: &Hostile, target: &str) -> HttpSource {
    through_address(&proxy.url("/"), target)
}

fn through_address(proxy: &str, target: &str) -> HttpSource {
    through_with(ClientOptions::default(), proxy, target)
}

fn through_with(mut settings: ClientOptions, proxy: &str, target: &str) -> HttpSource {
    settings.proxy = ProxyChoice::Url(Url::parse(proxy).expect("an address"));
    let client = Client::new(&settings).expect("sound options");
    HttpSource::new(client, target, HeaderMap::new()).expect("an address")
}

const TARGET: &str = "http://object.invalid/o";

#[tokio::test]
async fn case_68_a_proxy_is_used_when_asked_for_and_sees_the_whole_address() {
    let proxy = Hostile::start().expect("a server");
    proxy.route(TARGET, Route::new(object()));
    let stats = read_with(through(&proxy, TARGET), patient())
        .await
        .complete(Pattern::new(SEED), SIZE);
    assert_eq!(stats.retries, 0);
    assert!(proxy.requests(TARGET).len() > 1);
}

/// The object's first bytes in chunks, behind this head.
fn chunked(head: &str) -> Fault {
    let mut bytes = vec![0; 10_000];
    Pattern::new(SEED).fill(0, &mut bytes);
    let mut answer = format!("HTTP/1.1 200 OK\r\nETag: \"a\"\r\n{head}\r\n\r\n").into_bytes();
    for piece in bytes.chunks(5000) {
        answer.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        answer.extend_from_slice(piece);
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"0\r\n\r\n");
    Fault::Raw(answer)
}

#[tokio::test]
async fn case_68_contradictory_framing_is_refused_through_a_proxy_too() {
    let server = Hostile::start().expect("a server");
    for fault in [
        // hyper would take the first 5000 of the 10,000 bytes for all.
        chunked("Content-Length: 5000\r\nTransfer-Encoding: chunked"),
        chunked("Transfer-Encoding: chunked\r\nContent-Length: 10000"),
        chunked("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        chunked("Transfer-Encoding: gzip, chunked"),
        chunked("Transfer-Encoding: gzip"),
        Fault::many_headers(2, 40_000),
    ] {
        for target in ["/direct", TARGET] {
            let url = server.route(target, with(When::Always, fault.clone()));
            let source = match target {
                TARGET => through(&server, TARGET),
                _ => source(&url),
            };
            let error = read_with(source, patient())
                .await
                .failed(Pattern::new(SEED), ErrorKind::Protocol);
            assert_eq!(server.served(target), 1, "{target}: {}", error.to_line());
        }
    }
    // As many headers as are taken directly.
    server.route(TARGET, with(When::Always, Fault::many_headers(200, 100)));
    let read = read_with(through(&server, TARGET), patient()).await;
    read.complete(Pattern::new(SEED), SIZE);
}

#[tokio::test]
async fn case_68_what_names_its_range_ends_with_it_through_a_proxy_too() {
    let proxy = Hostile::start().expect("a server");
    let mut body = vec![0; 2000];
    Pattern::new(SEED).fill(0, &mut body);
    // Chunked, as a length that is told is held against the range before.
    let mut answer = b"HTTP/1.1 200 OK\r\nETag: \"a\"\r\nContent-Range: bytes 0-999/1000\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n".to_vec();
    answer.extend_from_slice(&body);
    answer.extend_from_slice(b"\r\n0\r\n\r\n");
    proxy.route(TARGET, with(When::Always, Fault::Raw(answer)));
    read_with(through(&proxy, TARGET), patient())
        .await
        .failed(Pattern::new(SEED), ErrorKind::Protocol);
}

/// Answers every request with a body that ends with its connection, and leaves that open.
async fn left_open(listener: TcpListener, answer: Vec<u8>) {
    let mut connections = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let answer = answer.clone();
        connections.spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            stream.write_all(&answer).await?;
            stream.read_u8().await
        });
    }
}

#[tokio::test]
async fn case_68_nobody_waits_for_the_end_of_a_connection_that_is_left_open() {
    const LENGTH: usize = 1000;
    let mut answer = b"HTTP/1.1 206 Partial Content\r\nETag: \"a\"\r\nContent-Range: bytes 0-999/1000\r\nConnection: close\r\n\r\n".to_vec();
    let mut body = vec![0; LENGTH];
    Pattern::new(SEED).fill(0, &mut body);
    answer.extend_from_slice(&body);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let server = format!("http://{}/", listener.local_addr().expect("a bound socket"));
    let mut serving = JoinSet::new();
    serving.spawn(left_open(listener, answer));
    for source in [source(&server), through_address(&server, TARGET)] {
        let stats = read_with(source, patient())
            .await
            .complete(Pattern::new(SEED), LENGTH as u64);
        assert_eq!((stats.requests, stats.retries), (1, 0));
    }
}

#[tokio::test]
async fn case_68_an_address_is_sent_through_a_proxy_unless_that_would_make_another_of_it() {
    let proxy = Hostile::start().expect("a server");
    for (written, sent) in [
        ("/o?f={x}", "/o?f={x}"),
        ("/a'b?c'd", "/a'b?c%27d"),
        ("/a^b|c", "/a^b|c"),
        ("/a%2fb%5C?c=%2e%2e/x", "/a%2fb%5C?c=%2e%2e/x"),
        ("/\u{e4} b", "/%C3%A4%20b"),
        ("?x", "/?x"),
    ] {
        let sent = format!("http://object.invalid{sent}");
        let path = sent.split('?').next().expect("a path");
        proxy.route(path, Route::new(object()));
        let source = through(&proxy, &format!("http://object.invalid{written}"));
        read_with(source, patient())
            .await
            .complete(Pattern::new(SEED), SIZE);
        let requests = proxy.requests(path);
        assert!(
            requests.iter().all(|request| request.target == sent),
            "{requests:?}"
        );
    }
    let asked = proxy.load().requests;
    let long = format!("/{}", "x".repeat(70_000));
    for written in ["/a/../b", "/a/./b", "/a/%2e%2E/b", "/a\\b", "/.", &long] {
        let source = through(&proxy, &format!("http://object.invalid{written}"));
        let error = read_with(source, patient())
            .await
            .failed(Pattern::new(SEED), ErrorKind::InvalidArgument);
        assert!(error.to_line().contains("proxy"), "{}", error.to_line());
    }
    assert_eq!(proxy.load().requests, asked);
}

#[test]
fn case_68_what_is_no_http_proxy_is_refused() {
    for url in ["socks5://user:hunter2@h:1080", "ftp://h"] {
        let mut settings = ClientOptions::default();
        settings.proxy = ProxyChoice::Url(Url::parse(url).expect("an address"));
        let error = Client::new(&settings).expect_err(url);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(!error.to_line().contains("hunter2"), "{}", error.to_line());
    }
}

/// A proxy whose tunnels all lead to one server, or that asks everyone who they are.
pub(crate) struct Tunnels {
    pub(crate) address: SocketAddr,
    /// Requests that came.
    asked: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Tunnels {
    pub(crate) async fn start(to: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let asked = Arc::<AtomicUsize>::default();
        let mut serving = JoinSet::new();
        let counter = Arc::clone(&asked);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let counter = Arc::clone(&counter);
                connections.spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await?);
                    }
                    counter.fetch_add(1, Ordering::SeqCst);
                    let Some(to) = to else {
                        let answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
                        stream.write_all(answer).await?;
                        // Until the client closes.
                        return stream.read_u8().await.map(drop);
                    };
                    let mut server = TcpStream::connect(to).await?;
                    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                    copy_bidirectional(&mut stream, &mut server).await.map(drop)
                });
            }
        });
        Self {
            address,
            asked,
            _serving: serving,
        }
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn case_68_a_strangers_certificate_is_final_through_a_proxy_too() {
    let server = Server::start(End::Behind).await;
    let proxy = Tunnels::start(Some(server.address)).await;
    let target = format!("https://localhost:{}/o", server.address.port());
    let trusting = |authority: &Authority| {
        let mut settings = ClientOptions::default();
        settings.tls.platform_roots = false;
        settings.tls.extra_roots = vec![authority.der()];
        through_with(settings, &format!("http://{}", proxy.address), &target)
    };
    let stranger = Authority::new().expect("an authority");
    let error = read_with(trusting(&stranger), patient())
        .await
        .failed(Pattern::new(SEED), ErrorKind::Protocol);
    assert_eq!((error.attempts(), proxy.asked()), (1, 1), "{}", error.to_line());
    let cause = std::error::Error::source(&error).expect("a cause");
    let tls = cause.downcast_ref::<TlsError>();
    assert!(matches!(tls, Some(TlsError::Certificate(_))), "{cause:?}");
    let told = error.to_line();
    assert!(
        told.contains("localhost") && told.contains(&proxy.address.to_string()),
        "{told}"
    );
    read_with(trusting(&server.authority), patient())
        .await
        .complete(Pattern::new(SEED), SIZE);
}

#[tokio::test]
async fn case_68_a_proxy_that_refuses_our_credentials_is_asked_once() {
    for target in [TARGET, "https://object.invalid/o"] {
        let proxy = Tunnels::start(None).await;
        let mut settings = ClientOptions::default();
        // No roots of the platform's are needed where it does not come to TLS.
        settings.tls.skip_verify = true;
        let address = format!("http://user:hunter2@{}", proxy.address);
        let error = read_with(through_with(settings, &address, target), patient())
            .await
            .failed(Pattern::new(SEED), ErrorKind::PermissionDenied);
        assert_eq!((error.attempts(), proxy.asked()), (1, 1), "{target}");
        let told = format!("{} {error:?}", error.to_line());
        assert!(told.contains(&proxy.address.to_string()), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}
