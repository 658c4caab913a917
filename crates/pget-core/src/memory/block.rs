//! Where pages are cut from: blocks of two, each block a huge page of the machine where the kernel
//! provides one.
//!
//! First touch of fresh memory costs one fault for each 4 KiB, about twice what receiving into it
//! costs; with a huge page it is one fault for 2 MiB.
//!
//! Invariant: a [`Memory`] is the only way to its bytes; a block lives as long as a piece of it.

#![allow(
    unsafe_code,
    reason = "allocates memory at huge-page boundaries, which no safe container does"
)]

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    mem::MaybeUninit,
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Bytes in a page. Larger ones cost fewer system calls; smaller ones leave less of a chunk's
/// memory unused while the chunk is received, which counts where many are.
pub const PAGE: usize = 256 << 10;

/// A huge page on x86-64 and on aarch64 with 4 KiB pages.
const BLOCK: usize = 2 << 20;

const LAYOUT: Layout = match Layout::from_size_align(BLOCK, BLOCK) {
    Ok(layout) => layout,
    Err(_) => panic!("the size of a block is a power of two"),
};

struct Block(NonNull<u8>);

// SAFETY: a block is an address that it owns; its memory is reached through one `Memory` a
// byte.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    fn new() -> Self {
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc(LAYOUT) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(LAYOUT)
        };
        // SAFETY: the memory is this block's own and no code has touched it; advice changes no
        // content.
        let advised =
            unsafe { rustix::mm::madvise(start.as_ptr().cast(), BLOCK, rustix::mm::Advice::LinuxHugepage) };
        if let Err(error) = advised {
            tracing::trace!(%error, "no huge pages for slots");
        }
        Self(start)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout; no piece of it is left.
        unsafe { dealloc(self.0.as_ptr(), LAYOUT) };
    }
}

/// A piece of memory with one owner. It is not initialised when it is made.
pub(super) struct Memory {
    start: NonNull<MaybeUninit<u8>>,
    length: usize,
    /// Bytes from the start that are known to be initialised, by this owner or an earlier one.
    initialised: AtomicUsize,
    origin: Origin,
}

/// What a piece was cut from; kept for its drop.
enum Origin {
    Block(#[allow(dead_code, reason = "kept for its drop")] Arc<Block>),
    /// Of exactly this length, from `Box`.
    Boxed,
}

// SAFETY: it owns its bytes, as a box does.
unsafe impl Send for Memory {}

impl Memory {
    /// The pages of a fresh block.
    pub(super) fn pages() -> [Self; BLOCK / PAGE] {
        let block = Arc::new(Block::new());
        std::array::from_fn(|index| {
            // SAFETY: `index` counts the pages of a block, so this lies in it.
            let start = unsafe { block.0.add(index * PAGE) };
            Self {
                start: start.cast(),
                length: PAGE,
                initialised: AtomicUsize::new(0),
                origin: Origin::Block(Arc::clone(&block)),
            }
        })
    }

    /// A piece of `length` bytes.
    pub(super) fn of(length: usize) -> Self {
        let boxed = Box::<[u8]>::new_uninit_slice(length);
        let start = NonNull::from(Box::leak(boxed)).cast();
        Self {
            start,
            length,
            initialised: AtomicUsize::new(0),
            origin: Origin::Boxed,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.length
    }

    pub(super) fn initialised(&self) -> usize {
        self.initialised.load(Ordering::Relaxed)
    }

    /// Records that the first `bytes` bytes are initialised.
    ///
    /// # Safety
    /// They are.
    pub(super) unsafe fn set_initialised(&self, bytes: usize) {
        self.initialised.store(bytes, Ordering::Relaxed);
    }

    pub(super) const fn start(&self) -> NonNull<MaybeUninit<u8>> {
        self.start
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if matches!(self.origin, Origin::Boxed) {
            let slice = NonNull::slice_from_raw_parts(self.start, self.length);
            // SAFETY: leaked from a box of this length in `of`.
            drop(unsafe { Box::from_raw(slice.as_ptr()) });
        }
    }
}
