//! Which attempt is so much slower than its siblings that it is to be fenced. Pure; a part of
//! `Schedule`.
//!
//! *To fence* an attempt: its writer goes, and the rest of its chunk is asked for again at once,
//! from the watermark, over a fresh connection and into the same slot. The driver does it. The slot
//! itself ensures that no byte has two writers (see `ring` in `pget-core`). This module only
//! decides when a fence pays.
//!
//! The norm is the median of what the other attempts bring now, made up to the number of attempts
//! in flight with what the latest complete chunks brought. Hence nothing is fenced when the whole
//! source is slow, when there are no siblings, or when the consumer is slow (the chunk at the
//! cursor is complete then). An attempt whose connection is silent is fenced, too (see `silence`).
//! It is then asked for over whichever connection is served, as a fresh one may be what was not.
//!
//! Bounds: a fence that paid (the attempt after it was at least twice as fast) makes up for one
//! that did not. The others are at most 5 % of the requests, rounded up, and one. A chunk is fenced
//! at most six times for being slow. From the third on, each fence must promise twice as much as
//! the one before. A fence does not count as a failed attempt, and no backoff delays it.

use std::{collections::VecDeque, time::Duration};

use super::{
    open_chunk::OpenChunk,
    track::{LOOKS, SLOW_START, Track, rate},
};

/// Of so many requests, one may follow a fence that does not pay.
pub(super) const SHARE: u64 = 20;
/// How many times slower than the norm an attempt is that may be fenced.
pub(super) const FAR: u64 = 4;
/// How many times longer the rest must take than all of the chunk would at the norm.
pub(super) const MARGIN: u32 = 2;
/// And so much longer than that, as a connection must be made.
pub(super) const SETUP: Duration = Duration::from_millis(50);
/// What is seen of an attempt in a time shorter than this says little.
const SHORTEST: Duration = Duration::from_millis(100);
/// Enough to be seen of an attempt, however long its chunk takes.
const LONGEST: Duration = Duration::from_millis(400);
/// Complete chunks that are remembered.
const REMEMBERED: usize = 32;
/// Fewer siblings are no norm.
pub(super) const LEAST_SIBLINGS: usize = 2;

/// What a schedule remembers of how fast its attempts were.
#[derive(Clone, Debug)]
pub(super) struct Stragglers {
    /// The latest complete chunks, newest last.
    pub(super) complete: VecDeque<Pace>,
    /// Their medians, once there are any.
    pub(super) usual: Option<Usual>,
    /// Between looks. An attempt is judged by [`LOOKS`] of them, which is as long as chunks take,
    /// within limits.
    pub(super) step: Duration,
    pub(super) looked: Duration,
    pub(super) fences: u64,
    /// Requests that are to go over fresh connections, and how many did.
    to_renew: u32,
    renewed: u64,
    /// Fences after which the next attempt was at least twice as fast. Each earns itself back, and
    /// one more.
    pub(super) paid: u64,
    /// When an attempt last had its answer.
    pub(super) answered: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) bytes: u64,
    pub(super) took: Duration,
    /// To its first byte, as far as was seen.
    pub(super) first: Duration,
}

impl Pace {
    /// Bytes a second after the first byte. Where a look saw when that came, the time is known to a
    /// quarter of what a chunk takes.
    pub(super) fn body_rate(&self) -> u64 {
        let body = self.took.saturating_sub(self.first);
        rate(self.bytes, body.max(self.took / LOOKS))
    }
}

/// The medians of the latest complete chunks. Each is asked for far more often than it changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usual {
    pub(super) took: Duration,
    /// To the first byte.
    pub(super) first: Duration,
    /// Bytes a second after the first byte.
    pub(super) body_rate: u64,
}

impl Usual {
    fn of(complete: &VecDeque<Pace>) -> Option<Self> {
        Some(Self {
            took: median(complete.iter().map(|pace| pace.took).collect())?,
            first: median(complete.iter().map(|pace| pace.first).collect())?,
            body_rate: median(complete.iter().map(Pace::body_rate).collect())?,
        })
    }
}

/// What attempts bring as a rule.
pub(super) struct Norm {
    /// Bytes a second.
    pub(super) rate: u64,
    /// To the first byte.
    pub(super) first: Duration,
}

impl Default for Stragglers {
    fn default() -> Self {
        Self {
            complete: VecDeque::new(),
            usual: None,
            step: LONGEST / LOOKS,
            looked: Duration::ZERO,
            fences: 0,
            to_renew: 0,
            renewed: 0,
            paid: 0,
            answered: Duration::ZERO,
        }
    }
}

impl Stragglers {
    pub(super) fn completed(&mut self, track: &Track, now: Duration, bytes: u64) {
        if track.held_up {
            return;
        }
        let took = now.saturating_sub(track.launched);
        let first = track
            .answered
            .or(track.first)
            .map_or(took, |first| first.saturating_sub(track.launched));
        let pace = Pace { bytes, took, first };
        // A connection that is new, or was idle, starts slowly.
        let is_steady = track.count == track.marks.len() && !track.speeds_up();
        if is_steady
            && self.complete.len() >= REMEMBERED / 4
            && self
                .usual
                .is_some_and(|usual| pace.body_rate().saturating_mul(FAR) < usual.body_rate)
            && self.is_worth_a_set_up(&pace)
        {
            self.to_renew += 1;
        }
        if self.complete.len() == REMEMBERED {
            self.complete.pop_front();
        }
        self.complete.push_back(pace);
        self.usual = Usual::of(&self.complete);
        self.step = self
            .usual
            .map_or(LONGEST, |usual| usual.took.clamp(SHORTEST, LONGEST))
            / LOOKS;
    }

    /// The attempt of `open_chunk` goes well: notes whether the fence before it has paid.
    /// `answered`: the attempt has its answer now; otherwise it has its last byte.
    pub(super) fn pays(&mut self, open_chunk: &mut OpenChunk, now: Duration, answered: bool) {
        let took = now.saturating_sub(open_chunk.track.launched);
        if let Some(owed) = open_chunk.owed
            && answered == open_chunk.owed_for_silence
        {
            open_chunk.owed = None;
            self.paid += u64::from(took * 2 <= owed);
        }
    }

    /// Whether attempt `id` is to go over a fresh connection, because one of those in use is far
    /// slower than the others.
    pub(super) const fn renews(&mut self, id: u64) -> bool {
        // Where rates vary by themselves, this does not help, and is bounded.
        let renews = self.to_renew > 0 && self.renewed < id / SHARE + 2;
        if renews {
            self.renewed += 1;
        }
        self.to_renew = 0;
        renews
    }

    /// An attempt has had its answer by now.
    pub(super) const fn answered(&mut self, now: Duration) {
        self.answered = now;
    }

    /// How long answers take as a rule, once some are known.
    pub(super) fn usual_answer(&self) -> Option<Duration> {
        self.usual.map(|usual| usual.first)
    }

    /// How long a fresh connection takes until it is as fast as one that was in use.
    pub(super) fn set_up(&self) -> Duration {
        self.usual_answer().unwrap_or_default() * SLOW_START
    }

    /// Whether a chunk took so much longer than usual that a fresh connection saves time.
    pub(super) fn is_worth_a_set_up(&self, pace: &Pace) -> bool {
        let usual = self.usual.map_or(Duration::ZERO, |usual| usual.took);
        pace.took.saturating_sub(usual) >= self.set_up()
    }

    pub(super) fn long_enough(&self) -> Duration {
        self.step * LOOKS
    }
}

/// How long `bytes` take at `rate`; at most a year, as they may never come.
pub(super) fn time(bytes: u64, rate: u64) -> Duration {
    const YEAR: u64 = 365 * 86_400;
    let micros = u128::from(bytes) * 1_000_000 / u128::from(rate.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)).min(Duration::from_secs(YEAR))
}

/// The lower one of the middle.
pub(super) fn median<T: Ord + Copy>(mut values: Vec<T>) -> Option<T> {
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_whose_first_byte_the_last_look_saw_has_a_rate() {
        let took = Duration::from_millis(200);
        let pace = |first| Pace {
            bytes: 1_000_000,
            took,
            first: Duration::from_millis(first),
        };
        assert_eq!(pace(200).body_rate(), 20_000_000);
        assert_eq!(pace(160).body_rate(), 20_000_000);
        assert_eq!(pace(100).body_rate(), 10_000_000);
    }
}
