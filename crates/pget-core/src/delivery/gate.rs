//! The gate before a destination.
//!
//! Invariant: a destination is called only between the start of `read_to` and its return. Each call
//! holds a [`GatePass`]; the end of the download closes the gate, and `read_to` waits until the
//! last pass is back. A source that cannot be stopped finds the gate closed.

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
};

use tokio::sync::Notify;

use super::destination::{Destination, Keeps, Transfer};
use crate::{
    Error, ErrorKind, ObjectInfo,
    sync::{Mutex, MutexGuard},
};

/// A destination and the gate that calls pass.
pub(crate) struct Gate {
    destination: Arc<dyn Destination>,
    gate: Arc<GateInner>,
}

impl Gate {
    pub(crate) fn new(destination: Arc<dyn Destination>) -> Self {
        Self {
            destination,
            gate: Arc::default(),
        }
    }

    /// Leave to call the destination; `None` once the download is over.
    pub(crate) fn enter(&self) -> Option<GatePass> {
        let mut state = self.gate.state();
        if state.closed {
            return None;
        }
        state.inside += 1;
        drop(state);
        Some(GatePass(Arc::clone(&self.gate)))
    }

    pub(crate) fn begin(
        &self,
        _: &GatePass,
        object: &ObjectInfo,
        start: u64,
        end: Option<u64>,
    ) -> Result<Transfer, Error> {
        caught(|| self.destination.begin(object, start, end))
    }

    pub(crate) fn put(&self, _: &GatePass, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        caught(|| self.destination.put(offset, bytes))
    }

    /// Before anything else.
    pub(crate) fn ask_keeps(&self) -> Result<Keeps, Error> {
        caught(|| Ok(self.destination.keeps()))
    }

    pub(crate) fn read_back(&self, _: &GatePass, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        caught(|| self.destination.read_back(offset, buffer))
    }

    /// For who has a pass, or the destination's memory, which has one.
    pub(crate) fn landed(&self, range: Range<u64>) -> Result<(), Error> {
        caught(|| self.destination.landed(range))
    }

    /// Closes the gate: no call enters any more.
    pub(crate) fn close(&self) {
        self.gate.state().closed = true;
        self.gate.moved.notify_waiters();
    }

    /// Waits until the gate is closed and no call is inside.
    pub(crate) async fn deserted(&self) {
        loop {
            // Enabled before the look, so that no notice falls between.
            let mut moved = std::pin::pin!(self.gate.moved.notified());
            moved.as_mut().enable();
            {
                let state = self.gate.state();
                if state.closed && state.inside == 0 {
                    return;
                }
            }
            moved.await;
        }
    }
}

/// The destination's own defects end the download, not the source that happened to bring the bytes.
fn caught<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "", "the destination panicked")))
}

#[derive(Default)]
struct GateInner {
    state: Mutex<GateState>,
    moved: Notify,
}

#[derive(Default)]
struct GateState {
    closed: bool,
    inside: usize,
}

impl GateInner {
    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to call the destination, or its memory in the hands of writers.
pub(crate) struct GatePass(Arc<GateInner>);

impl Drop for GatePass {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.inside -= 1;
        let is_last = state.closed && state.inside == 0;
        drop(state);
        if is_last {
            self.0.moved.notify_waiters();
        }
    }
}
