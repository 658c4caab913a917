//! Where the bytes of one download go: the trait at which the engine and every delivery meet.
//!
//! The engine calls a [`Delivery`] and does not ask which one it is. It knows one thing of it, its
//! [`Order`]. The deliveries live in `crate::delivery`: `InOrder`, `IntoBuffer`, `IntoDestination`,
//! `IntoRanges`, each in the wrapper `Verified`.
//!
//! Invariants:
//! - `is_whole`, `wish`, `accept`, `memory_for` and `slot_memory` run under the download's lock, so
//!   they call no code of the caller's, and take no lock but their delivery's own;
//! - `begin`, `put`, `landed`, `read_back`, `settle` and `close` run under no lock;
//! - after the download has its outcome, `slot_memory` is not called, and `close` is.

use std::ops::Range;

use crate::{
    Error, ObjectInfo, SourceError, Verification, Verify,
    budget::Reservation,
    memory::{Slot, SlotMemory},
};

/// How the chunks of a download are consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// A reader takes them in order. A chunk holds its memory until the reader has taken it.
    InOrder,
    /// A chunk that is complete has landed where it is to be, and is consumed by that.
    Landing,
}

/// What the first reply says there is to deliver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer<'a> {
    pub(crate) object: &'a ObjectInfo,
    /// Offset of the first wanted byte.
    pub(crate) start: u64,
    /// Offset after the last wanted byte; `None` while only the body's end shows it.
    pub(crate) end: Option<u64>,
    /// All bytes of the object are wanted.
    pub(crate) all: bool,
}

/// Where the bytes of one download go. The provided methods are those of a reader in order.
pub(crate) trait Delivery: Send + Sync {
    /// Returns how chunks are consumed. It never changes.
    fn order(&self) -> Order;

    /// Returns whether all bytes of the object are there in the end, if the download brings `all`
    /// of them, or does not.
    fn is_whole(&self, all: bool) -> bool {
        all
    }

    /// Returns how much a request is to do for the object's published checksum, before a reply has
    /// been accepted.
    fn wish(&self, _all: bool) -> Verify {
        Verify::Off
    }

    /// Checks whether what the first reply offers can be delivered.
    ///
    /// # Errors
    /// The error of the attempt that brought the reply.
    fn accept(&self, _offer: &Offer<'_>) -> Result<(), SourceError> {
        Ok(())
    }

    /// Begins, after the first reply was accepted: once, before any byte.
    ///
    /// # Errors
    /// The error that the download ends with.
    fn begin(&self, _offer: &Offer<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Returns the memory that a chunk of `bytes` takes of the budget, in pages of `page` bytes.
    /// `None`: it lands in memory that is there already.
    fn memory_for(&self, bytes: u64, _page: usize) -> Option<u64> {
        Some(bytes)
    }

    /// Returns where the memory of a new slot for `range` is. `reserved` is what it may take.
    fn slot_memory(&self, _range: &Range<u64>, reserved: Option<Reservation>) -> SlotMemory {
        SlotMemory::Pages(reserved)
    }

    /// A source withholds its bytes until they are verified: a slot may need memory for all of its
    /// chunk from here on.
    fn withholds(&self) {}

    /// Puts `bytes` at `offset` of the object, where a slot's memory is [`SlotMemory::Put`]. Calls
    /// `publish` when they are there. `Ok(false)`: the delivery is closed, and they are not.
    ///
    /// # Errors
    /// The error that the download ends with.
    fn put(&self, _offset: u64, _bytes: &[u8], _publish: &mut dyn FnMut()) -> Result<bool, Error> {
        Ok(false)
    }

    /// `range` was received in the memory of `slot`, and is published.
    ///
    /// # Errors
    /// The error that the download ends with.
    fn landed(&self, _slot: &Slot, _range: Range<u64>) -> Result<(), Error> {
        Ok(())
    }

    /// Passes the bytes `range` of the object to `each`, through `buffer` if they must be copied.
    /// `Ok(false)`: they cannot be returned.
    ///
    /// The caller knows, by a lock that it has taken since, that all of them have landed or were
    /// there before; none of them is written again.
    ///
    /// # Errors
    /// If they cannot be read.
    fn read_back(
        &self,
        _range: Range<u64>,
        _buffer: &mut Vec<u8>,
        _each: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, Error> {
        Ok(false)
    }

    /// All has landed, and the object ends at `end`: does one piece of the work that is left.
    /// Returns whether there is more.
    ///
    /// # Errors
    /// The error that the download ends with.
    fn settle(&self, _end: u64) -> Result<bool, Error> {
        Ok(false)
    }

    /// Returns what came of verifying the bytes.
    fn verification(&self) -> Verification {
        Verification::Unknown
    }

    /// The download is over: returns all memory to its owners, and takes no more bytes. May be
    /// called again.
    fn close(&self) {}
}
