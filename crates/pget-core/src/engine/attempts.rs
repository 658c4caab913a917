//! The attempts in flight: how one gets its writer and its request, and what its end means for the
//! download.
//!
//! Invariant: an attempt is in `requests` from its launch until it has ended, or was fenced and has
//! let go. Called by the driver.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use pget_schedule::{AfterAttempt, Attempt, AttemptEnd, Limit};

use super::{
    delivery::Offer,
    in_flight::{Fence, InFlight},
    state::{Engine, State},
};
use crate::{
    Error, ErrorKind, ObjectInfo, RangeRequest, Retry, SourceError, Verify,
    budget::Reservation,
    memory::{ChunkWriter, Slot, WriterEvents},
};

impl Engine {
    /// Returns whether the object may end before `start`, where a request began: no byte was
    /// received and no reply has stated a size, however many attempts have failed. A body that
    /// stated one and ended before `start` was cut short.
    pub(crate) fn may_end_before(&self, start: u64) -> bool {
        let state = self.state();
        let plan = state.schedule.plan();
        let revision = state.known.revision();
        let is_stated = revision.is_some_and(|revision| revision.size.is_some());
        start == plan.start() && plan.known_end().is_none() && !is_stated
    }

    /// Returns the memory that a chunk of `bytes`, opened now, takes of the budget. `None`: it
    /// lands in memory that is there already.
    pub(crate) fn memory_for(&self, bytes: u64) -> Option<u64> {
        self.delivery.memory_for(bytes, self.counters.gauge.page(bytes))
    }

    /// Registers an attempt; returns its writer and its request.
    ///
    /// The request begins where the writer does. That may be after where the earlier attempt was
    /// seen to end: a read that was given up but could not be stopped may have put more before it
    /// let go of its writer. From the claim on, no other writer puts anything.
    ///
    /// # Errors
    /// If the earlier read still has its writer, or nothing ties its late bytes to this one's.
    pub(crate) fn launch(
        self: &Arc<Self>,
        state: &mut State,
        attempt: &Attempt,
        memory: Option<Reservation>,
    ) -> Result<(ChunkWriter, RangeRequest), Error> {
        let slot = if attempt.opens {
            let slot = Slot::new(
                attempt.chunk,
                attempt.chunk_start..attempt.chunk_end,
                Arc::clone(&self.counters.gauge),
                self.delivery
                    .slot_memory(&(attempt.chunk_start..attempt.chunk_end), memory),
            );
            state.slots.push_back(Arc::clone(&slot));
            slot
        } else {
            let index = usize::try_from(attempt.chunk - state.schedule.cursor()).unwrap_or(usize::MAX);
            Arc::clone(&state.slots[index])
        };
        let events = Arc::clone(self) as Arc<dyn WriterEvents>;
        let writer =
            ChunkWriter::claim(events, attempt.id, Arc::clone(&slot)).ok_or_else(|| self.writer_kept())?;
        let start = writer.position();
        // Also after a chunk that late bytes have filled and the consumer has taken since.
        if start > state.schedule.plan().start() && !state.schedule.may_resume() {
            return Err(self.timed_out("an earlier read of this range continued after its deadline"));
        }
        let request = RangeRequest {
            start,
            end: attempt.end,
            pinned: state.known.revision().cloned(),
            attempt: attempt.fruitless,
            verify: self.wish(state),
            fresh: attempt.fresh,
            avoid: state.avoid.remove(&attempt.chunk),
        };
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        if !attempt.opens {
            self.counters.retries.fetch_add(1, Ordering::Relaxed);
        }
        state.requests.insert(
            attempt.id,
            InFlight {
                request: request.clone(),
                slot,
                pulse: writer.pulse(),
                restream: false,
                fence: Fence::No,
            },
        );
        Ok((writer, request))
    }

    /// How much the source is to do for the object's checksum, when that costs something.
    fn wish(&self, state: &State) -> Verify {
        if state.known.first().is_some() {
            return Verify::Off;
        }
        let plan = state.schedule.plan();
        self.delivery.wish(plan.start() == 0 && plan.end().is_none())
    }

    fn timed_out(&self, message: &str) -> Error {
        Error::new(ErrorKind::Timeout, self.object.clone(), message)
    }

    /// The error of a source that cannot be stopped, and was waited for long enough.
    pub(crate) fn writer_kept(&self) -> Error {
        self.timed_out("an earlier read of this range did not let go of its memory")
    }

    /// Ends an attempt. Returns the download's error if that was its end.
    pub(crate) fn attempt_ended(
        &self,
        id: u64,
        now: Duration,
        result: Result<(), SourceError>,
        endpoint: Option<&str>,
    ) -> Option<Error> {
        let mut state = self.state();
        let flight = state.requests.remove(&id)?;
        if flight.restream {
            state.schedule.restream(id, now);
            return None;
        }
        let how = match &result {
            Ok(()) => AttemptEnd::Complete,
            Err(error) => match error.retry() {
                Retry::Never => AttemptEnd::Fatal,
                Retry::Refused => AttemptEnd::Refused,
                Retry::Backoff => match error.kind() {
                    ErrorKind::Protocol => AttemptEnd::Wrong,
                    ErrorKind::Checksum => AttemptEnd::Damaged,
                    _ => AttemptEnd::Retry,
                },
                Retry::Throttled(after) => AttemptEnd::Throttled(after),
            },
        };
        let position = flight.slot.position();
        if let Some(quiet_for) = flight.pulse.quiet_for() {
            state.schedule.was_quiet(id, now.saturating_sub(quiet_for));
        }
        let verdict = state.schedule.ended(id, now, position, how);
        // The end of a body of unknown length is the end of its slot.
        if let Some(end) = state.schedule.plan().known_end() {
            flight.slot.shrink_to(end);
        }
        let moved = state.consume_landed(self.delivery.order(), &self.cursor);
        let ended = match (verdict, result) {
            (AfterAttempt::GoesOn, Ok(())) => None,
            (AfterAttempt::GoesOn, Err(error)) => {
                tracing::debug!(object = %self.object, position, %error, "attempt failed, the rest is asked for again");
                state.last_failure = Some(error);
                None
            }
            (AfterAttempt::Failed(limit), result) => {
                let error = result.err().unwrap_or_else(|| {
                    SourceError::fatal(
                        ErrorKind::Protocol,
                        format!("the body ended at byte {position}, before its range's end"),
                    )
                });
                let range = position..flight.request.end.unwrap_or(u64::MAX);
                Some((range, limit, error))
            }
        };
        drop(state);
        if moved {
            self.cursor_moved();
        }
        self.reader_waker.wake();
        let (range, limit, error) = ended?;
        Some(Error::from_attempt(
            self.object.clone(),
            Some(range),
            limit,
            error,
            endpoint,
        ))
    }

    /// The error of a download whose patience has run out between two attempts.
    pub(crate) fn gave_up(&self, last: Option<SourceError>, limit: Limit, endpoint: Option<&str>) -> Error {
        let range = match limit {
            Limit::RetryTimeout { position, .. } => position.map(|position| position..u64::MAX),
            Limit::Final | Limit::Retries { .. } | Limit::Wrong { .. } | Limit::Refused { .. } => None,
        };
        let last = last.unwrap_or_else(|| SourceError::fatal(ErrorKind::Timeout, "no answer"));
        Error::from_attempt(self.object.clone(), range, limit, last, endpoint)
    }

    /// The object is known to end where the read begins.
    ///
    /// # Errors
    /// If it is not the one that it must be, cannot be verified as it must be, or its destination
    /// refuses it.
    pub(crate) fn nothing_to_read(&self, info: ObjectInfo) -> Result<(), SourceError> {
        let mut state = self.state();
        state.known.check(&info)?;
        let offer = state.offer(&info);
        let end = Some(offer.start);
        self.delivery.accept(&Offer { end, ..offer })?;
        state.known.fix(info);
        state.schedule.nothing_to_read();
        let begun = self.begin_delivery(state, None);
        self.begun.notify_waiters();
        begun
    }

    pub(crate) fn is_pin_kept(&self, info: &ObjectInfo) -> bool {
        self.state().known.check(info).is_ok()
    }

    /// Whether a reply was accepted.
    pub(crate) fn is_begun(&self) -> bool {
        self.state().known.first().is_some()
    }
}
