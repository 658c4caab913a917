//! When asking again pays: for the rest of the chunk that all others wait for, and over a fresh
//! connection, which starts slowly.

use std::time::Duration;

use super::{MARGIN, Norm, Pace, SETUP, Schedule, Stragglers, Track, median, time};

/// After so many round trips, a fresh connection is as fast as it gets.
const SLOW_START: u32 = 12;

impl Stragglers {
    /// How long a fresh connection takes until it is as fast as one that was in use.
    pub(super) fn set_up(&self) -> Duration {
        self.usual_answer().unwrap_or_default() * SLOW_START
    }

    /// Whether a chunk took so much longer than usual that a fresh connection saves time.
    pub(super) fn is_worth_a_set_up(&self, pace: &Pace) -> bool {
        let usual = median(self.complete.iter().map(|pace| pace.took).collect()).unwrap_or_default();
        pace.took.saturating_sub(usual) >= self.set_up()
    }
}

impl Schedule {
    /// Whether another request would bring the rest of a chunk up to `end` in half the time.
    pub(super) fn is_worth_asking_again(&self, end: u64, track: &Track, norm: &Norm) -> bool {
        let paces = self.stragglers.complete.iter();
        let Some(usual) = median(paces.map(Pace::body_rate).collect()) else {
            return false;
        };
        let Some(rate) = track.rate(self.stragglers.step * 2) else {
            return false;
        };
        let left = end.saturating_sub(track.received());
        let again = norm.first + time(left, usual);
        time(left, rate) >= again * MARGIN + SETUP && !track.speeds_up()
    }
}
