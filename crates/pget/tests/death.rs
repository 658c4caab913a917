//! Case 108: a server that stops permanently, in each way that servers do, over real sockets.
//!
//! However it stops and however the object is read, the read ends about `retry_timeout` after the
//! last byte.
#![cfg(all(feature = "aistore", feature = "file", feature = "http", feature = "s3"))]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use pget::{Builder, Error, ErrorKind};
use pget_testkit::content::Pattern;

const PATTERN: Pattern = Pattern::new(108);
const CHUNK: u64 = 50_000;
const SIZE: u64 = 2_000_003;
const PATIENCE: Duration = Duration::from_secs(3);
/// Allowance for a busy machine, and for the steps in which a silence is noticed.
const SLACK: Duration = Duration::from_secs(2);
/// Number of requests that the server answers before it stops.
const SERVED: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// A connection is reset before its answer.
    Reset,
    /// A connection is closed before its answer.
    Closed,
    Status(u16),
    /// A request has no answer.
    SilentBeforeHeaders,
    /// An answer has no body, and bodies in progress stop.
    SilentInBody,
}

const DEATHS: [Death; 6] = [
    Death::Reset,
    Death::Closed,
    Death::Status(503),
    Death::Status(500),
    Death::SilentBeforeHeaders,
    Death::SilentInBody,
];

/// A server that answers a number of requests, and then never again.
struct Server {
    address: SocketAddr,
}

impl Server {
    fn start(death: Death, served: usize, size: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(AtomicUsize::new(0));
        // The threads end with the process. A stopped server closes nothing.
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let requests = Arc::clone(&requests);
                thread::spawn(move || serve(&connection, death, served, size, &requests));
            }
        });
        Self { address }
    }

    fn url(&self) -> String {
        format!("http://{}/o", self.address)
    }
}

/// Waits until the client has closed the connection.
fn hang(mut connection: &TcpStream) {
    while connection.read(&mut [0; 512]).is_ok_and(|count| count > 0) {}
}

fn serve(mut connection: &TcpStream, death: Death, served: usize, size: u64, requests: &AtomicUsize) {
    loop {
        if requests.load(Ordering::SeqCst) >= served && death == Death::Reset {
            // If a connection is closed before its request was read, the system resets it.
            connection.peek(&mut [0]).ok();
            return;
        }
        let Some((method, start, end)) = request(connection, size) else {
            return;
        };
        let is_dead = requests.fetch_add(1, Ordering::SeqCst) >= served;
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nETag: \"v\"\r\nContent-Length: {}\r\n\
             Content-Range: bytes {start}-{}/{size}\r\n\r\n",
            end - start,
            end - 1
        );
        if is_dead {
            match death {
                Death::Reset | Death::Closed => return,
                Death::SilentBeforeHeaders => return hang(connection),
                Death::SilentInBody => {
                    connection.write_all(head.as_bytes()).ok();
                    return hang(connection);
                }
                Death::Status(status) => {
                    let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n");
                    if connection.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                    continue;
                }
            }
        }
        connection.write_all(head.as_bytes()).ok();
        let bytes = PATTERN.bytes(start, usize::try_from(end - start).expect("small"));
        let body = if method == "HEAD" { &[][..] } else { &bytes };
        if requests.load(Ordering::SeqCst) == served {
            // The last answered request gets half of its body.
            connection.write_all(&body[..body.len() / 2]).ok();
            return match death {
                Death::SilentInBody | Death::SilentBeforeHeaders => hang(connection),
                Death::Reset | Death::Closed | Death::Status(_) => {}
            };
        }
        if connection.write_all(body).is_err() {
            return;
        }
    }
}

/// Reads a request. Returns its method, and the range to send.
fn request(mut connection: &TcpStream, size: u64) -> Option<(String, u64, u64)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        connection.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let method = head.split(' ').next()?.to_uppercase();
    let range = head.lines().find_map(|line| line.strip_prefix("range: bytes="));
    let (start, last) = range.and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
    let start = start.parse().ok()?;
    let end = last.parse().map_or(size, |last: u64| (last + 1).min(size));
    Some((method, start, end))
}

#[derive(Clone, Copy, Debug)]
enum Way {
    InOrder(u32),
    File(u32),
    Memory(u32),
    Stat,
}

const WAYS: [Way; 6] = [
    Way::InOrder(1),
    Way::InOrder(4),
    Way::InOrder(16),
    Way::File(8),
    Way::Memory(3),
    Way::Stat,
];

async fn read(builder: Builder, way: Way, size: u64) -> Result<(), Error> {
    match way {
        Way::InOrder(concurrency) => {
            let object = builder.concurrency(concurrency).object()?;
            let mut reader = object.reader().await?;
            let mut at = 0;
            while let Some(lease) = reader.next().await? {
                assert_eq!(PATTERN.check(at, &lease), Ok(()), "in order");
                at += lease.len() as u64;
            }
            Ok(())
        }
        Way::File(concurrency) => {
            let folder = tempfile::tempdir().expect("a folder");
            let object = builder.concurrency(concurrency).object()?;
            object.get_file(&folder.path().join("o")).await.map(drop)
        }
        Way::Memory(concurrency) => {
            let buffer = vec![0; usize::try_from(size).expect("small")];
            let object = builder.concurrency(concurrency).object()?;
            object.read_into(buffer).await.0.map(drop)
        }
        Way::Stat => builder.object()?.stat().await.map(drop),
    }
}

/// Reads in the given way. Returns a description if the end is wrong.
async fn ends(url: String, way: Way, size: u64) -> Option<String> {
    let began = Instant::now();
    let builder = pget::builder(&url).chunk_size(CHUNK).retry_timeout(PATIENCE);
    let Err(error) = read(builder, way, size).await else {
        return Some(format!("{way:?}: it succeeds"));
    };
    let took = began.elapsed();
    let line = error.to_line();
    let fits = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
        && line.contains("without progress (retry_timeout)");
    let in_time = took >= PATIENCE * 9 / 10 && took <= PATIENCE * 11 / 10 + SLACK;
    (!fits || !in_time).then(|| format!("{way:?}: {took:?}: {line}"))
}

async fn all(reads: Vec<(String, String, Way, u64)>) {
    let count = reads.len();
    let wrong: Vec<String> = stream::iter(reads)
        .map(async |(name, url, way, size)| Some(format!("{name}: {}", ends(url, way, size).await?)))
        .buffer_unordered(count)
        .filter_map(async |wrong| wrong)
        .collect()
        .await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn case_108_a_server_that_dies_in_mid_read_ends_it_in_time() {
    let mut reads = Vec::new();
    for death in DEATHS {
        for way in WAYS {
            if !matches!(way, Way::Stat) {
                // One stream is one request.
                let served = if matches!(way, Way::InOrder(1)) { 1 } else { SERVED };
                let url = Server::start(death, served, SIZE).url();
                reads.push((format!("{death:?}"), url, way, SIZE));
            }
        }
    }
    all(reads).await;
}

#[tokio::test]
async fn case_108_a_server_that_is_dead_from_the_start_ends_it_in_time() {
    let mut reads = Vec::new();
    for death in DEATHS {
        for way in WAYS {
            // A stat requests only a head.
            if death == Death::SilentInBody && matches!(way, Way::Stat) {
                continue;
            }
            // A small object is complete after the first request.
            for size in [SIZE, 100] {
                let url = Server::start(death, 0, size).url();
                reads.push((format!("{death:?} from the start"), url, way, size));
            }
        }
    }
    all(reads).await;
}

/// Tests a port without a listener, a listener whose queue is full, and a server that never answers
/// a TLS handshake.
#[tokio::test]
async fn case_108_a_server_that_cannot_be_reached_ends_it_in_time() {
    let nowhere = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let refused = nowhere.local_addr().expect("an address");
    drop(nowhere);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let handshake = silent.local_addr().expect("an address");
    thread::spawn(move || {
        let connections: Vec<_> = silent.incoming().collect();
        drop(connections);
    });
    let (_full, black_hole) = full_backlog();
    let mut reads = Vec::new();
    for way in WAYS {
        for (name, url) in [
            ("refused", format!("http://{refused}/o")),
            ("handshake", format!("https://{handshake}/o")),
            ("black hole", format!("http://{black_hole}/o")),
        ] {
            reads.push((name.to_owned(), url, way, SIZE));
        }
    }
    all(reads).await;
}

/// Returns a listener whose queue of connections is full. The system drops further connections.
fn full_backlog() -> (Vec<TcpStream>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    nix::sys::socket::listen(
        &listener,
        nix::sys::socket::Backlog::new(1).expect("a small queue"),
    )
    .expect("a shorter queue");
    let address = listener.local_addr().expect("an address");
    let mut waiting = Vec::new();
    for _ in 0..64 {
        match TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            Ok(connection) => waiting.push(connection),
            Err(_) => break,
        }
    }
    // The listener lives as long as the process, and accepts nothing.
    std::mem::forget(listener);
    (waiting, address)
}

/// Returns a builder with the properties that make this endpoint serve the bucket.
fn at(address: &str, endpoint: &str) -> Builder {
    let builder = pget::builder(address);
    match address.split(':').next() {
        Some("s3") => builder
            .property("aws.endpoint", endpoint)
            .property("aws.region", "us-east-1")
            .property("aws.access_key_id", "key")
            .property("aws.secret_access_key", "secret"),
        Some("ais") => builder.property("ais.endpoint", endpoint),
        _ => builder,
    }
}

/// Downloads from one server share what they have learned about it. Each transport therefore names
/// its server, without credentials.
#[test]
fn each_transport_names_its_server() {
    for (address, endpoint, named) in [
        (
            "http://example.org/o?sig=secret",
            "",
            Some("http://example.org:80"),
        ),
        (
            "https://user:secret@example.org:8443/o",
            "",
            Some("https://example.org:8443"),
        ),
        (
            "s3://bucket/o",
            "http://10.0.0.1:9000/",
            Some("http://10.0.0.1:9000"),
        ),
        (
            "s3://bucket/o",
            "https://store.example.org",
            Some("https://store.example.org:443"),
        ),
        (
            "ais://bucket/o",
            "http://10.0.0.1:51080",
            Some("http://10.0.0.1:51080"),
        ),
        ("/tmp/o", "", None),
    ] {
        let object = at(address, endpoint).object().expect("an object");
        let source = object.source().expect("a source");
        assert_eq!(source.endpoint().as_deref(), named, "{address} at {endpoint}");
    }
}

/// A read that times out reports the limit, the source, and the bytes that it read.
#[tokio::test]
async fn case_142_an_error_names_the_server_behind_a_bucket() {
    for address in ["s3://bucket/o", "ais://bucket/o"] {
        let server = Server::start(Death::Status(503), 0, SIZE);
        let endpoint = format!("http://{}", server.address);
        let builder = at(address, &endpoint).retry_timeout(Duration::from_secs(1));
        for way in [Way::InOrder(4), Way::Stat] {
            let error = read(builder.clone(), way, SIZE).await.expect_err("it is dead");
            let line = error.to_line();
            for words in [address, "without progress (retry_timeout)", "503", &endpoint] {
                assert!(line.contains(words), "{way:?} has no {words:?}: {line}");
            }
            assert!(!line.contains("secret"), "{line}");
        }
    }
}
