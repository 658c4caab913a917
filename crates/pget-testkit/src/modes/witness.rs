//! A destination that keeps what it is given and what it is told has landed, to be looked at afterwards.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pget_core::{Destination, Error, ErrorKind, ObjectInfo, Place};

use super::{Expected, MARGIN, UNTOUCHED, blank};

#[derive(Debug, Default)]
struct Kept {
    /// All of what is expected and a margin; with the download while that writes to it itself.
    memory: Vec<u8>,
    landed: Vec<Range<u64>>,
    put: Vec<Range<u64>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Witness {
    expected: Expected,
    /// Whether the download is given the memory to write to.
    lends: bool,
    kept: Arc<Mutex<Kept>>,
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Witness {
    pub(super) fn new(expected: Expected, lends: bool) -> Arc<Self> {
        let kept = Kept {
            memory: blank(expected),
            ..Kept::default()
        };
        Arc::new(Self {
            expected,
            lends,
            kept: Arc::new(Mutex::new(kept)),
        })
    }

    /// Checks all that was left, after a run that succeeded or not: what landed is right and landed once; nothing else was put; the rest of the memory is right or untouched.
    pub(super) fn check(&self, complete: bool) {
        let Expected {
            pattern,
            offset,
            size,
        } = self.expected;
        let kept = lock(&self.kept);
        let landed = merged(&kept.landed);
        for range in &landed {
            assert!(
                offset <= range.start && range.end <= offset + size,
                "landed outside: {range:?}"
            );
            let start = usize::try_from(range.start - offset).expect("small");
            let end = usize::try_from(range.end - offset).expect("small");
            let right = pattern.check(range.start, &kept.memory[start..end]);
            assert_eq!(right, Ok(()), "a wrong byte counts as landed");
        }
        if complete && size > 0 {
            assert_eq!(landed.first(), Some(&(offset..offset + size)), "not all landed");
        }
        if !self.lends {
            assert_eq!(merged(&kept.put), landed, "what was put is what landed");
        }
        let (object, margin) = kept.memory.split_at(kept.memory.len() - MARGIN);
        let right = pattern.bytes(offset, object.len());
        let wrong = (object.iter().zip(&right)).position(|(is, due)| is != due && *is != UNTOUCHED);
        assert_eq!(wrong, None, "a wrong byte");
        assert!(
            margin.iter().all(|byte| *byte == UNTOUCHED),
            "bytes behind the object"
        );
    }
}

/// The union, sorted.
///
/// # Panics
/// When two overlap: a byte had two writers.
fn merged(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted: Vec<_> = ranges.iter().filter(|range| !range.is_empty()).cloned().collect();
    sorted.sort_by_key(|range| range.start);
    let mut union: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match union.last_mut() {
            Some(last) if range.start < last.end => panic!("{range:?} came twice"),
            Some(last) if range.start == last.end => last.end = range.end,
            _ => union.push(range),
        }
    }
    union
}

/// The witness's memory in the hands of writers, who give it back by dropping it.
struct Loan {
    memory: Vec<u8>,
    kept: Arc<Mutex<Kept>>,
}

impl AsMut<[u8]> for Loan {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        lock(&self.kept).memory = std::mem::take(&mut self.memory);
    }
}

impl Destination for Witness {
    fn begin(&self, object: &ObjectInfo, start: u64, end: Option<u64>) -> Result<Place, Error> {
        assert_eq!(start, self.expected.offset);
        if !self.lends {
            return Ok(Place::Put);
        }
        let fits = end.is_some_and(|end| end - start <= self.expected.size);
        if !fits {
            let message = format!("an object of {:?} bytes does not fit", object.size);
            return Err(Error::new(ErrorKind::Destination, "", message));
        }
        let memory = std::mem::take(&mut lock(&self.kept).memory);
        Ok(Place::Memory(Box::new(Loan {
            memory,
            kept: Arc::clone(&self.kept),
        })))
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut kept = lock(&self.kept);
        let at = usize::try_from(offset - self.expected.offset).expect("small");
        let place = kept.memory.get_mut(at..at + bytes.len());
        let Some(place) = place else {
            return Err(Error::new(
                ErrorKind::Destination,
                "",
                "the object is longer than was expected",
            ));
        };
        place.copy_from_slice(bytes);
        kept.put.push(offset..offset + bytes.len() as u64);
        Ok(())
    }

    fn landed(&self, range: Range<u64>) {
        lock(&self.kept).landed.push(range);
    }
}
