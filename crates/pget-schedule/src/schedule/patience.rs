//! When a download gives up, by its own clock or that of one of its ranges. Pure; a part of
//! `Schedule`.
//!
//! The clock of the download starts when it last received a byte before the first failure in a row
//! (see `health`), and that of a range when its failing attempt last did. Accepted bytes stop both.
//! Bytes are known by looks, which are up to 100 ms apart. Bytes that no look has seen must count, too, so a look is due when patience ends.
//! The driver looks before it polls.

use std::time::Duration;

use super::{Schedule, earlier};
use crate::{
    Limit,
    open_chunk::{Place, State},
};

impl Schedule {
    /// Returns when the download gives up unless bytes arrive before, or the limit that ends it
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
        for place in &self.places {
            let Some(at) = self.range_gives_up_at(place) else {
                continue;
            };
            if at <= now {
                return Err(Limit::RetryTimeout {
                    waited: place.failing_since.map_or(now, |since| now.saturating_sub(since)),
                    attempts: place.failures + u32::from(matches!(place.state, State::InFlight(_))),
                    position: Some(place.position),
                });
            }
            soonest = earlier(soonest, Some(at));
        }
        self.some_range_fails = self.places.iter().any(|place| place.failing_since.is_some());
        Ok(soonest.filter(|&at| at > now))
    }

    /// When the range of `place` gives up. While it waits for a permit, its clock stands still.
    fn range_gives_up_at(&self, place: &Place) -> Option<Duration> {
        let at = place.failing_since?.checked_add(self.settings.retry_timeout)?;
        match place.state {
            State::InFlight(_) => Some(at),
            State::Waiting(until) => (at <= until).then_some(at),
            State::Filled => None,
        }
    }

    /// When patience ends, of the download or of a range, where bytes may be on their way.
    pub(super) fn last_look_at(&self) -> Option<Duration> {
        let ranges = self.places.iter().filter(|place| place.is_receiving());
        let soonest = if self.some_range_fails {
            ranges.filter_map(|place| self.range_gives_up_at(place)).min()
        } else {
            None
        };
        earlier(soonest, self.health.gives_up_at()).filter(|&at| at > self.stragglers.looked)
    }
}
