//! Descriptors: a download over real sockets that is dropped or cancelled, wherever it is, leaves none behind.
//!
//! The only test of its process, whose descriptors it counts; the server's are among them, as it closes what its client has closed. Real time has no bound that holds on every machine, so
//! the 100 ms after which tasks, slots and memory are back are held by the simulation; here they need only come back.
#![cfg(target_os = "linux")]

use std::{
    future::Future as _,
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderMap;
use pget_core::{Budget, Cancel, Download, Error, ErrorKind, Options};
use pget_http::{Client, ClientOptions, HttpSource};
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, When},
};
use tokio::time::timeout;

const SIZE: u64 = (1 << 20) + 5;
const CHUNK: u64 = 64 << 10;
const DOWNLOADS: u64 = 300;
const DEADLINE: Duration = Duration::from_secs(30);

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("there is one").count()
}

/// A random number below `below`, by seed and purpose (splitmix64, G. Steele and others, 2014).
fn random(seed: u64, purpose: u64, below: u64) -> u64 {
    let mut z = (seed << 8 | purpose).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ z >> 31) % below
}

fn routes(server: &Hostile) -> Vec<String> {
    let route = || Route::new(Object::new(3, SIZE));
    vec![
        server.route("/right", route()),
        server.route(
            "/slow",
            route().fault(
                When::Always,
                Fault::Pace {
                    bytes_per_second: 2_000_000,
                },
            ),
        ),
        server.route(
            "/stalls",
            route().fault(When::Later, Fault::Stall { after: 3000 }),
        ),
        server.route("/silent", route().fault(When::Later, Fault::StallBeforeHead)),
        server.route(
            "/resets",
            route().fault(When::Later, Fault::Reset { after: 1000 }),
        ),
    ]
}

/// One download by the seed's way of reading, to its end.
async fn read(seed: u64, download: Download) -> Result<(), Error> {
    let pattern = Pattern::new(3);
    match random(seed, 1, 3) {
        0 => {
            let (mut reader, mut at) = (download.reader(), 0);
            while let Some(lease) = reader.next().await? {
                assert_eq!(pattern.check(at, &lease), Ok(()));
                at += lease.len() as u64;
            }
        }
        1 => {
            let (read, buffer) = download.read_into(vec![0; 2 << 20]).await;
            let count = read?;
            assert_eq!(pattern.check(0, &buffer.expect("it comes back")[..count]), Ok(()));
        }
        _ => {
            let buffer = |start: u64| (start..start + CHUNK / 2, vec![0; 32 << 10]);
            let ranges = (0..16).map(|number| buffer(number * CHUNK + random(seed, number, 100)));
            let mut reading = download.read_ranges(ranges.collect())?;
            while reading.next().await?.is_some() {}
        }
    }
    Ok(())
}

/// Plays one download, and leaves it at a poll or, where it waits for its server, after a moment. Whether it came to its end.
async fn play(seed: u64, url: &str, budget: &Arc<Budget>) -> bool {
    let client = Client::new(&ClientOptions::default()).expect("the default options are sound");
    let source = HttpSource::new(client, url, HeaderMap::new()).expect("an address");
    let cancel = Cancel::new();
    let mut options = Options::default();
    options.chunk_size = Some(CHUNK);
    options.concurrency = Some([1, 4, 16][usize::try_from(random(seed, 2, 3)).expect("small")]);
    options.cancel = Some(cancel.clone());
    options.budget = Arc::clone(budget);
    let download = Download::new(Arc::new(source), options).expect("sound options");
    let mut reading = Box::pin(read(seed, download));
    let (at, moment) = (random(seed, 3, 12), Duration::from_millis(random(seed, 4, 20)));
    let mut polls = 0;
    let left = std::future::poll_fn(|cx| {
        if polls == at {
            return std::task::Poll::Ready(None);
        }
        polls += 1;
        reading.as_mut().poll(cx).map(Some)
    });
    let ended = timeout(moment, left).await.ok().flatten();
    if let Some(ended) = ended {
        // A server that resets each connection is one that the retries end at.
        assert!(ended.is_ok() || url.ends_with("/resets"), "{ended:?}");
        return true;
    }
    if random(seed, 5, 2) == 0 {
        cancel.trigger();
        match timeout(DEADLINE, reading).await.expect("a cancel is heard") {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}"),
            Ok(()) => return true,
        }
    }
    false
}

#[test]
fn a_drop_or_a_cancel_anywhere_leaves_no_descriptor() {
    let server = Hostile::start().expect("a server");
    let routes = routes(&server);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let budget = Budget::new(64 << 20, 64);
    let (mut before, mut left, mut most, mut slowest) = (0, 0, 0, Duration::ZERO);
    for seed in 0..DOWNLOADS {
        if seed == 1 {
            // The first one opens what stays.
            before = descriptors();
        }
        let url = &routes[usize::try_from(seed).expect("small") % routes.len()];
        let ended = runtime.block_on(async {
            let watched = tokio::spawn({
                let (url, budget) = (url.clone(), Arc::clone(&budget));
                async move { play(seed, &url, &budget).await }
            });
            let ended = timeout(DEADLINE, watched).await.expect("the test's deadline");
            most = most.max(descriptors());
            ended.expect("no panic")
        });
        left += u64::from(!ended);
        let began = Instant::now();
        loop {
            let held = (
                descriptors().max(before) - before,
                budget.taken(),
                budget.in_flight(),
                runtime.metrics().num_alive_tasks(),
            );
            if seed == 0 || held == (0, 0, 0, 0) {
                break;
            }
            assert!(
                began.elapsed() < DEADLINE,
                "seed {seed}, {url}: left behind {held:?}"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        slowest = slowest.max(began.elapsed());
        if seed == 0 {
            // What it has opened for itself is closed by the time that the next one is looked at.
            std::thread::sleep(Duration::from_millis(500));
        }
    }
    eprintln!(
        "{left} of {DOWNLOADS} left, {most} descriptors at the most, {before} before; back after {slowest:?} at the slowest"
    );
    assert!(left > DOWNLOADS / 4, "{left} left");
    assert!(most > before, "no descriptor was ever seen");
}
