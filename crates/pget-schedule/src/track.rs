//! What the looks saw of one attempt. Pure; a part of `Schedule`.

use std::time::Duration;

use super::Flow;

/// Looks within the time that an attempt is judged by.
pub(super) const LOOKS: u32 = 4;

/// One attempt as the looks saw it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Track {
    pub(super) launched: Duration,
    /// It has waited for leave to send its request: its times say nothing of the source.
    pub(super) held_up: bool,
    start: u64,
    pub(super) position: u64,
    /// When its first byte was seen.
    pub(super) first: Option<Duration>,
    /// When how many bytes had come, oldest first.
    pub(super) marks: [(Duration, u64); LOOKS as usize + 1],
    pub(super) count: usize,
}

impl Track {
    pub(super) fn new(launched: Duration, start: u64) -> Self {
        Self {
            launched,
            start,
            position: start,
            ..Self::default()
        }
    }

    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// Returns whether bytes have come since the last look, and whether some were accepted.
    pub(super) fn saw(&mut self, now: Duration, flow: Flow) -> (bool, bool) {
        let before = self.seen().map_or(0, |(_, (_, bytes))| bytes);
        let accepted = flow.position > self.position;
        self.note(now, flow);
        (accepted || flow.bytes > before, accepted)
    }

    pub(super) fn note(&mut self, now: Duration, flow: Flow) {
        self.position = flow.position;
        if !flow.asked {
            self.held_up = true;
            self.launched = now;
            return;
        }
        if self.first.is_none() && flow.bytes > 0 {
            // The time before the first byte is not the body's.
            self.first = Some(now);
            self.count = 0;
        }
        if self.count == self.marks.len() {
            self.marks.rotate_left(1);
            self.count -= 1;
        }
        self.marks[self.count] = (now, flow.bytes);
        self.count += 1;
    }

    /// When its request went out, once that was seen.
    pub(super) fn asked_at(&self) -> Option<Duration> {
        (self.count > 0).then_some(self.launched)
    }

    pub(super) fn seen(&self) -> Option<((Duration, u64), (Duration, u64))> {
        let seen = &self.marks[..self.count];
        Some((*seen.first()?, *seen.last()?))
    }

    /// Bytes per second that its body brings now, if it was seen for long enough; 0 while no answer
    /// has come.
    pub(super) fn rate(&self, long_enough: Duration) -> Option<u64> {
        let ((from, before), (to, after)) = self.seen()?;
        (to - from >= long_enough).then(|| rate(after - before, to - from))
    }

    /// It brings more and more, as a fresh connection does.
    pub(super) fn speeds_up(&self) -> bool {
        let Some(((_, before), (_, after))) = self.seen() else {
            return false;
        };
        let (_, middle) = self.marks[self.count / 2];
        after > middle && after - middle >= 2 * (middle - before)
    }

    /// Offset after what has come, also if it is not published yet.
    pub(super) fn received(&self) -> u64 {
        let bytes = self.seen().map_or(0, |(_, (_, bytes))| bytes);
        self.start.saturating_add(bytes).max(self.position)
    }
}

/// Bytes a second.
pub(super) fn rate(bytes: u64, time: Duration) -> u64 {
    let nanos = time.as_nanos().max(1);
    u64::try_from(u128::from(bytes) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}
