//! Whether a limit that was found helps. Pure; a part of `Throttle`.

/// So many cuts that did not help refute a level or a pace.
const STRIKES: u32 = 3;
/// Fewer requests served between two refusals than twice this are no success of a level or a pace.
const FEW: u32 = 4;
/// So many episodes are ignored after the first refutation; twice as many after each further one.
const FIRST_IGNORED: u32 = 32;
const MOST_IGNORED: u32 = 4096;

/// Whether a level, or a pace, helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trial {
    /// Requests served for one that is refused, without a level or a pace.
    pub(super) without: u32,
    /// What was served before the first refusal does not count.
    pub(super) skips_first: bool,
    pub(super) strikes: u32,
    /// Episodes for which it is not tried again, and for how many after the next refutation.
    pub(super) to_ignore: u32,
    pub(super) ignores: u32,
}

impl Trial {
    /// The trial of a level.
    pub(super) const fn of_level() -> Self {
        Self {
            without: 0,
            skips_first: false,
            strikes: 0,
            to_ignore: 0,
            ignores: FIRST_IGNORED,
        }
    }

    /// The trial of a pace. A server may take many requests at once before it limits their rate.
    pub(super) const fn of_pace() -> Self {
        Self {
            skips_first: true,
            ..Self::of_level()
        }
    }

    pub(super) const fn is_off(&self) -> bool {
        self.to_ignore > 0
    }

    /// An episode, with so many requests served `between` two refusals.
    pub(super) fn is_refuted(&mut self, between: u32, is_on: bool) -> bool {
        if !is_on {
            self.to_ignore = self.to_ignore.saturating_sub(1);
            if !std::mem::take(&mut self.skips_first) {
                self.without = (self.without + between).div_ceil(2);
            }
            return false;
        }
        if between > self.without.max(FEW) * 2 {
            self.strikes = 0;
            return false;
        }
        self.is_struck_out()
    }

    /// It did not help once more. Returns whether that refutes it.
    pub(super) fn is_struck_out(&mut self) -> bool {
        self.strikes += 1;
        if self.strikes < STRIKES {
            return false;
        }
        self.strikes = 0;
        self.to_ignore = self.ignores;
        self.ignores = (self.ignores * 2).min(MOST_IGNORED);
        true
    }
}
