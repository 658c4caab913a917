//! Records of TLS as no ordinary server sends them: cut anywhere, tiny, empty, too long, out of
//! place. The server of these tests agrees on keys by rustls, and then seals each record itself.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use http::HeaderMap;
use pget_core::ErrorKind;
use pget_http::{Client, HttpSource};
use pget_testkit::{
    content::Pattern,
    servers::{Authority, Validity},
};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::{
    ConnectionTrafficSecrets, ServerConfig, ServerConnection, SupportedProtocolVersion,
    crypto::ring::cipher_suite,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};

use crate::{SEED, connection::trusting, options, patient, read_with};

/// Of the object, which is answered whole.
const LENGTH: u64 = 40_000;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

/// One direction of a connection, sealed here.
struct Keys {
    key: LessSafeKey,
    iv: Vec<u8>,
    sequence: u64,
    modern: bool,
}

impl Keys {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets), modern: bool) -> Self {
        let ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } = secrets else {
            panic!("the one cipher that is offered");
        };
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).expect("a key of its length");
        Self {
            key: LessSafeKey::new(key),
            iv: iv.as_ref().to_vec(),
            sequence,
            modern,
        }
    }

    /// The nonce of the next record, and what is authenticated beside it.
    fn next(&mut self, header: [u8; 5], length: usize) -> (Nonce, Vec<u8>) {
        let mut nonce: [u8; 12] = self.iv.as_slice().try_into().expect("12 bytes");
        let sequence = self.sequence.to_be_bytes();
        for (at, byte) in nonce[4..].iter_mut().zip(sequence) {
            *at ^= byte;
        }
        self.sequence += 1;
        let beside = if self.modern {
            header.to_vec()
        } else {
            let length = u16::try_from(length).expect("a record");
            [&sequence[..], &header[..3], &length.to_be_bytes()].concat()
        };
        (Nonce::assume_unique_for_key(nonce), beside)
    }

    fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut sealed = content.to_vec();
        if self.modern {
            sealed.push(kind);
        }
        let kind = if self.modern { DATA } else { kind };
        let [high, low] = u16::try_from(sealed.len() + 16).expect("a record").to_be_bytes();
        let header = [kind, 3, 3, high, low];
        let (nonce, beside) = self.next(header, content.len());
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(beside), &mut sealed)
            .expect("it can be sealed");
        [&header[..], &sealed].concat()
    }

    fn open(&mut self, record: &[u8]) -> (u8, Vec<u8>) {
        let header: [u8; 5] = record[..5].try_into().expect("a header");
        let mut sealed = record[5..].to_vec();
        let (nonce, beside) = self.next(header, sealed.len() - 16);
        let content = self
            .key
            .open_in_place(nonce, Aad::from(beside), &mut sealed)
            .expect("it was sealed with this key");
        let mut content = content.to_vec();
        let kind = if self.modern {
            content.pop().expect("its kind")
        } else {
            header[0]
        };
        (kind, content)
    }
}

/// The server's end of one connection, after the handshake.
struct Peer {
    socket: TcpStream,
    here: Keys,
    there: Keys,
    /// What came beside requests.
    besides: Vec<(u8, Vec<u8>)>,
}

impl Peer {
    fn accept(mut socket: TcpStream, config: &Arc<ServerConfig>, bytewise: bool) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        while session.is_handshaking() || session.wants_write() {
            while session.wants_write() {
                let mut flight = Vec::new();
                session.write_tls(&mut flight)?;
                send(&mut socket, &flight, bytewise)?;
            }
            // No byte behind the handshake may be read before its keys are known here.
            if session.is_handshaking() {
                session.read_tls(&mut &record(&mut socket)?[..])?;
                session.process_new_packets().map_err(io::Error::other)?;
            }
        }
        let modern = session.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
        #[allow(deprecated, reason = "the tests need no tickets and no change of keys")]
        let secrets = session.dangerous_extract_secrets().map_err(io::Error::other)?;
        Ok(Self {
            socket,
            here: Keys::new(secrets.tx, modern),
            there: Keys::new(secrets.rx, modern),
            besides: Vec::new(),
        })
    }

    /// The next request's head.
    fn request(&mut self) -> io::Result<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match self.there.open(&record(&mut self.socket)?) {
                (DATA, content) => head.extend(content),
                other => self.besides.push(other),
            }
        }
        Ok(String::from_utf8_lossy(&head).into_owned())
    }

    fn send(&mut self, kind: u8, content: &[u8]) -> io::Result<()> {
        let sealed = self.here.seal(kind, content);
        self.socket.write_all(&sealed)
    }
}

fn send(socket: &mut TcpStream, bytes: &[u8], bytewise: bool) -> io::Result<()> {
    if !bytewise {
        return socket.write_all(bytes);
    }
    bytes.iter().try_for_each(|byte| socket.write_all(&[*byte]))
}

/// One whole record from the socket.
fn record(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut record = vec![0; 5];
    socket.read_exact(&mut record)?;
    let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
    record.resize(5 + length, 0);
    socket.read_exact(&mut record[5..])?;
    Ok(record)
}

fn body() -> Vec<u8> {
    Pattern::new(SEED).bytes(0, usize::try_from(LENGTH).expect("small"))
}

fn head(more: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nETag: \"a\"\r\n{more}\r\n").into_bytes()
}

/// The whole object with its length.
fn answer() -> Vec<u8> {
    [head(&format!("Content-Length: {LENGTH}\r\n")), body()].concat()
}

fn config(authority: &Authority, version: &'static SupportedProtocolVersion) -> ServerConfig {
    let leaf = authority
        .leaf(&["localhost"], Validity::Now)
        .expect("a certificate");
    let certificate = CertificateDer::from_pem_slice(leaf.certificate_pem.as_bytes()).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).expect("PEM");
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites = vec![
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ];
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .expect("a known version")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they belong together");
    config.enable_secret_extraction = true;
    config.send_tls13_tickets = 0;
    config
}

/// A server whose connections follow a script.
struct Scripted {
    port: u16,
    connections: Arc<AtomicUsize>,
    authority: Authority,
}

impl Scripted {
    /// `script` gets each connection and its number.
    fn start(
        version: &'static SupportedProtocolVersion,
        bytewise: bool,
        script: impl Fn(&mut Peer, usize) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let authority = Authority::new().expect("an authority");
        let config = Arc::new(config(&authority, version));
        Self::accepting(authority, move |socket, number| {
            let mut peer = Peer::accept(socket, &config, bytewise)?;
            script(&mut peer, number)
        })
    }

    fn accepting(
        authority: Authority,
        serve: impl Fn(TcpStream, usize) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let connections = Arc::<AtomicUsize>::default();
        let (serve, counter) = (Arc::new(serve), Arc::clone(&connections));
        thread::spawn(move || {
            for socket in listener.incoming() {
                let Ok(socket) = socket else { return };
                let number = counter.fetch_add(1, Ordering::SeqCst);
                let serve = Arc::clone(&serve);
                // What a script meets when its client goes away is no failure.
                thread::spawn(move || drop(serve(socket, number)));
            }
        });
        Self {
            port,
            connections,
            authority,
        }
    }

    fn client(&self) -> Client {
        trusting(&self.authority)
    }

    fn source(&self, client: &Client) -> HttpSource {
        let url = format!("https://localhost:{}/o", self.port);
        HttpSource::new(client.clone(), &url, HeaderMap::new()).expect("an address")
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Reads the object once for each of `times`, over one client, without a second attempt.
async fn reads_well(server: &Scripted, times: usize) {
    let client = server.client();
    for time in 0..times {
        let outcome = read_with(server.source(&client), patient()).await;
        let stats = outcome.complete(Pattern::new(SEED), LENGTH);
        assert_eq!((stats.requests, stats.retries), (1, 0), "{time}: {stats:?}");
    }
}

#[tokio::test]
async fn records_cut_at_every_byte_are_read() {
    const SMALL: u64 = 300;
    for version in VERSIONS {
        let server = Scripted::start(version, false, |peer, _| {
            let small = &body()[..usize::try_from(SMALL).expect("small")];
            for cut in 0.. {
                peer.request()?;
                let head = head(&format!("Content-Length: {SMALL}\r\n"));
                let mut sealed = peer.here.seal(DATA, &head);
                sealed.extend(peer.here.seal(DATA, &small[..100]));
                sealed.extend(peer.here.seal(DATA, &small[100..]));
                let (first, second) = sealed.split_at(cut % sealed.len());
                peer.socket.write_all(first)?;
                // Time to be received by itself.
                thread::sleep(Duration::from_micros(500));
                peer.socket.write_all(second)?;
            }
            Ok(())
        });
        let client = server.client();
        for cut in 0..460 {
            let outcome = read_with(server.source(&client), patient()).await;
            let stats = outcome.complete(Pattern::new(SEED), SMALL);
            assert_eq!(stats.requests, 1, "{cut}: {stats:?}");
        }
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn a_handshake_and_an_answer_that_come_byte_by_byte_are_read() {
    for version in VERSIONS {
        let server = Scripted::start(version, true, |peer, _| {
            loop {
                peer.request()?;
                let sealed = [
                    peer.here.seal(DATA, &answer()[..5000]),
                    peer.here.seal(DATA, &answer()[5000..5003]),
                ]
                .concat();
                send(&mut peer.socket, &sealed, true)?;
                for piece in answer()[5003..].chunks(16_000) {
                    peer.send(DATA, piece)?;
                }
            }
        });
        reads_well(&server, 2).await;
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn many_small_and_some_empty_records_are_read_also_in_chunks() {
    for chunked in [false, true] {
        for version in VERSIONS {
            let server = Scripted::start(version, false, move |peer, _| {
                loop {
                    peer.request()?;
                    let answer = if chunked {
                        let mut answer = head("Transfer-Encoding: chunked\r\n");
                        for piece in body().chunks(777) {
                            answer.extend(format!("{:x};x=y\r\n", piece.len()).into_bytes());
                            answer.extend(piece);
                            answer.extend(b"\r\n");
                        }
                        answer.extend(b"0\r\nTrailer: x\r\n\r\n");
                        answer
                    } else {
                        answer()
                    };
                    let mut sealed = Vec::new();
                    for (index, piece) in answer.chunks(3).enumerate() {
                        if index % 100 == 0 {
                            sealed.extend(peer.here.seal(DATA, &[]));
                        }
                        sealed.extend(peer.here.seal(DATA, piece));
                    }
                    peer.socket.write_all(&sealed)?;
                }
            });
            reads_well(&server, 2).await;
            assert_eq!(server.connections(), 1, "chunked: {chunked}");
        }
    }
}

/// The server could not read the next request if it did not know the keys.
#[tokio::test]
async fn a_change_of_keys_in_a_body_is_answered_before_the_next_request() {
    let authority = Authority::new().expect("an authority");
    let config = Arc::new(config(&authority, &TLS13));
    let server = Scripted::accepting(authority, move |mut socket, _| {
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut session = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                session.complete_io(&mut socket)?;
                let mut piece = [0; 4096];
                match session.reader().read(&mut piece) {
                    Ok(count) => head.extend(&piece[..count]),
                    Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {}
                    Err(cause) => return Err(cause),
                }
            }
            for piece in answer().chunks(15_000) {
                session.writer().write_all(piece)?;
                session.refresh_traffic_keys().map_err(io::Error::other)?;
                while session.wants_write() {
                    session.write_tls(&mut socket)?;
                }
            }
        }
    });
    reads_well(&server, 4).await;
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_close_notify_in_a_body_of_known_length_is_a_broken_connection() {
    for version in VERSIONS {
        let server = Scripted::start(version, false, |peer, number| {
            peer.request()?;
            if number == 0 {
                peer.send(DATA, &answer()[..10_000])?;
                peer.send(ALERT, &CLOSE_NOTIFY)?;
            } else {
                for piece in answer().chunks(16_000) {
                    peer.send(DATA, piece)?;
                }
            }
            // The client closes.
            drop(record(&mut peer.socket));
            Ok(())
        });
        let outcome = read_with(server.source(&server.client()), options()).await;
        let stats = outcome.complete(Pattern::new(SEED), LENGTH);
        assert!(stats.retries >= 1, "{stats:?}");
    }
}

#[tokio::test]
async fn a_close_notify_ends_a_body_without_length_and_what_comes_after_it_is_ignored() {
    for (version, apart) in VERSIONS
        .into_iter()
        .flat_map(|version| [(version, false), (version, true)])
    {
        let server = Scripted::start(version, false, move |peer, _| {
            peer.request()?;
            let mut sealed = peer.here.seal(DATA, &head("Connection: close\r\n"));
            for piece in body().chunks(16_000) {
                sealed.extend(peer.here.seal(DATA, piece));
            }
            sealed.extend(peer.here.seal(ALERT, &CLOSE_NOTIFY));
            if apart {
                peer.socket.write_all(&sealed)?;
                sealed.clear();
                thread::sleep(Duration::from_millis(20));
            }
            sealed.extend(peer.here.seal(DATA, b"more"));
            peer.socket.write_all(&sealed)?;
            drop(record(&mut peer.socket));
            Ok(())
        });
        reads_well(&server, 1).await;
    }
}

/// What was received before the alert counts.
#[tokio::test]
async fn an_alert_in_a_body_is_a_broken_connection_that_goes_on_elsewhere() {
    for version in VERSIONS {
        let server = Scripted::start(version, false, |peer, number| {
            peer.request()?;
            if number == 0 {
                let mut sealed = peer.here.seal(DATA, &answer()[..10_000]);
                // internal_error
                sealed.extend(peer.here.seal(ALERT, &[2, 80]));
                peer.socket.write_all(&sealed)?;
            } else {
                for piece in answer().chunks(16_000) {
                    peer.send(DATA, piece)?;
                }
            }
            drop(record(&mut peer.socket));
            Ok(())
        });
        let outcome = read_with(server.source(&server.client()), options()).await;
        let stats = outcome.complete(Pattern::new(SEED), LENGTH);
        assert!(stats.retries >= 1, "{stats:?}");
    }
}

#[tokio::test]
async fn a_renegotiation_is_declined_and_the_body_goes_on() {
    let heard = Arc::<Mutex<Vec<_>>>::default();
    let server = Scripted::start(&TLS12, false, {
        let heard = Arc::clone(&heard);
        move |peer, _| {
            for exchange in 0.. {
                peer.request()?;
                let besides = std::mem::take(&mut peer.besides);
                heard.lock().expect("not poisoned").extend(besides);
                let answer = answer();
                let mut sealed = peer.here.seal(DATA, &answer[..10_000]);
                // A HelloRequest; a second one would end the connection.
                if exchange == 0 {
                    sealed.extend(peer.here.seal(HANDSHAKE, &[0, 0, 0, 0]));
                }
                for piece in answer[10_000..].chunks(16_000) {
                    sealed.extend(peer.here.seal(DATA, piece));
                }
                peer.socket.write_all(&sealed)?;
            }
            Ok(())
        }
    });
    reads_well(&server, 2).await;
    assert_eq!(server.connections(), 1);
    // no_renegotiation, a warning.
    assert_eq!(*heard.lock().expect("not poisoned"), [(ALERT, vec![1, 100])]);
}

#[tokio::test]
async fn tickets_that_come_late_leave_a_connection_quiet() {
    for parts in 1..=2 {
        let server = Scripted::start(&TLS13, false, move |peer, _| {
            loop {
                peer.request()?;
                for piece in answer().chunks(16_000) {
                    peer.send(DATA, piece)?;
                }
                thread::sleep(Duration::from_millis(20));
                let mut ticket = vec![4, 0, 0, 113];
                // Lifetime, age, nonce, a ticket of 100 bytes, no extensions.
                ticket.extend([0, 0, 14, 16, 1, 2, 3, 4, 0, 0, 100]);
                ticket.extend([7; 100]);
                ticket.extend([0, 0]);
                for part in ticket.chunks(ticket.len().div_ceil(parts)) {
                    peer.send(HANDSHAKE, part)?;
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
        let client = server.client();
        for _ in 0..3 {
            let outcome = read_with(server.source(&client), patient()).await;
            let stats = outcome.complete(Pattern::new(SEED), LENGTH);
            assert_eq!((stats.requests, stats.retries), (1, 0), "{stats:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(server.connections(), 1, "in {parts} parts");
    }
}

/// Half a record on an idle connection would become the beginning of the next answer.
#[tokio::test]
async fn a_connection_with_half_a_record_is_not_used_again() {
    let server = Scripted::start(&TLS13, false, |peer, _| {
        peer.request()?;
        for piece in answer().chunks(16_000) {
            peer.send(DATA, piece)?;
        }
        let sealed = peer.here.seal(DATA, &answer()[..1000]);
        thread::sleep(Duration::from_millis(20));
        peer.socket.write_all(&sealed[..500])?;
        peer.request()?;
        peer.socket.write_all(&sealed[500..])
    });
    let client = server.client();
    for connections in 1..=3 {
        let outcome = read_with(server.source(&client), patient()).await;
        let stats = outcome.complete(Pattern::new(SEED), LENGTH);
        assert_eq!((stats.requests, stats.retries), (1, 0), "{stats:?}");
        assert_eq!(server.connections(), connections);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_record_that_is_too_long_is_refused() {
    // With more than 16 KiB in it, and longer than any may be.
    for (version, long) in VERSIONS
        .into_iter()
        .flat_map(|version| [(version, false), (version, true)])
    {
        let heard = Arc::<Mutex<Vec<_>>>::default();
        let server = Scripted::start(version, false, {
            let heard = Arc::clone(&heard);
            move |peer, _| {
                peer.request()?;
                peer.send(DATA, &answer()[..10_000])?;
                if long {
                    let [high, low] = (16 * 1024 + 2049_u16).to_be_bytes();
                    peer.socket.write_all(&[DATA, 3, 3, high, low])?;
                    peer.socket.write_all(&[7; 20_000])?;
                } else {
                    peer.send(DATA, &answer()[10_000..10_000 + 16 * 1024 + 1])?;
                }
                let (kind, content) = peer.there.open(&record(&mut peer.socket)?);
                heard.lock().expect("not poisoned").push((kind, content));
                Ok(())
            }
        });
        let outcome = read_with(server.source(&server.client()), options()).await;
        assert!(outcome.bytes.len() <= 10_000, "{} bytes", outcome.bytes.len());
        assert_eq!(Pattern::new(SEED).check(0, &outcome.bytes), Ok(()));
        let error = outcome.end.expect_err("it never comes");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.to_line());
        let heard = heard.lock().expect("not poisoned");
        assert!(!heard.is_empty());
        // record_overflow or decode_error
        for (kind, content) in &*heard {
            assert!(
                *kind == ALERT && matches!(content[..], [2, 22 | 50]),
                "{kind} {content:?}"
            );
        }
    }
}
