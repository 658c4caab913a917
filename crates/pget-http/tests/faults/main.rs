//! The catalogue of faults, as far as it concerns an in-order read over HTTP, against a server that really misbehaves: one test a case, named by its number. Each
//! checks that the fault was met (the server counts), what came of it, and that every byte given out was the right one.

mod body;
mod connection;
mod range_protocol;
mod sizes;
mod status;
mod tls;
mod versions;

use std::{future::Future, sync::Arc, time::Duration};

use http::HeaderMap;
use pget_core::{Download, Error, ErrorKind, Options, RangeSource, Stats};
use pget_http::{Client, ClientOptions, HttpSource};
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, When},
};

/// No multiple of the chunk, and eleven chunks.
const SIZE: u64 = 1_000_003;
const CHUNK: u64 = 100_000;
const SEED: u64 = 7;
/// No test may take longer; most take milliseconds.
const DEADLINE: Duration = Duration::from_secs(30);

fn object() -> Object {
    Object::new(SEED, SIZE)
}

fn client() -> Client {
    Client::new(&ClientOptions::default()).expect("the default options are sound")
}

fn source(url: &str) -> HttpSource {
    HttpSource::new(client(), url, HeaderMap::new()).expect("an address")
}

fn options() -> Options {
    let mut options = Options::default();
    options.chunk_size = Some(CHUNK);
    options.concurrency = 3;
    options.retries = 3;
    options.deadlines.first_byte = Duration::from_millis(400);
    options.deadlines.stall = Duration::from_millis(400);
    options
}

/// What came of a read: the bytes given out before the end, and the end.
struct Outcome {
    bytes: Vec<u8>,
    end: Result<Stats, Error>,
}

impl Outcome {
    /// All of it, and right.
    fn complete(self, pattern: Pattern, size: u64) -> Stats {
        let stats = match self.end {
            Ok(stats) => stats,
            Err(error) => panic!("{}", error.to_line()),
        };
        assert_eq!(self.bytes.len() as u64, size);
        assert_eq!(pattern.check(0, &self.bytes), Ok(()));
        stats
    }

    /// It failed in this way, and what came before was right.
    fn failed(self, pattern: Pattern, kind: ErrorKind) -> Error {
        assert_eq!(pattern.check(0, &self.bytes), Ok(()));
        match self.end {
            Err(error) => {
                assert_eq!(error.kind(), kind, "{}", error.to_line());
                error
            }
            Ok(_) => panic!("{} bytes were read, and {kind} was due", self.bytes.len()),
        }
    }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what)
        .await
        .expect("the test's deadline")
}

async fn read_with(source: impl RangeSource + 'static, options: Options) -> Outcome {
    within(async {
        let download = Download::new(Arc::new(source), options).expect("sound options");
        let mut reader = download.reader();
        let mut bytes = Vec::new();
        loop {
            match reader.next().await {
                Ok(Some(lease)) => bytes.extend_from_slice(&lease),
                Ok(None) => {
                    let end = Ok(reader.stats());
                    return Outcome { bytes, end };
                }
                Err(error) => {
                    return Outcome {
                        bytes,
                        end: Err(error),
                    };
                }
            }
        }
    })
    .await
}

async fn read(url: &str) -> Outcome {
    read_with(source(url), options()).await
}

/// Reads the object of `route` and checks that it comes right although at least one fault was met; the counters.
async fn survives(route: Route) -> Stats {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", route);
    let stats = read(&url).await.complete(Pattern::new(SEED), SIZE);
    assert!(server.served("/o") > 0, "the fault was not met");
    stats
}

/// Reads the object of `route` and checks that it fails as `kind` by a fault that was met; the error.
async fn fails(route: Route, kind: ErrorKind) -> Error {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", route);
    let error = read(&url).await.failed(Pattern::new(SEED), kind);
    assert!(
        server.served("/o") > 0,
        "the fault was not met: {}",
        error.to_line()
    );
    error
}

fn with(when: When, fault: Fault) -> Route {
    Route::new(object()).fault(when, fault)
}

fn once(when: When, fault: Fault) -> Route {
    Route::new(object()).fault_times(when, 1, fault)
}
