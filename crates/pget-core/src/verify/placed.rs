//! Verification of bytes that land in any order, several at once: in memory, in a file.
//!
//! Of a checksum that can be combined, each run of bytes without a gap has its own, taken up by the
//! call that brings the next bytes (they are in cache then) and combined where runs meet. Any other
//! is computed from the object's beginning on: what lands just there is taken as it lands, the rest
//! is read back, a bounded piece with each that lands, and what is left at the end.
//!
//! Invariant: each byte of the object counts once. Its callers report each byte that lands once,
//! and read back what is there for good.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Digest, Hasher, passing::mismatch};

/// The most that is read back at a time.
const STEP: u64 = 1 << 20;

/// Returns bytes of the object that are there for good, through the buffer if it must; `false`:
/// it cannot.
pub(crate) type GiveBack<'a, E> =
    dyn Fn(Range<u64>, &mut Vec<u8>, &mut dyn FnMut(&[u8])) -> Result<bool, E> + 'a;

#[derive(Debug)]
pub(crate) struct Placed {
    expected: Digest,
    sums: Sums,
}

#[derive(Debug)]
enum Sums {
    /// Combinable: runs without gaps, by their start.
    Runs(Mutex<BTreeMap<u64, Run>>),
    Front {
        front: Mutex<Front>,
        /// What has landed beyond the front, by its start, with its end.
        landed: Mutex<BTreeMap<u64, u64>>,
    },
}

#[derive(Debug)]
struct Run {
    end: u64,
    hasher: Hasher,
}

/// Everything before `position` is in.
#[derive(Debug)]
struct Front {
    position: u64,
    hasher: Hasher,
    buffer: Vec<u8>,
}

impl Placed {
    pub(crate) fn new(expected: Digest) -> Self {
        let algorithm = expected.algorithm();
        let sums = if algorithm.is_combinable() {
            Sums::Runs(Mutex::default())
        } else {
            Sums::Front {
                front: Mutex::new(Front {
                    position: 0,
                    hasher: Hasher::new(algorithm),
                    buffer: Vec::new(),
                }),
                landed: Mutex::default(),
            }
        };
        Self { expected, sums }
    }

    /// `range` has landed; `each` passes on its bytes, in order.
    pub(crate) fn landed(&self, range: Range<u64>, each: impl FnOnce(&mut dyn FnMut(&[u8]))) {
        match &self.sums {
            Sums::Runs(runs) => {
                // Out of the list while it is computed: what lands beside it in that time is a run
                // of its own, and they meet when it is back.
                let before = take_before(&mut lock(runs), range.start);
                let (start, mut hasher) = before.map_or_else(
                    || (range.start, Hasher::new(self.expected.algorithm())),
                    |(start, run)| (start, run.hasher),
                );
                each(&mut |bytes| hasher.update(bytes));
                insert(
                    &mut lock(runs),
                    start,
                    Run {
                        end: range.end,
                        hasher,
                    },
                );
            }
            Sums::Front { front, landed } => {
                if let Ok(mut front) = front.try_lock()
                    && front.position == range.start
                {
                    each(&mut |bytes| front.hasher.update(bytes));
                    front.position = range.end;
                    return;
                }
                let mut landed = lock(landed);
                let start = match landed.range(..=range.start).next_back() {
                    Some((start, end)) if *end == range.start => *start,
                    _ => range.start,
                };
                let end = landed.remove(&range.end).unwrap_or(range.end);
                landed.insert(start, end);
            }
        }
    }

    /// Takes in some of what has landed beyond the front, unless another call does.
    pub(crate) fn catch_up<E>(&self, give_back: &GiveBack<'_, E>) -> Result<(), E> {
        let Sums::Front { front, landed } = &self.sums else {
            return Ok(());
        };
        let Ok(mut front) = front.try_lock() else {
            return Ok(());
        };
        let there = {
            let mut landed = lock(landed);
            // What was taken in as it landed, or was read back, is here no more or by its rest.
            while let Some(entry) = landed.first_entry()
                && *entry.get() <= front.position
            {
                entry.remove();
            }
            match landed.first_key_value() {
                Some((start, end)) if *start <= front.position => *end,
                _ => return Ok(()),
            }
        };
        // Twice what lands, to catch up with it.
        let until = there.min(front.position + 2 * STEP);
        while front.position < until && front.take(until, give_back)? {}
        Ok(())
    }

    /// All of the object, which ends at `end`, is there: takes in the next piece of what is
    /// missing. `Some(false)`: nothing is; `None`: it cannot be read back.
    pub(crate) fn settle<E>(&self, end: u64, give_back: &GiveBack<'_, E>) -> Result<Option<bool>, E> {
        match &self.sums {
            Sums::Runs(runs) => {
                let gap = {
                    let runs = lock(runs);
                    let start = runs.get(&0).map_or(0, |run| run.end);
                    let next = runs.range(start..).find(|(at, _)| **at > 0).map(|(at, _)| *at);
                    start..next.unwrap_or(end).min(start + STEP).min(end)
                };
                if gap.is_empty() {
                    return Ok(Some(false));
                }
                let mut result = Ok(true);
                let mut buffer = Vec::new();
                self.landed(gap.clone(), |each| {
                    result = give_back(gap.clone(), &mut buffer, each)
                });
                Ok(result?.then_some(true))
            }
            Sums::Front { front, .. } => {
                let mut front = lock(front);
                if front.position >= end {
                    return Ok(Some(false));
                }
                Ok(front.take(end, give_back)?.then_some(true))
            }
        }
    }

    /// The object ends at `end`, and nothing of it is missing.
    ///
    /// # Errors
    /// What differs, if the checksum does not fit.
    pub(crate) fn finish(&self, end: u64) -> Result<(), String> {
        let empty = Hasher::new(self.expected.algorithm());
        let (length, hasher) = match &self.sums {
            Sums::Runs(runs) => lock(runs)
                .remove(&0)
                .map_or((0, empty), |run| (run.end, run.hasher)),
            Sums::Front { front, .. } => {
                let mut front = lock(front);
                (front.position, std::mem::replace(&mut front.hasher, empty))
            }
        };
        let found = hasher.finish();
        if length != end {
            // A defect of ours must not pass for a verified object.
            return Err(format!("{length} bytes of {end} were verified"));
        }
        if found == self.expected {
            Ok(())
        } else {
            Err(mismatch(&self.expected, &found))
        }
    }
}

impl Front {
    fn take<E>(&mut self, until: u64, give_back: &GiveBack<'_, E>) -> Result<bool, E> {
        let range = self.position..until.min(self.position + STEP);
        let Self { hasher, buffer, .. } = self;
        let given = give_back(range.clone(), buffer, &mut |bytes| hasher.update(bytes))?;
        if given {
            self.position = range.end;
        }
        Ok(given)
    }
}

/// The run that ends at `at`, which is taken out.
fn take_before(runs: &mut BTreeMap<u64, Run>, at: u64) -> Option<(u64, Run)> {
    let (start, run) = runs.range(..at).next_back()?;
    let start = (run.end == at).then_some(*start)?;
    runs.remove(&start).map(|run| (start, run))
}

fn insert(runs: &mut BTreeMap<u64, Run>, mut start: u64, mut run: Run) {
    if let Some(next) = runs.remove(&run.end) {
        run.hasher.append(&next.hasher);
        run.end = next.end;
    }
    if let Some((before, mut joined)) = take_before(runs, start) {
        joined.hasher.append(&run.hasher);
        joined.end = run.end;
        (start, run) = (before, joined);
    }
    runs.insert(start, run);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::verify::Algorithm;

    const SIZE: usize = 5_000_000;

    fn object() -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(3);
        std::iter::repeat_with(|| random.u8(..)).take(SIZE).collect()
    }

    fn digest(algorithm: Algorithm, bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Lands `bytes` in pieces in any order, except `kept`, which is there already; returns the
    /// outcome.
    fn land(seed: u64, expected: Digest, bytes: &[u8], kept: Range<usize>) -> Result<(), String> {
        let mut random = fastrand::Rng::with_seed(seed);
        let placed = Placed::new(expected);
        let mut chunks: Vec<Range<usize>> = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let end = if at < kept.start {
                (at + random.usize(1..700_000)).min(kept.start)
            } else {
                (at + random.usize(1..700_000)).min(bytes.len())
            };
            if at >= kept.start && at < kept.end {
                at = kept.end;
                continue;
            }
            chunks.push(at..end);
            at = end;
        }
        let give_back = |range: Range<u64>, _: &mut Vec<u8>, each: &mut dyn FnMut(&[u8])| {
            let at = |at: u64| usize::try_from(at).expect("small");
            each(&bytes[at(range.start)..at(range.end)]);
            Ok::<_, Infallible>(true)
        };
        while !chunks.is_empty() {
            // Several chunks grow at once.
            let index = random.usize(..chunks.len().min(5));
            let chunk = &mut chunks[index];
            let end = (chunk.start + random.usize(1..300_000)).min(chunk.end);
            let piece = chunk.start..end;
            chunk.start = end;
            if chunk.start == chunk.end {
                chunks.swap_remove(index);
            }
            placed.landed(piece.start as u64..piece.end as u64, |each| each(&bytes[piece]));
            if random.bool() {
                placed.catch_up(&give_back).expect("it can be read");
            }
        }
        let size = bytes.len() as u64;
        while placed
            .settle(size, &give_back)
            .expect("it can be read")
            .expect("it is there")
        {}
        placed.finish(size)
    }

    #[test]
    fn any_order_of_landing_gives_the_same() {
        let bytes = object();
        for algorithm in [
            Algorithm::Crc32,
            Algorithm::Crc32c,
            Algorithm::Crc64Nvme,
            Algorithm::Xxh64,
        ] {
            let expected = digest(algorithm, &bytes);
            for seed in 0..20 {
                let kept = if seed % 2 == 0 { 0..0 } else { 1_000_000..3_200_001 };
                assert_eq!(
                    land(seed, expected, &bytes, kept.clone()),
                    Ok(()),
                    "{algorithm}, seed {seed}"
                );
                let mut damaged = bytes.clone();
                damaged[(usize::try_from(seed).expect("small") * 250_007) % SIZE] ^= 1;
                assert!(
                    land(seed, expected, &damaged, kept).is_err(),
                    "{algorithm}, seed {seed}"
                );
            }
        }
    }

    #[test]
    fn an_empty_object_has_its_checksum_and_a_missing_byte_is_noticed() {
        for algorithm in Algorithm::ALL {
            assert_eq!(land(0, digest(algorithm, b""), b"", 0..0), Ok(()));
            assert!(land(0, digest(algorithm, b"x"), b"", 0..0).is_err());
            let placed = Placed::new(digest(algorithm, b"xy"));
            placed.landed(0..2, |each| each(b"xy"));
            assert!(placed.finish(3).is_err(), "{algorithm}");
        }
    }

    #[test]
    fn what_cannot_be_read_back_is_said() {
        let nothing = |_: Range<u64>, _: &mut Vec<u8>, _: &mut dyn FnMut(&[u8])| Ok::<_, Infallible>(false);
        for algorithm in [Algorithm::Md5, Algorithm::Crc32c] {
            let placed = Placed::new(digest(algorithm, b"xy"));
            placed.landed(1..2, |each| each(b"y"));
            assert_eq!(placed.settle(2, &nothing), Ok(None), "{algorithm}");
        }
        let placed = Placed::new(digest(Algorithm::Md5, b"xy"));
        placed.landed(0..1, |each| each(b"x"));
        placed.landed(1..2, |each| each(b"y"));
        assert_eq!(placed.settle(2, &nothing), Ok(Some(false)), "it came in order");
        assert_eq!(placed.finish(2), Ok(()));
    }
}
