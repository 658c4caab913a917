//! What one attempt shows of itself while its writer lives: set by the writer, looked at by the
//! watchdog and the schedule.

use std::{net::SocketAddr, sync::OnceLock, time::Duration};

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Signs of life of one attempt, for the watchdog over it.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    asked: AtomicBool,
    pub(super) begun: AtomicBool,
    pub(super) bytes: AtomicU64,
    /// Bytes that the body has yet to bring before the first wanted one.
    pub(super) to_skip: AtomicU64,
    waiting: AtomicBool,
    pub(super) from: OnceLock<SocketAddr>,
    pub(super) asked_before: OnceLock<Duration>,
    /// How long it had brought nothing when it ended.
    quiet_for: OnceLock<Duration>,
}

impl Pulse {
    /// The request goes to the source now.
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// The address that the body comes from, if the source reported it.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.from.get().copied()
    }

    /// How long before the attempt its request was sent.
    pub(crate) fn asked_before(&self) -> Option<Duration> {
        self.asked_before.get().copied()
    }

    /// It ends, having waited for its source for so long since its last byte.
    pub(crate) fn ends_after(&self, quiet_for: Duration) {
        self.quiet_for.get_or_init(|| quiet_for);
    }

    /// How long it had brought nothing when it ended, if that counts.
    pub(crate) fn quiet_for(&self) -> Option<Duration> {
        self.quiet_for.get().copied()
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Bytes of the body so far, skipped ones included.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The body has not reached the first wanted byte.
    pub(crate) fn skips(&self) -> bool {
        self.to_skip.load(Ordering::Relaxed) > 0
    }

    /// The writer waits for the consumer, not for the server.
    pub(crate) fn waits_for_consumer(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// While it lives, the writer waits for the consumer. A guard, as a source may drop the wait and
/// turn to the server.
pub(super) struct Waiting<'a>(&'a Pulse);

impl<'a> Waiting<'a> {
    pub(super) fn new(pulse: &'a Pulse) -> Self {
        pulse.waiting.store(true, Ordering::Relaxed);
        Self(pulse)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.store(false, Ordering::Relaxed);
    }
}
