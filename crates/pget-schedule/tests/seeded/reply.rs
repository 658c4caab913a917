//! Replies and bodies, and what the download does with them.

use pget_schedule::{AttemptEnd, ReplyOutcome};

use super::{
    Outcome, World,
    flight::{Fate, Flight},
};

impl World<'_> {
    /// The reply, and what the download does with it; `false` if the attempt is over.
    pub(super) fn begin(&mut self, flight: &mut Flight) -> bool {
        let (start, size) = (flight.attempt.start, self.scene.size);
        if let Fate::Before(how) = flight.fate {
            self.faults += 1;
            match how {
                AttemptEnd::Throttled(_) => self.counts.throttled_before_the_reply += 1,
                AttemptEnd::Refused => self.counts.refused_before_the_reply += 1,
                AttemptEnd::Wrong => self.counts.wrong_replies += 1,
                AttemptEnd::Damaged => self.counts.damaged_bodies += 1,
                AttemptEnd::Fatal => self.counts.fatal_before_the_reply += 1,
                AttemptEnd::Retry | AttemptEnd::Complete => self.counts.retryable_before_the_reply += 1,
            }
            self.land(flight, how);
            return false;
        }
        if start > size || (start == size && self.scene.rng.bool()) {
            return self.not_satisfiable(flight);
        }
        let whole = !self.scene.ranges || (self.scene.faults > 0 && self.scene.rng.u32(0..20) == 0);
        if whole
            && self.is_first_reply_in
            && flight.attempt.end.is_some()
            && !(start == 0 && flight.attempt.end == Some(size))
        {
            self.counts.ranges_ignored_later += 1;
            self.faults += 1;
            self.land(flight, AttemptEnd::Retry);
            return false;
        }
        let first = !self.is_first_reply_in;
        let body_end = if whole {
            size
        } else {
            let end = flight.attempt.end.unwrap_or(u64::MAX).min(size);
            self.scene.clip.map_or(end, |clip| end.min(start + clip))
        };
        let clipped = !whole && body_end < flight.attempt.end.unwrap_or(u64::MAX).min(size);
        self.counts.clipped_bodies += u64::from(clipped);
        self.faults += u64::from(clipped);
        let told = (self.scene.tells_size || !whole).then_some(size);
        self.counts.unknown_sizes += u64::from(told.is_none());
        self.counts.no_identity += u64::from(!self.scene.identity);
        self.counts.ranges_ignored_at_first += u64::from(whole && first);
        self.faults += u64::from(whole && self.scene.ranges);
        let said_end = (told.is_some() || !whole).then_some(body_end);
        self.counts.hints += u64::from(first && self.scene.settings.follow_hint && self.scene.hint.is_some());
        let begun = self.schedule.begun(
            flight.attempt.id,
            told,
            whole,
            self.scene.identity,
            self.scene.hint,
            said_end,
        );
        flight.began = true;
        flight.quiet_since = self.now;
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.chunk == flight.chunk) {
            self.answered_after_fences += u64::from(std::mem::take(&mut slot.after_fence));
        }
        let wanted_end = match begun {
            ReplyOutcome::Restream => {
                assert!(first && !self.scene.identity, "read again without need");
                self.counts.restreams += 1;
                (self.stream, self.resumable, self.is_first_reply_in) = (true, false, true);
                flight.restream = true;
                return true;
            }
            ReplyOutcome::Chunk { end } => {
                assert!(
                    self.scene.identity || self.outcome != Outcome::Running,
                    "many requests without an identity"
                );
                assert!(!self.stream, "a stream that became a chunk");
                Some(end)
            }
            ReplyOutcome::Stream { end } => {
                assert!(first || self.stream, "a stream among ranges");
                (self.stream, self.resumable) = (true, self.scene.identity);
                end
            }
        };
        self.is_first_reply_in = true;
        self.shrink(flight.chunk);
        flight.body_end = body_end.min(wanted_end.unwrap_or(u64::MAX)).max(start);
        flight.left = u64::MAX;
        if let Fate::After(bytes, how) = flight.fate
            // A body of unknown length that ends well is all there is: it cannot be short.
            && (how != AttemptEnd::Complete || told.is_some())
        {
            (flight.left, flight.ends) = (bytes, how);
        }
        true
    }

    /// The server refuses the range, and `head` tells why.
    fn not_satisfiable(&mut self, flight: &Flight) -> bool {
        if flight.attempt.start > self.scene.size || self.is_first_reply_in {
            self.faults += 1;
            self.land(flight, AttemptEnd::Fatal);
        } else {
            self.schedule.nothing_to_read();
            self.land(flight, AttemptEnd::Complete);
        }
        false
    }

    /// More of the body; `false` if the attempt is over.
    pub(super) fn bring(&mut self, flight: &mut Flight) -> bool {
        // When there is no slot, it was full and is consumed.
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.chunk == flight.chunk) {
            let room = slot.end.min(flight.body_end) - flight.at;
            let bytes = match self.scene.rng.u32(0..3) {
                0 => room,
                _ => self.scene.rng.u64(0..=room),
            }
            .min(flight.left)
            .min(
                flight
                    .connection
                    .most(self.scene.settings.chunk_size, flight.at - flight.attempt.start),
            );
            assert_eq!(slot.filled, flight.at, "a byte twice, or out of order");
            slot.filled += bytes;
            flight.at += bytes;
            flight.left -= bytes.min(flight.left);
            if bytes > 0 {
                flight.quiet_since = self.now;
                self.call_consumer();
            }
            if flight.left == 0 {
                return self.stops(flight);
            }
            if flight.stalls() && bytes < room {
                // Until the deadline.
                self.faults += 1;
                flight.done = true;
                flight.ends = AttemptEnd::Retry;
                return true;
            }
            if bytes < room {
                return true;
            }
        }
        if flight.at >= flight.body_end {
            flight.done = true;
            flight.ends = AttemptEnd::Complete;
            return true;
        }
        let Some((chunk, range)) = self.schedule.next_in_stream(flight.attempt.id) else {
            self.counts.streams_waiting_for_the_window += 1;
            self.parked = Some(flight.attempt.id);
            return true;
        };
        assert!(self.stream, "an attempt goes beyond its chunk");
        assert_eq!(
            range.start,
            self.scene.wanted_from(flight.at),
            "the stream goes on where it was, or behind the gap"
        );
        self.counts.streams_over_gaps += u64::from(range.start > flight.at);
        self.progress_is_seen();
        // Until now, it may have waited for the consumer.
        flight.quiet_since = self.now;
        flight.at = range.start;
        if flight.at > flight.body_end {
            // Its body was clipped in the gap.
            flight.done = true;
            flight.ends = AttemptEnd::Retry;
        }
        let next = self
            .slots
            .back()
            .map_or_else(|| self.schedule.cursor(), |slot| slot.chunk + 1);
        assert_eq!(chunk, next, "the next chunk");
        flight.chunk = chunk;
        self.open(chunk, &range);
        true
    }

    fn stops(&mut self, flight: &mut Flight) -> bool {
        self.faults += 1;
        match flight.ends {
            AttemptEnd::Retry => self.counts.retryable_in_the_body += 1,
            AttemptEnd::Throttled(_) => self.counts.throttled_in_the_body += 1,
            AttemptEnd::Refused | AttemptEnd::Wrong | AttemptEnd::Damaged | AttemptEnd::Fatal => {
                self.counts.fatal_in_the_body += 1;
            }
            AttemptEnd::Complete => self.counts.short_bodies += 1,
        }
        flight.done = true;
        true
    }
}
