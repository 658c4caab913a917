//! What its writers ask of a download ([`WriterEvents`]): replies are compared with the
//! pin, the delivery learns of them, a stream gets its slots, and what has arrived is counted.

use std::{
    ops::Range,
    sync::Arc,
    task::{Context, Poll},
};

use pget_schedule::ReplyOutcome;

use super::{
    cursor::Cursor,
    delivery::{Offer, Order},
    gathered::gather,
    state::{Beginning, Engine, State},
};
use crate::{
    ErrorKind, ObjectInfo, RangeRequest, Reply, SourceError,
    memory::{Accepted, Slot, WriterEvents},
    revision::{Answer, Known, accept},
    sync::{MutexGuard, atomic::Ordering},
};

const NO_SIZE: &str = "the first response does not state the object's size";

/// A part without a total may end before the object does, and nothing else would show it.
const NO_END: &str = "nothing shows whether the object ends where this part does";

impl State {
    /// What there is to deliver of `object`, as the plan stands now.
    pub(crate) fn offer<'a>(&self, object: &'a ObjectInfo) -> Offer<'a> {
        let plan = self.schedule.plan();
        let reaches_all = plan.end().is_none() && !plan.has_gaps()
            || plan.bytes().is_some_and(|bytes| object.size == Some(bytes));
        Offer {
            object,
            start: plan.start(),
            end: plan.known_end(),
            all: plan.start() == 0 && reaches_all,
        }
    }

    /// Nothing is to be started: what would come of it has no place yet.
    pub(crate) fn waits_for_delivery(&self) -> bool {
        self.beginning == Beginning::Underway
    }

    /// Chunks that are complete where they are to be have been consumed. Whether there were any.
    pub(crate) fn consume_landed(&mut self, order: Order, cursor: &Cursor) -> bool {
        let before = self.schedule.cursor();
        while order == Order::Landing && self.schedule.is_cursor_filled() {
            self.slots.pop_front();
            self.schedule.consumed();
        }
        cursor.move_to(self.schedule.cursor());
        self.schedule.cursor() > before
    }
}

impl Engine {
    /// Begins the delivery, if that has not begun, and has `slot`, in which there is nothing yet,
    /// lie where it says.
    pub(crate) fn begin_delivery(
        &self,
        mut state: MutexGuard<'_, State>,
        slot: Option<&Slot>,
    ) -> Result<(), SourceError> {
        if state.beginning != Beginning::Ahead {
            return Ok(());
        }
        state.beginning = Beginning::Underway;
        let object = state.known.first().cloned().unwrap_or_default();
        let offer = state.offer(&object);
        drop(state);
        if let Err(error) = self.delivery.begin(&offer) {
            self.finish(Err(error));
            return Err(self.over_error());
        }
        let mut state = self.state();
        if state.outcome.is_some() {
            return Err(self.over_error());
        }
        state.beginning = Beginning::Done;
        if let Some(slot) = slot {
            let range = slot.start()..slot.end();
            slot.move_to(|memory| self.delivery.slot_memory(&range, memory));
        }
        drop(state);
        self.driver.notify_one();
        Ok(())
    }
}

/// What `reply` means for its request, with the size that others stated if it states none.
fn answer_of(known: &Known, request: &RangeRequest, reply: &Reply) -> Result<Answer, SourceError> {
    let revision = known.revision();
    let mut answer = accept(request, revision.map(|revision| &**revision), reply)?;
    if answer.total.is_none() && !answer.whole {
        answer.total = known.size();
        if answer.total.is_none() && known.first().is_none() {
            return Err(SourceError::fatal(ErrorKind::Protocol, NO_SIZE));
        }
        if answer.total.is_none() && answer.body_end != request.end {
            return Err(SourceError::retryable(ErrorKind::Protocol, NO_END));
        }
    }
    Ok(answer)
}

impl WriterEvents for Engine {
    fn accept_reply(&self, id: u64, reply: &Reply) -> Result<Accepted, SourceError> {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(flight) = state.requests.get_mut(&id).filter(|_| state.outcome.is_none()) else {
            return Err(self.over_error());
        };
        let answer = answer_of(&state.known, &flight.request, reply)?;
        // Of a stream whose first reply had none, no later one has one that those before it had,
        // too.
        let had_none = |first: &Arc<ObjectInfo>| !first.revision.is_identity();
        let identity = reply.revision.is_identity() && !state.known.first().is_some_and(had_none);
        let begun = state.schedule.begun(
            id,
            answer.total,
            answer.whole,
            identity,
            reply.chunk_hint,
            answer.body_end,
        );
        // The first answer also says when to look at what comes, and how many requests may follow.
        if let Some(before) = flight.pulse.asked_before() {
            state.schedule.asked_before(id, before);
        }
        state.schedule.answered(id, self.began.elapsed());
        if state.schedule.awaits_answers() {
            self.driver.notify_one();
        }
        let end = match begun {
            ReplyOutcome::Restream => {
                flight.restream = true;
                state.known.start_over(answer.total);
                return Err(SourceError::retryable(
                    ErrorKind::Protocol,
                    "no identity: read again as one stream",
                ));
            }
            ReplyOutcome::Chunk { end } => Some(end),
            ReplyOutcome::Stream { end } => match (end, answer.body_end) {
                (Some(end), Some(body_end)) => Some(end.min(body_end)),
                (end, body_end) => end.or(body_end),
            },
        };
        // Not before: what is read again as one stream starts over.
        state.known.learn(reply, answer.total)?;
        if let Some(all) = state.schedule.plan().known_end() {
            flight.slot.shrink_to(all);
        }
        let slot = Arc::clone(&flight.slot);
        if state.known.first().is_none() {
            let info = ObjectInfo {
                size: answer.total,
                revision: reply.revision.clone(),
                chunk_hint: reply.chunk_hint,
                ranges: Some(!answer.whole),
                checksum: reply.checksum,
            };
            self.delivery.accept(&state.offer(&info))?;
            state.known.fix(info);
            self.begun.notify_waiters();
            self.driver.notify_one();
        }
        self.begin_delivery(guard, Some(&slot))?;
        Ok(Accepted {
            skip: answer.skip,
            end,
        })
    }

    fn poll_next_slot(&self, id: u64, cx: &mut Context<'_>) -> Poll<Result<Arc<Slot>, SourceError>> {
        let mut state = self.state();
        if state.outcome.is_some() {
            return Poll::Ready(Err(self.over_error()));
        }
        debug_assert!(
            state.requests.contains_key(&id),
            "a request is known until its writers are gone"
        );
        // Under the lock, and only for a live attempt: the consumer makes room under the lock and
        // wakes after it.
        self.window_waker.register(cx.waker());
        let order = self.delivery.order();
        state.consume_landed(order, &self.cursor);
        // Memory first: a place once opened must have it.
        let memory = match self.memory_for(state.schedule.plan().chunk_size()) {
            None => None,
            Some(bytes) => {
                // A full slot that waits for its consumer is the one at the cursor, and has its
                // memory; one that lands has no consumer to wait for.
                let at_cursor = state.slots.is_empty()
                    || order == Order::Landing
                        && state.slots.len() <= 1
                        && state.slots.iter().all(|slot| slot.is_full());
                match self.budget.try_reserve(bytes, at_cursor) {
                    Some(memory) => Some(memory),
                    None => return Poll::Pending,
                }
            }
        };
        let Some((chunk, range)) = state.schedule.next_in_stream(id) else {
            return Poll::Pending;
        };
        let memory = self.delivery.slot_memory(&range, memory);
        let slot = Slot::new(chunk, range, Arc::clone(&self.counters.gauge), memory);
        state.slots.push_back(Arc::clone(&slot));
        if let Some(flight) = state.requests.get_mut(&id) {
            flight.slot = Arc::clone(&slot);
        }
        drop(state);
        Poll::Ready(Ok(slot))
    }

    fn writer_dropped(&self) {
        if self.fenced_writers.load(Ordering::SeqCst) > 0 {
            self.driver.notify_one();
        }
    }

    fn published(&self, slot: &Slot, range: Range<u64>) {
        self.count(range.end - range.start);
        if let Err(error) = self.delivery.landed(slot, range.clone()) {
            self.finish(Err(error));
        }
        if slot.chunk() == self.cursor.chunk() && !gather(self, range.end - range.start) {
            self.reader_waker.wake();
        }
    }

    fn put(&self, slot: &Slot, bytes: &[u8]) -> bool {
        let (start, count) = (slot.position(), bytes.len() as u64);
        let mut publish = || {
            slot.publish(start + count - slot.start());
            self.count(count);
        };
        let put = self.delivery.put(start, bytes, &mut publish);
        put.unwrap_or_else(|error| {
            self.finish(Err(error));
            false
        })
    }

    fn poll_awaited(&self, slot: &Slot, cx: &mut Context<'_>) -> Poll<()> {
        let is_near = || self.cursor.chunk() >= slot.chunk();
        if is_near() {
            return Poll::Ready(());
        }
        slot.register_writer(cx);
        // Check again: a cursor that came before the waker was registered did not wake it.
        if is_near() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn waited(&self, time: std::time::Duration) {
        self.counters.window_full.add(time);
    }

    fn withholds(&self) {
        self.delivery.withholds();
    }
}

impl Engine {
    /// So many bytes have arrived. Those of a delivery without a reader are delivered by that.
    fn count(&self, bytes: u64) {
        self.counters.received.fetch_add(bytes, Ordering::Relaxed);
        if self.delivery.order() == Order::Landing {
            self.counters.delivered.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}
