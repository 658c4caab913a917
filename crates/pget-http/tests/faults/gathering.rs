//! Bytes that the kernel may gather are never held back from a consumer that waits for them: behind
//! the cursor for a moment, at the cursor for no time that is felt, at a body's tail not at all.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::HeaderMap;
use pget_core::{Download, Options};
use pget_http::HttpSource;
use pget_testkit::{
    content::Pattern,
    servers::{Authority, Validity},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

use crate::{SEED, client, connection::trusting, within};

const CHUNK: u64 = 1 << 20;
const PATTERN: Pattern = Pattern::new(SEED);

/// How a chunk is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Most of it at once, then so many bytes for each word.
    Trickle(u64, u64),
    /// A little of it, and then nothing for as long.
    Pause(u64, Duration),
    /// So many bytes, so many times, each after so long, and then the rest.
    Drip(u64, u64, Duration),
}

/// Serves an object of three chunks over connections of one kind; the second chunk at this pace.
struct Server {
    url: String,
    authority: Authority,
    word: mpsc::UnboundedSender<()>,
    /// Bytes of the second chunk that are sent.
    sent: Arc<AtomicUsize>,
}

const SIZE: u64 = 3 * CHUNK;

impl Server {
    async fn start(tls: bool, pace: Pace) -> Self {
        let authority = Authority::new().expect("an authority");
        let leaf = authority
            .leaf(&["localhost"], Validity::Now)
            .expect("a certificate");
        let certificate = CertificateDer::from_pem_slice(leaf.certificate_pem.as_bytes()).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).expect("PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("they belong together");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let (word, words) = mpsc::unbounded_channel();
        let words = Arc::new(tokio::sync::Mutex::new(words));
        let sent = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a socket");
                let (acceptor, words, sent) = (acceptor.clone(), Arc::clone(&words), Arc::clone(&counter));
                tokio::spawn(async move {
                    if tls {
                        let stream: tokio_rustls::server::TlsStream<TcpStream> =
                            acceptor.accept(stream).await.ok()?;
                        serve(stream, pace, &words, &sent).await
                    } else {
                        serve(stream, pace, &words, &sent).await
                    }
                });
            }
        });
        let scheme = if tls { "https" } else { "http" };
        Self {
            url: format!("{scheme}://localhost:{port}/o"),
            authority,
            word,
            sent,
        }
    }

    fn download(&self, tls: bool) -> Download {
        let client = if tls { trusting(&self.authority) } else { client() };
        let source = HttpSource::new(client, &self.url, HeaderMap::new()).expect("an address");
        let mut options = Options::default();
        options.chunk_size = Some(CHUNK);
        options.concurrency = Some(3);
        options.deadlines.stall = Duration::from_secs(20);
        Download::new(Arc::new(source), options).expect("sound options")
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    pace: Pace,
    words: &tokio::sync::Mutex<mpsc::UnboundedReceiver<()>>,
    sent: &AtomicUsize,
) -> Option<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let range = head.split("range: bytes=").nth(1)?.lines().next()?;
        let (start, last) = range.split_once('-')?;
        let (start, last): (u64, u64) = (start.parse().ok()?, last.parse().ok()?);
        let length = last - start + 1;
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nETag: \"a\"\r\nContent-Length: {length}\r\nContent-Range: bytes {start}-{last}/{SIZE}\r\n\r\n"
        );
        let body = PATTERN.bytes(start, usize::try_from(length).ok()?);
        stream.write_all(head.as_bytes()).await.ok()?;
        let mut pieces: Vec<&[u8]> = vec![&body];
        let mut pause = None;
        if start == CHUNK {
            match pace {
                Pace::Trickle(rest, piece) => {
                    let (first, rest) = body.split_at(usize::try_from(length - rest).ok()?);
                    pieces = vec![first];
                    pieces.extend(rest.chunks(usize::try_from(piece).ok()?));
                }
                Pace::Pause(first, time) => {
                    let (first, rest) = body.split_at(usize::try_from(first).ok()?);
                    pieces = vec![first, rest];
                    pause = Some(time);
                }
                Pace::Drip(piece, times, every) => {
                    let (first, rest) = body.split_at(usize::try_from(piece * times).ok()?);
                    pieces = first.chunks(usize::try_from(piece).ok()?).collect();
                    pieces.push(rest);
                    pause = Some(every);
                }
            }
        }
        for (index, piece) in pieces.into_iter().enumerate() {
            match (index, pause) {
                (0, _) => {}
                (_, Some(pause)) => tokio::time::sleep(pause).await,
                (_, None) => words.lock().await.recv().await?,
            }
            stream.write_all(piece).await.ok()?;
            stream.flush().await.ok()?;
            if start == CHUNK {
                sent.fetch_add(piece.len(), Ordering::SeqCst);
            }
        }
    }
}

/// Reads all, and says that each byte of the trickle has come; how long the trickle took.
async fn read(server: &Server, tls: bool, pace: Pace) -> Duration {
    let mut reader = server.download(tls).reader();
    let (mut at, mut began) = (0, None);
    while let Some(lease) = reader.next().await.expect("it reads") {
        assert_eq!(PATTERN.check(at, &lease), Ok(()));
        at += lease.len() as u64;
        // All that is sent has come: the next piece, please.
        if let Pace::Trickle(rest, _) = pace
            && (2 * CHUNK - rest..2 * CHUNK).contains(&at)
            && at - CHUNK == server.sent.load(Ordering::SeqCst) as u64
        {
            began.get_or_insert_with(Instant::now);
            server.word.send(()).expect("it serves");
        }
    }
    assert_eq!(at, SIZE);
    began.map(|began| began.elapsed()).unwrap_or_default()
}

/// With 100 ms for each piece, it would take 10 s.
#[tokio::test]
async fn a_trickle_at_the_cursor_comes_at_once_also_at_the_tail_of_a_fast_chunk() {
    for tls in [false, true] {
        for piece in [1, 700] {
            let pace = Pace::Trickle(100 * piece, piece);
            let server = Server::start(tls, pace).await;
            let time = within(read(&server, tls, pace)).await;
            assert!(time < Duration::from_secs(5), "{tls}, {piece}: {time:?}");
        }
    }
}

/// Nobody is at them when they come; when the consumer gets there, they are handed out although the
/// rest does not come.
#[tokio::test]
async fn few_bytes_behind_the_cursor_are_there_when_the_consumer_comes() {
    for tls in [false, true] {
        let pace = Pace::Pause(1000, Duration::from_secs(4));
        let server = Server::start(tls, pace).await;
        let mut reader = server.download(tls).reader();
        let (mut at, began) = (0, Instant::now());
        within(async {
            while at < CHUNK + 1000 {
                let lease = reader.next().await.expect("it reads").expect("there is more");
                assert_eq!(PATTERN.check(at, &lease), Ok(()));
                at += lease.len() as u64;
            }
        })
        .await;
        let time = began.elapsed();
        assert!(time < Duration::from_secs(3), "{tls}: {time:?}");
    }
}

/// The watchdog counts what the kernel holds: a chunk that nobody waits for and whose bytes come
/// slowly is no stall.
#[tokio::test]
async fn slow_bytes_that_are_gathered_are_progress() {
    for tls in [false, true] {
        let pace = Pace::Drip(6000, 16, Duration::from_millis(100));
        let server = Server::start(tls, pace).await;
        let mut options = Options::default();
        options.chunk_size = Some(CHUNK);
        options.concurrency = Some(3);
        options.retries = Some(0);
        options.deadlines.stall = Duration::from_millis(600);
        let client = if tls {
            trusting(&server.authority)
        } else {
            client()
        };
        let source = HttpSource::new(client, &server.url, HeaderMap::new()).expect("an address");
        let download = Download::new(Arc::new(source), options).expect("sound options");
        let mut reader = download.reader();
        // The second chunk comes while the consumer is at the first, for longer than the deadline.
        let first = within(reader.next()).await.expect("it reads").expect("not empty");
        let mut at = first.len() as u64;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        within(async {
            while let Some(lease) = reader.next().await.expect("it reads on") {
                at += lease.len() as u64;
            }
        })
        .await;
        assert_eq!((at, reader.stats().stalls), (SIZE, 0));
    }
}
