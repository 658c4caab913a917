//! The watchdog over one attempt: its deadlines for the first byte and for progress. They stop
//! while the consumer is what is waited for, and while this process does not run.
//!
//! Called by the driver with each attempt. It also finds out how long an attempt that ends had
//! brought nothing: the patience of a download counts from its last byte, and not from the time at
//! which a silence is noticed.

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use crate::{Deadlines, ErrorKind, SourceError, memory::Pulse};

/// Received within a stall deadline, fewer bytes than these are no progress.
const LEAST_PROGRESS: u64 = 4096;
/// Looks within the shorter deadline: a stall is found at most this part of it late.
const LOOKS: u32 = 16;
/// Looks are at most so far apart.
const LONGEST_STEP: Duration = Duration::from_millis(500);

/// How long an attempt may go without signs of life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    /// Those of [`Deadlines::within`].
    pub(crate) deadlines: Deadlines,
    pub(crate) retry_timeout: Duration,
}

/// What was seen of an attempt.
struct Seen {
    at: Instant,
    /// When it began, or had last made progress.
    progress: Instant,
    /// When it began, or its last byte was seen.
    byte: Instant,
    begun: bool,
    bytes: u64,
    bytes_at_progress: u64,
}

impl Seen {
    fn new(now: Instant) -> Self {
        Self {
            at: now,
            progress: now,
            byte: now,
            begun: false,
            bytes: 0,
            bytes_at_progress: 0,
        }
    }

    /// Looks at `pulse`, a `step` after the last look or earlier.
    fn look(&mut self, pulse: &Pulse, step: Duration) {
        let now = Instant::now();
        // The process was stopped, or this task did not get its turn: no silence of the source.
        let late = now.duration_since(self.at).saturating_sub(step);
        self.at = now;
        self.progress += late;
        self.byte += late;
        if !pulse.has_begun() {
            return;
        }
        let bytes = pulse.bytes();
        let waits = !self.begun || pulse.waits_for_consumer();
        if waits || bytes > self.bytes {
            self.byte = now;
            self.bytes = bytes;
        }
        if waits || bytes >= self.bytes_at_progress + LEAST_PROGRESS {
            self.begun = true;
            self.progress = now;
            self.bytes_at_progress = bytes;
        }
    }
}

/// Lets `read` run as long as it shows signs of life.
pub(crate) async fn watch(
    read: impl Future<Output = Result<(), SourceError>>,
    pulse: &Pulse,
    watch: Watch,
    stalls: &AtomicU64,
) -> Result<(), SourceError> {
    let Watch {
        deadlines,
        retry_timeout,
    } = watch;
    let mut read = std::pin::pin!(read);
    let step = (deadlines.first_byte.min(deadlines.stall) / LOOKS)
        .min(LONGEST_STEP)
        .max(Duration::from_millis(1));
    let mut seen = Seen::new(Instant::now());
    loop {
        let result = timeout(step, &mut read).await;
        seen.look(pulse, step);
        let (deadline, message) = if seen.begun {
            (deadlines.stall, "no progress")
        } else {
            (deadlines.first_byte, "no answer")
        };
        let result = result.or_else(|_| {
            if seen.at.duration_since(seen.progress) < deadline {
                return Err(());
            }
            stalls.fetch_add(1, Ordering::Relaxed);
            let message = format!("{message} within {deadline:?}");
            Ok(Err(SourceError::retryable(ErrorKind::Timeout, message)))
        });
        if let Ok(result) = result {
            // A deadline that was set to last longer than patience is waited for besides.
            if deadline <= retry_timeout {
                pulse.ends_after(seen.at.duration_since(seen.byte));
            }
            return result;
        }
    }
}
