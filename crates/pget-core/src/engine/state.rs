//! What the driver, the writers and the reader of one download share, under one lock that is held
//! for a few instructions.
//!
//! Invariants: `slots` are the schedule's open places, in order; `over` is set, once, before the
//! consumer is woken for the last time; what follows the first failure is never handed out.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, PoisonError},
};

use futures_util::task::AtomicWaker;
use tokio::{sync::Notify, time::Instant};

use pget_schedule::Schedule;

use super::{cursor::Cursor, delivery::Delivery, in_flight::InFlight};
use crate::{
    Budget, Error, ErrorKind, ObjectInfo, SourceError, Stats, Waiting,
    fork::{Generation, forked},
    memory::Slot,
    revision::Known,
    stats::{Chosen, Counters},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

pub(crate) struct Engine {
    /// The process that the download runs in.
    pub(crate) generation: Generation,
    /// The schedule's time is counted from here.
    pub(crate) began: Instant,
    pub(crate) state: Mutex<State>,
    /// Something happened that the schedule may act on.
    pub(crate) driver: Notify,
    /// The first reply was accepted, or the download is over.
    pub(crate) begun: Notify,
    pub(crate) reader_waker: AtomicWaker,
    /// The stream's writer, waiting for the window.
    pub(crate) window_waker: AtomicWaker,
    pub(crate) cursor: Cursor,
    pub(crate) finished: AtomicBool,
    /// Fenced attempts whose writer is still there.
    pub(crate) fenced_writers: AtomicU64,
    pub(crate) counters: Counters,
    pub(crate) object: String,
    pub(crate) budget: Arc<Budget>,
    pub(crate) delivery: Arc<dyn Delivery>,
}

pub(crate) struct State {
    pub(crate) schedule: Schedule,
    pub(crate) slots: VecDeque<Arc<Slot>>,
    pub(crate) known: Known,
    pub(crate) requests: HashMap<u64, InFlight>,
    pub(crate) beginning: Beginning,
    /// How it ended: all is received, or why not.
    pub(crate) outcome: Option<Result<(), Error>>,
    /// Why the last attempt failed after which the download went on.
    pub(crate) last_failure: Option<SourceError>,
    /// Where the fenced attempts' bytes came from, by chunk, for the attempts that follow them.
    pub(crate) avoid: HashMap<u64, SocketAddr>,
}

/// Whether the delivery has begun, which it does once, outside the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// No reply was accepted yet.
    Ahead,
    /// It learns what there is; until that has returned, no attempt is started.
    Underway,
    Done,
}

/// What the reader finds at the cursor.
pub(crate) enum AtCursor {
    Slot(Arc<Slot>),
    Nothing,
    End,
}

impl Engine {
    pub(crate) fn new(
        schedule: Schedule,
        object: String,
        budget: Arc<Budget>,
        pin: Option<ObjectInfo>,
        delivery: Arc<dyn Delivery>,
    ) -> Arc<Self> {
        Arc::new(Self {
            generation: Generation::current(),
            began: Instant::now(),
            state: Mutex::new(State {
                schedule,
                slots: VecDeque::new(),
                known: Known::new(pin),
                requests: HashMap::new(),
                beginning: Beginning::Ahead,
                outcome: None,
                last_failure: None,
                avoid: HashMap::new(),
            }),
            driver: Notify::new(),
            begun: Notify::new(),
            reader_waker: AtomicWaker::new(),
            window_waker: AtomicWaker::new(),
            cursor: Cursor::new(),
            finished: AtomicBool::new(false),
            fenced_writers: AtomicU64::new(0),
            counters: Counters::default(),
            object,
            budget,
            delivery,
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn object(&self) -> &str {
        &self.object
    }

    /// Whether this is a child that was forked since: it has no part in the download, and touches
    /// none of its locks.
    pub(crate) fn is_forked(&self) -> bool {
        self.generation.is_past()
    }

    /// # Errors
    /// [`Forked`](ErrorKind::Forked) in a child that was forked since.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        if self.is_forked() {
            return Err(forked(&format!("the read of {}", self.object)));
        }
        Ok(())
    }

    pub(crate) fn stats(&self) -> Stats {
        if self.is_forked() {
            return Stats::default();
        }
        let state = self.state();
        let schedule = &state.schedule;
        let one_stream = schedule.is_one_stream();
        let chosen = Chosen {
            one_stream,
            concurrency: if one_stream { 1 } else { schedule.level() },
            chunk_size: schedule.plan().chunk_size(),
            waiting: self.waiting(&state),
            verification: self.delivery.verification(),
        };
        drop(state);
        self.counters.snapshot(chosen)
    }

    /// How the download waits for its server, if it does.
    pub(crate) fn waiting(&self, state: &State) -> Option<Waiting> {
        if state.outcome.is_some() {
            return None;
        }
        let trial = state.schedule.trial()?;
        let now = self.began.elapsed();
        let last = state.last_failure.as_ref();
        Some(Waiting::new(
            now.saturating_sub(trial.since),
            trial.gives_up_at.saturating_sub(now),
            trial.attempts,
            last.map_or(ErrorKind::Unavailable, SourceError::kind),
            last.and_then(SourceError::status),
        ))
    }

    /// What is known of the object, once the first reply was accepted; the error if the download
    /// failed.
    pub(crate) fn pinned(&self) -> Result<Option<Arc<ObjectInfo>>, Error> {
        self.check_process()?;
        let state = self.state();
        match &state.outcome {
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(state.known.first().cloned()),
        }
    }

    /// Bytes to be delivered in all, once that is known.
    pub(crate) fn total(&self) -> Option<u64> {
        if self.is_forked() {
            return None;
        }
        let state = self.state();
        state.schedule.plan().bytes()
    }

    /// Waits until the download is over, and returns how it ended.
    pub(crate) async fn ended(&self) -> Result<(), Error> {
        loop {
            self.check_process()?;
            // Enabled before the look, so that no notice falls between.
            let mut begun = std::pin::pin!(self.begun.notified());
            begun.as_mut().enable();
            if let Some(outcome) = &self.state().outcome {
                return outcome.clone();
            }
            begun.await;
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.finished.load(Ordering::Acquire) || self.is_forked()
    }

    /// Ends the download; the first outcome stays.
    pub(crate) fn finish(&self, outcome: Result<(), Error>) {
        self.finish_unless(outcome, |state| state.outcome.is_some());
    }

    /// Ends the download, unless `stays` says that what it ended with is to stay; asked under the
    /// lock, so that no other end comes between.
    pub(crate) fn finish_unless(&self, outcome: Result<(), Error>, stays: impl FnOnce(&State) -> bool) {
        if self.is_forked() {
            return;
        }
        let slots = {
            let mut state = self.state();
            let stays = stays(&state);
            state.schedule.cancel();
            if stays {
                return;
            }
            // After a failure nothing more is handed out; else a reader may have chunks to take.
            let is_left = outcome.is_ok() && !state.schedule.is_consumed();
            state.outcome = Some(outcome);
            self.finished.store(true, Ordering::Release);
            // Dropped outside the lock, as memory may go back to an owner of its own.
            if is_left {
                (VecDeque::new(), HashMap::new())
            } else {
                (
                    std::mem::take(&mut state.slots),
                    std::mem::take(&mut state.requests),
                )
            }
        };
        drop(slots);
        self.delivery.close();
        self.driver.notify_one();
        self.begun.notify_waiters();
        self.reader_waker.wake();
        self.window_waker.wake();
    }

    pub(crate) fn cancel(&self) {
        let error = Error::new(ErrorKind::Cancelled, self.object.clone(), "");
        self.finish_unless(Err(error), |state| match state.outcome {
            None => false,
            // When all is received but not all is taken, the consumer is to hear of the cancel, as
            // it would a moment earlier.
            Some(Ok(())) => state.schedule.is_consumed(),
            Some(Err(_)) => true,
        });
    }

    // For the reader.

    /// Bytes that were handed out got nowhere, or were found to be wrong, be they the last ones:
    /// also a download that has ended well ends with `error`.
    pub(crate) fn fail_after_delivery(&self, error: Error) {
        self.finish_unless(Err(error), |state| matches!(state.outcome, Some(Err(_))));
    }

    /// Notes that no byte will be taken any more: the download ends if it has not, and what it
    /// holds goes.
    pub(crate) fn abandon(&self) {
        if self.is_forked() {
            return;
        }
        self.cancel();
        // Also when all was received before: a monitor may live on.
        let slots = std::mem::take(&mut self.state().slots);
        drop(slots);
    }

    pub(crate) fn at_cursor(&self) -> Result<AtCursor, Error> {
        self.check_process()?;
        let state = self.state();
        match &state.outcome {
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(())) if state.schedule.is_consumed() => Ok(AtCursor::End),
            _ => Ok(state
                .slots
                .front()
                .map_or(AtCursor::Nothing, |slot| AtCursor::Slot(Arc::clone(slot)))),
        }
    }

    /// The reader has taken all of the slot at the cursor.
    pub(crate) fn consumed(&self) {
        let slot = {
            let mut state = self.state();
            state.schedule.consumed();
            // Before the reader looks at the next slot's watermark: see `Slot::publish`.
            self.cursor.move_to(state.schedule.cursor());
            state.slots.pop_front()
        };
        drop(slot);
        self.cursor_moved();
        self.driver.notify_one();
        self.window_waker.wake();
    }

    /// Wakes those who wait for the cursor, after it has moved.
    pub(crate) fn cursor_moved(&self) {
        self.cursor.notify();
        let next = self.state().slots.front().map(Arc::clone);
        if let Some(slot) = next {
            slot.wake_writer();
        }
    }

    // For the driver.

    /// All bytes have arrived: has the delivery do what is left of its work, a piece at a time.
    ///
    /// # Errors
    /// The download's.
    pub(crate) async fn settle(&self) -> Result<(), Error> {
        let end = {
            let state = self.state();
            let stated = state.known.first().and_then(|first| first.size);
            stated
                .or_else(|| state.schedule.plan().known_end())
                .unwrap_or_default()
        };
        while !self.is_over() && self.delivery.settle(end)? {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    pub(crate) fn over_error(&self) -> SourceError {
        SourceError::fatal(ErrorKind::Cancelled, "the download is over")
    }
}
