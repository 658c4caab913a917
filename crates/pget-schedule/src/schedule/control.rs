//! What the schedule reports to its controller, and what it does with the answer.

use std::time::Duration;

use super::{Phase, Schedule};
use crate::{Choice, Flow, Found, controller::Now, open_chunk::ChunkState};

/// Bytes that may be open beyond the usual window of a set concurrency and chunk size, which users
/// compute memory from.
const BORROWED: u64 = 16 << 20;

impl Schedule {
    /// Requests that should be in flight, as far as measuring shows.
    #[must_use]
    pub fn level(&self) -> u32 {
        let most = self.settings.concurrency;
        self.control
            .as_ref()
            .map_or(most, |control| control.controller.level().min(most))
    }

    /// How often the level was changed.
    #[must_use]
    pub fn level_changes(&self) -> u32 {
        self.control
            .as_ref()
            .map_or(0, |control| control.controller.changes())
    }

    /// Returns what the controller chose and why, if that has changed since the last call.
    pub fn new_choice(&mut self) -> Option<Choice> {
        let control = self.control.as_mut()?;
        let choice = control.controller.choice();
        let is_new = |last: Choice| {
            (last.level, last.chunk_size, last.why) != (choice.level, choice.chunk_size, choice.why)
        };
        if !control.last_choice.is_none_or(is_new) {
            return None;
        }
        control.last_choice = Some(choice);
        Some(choice)
    }

    /// What measuring has found, for the next download from the same host.
    pub(super) fn found(&self) -> Option<Found> {
        self.control.as_ref()?.controller.found()
    }

    /// Starts from what an earlier download from the same host has found.
    pub(super) fn start_at(&mut self, found: Option<Found>) {
        if let (Some(control), Some(found)) = (&mut self.control, found) {
            control.controller.start_from(found);
        }
    }

    /// The request of the attempt `id` was sent so long before the attempt began.
    pub fn asked_before(&mut self, id: u64, time: Duration) {
        let open_chunk = self
            .open_chunks
            .iter_mut()
            .find(|open_chunk| open_chunk.state == ChunkState::InFlight(id));
        if let Some(open_chunk) = open_chunk {
            open_chunk.measured.asked_before = time;
        }
    }

    /// The attempt `id` has its answer.
    pub fn answered(&mut self, id: u64, now: Duration) {
        let open_chunk = self
            .open_chunks
            .iter_mut()
            .find(|open_chunk| open_chunk.state == ChunkState::InFlight(id));
        let Some(open_chunk) = open_chunk else {
            return;
        };
        open_chunk.track.answered = Some(now);
        if let Some(control) = &mut self.control {
            control.answered(now, &mut open_chunk.measured);
        }
    }

    /// Chunks that may be open: half as many again as requests in flight. While an attempt at the
    /// cursor takes far longer than others did, twice that, if it takes no more memory than the
    /// controller allows, or [`BORROWED`] more where both options are set.
    pub(super) fn window(&self, now: Option<Duration>) -> usize {
        let most = self.settings.window as usize;
        if !self.settings.window_follows || self.phase != Phase::Parallel {
            return most;
        }
        let level = self.level().min(self.throttle.permits()) as usize;
        let borrowed = now.is_some_and(|now| self.cursor_lags(now));
        let window = level + level.div_ceil(2);
        let window = if borrowed {
            let chunks = |bytes: u64| usize::try_from(bytes / self.plan.chunk_size()).unwrap_or(usize::MAX);
            let affordable = match self.settings.control {
                Some(bounds) => chunks(bounds.memory),
                None => window.saturating_add(chunks(BORROWED)),
            };
            window.max(affordable.min(most))
        } else {
            window
        };
        window.max(3).min(most)
    }

    /// Whether the chunks from the cursor to `next` fit in what the controller allows them.
    pub(super) fn fits(&self, next: u64) -> bool {
        let Some(control) = &self.control else {
            return true;
        };
        if !self.settings.window_follows || self.plan.has_gaps() || next < self.cursor + 3 {
            return true;
        }
        let (Some(first), Some(last)) = (self.plan.range(self.cursor), self.plan.range(next)) else {
            return true;
        };
        last.end - first.start <= control.controller.memory()
    }

    /// The controller's look, if it is time.
    pub(super) fn control(&mut self, now: Duration, flow: &impl Fn(u64) -> Option<Flow>) {
        if self.control_at().is_none_or(|at| at > now) {
            return;
        }
        let next = self.cursor + self.open_chunks.len() as u64;
        let rest = self.plan.bytes_from(next);
        let limit = self.throttle.permits();
        let limit = (limit < self.settings.concurrency).then_some(limit);
        let in_flight = self.in_flight;
        let blocked = self.is_window_full();
        let Some(control) = &mut self.control else {
            return;
        };
        let mut oldest = None;
        for open_chunk in &mut self.open_chunks {
            let ChunkState::InFlight(id) = open_chunk.state else {
                continue;
            };
            if let Some(flow) = flow(id) {
                if !flow.asked {
                    open_chunk.measured.asked = now;
                    open_chunk.measured.until = now;
                }
                control.brought(now, &mut open_chunk.measured, flow.bytes, false);
            }
            if open_chunk.measured.answered.is_none() {
                let asked = open_chunk.measured.asked;
                oldest = Some(oldest.map_or(asked, |oldest: Duration| oldest.min(asked)));
            }
        }
        if let Some(since) = &mut control.held_since {
            control.held += now.saturating_sub(*since);
            *since = now;
        }
        let held = std::mem::take(&mut control.held);
        let state = Now {
            in_flight,
            limit,
            blocked,
            oldest_unanswered: oldest,
            held: rest == 0 || held * 4 > now.saturating_sub(control.looked),
            rest,
        };
        control.looked = now;
        control.controller.look(now, control.seen, state);
    }

    pub(super) fn control_at(&self) -> Option<Duration> {
        let control = self.control.as_ref()?;
        (self.phase == Phase::Parallel && self.in_flight > 0)
            .then(|| control.controller.look_at(control.looked))
    }

    /// An attempt at the chunk of `index` has ended, having brought `bytes`.
    pub(super) fn note_end(&mut self, index: usize, now: Duration, bytes: u64) {
        if let Some(control) = &mut self.control {
            control.brought(now, &mut self.open_chunks[index].measured, bytes, true);
        }
    }

    /// The source asks for chunks of this size.
    pub(super) fn note_hint(&mut self, chunk_size: u64) {
        if let Some(control) = &mut self.control {
            control.controller.hint(chunk_size);
        }
    }

    /// Whether requests are held back by something that is not the network.
    pub(super) fn note_held(&mut self, now: Duration, held: bool) {
        let Some(control) = &mut self.control else {
            return;
        };
        match (control.held_since, held) {
            (None, true) => control.held_since = Some(now),
            (Some(since), false) => {
                control.held += now.saturating_sub(since);
                control.held_since = None;
            }
            (Some(_), true) | (None, false) => {}
        }
    }

    /// Cuts what was not opened yet as the controller wishes.
    pub(super) fn rechunk(&mut self) {
        if self.phase != Phase::Parallel || self.memory {
            return;
        }
        let next = self.cursor + self.open_chunks.len() as u64;
        let is_idle = self.throttle.is_paced() && self.in_flight * 2 <= self.level();
        let Some(control) = &mut self.control else {
            return;
        };
        if control.cut == Some(next) {
            return;
        }
        control.cut = Some(next);
        if is_idle {
            control.controller.lengthen(self.plan.bytes_from(next));
        }
        let size = control.controller.next_chunk(next);
        if size != self.plan.chunk_size() {
            self.plan.chunk_size_from(next, size);
        }
    }
}
