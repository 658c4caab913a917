//! What the looks saw of one attempt. Pure; a part of `Schedule`.

use std::time::Duration;

use super::Flow;

/// Looks within the time that an attempt is judged by.
pub(super) const LOOKS: u32 = 4;
/// After so many round trips, a fresh connection is as fast as it gets.
pub(super) const SLOW_START: u32 = 12;
/// A socket may gather so many bytes before its reader sees them: what comes evenly is seen in
/// pieces.
const GATHERED: u64 = 256 << 10;

/// One attempt as the looks saw it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Track {
    pub(super) launched: Duration,
    /// It has waited for leave to send its request: its times say nothing of the source.
    pub(super) held_up: bool,
    start: u64,
    pub(super) position: u64,
    /// When its answer came, as far as that was reported.
    pub(super) answered: Option<Duration>,
    /// When its first byte was seen.
    pub(super) first: Option<Duration>,
    /// When how many bytes had come, oldest first.
    pub(super) marks: [(Duration, u64); LOOKS as usize + 1],
    pub(super) count: usize,
    /// About what a round trip takes.
    round: Duration,
    /// When its first bytes were seen, and how many.
    began: Option<(Duration, u64)>,
    /// The same after a round trip or two, four, eight and so on: the latest two.
    parts: [Option<(Duration, u64)>; 2],
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
    /// `round` is about what a round trip takes.
    pub(super) fn saw(&mut self, now: Duration, flow: Flow, round: Duration) -> (bool, bool) {
        if flow.asked && flow.bytes > 0 {
            self.note_round(now, flow.bytes, round);
        }
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

    fn note_round(&mut self, now: Duration, bytes: u64, round: Duration) {
        self.round = round;
        let Some((began, _)) = self.began else {
            self.began = Some((now, bytes));
            return;
        };
        let age = now.saturating_sub(began);
        let due = self.parts[1].map_or(round, |(at, _)| (at - began) * 2);
        if age >= due {
            self.parts = [self.parts[1], Some((now, bytes))];
        }
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

    /// It brings more and more.
    pub(super) fn speeds_up(&self) -> bool {
        let Some(((_, before), (_, after))) = self.seen() else {
            return false;
        };
        let (_, middle) = self.marks[self.count / 2];
        after - middle > (middle - before) * 2 + GATHERED || self.starts_slowly()
    }

    /// A fresh connection brings twice as much in each round trip, until the network is full (RFC
    /// 5681, 3.1). What was seen for less than two round trips may do so.
    ///
    /// Of the time since the first byte, the last half to three quarters are compared with what
    /// came before.
    fn starts_slowly(&self) -> bool {
        let (Some(began), Some((_, latest))) = (self.began, self.seen()) else {
            return false;
        };
        if latest.0 - began.0 >= self.round * SLOW_START {
            return false;
        }
        let [Some(part), Some(_)] = self.parts else {
            return true;
        };
        let brought = |from: (Duration, u64), to: (Duration, u64)| rate(to.1 - from.1, to.0 - from.0);
        brought(part, latest) >= brought(began, part).saturating_mul(2)
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
