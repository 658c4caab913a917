//! The memory that chunks land in, the watermark that says how much of it is filled, and the view
//! lent to the consumer.
//!
//! A `Slot` holds one chunk. Its memory comes in *pages* of [`PAGE`] bytes, or of [`LARGE_PAGE`]
//! while few chunks are received at once, taken from a process-wide pool as bytes arrive and given
//! back as they are consumed, most recently used first, so that a consumer that keeps up touches
//! little memory (first touch of fresh memory costs more than receiving into it). Or the slot lies
//! in the caller's memory, where it is to stay. Or its bytes go to a destination, from one page of
//! the writer's own. A [`ChunkWriter`] is the only writer of a slot; a [`Lease`] is a view of
//! filled bytes.
//!
//! # Why this is sound
//!
//! Writer and consumer share a page. They never share a byte:
//!
//! 1. A slot has at most one writer: `Slot::claim` sets `claimed` by compare-and-swap, and only the
//!    writer's drop clears it. A cancelled or blocked source still owns its writer, so no other
//!    code can write before it is gone.
//! 2. The writer starts at the watermark and hands out `&mut` only to bytes at or after its
//!    position, which never is below the watermark.
//! 3. The writer stores the watermark with `Release` after the bytes before it were written; a
//!    lease covers bytes below a watermark loaded with `Acquire`, so it sees them initialised, and
//!    nothing writes below the watermark again. A page of the writer's own is never leased: the
//!    writer alone reads it, between two writes.
//! 4. A page goes back to the pool when the last `Arc` to it is dropped: the slot's, the writer's
//!    and every lease's.

mod block;
mod events;
mod lease;
mod page;
mod pulse;
mod region;
mod slot;
mod writer;

pub use block::{LARGE_PAGE, PAGE};
pub use lease::Lease;
pub use writer::ChunkWriter;

pub(crate) use events::{Accepted, WriterEvents};
pub(crate) use page::{Gauge, Pool, PoolGuard};
pub(crate) use pulse::Pulse;
pub(crate) use region::Region;
pub(crate) use slot::{Slot, SlotMemory};
