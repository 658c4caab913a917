//! The download as its writers see it: replies held against the pin, slots of a stream, and what has arrived.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use super::{Destination, Shared, State, accept};
use crate::{
    ErrorKind, ObjectInfo, Reply, SourceError,
    ring::{Accepted, Home, Host, Slot},
    schedule::Begun,
};

/// Why a reply cannot go straight to its destination.
const SIZE_UNKNOWN: &str = "the object's size is not known before its end";

impl State {
    /// Where the next slot's memory is.
    pub(super) fn home(&self, memory: Option<crate::budget::Reservation>) -> Home {
        match &self.destination {
            Some(Destination { region, origin }) => Home::Region(Arc::clone(region), *origin),
            None => Home::Pages(memory),
        }
    }

    /// Chunks that are complete in the caller's memory have been consumed. Whether there were any.
    pub(super) fn take_placed(&mut self, cursor: &AtomicU64) -> bool {
        let before = self.schedule.cursor();
        while self.destination.is_some() && self.schedule.is_cursor_filled() {
            self.slots.pop_front();
            self.schedule.consumed();
        }
        cursor.store(self.schedule.cursor(), Ordering::SeqCst);
        self.schedule.cursor() > before
    }

    /// Whether what there is to read fits its destination.
    fn check_destination(&self) -> Result<(), SourceError> {
        let Some(Destination { region, origin }) = &self.destination else {
            return Ok(());
        };
        let Some(end) = self.schedule.plan().known_end() else {
            return Err(SourceError::fatal(ErrorKind::Unsupported, SIZE_UNKNOWN));
        };
        let needed = end - origin;
        if needed > region.len() as u64 {
            let message = format!("{needed} bytes do not fit in {}", region.len());
            return Err(SourceError::fatal(ErrorKind::BufferTooSmall, message).with_needed(needed));
        }
        Ok(())
    }
}

impl Host for Shared {
    fn begin(&self, id: u64, reply: &Reply) -> Result<Accepted, SourceError> {
        let mut state = self.state();
        let state = &mut *state;
        let Some(flight) = state.requests.get_mut(&id).filter(|_| state.outcome.is_none()) else {
            return Err(self.over_error());
        };
        let answer = accept(&flight.request, state.pinned.as_deref(), reply)?;
        let identity = reply.revision.is_identity();
        let begun = state.schedule.begun(
            id,
            answer.total,
            answer.whole,
            identity,
            reply.chunk_hint,
            answer.body_end,
        );
        let end = match begun {
            Begun::Restream => {
                flight.restream = true;
                return Err(SourceError::retryable(
                    ErrorKind::Protocol,
                    "no identity: read again as one stream",
                ));
            }
            Begun::Chunk { end } => Some(end),
            Begun::Stream { end } => match (end, answer.body_end) {
                (Some(end), Some(body_end)) => Some(end.min(body_end)),
                (end, body_end) => end.or(body_end),
            },
        };
        if let Some(all) = state.schedule.plan().known_end() {
            flight.slot.shrink_to(all);
        }
        if let Err(error) = state.check_destination() {
            self.size_unknown
                .store(error.kind() == ErrorKind::Unsupported, Ordering::Relaxed);
            return Err(error);
        }
        if state.pinned.is_none() {
            state.pinned = Some(Arc::new(ObjectInfo {
                size: answer.total,
                revision: reply.revision.clone(),
                chunk_hint: reply.chunk_hint,
                ranges: Some(!answer.whole),
            }));
            self.begun.notify_waiters();
            self.driver.notify_one();
        }
        Ok(Accepted {
            skip: answer.skip,
            end,
        })
    }

    fn poll_next_slot(&self, id: u64, cx: &mut Context<'_>) -> Poll<Result<Arc<Slot>, SourceError>> {
        let mut state = self.state();
        // A source that was given up, but cannot be stopped, gets no more memory: its place may have gone to another attempt.
        if state.outcome.is_some() || !state.requests.contains_key(&id) {
            return Poll::Ready(Err(self.over_error()));
        }
        // Under the lock, and only for a live attempt: the consumer makes room under the lock and wakes behind it.
        self.room.register(cx.waker());
        state.take_placed(&self.cursor);
        // Memory first: a place once opened must have it.
        let memory = if state.destination.is_some() {
            None
        } else {
            let at_cursor = state.slots.iter().all(|slot| slot.is_full()) && state.slots.len() <= 1;
            match self
                .budget
                .try_reserve(state.schedule.plan().chunk_size(), at_cursor)
            {
                Some(memory) => Some(memory),
                None => return Poll::Pending,
            }
        };
        let Some((chunk, range)) = state.schedule.next_in_stream(id) else {
            return Poll::Pending;
        };
        let slot = Slot::new(chunk, range, Arc::clone(&self.counters.gauge), state.home(memory));
        state.slots.push_back(Arc::clone(&slot));
        if let Some(flight) = state.requests.get_mut(&id) {
            flight.slot = Arc::clone(&slot);
        }
        drop(state);
        Poll::Ready(Ok(slot))
    }

    fn published(&self, slot: &Slot, bytes: u64) {
        self.counters.received.fetch_add(bytes, Ordering::Relaxed);
        if slot.is_placed() {
            // What has landed is where the caller wants it.
            self.counters.delivered.fetch_add(bytes, Ordering::Relaxed);
            return;
        }
        if slot.chunk() == self.cursor.load(Ordering::SeqCst) {
            self.consumer.wake();
        }
    }
}
