//! The contract with a [`Destination`]: where bytes go that are neither read in order nor put in a
//! buffer of the caller's.

use std::{fmt, ops::Range};

use crate::{Error, ErrorKind, ObjectInfo};

/// Where a download's bytes go when they are neither read in order nor put in a buffer of the
/// caller's: a file, shared memory.
///
/// Called on the threads of the runtime that the download runs on, several at once, under no lock.
/// An error of a destination ends the download at once, and is its error: it should be a
/// [`Destination`](ErrorKind::Destination) one, with its cause. When `read_to` has returned, well
/// or not, the destination is called no more.
///
/// # Examples
/// Counts the zeros of an object without keeping it:
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use pget_core::{Destination, Error, ObjectInfo, Transfer};
///
/// #[derive(Debug, Default)]
/// struct Zeros(AtomicUsize);
///
/// impl Destination for Zeros {
///     fn begin(&self, _: &ObjectInfo, _: u64, _: Option<u64>) -> Result<Transfer, Error> {
///         Ok(Transfer::Put)
///     }
///
///     fn put(&self, _offset: u64, bytes: &[u8]) -> Result<(), Error> {
///         let zeros = bytes.iter().filter(|byte| **byte == 0).count();
///         self.0.fetch_add(zeros, Ordering::Relaxed);
///         Ok(())
///     }
/// }
///
/// # async fn example(download: pget_core::Download) -> Result<(), Error> {
/// let zeros = std::sync::Arc::new(Zeros::default());
/// download.read_to(zeros.clone()).await?;
/// println!("{} zeros", zeros.0.load(Ordering::Relaxed));
/// # Ok(())
/// # }
/// ```
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

    /// Returns the bytes that [`read_back`](Self::read_back) can return. It is called once, before
    /// anything else.
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

/// The bytes that a [`Destination`] can return.
///
/// They are needed for a checksum over bytes that arrived in another order, or before this
/// download.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keeps {
    /// Nothing. Memory of a [`Transfer::Memory`] is still read where it is.
    #[default]
    Nothing,
    /// The bytes that have landed.
    Landed,
    /// The bytes that have landed, and the rest of the object, which an earlier download has put
    /// there.
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
    /// As [`Memory`](Self::Memory), of which no byte was touched since it was allocated. The system
    /// is asked for huge pages where they are cheap, as the faults of small ones cost more than
    /// receiving does.
    Fresh(Box<dyn AsMut<[u8]> + Send>),
}

impl fmt::Debug for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "Put",
            Self::Memory(_) => "Memory",
            Self::Fresh(_) => "Fresh",
        })
    }
}
