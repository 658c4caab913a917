//! Fencing: what the schedule learns of the attempts in flight, and what becomes of the one it
//! picks.
//!
//! Invariant: a fenced attempt stays in flight for the schedule until its writer is gone. The
//! driver ends its task; a source that cannot be stopped (a blocking read) keeps its writer, and
//! with it the slot, so the rest of the chunk is asked for only when it has let go.

use std::{sync::atomic::Ordering, time::Duration};

use super::{
    in_flight::{Fence, InFlight},
    state::{Engine, State},
};
use crate::{ErrorKind, SourceError};

impl Engine {
    /// The attempt that the driver is to end now, if there is one.
    pub(crate) fn look(&self, now: Duration) -> Option<u64> {
        let mut state = self.state();
        let State {
            schedule, requests, ..
        } = &mut *state;
        let slow = schedule.look(now, |id| requests.get(&id).map(InFlight::flow));
        if let Some(choice) = schedule.new_choice() {
            tracing::debug!(
                concurrency = choice.level,
                chunk_size = choice.chunk_size,
                milliseconds = now.as_millis(),
                latency_ms = choice.latency * 1e3,
                body_mb_per_second = choice.body / 1e6,
                "chosen by measuring: {}",
                choice.why
            );
        }
        let id = slow?;
        // An attempt whose writer lingers is waited for already.
        let flight = requests.get_mut(&id).filter(|flight| flight.fence == Fence::No)?;
        flight.fence = Fence::Asked;
        let position = flight.slot.position();
        tracing::debug!(
            object = %self.object,
            chunk = flight.slot.chunk(),
            position,
            bytes = flight.pulse.bytes(),
            address = ?flight.pulse.address(),
            "fenced: far slower than the others, the rest is asked for over a fresh connection"
        );
        Some(id)
    }

    /// Has the driver end the attempt, far slower or not; `false` if it is over.
    #[cfg(all(test, feature = "model"))]
    pub(crate) fn fence_at_will(&self, id: u64) -> bool {
        let mut state = self.state();
        let flight = state.requests.get_mut(&id);
        flight.map(|flight| flight.fence = Fence::Asked).is_some()
    }

    /// Whether the attempt's task was ended by the fence.
    pub(crate) fn is_fenced(&self, id: u64) -> bool {
        self.state()
            .requests
            .get(&id)
            .is_some_and(|flight| flight.fence != Fence::No)
    }

    /// Whether the attempt's writer waits for the consumer of its bytes.
    pub(crate) fn waits_for_consumer(&self, id: u64) -> bool {
        let state = self.state();
        let flight = state.requests.get(&id);
        flight.is_some_and(|flight| flight.pulse.waits_for_consumer())
    }

    /// Returns whether the task of the attempt has ended while its writer is still there.
    ///
    /// A source that cannot be stopped keeps the writer, and the slot with it. The attempt stays in
    /// flight until the writer is gone; the driver is notified of that.
    pub(crate) fn lingers(&self, id: u64) -> bool {
        let mut state = self.state();
        let Some(flight) = state.requests.get_mut(&id) else {
            // The download is over.
            return false;
        };
        if flight.fence != Fence::Held {
            // Before the look at the writer: one of this and its drop sees the other.
            self.fenced_writers.fetch_add(1, Ordering::SeqCst);
            flight.fence = Fence::Held;
        }
        if flight.slot.is_claimed() {
            return true;
        }
        self.fenced_writers.fetch_sub(1, Ordering::SeqCst);
        flight.fence = Fence::No;
        false
    }

    /// The task of a fenced attempt has ended, or its writer may be gone. Returns `false` while the
    /// writer is there.
    pub(crate) fn fenced_released(&self, id: u64, now: Duration) -> bool {
        if self.lingers(id) {
            return false;
        }
        let mut state = self.state();
        let State {
            schedule,
            requests,
            avoid,
            last_failure,
            ..
        } = &mut *state;
        let Some(flight) = requests.get(&id) else {
            return true;
        };
        schedule.fenced(id, now, flight.slot.position());
        if !flight.pulse.has_begun() && schedule.trial().is_some() {
            *last_failure = Some(SourceError::retryable(ErrorKind::Timeout, "no answer"));
        }
        if let Some(address) = flight.pulse.address() {
            avoid.insert(flight.slot.chunk(), address);
        }
        requests.remove(&id);
        self.counters.fences.fetch_add(1, Ordering::Relaxed);
        let moved = state.consume_landed(self.delivery.order(), &self.cursor);
        drop(state);
        if moved {
            self.cursor_moved();
        }
        // All may be here by now.
        self.reader_waker.wake();
        true
    }
}
