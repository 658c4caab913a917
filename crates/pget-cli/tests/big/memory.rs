//! A consumer that is slower than the network, and then stops.
//!
//! Neither the program's memory nor the requested bytes exceed the window.

use std::{
    fs,
    io::{Read, Write},
    process::{ChildStdout, Stdio},
    time::{Duration, Instant},
};

use pget_testkit::{
    hostile::{Hostile, Load, Object, Route},
    servers::socket_buffers,
};

use crate::{
    run::{pget, wait},
    servers::PATTERN,
};

const SIZE: u64 = 4 << 30;
const MIB: u64 = 1 << 20;
/// Bytes per second that the consumer reads, and the duration.
const PACE: usize = 10_000_000;
const SECONDS: u64 = 20;

#[test]
#[ignore = "real sizes: run in release mode"]
fn a_slow_consumer_bounds_memory_and_requests_with_a_given_window() {
    bounded(
        &["--window=8", "--chunk-size=4MiB", "--concurrency=4"],
        8,
        4 * MIB,
        4,
    );
}

#[test]
#[ignore = "real sizes: run in release mode"]
fn a_slow_consumer_bounds_memory_and_requests_by_default() {
    bounded(&[], 24, 8 * MIB, 8);
}

fn bounded(options: &[&str], window: u64, chunk: u64, concurrency: u64) {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, SIZE)));
    // The deadline is shorter than the stop below. It must not run while the consumer does not
    // read.
    let mut child = pget(["cat", &url, "--stall-timeout=2s", "--retries=0"])
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut output = child.stdout.take().expect("a pipe");
    let mut consumed = 0;
    let began = Instant::now();
    for tenth in 1..=SECONDS * 10 {
        take(&mut output, &mut consumed, PACE / 10);
        // The consumer's pace is wall-clock time.
        std::thread::sleep((began + Duration::from_millis(100 * tenth)).duration_since(Instant::now()));
    }
    let held = |server: &Hostile| server.load().body_bytes - consumed;
    let before = server.load();
    std::thread::sleep(Duration::from_secs(5));
    let peak = peak_memory(child.id());
    let ahead = held(&server);
    let pipe = MIB;
    writeln!(
        std::io::stderr(),
        "window {window} x {} MiB: peak {} MiB, {} MiB ahead of the consumer, {} requests",
        chunk / MIB,
        peak / MIB,
        ahead / MIB,
        server.load().requests,
    )
    .expect("standard error");
    assert!(
        peak <= window * chunk + 32 * MIB,
        "peak memory: {} MiB",
        peak / MIB
    );
    let most = window * chunk + concurrency * socket_buffers() + pipe;
    assert!(ahead <= most, "{} MiB ahead of the consumer", ahead / MIB);
    // Requested ranges, received or not: those of the window and those before it.
    let asked = server
        .requests("/o")
        .into_iter()
        .filter_map(|seen| match seen.asked {
            Some(pget_testkit::hostile::Asked::From { end, .. }) => end,
            _ => None,
        });
    let asked = asked.max().expect("ranges were asked for");
    assert!(
        asked <= (consumed + pipe).next_multiple_of(chunk) + window * chunk,
        "asked up to {asked}"
    );
    let after: Load = server.load();
    assert_eq!(
        after.requests, before.requests,
        "no request is sent while the consumer stops"
    );

    // The read continues where it was.
    take(&mut output, &mut consumed, 100 << 20);
    drop(output);
    let ended = wait(child);
    // The end is the same as under `head`, and not a failure to report.
    assert_eq!(ended.status.code(), Some(141), "{ended:?}");
    assert!(ended.stderr.is_empty(), "{ended:?}");
}

/// Reads `count` further bytes and checks them.
fn take(from: &mut ChildStdout, consumed: &mut u64, count: usize) {
    let mut bytes = vec![0; count];
    from.read_exact(&mut bytes).expect("more bytes");
    assert_eq!(PATTERN.check(*consumed, &bytes), Ok(()));
    *consumed += count as u64;
}

/// Returns the peak memory of the process in bytes.
fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .expect("Linux reports it");
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .expect("a number");
    kib * 1024
}
