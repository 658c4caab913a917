//! The catalogue of faults, as far as it concerns HTTP, against a server that really misbehaves: one test a case, named by its number. Each script runs in every mode
//! and at concurrency 1, 4 and 16 ([`survives`], [`fails`]), and each run checks that the fault was met (the server counts), what came of it, and that every byte given
//! out, or left in memory, was the right one. What is looked at more closely (requests sent, one stream) is read in order.

mod body;
mod connection;
mod gathering;
mod learned;
mod lies;
mod nginx;
mod outages;
mod proxy;
mod range_protocol;
mod records;
mod sealed;
mod sizes;
mod status;
mod streams;
mod tls;
mod versions;

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::HeaderMap;
use pget_core::{Download, Error, ErrorKind, Options, RangeSource, Stats};
use pget_http::{Client, ClientOptions, HttpSource};
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, When},
    modes::{self, Expected, Mode},
};

/// No multiple of the chunk, and eleven chunks.
const SIZE: u64 = 1_000_003;
const CHUNK: u64 = 100_000;
const SEED: u64 = 7;

/// What is asked for, and how much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// All of the object at concurrency 1: one plain GET.
    Whole,
    /// Three quarters of it at concurrency 1: one stream too, but a range, whose answer can lie about it.
    Part,
    /// All of it at this concurrency.
    Ranges(u32),
}

/// One stream, some ranges at once, and more permits than there are ranges.
const SHAPES: [Shape; 3] = [Shape::Part, Shape::Ranges(4), Shape::Ranges(16)];
const RANGES: [Shape; 2] = [Shape::Ranges(4), Shape::Ranges(16)];
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
    options.concurrency = Some(4);
    options.retries = Some(3);
    options.deadlines.first_byte = Duration::from_millis(600);
    options.deadlines.stall = Duration::from_millis(600);
    options
}

/// The same for tests that count requests: a reply that a busy machine delays is waited for and not asked for again.
fn patient() -> Options {
    let mut options = options();
    options.deadlines.first_byte = DEADLINE;
    options.deadlines.stall = DEADLINE;
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

/// Where one stream's first answer is cut, so that a fault of later requests meets it too.
const CUT: u64 = 50_000;

/// One run of a script: how, what came of it, and how often its faults were met.
struct Run {
    mode: Mode,
    shape: Shape,
    outcome: modes::Outcome,
    met: u64,
}

/// Runs `route` in every mode and each of `shapes`, all at once. A fault that a single stream would not meet, because it is of later requests, meets
/// the rest of a stream that was cut.
async fn everywhere(route: &Route, shapes: &[Shape]) -> Vec<Run> {
    let server = &Hostile::start().expect("a server");
    let runs = Mode::ALL.into_iter().flat_map(|mode| {
        let each = |shape: &Shape| (mode, *shape);
        shapes.iter().map(each).collect::<Vec<_>>()
    });
    let run = |(mode, shape): (Mode, Shape)| async move {
        let mut options = options();
        let mut size = route.object().size;
        match shape {
            Shape::Whole => options.concurrency = Some(1),
            Shape::Part => {
                size -= size / 4;
                (options.concurrency, options.length) = (Some(1), Some(size));
            }
            Shape::Ranges(concurrency) => options.concurrency = Some(concurrency),
        }
        let expected = Expected {
            pattern: route.object().pattern,
            offset: 0,
            size,
        };
        let path = format!("/{mode:?}-{shape:?}");
        let url = server.route(&path, route.clone());
        let outcome = modes::run(mode, Arc::new(source(&url)), options.clone(), expected).await;
        let met = server.served(&path);
        if matches!(shape, Shape::Ranges(_)) || met > 0 {
            return Run {
                mode,
                shape,
                outcome,
                met,
            };
        }
        assert!(outcome.end.is_ok(), "{mode}, {shape:?}: {:?}", outcome.end);
        let url = server.route(&path, route.clone().cut_first(CUT));
        let outcome = modes::run(mode, Arc::new(source(&url)), options, expected).await;
        let met = server.served_by_rule(&path)[1..].iter().sum();
        Run {
            mode,
            shape,
            outcome,
            met,
        }
    };
    within(join_all(runs.map(run))).await
}

/// What the first run in order told that had ranges, if any had; the others agree.
fn representative(runs: Vec<Run>) -> modes::Outcome {
    let mut in_order: Vec<_> = runs.into_iter().filter(|run| run.mode == Mode::InOrder).collect();
    let ranges = in_order
        .iter()
        .position(|run| matches!(run.shape, Shape::Ranges(_)));
    in_order.swap_remove(ranges.unwrap_or_default()).outcome
}

/// Reads the object of `route` in every mode and checks that it comes right although at least one fault was met each time; the counters, in order at 4.
async fn survives(route: Route) -> Stats {
    survives_as(&SHAPES, route).await
}

async fn survives_as(shapes: &[Shape], route: Route) -> Stats {
    let runs = everywhere(&route, shapes).await;
    for run in &runs {
        if let Err(error) = &run.outcome.end {
            panic!("{}, {:?}: {}", run.mode, run.shape, error.to_line());
        }
        assert!(
            run.met > 0,
            "{}, {:?}: the fault was not met",
            run.mode,
            run.shape
        );
    }
    representative(runs).stats.expect("in order it has them")
}

/// Reads the object of `route` in every mode and checks that it fails as `kind` each time by a fault that was met; the error, in order at 4.
async fn fails(route: Route, kind: ErrorKind) -> Error {
    fails_as(&SHAPES, route, kind).await
}

async fn fails_as(shapes: &[Shape], route: Route, kind: ErrorKind) -> Error {
    let runs = everywhere(&route, shapes).await;
    for Run {
        mode,
        shape,
        outcome,
        met,
    } in &runs
    {
        match &outcome.end {
            Err(error) => assert_eq!(error.kind(), kind, "{mode}, {shape:?}: {}", error.to_line()),
            Ok(()) => panic!("{mode}, {shape:?}: it was read, and {kind} was due"),
        }
        assert!(
            *met > 0,
            "{mode}, {shape:?}: the fault was not met: {:?}",
            outcome.end
        );
    }
    representative(runs).end.expect_err("it was checked")
}

/// The kinds of failure, if any, of reading `expected` from `source` in every mode at concurrency 1, 4 and 16, which must all be the same.
async fn kinds(
    source: impl RangeSource + 'static,
    options: Options,
    expected: Expected,
) -> Option<ErrorKind> {
    let source: Arc<dyn RangeSource> = Arc::new(source);
    let runs = Mode::ALL
        .into_iter()
        .flat_map(|mode| [1, 4, 16].map(|concurrency| (mode, concurrency)));
    let run = |(mode, concurrency)| {
        let (mut options, source) = (options.clone(), Arc::clone(&source));
        options.concurrency = Some(concurrency);
        async move {
            (
                mode,
                concurrency,
                modes::run(mode, source, options, expected).await,
            )
        }
    };
    let runs = within(join_all(runs.map(run))).await;
    let kind = runs[0].2.kind();
    for (mode, concurrency, outcome) in runs {
        assert_eq!(outcome.kind(), kind, "{mode} at {concurrency}: {:?}", outcome.end);
    }
    kind
}

/// Reads all of the object at `url`, of this size, in every mode at concurrency 1, 4 and 16.
async fn reads(url: &str, size: u64) {
    assert_eq!(kinds(source(url), options(), expected(size)).await, None);
}

fn expected(size: u64) -> Expected {
    Expected {
        pattern: Pattern::new(SEED),
        offset: 0,
        size,
    }
}

fn with(when: When, fault: Fault) -> Route {
    Route::new(object()).fault(when, fault)
}

fn once(when: When, fault: Fault) -> Route {
    Route::new(object()).fault_times(when, 1, fault)
}
