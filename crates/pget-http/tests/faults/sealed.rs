//! A server that agrees on keys by rustls, and then seals each record of TLS itself.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use http::HeaderMap;
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
};

use crate::{SEED, connection::trusting};

/// Of the object, which is answered whole.
pub(super) const LENGTH: u64 = 40_000;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const DATA: u8 = 23;
pub(super) const CLOSE_NOTIFY: [u8; 2] = [1, 0];

/// One direction of a connection, sealed here.
pub(super) struct Keys {
    key: LessSafeKey,
    iv: Vec<u8>,
    sequence: u64,
    modern: bool,
}

impl Keys {
    pub(super) fn new((sequence, secrets): (u64, ConnectionTrafficSecrets), modern: bool) -> Self {
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
    pub(super) fn next(&mut self, header: [u8; 5], length: usize) -> (Nonce, Vec<u8>) {
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

    pub(super) fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
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

    pub(super) fn open(&mut self, record: &[u8]) -> (u8, Vec<u8>) {
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
pub(super) struct Peer {
    pub(super) socket: TcpStream,
    pub(super) here: Keys,
    pub(super) there: Keys,
    /// What came beside requests.
    pub(super) besides: Vec<(u8, Vec<u8>)>,
}

impl Peer {
    pub(super) fn accept(
        mut socket: TcpStream,
        config: &Arc<ServerConfig>,
        bytewise: bool,
    ) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        while session.is_handshaking() || session.wants_write() {
            while session.wants_write() {
                let mut flight = Vec::new();
                session.write_tls(&mut flight)?;
                send(&mut socket, &flight, bytewise)?;
            }
            // This side learns the keys at the end of the handshake. It reads one record at a
            // time, so that it reads nothing that follows the handshake before that.
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
    pub(super) fn request(&mut self) -> io::Result<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match self.there.open(&record(&mut self.socket)?) {
                (DATA, content) => head.extend(content),
                other => self.besides.push(other),
            }
        }
        Ok(String::from_utf8_lossy(&head).into_owned())
    }

    pub(super) fn send(&mut self, kind: u8, content: &[u8]) -> io::Result<()> {
        let sealed = self.here.seal(kind, content);
        self.socket.write_all(&sealed)
    }
}

pub(super) fn send(socket: &mut TcpStream, bytes: &[u8], bytewise: bool) -> io::Result<()> {
    if !bytewise {
        return socket.write_all(bytes);
    }
    bytes.iter().try_for_each(|byte| socket.write_all(&[*byte]))
}

/// One whole record from the socket.
pub(super) fn record(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut record = vec![0; 5];
    socket.read_exact(&mut record)?;
    let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
    record.resize(5 + length, 0);
    socket.read_exact(&mut record[5..])?;
    Ok(record)
}

pub(super) fn body() -> Vec<u8> {
    Pattern::new(SEED).bytes(0, usize::try_from(LENGTH).expect("small"))
}

pub(super) fn head(more: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nETag: \"a\"\r\n{more}\r\n").into_bytes()
}

/// The whole object with its length.
pub(super) fn answer() -> Vec<u8> {
    [head(&format!("Content-Length: {LENGTH}\r\n")), body()].concat()
}

pub(super) fn config(authority: &Authority, version: &'static SupportedProtocolVersion) -> ServerConfig {
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
pub(super) struct Scripted {
    port: u16,
    connections: Arc<AtomicUsize>,
    authority: Authority,
}

impl Scripted {
    /// `script` gets each connection and its number.
    pub(super) fn start(
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

    pub(super) fn accepting(
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
                // A script fails when its client goes away, which is what some tests do.
                thread::spawn(move || drop(serve(socket, number)));
            }
        });
        Self {
            port,
            connections,
            authority,
        }
    }

    pub(super) fn client(&self) -> Client {
        trusting(&self.authority)
    }

    pub(super) fn source(&self, client: &Client) -> HttpSource {
        let url = format!("https://localhost:{}/o", self.port);
        HttpSource::new(client.clone(), &url, HeaderMap::new()).expect("an address")
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}
