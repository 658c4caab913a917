//! How many requests a server takes a second. Pure; a part of `Throttle`.

use std::time::Duration;

use super::raise::{FIRST_RAISE, Raise, rarer};

/// The slowest pace: a server that serves fewer requests a second is in an outage in between.
const SLOWEST: Duration = Duration::from_secs(2);
/// After so many steps up in a row, the pace is far from the limit.
const MANY_STEPS: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) interval: Duration,
    pub(super) raise: Raise,
    /// Steps up that have proved themselves since a refusal.
    pub(super) steps: u32,
    /// The last step that was taken back had proved itself.
    pub(super) is_late: bool,
}

impl Pace {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval: interval.min(SLOWEST),
            raise: Raise::new(),
            steps: 0,
            is_late: false,
        }
    }

    /// Returns the time between two requests now: while a step up is tried, that of the step.
    pub(super) fn now(&self) -> Duration {
        if self.raise.raised {
            self.step_up()
        } else {
            self.interval
        }
    }

    fn step_up(&self) -> Duration {
        self.interval * 4 / 5
    }

    /// A lower pace, at `least` so much time between two requests.
    pub(super) fn slower(self, least: Duration) -> Self {
        Self {
            interval: (self.interval / 4 * 5).max(least).min(SLOWEST),
            raise: Raise {
                after: self.raise.after,
                ..Raise::new()
            },
            ..self
        }
    }

    /// Takes a step up back that had proved itself: a limit that allows bursts refuses it late. The
    /// next one is tried half as soon.
    pub(super) fn step_back(self) -> Self {
        let mut pace = self.slower(Duration::ZERO);
        pace.raise.after = rarer(pace.raise.after);
        pace.steps -= 1;
        pace.is_late = true;
        pace
    }

    /// One more was served.
    pub(super) fn served(&mut self) {
        if !self.raise.served(FIRST_RAISE) {
            return;
        }
        self.interval = self.step_up();
        self.steps += 1;
        // Where steps are refused late, it proves little that one holds. Several in a row say that
        // the limit is far.
        if !self.is_late || self.steps >= MANY_STEPS {
            self.raise.after = FIRST_RAISE;
        }
    }
}
