//! How many requests a server takes at once. Pure; a part of `Throttle`.

use super::raise::{FIRST_RAISE, Raise, rarer};

/// A step up, and after how many requests it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) to: u32,
    pub(super) after: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) permits: u32,
    pub(super) raise: Raise,
    /// The step that was refused last.
    pub(super) refused: Option<Step>,
    /// The step to what the last cut took away, and the requests served since.
    pub(super) lost: Option<Step>,
    pub(super) since_cut: u32,
}

impl Level {
    pub(super) const fn new(permits: u32) -> Self {
        Self {
            permits,
            raise: Raise::new(),
            refused: None,
            lost: None,
            since_cut: 0,
        }
    }

    /// A refusal. Returns whether it came of a raise.
    pub(super) fn is_raise_refused(&mut self) -> bool {
        let raised = self.raise.refused();
        if raised {
            let step = Step {
                to: self.permits + 1,
                after: self.raise.after,
            };
            match &mut self.lost {
                Some(lost) if lost.to == step.to => *lost = step,
                _ => self.refused = Some(step),
            }
        }
        raised
    }

    /// The level comes down. What it loses is tried again soon, and twice as seldom if it was lost
    /// before and did not hold for long.
    pub(super) fn cut(self, permits: u32) -> Self {
        let to = permits + 1;
        let after = match self.lost {
            Some(lost) if lost.to != to || self.since_cut / 4 >= lost.after => FIRST_RAISE,
            Some(lost) => rarer(lost.after),
            None => FIRST_RAISE,
        };
        Self {
            permits,
            raise: Raise {
                after,
                ..Raise::new()
            },
            refused: self.refused,
            lost: Some(Step { to, after }),
            since_cut: 0,
        }
    }

    /// A step up has proved itself. The next one is tried as seldom as it was before, if it was.
    pub(super) fn step_up(&mut self) {
        self.permits += 1;
        let next = |step: &Step| step.to == self.permits + 1;
        let step = self.refused.filter(next).or_else(|| self.lost.filter(next));
        self.raise.after = step.map_or(FIRST_RAISE, |step| step.after);
    }
}
