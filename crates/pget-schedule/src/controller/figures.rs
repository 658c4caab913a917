//! Figures of a level, and conversions between numbers.

use std::time::Duration;

/// What each request of a level met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Met {
    pub(super) level: u32,
    /// Bytes per second of a body while it flowed.
    pub(super) body: f64,
    /// Seconds to an answer.
    pub(super) latency: f64,
}

impl Met {
    /// Bytes per second of the level in chunks of `chunk` bytes.
    pub(super) fn rate(&self, chunk: f64) -> f64 {
        f64::from(self.level) * chunk / (self.latency + chunk / self.body.max(1.0))
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rate")]
pub(super) fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-9)
}

#[allow(clippy::cast_precision_loss, reason = "an estimate")]
pub(super) const fn bytes(bytes: u64) -> f64 {
    bytes as f64
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of floats saturate"
)]
pub(super) const fn whole(value: f64) -> u32 {
    value as u32
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of floats saturate"
)]
pub(super) const fn whole_bytes(value: f64) -> u64 {
    value as u64
}
