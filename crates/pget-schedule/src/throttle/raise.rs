//! When one step more is tried. Pure; a part of `Throttle`.

/// After so many requests served at a level, one more is tried.
pub(super) const FIRST_RAISE: u32 = 16;
/// A raise is never rarer than this.
const RAREST_RAISE: u32 = 4096;

/// Returns after how many requests a step is tried that was refused, and had been tried after so
/// many.
pub(super) fn rarer(after: u32) -> u32 {
    (after * 2).min(RAREST_RAISE)
}

/// A level or a pace that was found, and when to try a higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raise {
    pub(super) served: u32,
    pub(super) after: u32,
    pub(super) raised: bool,
}

impl Raise {
    pub(super) const fn new() -> Self {
        Self {
            served: 0,
            after: FIRST_RAISE,
            raised: false,
        }
    }

    /// One more was served. Returns whether a step up has proved itself: it was served for `enough`
    /// requests. The caller then chooses when the next one is tried.
    pub(super) fn served(&mut self, enough: u32) -> bool {
        self.served = self.served.saturating_add(1);
        if self.raised && self.served >= enough {
            self.served = 0;
            return true;
        }
        if !self.raised && self.served >= self.after {
            (self.raised, self.served) = (true, 0);
        }
        false
    }

    /// A refusal. Returns whether it came of a raise.
    pub(super) fn refused(&mut self) -> bool {
        self.served = 0;
        let raised = std::mem::take(&mut self.raised);
        if raised {
            self.after = rarer(self.after);
        }
        raised
    }
}
