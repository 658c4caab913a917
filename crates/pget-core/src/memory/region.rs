//! Memory of the caller's or of a destination's that chunks land in directly. Made by the download,
//! written through `Page`.
//!
//! Invariant: a region's memory is not touched after its last `Arc` is gone, and only then does its
//! owner get it back. Slots, pages and writers hold one, so that an attempt which cannot be stopped
//! (a blocking `pread`) keeps the memory until it is done: a lend ends with the call.

#![allow(
    unsafe_code,
    reason = "keeps a buffer alive, and its owner away from it, while writers may write to it"
)]

use std::{fmt, ops::Range, ptr::NonNull};

use tokio::sync::oneshot;

use super::block::{FreshBlocks, fault_in};

/// Returns the buffer, or signals that a borrowed one is free.
type Return = Box<dyn FnOnce() + Send>;

/// The fewest bytes whose pages are faulted in by a call of their own.
const WORTH_A_CALL: usize = 64 << 10;

pub(crate) struct Region {
    start: NonNull<u8>,
    length: usize,
    /// Huge pages to ask for, if no byte of it was touched before.
    fresh: Option<FreshBlocks>,
    /// Taken on drop.
    end: Option<Return>,
}

// SAFETY: the region is an address; its memory is written through `Page`, under the rules at
// the head of `memory`.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// A region in a buffer that it owns until it is dropped; then the receiver gets the buffer.
    pub(crate) fn owning<B: AsMut<[u8]> + Send + 'static>(buffer: B) -> (Self, oneshot::Receiver<B>) {
        let (sender, receiver) = oneshot::channel();
        // If no caller waits for it, it is freed.
        let region = Self::keeping(buffer, move |buffer| drop(sender.send(buffer)));
        (region, receiver)
    }

    /// A region in a buffer that it owns until it is dropped; then `end` gets the buffer.
    pub(crate) fn keeping<B: AsMut<[u8]> + Send + 'static>(
        buffer: B,
        end: impl FnOnce(B) + Send + 'static,
    ) -> Self {
        // From here on the buffer is only reached through this pointer: moving a `Box` would claim
        // its content for the new place.
        let owned = Owned(Box::into_raw(Box::new(buffer)));
        // SAFETY: just made from a box, and not shared yet.
        let bytes = unsafe { &mut *owned.0 }.as_mut();
        let (start, length) = (NonNull::from(&mut *bytes).cast(), bytes.len());
        Self {
            start,
            length,
            fresh: None,
            end: Some(Box::new(move || end(owned.into_inner()))),
        }
    }

    /// Notes that its memory was only just allocated: pages are faulted in as bytes come.
    pub(crate) fn that_is_fresh(mut self) -> Self {
        self.fresh = Some(FreshBlocks::of(self.start, self.length));
        self
    }

    /// Prepares `range`, which lies in the region, for its first bytes.
    pub(super) fn prepare(&self, range: Range<usize>) {
        if let Some(fresh) = &self.fresh {
            // SAFETY: the region keeps this memory, for which the blocks were counted.
            unsafe { fresh.ask(self.start, range.clone()) };
        }
        if range.len() >= WORTH_A_CALL {
            // SAFETY: the range lies in the region.
            let start = unsafe { self.start.add(range.start) };
            // SAFETY: the region keeps this memory, which is about to be written to.
            unsafe { fault_in(start, range.len()) };
        }
    }

    /// A region in borrowed memory; the receiver hears when it is free.
    ///
    /// # Safety
    /// The caller neither touches `buffer` nor lets its borrow end before the receiver has been
    /// notified, or found the sender gone.
    pub(crate) unsafe fn borrowing(buffer: &mut [u8]) -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        let end = move || {
            // The caller may have stopped waiting.
            sender.send(()).ok();
        };
        // SAFETY: as the caller promises; `end`, and the sender with it, goes with the region.
        let region = unsafe { Self::borrowing_until(buffer, end) };
        (region, receiver)
    }

    /// A region in borrowed memory; `end` is called when it is free.
    ///
    /// # Safety
    /// The caller neither touches `buffer` nor lets its borrow end before `end` is gone, by its
    /// call or by a panic.
    pub(crate) unsafe fn borrowing_until(buffer: &mut [u8], end: impl FnOnce() + Send + 'static) -> Self {
        Self {
            start: NonNull::from(&mut *buffer).cast(),
            length: buffer.len(),
            fresh: None,
            end: Some(Box::new(end)),
        }
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Panics
    /// If they do not fit.
    ///
    /// # Safety
    /// No other code reads or writes these bytes of the region during the call.
    pub(crate) unsafe fn copy_in(&self, offset: usize, bytes: &[u8]) {
        assert!(
            offset
                .checked_add(bytes.len())
                .is_some_and(|end| end <= self.length),
            "{} bytes at {offset} lie outside of a region of {}",
            bytes.len(),
            self.length
        );
        // SAFETY: it lies in the region (checked above).
        let place = unsafe { self.start.as_ptr().add(offset) };
        // SAFETY: there is room for them (checked above), and no other code has that room, as the
        // caller promises: so `bytes` lie elsewhere.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
    }

    /// The bytes `range`.
    ///
    /// # Panics
    /// If they lie outside of it.
    ///
    /// # Safety
    /// All of `range` was written, nothing writes there while the slice lives, and both is known
    /// across threads (by a lock, or an `Acquire` of what was released after the bytes).
    pub(crate) unsafe fn landed(&self, range: Range<usize>) -> &[u8] {
        assert!(
            range.start <= range.end && range.end <= self.length,
            "{range:?} in a region of {}",
            self.length
        );
        // SAFETY: it lies in the region (checked above).
        let start = unsafe { self.start.as_ptr().add(range.start) };
        // SAFETY: in bounds, in memory that this region keeps; initialised and not being written,
        // as the caller promises.
        unsafe { std::slice::from_raw_parts(start, range.len()) }
    }

    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    pub(super) const fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end();
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({} bytes)", self.length)
    }
}

/// A box by its raw pointer.
struct Owned<B>(*mut B);

// SAFETY: it owns a `B`, as a box does.
unsafe impl<B: Send> Send for Owned<B> {}

impl<B> Owned<B> {
    fn into_inner(self) -> B {
        let pointer = self.0;
        std::mem::forget(self);
        // SAFETY: made by `Box::into_raw`, and given up only here or in `drop`.
        *unsafe { Box::from_raw(pointer) }
    }
}

impl<B> Drop for Owned<B> {
    fn drop(&mut self) {
        // SAFETY: as in `into_inner`.
        drop(unsafe { Box::from_raw(self.0) });
    }
}
