//! What the end of an attempt must mean, worked out once more, and what a download may cost.

use pget_core::schedule::{Backoff, Ended, Verdict};

use super::{Outcome, World, flight::Flight};

/// The schedule's own constants, again: below this many bytes there was no progress, with so many the next attempt is earned, and so many failures are paid for.
const PROGRESS: u64 = 4096;
const PLENTY: u64 = 64 << 10;
const PRICE: u32 = 10;

impl World<'_> {
    /// What the retry bucket holds at the most.
    pub(super) const fn full(concurrency: u32) -> u32 {
        (concurrency * 4 + 16) * PRICE
    }

    /// A complete chunk earns a tenth of a retry.
    pub(super) fn refund(&mut self) {
        self.tokens = (self.tokens + 1).min(Self::full(self.scene.settings.concurrency));
    }

    /// Without a fault, nothing is asked for twice.
    pub(super) fn check_economy(&self) {
        let chunks = self.schedule.plan().chunks().expect("the end is known");
        let one_stream = self.streams_by_choice() || !self.scene.ranges;
        if self.scene.settings.end == Some(self.scene.settings.start) {
            assert_eq!(self.requests, 0, "requests for nothing");
        } else if one_stream || chunks <= 1 {
            assert_eq!(self.requests, 1, "requests for one stream of {chunks} chunks");
        } else if !self.scene.identity {
            assert_eq!(self.requests, 2, "requests without an identity");
        } else {
            assert_eq!(
                self.requests,
                chunks + self.fenced_rests,
                "requests for {chunks} chunks"
            );
        }
    }

    /// An attempt ends; what that must mean is worked out here, and compared with what the schedule says.
    pub(super) fn land(&mut self, flight: &Flight, how: Ended) {
        let running = self.outcome == Outcome::Running;
        let over = !running
            || self.schedule.plan().known_end() == Some(self.scene.settings.start) && !self.is_first_reply_in;
        let all_known = self.schedule.plan().known_end();
        let start = self.scene.settings.start;
        let nothing_ties = self.stream && !self.resumable && flight.at > start;
        let cannot_go_on = how == Ended::Fatal || nothing_ties;
        let brought_all = how == Ended::Complete || self.scene.settings.end == Some(flight.at);
        let ends_here = brought_all && self.stream && all_known.is_none();
        let end = if ends_here { Some(flight.at) } else { all_known };
        let slot = self.slots.iter_mut().find(|slot| slot.chunk == flight.chunk);
        let mut must_fail = false;
        if over {
        } else if let Some(slot) = slot {
            let slot_end = end.map_or(slot.end, |end| slot.end.min(end.max(slot.start)));
            let progress = flight.at - slot.base;
            slot.base = flight.at;
            if flight.at >= slot_end {
                let more = self.stream && end.is_none_or(|end| slot_end < end);
                must_fail = how == Ended::Fatal || (more && cannot_go_on);
                self.refund();
                self.permits = (self.permits + 1).min(self.scene.settings.concurrency);
            } else {
                let fruitless = if progress >= PROGRESS {
                    0
                } else {
                    slot.fruitless + 1
                };
                slot.fruitless = fruitless;
                let free = progress >= PLENTY || how == Ended::Complete && progress >= PROGRESS;
                must_fail =
                    cannot_go_on || fruitless > self.scene.settings.retries || (!free && self.tokens < PRICE);
                if !free && !must_fail {
                    self.tokens -= PRICE;
                }
                if let (Ended::Throttled(after), false) = (how, must_fail) {
                    self.permits = (self.permits / 2).max(1);
                    let after = after.unwrap_or_default().min(Backoff::LONGEST);
                    self.paused_until = self.paused_until.max(self.now + after);
                }
            }
        } else {
            self.counts.chunks_consumed_before_their_attempt_ended += 1;
            let more = end.is_none_or(|end| flight.at < end);
            must_fail = how == Ended::Fatal || (more && cannot_go_on);
        }
        let verdict = self.schedule.ended(flight.attempt.id, self.now, flight.at, how);
        if running {
            assert_eq!(verdict == Verdict::Failed, must_fail, "{how:?} of {flight:?}");
        }
        self.shrink(flight.chunk);
        if verdict == Verdict::Failed {
            self.end(Outcome::Failed);
        }
        self.call_consumer();
    }
}
