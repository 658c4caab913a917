//! Reads of an object that is being overwritten all the time: each must be of one revision, or say that it changed.
//!
//! A server that sends the bytes of one revision with the `ETag` of another lies in a way that no client can notice. Behind a [`Relay`] what it told is known, and only such an answer, given to that very
//! read, excuses bytes of another revision, and no others than it had.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures_util::future::{join, join_all};
use md5::{Digest as _, Md5};
use pget_core::{ErrorKind, Options, RangeSource};

use super::{Expected, Left, Mode, Relay, read, relay::Told};
use crate::content::{self, Pattern};

/// Seeds of the revisions, which are written in turn.
const REVISIONS: u64 = 8;
/// Reads at the same time.
const READERS: usize = 4;

/// What came of the reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Reads of all of one revision.
    pub complete: u64,
    /// Reads that ended with `ObjectChanged`.
    pub changed: u64,
    /// Reads of bytes of two revisions, each byte of the second as the server told it to be of the first.
    pub torn: u64,
    /// Revisions written meanwhile.
    pub written: u64,
    /// Answers with bytes of the object that a relay saw.
    pub answers: u64,
    /// Those of them whose bytes were not those of the revision that they named.
    pub lies: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            complete,
            changed,
            torn,
            written,
            answers,
            lies,
        } = self;
        write!(
            f,
            "{complete} complete, {changed} changed, {torn} torn by the server ({lies} lies in {answers} answers that were looked at), {written} revisions written"
        )
    }
}

/// Reads the object, `size` bytes, `each` times in every mode, while `write` puts one revision after the other in its place: the pattern of the seed it
/// is given, as long as the last. Needs a tokio runtime.
///
/// `source` opens it for one read, behind a [`Relay`] of that read's own if the server may lie; its `ETag`s must be MD5s then.
///
/// # Panics
/// When a read is neither of one revision nor `ObjectChanged`, but for bytes that the server itself sent as those of that revision; when no read met a change; and when one is not complete once the writer has ended.
pub async fn reads_under_a_writer(
    source: impl AsyncFn() -> (Arc<dyn RangeSource>, Option<Relay>),
    options: &Options,
    size: u64,
    each: u64,
    write: impl AsyncFn(Pattern),
) -> Tally {
    let revisions = &Revision::all(size);
    write(revisions[0].pattern).await;
    let (written, done) = (AtomicU64::new(0), AtomicBool::new(false));
    // It ends by itself: a write that is dropped may yet happen.
    let writer = async {
        for revision in revisions.iter().cycle().skip(1) {
            if done.load(Ordering::Relaxed) {
                return;
            }
            written.fetch_add(1, Ordering::Relaxed);
            write(revision.pattern).await;
            tokio::task::yield_now().await;
        }
    };
    let next = AtomicU64::new(0);
    let modes = Mode::ALL.len() as u64;
    let reader = async || {
        let mut tally = Tally::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= each * modes {
                return tally;
            }
            let mode = Mode::ALL[usize::try_from(number % modes).expect("small")];
            let (source, relay) = source().await;
            let (mut left, outcome) = read(mode, source, options.clone(), 0, size).await;
            let told = relay.map(|relay| relay.told()).unwrap_or_default();
            let lies = lies(&told, revisions);
            tally.answers += told.len() as u64;
            tally.lies += lies.len() as u64;
            let complete = outcome.end.is_ok();
            let is_one = left.is_one_of(revisions, size, complete);
            assert!(
                is_one || left.is_one_but_for(&lies, revisions, size, complete),
                "{mode}, read {number}: bytes of two revisions, and {} lies of the server do not account for it; it ended with {:?}",
                lies.len(),
                outcome.end
            );
            match outcome.end {
                _ if !is_one => tally.torn += 1,
                Ok(()) => tally.complete += 1,
                Err(error) if error.kind() == ErrorKind::ObjectChanged => tally.changed += 1,
                Err(error) => panic!("{mode}, read {number}: {}", error.to_line()),
            }
        }
    };
    let readers = async {
        let tallies = join_all((0..READERS).map(|_| reader())).await;
        done.store(true, Ordering::Relaxed);
        tallies
    };
    let (tallies, ()) = join(readers, writer).await;
    let sum = |count: fn(&Tally) -> u64| tallies.iter().map(count).sum();
    let tally = Tally {
        complete: sum(|tally| tally.complete),
        changed: sum(|tally| tally.changed),
        torn: sum(|tally| tally.torn),
        written: written.load(Ordering::Relaxed),
        answers: sum(|tally| tally.answers),
        lies: sum(|tally| tally.lies),
    };
    assert!(tally.changed > 0, "no read met a change: {tally}");
    // How many are complete depends on who is faster. Without the writer every one is.
    for mode in Mode::ALL {
        let (source, _relay) = source().await;
        let (left, outcome) = read(mode, source, options.clone(), 0, size).await;
        assert!(
            outcome.end.is_ok() && left.is_one_of(revisions, size, true),
            "{mode}, without a writer: {:?}",
            outcome.end
        );
    }
    tally
}

/// What is written, and the `ETag` by which an S3 server tells it.
struct Revision {
    pattern: Pattern,
    etag: String,
}

impl Revision {
    fn all(size: u64) -> Vec<Self> {
        let of = |seed| {
            let pattern = Pattern::new(seed);
            let bytes = pattern.bytes(0, usize::try_from(size).expect("small"));
            Self {
                pattern,
                etag: format!("\"{}\"", content::hex(&Md5::digest(bytes))),
            }
        };
        (0..REVISIONS).map(of).collect()
    }
}

/// An answer with bytes that are not of the revision it named.
struct Lie<'a> {
    named: Pattern,
    told: &'a Told,
}

fn lies<'a>(told: &'a [Told], revisions: &[Revision]) -> Vec<Lie<'a>> {
    let lie = |told: &'a Told| {
        let revision = revisions.iter().find(|revision| revision.etag == told.etag);
        let named = revision.unwrap_or_else(|| panic!("{:?} was never written", told.etag));
        let right = named.pattern.check(told.start, &told.bytes).is_ok();
        (!right).then_some(Lie {
            named: named.pattern,
            told,
        })
    };
    told.iter().filter_map(lie).collect()
}

impl Left {
    fn is(&self, pattern: Pattern, size: u64, complete: bool) -> bool {
        let expected = Expected {
            pattern,
            offset: 0,
            size,
        };
        self.check(expected, complete).is_ok()
    }

    fn is_one_of(&self, revisions: &[Revision], size: u64, complete: bool) -> bool {
        let mut patterns = revisions.iter().map(|revision| revision.pattern);
        patterns.any(|pattern| self.is(pattern, size, complete))
    }

    /// Whether it is of one revision when the bytes are put right that the server said to be of that revision.
    fn is_one_but_for(
        &mut self,
        lies: &[Lie<'_>],
        revisions: &[Revision],
        size: u64,
        complete: bool,
    ) -> bool {
        let before = self.with_bytes(|bytes| bytes.to_vec());
        let mut patterns = revisions.iter().map(|revision| revision.pattern);
        patterns.any(|pattern| {
            for Lie { named, told } in lies {
                if *named == pattern {
                    self.with_bytes(|bytes| put_right(bytes, pattern, told));
                }
            }
            let is = self.is(pattern, size, complete);
            self.with_bytes(|bytes| bytes.copy_from_slice(&before));
            is
        })
    }
}

/// Where `bytes`, those of the object from its first on, are what was told, they become what they should be.
fn put_right(bytes: &mut [u8], pattern: Pattern, told: &Told) {
    let start = usize::try_from(told.start).expect("small");
    let places = bytes.iter_mut().skip(start).zip(&told.bytes);
    for (offset, (byte, told)) in (told.start..).zip(places) {
        if byte == told {
            *byte = pattern.byte(offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 5000;
    const END: usize = 5000;

    /// The first 2000 bytes of revision 2, the rest of revision 3.
    fn mixed() -> Vec<u8> {
        let mut bytes = Pattern::new(2).bytes(0, 2000);
        bytes.extend(Pattern::new(3).bytes(2000, END - 2000));
        bytes
    }

    fn excused(bytes: Vec<u8>, told: &[Told]) -> bool {
        let revisions = Revision::all(SIZE);
        let mut left = Left::Prefix(bytes);
        assert!(!left.is_one_of(&revisions, SIZE, true));
        left.is_one_but_for(&lies(told, &revisions), &revisions, SIZE, true)
    }

    /// An answer named as revision `named`, with the bytes of `sent`.
    fn told(named: usize, sent: u64, start: u64, length: usize) -> Told {
        Told {
            etag: Revision::all(SIZE)[named].etag.clone(),
            start,
            bytes: Pattern::new(sent).bytes(start, length),
        }
    }

    #[test]
    fn only_a_lie_of_that_revision_with_these_bytes_excuses_a_mixed_read() {
        assert!(excused(mixed(), &[told(2, 2, 0, 2000), told(2, 3, 2000, 3000)]));
        assert!(excused(
            mixed(),
            &[told(2, 3, 2000, 1000), told(2, 3, 3000, 2000)]
        ));
        // The reader mixed them: each answer said whose its bytes were.
        assert!(!excused(mixed(), &[told(2, 2, 0, 2000), told(3, 3, 2000, 3000)]));
        assert!(!excused(mixed(), &[]));
        // A lie, but of less; of another revision; with other bytes.
        assert!(!excused(mixed(), &[told(2, 3, 2000, 2999)]));
        assert!(!excused(mixed(), &[told(4, 3, 2000, 3000)]));
        assert!(!excused(mixed(), &[told(2, 4, 2000, 3000)]));
    }

    #[test]
    fn a_lie_told_of_both_revisions_excuses_either() {
        let both = [told(3, 2, 0, 2000), told(2, 3, 2000, 3000)];
        assert!(excused(mixed(), &both));
        assert!(excused(mixed(), &both[..1]));
    }
}
