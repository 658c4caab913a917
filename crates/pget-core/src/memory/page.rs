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
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicIsize, AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{
    block::{LARGE_PAGE, Memory, PAGE},
    region::Region,
};
use crate::fork::{Generation, PerProcess};

/// Bytes of free pages kept when no download is active, so that a download every now and then does
/// not pay for fresh memory each time.
const KEPT_IDLE: usize = 16 << 20;

/// Bytes of free pages kept while one is: more than any one of them takes by default, and no more,
/// however much a consumer has collected and lets go at once.
const KEPT: usize = 192 << 20;

/// A download receives into large pages until it begins a chunk while the process has this many
/// writers, so a process takes at most 24 MiB more than with small pages. Fewer wake-ups count
/// where a processor is the limit, and there a few connections are enough; where many are needed,
/// the network is the limit. It does not go back, as its free pages are small ones then.
const FEW: isize = 32;

/// The process-wide free pages.
#[derive(Default)]
pub(crate) struct Pool {
    free: Mutex<Free>,
    active: AtomicUsize,
    /// Writers of all downloads. A forked child drops writers that it has not counted.
    writers: AtomicIsize,
}

/// Last in, first out: the page freed last is the one most likely in cache.
#[derive(Default)]
struct Free {
    large: Vec<Memory>,
    small: Vec<Memory>,
}

impl Free {
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.large.len() * LARGE_PAGE + self.small.len() * PAGE
    }

    fn large(&mut self) -> Option<Memory> {
        if self.large.is_empty() {
            self.large = Memory::block().cut(LARGE_PAGE);
        }
        self.large.pop()
    }

    fn small(&mut self) -> Option<Memory> {
        if self.small.is_empty() {
            self.small = self.large()?.cut(PAGE);
        }
        self.small.pop()
    }

    /// Drops what is more than `most` bytes, small pages first: they were large ones, and cannot be
    /// again.
    fn keep(&mut self, most: usize) {
        let large = self.large.len().min(most / LARGE_PAGE);
        self.large.truncate(large);
        self.small.truncate((most - large * LARGE_PAGE) / PAGE);
        self.large.shrink_to(0);
        self.small.shrink_to(0);
    }

    /// Takes a page back, unless the pages of its kind are `most` bytes. Of all, more than that
    /// are dropped.
    fn put(&mut self, memory: Memory, most: usize) {
        let length = memory.len();
        let (list, others, other) = if length == PAGE {
            (&mut self.small, &mut self.large, LARGE_PAGE)
        } else {
            (&mut self.large, &mut self.small, PAGE)
        };
        let kept = (list.len() + 1) * length;
        if kept <= most {
            others.truncate((most - kept) / other);
            list.push(memory);
        }
    }
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

    /// Counts a writer. Returns whether there are many.
    fn writer_begins(&self) -> bool {
        self.writers.fetch_add(1, Ordering::Relaxed) >= FEW
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A piece of at least `length` bytes (at most [`LARGE_PAGE`]): pooled, unless it is less than
    /// a page, so that small objects take little.
    fn take(length: usize) -> Memory {
        let pooled = match length {
            ..PAGE => None,
            PAGE => Self::of_process().free().small(),
            _ => Self::of_process().free().large(),
        };
        pooled.unwrap_or_else(|| Memory::of(length))
    }

    fn put(memory: Memory) {
        if memory.len() < PAGE {
            return;
        }
        let pool = Self::of_process();
        let most = if pool.active.load(Ordering::Relaxed) > 0 {
            KEPT
        } else {
            KEPT_IDLE
        };
        pool.free().put(memory, most);
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
            pool.free().keep(KEPT_IDLE);
        }
    }
}

/// Counts the bytes of live pages of one download (what it buffers now, and the most it ever did),
/// and knows whether its pages are large.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    now: AtomicU64,
    peak: AtomicU64,
    had_many: AtomicBool,
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

    pub(super) fn writer_begins(&self) {
        if Pool::of_process().writer_begins() {
            self.had_many.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn writer_ends() {
        Pool::of_process().writers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns how many bytes a page has in memory of `length` bytes that is reserved now. The last
    /// page may have less.
    pub(crate) fn page(&self, length: u64) -> usize {
        const LARGE: u64 = LARGE_PAGE as u64;
        // What the last page does not use is little.
        let unused = length.next_multiple_of(LARGE) - length;
        let fits = length >= LARGE && unused <= length / 16;
        if fits && !self.had_many.load(Ordering::Relaxed) {
            LARGE_PAGE
        } else {
            PAGE
        }
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
    /// A page of at least `length` bytes (at most [`LARGE_PAGE`]).
    pub(crate) fn new(length: usize, gauge: Arc<Gauge>) -> Self {
        debug_assert!(
            length > 0 && length <= LARGE_PAGE,
            "a page holds 1 to {LARGE_PAGE} bytes, not {length}"
        );
        let memory = Pool::take(length);
        gauge.add(memory.len() as u64);
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
    /// As for [`unfilled`](Self::unfilled).
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
            // Bytes before `range` may have been put from another page.
            if (range.start..range.end).contains(&memory.initialised()) {
                // SAFETY: what lies before the mark is initialised, and what lies between it and
                // `range.end` has its zeros.
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
        let held = Pool::of_process().free();
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
        for length in [PAGE, LARGE_PAGE] {
            let pages: Vec<_> = (0..KEPT / length + 50)
                .map(|_| Page::new(length, Arc::clone(&gauge)))
                .collect();
            drop(pages);
            let free = Pool::of_process().free().bytes();
            assert!(free <= KEPT, "{free} bytes without a use");
        }
        let mut free = Free::default();
        for kept in [8 * LARGE_PAGE, 3 * LARGE_PAGE + PAGE, 2 * PAGE, 0] {
            free.large
                .extend((0..8).flat_map(|_| Memory::block().cut(LARGE_PAGE)));
            free.small.extend(Memory::block().cut(PAGE));
            free.keep(kept);
            assert!(free.bytes() <= kept && free.bytes() + LARGE_PAGE > kept);
        }
    }

    #[test]
    fn pages_that_come_back_make_room_among_the_other_kind() {
        let most = 4 * LARGE_PAGE;
        let mut free = Free::default();
        for large in [true, false, true] {
            let length = if large { LARGE_PAGE } else { PAGE };
            for page in (0..4).flat_map(|_| Memory::block().cut(length)) {
                free.put(page, most);
                assert!(free.bytes() <= most);
            }
            let of_kind = if large {
                free.large.len() * LARGE_PAGE
            } else {
                free.small.len() * PAGE
            };
            assert_eq!(of_kind, most, "the kind that is in use is kept");
        }
    }

    #[test]
    fn few_writers_have_large_pages_where_they_fit() {
        const LARGE: u64 = LARGE_PAGE as u64;
        let gauge = Gauge::default();
        let pages = [
            (1, PAGE),
            (LARGE - 1, PAGE),
            (LARGE, LARGE_PAGE),
            (LARGE + 1, PAGE),
            (3 * LARGE, LARGE_PAGE),
            (4 * LARGE + 1, PAGE),
            (16 * LARGE + 1, LARGE_PAGE),
            (15 * LARGE - 1, LARGE_PAGE),
        ];
        for (length, page) in pages {
            assert_eq!(gauge.page(length), page, "{length}");
        }
        let pool = Pool::default();
        for writers in 0..FEW {
            assert!(!pool.writer_begins(), "{writers}");
        }
        assert!(pool.writer_begins());
        gauge.had_many.store(true, Ordering::Relaxed);
        assert_eq!(gauge.page(LARGE), PAGE);
    }

    #[test]
    fn large_pages_are_cut_when_small_ones_are_wanted() {
        let mut free = Free::default();
        let large = [free.large(), free.large()];
        assert_eq!(free.bytes(), 0, "a block has two");
        free.large.extend(large.into_iter().flatten());
        let small: Vec<_> = (0..8).map_while(|_| free.small()).collect();
        assert_eq!((small.len(), free.bytes()), (8, 0), "no other block is needed");
    }
}
