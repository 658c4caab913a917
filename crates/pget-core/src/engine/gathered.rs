//! Wake-ups of the consumer, gathered while a source is polled.
//!
//! [`Gathered`] wraps the future of a read. What the read publishes while it is polled wakes the
//! consumer once: when the poll ends, when [`MUCH`] has come, or at once if the last wake-up was
//! [`LONG`] ago. A wake-up of another thread costs more than receiving 16 KiB, and a consumer that
//! is woken for little hands on little.
//!
//! Invariant: bytes that are published outside of a poll of their own read (by a thread that
//! blocks, by another task) wake the consumer at once, as no end of a poll follows them.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::state::Engine;
use crate::sync::thread_local;

/// A poll may take as long as it wants, if the source blocks in it.
const LONG: Duration = Duration::from_millis(1);

/// Bytes that a consumer is woken for while the poll goes on: as much as a socket gathers.
const MUCH: u64 = 1 << 20;

/// The read that this thread polls.
#[derive(Clone, Copy)]
struct Polled {
    /// Distinguishes downloads.
    download: usize,
    /// When the consumer was woken last, or else the poll began.
    since: Instant,
    /// Bytes that have come since then.
    arrived: u64,
}

impl Polled {
    /// Counts `bytes` that arrive at `now`. Returns `false` if the consumer is to be woken for them
    /// and for those before.
    fn gathers(&mut self, bytes: u64, now: Instant) -> bool {
        self.arrived += bytes;
        // A model has no clock.
        let is_long =
            !cfg!(all(test, feature = "model")) && now.saturating_duration_since(self.since) >= LONG;
        let gathers = self.arrived < MUCH && !is_long;
        if !gathers {
            (self.since, self.arrived) = (now, 0);
        }
        gathers
    }
}

thread_local! {
    static POLLED: Cell<Option<Polled>> = const { Cell::new(None) };
}

/// A read whose wake-ups are gathered.
pub(crate) struct Gathered<'a, F> {
    read: F,
    engine: &'a Engine,
}

impl<'a, F> Gathered<'a, F> {
    pub(crate) const fn new(read: F, engine: &'a Engine) -> Self {
        Self { read, engine }
    }
}

impl<F: Future + Unpin> Future for Gathered<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let polling = Polling::new(self.engine);
        let polled = Pin::new(&mut self.read).poll(cx);
        drop(polling);
        polled
    }
}

/// While it lives, wake-ups of its download on this thread are gathered.
struct Polling<'a> {
    engine: &'a Engine,
    /// A source may poll another download's read, below its own.
    outer: Option<Polled>,
}

impl<'a> Polling<'a> {
    fn new(engine: &'a Engine) -> Self {
        let polled = Polled {
            download: identity(engine),
            since: Instant::now(),
            arrived: 0,
        };
        let outer = POLLED.with(|cell| cell.replace(Some(polled)));
        Self { engine, outer }
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        let polled = POLLED.with(|cell| cell.replace(self.outer));
        if polled.is_some_and(|polled| polled.arrived > 0) {
            self.engine.reader_waker.wake();
        }
    }
}

/// Whether the consumer of `engine` will be woken soon for the `bytes` that have just arrived, and
/// need not be woken now.
pub(crate) fn gather(engine: &Engine, bytes: u64) -> bool {
    POLLED.with(|cell| {
        let Some(mut polled) = cell.get().filter(|polled| polled.download == identity(engine)) else {
            return false;
        };
        let gathers = polled.gathers(bytes, Instant::now());
        cell.set(Some(polled));
        gathers
    })
}

fn identity(engine: &Engine) -> usize {
    std::ptr::from_ref(engine).addr()
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::*;

    #[test]
    fn the_consumer_is_woken_for_much_and_after_long() {
        let since = Instant::now();
        let mut polled = Polled {
            download: 0,
            since,
            arrived: 0,
        };
        let page = 256 << 10;
        // Fast: three of four pages wait for the fourth.
        for _ in 0..3 {
            let gathered: Vec<bool> = (0..4).map(|_| polled.gathers(page, since)).collect();
            assert_eq!(gathered, [true, true, true, false]);
            assert_eq!(polled.arrived, 0, "the end of the poll need not wake it again");
        }
        // Slow: each byte that comes so late wakes it.
        for late in 1..4 {
            assert!(!polled.gathers(1, since + LONG * late));
        }
        assert!(polled.gathers(1, since + LONG * 3 + LONG / 2));
        assert_eq!(polled.arrived, 1, "the end of the poll wakes it");
    }
}
