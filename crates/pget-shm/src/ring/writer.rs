//! The end that puts. It copies once, by `pwrite` into pages that are used again and again.

use std::{
    fmt,
    fs::File,
    io,
    sync::{Arc, atomic::Ordering},
};

use pget_core::{BlockingReader, Error, ErrorKind};
use rustix::io::Errno;

use super::{GONE, MARKS, Marks, PAGE, THERE, UNKNOWN};
use crate::{
    layout::{Companion, FILLING, Kind},
    lock::Byte,
    mapping::{Mapped, Mapping},
    name::Posix,
    reserve::Reserve,
    segment::{Segment, cannot_make},
    wait::{self, Ended},
    waker::{Waker, Wakes},
};

/// Puts objects into shared memory, one after another, at the pace of the one process that reads
/// them.
///
/// Dropping it closes the ring: the reader hears that no more objects come, and an object that has
/// not [ended](Self::end) fails for it. A ring with a name loses it.
pub struct RingWriter {
    segment: Segment,
    marks: Arc<Mapped<Marks>>,
    reserve: Arc<Reserve>,
    capacity: u64,
    put: u64,
    /// Where the object that is being put began; `None` between two.
    begun: Option<u64>,
    size: Option<u64>,
    stop: Box<dyn Fn() -> bool + Send>,
}

impl RingWriter {
    /// A ring of at least `capacity` bytes (rounded up to pages, at least one), under a POSIX name
    /// that is free, or without one. Its memory is reserved ahead of what is put: the first part of
    /// it when this returns, all of it before a byte gets there.
    ///
    /// # Errors
    /// [`Destination`](ErrorKind::Destination) if there is no room or the name is taken,
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for an unusable name.
    pub fn create(name: Option<&str>, capacity: usize) -> Result<Self, Error> {
        let posix = name.map(Posix::new).transpose()?;
        let what = format!("shared ring {}", name.unwrap_or("without a name"));
        let failed = |cause: io::Error| cannot_make(&what, cause);
        let capacity = capacity.max(1).checked_next_multiple_of(PAGE);
        let length = capacity.and_then(|capacity| capacity.checked_add(PAGE));
        let (Some(capacity), Some(length)) = (capacity, length) else {
            return Err(failed(Errno::NOMEM.into()));
        };
        let segment = Segment::create(posix.as_ref(), Kind::Ring, length as u64, "")?;
        Self::on(segment, capacity as u64, failed)
    }

    fn on(segment: Segment, capacity: u64, failed: impl FnOnce(io::Error) -> Error) -> Result<Self, Error> {
        let made = || {
            let file: &Arc<File> = segment.data();
            let marks = Mapping::writable(&**file, PAGE)?;
            // After what may fail, because its thread goes on until it is stopped.
            let reserve = Reserve::begin(file, 0, MARKS + capacity)?;
            io::Result::Ok((Mapped::<Marks>::new(marks)?, reserve))
        };
        // It has its name by now, and maybe its reader.
        let (marks, reserve) = made().map_err(|cause| segment.fail(failed(cause)))?;
        Ok(Self {
            segment,
            marks: Arc::new(marks),
            reserve,
            capacity,
            put: 0,
            begun: None,
            size: None,
            stop: Box::new(|| false),
        })
    }

    /// The name that the reader attaches by.
    #[must_use]
    pub fn name(&self) -> &str {
        self.segment.name()
    }

    /// Has waits for the reader end with [`Cancelled`](ErrorKind::Cancelled) once `stop` says so,
    /// from now on: it is asked before each sleep and four times a second; who changes what it says
    /// calls [`Waker::wake`] for it to be heard at once.
    pub fn stop_when(&mut self, stop: impl Fn() -> bool + Send + 'static) {
        self.stop = Box::new(stop);
    }

    /// What wakes this end.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker(Wakes::Marks(Arc::clone(&self.marks)))
    }

    /// Begins an object of the content `revision` (a text for people) and `size` bytes, if that is
    /// known. Waits until the reader has seen the end of the one before.
    ///
    /// # Errors
    /// [`Destination`](ErrorKind::Destination) if the reader has gone or died,
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the object before has not ended.
    pub fn begin(&mut self, revision: &str, size: Option<u64>) -> Result<(), Error> {
        self.check_own()?;
        if self.begun.is_some() {
            let message = format!(
                "the object before in the shared ring {} has not ended",
                self.name()
            );
            return Err(Error::new(ErrorKind::InvalidArgument, "", message));
        }
        let number = self.marks.number.load(Ordering::Relaxed);
        if self.marks.reader.load(Ordering::Acquire) == GONE {
            return Err(self.ended(Ended::Died));
        }
        self.until(|marks| marks.seen.load(Ordering::Acquire) >= number)?;
        self.segment.companion().begin_next(revision);
        self.marks.size.store(size.unwrap_or(UNKNOWN), Ordering::Relaxed);
        self.marks.number.store(number + 1, Ordering::Release);
        self.segment.companion().notify();
        self.begun = Some(self.put);
        self.size = size;
        Ok(())
    }

    /// Puts `bytes` of the object after what was put; waits for the reader to make room, also for
    /// the reader to come.
    ///
    /// # Errors
    /// [`Destination`](ErrorKind::Destination) if the reader has gone or died,
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if no object was begun, or for more bytes
    /// than it has.
    pub fn put(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        let there = self.there()?;
        if self
            .size
            .is_some_and(|size| size - there.min(size) < bytes.len() as u64)
        {
            let message = format!(
                "more bytes for the shared ring {} than its object has",
                self.name()
            );
            return Err(Error::new(ErrorKind::InvalidArgument, "", message));
        }
        while !bytes.is_empty() {
            let room = self.room()?;
            let at = self.put % self.capacity;
            let count = room.min(self.capacity - at).min(bytes.len() as u64);
            // No more than `bytes` has.
            let (now, rest) = bytes.split_at(usize::try_from(count).unwrap_or(bytes.len()));
            let written = self.segment.write(now, MARKS + at);
            written.map_err(|cause| {
                cannot_make(
                    &format!("the next bytes of the shared ring {}", self.name()),
                    cause,
                )
            })?;
            self.put += count;
            self.segment.companion().raise(self.put);
            bytes = rest;
        }
        Ok(())
    }

    /// Reports to the reader how the object ended. If it ended well, waits until all of it was
    /// taken. Either way, another may be [begun](Self::begin).
    ///
    /// # Errors
    /// The object's error; [`Internal`](ErrorKind::Internal), which is then the object's, if it is
    /// said to be complete and has not its size; [`Destination`](ErrorKind::Destination) if the
    /// reader has gone or died before it took all; [`InvalidArgument`](ErrorKind::InvalidArgument)
    /// if no object was begun.
    pub fn end(&mut self, outcome: Result<(), &Error>) -> Result<(), Error> {
        let there = self.there()?;
        self.begun = None;
        let outcome = match (outcome, self.size) {
            (Ok(()), Some(size)) if there != size => {
                let message = format!("{there} of {size} bytes were put into the shared ring");
                Err(Error::new(ErrorKind::Internal, "", message))
            }
            (Ok(()), _) => Ok(()),
            (Err(error), _) => Err(error.clone()),
        };
        match outcome {
            Ok(()) => {
                self.segment.end(Companion::complete);
                self.until(|marks| marks.taken.load(Ordering::Acquire) == self.put)
            }
            Err(error) => {
                self.segment
                    .end(|companion| companion.fail(error.kind(), &error.to_line()));
                Err(error)
            }
        }
    }

    /// Puts all that `reader` reads, as one object: from [`begin`](Self::begin) to
    /// [`end`](Self::end).
    ///
    /// # Errors
    /// What the download failed with, of which the reader hears if it has not failed before the
    /// object was begun; or what those two say.
    ///
    /// # Panics
    /// If a function that `reader` calls does. The object has then failed for the ring's reader,
    /// and another may be begun.
    pub fn put_object(&mut self, reader: &mut BlockingReader) -> Result<(), Error> {
        let revision = reader.info()?.revision.to_string();
        self.begin(&revision, reader.total())?;
        let ring = Putting(self);
        let mut put_all = || {
            while let Some(lease) = reader.next_lease()? {
                ring.0.put(&lease)?;
            }
            Ok(())
        };
        let result: Result<(), Error> = put_all();
        ring.0.end(result.as_ref().copied())
    }

    /// Has an object that was begun and not ended fail for the reader.
    fn give_up(&mut self) {
        // In a forked child, the ring is the parent's.
        if self.begun.take().is_some() && self.segment.is_own() && self.segment.companion().state() == FILLING
        {
            self.segment.end(|companion| {
                companion.fail(ErrorKind::Cancelled, "given up by the process that wrote it")
            });
        }
    }

    /// As [`end`](Self::end), and no more objects come.
    ///
    /// # Errors
    /// As [`end`](Self::end).
    pub fn finish(mut self, outcome: Result<(), &Error>) -> Result<(), Error> {
        self.end(outcome)
    }

    /// # Errors
    /// [`Forked`](ErrorKind::Forked) in a forked child, which has copies of everything but is not
    /// the one that writes.
    fn check_own(&self) -> Result<(), Error> {
        if self.segment.is_own() {
            return Ok(());
        }
        let message = format!("the shared ring {} is the parent's", self.name());
        Err(Error::new(ErrorKind::Forked, "", message))
    }

    /// Bytes of the object so far.
    fn there(&self) -> Result<u64, Error> {
        self.check_own()?;
        let begun = self.begun.ok_or_else(|| {
            let message = format!("no object was begun in the shared ring {}", self.name());
            Error::new(ErrorKind::InvalidArgument, "", message)
        });
        Ok(self.put - begun?)
    }

    /// Waits until there is room for a byte; returns for how many.
    fn room(&self) -> Result<u64, Error> {
        let used = |marks: &Marks| self.put.saturating_sub(marks.taken.load(Ordering::Acquire));
        self.until(|marks| used(marks) < self.capacity)?;
        Ok(self.capacity.saturating_sub(used(&self.marks)))
    }

    /// Waits until the reader's marks are so.
    fn until(&self, is: impl Fn(&Marks) -> bool) -> Result<(), Error> {
        let marks = &**self.marks;
        let reader = || marks.reader.load(Ordering::Acquire);
        let look = || {
            // In this order: what a reader did before it went counts.
            let has_gone = reader() == GONE;
            if is(marks) {
                Some(Ok(()))
            } else {
                has_gone.then_some(Err(Ended::Died))
            }
        };
        // One that has not come yet is not dead.
        let is_alive = || reader() != THERE || self.segment.has(Byte::Reads);
        wait::until(&marks.notices, None, &*self.stop, is_alive, look).map_err(|why| self.ended(why))
    }

    fn ended(&self, why: Ended) -> Error {
        let (kind, how) = match why {
            Ended::System(cause) => {
                return Error::with_cause(ErrorKind::Internal, "", "cannot wait on shared memory", cause);
            }
            Ended::Stopped => (ErrorKind::Cancelled, "was waited for, and that was stopped"),
            _ if self.marks.reader.load(Ordering::Acquire) == GONE => (ErrorKind::Destination, "has gone"),
            _ => (ErrorKind::Destination, "died"),
        };
        let message = format!("the reader of the shared ring {} {how}", self.name());
        Error::new(kind, "", message)
    }
}

/// Ends the object also when the code that puts its bytes panics: the reader would wait for them as
/// long as the ring lives.
struct Putting<'a>(&'a mut RingWriter);

impl Drop for Putting<'_> {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

impl Drop for RingWriter {
    fn drop(&mut self) {
        self.reserve.stop();
        // In a forked child, the ring is the parent's.
        if !self.segment.is_own() {
            return;
        }
        self.give_up();
        self.marks.closed.store(1, Ordering::Release);
        self.segment.companion().notify();
    }
}

impl fmt::Debug for RingWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RingWriter({}, {} bytes put)", self.name(), self.put)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RingReader;

    #[test]
    fn a_reader_who_is_there_before_the_room_hears_that_there_is_none() {
        // More than a machine has.
        const CAPACITY: u64 = 1 << 42;
        let segment = Segment::create(None, Kind::Ring, MARKS + CAPACITY, "").expect("a segment");
        let mut reader = RingReader::attach(segment.name()).expect("attached");
        let made = RingWriter::on(segment, CAPACITY, |cause| cannot_make("a ring", cause));
        assert_eq!(made.expect_err("no room").kind(), ErrorKind::Destination);
        for _ in 0..2 {
            let error = reader.next_object().expect_err("it failed");
            assert_eq!(error.kind(), ErrorKind::Destination, "{error}");
            assert!(error.to_line().contains("a ring cannot be made"), "{error}");
        }
    }
}
