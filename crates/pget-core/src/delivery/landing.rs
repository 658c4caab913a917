//! What deliveries without a reader share: [`Landing`], memory that chunks are received in where
//! they are to be, and [`PutMemory`], the memory of chunks whose bytes are put.
//!
//! Invariant: the memory of a landing goes back to its owner when the delivery, and every slot,
//! page and writer that has it, has let go.

#![allow(unsafe_code, reason = "reads what has landed in a region, for a checksum")]

use std::{ops::Range, sync::Arc};

use crate::{
    memory::{Region, SlotMemory},
    sync::atomic::{AtomicBool, Ordering},
};

/// Memory whose first byte is the byte at `start` of the object.
#[derive(Clone, Debug)]
pub(crate) struct Landing {
    region: Arc<Region>,
    start: u64,
}

impl Landing {
    pub(crate) fn new(region: Region, start: u64) -> Self {
        Self {
            region: Arc::new(region),
            start,
        }
    }

    pub(crate) fn slot_memory(&self) -> SlotMemory {
        SlotMemory::Region(Arc::clone(&self.region), self.start)
    }

    /// Passes the bytes `range` of the object to `each`; `false` if they lie before the memory.
    ///
    /// They have landed, as [`Delivery::read_back`](crate::engine::delivery::Delivery::read_back)
    /// requires.
    pub(crate) fn read_back(&self, range: &Range<u64>, each: &mut dyn FnMut(&[u8])) -> bool {
        let start = range.start.checked_sub(self.start);
        let Some(start) = start.and_then(|start| usize::try_from(start).ok()) else {
            return false;
        };
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        // SAFETY: these bytes were reported after they were written, under a lock that the caller
        // has taken since (or, when it settles, all attempts have ended, as the tasks have reported
        // to the driver); what has landed is not written again.
        each(unsafe { self.region.landed(start..start.saturating_add(length)) });
        true
    }
}

/// The memory of a chunk whose bytes are put: one page, which is received into again and again, or
/// all of the chunk while its source withholds bytes.
#[derive(Debug, Default)]
pub(crate) struct PutMemory {
    withholds: AtomicBool,
}

impl PutMemory {
    pub(crate) fn withhold(&self) {
        self.withholds.store(true, Ordering::Relaxed);
    }

    /// Returns what a chunk of `bytes` takes, in pages of `page` bytes.
    pub(crate) fn of_chunk(&self, bytes: u64, page: usize) -> u64 {
        if self.withholds.load(Ordering::Relaxed) {
            bytes
        } else {
            bytes.min(page as u64)
        }
    }
}
