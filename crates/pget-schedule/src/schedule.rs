//! The state machine of one download: which attempt to start next. See the head of the crate.

mod attempt;
mod control;
mod events;
mod invariants;
mod look;
mod patience;
mod silence;

use std::{collections::VecDeque, time::Duration};

use super::{
    Action, Backoff, Learned, Plan, Settings, Trial,
    control::Control,
    health::Health,
    open_chunk::{ChunkState, OpenChunk},
    straggler::Stragglers,
    throttle::Throttle,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing is known: one attempt at a time.
    Probe,
    /// The plan is fixed.
    Parallel,
    /// One attempt spans all chunks. `resumable`: it may begin again at the watermark.
    Stream { resumable: bool },
    /// Over: no new attempt.
    Over,
}

/// After so many refusals in a row while others were in flight, a range is asked for alone.
pub(crate) const REFUSALS: u32 = 4;

/// The state machine of one download. See the head of the module.
#[derive(Clone, Debug)]
pub struct Schedule {
    settings: Settings,
    plan: Plan,
    phase: Phase,
    cursor: u64,
    /// Chunks `cursor..cursor + open_chunks.len()`.
    open_chunks: VecDeque<OpenChunk>,
    in_flight: u32,
    throttle: Throttle,
    health: Health,
    /// A range has failed since it last brought a byte.
    some_range_fails: bool,
    /// A range has had wrong replies and then right bytes.
    wrong_passes: bool,
    /// No new attempt before this time.
    paused_until: Duration,
    control: Option<Control>,
    memory: bool,
    one_stream: bool,
    next_id: u64,
    backoff: Backoff,
    stragglers: Stragglers,
}

impl Schedule {
    /// A download that knows nothing of the object yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let plan = Plan::new(settings.wanted.clone(), settings.chunk_size);
        let backoff = Backoff::new(settings.seed);
        let phase = if plan.chunks() == Some(0) {
            Phase::Over
        } else {
            Phase::Probe
        };
        Self {
            throttle: Throttle::new(settings.concurrency),
            health: Health::new(settings.retry_timeout),
            some_range_fails: false,
            wrong_passes: false,
            plan,
            phase,
            cursor: 0,
            open_chunks: VecDeque::new(),
            in_flight: 0,
            paused_until: Duration::ZERO,
            control: settings.control.map(Control::new),
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
        self.open_chunks.len()
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

    /// Whether an attempt may go on after the bytes of another: not if nothing holds the two
    /// together.
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
        self.open_chunks
            .front()
            .is_some_and(|open_chunk| open_chunk.state == ChunkState::Filled)
    }

    /// Memory for the next chunk is there.
    pub fn reserved(&mut self) {
        self.memory = true;
    }

    /// What to do at `now` (time since the download began). Call until it says to wait.
    pub fn poll(&mut self, now: Duration) -> Action {
        if self.phase == Phase::Over {
            return if self.in_flight == 0 {
                Action::Finished
            } else {
                Action::Wait(None)
            };
        }
        self.health.at(now);
        let gives_up_at = match self.patience(now) {
            Ok(gives_up_at) => gives_up_at,
            Err(limit) => {
                self.phase = Phase::Over;
                return Action::GiveUp(limit);
            }
        };
        let action = self.next(now);
        let held = match action {
            Action::Wait(_) => self.is_window_full() && self.is_cursor_filled(),
            Action::Reserve { at_cursor, .. } => !at_cursor,
            _ => false,
        };
        self.note_held(now, held);
        match action {
            Action::Wait(until) => Action::Wait(earlier(until, gives_up_at)),
            Action::Reserve {
                bytes,
                at_cursor,
                retry_at,
            } => Action::Reserve {
                bytes,
                at_cursor,
                retry_at: earlier(retry_at, gives_up_at),
            },
            action => action,
        }
    }

    fn next(&mut self, now: Duration) -> Action {
        let permits = match self.phase {
            Phase::Over | Phase::Probe | Phase::Stream { .. } => 1,
            Phase::Parallel => self.level(),
        };
        if self.in_flight >= permits {
            return Action::Wait(None);
        }
        self.decide(now);
        if let Some(probe_at) = self.health.probe_at() {
            let at = probe_at.max(self.paused_until).max(self.throttle.next_at());
            return if at > now {
                Action::Wait(Some(at))
            } else {
                self.probe(now)
            };
        }
        if let Some(at) = self.undecided_until() {
            return Action::Wait(Some(at));
        }
        if self.phase == Phase::Parallel && self.in_flight - self.hung(now) >= self.throttle.permits() {
            return Action::Wait(None);
        }
        // A range that was refused again and again is asked for with nothing else in flight.
        if let Some(index) = self.to_be_alone() {
            return if self.in_flight == 0 {
                Action::Request(self.attempt(index, now, false))
            } else {
                Action::Wait(None)
            };
        }
        if self.is_asked_alone() {
            return Action::Wait(None);
        }
        let held_until = self.paused_until.max(self.throttle.next_at());
        let mut soonest: Option<Duration> = None;
        for index in 0..self.open_chunks.len() {
            if let ChunkState::Waiting(at) = self.open_chunks[index].state {
                let at = at.max(held_until);
                if at <= now {
                    return Action::Request(self.attempt(index, now, false));
                }
                soonest = earlier(soonest, Some(at));
            }
        }
        self.rechunk();
        match self.next_to_open_at(now) {
            Some(_) if held_until > now => Action::Wait(earlier(soonest, Some(held_until))),
            Some(chunk) if !self.memory => self.reserve(chunk, soonest),
            Some(_) => {
                let index = self.open_next();
                Action::Request(self.attempt(index, now, true))
            }
            None if self.in_flight == 0 && self.is_all_filled() => {
                self.phase = Phase::Over;
                Action::Finished
            }
            None => Action::Wait(soonest),
        }
    }

    fn reserve(&self, chunk: u64, retry_at: Option<Duration>) -> Action {
        Action::Reserve {
            bytes: self
                .plan
                .range(chunk)
                .map_or(self.settings.chunk_size, |range| range.end - range.start),
            at_cursor: chunk == self.cursor,
            retry_at,
        }
    }

    /// The one attempt that a source in trouble gets: for a range that waits. A chunk is opened
    /// only if no range waits.
    fn probe(&mut self, now: Duration) -> Action {
        let waits = self
            .open_chunks
            .iter()
            .position(|open_chunk| matches!(open_chunk.state, ChunkState::Waiting(_)));
        let (index, opens) = match (waits, self.next_to_open()) {
            (Some(index), _) => (index, false),
            (None, Some(_)) if self.in_flight > 0 => return Action::Wait(None),
            (None, Some(chunk)) if !self.memory => return self.reserve(chunk, None),
            (None, Some(_)) => (self.open_next(), true),
            (None, None) if self.in_flight == 0 && self.is_all_filled() => {
                self.phase = Phase::Over;
                return Action::Finished;
            }
            (None, None) => return Action::Wait(None),
        };
        let attempt = self.attempt(index, now, opens);
        self.health.probes(attempt.id, now, &mut self.backoff);
        Action::Request(attempt)
    }

    /// Whether the attempts that were in flight at a refusal are decided, and whether the source is
    /// in trouble.
    fn decide(&mut self, now: Duration) {
        if self.health.sinks(now, self.in_flight) {
            self.health.sink(now, now, &mut self.backoff);
            self.throttle.outage(now);
        }
        if let Some(decided_at) = self.throttle.decided_at()
            && !self.health.is_in_trouble()
        {
            let silent = self.undecided();
            if silent == 0 || decided_at <= now {
                self.throttle.decided(now, silent);
            }
        }
    }

    /// Attempts that were in flight at a refusal and have had no answer yet.
    fn undecided(&self) -> u32 {
        let Some(before) = self.throttle.undecided_before() else {
            return 0;
        };
        let undecided = |open_chunk: &&OpenChunk| match open_chunk.state {
            ChunkState::InFlight(id) => id < before && !open_chunk.begun,
            ChunkState::Waiting(_) | ChunkState::Filled => false,
        };
        u32::try_from(self.open_chunks.iter().filter(undecided).count()).unwrap_or(u32::MAX)
    }

    /// Until when nothing is started, as attempts in flight may still show how the source is. One
    /// refusal shows nothing where a share of requests is known to fail.
    fn undecided_until(&self) -> Option<Duration> {
        let is_usual = self.throttle.is_share() && self.throttle.is_alone();
        let unsure_until = self.health.unsure_until().filter(|_| !is_usual);
        earlier(self.throttle.decided_at(), unsure_until)
    }

    /// Whether such a range was asked for, and has no answer: until then, nothing is put beside it.
    fn is_asked_alone(&self) -> bool {
        let is_it = |open_chunk: &OpenChunk| {
            open_chunk.refusals >= REFUSALS
                && open_chunk.alone
                && !open_chunk.begun
                && matches!(open_chunk.state, ChunkState::InFlight(_))
        };
        self.some_range_fails && self.open_chunks.iter().any(is_it)
    }

    fn to_be_alone(&self) -> Option<usize> {
        if !self.some_range_fails {
            return None;
        }
        self.open_chunks.iter().position(|open_chunk| {
            open_chunk.refusals >= REFUSALS && matches!(open_chunk.state, ChunkState::Waiting(_))
        })
    }

    /// Whether nothing succeeds, and one probe is sent at a time.
    #[must_use]
    pub const fn is_in_trouble(&self) -> bool {
        self.health.is_in_trouble()
    }

    /// The failures in a row, if the source is in trouble.
    #[must_use]
    pub fn trial(&self) -> Option<Trial> {
        self.health.trial().filter(|_| self.health.is_in_trouble())
    }

    /// Whether a reply may change what to do: others wait to see who is served.
    #[must_use]
    pub fn awaits_answers(&self) -> bool {
        self.throttle.undecided_before().is_some()
    }

    /// Starts from what an earlier download found out about the server.
    pub fn start_from(&mut self, learned: Learned) {
        self.throttle.start_from(learned);
        self.start_at(learned.found);
    }

    /// What this download has found out about the server.
    #[must_use]
    pub fn learned(&self) -> Learned {
        Learned {
            found: self.found(),
            ..self.throttle.learned()
        }
    }

    /// One stream for all chunks, unless it would fetch the gaps between them.
    const fn streams_by_choice(&self) -> bool {
        self.settings.concurrency == 1 && !self.plan.has_gaps()
    }

    /// The end of a chunk; the object's end if it has no bytes.
    fn chunk_end(&self, chunk: u64) -> u64 {
        self.plan
            .range(chunk)
            .map_or_else(|| self.plan.end().unwrap_or(u64::MAX), |range| range.end)
    }

    /// The next chunk that was never opened, if there is one and the window has room.
    fn next_to_open(&self) -> Option<u64> {
        self.next_in(self.window(None))
    }

    /// The same, with what may be borrowed.
    fn next_to_open_at(&self, now: Duration) -> Option<u64> {
        self.next_in(self.window(Some(now)))
    }

    fn next_in(&self, window: usize) -> Option<u64> {
        let next = self.cursor + self.open_chunks.len() as u64;
        let in_window = self.open_chunks.len() < window;
        let exists = self.plan.chunks().is_none_or(|chunks| next < chunks);
        // Before the plan is fixed, only the first chunk may be opened.
        let known = next == 0 || self.phase != Phase::Probe;
        (in_window && exists && known && self.fits(next)).then_some(next)
    }

    /// Whether a permit is free, and only the window keeps it from the next chunk.
    #[must_use]
    pub fn is_window_full(&self) -> bool {
        let next = self.cursor + self.open_chunks.len() as u64;
        self.phase == Phase::Parallel
            && self.in_flight < self.throttle.permits().min(self.level())
            && (self.open_chunks.len() >= self.window(None) || !self.fits(next))
            && self.plan.chunks().is_none_or(|chunks| next < chunks)
    }

    fn is_all_filled(&self) -> bool {
        let opened = self.cursor + self.open_chunks.len() as u64;
        self.plan.chunks().is_some_and(|chunks| opened >= chunks)
            && self
                .open_chunks
                .iter()
                .all(|open_chunk| open_chunk.state == ChunkState::Filled)
    }
}

pub(crate) fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}
