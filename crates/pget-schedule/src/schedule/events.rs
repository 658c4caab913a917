//! What happens to a schedule: an attempt's reply, its end, the next chunk of a stream, the
//! consumer's move, the end of all.

use std::{ops::Range, time::Duration};

use super::{Phase, Schedule};
use crate::{
    AfterAttempt, AttemptEnd, Limit, ReplyOutcome,
    health::PROGRESS,
    open_chunk::{ChunkState, OpenChunk},
    track::Track,
};

/// So many wrong replies in a row of one range are believed to be all that there is.
const WRONG: u32 = 3;
/// But not before nothing was received for so long: one of several servers may be wrong, or a proxy
/// for a moment. Other ranges may have received bytes, unless one of those was wrong at first:
/// then replies are wrong now and then. Wrong bytes need no such proof.
const BELIEVED_AFTER: Duration = Duration::from_secs(10);

/// A range that was refused while nothing else was in flight is asked for again after each of these
/// pauses, with nothing else in flight. A refusal after the last pause is believed.
const CONFIRMED_AFTER: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

impl Schedule {
    /// The attempt's reply states the object's size (`total`), or does not (`None`);
    /// whether the body is the whole object although a part was asked for (`whole`); whether the
    /// object has an identity that later replies can be compared with; and where its body ends
    /// (`body_end`). The caller has checked that the body starts where it should, and that the
    /// numbers fit the pinned ones on later replies.
    pub fn begun(
        &mut self,
        id: u64,
        total: Option<u64>,
        whole: bool,
        identity: bool,
        hint: Option<u64>,
        body_end: Option<u64>,
    ) -> ReplyOutcome {
        let first = self.phase == Phase::Probe;
        if let Some(open_chunk) = self.open_chunk_of(id) {
            open_chunk.begun = true;
        }
        if let Some(total) = total
            && (first || self.is_stream())
        {
            self.plan.ends_at(total);
        }
        match self.phase {
            Phase::Stream { .. } => {
                self.stream(identity);
                ReplyOutcome::Stream { end: self.plan.end() }
            }
            Phase::Probe if whole || self.streams_by_choice() => {
                self.stream(identity);
                ReplyOutcome::Stream { end: self.plan.end() }
            }
            Phase::Probe if !identity && self.plan.chunks().is_none_or(|chunks| chunks > 1) => {
                self.stream(false);
                // The stream may be of another revision, which has its own end.
                self.plan.forget_end();
                ReplyOutcome::Restream
            }
            // One chunk needs no second request, and without an identity it must not get one once
            // it has bytes.
            Phase::Probe if !identity => {
                self.stream(false);
                ReplyOutcome::Stream { end: self.plan.end() }
            }
            Phase::Probe | Phase::Parallel | Phase::Over => {
                if first {
                    self.phase = Phase::Parallel;
                    if let Some(hint) = hint.filter(|hint| self.settings.follow_hint && *hint > 0) {
                        self.plan.chunk_size_from_second(hint);
                        self.note_hint(hint);
                    }
                }
                let chunk = self.chunk_of(id).unwrap_or(self.cursor);
                let end = self.chunk_end(chunk);
                ReplyOutcome::Chunk {
                    end: body_end.map_or(end, |body_end| body_end.min(end)),
                }
            }
        }
    }

    /// The stream attempt `id` has filled its chunk: the next one, or `None` while the window is
    /// full.
    pub fn next_in_stream(&mut self, id: u64) -> Option<(u64, Range<u64>)> {
        if !self.is_stream() || self.next_to_open().is_none() {
            return None;
        }
        let mut proved = true;
        if let Some(last) = self.open_chunks.back_mut()
            && last.state == ChunkState::InFlight(id)
        {
            last.state = ChunkState::Filled;
            last.failing_since = None;
            proved = last.proved;
        }
        // Nothing else is in flight whose silence this would end.
        self.health.progressed(self.stragglers.looked);
        if !proved {
            self.succeeded(None, true);
        }
        let index = self.open_next();
        let open_chunk = &mut self.open_chunks[index];
        open_chunk.state = ChunkState::InFlight(id);
        open_chunk.track = Track::new(Duration::ZERO, open_chunk.position);
        (open_chunk.begun, open_chunk.proved, open_chunk.alone) = (true, true, true);
        let chunk = self.cursor + index as u64;
        Some((chunk, self.plan.range(chunk).unwrap_or(u64::MAX..u64::MAX)))
    }

    /// The attempt `id`, which is about to end, has brought no byte since `since`. What it waited
    /// for was its source, and not its consumer.
    pub fn was_quiet(&mut self, id: u64, since: Duration) {
        if let Some(open_chunk) = self.open_chunk_of(id) {
            open_chunk.quiet_since = Some(since);
        }
    }

    /// The attempt ended, having brought its bytes up to `position` (an offset in the object).
    pub fn ended(&mut self, id: u64, now: Duration, position: u64, how: AttemptEnd) -> AfterAttempt {
        self.in_flight -= 1;
        // A body of unknown length that ended as its framing says is all there is; and one that
        // brought all that was wanted is enough, however it ended.
        let is_all = how == AttemptEnd::Complete || self.plan.end() == Some(position);
        if is_all && self.is_stream() && self.plan.chunks().is_none() {
            self.plan.ends_at(position);
        }
        let Some(index) = self
            .open_chunks
            .iter()
            .position(|open_chunk| open_chunk.state == ChunkState::InFlight(id))
        else {
            // A stream whose last chunk was consumed before it asked for the next one.
            let unread = self.plan.chunks().is_none_or(|chunks| self.cursor < chunks);
            let fails = how == AttemptEnd::Fatal || unread && self.cannot_go_on(how, position);
            if self.phase == Phase::Over {
                return AfterAttempt::GoesOn;
            }
            if fails {
                return self.fail(Limit::Final);
            }
            if unread && how != AttemptEnd::Complete {
                // What is left is opened as a new chunk.
                return self.passes(id, now, now, how);
            }
            return AfterAttempt::GoesOn;
        };
        let chunk = self.cursor + index as u64;
        let end = self.chunk_end(chunk);
        let open_chunk = &mut self.open_chunks[index];
        let progress = position.saturating_sub(open_chunk.position);
        open_chunk.position = position;
        open_chunk.state = ChunkState::Waiting(now);
        if std::mem::take(&mut open_chunk.fencing) {
            // The fence came too late.
            open_chunk.owed = None;
        }
        if self.phase == Phase::Over {
            return AfterAttempt::GoesOn;
        }
        self.note_end(index, now, progress);
        let open_chunk = &mut self.open_chunks[index];
        if progress > 0 {
            self.wrong_passes |= open_chunk.progressed();
            self.health
                .progressed(open_chunk.quiet_since.unwrap_or(now).min(now));
        }
        if position >= end || progress >= PROGRESS {
            self.health.flows();
        }
        let open_chunk = &mut self.open_chunks[index];
        if (position >= end || progress >= PROGRESS) && !std::mem::replace(&mut open_chunk.proved, true) {
            self.succeeded(Some(now), self.is_oldest(id));
        }
        if position >= end {
            return self.filled(index, now, progress, position, how);
        }
        if self.cannot_go_on(how, position) {
            return self.fail(Limit::Final);
        }
        self.broke_off(index, id, now, progress, how)
    }

    /// The attempt at the chunk of `index` has completed it.
    fn filled(
        &mut self,
        index: usize,
        now: Duration,
        progress: u64,
        position: u64,
        how: AttemptEnd,
    ) -> AfterAttempt {
        let chunk = self.cursor + index as u64;
        let open_chunk = &mut self.open_chunks[index];
        open_chunk.state = ChunkState::Filled;
        open_chunk.failing_since = None;
        self.stragglers.answered(now);
        if open_chunk.answered_at.is_none() {
            self.stragglers.pays(open_chunk, now, true);
        }
        self.stragglers.pays(open_chunk, now, false);
        // What a broken attempt has left says little about how long a chunk takes.
        if self.phase == Phase::Parallel && progress >= self.plan.chunk_size() / 2 {
            self.stragglers.completed(&open_chunk.track, now, progress);
        }
        // What a stream that was cut exactly at a chunk's end has left is opened as a new chunk, so
        // it needs no retry here.
        let unread = self.is_stream() && self.plan.chunks().is_none_or(|chunks| chunk + 1 < chunks);
        if how == AttemptEnd::Fatal || unread && self.cannot_go_on(how, position) {
            return self.fail(Limit::Final);
        }
        AfterAttempt::GoesOn
    }

    /// The attempt at the chunk of `index` has ended before the chunk's end.
    fn broke_off(
        &mut self,
        index: usize,
        id: u64,
        now: Duration,
        progress: u64,
        how: AttemptEnd,
    ) -> AfterAttempt {
        let is_served = self.others_are_served(index);
        let is_wrong = matches!(how, AttemptEnd::Wrong | AttemptEnd::Damaged);
        let begun = self.open_chunks[index].begun;
        let is_refusal = !begun && !is_wrong && how != AttemptEnd::Complete;
        let confirmed_at = match self.confirmed_at(index, now, how) {
            Ok(at) => at,
            Err(limit) => return self.fail(limit),
        };
        // A request that is one too many does not count as a failed attempt at the range.
        let too_many = is_refusal && is_served && self.settings.retries != Some(0);
        let quiet_since = self.open_chunks[index].broke_off(now, progress, how, too_many);
        self.some_range_fails = true;
        if let Some(limit) = self.reached(index, now, how) {
            return self.fail(limit);
        }
        let clipped = how == AttemptEnd::Complete && progress > 0;
        if clipped && progress >= PROGRESS {
            // A server that clips ranges has done nothing wrong: its rest is asked for at once.
            self.open_chunks[index].failing_since = None;
            return AfterAttempt::GoesOn;
        }
        if progress < PROGRESS {
            self.passes(id, quiet_since, now, how);
        }
        self.paused_until = self.paused_until.max(confirmed_at);
        if is_refusal {
            let by_status = matches!(how, AttemptEnd::Throttled(_) | AttemptEnd::Refused);
            self.throttle
                .refused(now, id, self.next_id, self.in_flight, by_status);
        }
        let fruitless = self.open_chunks[index].fruitless;
        let is_usual = is_refusal && self.throttle.is_share() && self.throttle.is_alone();
        let delay = if fruitless == 0 || fruitless == 1 && is_usual {
            // Where a share of requests fails, another chunk would be asked for as soon.
            Duration::ZERO
        } else if is_refusal && is_served {
            self.backoff.delay(fruitless.min(4))
        } else {
            self.backoff.delay(fruitless)
        };
        self.open_chunks[index].state = ChunkState::Waiting(now + delay);
        self.decide(now);
        AfterAttempt::GoesOn
    }

    /// Returns when a range that was refused alone is asked for again, alone; zero for every other
    /// end of an attempt.
    ///
    /// # Errors
    /// The refusal is believed.
    fn confirmed_at(&mut self, index: usize, now: Duration, how: AttemptEnd) -> Result<Duration, Limit> {
        let open_chunk = &mut self.open_chunks[index];
        if how == AttemptEnd::Refused && open_chunk.alone {
            // The object was served before, so a limit on the rate may refuse a lone request, too.
            let was_served = self.phase != Phase::Probe && self.settings.retries != Some(0);
            if !was_served {
                return Err(Limit::Final);
            }
            let Some(&pause) = CONFIRMED_AFTER.get(open_chunk.refused_alone as usize) else {
                let attempts = open_chunk.refusals + 1;
                return Err(Limit::Refused { attempts });
            };
            open_chunk.refused_alone += 1;
            return Ok(now + pause);
        }
        Ok(Duration::ZERO)
    }

    /// Returns the limit that the failed attempts at a range have reached, if they have.
    fn reached(&self, index: usize, now: Duration, how: AttemptEnd) -> Option<Limit> {
        let open_chunk = &self.open_chunks[index];
        let (fruitless, counted) = (open_chunk.fruitless, open_chunk.counted);
        if self.settings.retries.is_some_and(|retries| counted > retries) {
            return Some(Limit::Retries { attempts: fruitless });
        }
        if !matches!(how, AttemptEnd::Wrong | AttemptEnd::Damaged) {
            return None;
        }
        let wrong_for = now.saturating_sub(open_chunk.wrong_since);
        let fruitless_for = self.health.lasted(now);
        let lasted = if self.wrong_passes {
            fruitless_for
        } else {
            fruitless_for.max(wrong_for)
        };
        let is_believed = how == AttemptEnd::Damaged || lasted >= BELIEVED_AFTER;
        let attempts = open_chunk.wrong;
        (attempts >= WRONG && is_believed).then_some(Limit::Wrong { attempts })
    }

    /// A failure that another attempt may make up for.
    fn passes(&mut self, id: u64, quiet_since: Duration, now: Duration, how: AttemptEnd) -> AfterAttempt {
        self.health.failed(id, quiet_since, now, &mut self.backoff);
        if let AttemptEnd::Throttled(Some(after)) = how {
            let after = self.health.honoured(now, after);
            self.paused_until = self.paused_until.max(now.saturating_add(after));
        }
        AfterAttempt::GoesOn
    }

    /// Whether another attempt than that of `index` has its answer.
    fn others_are_served(&self, index: usize) -> bool {
        self.open_chunks.iter().enumerate().any(|(other, open_chunk)| {
            other != index && open_chunk.begun && matches!(open_chunk.state, ChunkState::InFlight(_))
        })
    }

    /// Whether all attempts that were launched before have had their answers.
    pub(super) fn is_oldest(&self, id: u64) -> bool {
        !self
            .open_chunks
            .iter()
            .any(|open_chunk| matches!(open_chunk.state, ChunkState::InFlight(other) if other < id && !open_chunk.begun))
    }

    /// An attempt has proved that the source serves. `in_turn`: and no earlier one waits for its
    /// answer.
    pub(super) fn succeeded(&mut self, now: Option<Duration>, in_turn: bool) {
        let trouble_since = self.health.succeeded();
        let alone = self.throttle.is_alone();
        self.throttle.served(in_turn);
        if let Some(since) = trouble_since {
            let lasted = now.map_or(Duration::MAX, |now| now.saturating_sub(since));
            self.throttle.back(lasted, alone);
        }
    }

    /// An attempt that [`ReplyOutcome::Restream`] ended: nothing of it counts.
    pub fn restream(&mut self, id: u64, now: Duration) {
        self.in_flight -= 1;
        if let Some(open_chunk) = self
            .open_chunks
            .iter_mut()
            .find(|open_chunk| open_chunk.state == ChunkState::InFlight(id))
        {
            open_chunk.state = ChunkState::Waiting(now);
            // The source has answered.
            self.health.probe_now(now);
        }
    }

    /// The consumer has taken the chunk at the cursor, whose bytes have all arrived (the attempt
    /// that brought them may still have to end).
    pub fn consumed(&mut self) {
        let Some(open_chunk) = self.open_chunks.pop_front() else {
            return;
        };
        self.cursor += 1;
        self.wrong_passes |= open_chunk.wrong > 0;
        if open_chunk.state != ChunkState::Filled {
            // Its last bytes have come since the last look, and complete it.
            self.health.moved();
            if !open_chunk.proved {
                self.succeeded(None, true);
            }
        }
    }

    /// No new attempt from here; the driver ends those in flight and reports each.
    pub fn cancel(&mut self) {
        self.phase = Phase::Over;
    }

    /// The number of bytes to ask for is known to be none (an empty object, or an offset at its
    /// end).
    pub fn nothing_to_read(&mut self) {
        self.plan.ends_at(self.plan.start());
        self.phase = Phase::Over;
    }

    /// Whether an attempt that ended like this, with bytes missing, ends the download: by its own
    /// word, or because nothing ties a second stream to the first.
    fn cannot_go_on(&self, how: AttemptEnd, position: u64) -> bool {
        how == AttemptEnd::Fatal || !self.may_resume() && position > self.plan.start()
    }

    const fn stream(&mut self, resumable: bool) {
        self.phase = Phase::Stream { resumable };
        self.one_stream = true;
    }

    const fn fail(&mut self, limit: Limit) -> AfterAttempt {
        self.phase = Phase::Over;
        AfterAttempt::Failed(limit)
    }

    fn open_chunk_of(&mut self, id: u64) -> Option<&mut OpenChunk> {
        self.open_chunks
            .iter_mut()
            .find(|open_chunk| open_chunk.state == ChunkState::InFlight(id))
    }

    fn chunk_of(&self, id: u64) -> Option<u64> {
        let index = self
            .open_chunks
            .iter()
            .position(|open_chunk| open_chunk.state == ChunkState::InFlight(id))?;
        Some(self.cursor + index as u64)
    }
}
