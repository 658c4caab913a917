//! What a writer may ask of the download that it writes for: one trait. Implemented by the
//! download's shared state and by [`Collector`](crate::Collector).

use std::{
    ops::Range,
    sync::Arc,
    task::{Context, Poll},
};

use super::slot::Slot;
use crate::{Reply, SourceError};

/// What the download answers to a reply that it accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// Bytes at the body's beginning that are not wanted (a reply that ignored the range).
    pub(crate) skip: u64,
    /// After the last byte wanted of this body; `None`: as far as it goes.
    pub(crate) end: Option<u64>,
}

/// The download that a writer writes for.
pub(crate) trait WriterEvents: Send + Sync {
    /// Holds a reply against the request and the pinned revision.
    fn accept_reply(&self, attempt: u64, reply: &Reply) -> Result<Accepted, SourceError>;

    /// Returns the slot after a full one, for a request that spans chunks; pending while the window
    /// is full.
    fn poll_next_slot(&self, attempt: u64, cx: &mut Context<'_>) -> Poll<Result<Arc<Slot>, SourceError>>;

    /// `range` of the object is filled in `slot` and published.
    fn published(&self, slot: &Slot, range: Range<u64>);

    /// Hands `bytes`, which belong at the watermark of `slot`, to the destination and publishes
    /// them. `false`: it takes nothing any more, the download is over.
    fn put(&self, slot: &Slot, bytes: &[u8]) -> bool;

    /// Ready while the consumer is at `slot`; else `cx` is woken when it gets there.
    fn poll_awaited(&self, slot: &Slot, cx: &mut Context<'_>) -> Poll<()> {
        let _ = (slot, cx);
        Poll::Ready(())
    }

    /// A request that spans chunks waited so long for the next slot.
    fn waited(&self, time: std::time::Duration) {
        let _ = time;
    }

    /// Replies are withheld: their slots need all the memory of a chunk.
    fn withholds(&self) {}

    /// A writer has let go of its slot. May be called under any lock: it must take none.
    fn writer_dropped(&self);
}
