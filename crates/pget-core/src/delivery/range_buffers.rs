//! Many ranges of one object, each into a buffer of its own: what goes where, and what is complete.
//!
//! A chunk that lies in one range only is received in that range's buffer. What belongs to several
//! (ranges may overlap), or lies at the edge of one, comes by the page and is copied to each; what
//! lies in none is dropped.
//!
//! Invariant: a buffer's region is let go when its last byte has landed, or the download is over;
//! its owner gets it back when the last writer has let go, too.

#![allow(
    unsafe_code,
    reason = "copies bytes into buffers that others write to at other places"
)]

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use pget_schedule::Wanted;

use super::landing::PutMemory;
use crate::{
    Error, ErrorKind,
    budget::Reservation,
    engine::delivery::{Delivery, Offer, Order},
    memory::{Region, Slot, SlotMemory},
};

/// One range: the bytes still to come, and its buffer until they have.
struct Part {
    /// Its place in the caller's list.
    index: usize,
    range: Range<u64>,
    left: Arc<AtomicU64>,
    region: Mutex<Option<Arc<Region>>>,
}

impl Part {
    fn region(&self) -> Option<Arc<Region>> {
        self.region.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn release(&self) {
        let region = self.region.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Outside the lock, as it may go back to its owner.
        drop(region);
    }
}

/// Bytes go to many buffers, each byte to every range that it belongs to.
pub(crate) struct IntoRanges {
    /// In the order of their beginnings.
    parts: Vec<Part>,
    /// At the middle of each span of `parts` (halved again and again): the furthest end in the
    /// span. An interval tree without nodes.
    reach: Vec<u64>,
    object: String,
    puts: PutMemory,
    closed: AtomicBool,
}

/// A range to be read, its bytes still to come (shared with who wants to know), and its buffer,
/// which is long enough.
pub(crate) type Lent = (Range<u64>, Arc<AtomicU64>, Region);

impl IntoRanges {
    pub(crate) fn new(lent: Vec<Lent>, object: String) -> Self {
        let part = |(index, (range, left, region)): (usize, Lent)| Part {
            index,
            range,
            left,
            region: Mutex::new(Some(Arc::new(region))),
        };
        let mut parts: Vec<_> = lent.into_iter().enumerate().map(part).collect();
        parts.sort_by_key(|part| part.range.start);
        let mut reach = vec![0; parts.len()];
        measure(&parts, &mut reach);
        Self {
            parts,
            reach,
            object,
            puts: PutMemory::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Returns the ranges, with those closer than `gap` bytes as one.
    pub(crate) fn wanted(&self, gap: u64) -> Wanted {
        let ranges = self.parts.iter().map(|part| part.range.clone());
        Wanted::joined(ranges.collect(), gap)
    }

    /// The first range, in the caller's order, that is not complete.
    pub(crate) fn incomplete(&self) -> Option<Error> {
        let part = self
            .parts
            .iter()
            .filter(|part| part.left.load(Ordering::Acquire) > 0)
            .min_by_key(|part| part.index)?;
        Some(Error::new(ErrorKind::Range, self.object.clone(), beyond(part)))
    }

    /// `error`; if it says that the object ends too early, the same with which range does not fit.
    pub(crate) fn name(&self, error: Error) -> Error {
        let mut first: Option<&Part> = None;
        if let (ErrorKind::Range, Some(Range { start, .. })) = (error.kind(), error.range()) {
            self.visit(&(start..start.saturating_add(1)), &mut |part| {
                if first.is_none_or(|first| part.index < first.index) {
                    first = Some(part);
                }
            });
        }
        match first {
            Some(part) => Error::with_cause(ErrorKind::Range, self.object.clone(), beyond(part), error),
            None => error,
        }
    }

    /// Calls `each` with every part that has bytes of `range`.
    fn visit<'a>(&'a self, range: &Range<u64>, each: &mut dyn FnMut(&'a Part)) {
        visit(&self.parts, &self.reach, range, each);
    }
}

/// Fills in the furthest end of each span, and returns that of all.
fn measure(parts: &[Part], reach: &mut [u64]) -> u64 {
    let middle = parts.len() / 2;
    let Some(part) = parts.get(middle) else { return 0 };
    let before = measure(&parts[..middle], &mut reach[..middle]);
    let behind = measure(&parts[middle + 1..], &mut reach[middle + 1..]);
    reach[middle] = part.range.end.max(before).max(behind);
    reach[middle]
}

fn visit<'a>(parts: &'a [Part], reach: &[u64], range: &Range<u64>, each: &mut dyn FnMut(&'a Part)) {
    let middle = parts.len() / 2;
    let Some(part) = parts.get(middle).filter(|_| reach[middle] > range.start) else {
        return;
    };
    visit(&parts[..middle], &reach[..middle], range, each);
    if part.range.start < range.end {
        if part.range.end > range.start && !part.range.is_empty() {
            each(part);
        }
        visit(&parts[middle + 1..], &reach[middle + 1..], range, each);
    }
}

fn beyond(part: &Part) -> String {
    let Part { index, range, .. } = part;
    format!(
        "range {index} ({}..{}) goes beyond the object",
        range.start, range.end
    )
}

fn common(a: &Range<u64>, b: &Range<u64>) -> Range<u64> {
    a.start.max(b.start)..a.end.min(b.end)
}

/// A distance inside a buffer.
fn in_buffer(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

impl IntoRanges {
    /// `range` is where it is to be.
    fn count_landed(&self, range: &Range<u64>) {
        self.visit(range, &mut |part| {
            let common = common(&part.range, range);
            let bytes = common.end - common.start;
            if part.left.fetch_sub(bytes, Ordering::AcqRel) == bytes {
                part.release();
            }
        });
    }
}

impl Delivery for IntoRanges {
    fn order(&self) -> Order {
        Order::Landing
    }

    /// Many buffers return nothing for a checksum, and are rarely all of an object.
    fn is_whole(&self, _all: bool) -> bool {
        false
    }

    fn begin(&self, offer: &Offer<'_>) -> Result<(), Error> {
        if let Some(size) = offer.object.size {
            let outside = self.parts.iter().filter(|part| part.range.end > size);
            if let Some(part) = outside.min_by_key(|part| part.index) {
                let message = format!("{}, which has {size} bytes", beyond(part));
                return Err(Error::new(ErrorKind::Range, self.object.clone(), message));
            }
        }
        for part in self.parts.iter().filter(|part| part.range.is_empty()) {
            part.release();
        }
        Ok(())
    }

    fn memory_for(&self, bytes: u64, page: usize) -> Option<u64> {
        Some(self.puts.of_chunk(bytes, page))
    }

    fn slot_memory(&self, range: &Range<u64>, reserved: Option<Reservation>) -> SlotMemory {
        let mut hits = 0;
        let mut only = None;
        self.visit(range, &mut |part| {
            hits += 1;
            only = Some(part);
        });
        let whole =
            only.filter(|part| hits == 1 && part.range.start <= range.start && range.end <= part.range.end);
        match whole.and_then(|part| Some((part.region()?, part.range.start))) {
            Some((region, start)) => SlotMemory::Region(region, start),
            None => SlotMemory::Put(reserved),
        }
    }

    fn withholds(&self) {
        self.puts.withhold();
    }

    fn put(&self, offset: u64, bytes: &[u8], publish: &mut dyn FnMut()) -> Result<bool, Error> {
        if self.closed.load(Ordering::Acquire) {
            return Ok(false);
        }
        let range = offset..offset + bytes.len() as u64;
        self.visit(&range, &mut |part| {
            let common = common(&part.range, &range);
            let from = &bytes[in_buffer(common.start - offset)..in_buffer(common.end - offset)];
            if let Some(region) = part.region() {
                // SAFETY: each byte of the object arrives once, with one writer, which is in this
                // call with it; so no other call writes it to this region, and no code reads the
                // region before it is let go, which needs these bytes to have landed, or this call
                // to have dropped it.
                unsafe { region.copy_in(in_buffer(common.start - part.range.start), from) };
            }
        });
        publish();
        self.count_landed(&range);
        Ok(true)
    }

    fn landed(&self, _slot: &Slot, range: Range<u64>) -> Result<(), Error> {
        self.count_landed(&range);
        Ok(())
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.parts.iter().for_each(Part::release);
    }
}

impl fmt::Debug for IntoRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IntoRanges({} ranges)", self.parts.len())
    }
}
