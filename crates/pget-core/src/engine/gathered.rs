//! Wake-ups of the consumer, gathered while a source is polled.
//!
//! [`Gathered`] wraps the future of a read. What the read publishes while it is polled wakes the
//! consumer once: when the poll ends, when a page or the chunk is full, or at once if the last
//! wake-up was [`LONG`] ago. A wake-up of another thread costs more than receiving 16 KiB, and a
//! consumer that is woken for little hands on little.
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

/// The read that this thread polls.
#[derive(Clone, Copy)]
struct Polled {
    /// Distinguishes downloads.
    download: usize,
    /// When the consumer was woken last, or else the poll began.
    since: Instant,
    /// Bytes have come since then.
    arrived: bool,
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
            arrived: false,
        };
        let outer = POLLED.with(|cell| cell.replace(Some(polled)));
        Self { engine, outer }
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        let polled = POLLED.with(|cell| cell.replace(self.outer));
        if polled.is_some_and(|polled| polled.arrived) {
            self.engine.reader_waker.wake();
        }
    }
}

/// Whether the consumer of `engine` will be woken soon for what has just arrived, and need not be
/// woken now.
pub(crate) fn gather(engine: &Engine) -> bool {
    POLLED.with(|cell| {
        let Some(mut polled) = cell.get().filter(|polled| polled.download == identity(engine)) else {
            return false;
        };
        polled.arrived = !is_long(polled.since);
        if !polled.arrived {
            polled.since = Instant::now();
        }
        cell.set(Some(polled));
        polled.arrived
    })
}

/// In a model there is no time.
fn is_long(since: Instant) -> bool {
    !cfg!(all(test, feature = "model")) && since.elapsed() >= LONG
}

fn identity(engine: &Engine) -> usize {
    std::ptr::from_ref(engine).addr()
}
