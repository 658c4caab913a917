//! When a download fails, by its own clock or that of one of its ranges. Pure; a part of
//! `Schedule`.
//!
//! The clock of the download starts when it last received a byte before the first failure in a row
//! (see `health`), and that of a range when its failing attempt last did. Accepted bytes stop both.
//! Bytes are known by looks, which are up to 100 ms apart. Bytes that no look has seen must count,
//! too, so a look is due when patience ends. The driver looks before it polls.

use std::time::Duration;

use super::{Schedule, earlier};
use crate::{
    Limit,
    open_chunk::{ChunkState, OpenChunk},
};

impl Schedule {
    /// Returns when the download fails unless bytes arrive before, or the limit that ends it
    /// now.
    pub(super) fn patience(&mut self, now: Duration) -> Result<Option<Duration>, Limit> {
        let gives_up_at = self.health.gives_up_at();
        if let Some(trial) = self.health.trial()
            && gives_up_at.is_some_and(|at| at <= now)
        {
            return Err(Limit::RetryTimeout {
                waited: now.saturating_sub(trial.since),
                // Those in flight are given up.
                attempts: trial.attempts + self.in_flight,
                position: None,
            });
        }
        if !self.some_range_fails {
            return Ok(gives_up_at.filter(|&at| at > now));
        }
        let mut soonest = gives_up_at;
        for open_chunk in &self.open_chunks {
            let Some(at) = self.range_gives_up_at(open_chunk) else {
                continue;
            };
            if at <= now {
                return Err(Limit::RetryTimeout {
                    waited: open_chunk
                        .failing_since
                        .map_or(now, |since| now.saturating_sub(since)),
                    attempts: open_chunk.failures
                        + u32::from(matches!(open_chunk.state, ChunkState::InFlight(_))),
                    position: Some(open_chunk.position),
                });
            }
            soonest = earlier(soonest, Some(at));
        }
        self.some_range_fails = self
            .open_chunks
            .iter()
            .any(|open_chunk| open_chunk.failing_since.is_some());
        Ok(soonest.filter(|&at| at > now))
    }

    /// When the range of `open_chunk` fails. While it waits for a permit, its clock stands still.
    fn range_gives_up_at(&self, open_chunk: &OpenChunk) -> Option<Duration> {
        let at = open_chunk
            .failing_since?
            .checked_add(self.settings.retry_timeout)?;
        match open_chunk.state {
            ChunkState::InFlight(_) => Some(at),
            ChunkState::Waiting(until) => (at <= until).then_some(at),
            ChunkState::Filled => None,
        }
    }

    /// When patience ends, of the download or of a range, where bytes may be on their way.
    pub(super) fn last_look_at(&self) -> Option<Duration> {
        let ranges = self
            .open_chunks
            .iter()
            .filter(|open_chunk| open_chunk.is_receiving());
        let soonest = if self.some_range_fails {
            ranges
                .filter_map(|open_chunk| self.range_gives_up_at(open_chunk))
                .min()
        } else {
            None
        };
        earlier(soonest, self.health.gives_up_at()).filter(|&at| at > self.stragglers.looked)
    }
}
