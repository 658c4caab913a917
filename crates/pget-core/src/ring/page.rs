//! Pages: fixed pieces of memory from a reusing pool. Called by `Slot` and `ChunkWriter` only.
//!
//! Invariant: a page's memory is in exactly one place: a live [`Page`], or the pool's free list.

#![allow(
    unsafe_code,
    reason = "one writer and many readers share a page; the argument is at the head of `ring`"
)]

use std::{
    cell::UnsafeCell,
    fmt,
    mem::MaybeUninit,
    ops::Range,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

/// Bytes in a page. Receives cost least from about 1 MiB up; smaller pieces cost more system calls, larger ones more cache.
pub const PAGE: usize = 1 << 20;

/// Free pages kept when no download is active, so that a download every now and then does not pay for fresh memory each time.
const KEPT_IDLE: usize = 16;

type Memory = Box<[MaybeUninit<UnsafeCell<u8>>]>;

/// The process-wide free list. Last in, first out: the page freed last is the one most likely in cache.
#[derive(Default)]
pub(crate) struct Pool {
    free: Mutex<Vec<Memory>>,
    active: AtomicUsize,
}

static POOL: LazyLock<Pool> = LazyLock::new(Pool::default);

impl Pool {
    /// Tells the pool that a download begins; its pages are kept for reuse until the returned guard is dropped.
    pub(crate) fn enter() -> PoolGuard {
        POOL.active.fetch_add(1, Ordering::Relaxed);
        PoolGuard(())
    }

    fn take() -> Memory {
        let reused = POOL.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        reused.unwrap_or_else(|| Box::new_uninit_slice(PAGE))
    }

    fn put(memory: Memory) {
        if memory.len() != PAGE {
            return;
        }
        let mut free = POOL.free.lock().unwrap_or_else(PoisonError::into_inner);
        if POOL.active.load(Ordering::Relaxed) > 0 || free.len() < KEPT_IDLE {
            free.push(memory);
        }
    }
}

/// While it lives, freed pages are kept for reuse.
pub(crate) struct PoolGuard(());

impl fmt::Debug for PoolGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PoolGuard")
    }
}

impl Drop for PoolGuard {
    fn drop(&mut self) {
        if POOL.active.fetch_sub(1, Ordering::Relaxed) == 1 {
            let mut free = POOL.free.lock().unwrap_or_else(PoisonError::into_inner);
            free.truncate(KEPT_IDLE);
            free.shrink_to(KEPT_IDLE);
        }
    }
}

/// Counts the bytes of live pages of one download: what it buffers now, and the most it ever did.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    now: AtomicU64,
    peak: AtomicU64,
}

impl Gauge {
    fn add(&self, bytes: u64) {
        let now = self.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(now, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

/// A piece of a slot's memory, shared by its slot, its writer and its leases.
pub(crate) struct Page {
    memory: Memory,
    gauge: Arc<Gauge>,
}

// SAFETY: bytes are written only through `unfilled` by the slot's one writer and read only through `filled` below the published watermark;
// the two sets are disjoint (see the head of `ring`), so sharing a page between threads shares no byte that is being written.
unsafe impl Sync for Page {}

impl Page {
    /// A page of `length` bytes (at most [`PAGE`]): pooled if it is a full one, of exactly that size if not, so that small objects take little.
    pub(crate) fn new(length: usize, gauge: Arc<Gauge>) -> Self {
        debug_assert!(
            length > 0 && length <= PAGE,
            "a page holds 1 to {PAGE} bytes, not {length}"
        );
        let memory = if length == PAGE {
            Pool::take()
        } else {
            Box::new_uninit_slice(length)
        };
        gauge.add(length as u64);
        Self { memory, gauge }
    }

    pub(crate) const fn len(&self) -> usize {
        self.memory.len()
    }

    /// The bytes `range` for writing.
    ///
    /// # Safety
    /// The caller is the slot's only writer, `range` lies at or behind the published watermark, and no other `&mut` to it is alive.
    #[allow(
        clippy::mut_from_ref,
        reason = "interior mutability; exclusiveness is the caller's promise"
    )]
    pub(crate) unsafe fn unfilled(&self, range: Range<usize>) -> &mut [MaybeUninit<u8>] {
        let part = &self.memory[range];
        // SAFETY: `part` is in bounds (sliced above), `MaybeUninit<UnsafeCell<u8>>` has the layout of `MaybeUninit<u8>` and permits mutation through a
        // shared reference; the caller promises that nobody else reads or writes these bytes.
        unsafe {
            std::slice::from_raw_parts_mut(part.as_ptr().cast::<MaybeUninit<u8>>().cast_mut(), part.len())
        }
    }

    /// The bytes `range` for reading.
    ///
    /// # Safety
    /// All of `range` was written before a watermark that the caller has loaded with `Acquire`.
    pub(crate) unsafe fn filled(&self, range: Range<usize>) -> &[u8] {
        let part = &self.memory[range];
        // SAFETY: in bounds (sliced above); initialised and never written again, as the caller promises.
        unsafe { std::slice::from_raw_parts(part.as_ptr().cast::<u8>(), part.len()) }
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Page({} bytes)", self.len())
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.gauge
            .now
            .fetch_sub(self.memory.len() as u64, Ordering::Relaxed);
        Pool::put(std::mem::take(&mut self.memory));
    }
}
