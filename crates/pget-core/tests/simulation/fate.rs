//! How one read goes, as the seed says.

use std::{sync::PoisonError, time::Duration};

use fastrand::Rng;

use super::Network;
use crate::scene::Kinds;

/// How one read goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Right,
    Reset(u64),
    Short(u64),
    Silent,
    Stalls(u64),
    Slow,
    Shifted,
    OtherTotal,
    OtherRevision,
    Anonymous,
    Ignored,
    Long,
    Clipped(u64),
    /// A range without a byte.
    Empty,
    /// The object is said to end before the body does.
    Beyond,
    /// As clipped, but what follows the bytes told is garbage.
    Overlong(u64),
    /// A byte of the body is another one.
    Flipped(u64),
    OtherChecksum,
    Throttled(Option<Duration>),
    Refused,
    /// It blocks and cannot be stopped, for so long.
    Blocks(Duration),
    /// It stalls after so many bytes, cannot be stopped, and brings the rest when it is given up.
    Lingers(u64),
}

impl Network {
    pub(super) fn fate(&self, length: u64) -> Fate {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let rng = &mut *rng;
        let some = |rng: &mut Rng| rng.u64(0..length.clamp(1, 50_000));
        if rng.u32(0..1000) < self.scene.stragglers {
            return match rng.u32(0..5) {
                0 => Fate::Silent,
                1 => Fate::Stalls(some(rng)),
                2 => Fate::Blocks(Duration::from_millis(rng.u64(0..4_000))),
                _ => Fate::Slow,
            };
        }
        if self.scene.published && rng.u32(0..40) < self.scene.damaged {
            return match rng.u32(0..3) {
                0 => Fate::OtherChecksum,
                _ => Fate::Flipped(some(rng)),
            };
        }
        if rng.u32(0..1000) >= self.scene.faults {
            return Fate::Right;
        }
        match self.scene.kinds {
            Kinds::All => {}
            Kinds::Resets => return Fate::Reset(some(rng)),
            // Half of them before their first byte.
            Kinds::Lingering => return Fate::Lingers(if rng.bool() { 0 } else { some(rng) }),
        }
        match rng.u32(0..45) {
            0..10 => Fate::Reset(some(rng)),
            10..16 => Fate::Short(some(rng)),
            16 => Fate::Silent,
            17 => Fate::Stalls(some(rng)),
            18 => Fate::Blocks(Duration::from_millis(rng.u64(0..60_000))),
            19..21 => Fate::Shifted,
            21..23 => Fate::OtherTotal,
            23..25 => Fate::OtherRevision,
            25..28 => Fate::Anonymous,
            28..31 => Fate::Ignored,
            31..34 => Fate::Clipped(some(rng)),
            34..36 => Fate::Overlong(some(rng)),
            36..38 => Fate::Long,
            38 => Fate::Empty,
            39 => Fate::Beyond,
            40 => Fate::Throttled(None),
            // The longest one is junk.
            41..43 => Fate::Throttled(Some(if rng.bool() {
                Duration::from_millis(rng.u64(0..49_000))
            } else {
                Duration::from_secs(1_000_000_000)
            })),
            43 => Fate::Lingers(some(rng)),
            _ => Fate::Refused,
        }
    }
}
