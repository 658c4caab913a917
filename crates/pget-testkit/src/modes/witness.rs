//! A destination that records its bytes and the ranges reported as landed, for later checks.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pget_core::{Destination, Error, ErrorKind, ObjectInfo, Transfer};

use super::expected::{Expected, blank, memory_is_right};

#[derive(Debug, Default)]
struct Kept {
    /// All expected bytes and a margin. It is empty while the memory is lent to the download.
    memory: Vec<u8>,
    landed: Vec<Range<u64>>,
    put: Vec<Range<u64>>,
}

/// A destination whose bytes and landed ranges can be checked after a run.
#[derive(Debug)]
pub(super) struct Witness {
    offset: u64,
    size: u64,
    /// Whether the destination lends its memory to the download.
    lends: bool,
    kept: Arc<Mutex<Kept>>,
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Witness {
    pub(super) fn new(offset: u64, size: u64, lends: bool) -> Arc<Self> {
        let kept = Kept {
            memory: blank(size),
            ..Kept::default()
        };
        Arc::new(Self {
            offset,
            size,
            lends,
            kept: Arc::new(Mutex::new(kept)),
        })
    }

    /// Calls `work` with the whole memory, after the run.
    pub(super) fn with_memory<T>(&self, work: impl FnOnce(&mut [u8]) -> T) -> T {
        work(&mut lock(&self.kept).memory)
    }

    /// Checks everything that a run has left, whether or not it succeeded.
    ///
    /// - Every landed byte is right and landed once.
    /// - No other byte was put.
    /// - The rest of the memory is right or untouched.
    pub(super) fn check(&self, expected: Expected, complete: bool) -> Result<(), String> {
        let Expected {
            pattern,
            offset,
            size,
        } = expected;
        let kept = lock(&self.kept);
        let landed = merged(&kept.landed)?;
        for range in &landed {
            if range.start < offset || offset + size < range.end {
                return Err(format!("landed outside: {range:?}"));
            }
            let start = usize::try_from(range.start - offset).expect("small");
            let end = usize::try_from(range.end - offset).expect("small");
            let right = pattern.check(range.start, &kept.memory[start..end]);
            right.map_err(|at| format!("byte {at} is wrong and counts as landed"))?;
        }
        if complete && size > 0 && landed.first() != Some(&(offset..offset + size)) {
            return Err(format!("of {size} bytes landed {landed:?}"));
        }
        if !self.lends && merged(&kept.put)? != landed {
            return Err("what was put is not what landed".into());
        }
        memory_is_right(&kept.memory, expected, complete)
    }
}

/// Returns the sorted union of the ranges.
///
/// The result is an error if two ranges overlap, because a byte then had two writers.
fn merged(ranges: &[Range<u64>]) -> Result<Vec<Range<u64>>, String> {
    let mut sorted: Vec<_> = ranges.iter().filter(|range| !range.is_empty()).cloned().collect();
    sorted.sort_by_key(|range| range.start);
    let mut union: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match union.last_mut() {
            Some(last) if range.start < last.end => return Err(format!("{range:?} came twice")),
            Some(last) if range.start == last.end => last.end = range.end,
            _ => union.push(range),
        }
    }
    Ok(union)
}

/// The witness's memory while writers hold it. Drop returns it.
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
    fn begin(&self, object: &ObjectInfo, start: u64, end: Option<u64>) -> Result<Transfer, Error> {
        assert_eq!(start, self.offset);
        if !self.lends {
            return Ok(Transfer::Put);
        }
        let fits = end.is_some_and(|end| end - start <= self.size);
        if !fits {
            let message = format!("an object of {:?} bytes does not fit", object.size);
            return Err(Error::new(ErrorKind::Destination, "", message));
        }
        let memory = std::mem::take(&mut lock(&self.kept).memory);
        Ok(Transfer::Memory(Box::new(Loan {
            memory,
            kept: Arc::clone(&self.kept),
        })))
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut kept = lock(&self.kept);
        let at = usize::try_from(offset - self.offset).expect("small");
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

    fn landed(&self, range: Range<u64>) -> Result<(), Error> {
        lock(&self.kept).landed.push(range);
        Ok(())
    }
}
