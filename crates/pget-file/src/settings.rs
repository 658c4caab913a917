//! How a file is written.

use std::time::Duration;

use pget_core::{Error, ErrorKind};

use crate::Warnings;

/// How a file is written. Start from [`Settings::default`] and set the fields that differ.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Continue what an earlier read of the same object and range left.
    pub resume: bool,
    /// Sync file and folder before success is reported.
    pub sync: bool,
    /// How often received bytes are synced and recorded in the journal, 10 ms to a day; default
    /// 2 s.
    pub journal_interval: Duration,
    /// Receives what the file system refused and the read did without.
    pub warnings: Warnings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            resume: false,
            sync: false,
            journal_interval: Duration::from_secs(2),
            warnings: Warnings::new(),
        }
    }
}

impl Settings {
    /// The shortest journal interval. A thread that finds nothing new must not spin.
    pub const MIN_JOURNAL_INTERVAL: Duration = Duration::from_millis(10);

    /// Compares every value with its bounds.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument); the message names the value and its bounds.
    pub fn check(&self) -> Result<(), Error> {
        let (least, most) = (Self::MIN_JOURNAL_INTERVAL, Duration::from_secs(86_400));
        if (least..=most).contains(&self.journal_interval) {
            return Ok(());
        }
        let given = self.journal_interval;
        let message = format!("journal_interval must be {least:?} to {most:?}, not {given:?}");
        Err(Error::new(ErrorKind::InvalidArgument, "", message))
    }
}
