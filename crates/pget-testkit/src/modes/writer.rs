//! Reads of an object that is being overwritten all the time: each must be of one revision, or say that it changed.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use pget_core::{ErrorKind, Options, RangeSource};

use super::{Expected, Mode, read};
use crate::content::Pattern;

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
    /// Reads of bytes of two revisions, as far as the server is known to make such replies itself.
    pub torn: u64,
    /// Revisions written meanwhile.
    pub written: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            complete,
            changed,
            torn,
            written,
        } = self;
        write!(
            f,
            "{complete} complete, {changed} changed, {torn} torn by the server, {written} revisions written"
        )
    }
}

/// Reads the object of `source`, `size` bytes, `each` times in every mode, while `write` puts one revision after the other in its place: the pattern of the seed it
/// is given, as long as the last. Needs a tokio runtime.
///
/// `torn` reads may be of two revisions: of a server that is known to send the bytes of one with the identity of another, which nobody can tell.
///
/// # Panics
/// When more reads are neither of one revision nor `ObjectChanged`; when no read met a change, or none was complete.
pub async fn reads_under_a_writer(
    source: impl Fn() -> Arc<dyn RangeSource>,
    options: &Options,
    size: u64,
    each: u64,
    torn: u64,
    write: impl AsyncFn(Pattern),
) -> Tally {
    write(Pattern::new(0)).await;
    let written = AtomicU64::new(0);
    let writer = async {
        loop {
            let number = written.fetch_add(1, Ordering::Relaxed) + 1;
            write(Pattern::new(number % REVISIONS)).await;
            tokio::task::yield_now().await;
        }
    };
    let (next, mixed) = (AtomicU64::new(0), AtomicU64::new(0));
    let modes = Mode::ALL.len() as u64;
    let reader = async || {
        let mut tally = Tally::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= each * modes {
                return tally;
            }
            let mode = Mode::ALL[usize::try_from(number % modes).expect("small")];
            let (left, outcome) = read(mode, source(), options.clone(), 0, size).await;
            let complete = outcome.end.is_ok();
            let is_one_revision = (0..REVISIONS).any(|seed| {
                let expected = Expected {
                    pattern: Pattern::new(seed),
                    offset: 0,
                    size,
                };
                left.check(expected, complete).is_ok()
            });
            if !is_one_revision && mixed.fetch_add(1, Ordering::Relaxed) < torn {
                tally.torn += 1;
                continue;
            }
            assert!(
                is_one_revision,
                "{mode}, read {number}: bytes of two revisions; it ended with {:?}",
                outcome.end
            );
            match outcome.end {
                Ok(()) => tally.complete += 1,
                Err(error) if error.kind() == ErrorKind::ObjectChanged => tally.changed += 1,
                Err(error) => panic!("{mode}, read {number}: {}", error.to_line()),
            }
        }
    };
    let readers = futures_util::future::join_all((0..READERS).map(|_| reader()));
    let tallies = tokio::select! {
        tallies = readers => tallies,
        () = writer => unreachable!("it writes for ever"),
    };
    let tally = Tally {
        complete: tallies.iter().map(|tally| tally.complete).sum(),
        changed: tallies.iter().map(|tally| tally.changed).sum(),
        torn: tallies.iter().map(|tally| tally.torn).sum(),
        written: written.load(Ordering::Relaxed),
    };
    assert!(tally.changed > 0, "no read met a change: {tally}");
    assert!(tally.complete > 0, "every read met a change: {tally}");
    tally
}
