//! Where pages are cut from: blocks, each of them a huge page of the machine where the kernel
//! provides one. [`FreshBlocks`] asks for the same in fresh memory of a caller's.
//!
//! First touch of fresh memory costs one fault for each 4 KiB, about twice what receiving into it
//! costs; with a huge page it is one fault for 2 MiB.
//!
//! Except where that one fault is dear: in a virtual machine that has returned its free memory to
//! the host, the host must find 2 MiB first, which takes 4.5 ms (2.3 s per GiB; 0.1 s where the
//! memory is there, 0.7 s in pages of 4 KiB). [`Faults`] measures the first touch of each block and
//! asks for no huge pages for a while after a dear one. It measures the thread's own time, so that
//! a touch that another process interrupted does not look dear.
//!
//! Invariant: a [`Memory`] is the only way to its bytes; a block lives as long as a piece of it.

#![allow(
    unsafe_code,
    reason = "allocates memory at huge-page boundaries, which no safe container does"
)]

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    mem::MaybeUninit,
    ops::Range,
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustix::mm::Advice;

/// Bytes in a page where many chunks are received at once: less of a chunk's memory is unused while
/// the chunk is received.
pub const PAGE: usize = 256 << 10;

/// Bytes in a page where few are: a page is received, and written, by one system call. Receives get
/// cheaper up to about this size.
pub const LARGE_PAGE: usize = 1 << 20;

/// A huge page on x86-64 and on aarch64 with 4 KiB pages.
const BLOCK: usize = 2 << 20;

const LAYOUT: Layout = match Layout::from_size_align(BLOCK, BLOCK) {
    Ok(layout) => layout,
    Err(_) => panic!("the size of a block is a power of two"),
};

/// The advice to back memory with a huge page; none where the system has none to give.
#[cfg(all(target_os = "linux", not(pget_portable)))]
const HUGE: Advice = Advice::LinuxHugepage;
#[cfg(not(all(target_os = "linux", not(pget_portable))))]
const HUGE: Advice = Advice::Normal;

/// The advice to fault memory in, which leaves what is in it; `None` where the system has none.
#[cfg(all(target_os = "linux", not(pget_portable)))]
const FAULT_IN: Option<Advice> = Some(Advice::LinuxPopulateWrite);
#[cfg(not(all(target_os = "linux", not(pget_portable))))]
const FAULT_IN: Option<Advice> = None;

/// The first touch of a block that takes longer costs more than all touches of small pages.
/// Measured on two virtual machines: 0.2 ms or 4.5 ms; small pages take 0.8 to 1.7 ms.
const DEAR: Duration = Duration::from_millis(1);

/// Blocks of small pages after a dear one; twice as many after each further one in a row.
const PAUSE: u32 = 4;
const LONGEST_PAUSE: u32 = 64;

/// Whether huge pages are cheap at the moment. Without a lock: a forked child goes on with it.
#[derive(Debug)]
struct Faults {
    /// Blocks of small pages before the next try.
    left: AtomicU32,
    /// How many there were before this try; 0 while huge pages are cheap.
    pause: AtomicU32,
}

static FAULTS: Faults = Faults::new();

/// The same for the memory of callers, of which there may be far more than the pool has.
static FRESH: Faults = Faults::new();

/// One block in small pages costs about 1.3 ms. The pause after a dear block is long enough that
/// the try costs a twentieth of that for each block in it. A host short of memory takes 20 ms.
const WORTH: Duration = Duration::from_micros(65);

impl Faults {
    const fn new() -> Self {
        Self {
            left: AtomicU32::new(0),
            pause: AtomicU32::new(0),
        }
    }

    /// Whether the next block should ask for a huge page.
    fn may_be_huge(&self) -> bool {
        let one_less = |left: u32| left.checked_sub(1);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_err()
    }

    /// Takes account of the first touch of a block that asked for a huge page.
    fn touched(&self, took: Duration) {
        if took <= DEAR {
            self.pause.store(0, Ordering::Relaxed);
            return;
        }
        let pause = self.pause.load(Ordering::Relaxed);
        let pause = pause.saturating_mul(2).clamp(PAUSE, LONGEST_PAUSE);
        self.pause.store(pause, Ordering::Relaxed);
        self.left.store(pause, Ordering::Relaxed);
    }
}

/// The blocks of fresh memory that is not of this module, each of which is asked for as the first
/// bytes come to it.
///
/// One at a time, because only the time that a block took shows whether the next is cheap.
#[derive(Debug)]
pub(super) struct FreshBlocks {
    /// The first block's place in the memory.
    first: usize,
    /// Whether a block was asked for.
    asked: Box<[AtomicBool]>,
}

impl FreshBlocks {
    /// The whole blocks of `length` bytes at `start`.
    pub(super) fn of(start: NonNull<u8>, length: usize) -> Self {
        let first = start.as_ptr().align_offset(BLOCK);
        let count = length.saturating_sub(first) / BLOCK;
        Self {
            first,
            asked: (0..count).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// Asks for huge pages for the blocks that have bytes of `range`, if these are the first.
    ///
    /// # Safety
    /// The memory that this was made for begins at `start` and is alive.
    pub(super) unsafe fn ask(&self, start: NonNull<u8>, range: Range<usize>) {
        let Some(fault_in) = FAULT_IN else { return };
        let blocks = range.start.saturating_sub(self.first) / BLOCK
            ..range.end.saturating_sub(self.first).div_ceil(BLOCK);
        for index in blocks.start..blocks.end.min(self.asked.len()) {
            if self.asked[index].swap(true, Ordering::Relaxed) || !FRESH.may_be_huge() {
                continue;
            }
            // SAFETY: the block lies in the memory, as `of` counted.
            let block = unsafe { start.add(self.first + index * BLOCK) };
            // SAFETY: the caller promises that it is alive. Advice changes no content, and so does
            // not disturb writers.
            let advised = unsafe { rustix::mm::madvise(block.as_ptr().cast(), BLOCK, HUGE) };
            if advised.is_err() {
                continue;
            }
            let began = spent();
            // SAFETY: as above: this faults pages in and leaves what is in them.
            let touched = unsafe { rustix::mm::madvise(block.as_ptr().cast(), BLOCK, fault_in) };
            // A kernel before 5.14 cannot; the first bytes then fault the block in.
            if touched.is_ok() {
                FRESH.touched_fresh(spent().saturating_sub(began));
            }
        }
    }
}

/// Faults in the pages of `length` bytes at `start` by one call, unless the page in their middle is
/// there: the pages of memory that was used before are, and walking over them costs 15 us for each
/// 256 KiB. What is in the pages stays.
///
/// # Safety
/// The memory is alive and may be written to.
pub(super) unsafe fn fault_in(start: NonNull<u8>, length: usize) {
    let Some(fault_in) = FAULT_IN else { return };
    let size = page_size();
    // The start of the page that has the byte at `offset`.
    let page = |offset: usize| {
        let byte = start.as_ptr().wrapping_add(offset);
        byte.wrapping_sub(byte.addr() % size)
    };
    let mut middle = 0_u8;
    // SAFETY: the middle page is of the memory, which the caller promises to be alive; the call
    // writes one byte for it.
    let status = unsafe { libc::mincore(page(length / 2).cast(), size, (&raw mut middle).cast()) };
    if status == 0 && middle & 1 == 1 {
        return;
    }
    let before = start.as_ptr().addr() - page(0).addr();
    // SAFETY: as above; the bytes before the memory are of the page that it begins in. The call
    // changes no content, and so does not disturb writers.
    let done = unsafe { rustix::mm::madvise(page(0).cast(), before + length, fault_in) };
    // A kernel before 5.14 cannot; each page is then faulted in by the first bytes.
    if let Err(error) = done {
        tracing::trace!(%error, "no pages in advance");
    }
}

/// Returns how many bytes a page of the system has.
///
/// By the C library: rustix would read the kernel's auxiliary vector, and what that says of the
/// process is not true under valgrind.
fn page_size() -> usize {
    // SAFETY: the call reads a constant of the system.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// Returns the processor's time that this thread has used.
///
/// By the C library: rustix would look for the kernel's own page of functions, which is not there
/// under valgrind.
fn spent() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes one `timespec`, which `time` is.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec)) else {
        return Duration::ZERO;
    };
    if failed == 0 {
        Duration::new(seconds, nanos)
    } else {
        Duration::ZERO
    }
}

impl Faults {
    /// As [`touched`](Self::touched), with a pause that fits what the touch has cost.
    fn touched_fresh(&self, took: Duration) {
        self.touched(took);
        if took > DEAR {
            let blocks = took.as_micros() / WORTH.as_micros();
            self.left
                .fetch_max(u32::try_from(blocks).unwrap_or(u32::MAX), Ordering::Relaxed);
        }
    }
}

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
        if FAULTS.may_be_huge() {
            // SAFETY: the memory is this block's own and no code has touched it; advice changes no
            // content.
            let advised = unsafe { rustix::mm::madvise(start.as_ptr().cast(), BLOCK, HUGE) };
            if let Err(error) = advised {
                tracing::trace!(%error, "no huge pages for slots");
            }
            let began = spent();
            // SAFETY: the first byte of the block, which no other code has an address of. Volatile,
            // as nothing reads it.
            unsafe { start.as_ptr().write_volatile(0) };
            FAULTS.touched(spent().saturating_sub(began));
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
    /// A fresh block, in one piece.
    pub(super) fn block() -> Self {
        let block = Block::new();
        Self {
            start: block.0.cast(),
            length: BLOCK,
            initialised: AtomicUsize::new(0),
            origin: Origin::Block(Arc::new(block)),
        }
    }

    /// Cuts a piece of a block into pages of `page` bytes; any other piece stays as it is.
    pub(super) fn cut(self, page: usize) -> Vec<Self> {
        let Origin::Block(block) = &self.origin else {
            return vec![self];
        };
        let initialised = self.initialised();
        let cut = (0..self.length).step_by(page).map(|offset| {
            // SAFETY: `offset` is less than this piece's length, so this lies in it.
            let start = unsafe { self.start.add(offset) };
            let length = page.min(self.length - offset);
            Self {
                start,
                length,
                initialised: AtomicUsize::new(initialised.saturating_sub(offset).min(length)),
                origin: Origin::Block(Arc::clone(block)),
            }
        });
        cut.collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for blocks until one may be huge; how many had to have small pages.
    fn small(faults: &Faults) -> u32 {
        (0..1_000).find(|_| faults.may_be_huge()).expect("it tries again")
    }

    #[test]
    fn huge_pages_are_asked_for_while_they_are_cheap() {
        let faults = Faults::new();
        let (cheap, dear) = (DEAR / 5, DEAR * 5);
        for _ in 0..10 {
            assert_eq!(small(&faults), 0);
            faults.touched(cheap);
        }
        for pause in [4, 8, 16, 32, 64, 64] {
            faults.touched(dear);
            assert_eq!(small(&faults), pause);
        }
        // Cheap again, and the next dear one is the first.
        faults.touched(cheap);
        assert_eq!(small(&faults), 0);
        faults.touched(dear);
        assert_eq!(small(&faults), PAUSE);
    }

    #[test]
    fn a_dear_try_in_fresh_memory_costs_little_of_what_follows() {
        for millis in [2, 5, 20, 100] {
            let (faults, took) = (Faults::new(), Duration::from_millis(millis));
            faults.touched_fresh(took);
            let blocks = (0..10_000)
                .find(|_| faults.may_be_huge())
                .expect("it tries again");
            assert!(took <= WORTH * (blocks + 1), "{millis} ms in {blocks} blocks");
            faults.touched_fresh(DEAR / 5);
            assert!(faults.may_be_huge(), "cheap again");
        }
    }

    #[cfg(all(target_os = "linux", not(pget_portable)))]
    #[test]
    fn fresh_blocks_are_asked_for_once_and_keep_what_is_in_them() {
        const PLACES: [usize; 4] = [0, BLOCK - 1, 3 * BLOCK, 5 * BLOCK + 99];
        for skipped in [0, 1, 4096, BLOCK - 1] {
            let mut memory = vec![0_u8; 6 * BLOCK + 100];
            let memory = &mut memory[skipped..];
            for place in PLACES {
                if let Some(byte) = memory.get_mut(place) {
                    *byte = 7;
                }
            }
            let before = memory.to_vec();
            let start = NonNull::from(&mut *memory).cast();
            let blocks = FreshBlocks::of(start, memory.len());
            let asked = |blocks: &FreshBlocks| {
                let asked = blocks.asked.iter().map(|asked| asked.load(Ordering::Relaxed));
                asked.collect::<Vec<_>>()
            };
            assert!((4..=6).contains(&blocks.asked.len()), "{skipped}");
            assert!(blocks.first + blocks.asked.len() * BLOCK <= memory.len());
            // One byte of the third block, then all, and beyond the last whole block.
            let third = blocks.first + 2 * BLOCK + 5;
            // SAFETY: the memory is there.
            unsafe { blocks.ask(start, third..third + 1) };
            let mut wanted = vec![false; blocks.asked.len()];
            wanted[2] = true;
            assert_eq!(asked(&blocks), wanted, "{skipped}");
            // SAFETY: as above.
            unsafe { blocks.ask(start, 0..memory.len()) };
            assert!(asked(&blocks).into_iter().all(|asked| asked));
            assert!(memory == before, "{skipped}: advice changed the content");
        }
        let mut short = vec![0_u8; BLOCK / 2];
        let start = NonNull::from(&mut *short).cast();
        let none = FreshBlocks::of(start, short.len());
        assert!(none.asked.is_empty());
        // SAFETY: as above.
        unsafe { none.ask(start, 0..short.len()) };
    }

    /// Which pages of `memory`, whose first byte begins a page, are there.
    #[cfg(all(target_os = "linux", not(pget_portable)))]
    fn present(memory: &[u8]) -> Vec<bool> {
        let mut pages = vec![0; memory.len().div_ceil(page_size())];
        let start = memory.as_ptr().cast_mut().cast();
        // SAFETY: the memory is alive, and there is one byte for each page of it.
        let status = unsafe { libc::mincore(start, memory.len(), pages.as_mut_ptr()) };
        assert_eq!(status, 0);
        pages.into_iter().map(|flags: u8| flags & 1 == 1).collect()
    }

    #[cfg(all(target_os = "linux", not(pget_portable)))]
    #[test]
    fn missing_pages_are_faulted_in_by_one_call() {
        use rustix::mm::{MapFlags, ProtFlags};

        let size = page_size();
        let length = 400 * size;
        // Not from the allocator, whose memory may have been used before.
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let start = unsafe {
            let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), length, access, flags)
        };
        let start = start.expect("a mapping");
        let small = Advice::LinuxNoHugepage;
        // SAFETY: the memory is alive, and the advice changes no content. A kernel without huge
        // pages refuses it.
        unsafe { rustix::mm::madvise(start, length, small) }.ok();
        // SAFETY: the mapping has these bytes, which nothing else has; it is never unmapped.
        let memory = unsafe { std::slice::from_raw_parts_mut(start.cast::<u8>(), length) };
        let fault = |memory: &mut [u8], range: Range<usize>| {
            let part = &mut memory[range];
            // SAFETY: the memory is alive and exclusive.
            unsafe { fault_in(NonNull::from(&mut *part).cast(), part.len()) };
        };
        // In the middle of a page, so that it begins and ends a page that is there in part.
        fault(memory, size + 100..65 * size + 100);
        let pages = present(memory);
        assert!(pages[1..66].iter().all(|&is_there| is_there), "{pages:?}");
        assert!(!pages[0] && !pages[66], "{pages:?}");
        // What is in them stays, also where a part is asked for again.
        memory[40 * size] = 7;
        fault(memory, size..201 * size);
        assert!(memory[40 * size] == 7 && memory[40 * size + 1] == 0);
        let pages = present(memory);
        assert!(pages[1..201].iter().all(|&is_there| is_there), "{pages:?}");
        // The page in the middle is there, so the others are left to the first bytes.
        fault(memory, 100 * size..300 * size);
        assert!(present(memory)[201..].iter().all(|&is_there| !is_there));
    }

    #[test]
    fn the_pages_of_a_block_are_apart() {
        let apart = |pages: &[Memory], length| {
            let starts: Vec<_> = pages.iter().map(|page| page.start().addr().get()).collect();
            assert!(
                starts.is_sorted_by(|one, next| one + length == *next),
                "{starts:?}"
            );
            assert!(pages.iter().all(|page| page.len() == length));
            starts
        };
        let pages = Memory::block().cut(LARGE_PAGE);
        let [first, second] = apart(&pages, LARGE_PAGE)[..] else {
            panic!("a block has two large pages");
        };
        assert!(pages.iter().all(|page| page.initialised() == 0));
        let [page, rest] = <[Memory; 2]>::try_from(pages).ok().expect("two");
        // SAFETY: no code reads what is said to be initialised.
        unsafe { page.set_initialised(PAGE + 9) };
        let cut = page.cut(PAGE);
        assert_eq!(apart(&cut, PAGE)[0], first);
        assert_eq!(cut.len(), LARGE_PAGE / PAGE);
        let initialised: Vec<_> = cut.iter().map(Memory::initialised).collect();
        assert_eq!(initialised, [PAGE, 9, 0, 0]);
        // The other page of the block is not touched by it.
        drop(cut);
        assert_eq!((rest.start().addr().get(), rest.len()), (second, LARGE_PAGE));
    }

    #[test]
    fn memory_that_is_of_no_block_is_not_cut() {
        let [memory] = <[Memory; 1]>::try_from(Memory::of(LARGE_PAGE).cut(PAGE))
            .ok()
            .expect("one piece");
        assert_eq!(memory.len(), LARGE_PAGE);
    }
}
