//! Streams in shared memory: what one process downloads in order, one other process reads, through
//! a ring of bounded size; one object after another through the same ring.
//!
//! A ring is a segment like an object's, with the same companion (its length is the highest number,
//! its watermark counts all bytes ever put). The data begin with a page of marks:
//!
//! | offset | bytes | whose | what |
//! |---|---|---|---|
//! | 0 | 8 | reader's | bytes taken so far |
//! | 8 | 4 | both's | notices: a futex word, counted up and woken when bytes are taken, an end is seen, the reader goes, or the writer is to look whether to go on |
//! | 12 | 4 | reader's | the reader: 0 none yet, 1 there, 2 gone |
//! | 16 | 8 | reader's | the last object whose end it has seen |
//! | 24 | 8 | writer's | the object that is being put, counted from 1 |
//! | 32 | 8 | writer's | its bytes; the highest number if that is not known |
//! | 40 | 4 | writer's | 1: no more objects come |
//! | 44 | 4,052 | | 0 |
//!
//! and go on with the ring itself, where byte `n` of all that was ever put is at `n % capacity`.
//!
//! # Two counters are the ready marks
//!
//! What is put comes in order and without a gap. So what is ready is one run, and slots with a mark
//! each would say no more than its two ends: bytes between taken and the watermark are the
//! reader's, all others the writer's. It puts none where `watermark - taken` would be more than the
//! capacity: that is the backpressure. Neither counter ever goes back.
//!
//! # From object to object
//!
//! An object ends with the companion's state. When the reader has seen that, and says so, the
//! companion is the writer's to fill in again: revision, size, state, and last the object's number,
//! which the reader waits for. Until then it does not look at the companion's state. As all that
//! was put is taken then, the counters need no change.
//!
//! Each end holds a lock of the companion while it lives (the writer byte 0, the reader byte 3) and
//! looks at the other's four times a second while it waits.

mod reader;
mod writer;

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use rustix::thread::futex;

use crate::mapping::OfAtomics;

pub use reader::{RingObject, RingReader};
pub use writer::RingWriter;

const PAGE: usize = 4096;

/// Bytes of the marks, at the start of the data.
pub(crate) const MARKS: u64 = PAGE as u64;

/// What the mark of the reader says.
const NONE: u32 = 0;
const THERE: u32 = 1;
const GONE: u32 = 2;

/// A size that is not known.
const UNKNOWN: u64 = u64::MAX;

/// The page of marks.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Marks {
    taken: AtomicU64,
    notices: AtomicU32,
    reader: AtomicU32,
    seen: AtomicU64,
    number: AtomicU64,
    size: AtomicU64,
    closed: AtomicU32,
    rest: [AtomicU8; PAGE - 44],
}

const _: () = assert!(size_of::<Marks>() == PAGE, "a page, and so without padding");

#[allow(unsafe_code, reason = "marks the page as made of atomics")]
// SAFETY: atomics only, and no padding, as the assertion says.
unsafe impl OfAtomics for Marks {}

impl Marks {
    /// Has the writer look at what was changed: the marks, or whether it is to go on.
    pub(crate) fn notify(&self) {
        self.notices.fetch_add(1, Ordering::Release);
        // It can only fail for an invalid address.
        futex::wake(&self.notices, futex::Flags::empty(), u32::MAX >> 1).ok();
    }
}
