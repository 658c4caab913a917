//! What the end of an attempt must mean, worked out once more, and what a download may cost.

use std::time::Duration;

use pget_schedule::{AfterAttempt, AttemptEnd, Limit};

use super::{Outcome, World, flight::Flight};

/// The schedule's own constant, again: fewer bytes than these are no progress of an attempt.
const PROGRESS: u64 = 4096;
/// So long after the last byte, a wrong reply is believed the third time.
const BELIEVED: Duration = Duration::from_secs(10);

impl World<'_> {
    /// Bytes have come, and the schedule knows it.
    pub(super) fn progress_is_seen(&mut self) {
        self.failing = None;
        self.last_byte = self.now;
    }

    /// The download has given up: nothing has come for as long as it has patience.
    pub(super) fn gave_up(&mut self, limit: Limit) {
        let Limit::RetryTimeout { waited, position, .. } = limit else {
            panic!("gave up between attempts by {limit:?}");
        };
        assert!(waited >= self.scene.settings.retry_timeout, "after {waited:?}");
        let since = match position {
            None => {
                self.counts.gave_up += 1;
                self.last_byte
            }
            Some(position) => {
                self.counts.gave_up_on_a_range += 1;
                let slot = self
                    .slots
                    .iter()
                    .find(|slot| slot.filled == position && slot.filled < slot.end);
                slot.expect("a range that has not moved").last_byte
            }
        };
        assert!(
            self.now.saturating_sub(since) >= self.scene.settings.retry_timeout,
            "the last byte came at {since:?}, and it is {:?}",
            self.now
        );
        self.end(Outcome::Failed);
    }

    /// It does not go on for longer than that: a look is due when patience ends.
    pub(super) fn check_patience(&self) {
        let most = self.scene.settings.retry_timeout;
        let patient = self
            .failing
            .is_none_or(|(since, _)| self.now.saturating_sub(since) <= most);
        assert!(
            patient || self.outcome != Outcome::Running,
            "it fails since {:?}, and it is {:?}",
            self.failing,
            self.now
        );
        for slot in &self.slots {
            let Some(tried) = slot.tried.filter(|_| slot.filled < slot.end) else {
                continue;
            };
            if let Some(flight) = self.flights.values().find(|flight| flight.chunk == slot.chunk) {
                let tried = tried + (self.now - flight.launched);
                assert!(
                    tried <= most || self.outcome != Outcome::Running,
                    "a range was tried for {tried:?}: {slot:?}"
                );
            }
        }
    }

    /// Without a fault, nothing is asked for twice.
    pub(super) fn check_economy(&self) {
        let chunks = self.schedule.plan().chunks().expect("the end is known");
        let one_stream = self.streams_by_choice() || !self.scene.ranges;
        if self.scene.settings.wanted.end() == Some(self.scene.settings.wanted.start()) {
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
    pub(super) fn land(&mut self, flight: &Flight, how: AttemptEnd) {
        let running = self.outcome == Outcome::Running;
        let over = !running
            || self.schedule.plan().known_end() == Some(self.scene.settings.wanted.start())
                && !self.is_first_reply_in;
        let all_known = self.schedule.plan().known_end();
        let start = self.scene.settings.wanted.start();
        let nothing_ties = self.stream && !self.resumable && flight.at > start;
        let cannot_go_on = how == AttemptEnd::Fatal || nothing_ties;
        let brought_all = how == AttemptEnd::Complete || self.scene.settings.wanted.end() == Some(flight.at);
        let ends_here = brought_all && self.stream && all_known.is_none();
        let end = if ends_here { Some(flight.at) } else { all_known };
        let slot = self.slots.iter_mut().find(|slot| slot.chunk == flight.chunk);
        let mut must_fail = false;
        if over {
        } else if let Some(slot) = slot {
            let slot_end = end.map_or(slot.end, |end| slot.end.min(end.max(slot.start)));
            let progress = flight.at - slot.base;
            slot.base = flight.at;
            if progress > 0 {
                let last_byte = flight.quiet_since;
                (self.failing, self.last_byte) = (None, self.last_byte.max(last_byte));
                self.wrong_passes |= slot.wrong > 0;
                slot.last_byte = slot.last_byte.max(last_byte);
                (slot.wrong, slot.tried, slot.fenced) = (0, None, Duration::ZERO);
                slot.refused_alone = 0;
            }
            let slot_filled = flight.at >= slot_end;
            if slot_filled {
                let more = self.stream && end.is_none_or(|end| slot_end < end);
                must_fail = how == AttemptEnd::Fatal || (more && cannot_go_on);
            } else {
                must_fail = cannot_go_on || self.breaks_off(flight, how, progress);
            }
        } else {
            self.counts.chunks_consumed_before_their_attempt_ended += 1;
            let more = end.is_none_or(|end| flight.at < end);
            must_fail = how == AttemptEnd::Fatal || (more && cannot_go_on);
            if more && !must_fail && how != AttemptEnd::Complete {
                self.fails(self.now, how);
            }
        }
        self.schedule.was_quiet(flight.attempt.id, flight.quiet_since);
        let verdict = self.schedule.ended(flight.attempt.id, self.now, flight.at, how);
        if running {
            assert_eq!(
                verdict != AfterAttempt::GoesOn,
                must_fail,
                "{how:?} of {flight:?}"
            );
        }
        self.shrink(flight.chunk);
        if verdict != AfterAttempt::GoesOn {
            self.end(Outcome::Failed);
        }
        self.call_consumer();
    }

    /// The attempt has not completed its chunk. Whether that ends the download.
    fn breaks_off(&mut self, flight: &Flight, how: AttemptEnd, progress: u64) -> bool {
        let open = |chunk| self.slots.iter().any(|slot| slot.chunk == chunk);
        let others = self
            .flights
            .values()
            .any(|other| other.began && open(other.chunk));
        let wrong = matches!(how, AttemptEnd::Wrong | AttemptEnd::Damaged);
        let refusal = !flight.began && !wrong && how != AttemptEnd::Complete;
        let fruitless_for = self
            .failing
            .map_or(Duration::ZERO, |(_, noticed)| self.now.saturating_sub(noticed));
        let retries = self.scene.settings.retries;
        let slot = self.slots.iter_mut().find(|slot| slot.chunk == flight.chunk);
        let slot = slot.expect("it was there before");
        if progress >= PROGRESS {
            (slot.fruitless, slot.counted) = (0, 0);
        } else {
            slot.fruitless += 1;
            slot.counted += u32::from(!(refusal && others && retries != Some(0)));
        }
        if wrong && slot.wrong == 0 {
            slot.wrong_since = self.now;
        }
        slot.wrong += u32::from(wrong);
        let wrong_for = self.now - slot.wrong_since;
        let took = self.now - flight.launched;
        // A server that clips ranges does nothing wrong.
        let clipped = how == AttemptEnd::Complete && progress >= PROGRESS;
        let quiet_since = flight.quiet_since - std::mem::take(&mut slot.fenced);
        let quiet = self.now - quiet_since;
        slot.tried = (!clipped).then(|| slot.tried.map_or(quiet, |tried| tried + took));
        let alone = !self.wrong_passes && wrong_for >= BELIEVED;
        let lasts = how == AttemptEnd::Damaged || fruitless_for >= BELIEVED || alone;
        let believed = wrong && slot.wrong >= 3 && lasts;
        self.counts.lone_refusals_believed += u64::from(
            how == AttemptEnd::Refused && flight.alone && self.is_first_reply_in && slot.refused_alone == 3,
        );
        self.counts.believed_wrong += u64::from(believed);
        let lone = how == AttemptEnd::Refused && flight.alone;
        // Once the object was served, a lone refusal is believed the fourth time.
        let unconfirmed = self.is_first_reply_in && retries != Some(0) && slot.refused_alone < 3;
        if lone && unconfirmed {
            // The schedule's own pauses, again.
            let pause = [500, 1000, 2000][slot.refused_alone as usize];
            slot.refused_alone += 1;
            self.paused_until = self.paused_until.max(self.now + Duration::from_millis(pause));
            self.counts.lone_refusals_asked_again += 1;
        }
        let fails = lone && !unconfirmed || retries.is_some_and(|retries| slot.counted > retries) || believed;
        if progress < PROGRESS && !fails {
            self.fails(quiet_since, how);
        }
        fails
    }

    /// What was tried has brought nothing since then. Returns since when nothing has.
    pub(super) fn is_quiet_since(&mut self, since: Duration) -> Duration {
        let since = since.max(self.last_byte);
        let (before, noticed) = self.failing.unwrap_or((since, self.now));
        self.failing = Some((before.min(since), noticed));
        before.min(since)
    }

    /// An attempt has failed, and another may succeed.
    fn fails(&mut self, quiet_since: Duration, how: AttemptEnd) {
        let since = self.is_quiet_since(quiet_since);
        if let AttemptEnd::Throttled(Some(after)) = how {
            let left = (since + self.scene.settings.retry_timeout).saturating_sub(self.now);
            self.paused_until = self.paused_until.max(self.now + after.min(left - left / 20));
        }
    }
}
