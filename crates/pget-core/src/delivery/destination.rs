//! Where bytes go that are neither read in order nor put in a buffer of the caller's, and the gate
//! before it.
//!
//! Invariant: a destination is called only between the start of `read_to` and its return. Each call
//! holds a [`GatePass`]; the end of the download closes the gate, and `read_to` waits until the
//! last pass is back. A source that cannot be stopped finds the gate closed.

use std::{
    fmt,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
};

use tokio::sync::Notify;

use crate::{
    Error, ErrorKind, ObjectInfo,
    sync::{Mutex, MutexGuard},
};

/// Where a download's bytes go when they are neither read in order nor put in a buffer of the
/// caller's: a file, shared memory.
///
/// Called on the threads of the runtime that the download runs on, several at once, under no lock.
/// An error of a destination ends the download at once, and is its error: it should be a
/// [`Destination`](ErrorKind::Destination) one, with its cause. When `read_to` has returned, well
/// or not, the destination is called no more.
pub trait Destination: Send + Sync + fmt::Debug {
    /// Only these extents of the object will be put here, says
    /// [`read_extents_to`](crate::Download::read_extents_to), before anything is asked for. In any
    /// order; they may touch.
    ///
    /// # Errors
    /// If they cannot be put here.
    fn check_extents(&self, extents: &[Range<u64>]) -> Result<(), Error> {
        let _ = extents;
        Ok(())
    }

    /// Begins with the first reply: bytes `start..end` of `object` (all of it, or what was
    /// asked for) will be put here; `end` is `None` when only the body's end shows the size.
    /// Returns where the bytes go.
    ///
    /// Called once, before any byte, also for an object without bytes; not if no bytes were asked
    /// for (`length` 0), as then nothing is learnt of the object. The download waits for this call:
    /// it should be quick (size a file, not fill it).
    ///
    /// # Errors
    /// If the object cannot be put here: no space, or the size must be known and is not.
    fn begin(&self, object: &ObjectInfo, start: u64, end: Option<u64>) -> Result<Transfer, Error>;

    /// Puts `bytes` at `offset` of the object. They have passed every check of their reply. No byte
    /// is put twice; several threads call at once, with other ranges. May block as a write to a
    /// file does.
    ///
    /// Not called for [`Transfer::Memory`].
    ///
    /// # Errors
    /// If they cannot be put.
    fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Error>;

    /// `range` of the object has arrived for good, at either kind of place. The ranges of a chunk
    /// grow from its start. Should cost little: it is called as bytes land.
    ///
    /// # Errors
    /// If no more is wanted. For a [`Transfer::Memory`] this is the only way to say so.
    fn landed(&self, range: Range<u64>) -> Result<(), Error> {
        let _ = range;
        Ok(())
    }

    /// What [`read_back`](Self::read_back) can give. Asked once, before anything else.
    fn keeps(&self) -> Keeps {
        Keeps::Nothing
    }

    /// Fills `buffer` with the object's bytes from `offset` on, which it [keeps](Self::keeps).
    ///
    /// # Errors
    /// If they cannot be read.
    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let _ = (offset, buffer);
        Err(Error::new(
            ErrorKind::Unsupported,
            "",
            "the destination does not return what was put to it",
        ))
    }
}

/// What a [`Destination`] can give back, for a checksum that must be computed over bytes that came
/// in another order, or before this download.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keeps {
    /// Nothing. Memory of a [`Transfer::Memory`] is still read where it is.
    #[default]
    Nothing,
    /// What has landed.
    Landed,
    /// What has landed, and all of the object that this download does not bring: it is there since
    /// an earlier one.
    Object,
}

/// How bytes get to a [`Destination`].
#[non_exhaustive]
pub enum Transfer {
    /// By [`put`](Destination::put), from a page of at most 1 MiB that is received into again and
    /// again: it stays in the processor's cache, and memory is one page for each request in flight
    /// (a whole chunk where a source has a checksum to verify first).
    Put,
    /// Straight into this memory, whose first byte is the first wanted byte of the object; dropped
    /// when the last writer has let go of it. As long as what is wanted, or longer.
    Memory(Box<dyn AsMut<[u8]> + Send>),
}

impl fmt::Debug for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "Put",
            Self::Memory(_) => "Memory",
        })
    }
}

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
