//! What a schedule is made of.

use std::time::Duration;

use super::{Bounds, Wanted};

/// What a schedule is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The bytes of the object to be read.
    pub wanted: Wanted,
    /// Bytes in a chunk.
    pub chunk_size: u64,
    /// Take the source's hint for the chunks after the first, if it has one.
    pub follow_hint: bool,
    /// At most so many attempts in flight.
    pub concurrency: u32,
    /// At most so many chunks open.
    pub window: u32,
    /// Attempts without progress, in a row, that a range may have before the download fails; 0:
    /// none may fail; `None`: `retry_timeout` alone decides.
    pub retries: Option<u32>,
    /// Time without an accepted byte, since the first failure in a row, after which the download
    /// fails.
    pub retry_timeout: Duration,
    /// Let measuring choose the level and the chunk size within these; `None`: both are as set.
    pub control: Option<Bounds>,
    /// The window follows the level, and `window` is its bound.
    pub window_follows: bool,
    /// For the jitter of backoffs.
    pub seed: u64,
}

impl Settings {
    /// The window of a download whose chunks go straight to their destination: nothing waits for a
    /// consumer there.
    pub const UNBOUNDED: u32 = u32::MAX;
}
