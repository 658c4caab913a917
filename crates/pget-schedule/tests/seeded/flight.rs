//! An attempt in flight: what its connection is like, and how it will go.

use std::time::Duration;

use pget_schedule::{Attempt, AttemptEnd};

use super::World;

/// What an attempt's connection is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    Good,
    /// It brings a thousandth of a chunk at a time.
    Slow,
    /// It brings nothing after some bytes, until the deadline.
    Stalls(u64),
}

impl Connection {
    /// Bytes at a time, of an attempt that has brought `brought`.
    pub(super) fn most(self, chunk: u64, brought: u64) -> u64 {
        match self {
            Self::Good => u64::MAX,
            Self::Slow => chunk.div_ceil(200),
            Self::Stalls(after) => after.saturating_sub(brought),
        }
    }
}

/// How an attempt will go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Right,
    /// It fails without a reply.
    Before(AttemptEnd),
    /// It fails after so many bytes of its body.
    After(u64, AttemptEnd),
}

#[derive(Debug)]
pub(super) struct Flight {
    pub(super) attempt: Attempt,
    pub(super) fate: Fate,
    pub(super) connection: Connection,
    pub(super) launched: Duration,
    /// When its last byte came; until then, its reply or its launch.
    pub(super) quiet_since: Duration,
    /// Its end is asked for.
    pub(super) fenced: bool,
    /// It had no answer then.
    pub(super) silent: bool,
    /// Nothing else has been in flight since it was launched.
    pub(super) alone: bool,
    pub(super) slow: bool,
    pub(super) began: bool,
    pub(super) restream: bool,
    /// The chunk that it fills now.
    pub(super) chunk: u64,
    /// Offset of the next byte that it brings.
    pub(super) at: u64,
    /// Behind its body's last byte.
    pub(super) body_end: u64,
    /// It brings so many bytes more, then ends like this.
    pub(super) left: u64,
    pub(super) ends: AttemptEnd,
    /// All its bytes are there; only its end is to be told.
    pub(super) done: bool,
}

impl Flight {
    pub(super) fn stalls(&self) -> bool {
        self.began
            && matches!(self.connection, Connection::Stalls(after) if self.at - self.attempt.start >= after)
    }
}

impl World<'_> {
    pub(super) fn new_flight(&mut self, attempt: Attempt) -> Flight {
        let is_cursed = self.scene.cursed == Some(attempt.chunk);
        let is_dead = self.scene.dead_from.is_some_and(|from| attempt.id >= from);
        let rng = &mut self.scene.rng;
        let fate = if is_cursed || is_dead {
            Fate::Before(self.scene.fails_by)
        } else if rng.u32(0..1000) < self.scene.faults {
            let kind = match rng.u32(0..11) {
                0..4 => AttemptEnd::Retry,
                4 => AttemptEnd::Throttled(None),
                5 => AttemptEnd::Throttled(Some(Duration::from_millis(rng.u64(0..100_000)))),
                6 => AttemptEnd::Complete,
                7 => AttemptEnd::Refused,
                8 => AttemptEnd::Wrong,
                9 => AttemptEnd::Damaged,
                _ => AttemptEnd::Fatal,
            };
            let is_reply = matches!(
                kind,
                AttemptEnd::Refused | AttemptEnd::Wrong | AttemptEnd::Damaged
            );
            if is_reply || rng.bool() && kind != AttemptEnd::Complete {
                Fate::Before(kind)
            } else {
                let most = if rng.bool() { 5_000 } else { 1 + self.scene.size };
                Fate::After(rng.u64(0..most), kind)
            }
        } else {
            Fate::Right
        };
        let slow = rng.u32(0..24) == 0;
        self.counts.slow_chunks += u64::from(slow);
        let connection = if rng.u32(0..1000) >= self.scene.stragglers {
            Connection::Good
        } else if rng.bool() {
            self.counts.slow_connections += 1;
            Connection::Slow
        } else {
            self.counts.stalled_connections += 1;
            Connection::Stalls(rng.u64(0..=self.scene.settings.chunk_size))
        };
        Flight {
            chunk: attempt.chunk,
            at: attempt.start,
            attempt,
            fate,
            connection,
            launched: self.now,
            quiet_since: self.now,
            fenced: false,
            silent: false,
            alone: false,
            slow,
            began: false,
            restream: false,
            body_end: 0,
            left: 0,
            ends: AttemptEnd::Complete,
            done: false,
        }
    }
}
