//! Which attempts are silent, and what that means. Pure; a part of `Schedule`.
//!
//! An attempt is *silent* if its request is out and its answer has not come for [`SILENT`] times as
//! long as answers take here, and at least [`LEAST_SILENCE`]. What it means follows from what else
//! the source has answered:
//! 1. If attempts were answered that are not older than the silent one, its connection is silent.
//!    The attempt is fenced, no permit waits for it, and each fence of its chunk makes the next
//!    answer awaited four times as long.
//! 2. If nothing in flight is answered, and nothing was answered for that time and at least
//!    [`LEAST_OF_ALL`], the source is silent and in trouble (see `health`).
//! 3. If the source is in trouble, a silent probe makes room for the next one when that is due and
//!    no permit is free. The oldest of several is left alone, because a source that is only slow
//!    would never answer if each question were taken back. A lone one is awaited for a quarter of
//!    the time that the trouble has lasted, too.

use std::time::Duration;

use super::{Phase, Schedule};
use crate::{
    health::LEAST_SILENCE,
    open_chunk::{ChunkState, OpenChunk},
};

/// An answer is awaited for so many times as long as answers take.
const SILENT: u32 = 8;
/// A source is not silent before this.
const LEAST_OF_ALL: Duration = Duration::from_secs(2);
/// As long as nothing was answered, answers are taken to last so long.
const UNKNOWN: Duration = Duration::from_millis(250);
/// After more fences than these, a chunk's answer is awaited no longer than after these.
const MOST_FENCES: u32 = 3;

impl Schedule {
    /// How long an answer is awaited before its attempt is silent.
    fn silence(&self) -> Duration {
        let usual = self.stragglers.usual_answer().unwrap_or(UNKNOWN);
        LEAST_SILENCE.max(usual * SILENT)
    }

    /// Whether the connection of the attempt at `index` is silent: others were answered.
    pub(super) fn is_connection_silent(&self, index: usize, now: Duration) -> bool {
        let open_chunk = &self.open_chunks[index];
        let silence = self.silence() * 4_u32.pow(open_chunk.fences.min(MOST_FENCES));
        open_chunk
            .asked_at()
            .is_some_and(|asked| asked < self.stragglers.answered && now.saturating_sub(asked) >= silence)
    }

    /// Attempts whose connections are silent: no permit waits for them.
    pub(super) fn hung(&self, now: Duration) -> u32 {
        if self.health.is_well()
            && !self.some_range_fails
            && self.throttle.permits() == self.settings.concurrency
        {
            return 0;
        }
        let hung = (0..self.open_chunks.len()).filter(|&index| self.is_connection_silent(index, now));
        u32::try_from(hung.count()).unwrap_or(u32::MAX)
    }

    /// Since when the source is silent, if it is.
    pub(super) fn silent_since(&self, now: Duration) -> Option<Duration> {
        let knows = self.phase == Phase::Parallel && self.stragglers.usual_answer().is_some();
        if !knows || self.open_chunks.iter().any(OpenChunk::is_receiving) {
            return None;
        }
        let oldest = self.open_chunks.iter().filter_map(OpenChunk::asked_at).min()?;
        let since = oldest.max(self.stragglers.answered);
        if now.saturating_sub(since) < self.silence().max(LEAST_OF_ALL) {
            return None;
        }
        let quiet_from = |open_chunk: &OpenChunk| Some(open_chunk.quiet_from(open_chunk.asked_at()?));
        self.open_chunks.iter().filter_map(quiet_from).min()
    }

    /// The silent probe that makes room for the next one, if one does.
    pub(super) fn silent_probe(&self, now: Duration) -> Option<usize> {
        let most = match self.phase {
            Phase::Parallel => self.settings.concurrency,
            Phase::Over | Phase::Probe | Phase::Stream { .. } => 1,
        };
        let waits = |open_chunk: &OpenChunk| matches!(open_chunk.state, ChunkState::Waiting(_));
        let is_due = self.health.probe_at()?.max(self.paused_until) <= now;
        let has_room = self.in_flight < most && self.open_chunks.iter().any(waits);
        if !is_due || has_room || self.open_chunks.iter().any(|open_chunk| open_chunk.fencing) {
            return None;
        }
        let asked = |index: usize| Some((self.open_chunks[index].asked_at()?, index));
        let mut probes: Vec<_> = (0..self.open_chunks.len()).filter_map(asked).collect();
        probes.sort_unstable();
        let ((asked, index), awaited) = match probes[..] {
            [] => return None,
            [lone] => (lone, self.silence().max(self.health.lasted(now) / 4)),
            [_, next, ..] => (next, self.silence()),
        };
        (now.saturating_sub(asked) >= awaited).then_some(index)
    }
}
