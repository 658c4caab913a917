//! A slot: the memory of one chunk and its watermark. Made by the download when a chunk's memory is
//! reserved; filled by one [`ChunkWriter`](super::ChunkWriter) at a time, read by the download's
//! one reader.

use std::{
    ops::Range,
    sync::{Arc, PoisonError},
    task::Context,
};

use futures_util::task::AtomicWaker;

use super::{
    block::LARGE_PAGE,
    lease::Lease,
    page::{Gauge, Page},
    region::Region,
};
use crate::{
    budget::Reservation,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

#[derive(Debug)]
pub(crate) struct Slot {
    chunk: u64,
    start: u64,
    /// After the chunk's last byte. Shrinks when the first reply states the object's end, never
    /// otherwise.
    end: AtomicU64,
    /// The watermark: bytes filled, counted from `start`.
    filled: AtomicU64,
    claimed: AtomicBool,
    pages: Mutex<Pages>,
    /// As its memory says.
    puts: AtomicBool,
    gauge: Arc<Gauge>,
    /// The writer, if it is to hear that the consumer has come to this slot.
    awaited: AtomicWaker,
}

#[derive(Debug)]
struct Pages {
    list: Vec<Option<Arc<Page>>>,
    /// Bytes in each but the last.
    length: usize,
    memory: SlotMemory,
}

impl Pages {
    /// Index of the page that holds byte `at` of the slot, and the offset of that page's first
    /// byte.
    fn place_of(&self, at: u64) -> (usize, u64) {
        let index = at / self.length as u64;
        let start = index * self.length as u64;
        (usize::try_from(index).unwrap_or(usize::MAX), start)
    }
}

/// Where a slot's memory is.
#[derive(Debug)]
pub(crate) enum SlotMemory {
    /// In pages, which count against this reservation.
    Pages(Option<Reservation>),
    /// Bytes are put to a destination from the writer's page, or from pages of the slot while they
    /// are withheld, which count against this reservation.
    Put(Option<Reservation>),
    /// In the caller's or a destination's memory, which begins with this offset of the object.
    Region(Arc<Region>, u64),
}

impl Default for SlotMemory {
    fn default() -> Self {
        Self::Pages(None)
    }
}

impl Slot {
    pub(crate) fn new(chunk: u64, range: Range<u64>, gauge: Arc<Gauge>, memory: SlotMemory) -> Arc<Self> {
        let length = page_length(&gauge, &range, &memory);
        Arc::new(Self {
            chunk,
            start: range.start,
            end: AtomicU64::new(range.end),
            filled: AtomicU64::new(0),
            claimed: AtomicBool::new(false),
            puts: AtomicBool::new(matches!(memory, SlotMemory::Put(_))),
            pages: Mutex::new(Pages {
                list: Vec::new(),
                length,
                memory,
            }),
            gauge,
            awaited: AtomicWaker::new(),
        })
    }

    pub(crate) const fn chunk(&self) -> u64 {
        self.chunk
    }

    pub(crate) const fn start(&self) -> u64 {
        self.start
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Has the writer's task woken when the consumer comes to this slot.
    pub(crate) fn register_writer(&self, cx: &Context<'_>) {
        self.awaited.register(cx.waker());
    }

    /// The consumer has come to this slot.
    pub(crate) fn wake_writer(&self) {
        self.awaited.wake();
    }

    /// The watermark as an offset in the object.
    pub(crate) fn position(&self) -> u64 {
        self.start + self.filled.load(Ordering::Acquire)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.position() == self.end()
    }

    /// Cuts the chunk to the object's end, and returns the memory reserved for what lies beyond.
    pub(crate) fn shrink_to(&self, end: u64) {
        if end < self.end() {
            self.end.store(end.max(self.start), Ordering::Release);
            if let SlotMemory::Pages(Some(reservation)) | SlotMemory::Put(Some(reservation)) =
                &mut self.pages().memory
            {
                reservation.shrink_to(end.saturating_sub(self.start));
            }
        }
    }

    /// Becomes the slot's one writer, or `false` while there is another.
    pub(super) fn claim(&self) -> bool {
        let is_claimed = self
            .claimed
            .compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if is_claimed {
            self.gauge.writer_begins();
        }
        is_claimed
    }

    /// The writer has let go. What lies elsewhere needs nothing here any more: what was withheld is
    /// forgotten or put, and a complete chunk is where it is to be.
    pub(super) fn release_writer(&self) {
        let mut pages = self.pages();
        let left = if matches!(pages.memory, SlotMemory::Pages(_)) {
            None
        } else {
            let list = std::mem::take(&mut pages.list);
            let memory = self
                .is_full()
                .then(|| std::mem::replace(&mut pages.memory, SlotMemory::Put(None)));
            Some((list, memory))
        };
        drop(pages);
        // Outside the lock: the last of a region calls its owner.
        drop(left);
        Gauge::writer_ends();
        // `SeqCst`, as the writer then asks whether anybody waits for this, and who waits says so
        // before looking at `is_claimed`.
        self.claimed.store(false, Ordering::SeqCst);
    }

    /// Whether it has a writer.
    pub(crate) fn is_claimed(&self) -> bool {
        self.claimed.load(Ordering::SeqCst)
    }

    /// Whether its bytes are put to a destination.
    pub(super) fn puts(&self) -> bool {
        self.puts.load(Ordering::Relaxed)
    }

    /// Publishes the watermark. `SeqCst`, as the writer then looks at the cursor, which the reader
    /// moves before it looks at the watermark: of the two, one must see the other's store, or a
    /// wake-up is lost.
    pub(crate) fn publish(&self, filled: u64) {
        debug_assert!(filled >= self.filled.load(Ordering::Relaxed) && self.start + filled <= self.end());
        self.filled.store(filled, Ordering::SeqCst);
    }

    pub(super) fn filled(&self) -> u64 {
        self.filled.load(Ordering::Acquire)
    }

    /// Moves the slot, in which there is nothing yet, to the memory that `place` returns for its
    /// reservation.
    pub(crate) fn move_to(&self, place: impl FnOnce(Option<Reservation>) -> SlotMemory) {
        let mut pages = self.pages();
        let reservation = match std::mem::take(&mut pages.memory) {
            SlotMemory::Pages(reservation) | SlotMemory::Put(reservation) => reservation,
            SlotMemory::Region(..) => None,
        };
        pages.memory = place(reservation);
        pages.length = page_length(&self.gauge, &(self.start..self.end()), &pages.memory);
        self.puts
            .store(matches!(pages.memory, SlotMemory::Put(_)), Ordering::Relaxed);
    }

    /// Drops its pages: nothing in them will be read any more.
    pub(super) fn clear(&self) {
        let left = std::mem::take(&mut self.pages().list);
        drop(left);
    }

    /// Bytes in each of its pages; the last may have fewer.
    pub(super) fn page_length(&self) -> usize {
        self.pages().length
    }

    /// A page of at least `length` bytes that only the writer has.
    pub(super) fn page_of_writer(&self, length: usize) -> Arc<Page> {
        Arc::new(Page::new(length, Arc::clone(&self.gauge)))
    }

    /// The page that holds byte `at` (counted from the slot's start) and that page's place in the
    /// slot; made if it is not there.
    pub(super) fn page_for_write(&self, at: u64) -> (Arc<Page>, u64) {
        let mut pages = self.pages();
        let (index, page_start) = pages.place_of(at);
        let length = (self.end() - self.start - page_start).min(pages.length as u64);
        let Pages { list, memory, .. } = &mut *pages;
        if list.len() <= index {
            list.resize_with(index + 1, || None);
        }
        let page = list[index].get_or_insert_with(|| {
            let (length, gauge) = (in_page(length), Arc::clone(&self.gauge));
            Arc::new(match memory {
                SlotMemory::Pages(_) | SlotMemory::Put(_) => Page::new(length, gauge),
                SlotMemory::Region(region, origin) => {
                    let offset = usize::try_from(self.start - *origin + page_start).unwrap_or(usize::MAX);
                    Page::lent(Arc::clone(region), offset, length, gauge)
                }
            })
        });
        (Arc::clone(page), page_start)
    }

    /// A view from byte `from` (an offset in the object) to the watermark or the end of its page,
    /// whichever comes first.
    pub(crate) fn lease(&self, from: u64) -> Option<Lease> {
        let at = from - self.start;
        // SeqCst for the same reason as in `publish`; it is an acquire, too.
        let filled = self.filled.load(Ordering::SeqCst);
        if at >= filled {
            return None;
        }
        let mut pages = self.pages();
        let (index, page_start) = pages.place_of(at);
        // Pages before this one are consumed. The writer and leases may still hold them; the slot
        // need not.
        for consumed in &mut pages.list[..index] {
            *consumed = None;
        }
        let page = Arc::clone(pages.list[index].as_ref()?);
        drop(pages);
        let until = filled.min(page_start + page.len() as u64);
        let range = in_page(at - page_start)..in_page(until - page_start);
        Some(Lease::new(page, range, from))
    }

    /// Views of `range` (offsets from the slot's start), page by page, for the slot's writer to
    /// read back what it wrote.
    pub(super) fn pages_of(&self, range: Range<u64>) -> Vec<(Arc<Page>, Range<usize>)> {
        let pages = self.pages();
        let mut at = range.start;
        let mut views = Vec::new();
        while at < range.end {
            let (index, page_start) = pages.place_of(at);
            let until = range.end.min(page_start + pages.length as u64);
            if let Some(page) = pages.list.get(index).and_then(Option::as_ref) {
                views.push((
                    Arc::clone(page),
                    in_page(at - page_start)..in_page(until - page_start),
                ));
            }
            at = until;
        }
        views
    }

    /// Views of `range` of the object, of which all is published and no page was given back: for
    /// who computes over bytes as they land.
    pub(crate) fn landed(&self, range: Range<u64>) -> Vec<Lease> {
        let filled = self.filled();
        let mut offset = range.start;
        let wanted = (range.start - self.start).min(filled)..(range.end - self.start).min(filled);
        let views = self.pages_of(wanted);
        views
            .into_iter()
            .map(|(page, range)| {
                let lease = Lease::new(page, range, offset);
                offset += lease.len() as u64;
                lease
            })
            .collect()
    }

    /// All that is filled and not yet consumed, for [`Collector`](super::Collector).
    pub(crate) fn views(&self) -> Vec<Lease> {
        let mut offset = self.start;
        let views = self.pages_of(0..self.filled());
        views
            .into_iter()
            .map(|(page, range)| {
                let lease = Lease::new(page, range, offset);
                offset += lease.len() as u64;
                lease
            })
            .collect()
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how many bytes a page of a slot for `range` has in `memory`.
fn page_length(gauge: &Gauge, range: &Range<u64>, memory: &SlotMemory) -> usize {
    match memory {
        SlotMemory::Pages(_) | SlotMemory::Put(_) => gauge.page(range.end - range.start),
        // It is there, and all of it will be used.
        SlotMemory::Region(..) => LARGE_PAGE,
    }
}

/// An offset inside a page, which is at most [`LARGE_PAGE`].
pub(super) fn in_page(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(LARGE_PAGE)
}
