//! What the creator fills a segment with.

use std::{
    fmt, io,
    ops::Range,
    os::unix::fs::FileExt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use pget_core::{Error, ErrorKind};

use crate::{landed::Landed, layout::FILLING, lend::Memory, reserve::Reserve, segment::Segment};

/// Fills a segment. Several threads may put bytes at once; dropping it without
/// [`finish`](Self::finish) fails the segment for all who read it.
pub struct Filler {
    segment: Arc<Segment>,
    reserve: Arc<Reserve>,
    landed: Mutex<Landed>,
    length: u64,
    finished: AtomicBool,
}

impl Filler {
    pub(crate) fn new(segment: Arc<Segment>) -> io::Result<Self> {
        let length = segment.companion().length();
        Ok(Self {
            reserve: Reserve::begin(segment.data(), segment.backed(), length)?,
            segment,
            landed: Mutex::default(),
            length,
            finished: AtomicBool::new(false),
        })
    }

    /// Copies `bytes` to `offset` of the segment. Readers do not see them before
    /// [`landed`](Self::landed) publishes them.
    ///
    /// Into pages that were never used, this is the cheapest way: received into a small place that
    /// stays in cache, and written from there, they cost 0.9 CPU seconds a GiB; received into a new
    /// mapping, 1.5.
    ///
    /// # Errors
    /// [`Destination`](ErrorKind::Destination) if there is no space, for these bytes or any later
    /// ones; [`Cancelled`](ErrorKind::Cancelled) if the creator closed its buffer;
    /// [`Forked`](ErrorKind::Forked) in a forked child.
    pub fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let end = offset.checked_add(bytes.len() as u64);
        self.check_open()?;
        if end.is_none_or(|end| end > self.length) || self.finished.load(Ordering::Acquire) {
            let message = format!("{} bytes at {offset} do not belong into the segment", bytes.len());
            return Err(Error::new(ErrorKind::Internal, "", message));
        }
        if let Some(cause) = self.reserve.failure() {
            // An `io::Error` cannot be copied; its code can.
            let code = cause.raw_os_error().unwrap_or_default();
            return Err(self.no_room(io::Error::from_raw_os_error(code)));
        }
        let written = self.segment.write(bytes, offset);
        written.map_err(|cause| self.no_room(cause))
    }

    /// Fills `buffer` with what was put at `offset`.
    pub(crate) fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let read = self.segment.data().read_exact_at(buffer, offset);
        read.map_err(|cause| {
            let message = format!("the shared memory {} cannot be read back", self.segment.name());
            Error::with_cause(ErrorKind::Destination, "", message, cause)
        })
    }

    /// # Errors
    /// [`Cancelled`](ErrorKind::Cancelled) if the creator closed its buffer,
    /// [`Forked`](ErrorKind::Forked) in a child.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if !self.segment.is_own() {
            let message = format!("the shared memory {} is the parent's", self.segment.name());
            return Err(Error::new(ErrorKind::Forked, "", message));
        }
        if self.segment.companion().state() != FILLING && !self.finished.load(Ordering::Acquire) {
            let message = format!("the shared memory {} was closed", self.segment.name());
            return Err(Error::new(ErrorKind::Cancelled, "", message));
        }
        Ok(())
    }

    /// The segment's memory to receive into, where that is cheaper than [`put`](Self::put): all of
    /// its pages were used before.
    pub(crate) fn lend(&self) -> Option<Memory> {
        match Memory::lend(&self.segment, self.length) {
            Ok(memory) => memory,
            Err(error) => {
                // There is the other way.
                tracing::debug!(name = self.segment.name(), %error, "cannot map shared memory to receive into");
                None
            }
        }
    }

    fn no_room(&self, cause: io::Error) -> Error {
        let message = format!("the shared memory {} cannot be filled", self.segment.name());
        Error::with_cause(ErrorKind::Destination, "", message, cause)
    }

    /// The bytes of `range` are there for good. Shows what is there without a gap, and wakes those
    /// who wait for it.
    pub fn landed(&self, range: Range<u64>) {
        let mut landed = self.landed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watermark) = landed.add(range.start..range.end.min(self.length))
            && !self.finished.load(Ordering::Acquire)
            && self.segment.is_own()
        {
            // Under the lock, or an older watermark could follow a newer.
            self.segment.companion().raise(watermark);
        }
    }

    /// Reports to all readers how it ended: all has landed, or why not. Only the first call counts.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) if it is said to be complete, and is not; that is then
    /// what all readers get.
    pub fn finish(&self, outcome: Result<(), &Error>) -> Result<(), Error> {
        let landed = self.landed.lock().unwrap_or_else(PoisonError::into_inner);
        if self.finished.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.reserve.stop();
        let there = landed.watermark();
        let outcome = match outcome {
            Ok(()) if there < self.length => {
                let message = format!("{there} of {} bytes have landed", self.length);
                Err(Error::new(ErrorKind::Internal, "", message))
            }
            Ok(()) => {
                self.segment.back(self.length);
                self.segment.end(|companion| companion.complete());
                return Ok(());
            }
            Err(error) => Err(error.clone()),
        };
        if let Err(error) = &outcome {
            self.segment
                .end(|companion| companion.fail(error.kind(), &error.to_line()));
        }
        outcome
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        if !self.segment.is_own() {
            return;
        }
        let given_up = Error::new(ErrorKind::Cancelled, "", "given up");
        // The error is the one that was reported.
        self.finish(Err(&given_up)).ok();
    }
}

impl fmt::Debug for Filler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filler({})", self.segment.name())
    }
}
