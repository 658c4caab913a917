//! Case 143: a real nginx that restarts, reloads, or limits, in mid read. The figures of many restarts, and of
//! a large object behind a limit, come from the ignored tests.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pget_core::{Download, Error, Options, Stats};
use pget_testkit::{
    content::Pattern,
    servers::{Nginx, NginxOptions, require, sparse_file},
};

use crate::{SEED, source, within};

const SIZE: u64 = 3_000_017;

fn start(http: &str, server: &str) -> Option<Nginx> {
    let nginx = require(Nginx::start(&NginxOptions {
        workers: 2,
        http: http.into(),
        server: server.into(),
        ..NginxOptions::default()
    }))?;
    let bytes = Pattern::new(SEED).bytes(0, usize::try_from(SIZE).expect("small"));
    nginx.put("o", bytes).expect("a file");
    Some(nginx)
}

fn options(chunk: u64, concurrency: u32) -> Options {
    let mut options = Options::default();
    options.chunk_size = Some(chunk);
    options.concurrency = Some(concurrency);
    // Not all of it is fetched before something happens.
    options.window = Some(concurrency);
    options
}

/// Reads the object, and checks every byte.
async fn read(url: &str, options: Options) -> Result<Stats, Error> {
    let download = Download::new(Arc::new(source(url)), options).expect("sound options");
    let mut reader = download.reader();
    let mut at = 0;
    while let Some(lease) = reader.next().await? {
        assert_eq!(Pattern::new(SEED).check(at, &lease), Ok(()));
        at += lease.len() as u64;
        // Two seconds for all of it, so that something can happen in the middle.
        let pace = Duration::from_micros(lease.len() as u64 * 2_000_000 / SIZE);
        drop(lease);
        tokio::time::sleep(pace).await;
    }
    assert_eq!(at, SIZE);
    Ok(reader.stats())
}

/// Reads it while `trouble` is made of nginx, on another thread, from half a second on.
async fn read_through(
    nginx: Nginx,
    options: Options,
    trouble: impl FnOnce(&mut Nginx) + Send + 'static,
) -> (Nginx, Result<Stats, Error>, Duration) {
    let url = nginx.url("/o");
    let made = tokio::task::spawn_blocking(move || {
        let mut nginx = nginx;
        std::thread::sleep(Duration::from_millis(500));
        trouble(&mut nginx);
        (nginx, Instant::now())
    });
    let result = within(read(&url, options)).await;
    let ended = Instant::now();
    let (nginx, made) = made.await.expect("nginx is there again");
    (nginx, result, ended.saturating_duration_since(made))
}

/// Slow enough to be in mid read when something happens.
const SLOW: &str = "limit_rate 300k;";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_143_nginx_restarts_in_mid_read() {
    for (down, chunk, concurrency) in [
        (0, 64 << 10, 4),
        (200, 1 << 20, 4),
        (1500, 128 << 10, 8),
        (700, 1 << 20, 1),
    ] {
        let Some(nginx) = start("", SLOW) else { return };
        let (_, result, _) = read_through(nginx, options(chunk, concurrency), move |nginx| {
            nginx
                .crash_for(Duration::from_millis(down))
                .expect("it starts again");
        })
        .await;
        let stats = result.unwrap_or_else(|error| panic!("{down} ms: {}", error.to_line()));
        // A restart at once may meet idle connections alone, whose loss is no retry.
        assert!(
            stats.retries > 0 || down == 0,
            "{down} ms: nothing was met: {stats:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_143_nginx_reloads_in_mid_read() {
    for concurrency in [1, 8] {
        let Some(nginx) = start("", SLOW) else { return };
        let (_, result, _) = read_through(nginx, options(64 << 10, concurrency), |nginx| {
            for _ in 0..5 {
                nginx.reload().expect("it is there");
                std::thread::sleep(Duration::from_millis(150));
            }
        })
        .await;
        result.unwrap_or_else(|error| panic!("{concurrency}: {}", error.to_line()));
    }
}

/// Status of each request, as nginx logged it.
fn statuses(nginx: &Nginx) -> Vec<u16> {
    let log = nginx.access_log().expect("a log");
    let status = |line: &String| line.split(' ').nth(2)?.parse().ok();
    log.iter().filter_map(status).collect()
}

/// How many of the requests from the hundredth on were refused.
fn refused_later(nginx: &Nginx) -> (usize, usize) {
    let statuses = statuses(nginx);
    let later = statuses.get(100..).unwrap_or_default();
    let refused = later.iter().filter(|status| **status >= 400);
    (refused.count(), later.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_143_limits_of_nginx_are_kept_to() {
    for (http, server, chunk) in [
        (
            "limit_conn_zone $server_name zone=z:1m;",
            "limit_conn z 4;",
            4 << 10,
        ),
        (
            "limit_req_zone $server_name zone=z:1m rate=100r/s;",
            "limit_req zone=z burst=4 nodelay;",
            16 << 10,
        ),
        ("", "limit_rate 500k;", 64 << 10),
    ] {
        let Some(nginx) = start(http, server) else { return };
        let result = within(read(&nginx.url("/o"), options(chunk, 8))).await;
        let stats = result.unwrap_or_else(|error| panic!("{server}: {}", error.to_line()));
        let (refused, later) = refused_later(&nginx);
        // Looser than the goal (2 %), as other tests run beside this one.
        assert!(
            refused * 10 <= later.max(10),
            "{server}: {refused} of {later} refused: {stats:?}"
        );
    }
}

/// Two hundred restarts and reloads in mid read; prints how soon each read ended after nginx was back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: 200 restarts"]
async fn nginx_restarts_two_hundred_times() {
    let (mut complete, mut met, mut after) = (0, 0, Vec::new());
    for round in 0..200_u64 {
        let Some(nginx) = start("", "limit_rate 600k;") else {
            return;
        };
        let chunk = [64 << 10, 1 << 20, 8 << 20][usize::try_from(round % 3).expect("small")];
        let concurrency = [1, 4, 8, 16][usize::try_from(round % 4).expect("small")];
        let down =
            Duration::from_millis([0, 50, 200, 1000, 2000][usize::try_from(round % 5).expect("small")]);
        let reload = round % 2 == 1;
        let (_, result, took) = read_through(nginx, options(chunk, concurrency), move |nginx| {
            if reload {
                nginx.reload().expect("it is there");
            } else {
                nginx.crash_for(down).expect("it starts again");
            }
        })
        .await;
        match result {
            Ok(stats) => {
                complete += 1;
                met += u64::from(stats.retries > 0);
                after.push(took);
            }
            Err(error) => println!(
                "round {round}, {chunk} x {concurrency}, {down:?}: {}",
                error.to_line()
            ),
        }
    }
    after.sort();
    println!(
        "{complete} of 200 complete, {met} of them met it; the rest of the read took {:?} (median), {:?} (most) after",
        after[after.len() / 2],
        after[after.len() - 1]
    );
    assert_eq!(complete, 200);
}

/// A large object behind `limit_conn 4`, beside a read at concurrency 4 without a limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run it in a release build on an idle machine"]
async fn nginx_limits_connections_before_a_large_object() {
    const LARGE: u64 = 6 << 30;
    let run = async |limit: &str, concurrency: u32| {
        let nginx = start("limit_conn_zone $server_name zone=z:1m;", limit)?;
        sparse_file(&nginx.root().join("large"), LARGE).expect("a file");
        let mut options = options(1 << 20, concurrency);
        options.window = None;
        let download = Download::new(Arc::new(source(&nginx.url("/large"))), options).expect("sound");
        let mut reader = download.reader();
        let began = Instant::now();
        let mut bytes = 0;
        while let Some(lease) = reader.next().await.expect("it is read") {
            bytes += lease.len() as u64;
        }
        assert_eq!(bytes, LARGE);
        let (refused, later) = refused_later(&nginx);
        let first = statuses(&nginx)
            .iter()
            .take(100)
            .filter(|status| **status >= 400)
            .count();
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{limit:?} at {concurrency}: {seconds:.2} s, refused {first} of the first 100, {refused} of {later} later"
        );
        Some(seconds)
    };
    for _ in 0..3 {
        let (Some(free), Some(limited)) = (run("", 4).await, run("limit_conn z 4;", 8).await) else {
            return;
        };
        println!(
            "throughput under the limit: {:.3} of that at concurrency 4",
            free / limited
        );
    }
}
