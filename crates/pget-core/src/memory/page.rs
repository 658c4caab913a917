//! Pages: fixed pieces of memory from a reusing pool. Called by `Slot` and `ChunkWriter` only.
//!
//! Invariant: a page's memory is in exactly one place: a live [`Page`], or the pool's free list.

#![allow(
    unsafe_code,
    reason = "one writer and many readers share a page; the argument is at the head of `memory`"
)]

use std::{
    fmt,
    mem::{ManuallyDrop, MaybeUninit},
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{
    block::{Memory, PAGE},
    region::Region,
};
use crate::fork::{Generation, PerProcess};

/// Free pages kept when no download is active, so that a download every now and then does not pay
/// for fresh memory each time.
const KEPT_IDLE: usize = 64;

/// Free pages kept while one is: more than any one of them takes by default, and no more, however
/// much a consumer has collected and lets go at once.
const KEPT: usize = 768;

/// The process-wide free list. Last in, first out: the page freed last is the one most likely in
/// cache.
#[derive(Default)]
pub(crate) struct Pool {
    free: Mutex<Vec<Memory>>,
    active: AtomicUsize,
}

static POOL: PerProcess<Pool> = PerProcess::new();

impl Pool {
    /// Notes that a download begins; freed pages are kept for reuse until the returned
    /// guard is dropped.
    pub(crate) fn enter() -> PoolGuard {
        let generation = Generation::current();
        Self::of_process().active.fetch_add(1, Ordering::Relaxed);
        PoolGuard(generation)
    }

    fn of_process() -> &'static Self {
        POOL.get_or_init(Self::default)
    }

    fn take() -> Memory {
        let mut free = Self::of_process()
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        free.pop().unwrap_or_else(|| {
            let [page, rest @ ..] = Memory::pages();
            free.extend(rest);
            page
        })
    }

    fn put(memory: Memory) {
        if memory.len() != PAGE {
            return;
        }
        let pool = Self::of_process();
        let mut free = pool.free.lock().unwrap_or_else(PoisonError::into_inner);
        let most = if pool.active.load(Ordering::Relaxed) > 0 {
            KEPT
        } else {
            KEPT_IDLE
        };
        if free.len() < most {
            free.push(memory);
        }
    }
}

/// While it lives, freed pages are kept for reuse.
pub(crate) struct PoolGuard(Generation);

impl fmt::Debug for PoolGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PoolGuard")
    }
}

impl Drop for PoolGuard {
    fn drop(&mut self) {
        if self.0.is_past() {
            // Counted in the parent's pool.
            return;
        }
        let pool = Pool::of_process();
        if pool.active.fetch_sub(1, Ordering::Relaxed) == 1 {
            let mut free = pool.free.lock().unwrap_or_else(PoisonError::into_inner);
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
    place: PageMemory,
    gauge: Arc<Gauge>,
}

/// Where a page's bytes are.
enum PageMemory {
    /// In memory of its own, counted by the gauge.
    Own(ManuallyDrop<Memory>),
    /// In the caller's, from this offset on.
    Lent {
        region: Arc<Region>,
        offset: usize,
        length: usize,
    },
}

// SAFETY: bytes are written only through `unfilled` by the slot's one writer and read only through
// `filled` below the published watermark; the two sets are disjoint (see the head of `memory`), so
// sharing a page between threads shares no byte that is being written.
unsafe impl Sync for Page {}

impl Page {
    /// A page of `length` bytes (at most [`PAGE`]): pooled if it is a full one, of exactly that
    /// size if not, so that small objects take little.
    pub(crate) fn new(length: usize, gauge: Arc<Gauge>) -> Self {
        debug_assert!(
            length > 0 && length <= PAGE,
            "a page holds 1 to {PAGE} bytes, not {length}"
        );
        let memory = if length == PAGE {
            Pool::take()
        } else {
            Memory::of(length)
        };
        gauge.add(length as u64);
        Self {
            place: PageMemory::Own(ManuallyDrop::new(memory)),
            gauge,
        }
    }

    /// A page of `length` bytes of the caller's memory.
    pub(crate) fn lent(region: Arc<Region>, offset: usize, length: usize, gauge: Arc<Gauge>) -> Self {
        let end = offset.checked_add(length);
        assert!(
            length > 0 && end.is_some_and(|end| end <= region.len()),
            "{length} bytes at {offset} lie outside of a region of {}",
            region.len()
        );
        region.prepare(offset..offset + length);
        Self {
            place: PageMemory::Lent {
                region,
                offset,
                length,
            },
            gauge,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.place {
            PageMemory::Own(memory) => memory.len(),
            PageMemory::Lent { length, .. } => *length,
        }
    }

    /// The address of the bytes `range`, which must lie in the page.
    fn at(&self, range: &Range<usize>) -> *mut MaybeUninit<u8> {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "{range:?} lies outside of a page of {}",
            self.len()
        );
        match &self.place {
            PageMemory::Own(memory) => {
                // SAFETY: `range.start` lies in the memory (checked above).
                unsafe { memory.start().as_ptr().add(range.start) }
            }
            PageMemory::Lent { region, offset, .. } => {
                // SAFETY: `offset + length` lies in the region (checked in `lent`), and
                // `range.start` in `length`.
                unsafe { region.start().as_ptr().add(offset + range.start).cast() }
            }
        }
    }

    /// The bytes `range` for writing.
    ///
    /// # Safety
    /// The caller is the slot's only writer, `range` lies at or after the published watermark, and
    /// no other `&mut` to it is alive.
    #[allow(
        clippy::mut_from_ref,
        reason = "interior mutability; exclusiveness is the caller's promise"
    )]
    pub(crate) unsafe fn unfilled(&self, range: Range<usize>) -> &mut [MaybeUninit<u8>] {
        // SAFETY: in bounds (`at` checks), in memory that this page keeps; the caller promises that
        // no other code reads or writes these bytes.
        unsafe { std::slice::from_raw_parts_mut(self.at(&range), range.len()) }
    }

    /// Returns the bytes `range` for writing, and initialises those that are not known to be: with
    /// zeros, once per piece of memory. Memory of the caller's is initialised in any case.
    ///
    /// # Safety
    /// As for [`unfilled`](Self::unfilled), and all bytes of the page before `range` were written.
    #[allow(
        clippy::mut_from_ref,
        reason = "interior mutability; exclusiveness is the caller's promise"
    )]
    pub(crate) unsafe fn unfilled_initialised(&self, range: Range<usize>) -> &mut [u8] {
        // SAFETY: as the caller promises.
        let room = unsafe { self.unfilled(range.clone()) };
        if let PageMemory::Own(memory) = &self.place {
            let known = memory.initialised().clamp(range.start, range.end);
            let fresh = &mut room[known - range.start..];
            // SAFETY: the slice is writable, and a zero is a byte.
            unsafe { fresh.as_mut_ptr().write_bytes(0, fresh.len()) };
            if memory.initialised() < range.end {
                // SAFETY: what lies before `range` was written, as the caller promises; the rest of
                // `range` has its zeros.
                unsafe { memory.set_initialised(range.end) };
            }
        }
        // SAFETY: bytes below the mark are initialised, and those from there on have their zeros.
        // A region was made of a `&mut [u8]`, and no safe code can make its bytes uninitialised.
        unsafe { room.assume_init_mut() }
    }

    /// The bytes `range` for reading.
    ///
    /// # Safety
    /// All of `range` was written before a watermark that the caller has loaded with `Acquire`.
    pub(crate) unsafe fn filled(&self, range: Range<usize>) -> &[u8] {
        // SAFETY: in bounds (`at` checks), in memory that this page keeps; initialised and never
        // written again, as the caller promises.
        unsafe { std::slice::from_raw_parts(self.at(&range).cast_const().cast::<u8>(), range.len()) }
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Page({} bytes)", self.len())
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if let PageMemory::Own(memory) = &mut self.place {
            self.gauge.now.fetch_sub(memory.len() as u64, Ordering::Relaxed);
            // SAFETY: dropped only here, where the page ends.
            Pool::put(unsafe { ManuallyDrop::take(memory) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_of_a_process_whose_pool_is_locked_takes_pages() {
        let gauge = Arc::new(Gauge::default());
        let (mut before, mut active) = (Some(Page::new(PAGE, Arc::clone(&gauge))), Some(Pool::enter()));
        let held = Pool::of_process()
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        pget_testkit::forked::in_child(std::time::Duration::from_secs(30), || {
            drop(Page::new(PAGE, Arc::clone(&gauge)));
            // The child's copies only.
            drop((active.take(), before.take()));
        });
        drop(held);
    }

    #[test]
    fn a_consumer_that_lets_go_of_much_at_once_leaves_a_bounded_pool() {
        let _active = Pool::enter();
        let gauge = Arc::new(Gauge::default());
        let pages: Vec<_> = (0..KEPT + 50)
            .map(|_| Page::new(PAGE, Arc::clone(&gauge)))
            .collect();
        drop(pages);
        let free = Pool::of_process()
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        assert!(free.len() <= KEPT, "{} MiB without a use", free.len());
    }
}
