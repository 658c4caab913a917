//! A destination that checks every byte, records every call, and fails where a test demands it.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use pget_core::{Destination, Error, ErrorKind, ObjectInfo, Transfer};
use pget_testkit::content::Pattern;
use tokio::sync::Notify;

/// The way in which the ledger takes bytes, and in which it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Put,
    Memory,
    /// Memory that is declared fresh. That advice must not change its content.
    Fresh,
    /// Memory that is one byte too short.
    ShortMemory,
    BeginFails,
    BeginPanics,
    /// The put with this number, from 0, fails.
    PutFails(usize),
    PutPanics(usize),
    LandedPanics,
    LandedFails,
}

#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// For each begin: the size of the object, and the range that will be put.
    pub(crate) begun: Vec<(Option<u64>, u64, Option<u64>)>,
    pub(crate) put: Vec<Range<u64>>,
    pub(crate) landed: Vec<Range<u64>>,
    /// The first wrong byte.
    pub(crate) wrong: Option<u64>,
    /// The lent memory, after it has come back.
    pub(crate) memory: Option<Vec<u8>>,
}

pub(crate) struct Ledger {
    pattern: Pattern,
    mode: Mode,
    entries: Arc<Mutex<Entries>>,
    puts: AtomicUsize,
    inside: Arc<AtomicUsize>,
    /// `put` waits while this is set.
    pub(crate) hold: AtomicBool,
    pub(crate) put_began: Notify,
}

impl Ledger {
    pub(crate) fn new(pattern: Pattern, mode: Mode) -> Arc<Self> {
        Arc::new(Self {
            pattern,
            mode,
            entries: Arc::default(),
            puts: AtomicUsize::new(0),
            inside: Arc::default(),
            hold: AtomicBool::new(false),
            put_began: Notify::new(),
        })
    }

    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of calls in progress and of memories that are lent.
    pub(crate) fn inside(&self) -> usize {
        self.inside.load(Ordering::SeqCst)
    }

    /// Returns the number of calls of `put`.
    pub(crate) fn puts(&self) -> usize {
        self.puts.load(Ordering::SeqCst)
    }

    /// Checks that every byte of `start..end` was put and reported exactly once, and no other byte.
    pub(crate) fn assert_complete(&self, start: u64, end: u64) {
        assert_eq!(self.entries().begun.len(), 1, "begun once");
        assert_eq!(self.entries().begun[0].1, start);
        let whole = start..end;
        self.assert_has(&if start == end { Vec::new() } else { vec![whole] });
    }

    /// Checks that every byte of `extents` was put and reported exactly once, and no other byte.
    pub(crate) fn assert_has(&self, extents: &[Range<u64>]) {
        let entries = self.entries();
        assert_eq!(entries.wrong, None, "a wrong byte");
        assert_eq!(covered(&entries.landed), extents, "what landed");
        let Some(memory) = &entries.memory else {
            assert_eq!(covered(&entries.put), extents, "what was put");
            return;
        };
        assert!(entries.put.is_empty());
        let mut touched = 0;
        let start = extents.first().map_or(0, |extent| extent.start);
        for extent in extents {
            let [from, to] = [extent.start, extent.end].map(|at| usize::try_from(at - start).expect("small"));
            let before = &memory[touched..from];
            assert!(before.iter().all(|byte| *byte == 0xAA), "a gap was touched");
            assert_eq!(self.pattern.check(extent.start, &memory[from..to]), Ok(()));
            touched = to;
        }
        assert!(memory[touched..].iter().all(|byte| *byte == 0xAA));
    }
}

/// Returns the union of `ranges`, which must be disjoint.
pub(crate) fn covered(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| range.start);
    let mut union: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        assert!(range.start < range.end, "{range:?} is empty");
        match union.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            Some(last) => {
                assert!(last.end < range.start, "{range:?} came twice, after {last:?}");
                union.push(range);
            }
            None => union.push(range),
        }
    }
    union
}

/// Counts a call as in progress as long as this value lives.
struct Inside(Arc<AtomicUsize>);

impl Inside {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Memory that stores itself in the ledger when it comes back.
struct Lent {
    bytes: Vec<u8>,
    entries: Arc<Mutex<Entries>>,
    _inside: Inside,
}

impl AsMut<[u8]> for Lent {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).memory = Some(bytes);
    }
}

impl Destination for Ledger {
    fn begin(&self, object: &ObjectInfo, start: u64, end: Option<u64>) -> Result<Transfer, Error> {
        let _inside = Inside::new(&self.inside);
        self.entries().begun.push((object.size, start, end));
        let memory = |more: usize| {
            let Some(end) = end else {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "",
                    "the size must be known here",
                ));
            };
            let length = usize::try_from(end - start).expect("small") + more;
            Ok(Box::new(Lent {
                bytes: vec![0xAA; length],
                entries: Arc::clone(&self.entries),
                _inside: Inside::new(&self.inside),
            }))
        };
        match self.mode {
            Mode::Memory | Mode::LandedPanics | Mode::LandedFails => Ok(Transfer::Memory(memory(10)?)),
            Mode::Fresh => Ok(Transfer::Fresh(memory(10)?)),
            Mode::ShortMemory => Ok(Transfer::Memory(Box::new(vec![
                0;
                usize::try_from(
                    end.unwrap_or(0) - start
                )
                .expect("small")
                    - 1
            ]))),
            Mode::BeginFails => Err(Error::with_cause(
                ErrorKind::Destination,
                "",
                "no space",
                std::io::Error::other("quota"),
            )),
            Mode::BeginPanics => panic!("staged panic of a destination"),
            Mode::Put | Mode::PutFails(_) | Mode::PutPanics(_) => Ok(Transfer::Put),
        }
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let _inside = Inside::new(&self.inside);
        let number = self.puts.fetch_add(1, Ordering::SeqCst);
        self.put_began.notify_one();
        while self.hold.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        if self.mode == Mode::PutFails(number) {
            let cause = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(Error::with_cause(ErrorKind::Destination, "", "the disk", cause));
        }
        assert_ne!(
            self.mode,
            Mode::PutPanics(number),
            "staged panic of a destination"
        );
        let mut entries = self.entries();
        if let Err(wrong) = self.pattern.check(offset, bytes) {
            entries.wrong.get_or_insert(wrong);
        }
        entries.put.push(offset..offset + bytes.len() as u64);
        Ok(())
    }

    fn landed(&self, range: Range<u64>) -> Result<(), Error> {
        let _inside = Inside::new(&self.inside);
        assert_ne!(self.mode, Mode::LandedPanics, "staged panic of a destination");
        if self.mode == Mode::LandedFails {
            return Err(Error::new(ErrorKind::Cancelled, "", "no more is wanted"));
        }
        self.entries().landed.push(range);
        Ok(())
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ledger({:?})", self.mode)
    }
}
