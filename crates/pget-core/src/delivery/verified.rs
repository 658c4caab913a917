//! The published checksum and a download: what its bytes are compared with, and the outcome.
//!
//! Invariant: a download that is placed ends well only when all of it is verified, or cannot be and
//! need not; in order, the reader sees to that.

#![allow(
    unsafe_code,
    reason = "reads what has landed in a region; see `Engine::give_back`"
)]

use std::{ops::Range, sync::Arc};

use super::destination::Keeps;
use crate::{
    Error, ErrorKind, ObjectInfo, SourceError, Verification, Verify,
    engine::state::{Engine, State, Target},
    verify::{self, Digest, GiveBack, Placed},
};

impl Engine {
    /// Whether the source is to be asked for the object's checksum, when that costs something.
    pub(crate) fn wish(&self, state: &State) -> Verify {
        if state.pinned.is_some() {
            return Verify::Off;
        }
        let plan = state.schedule.plan();
        if plan.start() == 0 && plan.end().is_none() || self.keeps == Keeps::Object {
            state.verify
        } else {
            Verify::Off
        }
    }

    /// Decides, by the first reply, what the bytes are compared with.
    pub(crate) fn plan_verification(&self, state: &mut State, info: &ObjectInfo) -> Result<(), SourceError> {
        let plan = state.schedule.plan();
        let all = plan.end().is_none() && !plan.has_gaps()
            || plan.bytes().is_some_and(|bytes| info.size == Some(bytes));
        let whole = plan.start() == 0 && all || self.keeps == Keeps::Object;
        // Many buffers at once give nothing back, and are rarely all of an object; who requires
        // verification was refused before.
        let whole = whole && self.scatter.is_none();
        match verify::plan(state.verify, whole, info.checksum.as_ref()) {
            Ok(digest) => {
                state.verification = Verification::Pending(digest.algorithm());
                state.expected = Some(digest);
                if self.placed {
                    self.sums.get_or_init(|| Placed::new(digest));
                }
            }
            Err(why) => {
                state.verification = why;
                if state.verify == Verify::Require {
                    return Err(SourceError::fatal(ErrorKind::Unverifiable, verify::unmet(why)));
                }
            }
        }
        Ok(())
    }

    /// Returns what the bytes are to be compared with, once the first reply was accepted.
    pub(crate) fn expected(&self) -> Option<Digest> {
        self.state().expected
    }

    /// All bytes were compared with the published checksum: they fit, or how they do not.
    ///
    /// # Errors
    /// The download's, if they do not.
    pub(crate) fn verified(&self, result: Result<(), String>) -> Result<(), Error> {
        let error = {
            let mut state = self.state();
            let Some(algorithm) = state.expected.map(|expected| expected.algorithm()) else {
                return Ok(());
            };
            let Err(message) = result else {
                state.verification = Verification::Verified(algorithm);
                return Ok(());
            };
            state.verification = Verification::Mismatch(algorithm);
            Error::new(ErrorKind::Checksum, self.object.clone(), message)
        };
        self.fail_after_delivery(error.clone());
        Err(error)
    }

    /// For who watches: how it ended, after how long, and what was done.
    pub(crate) fn tell_end(&self, time: std::time::Duration) {
        let (milliseconds, stats) = (time.as_millis(), self.stats());
        let (bytes, requests, retries) = (stats.received, stats.requests, stats.retries);
        let outcome = self.state().outcome.clone();
        match outcome {
            Some(Err(error)) if error.kind() != ErrorKind::Cancelled => {
                tracing::debug!(
                    error = error.to_line(),
                    bytes,
                    requests,
                    retries,
                    milliseconds,
                    "download failed"
                );
            }
            outcome => tracing::debug!(
                bytes,
                requests,
                retries,
                milliseconds,
                verification = %stats.verification,
                cancelled = outcome.is_some_and(|outcome| outcome.is_err()),
                "download over"
            ),
        }
    }

    /// `range` has landed; `each` passes on its bytes.
    pub(crate) fn hash_landed(&self, range: Range<u64>, each: impl FnOnce(&mut dyn FnMut(&[u8]))) {
        let Some(sums) = self.sums.get() else { return };
        sums.landed(range, each);
        if let Err(error) = sums.catch_up(&*self.give_back()) {
            self.finish(Err(error));
        }
    }

    /// All bytes of a placed download have landed: holds them against the published checksum, a
    /// piece at a time.
    ///
    /// # Errors
    /// The download's.
    pub(crate) async fn settle(&self) -> Result<(), Error> {
        let Some(sums) = self.sums.get() else {
            return Ok(());
        };
        let end = {
            let state = self.state();
            let told = state.pinned.as_ref().and_then(|pinned| pinned.size);
            told.or_else(|| state.schedule.plan().known_end())
                .unwrap_or_default()
        };
        loop {
            if self.is_over() {
                return Ok(());
            }
            let settled = sums.settle(end, &*self.give_back())?;
            match settled {
                Some(true) => tokio::task::yield_now().await,
                Some(false) => return self.verified(sums.finish(end)),
                None => return self.unreadable(),
            }
        }
    }

    fn unreadable(&self) -> Result<(), Error> {
        let mut state = self.state();
        let Some(expected) = state.expected else {
            return Ok(());
        };
        let why = Verification::Unreadable(expected.algorithm());
        state.verification = why;
        if state.verify == Verify::Require {
            let message = verify::unmet(why);
            return Err(Error::new(ErrorKind::Unverifiable, self.object.clone(), message));
        }
        Ok(())
    }

    /// How bytes that have landed are read again: from the destination if it can give them, else
    /// where they lie.
    fn give_back(&self) -> Box<GiveBack<'_, Error>> {
        Box::new(move |range, buffer, each| {
            let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            if let Some(outlet) = &self.outlet {
                let Some(pass) = outlet.enter() else {
                    return Ok(false);
                };
                if self.keeps != Keeps::Nothing {
                    buffer.resize(length, 0);
                    outlet.read_back(&pass, range.start, buffer)?;
                    each(buffer);
                    return Ok(true);
                }
            }
            let (region, origin) = match &self.state().target {
                Target::Region(region, origin) => (Arc::clone(region), *origin),
                _ => return Ok(false),
            };
            let Some(start) = range
                .start
                .checked_sub(origin)
                .and_then(|at| usize::try_from(at).ok())
            else {
                return Ok(false);
            };
            // SAFETY: these bytes were reported after they were written, under a lock that the
            // caller has taken since (or, when it settles, all attempts have ended, as the
            // tasks have reported to the driver); what has landed is not written again.
            each(unsafe { region.landed(start..start + length) });
            Ok(true)
        })
    }
}
