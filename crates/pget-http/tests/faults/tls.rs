//! Cases 23, 27, 28 and 60, against a TLS server of the test's own: connections that end without close_notify, HTTP/2 on offer, answers that nobody asked for, and
//! certificates that clients must show.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use pget_core::ErrorKind;
use pget_http::{Client, ClientIdentity, ClientOptions, HttpSource, TlsError};
use pget_testkit::{
    content::Pattern,
    servers::{Authority, Leaf, Validity},
};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::{CHUNK, SEED, SIZE, connection::trusting, options, patient, read_with};

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// After a complete answer.
    Behind,
    /// In the middle of the first two bodies, whose length was told.
    Within,
    /// In the middle of a body whose end only the connection's tells.
    Undelimited,
    /// It does not, and each answer is given so many times.
    Never(usize),
}

/// Of an object that may be answered twice: so that an answer and its double are sent at once, and more than is read with a head.
const KEPT: u64 = 9000;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Connections ended as the script says.
    ended: Arc<AtomicUsize>,
    protocols: Arc<Mutex<Vec<Option<Vec<u8>>>>>,
    pub(crate) authority: Authority,
}

impl Server {
    pub(crate) async fn start(end: End) -> Self {
        Self::start_for(end, None).await
    }

    /// For those only who show a certificate by `clients`, if it is given.
    async fn start_for(end: End, clients: Option<&Authority>) -> Self {
        let authority = Authority::new().expect("an authority");
        let leaf = authority
            .leaf(&["localhost"], Validity::Now)
            .expect("a certificate");
        let certificate = CertificateDer::from_pem_slice(leaf.certificate_pem.as_bytes()).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).expect("PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(clients.der().into()).expect("an authority");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let mut config = builder
            .with_single_cert(vec![certificate], key)
            .expect("they belong together");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (ended, protocols) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<_>>>::default());
        tokio::spawn({
            let (ended, protocols) = (Arc::clone(&ended), Arc::clone(&protocols));
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (acceptor, ended, protocols) =
                        (acceptor.clone(), Arc::clone(&ended), Arc::clone(&protocols));
                    tokio::spawn(async move {
                        let Ok(mut stream) = acceptor.accept(stream).await else {
                            return;
                        };
                        let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
                        protocols.lock().expect("not poisoned").push(protocol);
                        loop {
                            let mut head = Vec::new();
                            while !head.ends_with(b"\r\n\r\n") {
                                let mut byte = [0];
                                match stream.read(&mut byte).await {
                                    Ok(1) => head.push(byte[0]),
                                    _ => return,
                                }
                            }
                            let sent = stream
                                .write_all(&answer(&head, end, ended.load(Ordering::SeqCst)))
                                .await;
                            if sent.is_ok() && stream.flush().await.is_ok() {
                                ended.fetch_add(1, Ordering::SeqCst);
                            }
                            if !matches!(end, End::Never(_)) {
                                break;
                            }
                        }
                        // Dropped: the connection closes, and no close_notify was sent.
                    });
                }
            }
        });
        Self {
            address,
            ended,
            protocols,
            authority,
        }
    }

    fn source(&self) -> HttpSource {
        self.source_of("o", trusting(&self.authority))
    }

    fn source_of(&self, name: &str, client: Client) -> HttpSource {
        let url = format!("https://localhost:{}/{name}", self.address.port());
        HttpSource::new(client, &url, http::HeaderMap::new()).expect("an address")
    }
}

fn answer(head: &[u8], end: End, before: usize) -> Vec<u8> {
    let head = String::from_utf8_lossy(head);
    if let End::Never(times) = end {
        let other = u64::from(head.starts_with("GET /other "));
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nETag: \"{other}\"\r\nContent-Length: {KEPT}\r\n\r\n").into_bytes();
        answer.extend(Pattern::new(SEED + other).bytes(0, usize::try_from(KEPT).expect("small")));
        return answer.repeat(times);
    }
    let range = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("range"))
        .and_then(|(_, range)| range.strip_prefix("bytes="))
        .and_then(|range| range.split_once('-'));
    let (start, last) = range.expect("a range is asked for");
    let (start, last): (u64, u64) = if end == End::Undelimited {
        (0, SIZE - 1)
    } else {
        (
            start.parse().expect("a number"),
            last.parse().unwrap_or(SIZE - 1).min(SIZE - 1),
        )
    };
    let mut body = Pattern::new(SEED).bytes(start, usize::try_from(last - start + 1).expect("small"));
    let mut answer = if end == End::Undelimited {
        body.truncate(body.len() / 2);
        "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nConnection: close\r\n\r\n".to_owned()
    } else {
        let length = body.len();
        if end == End::Within && before < 2 {
            body.truncate(length / 2);
        }
        format!("HTTP/1.1 206 Partial Content\r\nETag: \"a\"\r\nContent-Length: {length}\r\nContent-Range: bytes {start}-{last}/{SIZE}\r\n\r\n")
    }
    .into_bytes();
    answer.extend(body);
    answer
}

#[tokio::test]
async fn case_27_no_close_notify_behind_a_complete_body_is_fine() {
    let server = Server::start(End::Behind).await;
    let stats = read_with(server.source(), patient())
        .await
        .complete(Pattern::new(SEED), SIZE);
    assert_eq!(stats.retries, 0, "{stats:?}");
    assert_eq!(server.ended.load(Ordering::SeqCst) as u64, SIZE.div_ceil(CHUNK));
}

/// A port before `server` whose connections number 4 to 7 get something else than a handshake.
async fn interrupted(server: &Server, instead: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, behind) = (listener.local_addr().expect("its address"), server.address);
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            number += 1;
            let is_interrupted = (4..8).contains(&number);
            tokio::spawn(async move {
                if is_interrupted {
                    let mut hello = [0; 1024];
                    drop(stream.read(&mut hello).await);
                    drop(stream.write_all(instead).await);
                } else if let Ok(mut server) = tokio::net::TcpStream::connect(behind).await {
                    drop(tokio::io::copy_bidirectional(&mut stream, &mut server).await);
                }
            });
        }
    });
    address
}

/// Handshakes that fail in mid read, as of a front end that is being restarted, are waited out.
#[tokio::test]
async fn case_104_handshakes_that_fail_for_a_moment_are_waited_out() {
    for instead in [
        &b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"[..],
        // Alerts: internal_error and handshake_failure.
        b"\x15\x03\x03\x00\x02\x02\x50",
        b"\x15\x03\x03\x00\x02\x02\x28",
    ] {
        let server = Server::start(End::Behind).await;
        let port = interrupted(&server, instead).await.port();
        let url = format!("https://localhost:{port}/o");
        let source = HttpSource::new(trusting(&server.authority), &url, http::HeaderMap::new());
        let stats = read_with(source.expect("an address"), patient())
            .await
            .complete(Pattern::new(SEED), SIZE);
        assert!(stats.retries >= 3, "{stats:?}");
    }
}

#[tokio::test]
async fn case_27_no_close_notify_within_a_body_is_a_broken_connection() {
    let server = Server::start(End::Within).await;
    let stats = read_with(server.source(), options())
        .await
        .complete(Pattern::new(SEED), SIZE);
    assert!(stats.retries >= 2, "{stats:?}");
}

#[tokio::test]
async fn case_27_no_close_notify_is_no_end_of_a_body_without_length() {
    let server = Server::start(End::Undelimited).await;
    let outcome = read_with(server.source(), options()).await;
    let error = outcome.end.expect_err("it was cut");
    assert!(
        matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Protocol),
        "{error:?}"
    );
    assert!(server.ended.load(Ordering::SeqCst) >= 1);
}

/// What nobody asked for must not answer the next request on that connection: its first reply would pin the wrong object.
#[tokio::test]
async fn case_23_an_answer_too_many_over_tls_answers_nothing() {
    for (times, connections) in [(1, 1), (2, 3)] {
        let server = Server::start(End::Never(times)).await;
        let client = trusting(&server.authority);
        for (name, seed) in [("o", SEED), ("other", SEED + 1), ("o", SEED)] {
            let stats = read_with(server.source_of(name, client.clone()), patient())
                .await
                .complete(Pattern::new(seed), KEPT);
            assert_eq!((stats.requests, stats.retries), (1, 0), "{name}: {stats:?}");
        }
        let made = server.protocols.lock().expect("not poisoned").len();
        assert_eq!(made, connections, "each answer {times} times");
    }
}

#[tokio::test]
async fn case_28_http_2_is_not_offered() {
    let server = Server::start(End::Behind).await;
    read_with(server.source(), options())
        .await
        .complete(Pattern::new(SEED), SIZE);
    let protocols = server.protocols.lock().expect("not poisoned");
    assert!(!protocols.is_empty());
    assert!(
        protocols
            .iter()
            .all(|protocol| protocol.as_deref() == Some(b"http/1.1")),
        "{protocols:?}"
    );
}

/// Over TLS 1.3 the client's handshake is done before the server looks at its certificate.
#[tokio::test]
async fn case_60_a_client_certificate_that_is_refused_is_final_and_so_is_its_lack() {
    let (clients, stranger) = (
        Authority::new().expect("an authority"),
        Authority::new().expect("an authority"),
    );
    let server = Server::start_for(End::Behind, Some(&clients)).await;
    let client = |leaf: Option<Leaf>| {
        let mut settings = ClientOptions::default();
        settings.tls.platform_roots = false;
        settings.tls.extra_roots = vec![server.authority.der()];
        settings.tls.identity = leaf.map(|leaf| {
            ClientIdentity::from_pem(leaf.certificate_pem.into_bytes(), leaf.key_pem.into_bytes())
        });
        Client::new(&settings).expect("sound options")
    };
    let by = |authority: &Authority| authority.client_leaf("a client").expect("a certificate");
    let itself = Leaf::self_signed(&["a client"]).expect("a certificate");
    // The stranger bears the authority's name, so that its signature is what tells.
    for leaf in [None, Some(itself), Some(by(&stranger))] {
        let error = read_with(server.source_of("o", client(leaf)), patient())
            .await
            .failed(Pattern::new(SEED), ErrorKind::PermissionDenied);
        assert_eq!(error.attempts(), 1, "{}", error.to_line());
        let cause = std::error::Error::source(&error).expect("a cause");
        let tls = cause.downcast_ref::<TlsError>();
        assert!(matches!(tls, Some(TlsError::Refused(_))), "{cause:?}");
    }
    read_with(server.source_of("o", client(Some(by(&clients)))), patient())
        .await
        .complete(Pattern::new(SEED), SIZE);
}
