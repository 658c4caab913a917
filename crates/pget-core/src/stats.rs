//! Counters of one download.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{ErrorKind, Verification, error::in_words, memory::Gauge};

/// Counters of a download: a snapshot. All numbers were true at about the same moment.
///
/// # Examples
/// ```no_run
/// # fn example(reader: &pget_core::Reader) {
/// let stats = reader.stats();
/// println!("{} of {} requests were retries", stats.retries, stats.requests);
/// if stats.consumer_wait > stats.window_full {
///     println!("the server is the bottleneck, not the consumer");
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes given to the consumer; of many ranges at once, those between two of them, which came
    /// with them, too.
    pub delivered: u64,
    /// Bytes that landed in slots.
    pub received: u64,
    /// Attempts started: requests as the download sees them, without the redirects and look-ups of
    /// a source.
    pub requests: u64,
    /// Attempts among `requests` at a range that had been tried before.
    pub retries: u64,
    /// Attempts that were far slower than the others and gave way to one over a fresh connection.
    pub fences: u64,
    /// Attempts that were given up because nothing came for as long as a deadline allows.
    pub stalls: u64,
    /// How long more could have been asked for, but chunks that the consumer has not taken filled
    /// the window.
    pub window_full: Duration,
    /// How long the consumer waited for bytes, in order: from a call that had to wait to the next
    /// bytes.
    pub consumer_wait: Duration,
    /// Bytes of slot memory in use.
    pub buffered: u64,
    /// The most of it at any time.
    pub peak_buffered: u64,
    /// Requests that should be in flight now: as set, or as measuring found.
    pub concurrency: u32,
    /// Bytes per range now: as set, as the source asks, or as measuring found.
    pub chunk_size: u64,
    /// The object is read as one plain stream: by choice (`concurrency` 1), or because the source
    /// ignores ranges or does not identify its content.
    pub one_stream: bool,
    /// The download waits for its server now: nothing succeeds.
    pub waiting: Option<Waiting>,
    /// The result of the comparison of the bytes with the published checksum.
    pub verification: Verification,
}

/// A download that waits for its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiting {
    // Milliseconds, as `Stats` is copied about.
    lasted: u32,
    gives_up_in: u32,
    /// Attempts that have failed since then.
    pub attempts: u32,
    /// Why the last one failed.
    pub kind: ErrorKind,
    /// The HTTP status that it failed with, if there was one.
    pub status: Option<u16>,
}

impl Waiting {
    pub(crate) fn new(
        lasted: Duration,
        gives_up_in: Duration,
        attempts: u32,
        kind: ErrorKind,
        status: Option<u16>,
    ) -> Self {
        let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        Self {
            lasted: millis(lasted),
            gives_up_in: millis(gives_up_in),
            attempts,
            kind,
            status,
        }
    }

    /// How long attempts have failed without a byte in between.
    #[must_use]
    pub fn lasted(&self) -> Duration {
        Duration::from_millis(self.lasted.into())
    }

    /// How long the download goes on trying.
    #[must_use]
    pub fn gives_up_in(&self) -> Duration {
        Duration::from_millis(self.gives_up_in.into())
    }
}

impl fmt::Display for Waiting {
    /// "503, 12 s, fails in 108 s".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{status}")?,
            None => write!(f, "{}", self.kind)?,
        }
        let left = in_words(self.gives_up_in());
        write!(f, ", {}, fails in {left}", in_words(self.lasted()))
    }
}

/// The fields of [`Stats`] that are not counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chosen {
    pub(crate) one_stream: bool,
    pub(crate) concurrency: u32,
    pub(crate) chunk_size: u64,
    pub(crate) waiting: Option<Waiting>,
    pub(crate) verification: Verification,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) delivered: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) fences: AtomicU64,
    pub(crate) stalls: AtomicU64,
    pub(crate) window_full: Time,
    pub(crate) consumer_wait: Time,
    pub(crate) gauge: Arc<Gauge>,
}

impl Counters {
    pub(crate) fn snapshot(&self, chosen: Chosen) -> Stats {
        let Chosen {
            one_stream,
            concurrency,
            chunk_size,
            waiting,
            verification,
        } = chosen;
        Stats {
            delivered: self.delivered.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            fences: self.fences.load(Ordering::Relaxed),
            stalls: self.stalls.load(Ordering::Relaxed),
            window_full: self.window_full.total(),
            consumer_wait: self.consumer_wait.total(),
            buffered: self.gauge.now(),
            peak_buffered: self.gauge.peak(),
            concurrency,
            chunk_size,
            one_stream,
            waiting,
            verification,
        }
    }
}

/// Time that was spent waiting, in nanoseconds: the clock is only looked at by who waits.
#[derive(Debug, Default)]
pub(crate) struct Time(AtomicU64);

impl Time {
    pub(crate) fn add(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    fn total(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}
