//! A download's way into a segment, which is made when the first reply says how long the object
//! is.

use std::{
    fmt,
    ops::Range,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use pget_core::{Destination, Error, ErrorKind, Keeps, ObjectInfo, Transfer};

use crate::{Filler, Placement, SharedBuffer};

type Made = Box<dyn FnOnce(SharedBuffer) + Send>;

/// Makes a segment for what a download brings, and fills it.
pub struct IntoShared {
    /// Taken when the segment is made.
    wanted: Mutex<Option<(Placement, Made)>>,
    filling: OnceLock<Filling>,
    /// Bytes go into memory that the download has itself, and can read there.
    is_lent: AtomicBool,
}

struct Filling {
    filler: Filler,
    /// Where in the object the segment begins.
    start: u64,
}

impl IntoShared {
    /// `made` is called once the segment is there, before any byte is; not if it never comes to be.
    /// It should be quick.
    pub fn new(placement: Placement, made: impl FnOnce(SharedBuffer) + Send + 'static) -> Self {
        Self {
            wanted: Mutex::new(Some((placement, Box::new(made)))),
            filling: OnceLock::new(),
            is_lent: AtomicBool::new(false),
        }
    }

    /// Reports to all readers of the segment how the download ended. To be called with the result
    /// of `read_to`; without, dropping this fails the segment.
    ///
    /// # Errors
    /// The download's, or what went wrong with the segment.
    pub fn finish(&self, outcome: Result<(), &Error>) -> Result<(), Error> {
        if self.filling.get().is_none() && outcome.is_ok() {
            // No bytes were asked for, so nothing is known of the object.
            self.make(0, 0, "unknown")?;
        }
        match self.filling.get() {
            Some(filling) => filling.filler.finish(outcome),
            None => {
                // A segment to be used again goes now, and not with the last of the download's
                // tasks.
                drop(self.taken());
                outcome.map_err(Error::clone)
            }
        }
    }

    fn taken(&self) -> Option<(Placement, Made)> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn make(&self, start: u64, length: u64, revision: &str) -> Result<(), Error> {
        let Some((placement, made)) = self.taken() else {
            return Err(Error::new(ErrorKind::Internal, "", "a segment is made once"));
        };
        let (buffer, filler) = SharedBuffer::create(placement, length, revision)?;
        // It was empty, or `wanted` would be.
        drop(self.filling.set(Filling { filler, start }));
        made(buffer);
        Ok(())
    }

    fn filling(&self) -> Result<&Filling, Error> {
        self.filling
            .get()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "", "bytes before a segment for them"))
    }
}

impl Destination for IntoShared {
    fn check_extents(&self, extents: &[Range<u64>]) -> Result<(), Error> {
        let mut wanted: Vec<_> = extents.iter().filter(|extent| !extent.is_empty()).collect();
        wanted.sort_unstable_by_key(|extent| extent.start);
        let mut end = wanted.first().map_or(0, |first| first.start);
        for extent in wanted {
            if extent.start > end {
                // Who reads the segment knows one number, how much is there from its start on.
                let message = format!(
                    "shared memory takes bytes without a gap, and none from {end} to {} are wanted",
                    extent.start
                );
                return Err(Error::new(ErrorKind::Unsupported, "", message));
            }
            end = end.max(extent.end);
        }
        Ok(())
    }

    fn begin(&self, object: &ObjectInfo, start: u64, end: Option<u64>) -> Result<Transfer, Error> {
        let Some(end) = end else {
            let message = "shared memory needs to know the object's size, which the server does not say";
            return Err(Error::new(ErrorKind::Unsupported, "", message));
        };
        self.make(start, end.saturating_sub(start), &object.revision.to_string())?;
        Ok(match self.filling()?.filler.lend() {
            Some(memory) => {
                self.is_lent.store(true, Ordering::Relaxed);
                Transfer::Memory(Box::new(memory))
            }
            None => Transfer::Put,
        })
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let filling = self.filling()?;
        filling.filler.put(offset.wrapping_sub(filling.start), bytes)
    }

    fn landed(&self, range: Range<u64>) -> Result<(), Error> {
        let filling = self.filling()?;
        let from_start = |offset: u64| offset.saturating_sub(filling.start);
        filling
            .filler
            .landed(from_start(range.start)..from_start(range.end));
        filling.filler.check_open()
    }

    fn keeps(&self) -> Keeps {
        if self.is_lent.load(Ordering::Relaxed) {
            Keeps::Nothing
        } else {
            Keeps::Landed
        }
    }

    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let filling = self.filling()?;
        filling
            .filler
            .read_back(offset.wrapping_sub(filling.start), buffer)
    }
}

impl fmt::Debug for IntoShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filler = self.filling.get().map(|filling| &filling.filler);
        f.debug_struct("IntoShared").field("filler", &filler).finish()
    }
}
