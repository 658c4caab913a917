//! How fast a connection's bodies are. Pure.

use std::time::{Duration, Instant};

/// Fewer bytes say little of a connection.
const ENOUGH: u64 = 256 * 1024;
/// A body that came in a shorter time was waiting here.
const LEAST: Duration = Duration::from_millis(1);

/// The rate of a connection's latest body.
#[derive(Debug, Default)]
pub(crate) struct Speed {
    /// Bytes a second.
    pub(crate) rate: Option<u64>,
    /// When this body's first bytes were received, and its latest.
    times: Option<(Instant, Instant)>,
    /// What was received after its first bytes, which came in a time that is not known.
    bytes: u64,
}

impl Speed {
    /// `count` bytes were received at `now`.
    pub(crate) const fn received(&mut self, now: Instant, count: usize) {
        match &mut self.times {
            None => self.times = Some((now, now)),
            Some((_, latest)) => {
                *latest = now;
                self.bytes += count as u64;
            }
        }
    }

    /// The body has ended, or the next one is asked for.
    pub(crate) fn pause(&mut self) {
        if let Some((first, latest)) = self.times.take() {
            let time = latest.saturating_duration_since(first);
            if self.bytes >= ENOUGH && time >= LEAST {
                let rate = u128::from(self.bytes) * 1_000_000_000 / time.as_nanos();
                self.rate = Some(u64::try_from(rate).unwrap_or(u64::MAX));
            }
        }
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body of `pieces` times 64 KiB, one every `millis` milliseconds, after a pause.
    fn receive(speed: &mut Speed, now: &mut Instant, pieces: u32, millis: u64) {
        speed.pause();
        *now += Duration::from_secs(1);
        for _ in 0..pieces {
            *now += Duration::from_millis(millis);
            speed.received(*now, 64 << 10);
        }
        *now += Duration::from_secs(1);
        speed.pause();
    }

    #[test]
    fn the_rate_is_the_latest_bodys() {
        let (mut speed, mut now) = (Speed::default(), Instant::now());
        for millis in [2, 20, 4] {
            receive(&mut speed, &mut now, 17, millis);
            assert_eq!(speed.rate, Some((64 << 10) * 1000 / millis));
        }
    }

    #[test]
    fn what_says_little_changes_nothing() {
        let (mut speed, mut now) = (Speed::default(), Instant::now());
        receive(&mut speed, &mut now, 4, 2);
        assert_eq!(speed.rate, None, "a short body");
        receive(&mut speed, &mut now, 17, 2);
        let known = speed.rate;
        assert!(known.is_some());
        receive(&mut speed, &mut now, 4, 200);
        assert_eq!(speed.rate, known, "a short body");
        receive(&mut speed, &mut now, 17, 0);
        assert_eq!(speed.rate, known, "one that was there already");
    }
}
