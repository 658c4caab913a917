//! What tests ask a schedule: whether its invariants hold, and which state it is in.

use std::time::Duration;

use super::{Phase, REFUSALS, Schedule};
use crate::{Action, open_chunk::ChunkState};

impl Schedule {
    /// Everything that its future depends on except clocks and what was learned, as numbers, for
    /// walks over all states. Attempts go by the names that `name` has for their ids, and times by
    /// whether they have come at `now`.
    pub fn key(&self, now: Duration, name: impl Fn(u64) -> u64) -> Vec<u64> {
        let phase = match self.phase {
            Phase::Probe => 0,
            Phase::Parallel => 1,
            Phase::Stream { resumable } => 2 + u64::from(resumable),
            Phase::Over => 4,
        };
        let mut key = vec![
            phase,
            self.cursor,
            self.in_flight.into(),
            self.health.is_in_trouble().into(),
            self.health.is_well().into(),
            self.health.unsure_until().is_some().into(),
            self.health.probe_at().is_some_and(|at| at > now).into(),
            (self.throttle.next_at() > now).into(),
            (self.paused_until > now).into(),
            self.memory.into(),
            self.plan.known_end().unwrap_or(u64::MAX),
        ];
        key.extend(self.throttle.key());
        for open_chunk in &self.open_chunks {
            let state = match open_chunk.state {
                ChunkState::Waiting(at) => u64::from(at > now),
                ChunkState::Filled => 2,
                ChunkState::InFlight(id) => 3 + name(id),
            };
            let flags = [
                open_chunk.begun,
                open_chunk.alone,
                open_chunk.failing_since.is_some(),
            ];
            let flags = flags.iter().fold(0, |all, &flag| all * 2 + u64::from(flag));
            key.extend([
                state,
                open_chunk.known_position(),
                open_chunk.counted.into(),
                open_chunk.refusals.min(REFUSALS).into(),
                open_chunk.refused_alone.into(),
                flags,
            ]);
        }
        key
    }

    /// Checks the invariants of the module's head at `now`.
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub fn check(&self, waited: Option<Action>) -> Result<(), String> {
        let flying = self
            .open_chunks
            .iter()
            .filter(|open_chunk| matches!(open_chunk.state, ChunkState::InFlight(_)))
            .count();
        if flying > self.in_flight as usize {
            return Err(format!(
                "{flying} open_chunks in flight, {} attempts",
                self.in_flight
            ));
        }
        if self.in_flight > self.settings.concurrency {
            return Err(format!(
                "{} in flight of {}",
                self.in_flight, self.settings.concurrency
            ));
        }
        // What was open before a window got smaller stays open.
        if self.open_chunks.len() > self.settings.window as usize {
            return Err(format!(
                "{} open in a window of {}",
                self.open_chunks.len(),
                self.settings.window
            ));
        }
        let head_filled = self
            .open_chunks
            .front()
            .is_some_and(|open_chunk| open_chunk.state == ChunkState::Filled);
        if waited == Some(Action::Wait(None)) && self.in_flight == 0 && !head_filled {
            return Err("nothing in flight, nothing to wait for, nothing to consume".into());
        }
        Ok(())
    }
}
