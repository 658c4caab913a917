//! What its writers ask of a download ([`WriterEvents`]): replies are compared with the
//! pin, the destination learns of them, a stream gets its slots, and what has arrived is counted.

use std::{
    ops::Range,
    sync::Arc,
    task::{Context, Poll},
};

use pget_schedule::Begun;

use super::{
    gathered::gather,
    state::{Engine, State, Target},
};
use crate::{
    Error, ErrorKind, ObjectInfo, Reply, SourceError,
    budget::Reservation,
    delivery::destination::{GatePass, Transfer},
    memory::{Accepted, PAGE, Region, Slot, SlotMemory, WriterEvents},
    revision::{accept, hold_against, learn},
    sync::{
        MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

/// Why a reply cannot go straight to its destination.
const SIZE_UNKNOWN: &str = "the object's size is not known before its end";

const NO_SIZE: &str = "the first response does not state the object's size";

/// A part without a total may end before the object does, and nothing else would show it.
const NO_END: &str = "nothing shows whether the object ends where this part does";

impl State {
    /// Where the next slot's memory is.
    pub(crate) fn home(&self, range: &Range<u64>, memory: Option<Reservation>) -> SlotMemory {
        match &self.target {
            Target::Region(region, origin) => SlotMemory::Region(Arc::clone(region), *origin),
            Target::Scatter(scatter) => scatter.home(range, memory),
            Target::Put => SlotMemory::Put(memory),
            Target::Reader | Target::Unbegun | Target::Beginning | Target::Over => SlotMemory::Pages(memory),
        }
    }

    /// Whether `info` is of the revision that it must be.
    pub(crate) fn hold_against_pin(&self, info: &ObjectInfo) -> Result<(), SourceError> {
        match self.pinned.as_ref().or(self.pin.as_ref()) {
            Some(pin) => hold_against(pin, &info.revision, info.size),
            None => Ok(()),
        }
    }

    /// Nothing is to be started: what would come of it has no place yet.
    pub(crate) const fn waits_for_destination(&self) -> bool {
        matches!(self.target, Target::Beginning)
    }

    /// Chunks that are complete in their destination have been consumed. Whether there were any.
    pub(crate) fn consume_landed(&mut self, cursor: &AtomicU64) -> bool {
        let before = self.schedule.cursor();
        let placed = !matches!(self.target, Target::Reader | Target::Over);
        while placed && self.schedule.is_cursor_filled() {
            self.slots.pop_front();
            self.schedule.consumed();
        }
        cursor.store(self.schedule.cursor(), Ordering::SeqCst);
        self.schedule.cursor() > before
    }

    /// Whether what there is to read fits the caller's memory.
    fn check_region(&self) -> Result<(), SourceError> {
        let Target::Region(region, origin) = &self.target else {
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

/// A boxed buffer as a buffer.
struct Boxed(Box<dyn AsMut<[u8]> + Send>);

impl AsMut<[u8]> for Boxed {
    fn as_mut(&mut self) -> &mut [u8] {
        (*self.0).as_mut()
    }
}

impl Engine {
    /// The memory that a chunk of `bytes` takes; `None` if it lands in memory of its destination's.
    pub(crate) fn memory_for(&self, state: &State, bytes: u64) -> Option<u64> {
        match state.target {
            Target::Region(..) => None,
            Target::Reader | Target::Over => Some(bytes),
            // A page is received into again and again.
            Target::Put | Target::Scatter(_) if self.withholds.load(Ordering::Relaxed) => Some(bytes),
            Target::Unbegun | Target::Beginning | Target::Put | Target::Scatter(_) => {
                Some(bytes.min(PAGE as u64))
            }
        }
    }

    /// Begins the destination, if that has not begun, and has `slot`, in which
    /// there is nothing yet, lie where it says.
    pub(crate) fn begin_destination(
        &self,
        mut state: MutexGuard<'_, State>,
        slot: Option<&Slot>,
    ) -> Result<(), SourceError> {
        let (Some(outlet), Target::Unbegun) = (&self.outlet, &state.target) else {
            return Ok(());
        };
        let Some(pass) = outlet.enter() else {
            return Err(self.over_error());
        };
        state.target = Target::Beginning;
        let plan = state.schedule.plan();
        let (start, end) = (plan.start(), plan.known_end());
        let object = state.pinned.clone().unwrap_or_default();
        drop(state);
        let target = outlet
            .begin(&pass, &object, start, end)
            .and_then(|place| self.target_at(place, pass, start, end));
        match target {
            Ok(target) => {
                let mut state = self.state();
                if state.outcome.is_some() {
                    drop(state);
                    return Err(self.over_error());
                }
                state.target = target;
                if let Some(slot) = slot {
                    slot.move_to(|memory| state.home(&(slot.start()..slot.end()), memory));
                }
                drop(state);
                self.driver.notify_one();
                Ok(())
            }
            Err(error) => {
                self.finish(Err(error));
                Err(self.over_error())
            }
        }
    }

    /// The target at `place`; its memory keeps the `pass` while it is in the hands of writers.
    fn target_at(
        &self,
        place: Transfer,
        pass: GatePass,
        start: u64,
        end: Option<u64>,
    ) -> Result<Target, Error> {
        let memory = match place {
            Transfer::Put => {
                return Ok(match &self.scatter {
                    Some(scatter) => Target::Scatter(Arc::clone(scatter)),
                    None => Target::Put,
                });
            }
            Transfer::Memory(memory) => memory,
        };
        let refused = |message: String| Err(Error::new(ErrorKind::Destination, self.object.clone(), message));
        let Some(end) = end else {
            return refused(format!("there is memory, but {SIZE_UNKNOWN}"));
        };
        let region = Region::keeping(Boxed(memory), move |memory| {
            drop(memory);
            drop(pass);
        });
        if (region.len() as u64) < end - start {
            return refused(format!("{} bytes do not fit in {}", end - start, region.len()));
        }
        Ok(Target::Region(Arc::new(region), start))
    }
}

impl WriterEvents for Engine {
    fn accept_reply(&self, id: u64, reply: &Reply) -> Result<Accepted, SourceError> {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(flight) = state.requests.get_mut(&id).filter(|_| state.outcome.is_none()) else {
            return Err(self.over_error());
        };
        let known = state.pinned.as_ref().or(state.pin.as_ref());
        let mut answer = accept(&flight.request, known.map(|known| &**known), reply)?;
        if answer.total.is_none() && !answer.whole {
            answer.total = state.learned.size;
            if answer.total.is_none() && state.pinned.is_none() {
                return Err(SourceError::fatal(ErrorKind::Protocol, NO_SIZE));
            }
            if answer.total.is_none() && answer.body_end != flight.request.end {
                return Err(SourceError::retryable(ErrorKind::Protocol, NO_END));
            }
        }
        // Of a stream whose first reply had none, no later one has one that those before it had,
        // too.
        let had_none = |pinned: &Arc<ObjectInfo>| !pinned.revision.is_identity();
        let identity = reply.revision.is_identity() && !state.pinned.as_ref().is_some_and(had_none);
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
            Begun::Restream => {
                flight.restream = true;
                // Nothing but the size ties the two replies together. Half of the size that was
                // reported must not pass for all of the object.
                let pin = state.pin.take().unwrap_or_default();
                state.pin = Some(Arc::new(ObjectInfo {
                    size: pin.size.or(answer.total),
                    ranges: Some(false),
                    ..ObjectInfo::clone(&pin)
                }));
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
        // Not before: what is read again as one stream starts over.
        learn(&mut state.learned, reply, answer.total)?;
        if let Some(all) = state.schedule.plan().known_end() {
            flight.slot.shrink_to(all);
        }
        let slot = Arc::clone(&flight.slot);
        if let Err(error) = state.check_region() {
            self.size_unknown
                .store(error.kind() == ErrorKind::Unsupported, Ordering::Relaxed);
            return Err(error);
        }
        if state.pinned.is_none() {
            let info = ObjectInfo {
                size: answer.total,
                revision: reply.revision.clone(),
                chunk_hint: reply.chunk_hint,
                ranges: Some(!answer.whole),
                checksum: reply.checksum,
            };
            self.plan_verification(state, &info)?;
            state.pinned = Some(Arc::new(info));
            self.begun.notify_waiters();
            self.driver.notify_one();
        }
        self.begin_destination(guard, Some(&slot))?;
        Ok(Accepted {
            skip: answer.skip,
            end,
        })
    }

    fn poll_next_slot(&self, id: u64, cx: &mut Context<'_>) -> Poll<Result<Arc<Slot>, SourceError>> {
        let mut state = self.state();
        // A source that was given up, but cannot be stopped, gets no more memory: its place may
        // have gone to another attempt.
        if state.outcome.is_some() || !state.requests.contains_key(&id) {
            return Poll::Ready(Err(self.over_error()));
        }
        // Under the lock, and only for a live attempt: the consumer makes room under the lock and
        // wakes after it.
        self.window_waker.register(cx.waker());
        state.consume_landed(&self.cursor);
        // Memory first: a place once opened must have it.
        let memory = match self.memory_for(&state, state.schedule.plan().chunk_size()) {
            None => None,
            Some(bytes) => {
                // A full slot that waits for its consumer is the one at the cursor, and has its
                // memory; one that is placed has no consumer to wait for.
                let at_cursor = state.slots.is_empty()
                    || self.placed && state.slots.len() <= 1 && state.slots.iter().all(|slot| slot.is_full());
                match self.budget.try_reserve(bytes, at_cursor) {
                    Some(memory) => Some(memory),
                    None => return Poll::Pending,
                }
            }
        };
        let Some((chunk, range)) = state.schedule.next_in_stream(id) else {
            return Poll::Pending;
        };
        let home = state.home(&range, memory);
        let slot = Slot::new(chunk, range, Arc::clone(&self.counters.gauge), home);
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
        if self.placed {
            self.hash_landed(range.clone(), |each| {
                for lease in slot.landed(range.clone()) {
                    each(&lease);
                }
            });
        }
        self.arrived(slot, range);
    }

    fn put(&self, slot: &Slot, bytes: &[u8]) -> bool {
        let Some(outlet) = &self.outlet else {
            return false;
        };
        // Held until it is published and reported: when `read_to` returns, all that was put was
        // reported.
        let Some(pass) = outlet.enter() else {
            return false;
        };
        let start = slot.position();
        if let Err(error) = outlet.put(&pass, start, bytes) {
            self.finish(Err(error));
            return false;
        }
        let end = start + bytes.len() as u64;
        self.hash_landed(start..end, |each| each(bytes));
        slot.publish(end - slot.start());
        self.arrived(slot, start..end);
        true
    }

    fn poll_awaited(&self, slot: &Slot, cx: &mut Context<'_>) -> Poll<()> {
        let is_near = || self.cursor.load(Ordering::SeqCst) >= slot.chunk();
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
        self.withholds.store(true, Ordering::Relaxed);
    }
}

impl Engine {
    fn arrived(&self, slot: &Slot, range: Range<u64>) {
        let bytes = range.end - range.start;
        self.counters.received.fetch_add(bytes, Ordering::Relaxed);
        if self.placed {
            // What has landed is where it is wanted.
            self.counters.delivered.fetch_add(bytes, Ordering::Relaxed);
            if let Some(outlet) = &self.outlet
                && let Err(error) = outlet.landed(range)
            {
                self.finish(Err(error));
            }
            return;
        }
        if slot.chunk() == self.cursor.load(Ordering::SeqCst) {
            let page = |at: u64| (at - slot.start()) / PAGE as u64;
            let full = page(range.start) != page(range.end) || range.end == slot.end();
            if full || !gather(self) {
                self.reader_waker.wake();
            }
        }
    }
}
