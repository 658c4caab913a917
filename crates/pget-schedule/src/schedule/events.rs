//! What happens to a schedule: an attempt's reply, its end, the next chunk of a stream, the
//! consumer's move, the end of all.

use std::{ops::Range, time::Duration};

use super::{Phase, Schedule};
use crate::{
    Begun, Ended, Limit, Verdict,
    health::PROGRESS,
    open_chunk::{Place, State},
    track::Track,
};

/// So many wrong replies in a row of one range are believed to be all that there is.
const WRONG: u32 = 3;
/// But not before nothing was received for so long: one of several servers may be wrong, or a proxy
/// for a moment. Other ranges may have received bytes, unless one of those was wrong at first:
/// then replies are wrong now and then. Wrong bytes need no such proof.
const BELIEVED_AFTER: Duration = Duration::from_secs(10);

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
    ) -> Begun {
        let first = self.phase == Phase::Probe;
        if let Some(place) = self.place_of(id) {
            place.begun = true;
        }
        if let Some(total) = total
            && (first || self.is_stream())
        {
            self.plan.ends_at(total);
        }
        match self.phase {
            Phase::Stream { .. } => {
                self.stream(identity);
                Begun::Stream { end: self.plan.end() }
            }
            Phase::Probe if whole || self.streams_by_choice() => {
                self.stream(identity);
                Begun::Stream { end: self.plan.end() }
            }
            Phase::Probe if !identity && self.plan.chunks().is_none_or(|chunks| chunks > 1) => {
                self.stream(false);
                // The stream may be of another revision, which has its own end.
                self.plan.forget_end();
                Begun::Restream
            }
            // One chunk needs no second request, and without an identity it must not get one once
            // it has bytes.
            Phase::Probe if !identity => {
                self.stream(false);
                Begun::Stream { end: self.plan.end() }
            }
            Phase::Probe | Phase::Parallel | Phase::Over => {
                if first {
                    self.phase = Phase::Parallel;
                    if let Some(hint) = hint.filter(|hint| self.settings.follow_hint && *hint > 0) {
                        self.plan.chunk_size_from_second(hint);
                        self.tell_hint(hint);
                    }
                }
                let chunk = self.chunk_of(id).unwrap_or(self.cursor);
                let end = self.chunk_end(chunk);
                Begun::Chunk {
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
        if let Some(last) = self.places.back_mut()
            && last.state == State::InFlight(id)
        {
            last.state = State::Filled;
            last.failing_since = None;
            proved = last.proved;
        }
        // Nothing else is in flight whose silence this would end.
        self.health.progressed(self.stragglers.looked);
        if !proved {
            self.succeeded(None, true);
        }
        let index = self.open_place();
        let place = &mut self.places[index];
        place.state = State::InFlight(id);
        place.track = Track::new(Duration::ZERO, place.position);
        (place.begun, place.proved, place.alone) = (true, true, true);
        let chunk = self.cursor + index as u64;
        Some((chunk, self.plan.range(chunk).unwrap_or(u64::MAX..u64::MAX)))
    }

    /// The attempt `id`, which is about to end, has brought no byte since `since`. What it waited for
    /// was its source, and not its consumer.
    pub fn was_quiet(&mut self, id: u64, since: Duration) {
        if let Some(place) = self.place_of(id) {
            place.quiet_since = Some(since);
        }
    }

    /// The attempt ended, having brought its bytes up to `position` (an offset in the object).
    pub fn ended(&mut self, id: u64, now: Duration, position: u64, how: Ended) -> Verdict {
        self.in_flight -= 1;
        // A body of unknown length that ended as its framing says is all there is; and one that
        // brought all that was wanted is enough, however it ended.
        let is_all = how == Ended::Complete || self.plan.end() == Some(position);
        if is_all && self.is_stream() && self.plan.chunks().is_none() {
            self.plan.ends_at(position);
        }
        let Some(index) = self
            .places
            .iter()
            .position(|place| place.state == State::InFlight(id))
        else {
            // A stream whose last chunk was consumed before it asked for the next one.
            let unread = self.plan.chunks().is_none_or(|chunks| self.cursor < chunks);
            let fails = how == Ended::Fatal || unread && self.cannot_go_on(how, position);
            if self.phase == Phase::Over {
                return Verdict::GoesOn;
            }
            if fails {
                return self.fail(Limit::Final);
            }
            if unread && how != Ended::Complete {
                // What is left is opened as a new chunk.
                return self.passes(id, now, now, how);
            }
            return Verdict::GoesOn;
        };
        let chunk = self.cursor + index as u64;
        let end = self.chunk_end(chunk);
        let place = &mut self.places[index];
        let progress = position.saturating_sub(place.position);
        place.position = position;
        place.state = State::Waiting(now);
        if std::mem::take(&mut place.fencing) {
            // The fence came too late.
            place.owed = None;
        }
        if self.phase == Phase::Over {
            return Verdict::GoesOn;
        }
        self.tell_end(index, now, progress);
        let place = &mut self.places[index];
        if progress > 0 {
            self.wrong_passes |= place.progressed();
            self.health.progressed(place.quiet_since.unwrap_or(now).min(now));
        }
        if position >= end || progress >= PROGRESS {
            self.health.flows();
        }
        let place = &mut self.places[index];
        if (position >= end || progress >= PROGRESS) && !std::mem::replace(&mut place.proved, true) {
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
    fn filled(&mut self, index: usize, now: Duration, progress: u64, position: u64, how: Ended) -> Verdict {
        let chunk = self.cursor + index as u64;
        let place = &mut self.places[index];
        place.state = State::Filled;
        place.failing_since = None;
        self.stragglers.answered(now);
        if place.answered_at.is_none() {
            self.stragglers.pays(place, now, true);
        }
        self.stragglers.pays(place, now, false);
        // What a broken attempt has left says little about how long a chunk takes.
        if self.phase == Phase::Parallel && progress >= self.plan.chunk_size() / 2 {
            self.stragglers.completed(&place.track, now, progress);
        }
        // What a stream that was cut exactly at a chunk's end has left is opened as a new chunk, so
        // it needs no retry here.
        let unread = self.is_stream() && self.plan.chunks().is_none_or(|chunks| chunk + 1 < chunks);
        if how == Ended::Fatal || unread && self.cannot_go_on(how, position) {
            return self.fail(Limit::Final);
        }
        Verdict::GoesOn
    }

    /// The attempt at the chunk of `index` has ended before the chunk's end.
    fn broke_off(&mut self, index: usize, id: u64, now: Duration, progress: u64, how: Ended) -> Verdict {
        let is_served = self.others_are_served(index);
        let place = &mut self.places[index];
        let is_wrong = matches!(how, Ended::Wrong | Ended::Damaged);
        let is_refusal = !place.begun && !is_wrong && how != Ended::Complete;
        if how == Ended::Refused && place.alone {
            return self.fail(Limit::Final);
        }
        if progress >= PROGRESS {
            (place.fruitless, place.counted) = (0, 0);
        } else {
            place.fruitless += 1;
            // One request too many is no failed attempt at the range.
            let too_many = is_refusal && is_served && self.settings.retries != Some(0);
            place.counted += u32::from(!too_many);
        }
        let quiet_since = place.quiet_since.unwrap_or(now).min(now);
        let quiet_since = place.fails(quiet_since);
        place.refusals += u32::from(how == Ended::Refused);
        if is_wrong && place.wrong == 0 {
            place.wrong_since = now;
        }
        place.wrong += u32::from(is_wrong);
        self.some_range_fails = true;
        let (fruitless, counted) = (place.fruitless, place.counted);
        if self.settings.retries.is_some_and(|retries| counted > retries) {
            return self.fail(Limit::Retries { attempts: fruitless });
        }
        let (attempts, wrong_for) = (place.wrong, now.saturating_sub(place.wrong_since));
        let fruitless_for = self.health.lasted(now);
        let lasted = if self.wrong_passes {
            fruitless_for
        } else {
            fruitless_for.max(wrong_for)
        };
        let is_believed = how == Ended::Damaged || lasted >= BELIEVED_AFTER;
        if is_wrong && attempts >= WRONG && is_believed {
            return self.fail(Limit::Wrong { attempts });
        }
        let clipped = how == Ended::Complete && progress > 0;
        if clipped && progress >= PROGRESS {
            // A server that clips ranges has done nothing wrong: its rest is asked for at once.
            self.places[index].failing_since = None;
            return Verdict::GoesOn;
        }
        if progress < PROGRESS {
            self.passes(id, quiet_since, now, how);
        }
        if is_refusal {
            let by_status = matches!(how, Ended::Throttled(_) | Ended::Refused);
            self.throttle
                .refused(now, id, self.next_id, self.in_flight, by_status);
        }
        let is_usual = is_refusal && self.throttle.is_share() && self.throttle.is_alone();
        let delay = if fruitless == 0 || fruitless == 1 && is_usual {
            // Where a share of requests fails, another chunk would be asked for as soon.
            Duration::ZERO
        } else if is_refusal && is_served {
            self.backoff.delay(fruitless.min(4))
        } else {
            self.backoff.delay(fruitless)
        };
        self.places[index].state = State::Waiting(now + delay);
        self.decide(now);
        Verdict::GoesOn
    }

    /// A failure that another attempt may make up for.
    fn passes(&mut self, id: u64, quiet_since: Duration, now: Duration, how: Ended) -> Verdict {
        self.health.failed(id, quiet_since, now, &mut self.backoff);
        if let Ended::Throttled(Some(after)) = how {
            let after = self.health.honoured(now, after);
            self.paused_until = self.paused_until.max(now.saturating_add(after));
        }
        Verdict::GoesOn
    }

    /// Whether another attempt than that of `index` has its answer.
    fn others_are_served(&self, index: usize) -> bool {
        self.places
            .iter()
            .enumerate()
            .any(|(other, place)| other != index && place.begun && matches!(place.state, State::InFlight(_)))
    }

    /// Whether all attempts that were launched before have had their answers.
    pub(super) fn is_oldest(&self, id: u64) -> bool {
        !self
            .places
            .iter()
            .any(|place| matches!(place.state, State::InFlight(other) if other < id && !place.begun))
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

    /// An attempt that [`Begun::Restream`] ended: nothing of it counts.
    pub fn restream(&mut self, id: u64, now: Duration) {
        self.in_flight -= 1;
        if let Some(place) = self
            .places
            .iter_mut()
            .find(|place| place.state == State::InFlight(id))
        {
            place.state = State::Waiting(now);
            // The source has answered.
            self.health.probe_now(now);
        }
    }

    /// The consumer has taken the chunk at the cursor, whose bytes have all arrived (the attempt
    /// that brought them may still have to end).
    pub fn consumed(&mut self) {
        let Some(place) = self.places.pop_front() else {
            return;
        };
        self.cursor += 1;
        self.wrong_passes |= place.wrong > 0;
        if place.state != State::Filled {
            // Its last bytes have come since the last look, and complete it.
            self.health.moved();
            if !place.proved {
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
    fn cannot_go_on(&self, how: Ended, position: u64) -> bool {
        how == Ended::Fatal || !self.may_resume() && position > self.plan.start()
    }

    const fn stream(&mut self, resumable: bool) {
        self.phase = Phase::Stream { resumable };
        self.one_stream = true;
    }

    const fn fail(&mut self, limit: Limit) -> Verdict {
        self.phase = Phase::Over;
        Verdict::Failed(limit)
    }

    fn place_of(&mut self, id: u64) -> Option<&mut Place> {
        self.places
            .iter_mut()
            .find(|place| place.state == State::InFlight(id))
    }

    fn chunk_of(&self, id: u64) -> Option<u64> {
        let index = self
            .places
            .iter()
            .position(|place| place.state == State::InFlight(id))?;
        Some(self.cursor + index as u64)
    }
}
