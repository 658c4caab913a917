//! Settings and a driver's step for tests of the schedule.

#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use pget_schedule::{Action, Attempt, Schedule, Settings, Wanted};

/// Returns the settings of a download of the whole object, by ranges of `chunk_size` bytes and two
/// requests at once. Nothing is measured, and only time limits the attempts.
pub(crate) fn settings(chunk_size: u64) -> Settings {
    Settings {
        wanted: Wanted::all(),
        chunk_size,
        follow_hint: false,
        concurrency: 2,
        window: Settings::UNBOUNDED,
        window_follows: false,
        control: None,
        retries: None,
        retry_timeout: Duration::from_secs(120),
        seed: 1,
    }
}

/// Polls at `now` until the schedule requests something; there is memory for every chunk.
///
/// # Errors
/// The schedule requests nothing: it waits, gives up or is finished.
pub(crate) fn poll(schedule: &mut Schedule, now: Duration) -> Result<Attempt, Action> {
    loop {
        match schedule.poll(now) {
            Action::Reserve { .. } => schedule.reserved(),
            Action::Request(attempt) => return Ok(attempt),
            other => return Err(other),
        }
    }
}
