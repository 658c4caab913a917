//! Which range next: a plain state machine. Events in, actions out; no clock, no task, no memory of chunks, no randomness but a seed.
//!
//! The cast: a *chunk* has a number, its place in the delivery order; the *cursor* is the chunk the consumer is at; chunks from the cursor to
//! `cursor + window` may be open (fetched or being fetched); at most `concurrency` *attempts* are in flight. The driver calls
//! [`Schedule::poll`] after every event and does what it says until it says [`Action::Wait`].
//!
//! A download goes through phases. *Probe*: one attempt only, whose reply fixes size and plan. *Parallel*: one attempt a chunk. *Stream*: one attempt that
//! spans chunks, by choice (`concurrency == 1`) or because the source cannot serve ranges or has no identity to hold two replies together.
//!
//! Invariants, checked by [`Schedule::check`] in tests after every event:
//! never more than `concurrency` attempts in flight, one a chunk; never a chunk open outside the window; chunks open in order, without a gap; and liveness:
//! while the download is not over, an attempt is in flight, a retry has its time, memory is asked for, or the consumer has something to take.
//!
//! Called by the download's driver under its lock, and by seeded tests.

mod backoff;
mod check;
mod events;
mod plan;
mod straggler;
mod words;

use std::{collections::VecDeque, ops::Range, time::Duration};

pub use backoff::Backoff;
pub use plan::Plan;
use straggler::{Stragglers, Track};
pub use words::{Action, Attempt, Begun, Ended, Flow, Settings, Verdict};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing is known: one attempt at a time.
    Probe,
    /// The plan is fixed.
    Parallel,
    /// One attempt spans all chunks. `resumable`: it may begin again at the watermark.
    Stream { resumable: bool },
    /// Over: no new attempt.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be requested at this time.
    Waiting(Duration),
    InFlight(u64),
    Filled,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    state: State,
    /// Offset of the first byte not received.
    position: u64,
    fruitless: u32,
    fences: u32,
    /// The attempt in flight is to be fenced.
    fencing: bool,
    /// The attempt before was fenced.
    fresh: bool,
    track: Track,
}

/// Above this many bytes in open chunks, memory falls out of the processor's cache, and receiving into it costs up to a fifth more.
const COMFORT: u64 = 16 << 20;

/// How long a free permit waits for the cursor to move before a chunk is opened that is further ahead than there are permits and [`COMFORT`]: a consumer that keeps up then
/// finds its bytes in cache; one slow chunk at the cursor holds the others up for no longer than this.
const AHEAD: Duration = Duration::from_millis(5);

/// The state machine of one download. See the head of the module.
#[derive(Clone, Debug)]
pub struct Schedule {
    settings: Settings,
    plan: Plan,
    phase: Phase,
    cursor: u64,
    /// Places of chunks `cursor..cursor + places.len()`.
    places: VecDeque<Place>,
    in_flight: u32,
    /// Attempts allowed now: `concurrency`, halved when the server throttles, one more for each chunk completed since.
    permits: u32,
    /// No new attempt before this time.
    paused_until: Duration,
    /// Since when a permit waits for the cursor.
    ahead_since: Option<Duration>,
    memory: bool,
    one_stream: bool,
    next_id: u64,
    backoff: Backoff,
    stragglers: Stragglers,
}

impl Schedule {
    /// A download of the settings' `start..end` that knows nothing of the object yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let plan = Plan::new(settings.start, settings.end, settings.chunk_size);
        Self::of(settings, plan)
    }

    /// A download of several `extents` of the object, in the place of the settings' one.
    #[must_use]
    pub fn of_extents(settings: Settings, extents: Vec<Range<u64>>) -> Self {
        let plan = Plan::of(extents, settings.chunk_size);
        Self::of(settings, plan)
    }

    fn of(settings: Settings, plan: Plan) -> Self {
        let backoff = Backoff::new(settings.seed, settings.concurrency);
        let phase = if plan.chunks() == Some(0) {
            Phase::Over
        } else {
            Phase::Probe
        };
        Self {
            permits: settings.concurrency,
            plan,
            phase,
            cursor: 0,
            places: VecDeque::new(),
            in_flight: 0,
            paused_until: Duration::ZERO,
            ahead_since: None,
            memory: false,
            one_stream: false,
            next_id: 0,
            backoff,
            stragglers: Stragglers::default(),
            settings,
        }
    }

    /// The plan, as far as it is known.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The chunk that the consumer is at.
    #[must_use]
    pub const fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Attempts in flight.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Chunks open: fetched or being fetched, and not consumed.
    #[must_use]
    pub fn open(&self) -> usize {
        self.places.len()
    }

    /// Whether the object is read as one stream, also when that is over.
    #[must_use]
    pub const fn is_one_stream(&self) -> bool {
        self.one_stream
    }

    /// Whether one attempt spans all chunks.
    #[must_use]
    pub const fn is_stream(&self) -> bool {
        matches!(self.phase, Phase::Stream { .. })
    }

    /// Whether an attempt may go on behind the bytes of another: not if nothing holds the two together.
    #[must_use]
    pub fn may_resume(&self) -> bool {
        self.phase != Phase::Stream { resumable: false }
    }

    /// Whether the consumer has taken everything there is.
    #[must_use]
    pub fn is_consumed(&self) -> bool {
        self.plan.chunks().is_some_and(|chunks| self.cursor >= chunks)
    }

    /// Whether the chunk at the cursor is complete, its attempt included.
    #[must_use]
    pub fn is_cursor_filled(&self) -> bool {
        self.places
            .front()
            .is_some_and(|place| place.state == State::Filled)
    }

    /// Memory for the next chunk is there.
    pub fn reserved(&mut self) {
        self.memory = true;
    }

    /// What to do at `now` (time since the download began). Call until it says to wait.
    pub fn poll(&mut self, now: Duration) -> Action {
        let permits = match self.phase {
            Phase::Over => {
                return if self.in_flight == 0 {
                    Action::Finished
                } else {
                    Action::Wait(None)
                };
            }
            Phase::Probe | Phase::Stream { .. } => 1,
            Phase::Parallel => self.permits,
        };
        if self.in_flight >= permits {
            return Action::Wait(None);
        }
        let mut soonest: Option<Duration> = None;
        for index in 0..self.places.len() {
            if let State::Waiting(at) = self.places[index].state {
                let at = at.max(self.paused_until);
                if at <= now {
                    return Action::Request(self.attempt(index, now, false));
                }
                soonest = Some(soonest.map_or(at, |soonest| soonest.min(at)));
            }
        }
        if self.is_stream() && soonest.is_some() {
            // A stream goes on where it broke off: a chunk opened behind the break would be read by two.
            return Action::Wait(soonest);
        }
        match self.next_to_open() {
            Some(_) if self.paused_until > now => Action::Wait(Some(
                soonest.map_or(self.paused_until, |soonest| soonest.min(self.paused_until)),
            )),
            Some(_) if self.is_far_ahead() && *self.ahead_since.get_or_insert(now) + AHEAD > now => {
                let at = self.ahead_since.unwrap_or(now) + AHEAD;
                Action::Wait(Some(soonest.map_or(at, |soonest| soonest.min(at))))
            }
            Some(chunk) if !self.memory => Action::Reserve {
                bytes: self
                    .plan
                    .range(chunk)
                    .map_or(self.settings.chunk_size, |range| range.end - range.start),
                at_cursor: chunk == self.cursor,
                retry_at: soonest,
            },
            Some(_) => {
                let index = self.open_place();
                Action::Request(self.attempt(index, now, true))
            }
            None if self.in_flight == 0 && self.is_all_filled() => {
                self.phase = Phase::Over;
                Action::Finished
            }
            None => Action::Wait(soonest),
        }
    }

    /// One stream for all chunks, unless it would fetch the gaps between them.
    const fn streams_by_choice(&self) -> bool {
        self.settings.concurrency == 1 && !self.plan.has_gaps()
    }

    /// Behind the last byte of a chunk; the object's end if it has no bytes.
    fn chunk_end(&self, chunk: u64) -> u64 {
        self.plan
            .range(chunk)
            .map_or_else(|| self.plan.end().unwrap_or(u64::MAX), |range| range.end)
    }

    /// The next chunk that was never opened, if there is one and the window has room.
    fn next_to_open(&self) -> Option<u64> {
        let next = self.cursor + self.places.len() as u64;
        let in_window = self.places.len() < self.settings.window as usize;
        let exists = self.plan.chunks().is_none_or(|chunks| next < chunks);
        // Before the plan is fixed, only the first chunk has a place.
        let known = next == 0 || self.phase != Phase::Probe;
        (in_window && exists && known).then_some(next)
    }

    /// Whether a permit is free, and only the window keeps it from the next chunk.
    #[must_use]
    pub fn is_window_full(&self) -> bool {
        let next = self.cursor + self.places.len() as u64;
        self.phase == Phase::Parallel
            && self.in_flight < self.permits
            && self.places.len() >= self.settings.window as usize
            && self.plan.chunks().is_none_or(|chunks| next < chunks)
    }

    /// The next chunk to open is further ahead of the cursor than there are permits, and than fits in cache.
    fn is_far_ahead(&self) -> bool {
        let open = self.places.len() as u64;
        self.phase == Phase::Parallel
            && open >= u64::from(self.settings.concurrency)
            && open.saturating_mul(self.plan.chunk_size()) >= COMFORT
            && self.settings.window != Settings::UNBOUNDED
    }

    fn open_place(&mut self) -> usize {
        self.memory = false;
        self.ahead_since = None;
        let chunk = self.cursor + self.places.len() as u64;
        let position = self.plan.range(chunk).map_or(u64::MAX, |range| range.start);
        self.places.push_back(Place {
            state: State::Waiting(Duration::ZERO),
            position,
            fruitless: 0,
            fences: 0,
            fencing: false,
            fresh: false,
            track: Track::default(),
        });
        self.places.len() - 1
    }

    fn attempt(&mut self, index: usize, now: Duration, opens: bool) -> Attempt {
        let id = self.next_id;
        self.next_id += 1;
        self.in_flight += 1;
        let chunk = self.cursor + index as u64;
        let range = self.plan.range(chunk).unwrap_or(u64::MAX..u64::MAX);
        let one_stream = self.is_stream() || (self.phase == Phase::Probe && self.streams_by_choice());
        let place = &mut self.places[index];
        place.state = State::InFlight(id);
        place.track = Track::new(now, place.position);
        let fresh = std::mem::take(&mut place.fresh);
        Attempt {
            id,
            chunk,
            chunk_start: range.start,
            chunk_end: range.end,
            start: place.position,
            end: if one_stream {
                self.plan.end()
            } else {
                Some(range.end)
            },
            fruitless: place.fruitless,
            at_cursor: index == 0,
            opens,
            fresh,
        }
    }

    fn is_all_filled(&self) -> bool {
        let opened = self.cursor + self.places.len() as u64;
        self.plan.chunks().is_some_and(|chunks| opened >= chunks)
            && self.places.iter().all(|place| place.state == State::Filled)
    }
}
