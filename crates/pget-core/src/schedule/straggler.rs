//! Which attempt is so much slower than its siblings that it is to be fenced. Pure; called by `Schedule` and, through [`Schedule::look`], by the driver.
//!
//! *To fence* an attempt: its writer goes, and the rest of its chunk is asked for again at once, from the watermark, over a fresh connection and into the same slot. The
//! driver does it; that no byte has two writers is the slot's own promise (see [`ring`](crate::ring)). Here it is only decided when it pays.
//!
//! The norm is the median of what the other attempts bring now, made up to the number of attempts in flight with what the latest complete chunks brought. Hence nothing is fenced when the whole
//! source is slow; when there are no siblings; nor when the consumer is what is slow (the chunk at the cursor is complete then).
//!
//! Bounds: two fences a chunk, and 5 % of the requests, rounded up, and one. A fence is no failed attempt: it pays no retry and waits for no backoff.

use std::{collections::VecDeque, time::Duration};

use super::{Flow, Phase, Schedule, State};

/// Fences of one chunk at the most. More would say that it is not the connection.
const MOST_OF_A_CHUNK: u32 = 2;
/// Of so many requests, one may follow a fence.
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
    /// Between looks. An attempt is judged by [`LOOKS`] of them, which is as long as chunks take, within limits.
    step: Duration,
    looked: Duration,
    fences: u64,
}

#[derive(Clone, Copy, Debug)]
struct Pace {
    bytes: u64,
    took: Duration,
    /// To its first byte, as far as was seen.
    first: Duration,
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

    fn saw(&mut self, now: Duration, flow: Flow) {
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

    fn seen(&self) -> Option<((Duration, u64), (Duration, u64))> {
        let seen = &self.marks[..self.count];
        Some((*seen.first()?, *seen.last()?))
    }

    /// Bytes a second that its body brings now, if it was seen for long enough; none, while no answer has come.
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
        self.complete.push_back(Pace { bytes, took, first });
        let took = self.complete.iter().map(|pace| pace.took).collect();
        self.step = median(took).map_or(LONGEST, |took| took.clamp(SHORTEST, LONGEST)) / LOOKS;
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
        let matters = self.phase == Phase::Parallel
            && self.settings.concurrency > 1
            && self.in_flight > 0
            && self.may_fence();
        matters.then(|| self.stragglers.looked + self.stragglers.step)
    }

    /// Looks at what the attempts in flight have brought by `now`, each as `flow` tells it; gives the attempt to be fenced, if there is one. The driver ends it and says so by
    /// [`fenced`](Self::fenced), or by [`ended`](Self::ended) if it came to its end meanwhile. Before it is [time](Self::look_at), nothing is looked at.
    pub fn look(&mut self, now: Duration, flow: impl Fn(u64) -> Option<Flow>) -> Option<u64> {
        if self.look_at().is_none_or(|at| at > now) {
            return None;
        }
        self.stragglers.looked = now;
        for place in &mut self.places {
            if let State::InFlight(id) = place.state
                && let Some(flow) = flow(id)
            {
                place.track.saw(now, flow);
            }
        }
        // While the server wants a pause or fewer requests, the rest could not be asked for at once; and a consumer that has something to take is not waiting.
        if self.paused_until > now || self.in_flight > self.permits || self.consumer_has_all() {
            return None;
        }
        let norm = self.norm()?;
        let near = match self.next_to_open() {
            Some(_) => self.settings.concurrency as usize,
            None => usize::MAX,
        };
        let index = (0..self.places.len().min(near)).find(|&index| self.is_straggler(index, now, &norm))?;
        let place = &mut self.places[index];
        let State::InFlight(id) = place.state else {
            return None;
        };
        place.fencing = true;
        place.fences += 1;
        self.stragglers.fences += 1;
        Some(id)
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
        let place = &mut self.places[index];
        place.position = position;
        place.fencing = false;
        place.fresh = true;
        place.state = State::Waiting(now);
        if position >= end {
            place.state = State::Filled;
            self.backoff.chunk_done();
        }
    }

    /// Whether all of the chunk at the cursor is there to be taken.
    fn consumer_has_all(&self) -> bool {
        self.places.front().is_some_and(|place| {
            place.state == State::Filled || place.track.position >= self.chunk_end(self.cursor)
        })
    }

    const fn may_fence(&self) -> bool {
        self.stragglers.fences < self.next_id.div_ceil(SHARE) + 1
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
