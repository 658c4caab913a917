//! Rates as times: after so many bytes, nothing more before that time. Pure.

use std::time::{Duration, Instant};

/// What a connection sends in one go at a rate: what the rate brings in this time, within limits.
pub(super) const SLICE: Duration = Duration::from_millis(2);
pub(super) const LEAST_SLICE: u64 = 16 << 10;
const LONGEST_SLICE: Duration = Duration::from_millis(5);

/// A delay that is made up for by sending faster afterwards.
pub(super) const BURST: Duration = Duration::from_millis(5);

/// The time before which a rate allows no more bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    next: Instant,
}

impl Pace {
    pub(super) const fn new(now: Instant) -> Self {
        Self { next: now }
    }

    /// Returns when the next bytes may be sent.
    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    /// Begins a body at `now` whose first piece of `bytes` is sent when it would have arrived.
    pub(super) fn begin(&mut self, now: Instant, bytes: u64, rate: u64) {
        self.next = self.next.max(now) + takes(bytes, rate);
    }

    /// Counts `bytes` sent at `now`.
    pub(super) fn sent(&mut self, now: Instant, bytes: u64, rate: u64) {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        self.next = self.next.max(earliest) + takes(bytes, rate);
    }
}

/// How long `bytes` take at `rate` bytes per second.
pub(super) fn takes(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 4))
}

/// How many bytes `rate` brings in `time`.
pub(super) fn brings(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate) * time.as_nanos() / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// What is sent in one go at `rate`.
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
