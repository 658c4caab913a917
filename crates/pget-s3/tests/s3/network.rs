//! A bad network before a real server: toxiproxy before versitygw.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use pget_core::{Download, ErrorKind, Options};
use pget_s3::{S3Source, Settings};
use pget_testkit::{
    content::Pattern,
    modes::{self, Expected, Mode},
    servers::{S3Endpoint, Toxic, Toxiproxy, Versitygw, VersitygwOptions, require},
};

use super::{
    common::{open, options, within},
    real::{put, settings},
};

const PATTERN: Pattern = Pattern::new(61);
const CHUNK: u64 = 128 << 10;
const SIZE: u64 = 8 * CHUNK + 5;
const EXPECTED: Expected = Expected {
    pattern: PATTERN,
    offset: 0,
    size: SIZE,
};

struct Network {
    proxy: Arc<Toxiproxy>,
    settings: Settings,
    _server: Versitygw,
}

impl Network {
    /// Starts the servers, and stores an object `k`.
    async fn start() -> Option<Self> {
        let server = require(Versitygw::start(VersitygwOptions::default()))?;
        let endpoint: &S3Endpoint = server.endpoint();
        put(endpoint, "k", PATTERN, SIZE).await;
        let upstream = endpoint.url().replace("http://", "");
        let proxy = Arc::new(require(Toxiproxy::start(&upstream))?);
        let settings = settings(endpoint).property("aws.endpoint", format!("http://{}", proxy.address()));
        Some(Self {
            proxy,
            settings,
            _server: server,
        })
    }

    async fn told(&self, work: impl FnOnce(&Toxiproxy) -> std::io::Result<()> + Send + 'static) {
        let proxy = Arc::clone(&self.proxy);
        let told = tokio::task::spawn_blocking(move || work(&proxy)).await;
        told.expect("it does not panic").expect("the proxy obeys");
    }

    async fn spoil(&self, toxic: Toxic) {
        self.told(move |proxy| proxy.spoil(toxic)).await;
    }

    async fn heal(&self) {
        self.told(Toxiproxy::heal).await;
    }

    fn source(&self) -> Arc<S3Source> {
        open("s3://bucket/k", &self.settings)
    }

    /// Reads in every mode with 1, 4 and 16 requests at the same time, over new connections.
    ///
    /// Returns the end of each read, and the number of retries of the reads in order.
    async fn read(&self) -> (Vec<Option<ErrorKind>>, u64) {
        let (mut kinds, mut retries) = (Vec::new(), 0);
        for concurrency in [1, 4, 16] {
            let runs =
                Mode::ALL.map(|mode| modes::run(mode, self.source(), impatient(concurrency), EXPECTED));
            for outcome in within(futures_util::future::join_all(runs)).await {
                kinds.push(outcome.kind());
                retries += outcome.stats.map_or(0, |stats| stats.retries);
            }
        }
        (kinds, retries)
    }
}

fn impatient(concurrency: u32) -> Options {
    let mut options = options(CHUNK, concurrency);
    options.deadlines.first_byte = Duration::from_millis(800);
    options.deadlines.stall = Duration::from_millis(800);
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_24_a_slow_and_jerky_network_is_only_slow() {
    let Some(network) = Network::start().await else {
        return;
    };
    for toxic in [
        Toxic::Latency(Duration::from_millis(50)),
        Toxic::Bandwidth(2000),
        Toxic::SlowClose(Duration::from_millis(200)),
        Toxic::Slicer(4000, Duration::from_micros(50)),
    ] {
        network.spoil(toxic).await;
        let (kinds, _) = network.read().await;
        assert!(kinds.iter().all(Option::is_none), "{toxic:?}: {kinds:?}");
        network.heal().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_22_connections_that_end_after_some_bytes_are_followed_by_others() {
    let Some(network) = Network::start().await else {
        return;
    };
    // The limit is less than a chunk, so that no range arrives complete.
    network.spoil(Toxic::LimitData(100_000)).await;
    let (kinds, retries) = network.read().await;
    assert!(kinds.iter().all(Option::is_none), "{kinds:?}");
    assert!(retries >= SIZE / 100_000, "{retries}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_22_a_network_that_resets_everything_is_unavailable() {
    let Some(network) = Network::start().await else {
        return;
    };
    for toxic in [
        Toxic::ResetPeer(Duration::ZERO),
        Toxic::Timeout(Duration::from_millis(20)),
    ] {
        network.spoil(toxic).await;
        let (kinds, _) = network.read().await;
        let due = Some(ErrorKind::Unavailable);
        assert!(kinds.iter().all(|kind| *kind == due), "{toxic:?}: {kinds:?}");
        network.heal().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_25_a_network_that_goes_silent_times_out() {
    let Some(network) = Network::start().await else {
        return;
    };
    network.spoil(Toxic::Timeout(Duration::ZERO)).await;
    let (kinds, _) = network.read().await;
    let due = Some(ErrorKind::Timeout);
    assert!(kinds.iter().all(|kind| *kind == due), "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cases_22_and_25_a_network_that_fails_in_mid_read_and_comes_back_costs_retries() {
    let Some(network) = Network::start().await else {
        return;
    };
    for toxic in [Toxic::ResetPeer(Duration::ZERO), Toxic::Timeout(Duration::ZERO)] {
        let mut options = impatient(4);
        (options.window, options.retries) = (Some(1), Some(20));
        let mut reader = Download::new(network.source(), options)
            .expect("options")
            .reader();
        let first = within(reader.next())
            .await
            .expect("it is well yet")
            .expect("some");
        let mut bytes = first.to_vec();
        drop(first);
        network.spoil(toxic).await;
        let monitor = reader.monitor();
        let rest = async {
            while let Some(lease) = reader.next().await.expect("it comes back") {
                bytes.extend_from_slice(&lease);
            }
        };
        let back = async {
            let mut poll = tokio::time::interval(Duration::from_millis(10));
            while monitor.stats().retries == 0 {
                poll.tick().await;
            }
            network.heal().await;
        };
        within(async { tokio::join!(rest, back) }).await;
        assert_eq!(bytes.len() as u64, SIZE);
        assert_eq!(PATTERN.check(0, &bytes), Ok(()));
        assert!(reader.stats().retries > 0, "{toxic:?}");
    }
}

/// Reads while `trouble` happens after the first bytes. The consumer takes one chunk at a time.
async fn read_through(
    source: Arc<S3Source>,
    size: u64,
    trouble: impl Future<Output = ()>,
) -> Result<u64, pget_core::Error> {
    let mut options = options(CHUNK, 4);
    (options.window, options.retries) = (Some(4), None);
    options.retry_timeout = Duration::from_secs(60);
    let mut reader = Download::new(source, options).expect("options").reader();
    let mut bytes = 0;
    let rest = async {
        while let Some(lease) = reader.next().await? {
            assert_eq!(PATTERN.check(bytes, &lease), Ok(()));
            bytes += lease.len() as u64;
            drop(lease);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    };
    let (result, ()) = tokio::join!(rest, trouble);
    result.map(|()| assert_eq!(bytes, size))?;
    Ok(reader.stats().retries)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_143_versitygw_is_killed_and_started_again_in_mid_read() {
    const SIZE: u64 = 60 * CHUNK + 7;
    let Some(server) = require(Versitygw::start(VersitygwOptions::default())) else {
        return;
    };
    put(server.endpoint(), "k", PATTERN, SIZE).await;
    let source = open("s3://bucket/k", &settings(server.endpoint()));
    let server = Arc::new(Mutex::new(server));
    for down in [0, 300, 1500] {
        let trouble = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let server = Arc::clone(&server);
            let crash = move || {
                let mut server = server.lock().expect("no panic");
                server.crash_for(Duration::from_millis(down))
            };
            let crashed = tokio::task::spawn_blocking(crash).await.expect("no panic");
            crashed.expect("it starts again");
        };
        let retries = within(read_through(Arc::clone(&source), SIZE, trouble)).await;
        let retries = retries.unwrap_or_else(|error| panic!("{down} ms: {}", error.to_line()));
        assert!(retries > 0 || down == 0, "{down} ms: nothing was met");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_143_a_network_that_is_down_for_a_while_is_waited_out() {
    let Some(network) = Network::start().await else {
        return;
    };
    for down in [50, 400, 2000] {
        let trouble = async {
            tokio::time::sleep(Duration::from_millis(15)).await;
            network.told(|proxy| proxy.set_up(false)).await;
            tokio::time::sleep(Duration::from_millis(down)).await;
            network.told(|proxy| proxy.set_up(true)).await;
        };
        let read = within(read_through(network.source(), SIZE, trouble)).await;
        read.unwrap_or_else(|error| panic!("{down} ms: {}", error.to_line()));
    }
}
