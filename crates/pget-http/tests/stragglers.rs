//! A slow connection does not set the pace: against a server that limits each connection, and one in eight far more than the others.
//!
//! Each eighth connection that the server accepts is such a one, so a client that replaces one meets the next when its turn comes. `benches/stragglers.sh` measures the same at full
//! size; here a chunk over the slow connection would take 10 s, and the whole object less than one without it.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderMap;
use pget_core::{Download, Options, Stats};
use pget_http::{Client, ClientOptions, HttpSource, RequestHead};
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, When},
};
use tokio::time::timeout;
use url::Url;

const SIZE: u64 = 128 << 20;
const CHUNK: u64 = 4 << 20;
const DEADLINE: Duration = Duration::from_secs(60);
/// Of the server's pace, not of this machine's: half of what one chunk over the slow connection would take.
const SOON: Duration = Duration::from_secs(5);

fn pace(bytes_per_second: u64) -> Fault {
    Fault::Pace { bytes_per_second }
}

/// How one connection in eight is, while the others get 20 MB/s.
fn server(eighth: Option<Fault>) -> (Hostile, String) {
    let server = Hostile::start().expect("a server");
    let mut route = Route::new(Object::new(3, SIZE));
    if let Some(fault) = eighth {
        route = route.fault(When::Connection { of: 8, number: 3 }, fault);
    }
    let url = server.route("/o", route.fault(When::Always, pace(20_000_000)));
    (server, url)
}

fn download(url: &str) -> Download {
    let client = Client::new(&ClientOptions::default()).expect("the default options are sound");
    let source = HttpSource::new(client, url, HeaderMap::new()).expect("an address");
    let mut options = Options::default();
    (options.chunk_size, options.concurrency) = (Some(CHUNK), Some(8));
    Download::new(Arc::new(source), options).expect("sound options")
}

async fn in_order(url: &str) -> Stats {
    let mut reader = download(url).reader();
    let (pattern, mut at) = (Pattern::new(3), 0);
    while let Some(lease) = reader.next().await.expect("it goes well") {
        assert_eq!(pattern.check(at, &lease), Ok(()));
        at += lease.len() as u64;
    }
    assert_eq!(at, SIZE);
    reader.stats()
}

fn stragglers() -> [(&'static str, Fault); 3] {
    [
        ("slow", pace(400_000)),
        ("stalls", Fault::Stall { after: 300_000 }),
        ("never answers", Fault::StallBeforeHead),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_slow_connection_in_eight_is_replaced_in_order() {
    for (name, fault) in stragglers() {
        let (server, url) = server(Some(fault));
        let began = Instant::now();
        let stats = timeout(DEADLINE, in_order(&url))
            .await
            .expect("the test's deadline");
        let took = began.elapsed();
        assert!(server.served_by_rule("/o")[0] > 0, "{name}: it was not met");
        assert!((1..=3).contains(&stats.fences), "{name}: {stats:?}");
        assert_eq!(stats.requests, SIZE / CHUNK + stats.fences, "{name}: {stats:?}");
        assert!(took < SOON, "{name}: {took:?}");
        let seen = server.requests("/o");
        if name == "never answers" {
            // It is fenced later: the window is full by then, and a connection that has just brought
            // a chunk is idle. The range is asked for again over such a connection.
            let first = seen.iter().find(|request| request.rule == Some(0));
            let first = first.expect("it was met");
            let again = seen
                .iter()
                .filter(|request| request.asked == first.asked && request.connection != first.connection);
            assert!(again.count() >= 1, "{name}: {seen:?}");
        } else {
            // A fence's attempt goes over a connection that is new to the server.
            let fresh = seen.iter().skip(8).filter(|request| !request.reused).count();
            assert!(fresh as u64 >= stats.fences, "{name}: {fresh} fresh connections");
        }
        // The fenced connection is closed.
        assert!(server.load().open <= 8, "{name}: {:?}", server.load());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_slow_connection_in_eight_is_replaced_into_memory() {
    for (name, fault) in stragglers() {
        let (server, url) = server(Some(fault));
        let began = Instant::now();
        let buffer = vec![0; usize::try_from(SIZE).expect("it fits")];
        let (read, buffer) = timeout(DEADLINE, download(&url).read_into(buffer))
            .await
            .expect("the test's deadline");
        let took = began.elapsed();
        assert_eq!(read.expect("it goes well") as u64, SIZE);
        assert_eq!(Pattern::new(3).check(0, &buffer.expect("it comes back")), Ok(()));
        assert!(server.served_by_rule("/o")[0] > 0, "{name}: it was not met");
        assert!(took < SOON, "{name}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_all_alike_are_left_alone() {
    let (server, url) = server(None);
    let stats = timeout(DEADLINE, in_order(&url))
        .await
        .expect("the test's deadline");
    assert_eq!((stats.fences, stats.requests), (0, SIZE / CHUNK), "{stats:?}");
    assert!(server.load().connections <= 8, "{:?}", server.load());
}

/// A connection that ends last would be used first if only the order counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_connection_stays_idle_while_another_one_is() {
    const LENGTH: u64 = 1 << 20;
    let server = Hostile::start().expect("a server");
    let slow = When::Connection { of: 4, number: 1 };
    let route = Route::new(Object::new(3, LENGTH))
        .fault(slow, pace(4_000_000))
        .fault(When::Always, pace(40_000_000));
    let url = Url::parse(&server.route("/o", route)).expect("an address");
    let client = Client::new(&ClientOptions::default()).expect("the default options are sound");
    let get = async || {
        let response = client
            .get(RequestHead::get(url.clone()))
            .await
            .expect("an answer");
        let body = response.body.bytes(usize::MAX).await.expect("its body");
        assert_eq!(body.len() as u64, LENGTH);
    };
    let all = async {
        tokio::join!(get(), get(), get(), get());
        for _ in 0..8 {
            get().await;
        }
    };
    timeout(DEADLINE, all).await.expect("the test's deadline");
    let seen = server.requests("/o");
    let connections = seen
        .iter()
        .map(|request| request.connection)
        .collect::<BTreeSet<_>>();
    assert_eq!(
        connections.len(),
        4,
        "each request of the first four has its own: {seen:?}"
    );
    assert_eq!(
        server.served_by_rule("/o")[0],
        1,
        "one request was slow: {seen:?}"
    );
}
