//! The end that takes.

use std::{
    fmt,
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use pget_core::{Error, ErrorKind};

use super::{GONE, Marks, NONE, PAGE, THERE, UNKNOWN};
use crate::{
    buffer::{died, told},
    descriptors::{OwnOnly, Since},
    layout::{Companion, FAILED, Kind},
    lock::{self, Byte},
    mapping::{Mapped, Mapping},
    open::{Access, cannot_attach, not_ours, open_segment},
    wait::{self, Ended},
    waker::{Waker, Wakes},
};

/// An object of a ring, as its writer describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingObject {
    /// Which content it is, for people.
    pub revision: String,
    /// How many bytes come, if that is known. An object that ends well has had as many.
    pub size: Option<u64>,
}

/// Reads the objects that another process puts into a ring: [`next_object`](Self::next_object),
/// then [`next_bytes`](Self::next_bytes) until no more come, and so on. The writer notices its
/// drop.
pub struct RingReader {
    name: String,
    /// The companion's descriptor, with the reader's lock; a forked child has none.
    reads: OwnOnly,
    companion: Arc<Mapped<Companion>>,
    marks: Mapped<Marks>,
    view: Mapping,
    /// Bytes lent by the last `next_bytes`.
    lent: u64,
    done: u64,
    /// The object's number.
    number: u64,
    at: At,
}

/// Where in an object the reader is.
#[derive(Debug)]
enum At {
    /// Before the first.
    Before,
    Within,
    /// Within one whose rest is wanted no more: some of it may be gone, so none of it is given.
    Passing,
    /// It ended so, for a call that asks for its bytes. The companion may describe the next one
    /// already.
    End(Result<(), Error>),
}

impl RingReader {
    /// Attaches to the ring of that name as its one reader.
    ///
    /// # Errors
    /// As [`SharedBuffer::attach`](crate::SharedBuffer::attach);
    /// [`Unavailable`](ErrorKind::Unavailable) if it has a reader, or had one.
    pub fn attach(name: &str) -> Result<Self, Error> {
        let failed = |cause: io::Error| cannot_attach(name, cause);
        loop {
            let since = Since::now().map_err(failed)?;
            let (file, data) = open_segment(name, Access::Both)?;
            if let Some(reader) = Self::of_files(since, name, file, &data).map_err(failed)? {
                return Ok(reader);
            }
        }
    }

    /// `None` if a child was forked in between: it may have a copy of the descriptor that is to
    /// hold the lock, and would hold it for a dead parent.
    fn of_files(since: Since, name: &str, file: File, data: &File) -> io::Result<Option<Self>> {
        let companion = Mapped::<Companion>::new(Mapping::readable(&file, PAGE)?)?;
        companion.check(Some(Kind::Ring))?;
        companion.check_open()?;
        let meta = data.metadata()?;
        let length = usize::try_from(meta.len()).unwrap_or(usize::MAX);
        // Between the two opens, the name may have gone to another ring, whose one reader this must
        // not be taken for.
        if length <= PAGE || companion.inode() != meta.ino() {
            return Err(not_ours("its two parts do not fit each other"));
        }
        let reads = OwnOnly::new(OwnedFd::from(file));
        let Some(file) = reads.get().filter(|_| since.is_unforked()) else {
            return Ok(None);
        };
        if !lock::alone(file, Byte::Reads)? {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "it has a reader"));
        }
        let marks = Mapped::<Marks>::new(Mapping::writable(data, PAGE)?)?;
        let view = Mapping::readable(data, length)?;
        if marks.reader.swap(THERE, Ordering::AcqRel) != NONE {
            marks.reader.store(GONE, Ordering::Release);
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "it had a reader"));
        }
        marks.notify();
        Ok(Some(Self {
            name: name.to_owned(),
            reads,
            companion: Arc::new(companion),
            marks,
            view,
            lent: 0,
            done: 0,
            number: 0,
            at: At::Before,
        }))
    }

    /// The name that it attached by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What wakes this end.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker(Wakes::Companion(Arc::clone(&self.companion)))
    }

    /// The next object, once there is one; `None` if no more come. What is left of the one before
    /// is passed over as it comes, whether it ends well or not. That begins with the call, however
    /// the call ends: [`next_bytes`](Self::next_bytes) returns no more of that object.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the writer died (noticed within half a second).
    pub fn next_object(&mut self) -> Result<Option<RingObject>, Error> {
        self.next_object_unless(None, &|| false)
    }

    /// As [`next_object`](Self::next_object), until `deadline` at the latest if there is one, and
    /// until `stop` says so: it is asked before each sleep, and four times a second; the code that
    /// changes what it says calls [`Waker::wake`] for it to be noticed earlier. It may be called
    /// again after either, and goes on to pass over what is left.
    ///
    /// # Errors
    /// As [`next_object`](Self::next_object); [`Timeout`](ErrorKind::Timeout) after the deadline,
    /// [`Cancelled`](ErrorKind::Cancelled) if it was stopped.
    pub fn next_object_unless(
        &mut self,
        deadline: Option<Instant>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<RingObject>, Error> {
        self.check_own()?;
        if matches!(self.at, At::Within) {
            self.at = At::Passing;
        }
        while matches!(self.at, At::Passing) {
            match self.advance(deadline, stop) {
                Ok(true) => {}
                // Who has not had all of it must not take it for complete.
                Ok(false) => self.at = At::End(Err(self.passed_over())),
                Err(why @ (Ended::Late | Ended::Stopped)) => return Err(self.ended(why)),
                // A call that asks for its bytes gets its failure.
                Err(why) => self.at = At::End(Err(self.ended(why))),
            }
        }
        // The companion is the writer's from here on.
        if self.marks.seen.swap(self.number, Ordering::AcqRel) != self.number {
            self.marks.notify();
        }
        let look = || {
            // In this order: an object is begun before it fails, and the last one before the ring
            // is closed.
            let has_failed = self.companion.state() == FAILED;
            let is_closed = self.marks.closed.load(Ordering::Acquire) == 1;
            let number = self.marks.number.load(Ordering::Acquire);
            if number != self.number {
                return Some(Ok(Some(number)));
            }
            if number == 0 && has_failed {
                // The ring itself, which could not be made: no object has.
                return Some(Err(Ended::Failed));
            }
            is_closed.then_some(Ok(None))
        };
        let is_alive = || self.is_alive();
        let number = wait::until(self.companion.notices(), deadline, stop, is_alive, look)
            .map_err(|why| self.ended(why))?;
        let Some(number) = number else { return Ok(None) };
        self.number = number;
        self.at = At::Within;
        let size = self.marks.size.load(Ordering::Relaxed);
        Ok(Some(RingObject {
            revision: self.companion.revision(),
            size: (size != UNKNOWN).then_some(size),
        }))
    }

    /// The next bytes of the object, without a copy, once there are any; `None` at its end. What
    /// the call before gave goes back to the writer.
    ///
    /// # Errors
    /// What the download failed with, on every call until the next object;
    /// [`Unavailable`](ErrorKind::Unavailable) if the writer died (noticed within half a second);
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) before the first
    /// [object](Self::next_object), or if the next one was asked for and has not come.
    pub fn next_bytes(&mut self) -> Result<Option<&[u8]>, Error> {
        self.next_bytes_unless(None, &|| false)
    }

    /// As [`next_bytes`](Self::next_bytes), until `deadline` and unless `stop` says so, as
    /// [`next_object_unless`](Self::next_object_unless).
    ///
    /// # Errors
    /// As [`next_bytes`](Self::next_bytes); [`Timeout`](ErrorKind::Timeout) after the deadline,
    /// [`Cancelled`](ErrorKind::Cancelled) if it was stopped.
    pub fn next_bytes_unless(
        &mut self,
        deadline: Option<Instant>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<&[u8]>, Error> {
        self.check_own()?;
        match &self.at {
            At::Before => {
                let message = format!("no object of the shared ring {} was asked for", self.name);
                return Err(Error::new(ErrorKind::InvalidArgument, "", message));
            }
            At::Passing => return Err(self.passed_over()),
            At::End(how) => return how.clone().map(|()| None),
            At::Within => {}
        }
        match self.advance(deadline, stop) {
            Ok(true) => {}
            Ok(false) => {
                self.at = At::End(Ok(()));
                return Ok(None);
            }
            Err(why @ (Ended::Late | Ended::Stopped)) => return Err(self.ended(why)),
            Err(why) => {
                let error = self.ended(why);
                self.at = At::End(Err(error.clone()));
                return Err(error);
            }
        }
        let at = self.done % self.capacity();
        // Both lie within the mapping.
        let place = |offset: u64| PAGE + usize::try_from(offset).unwrap_or_default();
        #[allow(unsafe_code, reason = "lends mapped bytes that stay as they are")]
        // SAFETY: below the watermark and not given back, so the writer leaves them alone until the
        // next call, which needs this borrow to have ended.
        let bytes = unsafe { self.view.bytes(place(at)..place(at + self.lent)) };
        Ok(Some(bytes))
    }

    /// Returns what was lent, and takes the next bytes of the object once there are any: `lent`,
    /// from `done` on. False at its end.
    fn advance(&mut self, deadline: Option<Instant>, stop: &dyn Fn() -> bool) -> Result<bool, Ended> {
        self.give_back();
        let is_alive = || self.is_alive();
        wait::wait(&self.companion, self.done + 1, deadline, stop, is_alive)?;
        let there = self.companion.watermark().saturating_sub(self.done);
        let capacity = self.capacity();
        self.lent = there.min(capacity - self.done % capacity);
        Ok(self.lent > 0)
    }

    fn capacity(&self) -> u64 {
        (self.view.len() - PAGE) as u64
    }

    fn passed_over(&self) -> Error {
        let message = format!(
            "the rest of this object of the shared ring {} was passed over",
            self.name
        );
        Error::new(ErrorKind::InvalidArgument, "", message)
    }

    /// # Errors
    /// [`Forked`](ErrorKind::Forked) in a forked child: what it gave back would be taken from the
    /// parent, who still reads it.
    fn check_own(&self) -> Result<(), Error> {
        match self.reads.number() {
            Some(_) => Ok(()),
            None => Err(self.ended(Ended::Died)),
        }
    }

    fn give_back(&mut self) {
        if self.lent > 0 {
            self.done += self.lent;
            self.lent = 0;
            self.marks.taken.store(self.done, Ordering::Release);
            self.marks.notify();
        }
    }

    fn is_alive(&self) -> bool {
        // One that cannot be asked is not known to be dead. A forked child has nothing to ask by,
        // and is no reader.
        self.reads
            .get()
            .is_some_and(|companion| lock::is_held(companion, Byte::Alive).unwrap_or(true))
    }

    fn ended(&self, why: Ended) -> Error {
        match why {
            Ended::Failed => told(&self.companion, &self.name),
            Ended::Died if self.reads.number().is_none() => {
                let message = format!("the shared ring {} is the parent's", self.name);
                Error::new(ErrorKind::Forked, "", message)
            }
            Ended::Died => died(&self.name),
            Ended::Late => {
                let message = format!("waiting for the shared ring {}", self.name);
                Error::new(ErrorKind::Timeout, "", message)
            }
            Ended::Stopped => Error::new(ErrorKind::Cancelled, "", "the wait was stopped"),
            Ended::System(cause) => {
                Error::with_cause(ErrorKind::Internal, "", "cannot wait on shared memory", cause)
            }
        }
    }
}

impl Drop for RingReader {
    fn drop(&mut self) {
        // In a forked child, the reader is the parent.
        if self.reads.number().is_some() {
            self.marks.reader.store(GONE, Ordering::Release);
            self.marks.notify();
        }
    }
}

impl fmt::Debug for RingReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RingReader({}, {} bytes taken)", self.name, self.done)
    }
}
