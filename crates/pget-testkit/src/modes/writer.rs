//! Reads of an object that is overwritten all the time.
//!
//! Each read must deliver a single revision, or report that the object changed.
//!
//! A server may send the bytes of one revision with the `ETag` of another. No client can notice
//! such a lie. A read through a [`Relay`] has a record of its answers. Only a lie in that record
//! excuses bytes of another revision, and only the bytes of that lie.

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

/// Number of revisions, which are written in turn. Each has its own seed.
const REVISIONS: u64 = 8;
/// Number of simultaneous reads.
const READERS: usize = 4;

/// The results of the reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Number of complete reads of a single revision.
    pub complete: u64,
    /// Reads that ended with `ObjectChanged`.
    pub changed: u64,
    /// Number of reads with bytes of two revisions, all of them excused by a wrong label of the
    /// server.
    pub torn: u64,
    /// Number of revisions written during the reads.
    pub written: u64,
    /// Number of answers with bytes of the object that a relay recorded.
    pub answers: u64,
    /// Number of those answers whose bytes were not of the revision that they named.
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

/// Reads an object of `size` bytes `each` times in every mode while `write` overwrites it.
///
/// `write` receives a seed, and stores the pattern of that seed as a new revision of the same
/// length. The function needs a tokio runtime.
///
/// `source` opens the object for one read. If the server may lie, each read needs its own
/// [`Relay`], and the server's `ETag`s must be MD5 digests.
///
/// # Panics
/// - If a read neither delivers a single revision nor reports `ObjectChanged`. Bytes that the
///   server itself sent with that revision's label are excused.
/// - If no read met a change.
/// - If a read is incomplete after the writer has ended.
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
    // The writer ends by itself. A write that is dropped may still take effect.
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
    // The number of complete reads depends on timing. Without the writer, every read is complete.
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

/// A revision that is written, and the `ETag` that an S3 server computes for it.
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

/// An answer whose bytes are not of the revision that it named.
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

    /// Returns whether the bytes are of one revision, except for those that the server mislabelled.
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

/// Replaces the bytes that came from the answer `told` by those of `pattern`.
///
/// `bytes` begins at the object's first byte.
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

    /// Returns the first 2000 bytes of revision 2 and the rest of revision 3.
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

    /// Returns an answer with the label of revision `named` and the bytes of revision `sent`.
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
        // The reader mixed the revisions: each answer had the right label.
        assert!(!excused(mixed(), &[told(2, 2, 0, 2000), told(3, 3, 2000, 3000)]));
        assert!(!excused(mixed(), &[]));
        // A lie does not excuse more bytes than it had, another revision, or other bytes.
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
