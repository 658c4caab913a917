//! What happens to a schedule: an attempt's reply, its end, the next chunk of a stream, the consumer's move, the end of all.

use std::{ops::Range, time::Duration};

use super::{Backoff, Begun, Ended, Phase, Schedule, State, Verdict};

/// Progress below this many bytes in an attempt is none, unless it completes the chunk: a server that gives a byte a connection must not be asked for ever.
const PROGRESS: u64 = 4096;

/// An attempt that brought this much has earned the next one: a proxy that cuts every body after some time must not end a long download.
const PLENTY: u64 = 64 << 10;

impl Schedule {
    /// The attempt's reply states the object's size (`total`), or that only its end tells (`None`); whether the body is the whole object although
    /// a part was asked for (`whole`); whether the object has an identity that later replies can be held against; and where its body ends (`body_end`).
    /// The caller has checked that the body starts where it should, and that the numbers fit the pinned ones on later replies.
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
            // One chunk needs no second request, and without an identity it must not get one once it has bytes.
            Phase::Probe if !identity => {
                self.stream(false);
                Begun::Stream { end: self.plan.end() }
            }
            Phase::Probe | Phase::Parallel | Phase::Over => {
                if first {
                    self.phase = Phase::Parallel;
                    if let Some(hint) = hint.filter(|hint| self.settings.follow_hint && *hint > 0) {
                        self.plan.chunk_size_from_second(hint);
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

    /// The stream attempt `id` has filled its chunk: the next one, or `None` while the window is full.
    pub fn next_in_stream(&mut self, id: u64) -> Option<(u64, Range<u64>)> {
        if !self.is_stream() || self.next_to_open().is_none() {
            return None;
        }
        if let Some(last) = self.places.back_mut()
            && last.state == State::InFlight(id)
        {
            last.state = State::Filled;
        }
        self.backoff.chunk_done();
        let index = self.open_place();
        self.places[index].state = State::InFlight(id);
        let chunk = self.cursor + index as u64;
        Some((chunk, self.plan.range(chunk).unwrap_or(u64::MAX..u64::MAX)))
    }

    /// The attempt ended, having brought its bytes up to `position` (an offset in the object).
    pub fn ended(&mut self, id: u64, now: Duration, position: u64, how: Ended) -> Verdict {
        self.in_flight -= 1;
        // A body of unknown length that ended as its framing says is all there is; and one that brought all that was wanted is enough, however it ended.
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
            return if self.phase != Phase::Over && fails {
                self.fail()
            } else {
                Verdict::GoesOn
            };
        };
        let chunk = self.cursor + index as u64;
        let end = self.chunk_end(chunk);
        let place = &mut self.places[index];
        let progress = position.saturating_sub(place.position);
        place.position = position;
        place.state = State::Waiting(now);
        place.fencing = false;
        if self.phase == Phase::Over {
            return Verdict::GoesOn;
        }
        if position >= end {
            place.state = State::Filled;
            // What a broken attempt has left says little about how long a chunk takes.
            if self.phase == Phase::Parallel && progress >= self.plan.chunk_size() / 2 {
                self.stragglers.completed(&place.track, now, progress);
            }
            self.backoff.chunk_done();
            self.permits = (self.permits + 1).min(self.settings.concurrency);
            // What a stream that was cut exactly at a chunk's end has left is opened as a new chunk, so it needs no retry here.
            let unread = self.is_stream() && self.plan.chunks().is_none_or(|chunks| chunk + 1 < chunks);
            return if how == Ended::Fatal || unread && self.cannot_go_on(how, position) {
                self.fail()
            } else {
                Verdict::GoesOn
            };
        }
        if self.cannot_go_on(how, position) {
            return self.fail();
        }
        let place = &mut self.places[index];
        place.fruitless = if progress >= PROGRESS {
            0
        } else {
            place.fruitless + 1
        };
        let (fruitless, retries) = (place.fruitless, self.settings.retries);
        let clipped = how == Ended::Complete && progress > 0;
        let earned = progress >= PLENTY || clipped && progress >= PROGRESS;
        if fruitless > retries || !(earned || self.backoff.spend()) {
            return self.fail();
        }
        // A server that clips ranges has done nothing wrong: its rest is asked for at once.
        let mut at = if clipped {
            now
        } else {
            now + self.backoff.delay(fruitless)
        };
        if let Ended::Throttled(after) = how {
            self.permits = (self.permits / 2).max(1);
            let after = after.unwrap_or(Duration::ZERO).min(Backoff::LONGEST);
            at = at.max(now + after);
            self.paused_until = self.paused_until.max(now + after);
        }
        self.places[index].state = State::Waiting(at);
        Verdict::GoesOn
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
        }
    }

    /// The consumer has taken the chunk at the cursor, whose bytes have all arrived (the attempt that brought them may still have to end).
    pub fn consumed(&mut self) {
        if self.places.pop_front().is_some() {
            self.cursor += 1;
        }
    }

    /// No new attempt from here; the driver ends those in flight and reports each.
    pub fn cancel(&mut self) {
        self.phase = Phase::Over;
    }

    /// The number of bytes to ask for is known to be none (an empty object, or an offset at its end).
    pub fn nothing_to_read(&mut self) {
        self.plan.ends_at(self.plan.start());
        self.phase = Phase::Over;
    }

    /// Whether an attempt that ended like this, with bytes missing, ends the download: by its own word, or because nothing ties a second stream to the first.
    fn cannot_go_on(&self, how: Ended, position: u64) -> bool {
        how == Ended::Fatal || !self.may_resume() && position > self.plan.start()
    }

    const fn stream(&mut self, resumable: bool) {
        self.phase = Phase::Stream { resumable };
        self.one_stream = true;
    }

    fn fail(&mut self) -> Verdict {
        self.phase = Phase::Over;
        Verdict::Failed
    }

    fn chunk_of(&self, id: u64) -> Option<u64> {
        let index = self
            .places
            .iter()
            .position(|place| place.state == State::InFlight(id))?;
        Some(self.cursor + index as u64)
    }
}
