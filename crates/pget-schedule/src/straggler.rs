//! Which attempt is so much slower than its siblings that it is to be fenced. Pure; a part of
//! `Schedule`.
//!
//! *To fence* an attempt: its writer goes, and the rest of its chunk is asked for again at once,
//! from the watermark, over a fresh connection and into the same slot. The driver does it. The slot
//! itself ensures that no byte has two writers (see `ring` in `pget-core`). This module only
//! decides when a fence pays.
//!
//! The norm is the median of what the other attempts bring now, made up to the number of attempts
//! in flight with what the latest complete chunks brought. Hence nothing is fenced when the whole
//! source is slow, when there are no siblings, or when the consumer is slow (the chunk at the
//! cursor is complete then). An attempt whose connection is silent is fenced, too (see `silence`).
//! It is then asked for over whichever connection is served, as a fresh one may be what was not.
//!
//! Bounds: a fence that paid (the attempt after it was at least twice as fast) makes up for one
//! that did not. The others are at most 5 % of the requests, rounded up, and one. A chunk is fenced
//! at most twice for being slow. A fence is no failed attempt: it pays no retry and waits for no
//! backoff.

mod again;

use std::{collections::VecDeque, time::Duration};

use super::{Flow, PROGRESS, Phase, Place, Schedule, State, silence};

/// Fences of one chunk at the most. More would say that it is not the connection.
const MOST_OF_A_CHUNK: u32 = 2;
/// Of so many requests, one may follow a fence that does not pay.
const SHARE: u64 = 20;
/// How many times slower than the norm an attempt is that may be fenced.
const FAR: u64 = 4;
/// How many times longer the rest must take than all of the chunk would at the norm.
const MARGIN: u32 = 2;
/// And so much longer than that, as a connection must be made.
const SETUP: Duration = Duration::from_millis(50);
/// What is seen of an attempt in a time shorter than this says little.
const SHORTEST: Duration = Duration::from_millis(100);
/// Enough to be seen of an attempt, however long its chunk takes.
const LONGEST: Duration = Duration::from_millis(400);
/// Looks within the time that an attempt is judged by.
const LOOKS: u32 = 4;
/// Complete chunks that are remembered.
const REMEMBERED: usize = 32;
/// Fewer siblings are no norm.
const LEAST_SIBLINGS: usize = 2;
/// What a schedule remembers of how fast its attempts were.
#[derive(Clone, Debug)]
pub(super) struct Stragglers {
    /// The latest complete chunks, newest last.
    complete: VecDeque<Pace>,
    /// Between looks. An attempt is judged by [`LOOKS`] of them, which is as long as chunks take,
    /// within limits.
    step: Duration,
    pub(super) looked: Duration,
    fences: u64,
    /// Requests that are to go over fresh connections, and how many did.
    to_renew: u32,
    renewed: u64,
    /// Fences after which the next attempt was at least twice as fast. Each earns itself back, and
    /// one more.
    paid: u64,
    /// When an attempt last had its answer.
    pub(super) answered: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Pace {
    bytes: u64,
    took: Duration,
    /// To its first byte, as far as was seen.
    first: Duration,
}

impl Pace {
    fn body_rate(&self) -> u64 {
        rate(self.bytes, self.took.saturating_sub(self.first))
    }
}

/// One attempt as the looks saw it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Track {
    launched: Duration,
    /// It has waited for leave to send its request: its times say nothing of the source.
    held_up: bool,
    start: u64,
    position: u64,
    /// When its first byte was seen.
    first: Option<Duration>,
    /// When how many bytes had come, oldest first.
    marks: [(Duration, u64); LOOKS as usize + 1],
    count: usize,
}

impl Track {
    pub(super) fn new(launched: Duration, start: u64) -> Self {
        Self {
            launched,
            start,
            position: start,
            ..Self::default()
        }
    }

    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// Returns whether bytes have come since the last look, and whether some were accepted.
    fn saw(&mut self, now: Duration, flow: Flow) -> (bool, bool) {
        let before = self.seen().map_or(0, |(_, (_, bytes))| bytes);
        let accepted = flow.position > self.position;
        self.note(now, flow);
        (accepted || flow.bytes > before, accepted)
    }

    fn note(&mut self, now: Duration, flow: Flow) {
        self.position = flow.position;
        if !flow.asked {
            self.held_up = true;
            self.launched = now;
            return;
        }
        if self.first.is_none() && flow.bytes > 0 {
            // The time before the first byte is not the body's.
            self.first = Some(now);
            self.count = 0;
        }
        if self.count == self.marks.len() {
            self.marks.rotate_left(1);
            self.count -= 1;
        }
        self.marks[self.count] = (now, flow.bytes);
        self.count += 1;
    }

    /// When its request went out, once that was seen.
    pub(super) fn asked_at(&self) -> Option<Duration> {
        (self.count > 0).then_some(self.launched)
    }

    fn seen(&self) -> Option<((Duration, u64), (Duration, u64))> {
        let seen = &self.marks[..self.count];
        Some((*seen.first()?, *seen.last()?))
    }

    /// Bytes per second that its body brings now, if it was seen for long enough; 0 while no answer
    /// has come.
    fn rate(&self, long_enough: Duration) -> Option<u64> {
        let ((from, before), (to, after)) = self.seen()?;
        (to - from >= long_enough).then(|| rate(after - before, to - from))
    }

    /// It brings more and more, as a fresh connection does.
    fn speeds_up(&self) -> bool {
        let Some(((_, before), (_, after))) = self.seen() else {
            return false;
        };
        let (_, middle) = self.marks[self.count / 2];
        after > middle && after - middle >= 2 * (middle - before)
    }

    /// Offset behind what has come, also if it is not published yet.
    fn received(&self) -> u64 {
        let bytes = self.seen().map_or(0, |(_, (_, bytes))| bytes);
        self.start.saturating_add(bytes).max(self.position)
    }
}

/// What attempts bring as a rule.
struct Norm {
    /// Bytes a second.
    rate: u64,
    /// To the first byte.
    first: Duration,
}

impl Default for Stragglers {
    fn default() -> Self {
        Self {
            complete: VecDeque::new(),
            step: LONGEST / LOOKS,
            looked: Duration::ZERO,
            fences: 0,
            to_renew: 0,
            renewed: 0,
            paid: 0,
            answered: Duration::ZERO,
        }
    }
}

impl Stragglers {
    pub(super) fn completed(&mut self, track: &Track, now: Duration, bytes: u64) {
        if track.held_up {
            return;
        }
        if self.complete.len() == REMEMBERED {
            self.complete.pop_front();
        }
        let took = now.saturating_sub(track.launched);
        let first = track
            .first
            .map_or(took, |first| first.saturating_sub(track.launched));
        let pace = Pace { bytes, took, first };
        let rates = self.complete.iter().map(Pace::body_rate).collect();
        // A connection that is new, or was idle, starts slowly.
        let is_steady = track.count == track.marks.len() && !track.speeds_up();
        if is_steady
            && self.complete.len() >= REMEMBERED / 4
            && median(rates).is_some_and(|usual| pace.body_rate().saturating_mul(FAR) < usual)
            && self.is_worth_a_set_up(&pace)
        {
            self.to_renew += 1;
        }
        self.complete.push_back(pace);
        let took = self.complete.iter().map(|pace| pace.took).collect();
        self.step = median(took).map_or(LONGEST, |took| took.clamp(SHORTEST, LONGEST)) / LOOKS;
    }

    /// The attempt of `place` goes well: notes whether the fence before it has paid. `answered`:
    /// the attempt has its answer now; otherwise it has its last byte.
    pub(super) fn pays(&mut self, place: &mut Place, now: Duration, answered: bool) {
        let took = now.saturating_sub(place.track.launched);
        if let Some(owed) = place.owed
            && answered == place.owed_for_silence
        {
            place.owed = None;
            self.paid += u64::from(took * 2 <= owed);
        }
    }

    /// Whether attempt `id` is to go over a fresh connection, because one of those in use is far
    /// slower than the others.
    pub(super) const fn renews(&mut self, id: u64) -> bool {
        // Where rates vary by themselves, this does not help, and is bounded.
        let renews = self.to_renew > 0 && self.renewed < id / SHARE + 2;
        if renews {
            self.renewed += 1;
        }
        self.to_renew = 0;
        renews
    }

    /// An attempt has had its answer by now.
    pub(super) const fn answered(&mut self, now: Duration) {
        self.answered = now;
    }

    /// How long answers take as a rule, once some are known.
    pub(super) fn usual_answer(&self) -> Option<Duration> {
        median(self.complete.iter().map(|pace| pace.first).collect())
    }

    fn long_enough(&self) -> Duration {
        self.step * LOOKS
    }
}

impl Schedule {
    /// Fences so far.
    #[must_use]
    pub const fn fences(&self) -> u64 {
        self.stragglers.fences
    }

    /// When to [look](Self::look) next; `None`: not before another event.
    #[must_use]
    pub fn look_at(&self) -> Option<Duration> {
        super::earlier(self.straggler_at(), self.control_at())
    }

    fn straggler_at(&self) -> Option<Duration> {
        let compares = self.phase == Phase::Parallel && self.settings.concurrency > 1;
        let over = self.phase == Phase::Over;
        let matters =
            !over && self.in_flight > 0 && (compares || self.some_range_fails || !self.health.is_well());
        matters.then(|| {
            let next = self.stragglers.looked + self.stragglers.step;
            self.last_look_at().map_or(next, |last| next.min(last))
        })
    }

    /// Looks at what the attempts in flight have brought by `now`, each as `flow` reports it.
    /// Returns the attempt to be fenced, if there is one.
    ///
    /// The driver ends that attempt and reports it by [`fenced`](Self::fenced), or by
    /// [`ended`](Self::ended) if the attempt came to its end by itself. Before it is
    /// [time](Self::look_at), nothing is looked at.
    pub fn look(&mut self, now: Duration, flow: impl Fn(u64) -> Option<Flow>) -> Option<u64> {
        self.control(now, &flow);
        if self.straggler_at().is_none_or(|at| at > now) {
            return None;
        }
        self.stragglers.looked = now;
        self.see(now, flow);
        let index = if self.health.is_in_trouble() {
            let index = self.silent_probe(now)?;
            self.places[index].silent = true;
            index
        } else if let Some(since) = self.silent_since(now) {
            self.health.sink(now, since, &mut self.backoff);
            self.throttle.outage();
            return None;
        } else {
            self.straggler(now)?
        };
        let place = &mut self.places[index];
        let State::InFlight(id) = place.state else {
            return None;
        };
        place.fencing = true;
        Some(id)
    }

    /// Notes what the attempts in flight have brought.
    fn see(&mut self, now: Duration, flow: impl Fn(u64) -> Option<Flow>) {
        let (mut flows, mut accepted, mut proved) = (false, false, Vec::new());
        for place in &mut self.places {
            let State::InFlight(id) = place.state else {
                continue;
            };
            let Some(flow) = flow(id) else { continue };
            let (moved, more) = place.track.saw(now, flow);
            place.begun |= flow.bytes > 0;
            flows |= moved;
            if more {
                accepted = true;
                self.wrong_passes |= place.progressed();
            }
            if !place.proved && flow.position.saturating_sub(place.position) >= PROGRESS {
                place.proved = true;
                proved.push(id);
            }
            if place.begun && place.answered_at.is_none() {
                place.answered_at = Some(now);
                self.stragglers.answered(now);
                self.stragglers.pays(place, now, true);
            }
        }
        if accepted {
            self.health.progressed();
        }
        if flows {
            self.health.flows();
        }
        for id in proved {
            self.succeeded(Some(now), self.is_oldest(id));
        }
    }

    /// The attempt that is far slower than the others, or silent.
    fn straggler(&mut self, now: Duration) -> Option<usize> {
        // While the server wants a pause or fewer requests, the rest could not be asked for at
        // once. A consumer that has something to take is not waiting.
        if !self.may_fence()
            || self.phase != Phase::Parallel
            || self.settings.concurrency == 1
            || self.paused_until > now
            || self.consumer_has_all()
        {
            return None;
        }
        let near = match self.next_to_open() {
            Some(_) => self.settings.concurrency as usize,
            None => usize::MAX,
        };
        let near = self.places.len().min(near);
        let may_ask = self.in_flight <= self.throttle.permits();
        let norm = self.norm().filter(|_| may_ask);
        let slow = norm.and_then(|norm| {
            let index = (0..near).find(|&index| self.is_straggler(index, now, &norm))?;
            let track = &self.places[index].track;
            let rest = match track.rate(self.stragglers.long_enough()) {
                Some(rate) if track.first.is_some() => time(
                    self.chunk_end(self.cursor + index as u64) - track.received(),
                    rate,
                ),
                _ => now - track.launched,
            };
            Some((index, rest))
        });
        let silent = || {
            let index = (0..near).find(|&index| self.is_connection_silent(index, now))?;
            Some((index, now - self.places[index].track.launched))
        };
        let (index, owed) = slow.or_else(silent)?;
        let place = &mut self.places[index];
        place.fences += 1;
        place.owed = Some(owed);
        place.silent = !place.begun;
        place.owed_for_silence = place.silent;
        self.stragglers.fences += 1;
        if place.silent
            && let State::InFlight(id) = place.state
        {
            let young = |place: &&Place| {
                matches!(place.state, State::InFlight(_))
                    && (place.begun || now.saturating_sub(place.track.launched) < silence::LEAST)
            };
            let served = self.places.iter().filter(young).count();
            let served = u32::try_from(served).unwrap_or(u32::MAX);
            self.throttle.unanswered(now, id, self.next_id, served);
        }
        Some(index)
    }

    /// The attempt that was to be fenced has let go of its slot, whose watermark is at `position`.
    pub fn fenced(&mut self, id: u64, now: Duration, position: u64) {
        self.in_flight -= 1;
        let Some(index) = self
            .places
            .iter()
            .position(|place| place.state == State::InFlight(id))
        else {
            return;
        };
        let end = self.chunk_end(self.cursor + index as u64);
        let progress = position.saturating_sub(self.places[index].position);
        self.tell_end(index, now, progress);
        let set_up = self.stragglers.set_up();
        let place = &mut self.places[index];
        if position > place.position {
            self.wrong_passes |= place.progressed();
            self.health.progressed();
        }
        place.position = position;
        place.fencing = false;
        // A silent one is asked for over a connection that is served, if there is one.
        let silent = std::mem::take(&mut place.silent);
        // In trouble, connections that were kept may all be dead: each second time, a fresh one is
        // tried.
        place.silences += u32::from(silent);
        // A fresh connection starts slowly: for a short rest, one that was used last is as fast.
        let owed = place.owed.unwrap_or(Duration::MAX);
        place.fresh =
            !silent && owed >= set_up || self.health.is_in_trouble() && place.silences.is_multiple_of(2);
        place.state = State::Waiting(now);
        if position >= end {
            place.state = State::Filled;
            place.failing_since = None;
        } else if silent && self.health.is_in_trouble() {
            // It counts as a failure, as its deadline would.
            place.failing_since.get_or_insert(now);
            place.failures += 1;
            self.some_range_fails = true;
            self.health.failed(id, now, &mut self.backoff);
            self.health.probe_now(now);
        }
    }

    /// Whether all of the chunk at the cursor is there to be taken.
    fn consumer_has_all(&self) -> bool {
        self.places.front().is_some_and(|place| {
            place.state == State::Filled || place.track.position >= self.chunk_end(self.cursor)
        })
    }

    /// Whether the attempt at the cursor takes far longer than complete chunks did.
    pub(super) fn cursor_lags(&self, now: Duration) -> bool {
        let Some(place) = self.places.front() else {
            return false;
        };
        let usual = median(self.stragglers.complete.iter().map(|pace| pace.took).collect());
        matches!(place.state, State::InFlight(_))
            && usual.is_some_and(|usual| now.saturating_sub(place.track.launched) > usual * 2)
    }

    const fn may_fence(&self) -> bool {
        self.stragglers.fences.saturating_sub(self.stragglers.paid * 2) < self.next_id.div_ceil(SHARE) + 1
    }

    fn norm(&self) -> Option<Norm> {
        let stragglers = &self.stragglers;
        let long_enough = stragglers.long_enough();
        let tracks = self
            .places
            .iter()
            .filter(|place| matches!(place.state, State::InFlight(_)))
            .map(|place| &place.track);
        let mut rates: Vec<u64> = tracks
            .clone()
            .filter_map(|track| track.rate(long_enough))
            .collect();
        let wanted = (self.settings.concurrency as usize).max(LEAST_SIBLINGS + 1);
        let complete = stragglers.complete.iter().rev();
        rates.extend(
            complete
                .clone()
                .take(wanted.saturating_sub(rates.len()))
                .map(|pace| rate(pace.bytes, pace.took)),
        );
        if rates.len() <= LEAST_SIBLINGS {
            return None;
        }
        let firsts = tracks.filter_map(|track| Some(track.first? - track.launched));
        let firsts = firsts.chain(complete.map(|pace| pace.first)).collect();
        Some(Norm {
            rate: median(rates).filter(|&rate| rate > 0)?,
            first: median(firsts).unwrap_or_default(),
        })
    }

    fn is_straggler(&self, index: usize, now: Duration, norm: &Norm) -> bool {
        let place = &self.places[index];
        let track = &place.track;
        let chunk = self.cursor + index as u64;
        let Some(range) = self.plan.range(chunk) else {
            return false;
        };
        let candidate =
            matches!(place.state, State::InFlight(_)) && !place.fencing && place.fences < MOST_OF_A_CHUNK;
        if !candidate || track.position >= range.end || track.count == 0 {
            return false;
        }
        let long_enough = self.stragglers.long_enough();
        let whole = norm.first + time(range.end - range.start, norm.rate);
        if track.first.is_none() {
            return now - track.launched >= long_enough + norm.first + whole;
        }
        // While others wait for the cursor, one more request for its rest costs nothing.
        if index == 0 && self.is_window_full() {
            return self.is_worth_asking_again(range.end, track, norm);
        }
        let Some(rate) = track.rate(long_enough) else {
            return false;
        };
        let rest = time(range.end.saturating_sub(track.received()), rate);
        rate.saturating_mul(FAR) <= norm.rate && !track.speeds_up() && rest >= whole * MARGIN + SETUP
    }
}

/// Bytes a second.
fn rate(bytes: u64, time: Duration) -> u64 {
    let nanos = time.as_nanos().max(1);
    u64::try_from(u128::from(bytes) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// How long `bytes` take at `rate`; a year at the most, as they may never come.
fn time(bytes: u64, rate: u64) -> Duration {
    const YEAR: u64 = 365 * 86_400;
    let micros = u128::from(bytes) * 1_000_000 / u128::from(rate.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)).min(Duration::from_secs(YEAR))
}

/// The lower one of the middle.
fn median<T: Ord + Copy>(mut values: Vec<T>) -> Option<T> {
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable(middle).1)
}
