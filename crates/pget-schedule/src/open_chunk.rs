//! An open chunk: whether it waits, is in flight or is filled, and how its attempts
//! went. Pure; a part of `Schedule`.

use std::time::Duration;

use super::{AttemptEnd, control::Measured, health::PROGRESS, track::Track};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkState {
    /// To be requested at this time.
    Waiting(Duration),
    InFlight(u64),
    Filled,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct OpenChunk {
    pub(super) state: ChunkState,
    /// Offset of the first byte not received.
    pub(super) position: u64,
    /// Attempts in a row that brought fewer than [`PROGRESS`](super::health::PROGRESS) bytes.
    pub(super) fruitless: u32,
    /// Of these, the ones that count against `retries`.
    pub(super) counted: u32,
    /// Since when it brings nothing, once an attempt has failed; later by the time for which it
    /// waited for a permit.
    pub(super) failing_since: Option<Duration>,
    /// Since when attempts that were fenced before a failure have brought nothing, likewise.
    pub(super) fenced_since: Option<Duration>,
    /// Since when the attempt that is about to end has brought nothing, if that was reported.
    pub(super) quiet_since: Option<Duration>,
    /// Wrong replies in a row, and when the first of them came.
    pub(super) wrong: u32,
    pub(super) wrong_since: Duration,
    /// Attempts that have failed since then.
    pub(super) failures: u32,
    /// Refusals in a row while other attempts were in flight.
    pub(super) refusals: u32,
    /// Refusals in a row while nothing else was in flight.
    pub(super) refused_alone: u32,
    /// The reply to the attempt in flight was accepted.
    pub(super) begun: bool,
    /// The attempt in flight has brought as much as proves that the source serves.
    pub(super) proved: bool,
    /// Nothing else has been in flight since this attempt was launched.
    pub(super) alone: bool,
    /// When its answer was seen.
    pub(super) answered_at: Option<Duration>,
    pub(super) fences: u32,
    /// The attempt in flight is to be fenced, as it is silent.
    pub(super) silent: bool,
    /// How often it was.
    pub(super) silences: u32,
    /// How long the attempt before, which was fenced, would have taken: for its answer, or for the
    /// rest.
    pub(super) owed: Option<Duration>,
    pub(super) owed_for_silence: bool,
    /// The attempt in flight is to be fenced.
    pub(super) fencing: bool,
    /// The attempt before was fenced.
    pub(super) fresh: bool,
    pub(super) track: Track,
    pub(super) measured: Measured,
}

impl OpenChunk {
    pub(super) fn new(position: u64) -> Self {
        Self {
            state: ChunkState::Waiting(Duration::ZERO),
            position,
            fruitless: 0,
            counted: 0,
            failing_since: None,
            fenced_since: None,
            quiet_since: None,
            wrong: 0,
            wrong_since: Duration::ZERO,
            failures: 0,
            refusals: 0,
            refused_alone: 0,
            begun: false,
            proved: false,
            alone: false,
            answered_at: None,
            fences: 0,
            silent: false,
            silences: 0,
            owed: None,
            owed_for_silence: false,
            fencing: false,
            fresh: false,
            track: Track::default(),
            measured: Measured::default(),
        }
    }

    /// A byte was accepted: nothing has failed since. Returns whether replies had been wrong.
    pub(super) const fn progressed(&mut self) -> bool {
        let was_wrong = self.wrong > 0;
        (self.failing_since, self.failures, self.wrong) = (None, 0, 0);
        (self.refusals, self.refused_alone) = (0, 0);
        self.fenced_since = None;
        was_wrong
    }

    /// Counts an attempt that ended before the chunk's end, and returns since when it was quiet.
    /// One request `too_many` does not count against `retries`.
    pub(super) fn broke_off(
        &mut self,
        now: Duration,
        progress: u64,
        how: AttemptEnd,
        too_many: bool,
    ) -> Duration {
        if progress >= PROGRESS {
            (self.fruitless, self.counted) = (0, 0);
        } else {
            self.fruitless += 1;
            self.counted += u32::from(!too_many);
        }
        let quiet_since = self.quiet_since.unwrap_or(now).min(now);
        let quiet_since = self.fails(quiet_since);
        self.refusals += u32::from(how == AttemptEnd::Refused);
        let is_wrong = matches!(how, AttemptEnd::Wrong | AttemptEnd::Damaged);
        if is_wrong && self.wrong == 0 {
            self.wrong_since = now;
        }
        self.wrong += u32::from(is_wrong);
        quiet_since
    }

    /// An attempt has failed that had brought nothing since `quiet_since`. Returns since when it
    /// and those that were fenced before it have.
    pub(super) fn fails(&mut self, quiet_since: Duration) -> Duration {
        self.failures += 1;
        let since = self.quiet_from(quiet_since);
        self.failing_since.get_or_insert(since);
        self.fenced_since = None;
        since
    }

    /// Since when attempts have brought nothing, if the one in flight has not since then.
    pub(super) fn quiet_from(&self, quiet_since: Duration) -> Duration {
        self.fenced_since
            .map_or(quiet_since, |since| since.min(quiet_since))
    }

    /// Its attempt in flight has been answered: bytes may arrive at any time.
    pub(super) const fn is_receiving(&self) -> bool {
        self.begun && matches!(self.state, ChunkState::InFlight(_))
    }

    /// Offset of the first byte that is not known to have come.
    pub(super) const fn known_position(&self) -> u64 {
        match self.state {
            ChunkState::InFlight(_) => self.track.position(),
            ChunkState::Waiting(_) | ChunkState::Filled => self.position,
        }
    }

    /// When the attempt in flight was asked, if it has no answer and is not to be fenced already.
    pub(super) fn asked_at(&self) -> Option<Duration> {
        let waits = matches!(self.state, ChunkState::InFlight(_)) && !self.begun && !self.fencing;
        self.track.asked_at().filter(|_| waits)
    }
}
