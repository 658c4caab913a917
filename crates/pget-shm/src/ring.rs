//! A stream in shared memory: what one process downloads in order, one other process reads, through a ring of bounded size.
//!
//! A ring is a segment like an object's, with the same companion (its length is the highest number, its watermark counts all bytes ever put). The data begin with a page of the reader's:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | bytes taken so far |
//! | 8 | 4 | notices: a futex word, counted up and woken when bytes are taken or the reader goes |
//! | 12 | 4 | the reader: 0 none yet, 1 there, 2 gone |
//! | 16 | 4,080 | 0 |
//!
//! and go on with the ring itself, where byte `n` of the stream is at `n % capacity`. Bytes between taken and the watermark are the reader's, all others the writer's: it puts none where
//! `watermark - taken` would be more than the capacity, so the two counters are all the marks there need be. Each end holds a lock of the companion while it lives (the writer byte 0, the reader byte 3)
//! and looks at the other's four times a second while it waits.
//!
//! The writer copies once, by `pwrite` into pages that are used again and again.

use std::{
    fmt,
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
};

use pget_core::{Error, ErrorKind};
use rustix::{
    io::Errno,
    thread::futex::{self, Timespec},
};

use crate::{
    buffer::{died, told},
    layout::{Companion, Kind},
    lock::{self, Byte},
    mapping::{Mapped, Mapping, OfAtomics},
    name::Posix,
    open::{Access, cannot_attach, open_segment},
    reserve::Reserve,
    segment::{Segment, cannot_make},
    wait::{self, Ended, LIVENESS},
};

const PAGE: usize = 4096;

const NONE: u32 = 0;
const THERE: u32 = 1;
const GONE: u32 = 2;

/// The reader's page.
#[repr(C)]
#[derive(Debug)]
struct Taken {
    bytes: AtomicU64,
    notices: AtomicU32,
    reader: AtomicU32,
    rest: [AtomicU8; PAGE - 16],
}

const _: () = assert!(size_of::<Taken>() == PAGE, "a page, and so without padding");

#[allow(unsafe_code, reason = "marks the page as made of atomics")]
// SAFETY: atomics only, and no padding, as the assertion says.
unsafe impl OfAtomics for Taken {}

impl Taken {
    fn notify(&self) {
        self.notices.fetch_add(1, Ordering::Release);
        // It can only fail for an address that is none.
        futex::wake(&self.notices, futex::Flags::empty(), u32::MAX >> 1).ok();
    }
}

/// Puts a stream into shared memory, at the pace of the one process that reads it. Dropping it without [`finish`](Self::finish) fails the stream for the reader.
pub struct RingWriter {
    segment: Segment,
    taken: Mapped<Taken>,
    capacity: u64,
    put: u64,
}

impl RingWriter {
    /// A ring of at least `capacity` bytes (rounded up to pages, at least one), all of them reserved, for a stream of the content `revision`; under a POSIX name that is free, or without one.
    ///
    /// # Errors
    /// [`Destination`](ErrorKind::Destination) if there is no room or the name is taken, [`InvalidArgument`](ErrorKind::InvalidArgument) for an unusable name.
    pub fn create(name: Option<&str>, capacity: usize, revision: &str) -> Result<Self, Error> {
        let posix = name.map(Posix::new).transpose()?;
        let what = format!("shared ring {}", name.unwrap_or("without a name"));
        let failed = |cause: io::Error| cannot_make(&what, cause);
        let capacity = capacity.max(1).checked_next_multiple_of(PAGE);
        let length = capacity.and_then(|capacity| capacity.checked_add(PAGE));
        let (Some(capacity), Some(length)) = (capacity, length) else {
            return Err(failed(Errno::NOMEM.into()));
        };
        let segment = Segment::create(posix.as_ref(), Kind::Ring, length as u64, revision)?;
        let made = || {
            let file: &Arc<File> = segment.data();
            Reserve::begin(file, 0, length as u64)?;
            Mapped::<Taken>::new(Mapping::writable(&**file, PAGE)?)
        };
        let taken = made().map_err(failed)?;
        Ok(Self {
            segment,
            taken,
            capacity: capacity as u64,
            put: 0,
        })
    }

    /// The name that the reader attaches by.
    #[must_use]
    pub fn name(&self) -> &str {
        self.segment.name()
    }

    /// Puts `bytes` behind what was put; waits for the reader to make room, also for the reader to come.
    ///
    /// # Errors
    /// [`Destination`](ErrorKind::Destination) if the reader has gone or died.
    pub fn put(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let at = self.put % self.capacity;
            let count = room.min(self.capacity - at).min(bytes.len() as u64);
            // No more than `bytes` has.
            let (now, rest) = bytes.split_at(usize::try_from(count).unwrap_or(bytes.len()));
            let written = self.segment.data().write_all_at(now, PAGE as u64 + at);
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

    /// Tells the reader how the stream ended. If it ended well, waits until all of it was taken.
    ///
    /// # Errors
    /// The stream's error; [`Destination`](ErrorKind::Destination) if the reader has gone or died before it took all.
    pub fn finish(self, outcome: Result<(), &Error>) -> Result<(), Error> {
        match outcome {
            Ok(()) => {
                self.segment.end(Companion::complete);
                self.until(|taken| taken == self.put)
            }
            Err(error) => {
                self.segment
                    .end(|companion| companion.fail(error.kind(), &error.to_line()));
                Err(error.clone())
            }
        }
    }

    /// Waits until there is room for a byte; gives for how many.
    fn room(&self) -> Result<u64, Error> {
        let used = |taken: u64| self.put.saturating_sub(taken);
        self.until(|taken| used(taken) < self.capacity)?;
        Ok(self.capacity - used(self.taken.bytes.load(Ordering::Acquire)))
    }

    /// Waits until what was taken `is` so.
    fn until(&self, is: impl Fn(u64) -> bool) -> Result<(), Error> {
        let gone = |how: &str| {
            let message = format!("the reader of the shared ring {} {how}", self.name());
            Err(Error::new(ErrorKind::Destination, "", message))
        };
        loop {
            let notice = self.taken.notices.load(Ordering::Acquire);
            if is(self.taken.bytes.load(Ordering::Acquire)) {
                return Ok(());
            }
            let reader = self.taken.reader.load(Ordering::Acquire);
            if reader == GONE {
                return gone("has gone before its end");
            }
            match futex::wait(&self.taken.notices, futex::Flags::empty(), notice, Some(&time())) {
                Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::TIMEDOUT) => {
                    let lives = || self.segment.has(Byte::Reads);
                    if reader == THERE && !lives() && !is(self.taken.bytes.load(Ordering::Acquire)) {
                        return gone("died");
                    }
                }
                Err(cause) => {
                    let message = "cannot wait on shared memory";
                    return Err(Error::with_cause(ErrorKind::Internal, "", message, cause));
                }
            }
        }
    }
}

fn time() -> Timespec {
    Timespec {
        tv_sec: 0,
        tv_nsec: LIVENESS.subsec_nanos().into(),
    }
}

impl Drop for RingWriter {
    fn drop(&mut self) {
        if self.segment.is_own() {
            self.segment.end(|companion| {
                companion.fail(ErrorKind::Cancelled, "given up by the process that wrote it")
            });
        }
    }
}

impl fmt::Debug for RingWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RingWriter({}, {} bytes put)", self.name(), self.put)
    }
}

/// Reads the stream that another process puts into a ring. Dropping it tells the writer.
pub struct RingReader {
    name: String,
    /// With the reader's lock.
    file: File,
    companion: Mapped<Companion>,
    taken: Mapped<Taken>,
    view: Mapping,
    /// Bytes lent by the last `next_bytes`.
    lent: u64,
    done: u64,
}

impl RingReader {
    /// Attaches to the ring of that name as its one reader.
    ///
    /// # Errors
    /// As [`SharedBuffer::attach`](crate::SharedBuffer::attach); [`Unavailable`](ErrorKind::Unavailable) if it has a reader, or had one that left off within.
    pub fn attach(name: &str) -> Result<Self, Error> {
        let opened = open_segment(name, Access::Both)?;
        let failed = |cause: io::Error| cannot_attach(name, cause);
        let attach = || {
            let (file, data) = opened;
            let companion = Mapped::<Companion>::new(Mapping::readable(&file, PAGE)?)?;
            companion.check(Some(Kind::Ring))?;
            let length = usize::try_from(data.metadata()?.len()).unwrap_or(usize::MAX);
            if length <= PAGE {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if !lock::alone(&file, Byte::Reads)? {
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, "it has a reader"));
            }
            let taken = Mapped::<Taken>::new(Mapping::writable(&data, PAGE)?)?;
            if taken.reader.swap(THERE, Ordering::AcqRel) != NONE {
                taken.reader.store(GONE, Ordering::Release);
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, "it had a reader"));
            }
            taken.notify();
            Ok(Self {
                name: name.to_owned(),
                file,
                companion,
                taken,
                view: Mapping::readable(&data, length)?,
                lent: 0,
                done: 0,
            })
        };
        attach().map_err(failed)
    }

    /// Which content of the object it is, for people.
    #[must_use]
    pub fn revision(&self) -> String {
        self.companion.revision()
    }

    /// The next bytes, without a copy, once there are any; `None` at the end. What the call before gave goes back to the writer.
    ///
    /// # Errors
    /// What the download failed with; [`Unavailable`](ErrorKind::Unavailable) if the writer died (noticed within half a second).
    pub fn next_bytes(&mut self) -> Result<Option<&[u8]>, Error> {
        self.give_back();
        let is_alive = || lock::is_held(&self.file, Byte::Alive).unwrap_or(true);
        match wait::wait(&self.companion, self.done + 1, None, &|| false, is_alive) {
            Ok(()) => {}
            Err(Ended::Failed) => return Err(told(&self.companion, &self.name)),
            Err(Ended::System(cause)) => {
                let message = "cannot wait on shared memory";
                return Err(Error::with_cause(ErrorKind::Internal, "", message, cause));
            }
            Err(_) => return Err(died(&self.name)),
        }
        let capacity = (self.view.len() - PAGE) as u64;
        let at = self.done % capacity;
        let there = self.companion.watermark().saturating_sub(self.done);
        self.lent = there.min(capacity - at);
        if self.lent == 0 {
            return Ok(None);
        }
        // Both lie within the mapping.
        let place = |offset: u64| PAGE + usize::try_from(offset).unwrap_or_default();
        #[allow(unsafe_code, reason = "lends mapped bytes that stay as they are")]
        // SAFETY: below the watermark and not given back, so the writer leaves them alone until the next call, which needs this borrow to have ended.
        let bytes = unsafe { self.view.bytes(place(at)..place(at + self.lent)) };
        Ok(Some(bytes))
    }

    fn give_back(&mut self) {
        if self.lent > 0 {
            self.done += self.lent;
            self.lent = 0;
            self.taken.bytes.store(self.done, Ordering::Release);
            self.taken.notify();
        }
    }
}

impl Drop for RingReader {
    fn drop(&mut self) {
        self.taken.reader.store(GONE, Ordering::Release);
        self.taken.notify();
    }
}

impl fmt::Debug for RingReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RingReader({}, {} bytes taken)", self.name, self.done)
    }
}
