//! Rates as times: after a number of bytes, the next one may not be sent before a certain time.
//!
//! This module does no input or output and reads no clock.

use std::time::{Duration, Instant};

/// Time whose bytes, at the connection's rate, are sent at once, within limits.
pub(super) const SLICE: Duration = Duration::from_millis(2);
pub(super) const LEAST_SLICE: u64 = 16 << 10;
const LONGEST_SLICE: Duration = Duration::from_millis(5);

/// The longest delay that the server makes up for by sending faster afterwards.
pub(super) const BURST: Duration = Duration::from_millis(5);

/// The time before which a rate allows no further byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    next: Instant,
}

impl Pace {
    pub(super) const fn new(now: Instant) -> Self {
        Self { next: now }
    }

    /// Returns the time at which the next bytes may be sent.
    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    /// Begins a body at `now`. The first piece of `bytes` is sent at the time at which it would
    /// have arrived.
    pub(super) fn begin(&mut self, now: Instant, bytes: u64, rate: u64) {
        self.next = self.next.max(now) + takes(bytes, rate);
    }

    /// Counts `bytes` sent at `now`.
    pub(super) fn sent(&mut self, now: Instant, bytes: u64, rate: u64) {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        self.next = self.next.max(earliest) + takes(bytes, rate);
    }
}

/// Returns the time that `bytes` take at `rate` bytes per second.
pub(super) fn takes(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 4))
}

/// Returns the number of bytes that `rate` allows in `time`.
pub(super) fn brings(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate) * time.as_nanos() / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Returns the number of bytes that are sent at once at `rate`.
pub(super) fn slice(rate: u64) -> u64 {
    brings(rate, SLICE)
        .max(LEAST_SLICE.min(brings(rate, LONGEST_SLICE)))
        .clamp(1, 1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_over_time_and_a_short_delay_is_made_up_for() {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        let (rate, piece) = (1_000_000, 1000);
        let mut now = began;
        for number in 0..1000_u32 {
            // Every tenth piece is 3 ms late.
            now = pace.next().max(now) + Duration::from_millis(if number % 10 == 9 { 3 } else { 0 });
            pace.sent(now, piece, rate);
        }
        let took = pace.next() - began;
        assert!(
            took >= Duration::from_secs(1) && took < Duration::from_millis(1010),
            "{took:?} for a second's bytes"
        );
    }

    #[test]
    fn a_long_delay_is_lost() {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        let late = began + Duration::from_secs(1);
        pace.sent(late, 1000, 1_000_000);
        assert_eq!(pace.next(), late - BURST + Duration::from_millis(1));
    }
}
