//! What the network has met, from which follows what may come of a download.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use pget_core::{ErrorKind, RangeRequest};

use super::{Network, fate::Fate};
use crate::scene::Counts;

/// What was met, from which follows what may come of the download.
#[derive(Debug, Default)]
pub(crate) struct Met {
    pub(crate) reads: u64,
    /// Faults that another attempt mends.
    pub(crate) soft: u64,
    pub(crate) soft_kinds: Vec<ErrorKind>,
    /// Faults that may end the download.
    pub(crate) hard_kinds: Vec<ErrorKind>,
    pub(crate) blocked: bool,
    /// One that blocks for longer than a deadline.
    pub(crate) outlives: bool,
    pub(crate) slow: bool,
    /// A request had no answer.
    pub(crate) silent: bool,
    /// Requests that were refused for good, unless they were too many.
    pub(crate) forbidden: u64,
    /// When requests met an outage.
    pub(crate) in_outage: Vec<Duration>,
    /// When requests were served, in the last second.
    pub(super) served: Vec<Duration>,
    /// What no read may ever see.
    pub(crate) wrong: Option<&'static str>,
    pub(crate) counts: Counts,
    /// A reply was accepted.
    pub(super) begun: bool,
    pub(super) active: usize,
    /// Ranges that have a writer.
    written: Vec<Range<u64>>,
    /// How often a range was asked for over a fresh connection, by its end.
    pub(super) fresh: HashMap<u64, u64>,
}

/// A range that has a writer. To be dropped behind that one.
pub(super) struct Writing {
    met: Arc<Mutex<Met>>,
    range: Range<u64>,
}

impl Writing {
    pub(super) fn new(met: &Arc<Mutex<Met>>, request: &RangeRequest) -> Option<Self> {
        let range = request.start..request.end?;
        let mut now = met.lock().unwrap_or_else(PoisonError::into_inner);
        if now
            .written
            .iter()
            .any(|other| other.start < range.end && range.start < other.end)
        {
            now.wrong = now.wrong.or(Some("a range with two writers"));
        }
        now.written.push(range.clone());
        drop(now);
        let met = Arc::clone(met);
        Some(Self { met, range })
    }
}

impl Writing {
    /// Of its range, only this may still be written.
    pub(super) fn keeps(&mut self, range: Range<u64>) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = met.written.iter().position(|written| *written == self.range) {
            met.written[index] = range.clone();
        }
        drop(met);
        self.range = range;
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = met.written.iter().position(|range| *range == self.range) {
            met.written.swap_remove(index);
        }
    }
}

impl Met {
    pub(super) fn soft(&mut self, kind: ErrorKind) {
        self.soft += 1;
        self.soft_kinds.push(kind);
    }
}

impl Network {
    /// Notes what is about to happen.
    pub(super) fn meet(&self, fate: Fate, request: &RangeRequest) {
        let mut met = self.met();
        let met = &mut *met;
        let counts = &mut met.counts;
        match fate {
            Fate::Right => {}
            Fate::Reset(_) => {
                counts.resets += 1;
                met.soft(ErrorKind::Unavailable);
            }
            Fate::Short(_) => {
                counts.short_bodies += 1;
                met.soft(ErrorKind::Protocol);
            }
            Fate::Silent => {
                counts.silences += 1;
                met.silent = true;
                met.soft(ErrorKind::Timeout);
            }
            Fate::Stalls(_) => {
                counts.stalls += 1;
                met.soft(ErrorKind::Timeout);
            }
            Fate::Slow => {
                counts.slow_bodies += 1;
                met.slow = true;
                // A long one brings too little within a deadline.
                met.soft(ErrorKind::Timeout);
            }
            Fate::Blocks(time) => {
                counts.blocking_writers += 1;
                met.blocked = true;
                // A short one is nothing that a deadline would end, or a patience that is as short.
                let deadline = Duration::from_secs(15);
                met.outlives |= time > deadline;
                if time > deadline.min(self.scene.retry_timeout * 9 / 10) {
                    met.soft(ErrorKind::Timeout);
                }
            }
            Fate::Lingers(_) => {
                counts.lingering_writers += 1;
                met.soft(ErrorKind::Timeout);
            }
            Fate::Shifted => {
                counts.shifted_ranges += 1;
                met.hard_kinds.push(ErrorKind::Protocol);
            }
            Fate::OtherTotal => {
                counts.other_totals += 1;
                met.hard_kinds.push(ErrorKind::ObjectChanged);
            }
            Fate::OtherRevision => {
                counts.other_revisions += 1;
                met.hard_kinds.push(ErrorKind::ObjectChanged);
            }
            Fate::Anonymous => {
                counts.lost_identities += 1;
                met.soft(ErrorKind::Protocol);
            }
            Fate::Ignored if request.pinned.is_none() => counts.ignored_at_first += 1,
            Fate::Ignored => {
                counts.ignored_later += 1;
                met.soft(ErrorKind::Protocol);
            }
            Fate::Long => {
                counts.long_bodies += 1;
                met.hard_kinds
                    .extend([ErrorKind::Protocol, ErrorKind::ObjectChanged]);
            }
            Fate::Clipped(_) => {
                counts.clipped_bodies += 1;
                met.soft(ErrorKind::Protocol);
            }
            Fate::Empty => {
                counts.empty_bodies += 1;
                met.hard_kinds.push(ErrorKind::Protocol);
            }
            Fate::Beyond => {
                counts.bodies_beyond += 1;
                met.hard_kinds.push(ErrorKind::Protocol);
            }
            Fate::Overlong(_) => {
                counts.overlong_bodies += 1;
                met.soft(ErrorKind::Protocol);
            }
            Fate::Flipped(_) => {
                counts.flipped_bytes += 1;
                met.hard_kinds.push(ErrorKind::Checksum);
            }
            Fate::OtherChecksum => {
                counts.other_checksums += 1;
                met.hard_kinds.push(ErrorKind::ObjectChanged);
            }
            Fate::Throttled(_) => {
                counts.throttles += 1;
                met.soft(ErrorKind::Unavailable);
            }
            Fate::Refused => {
                counts.refusals += 1;
                met.hard_kinds.push(ErrorKind::PermissionDenied);
            }
        }
    }
}
