//! The place of an open chunk: whether it waits, is in flight or is filled, and how its attempts
//! went. Pure; a part of `Schedule`.

use std::time::Duration;

use super::{Attempt, Phase, Schedule, control::Told, straggler::Track};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// To be requested at this time.
    Waiting(Duration),
    InFlight(u64),
    Filled,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) state: State,
    /// Offset of the first byte not received.
    pub(super) position: u64,
    /// Attempts in a row that brought fewer than [`PROGRESS`](super::PROGRESS) bytes.
    pub(super) fruitless: u32,
    /// Of these, the ones that count against `retries`.
    pub(super) counted: u32,
    /// When the first failure in a row was; later by the time for which it waited for a permit.
    pub(super) failing_since: Option<Duration>,
    /// Wrong replies in a row, and when the first of them came.
    pub(super) wrong: u32,
    pub(super) wrong_since: Duration,
    /// Attempts that have failed since then.
    pub(super) failures: u32,
    /// Refusals in a row while other attempts were in flight.
    pub(super) refusals: u32,
    /// The reply to the attempt in flight was accepted.
    pub(super) begun: bool,
    /// The attempt in flight has brought as much as proves that the source serves.
    pub(super) proved: bool,
    /// Nothing else has been in flight since this attempt was launched.
    pub(super) alone: bool,
    /// When its answer was seen.
    pub(super) answered_at: Option<Duration>,
    pub(super) fences: u32,
    /// The attempt in flight is to be fenced, as it is silent.
    pub(super) silent: bool,
    /// How often it was.
    pub(super) silences: u32,
    /// How long the attempt before, which was fenced, would have taken: for its answer, or for the
    /// rest.
    pub(super) owed: Option<Duration>,
    pub(super) owed_for_silence: bool,
    /// The attempt in flight is to be fenced.
    pub(super) fencing: bool,
    /// The attempt before was fenced.
    pub(super) fresh: bool,
    pub(super) track: Track,
    pub(super) told: Told,
}

impl Place {
    fn new(position: u64) -> Self {
        Self {
            state: State::Waiting(Duration::ZERO),
            position,
            fruitless: 0,
            counted: 0,
            failing_since: None,
            wrong: 0,
            wrong_since: Duration::ZERO,
            failures: 0,
            refusals: 0,
            begun: false,
            proved: false,
            alone: false,
            answered_at: None,
            fences: 0,
            silent: false,
            silences: 0,
            owed: None,
            owed_for_silence: false,
            fencing: false,
            fresh: false,
            track: Track::default(),
            told: Told::default(),
        }
    }

    /// A byte was accepted: nothing has failed since. Returns whether replies had been wrong.
    pub(super) const fn progressed(&mut self) -> bool {
        let was_wrong = self.wrong > 0;
        (self.failing_since, self.failures, self.refusals, self.wrong) = (None, 0, 0, 0);
        was_wrong
    }

    /// Its attempt in flight has been answered: bytes may arrive at any time.
    pub(super) const fn is_receiving(&self) -> bool {
        self.begun && matches!(self.state, State::InFlight(_))
    }
}

impl Schedule {
    /// Opens the next chunk. Returns its index.
    pub(super) fn open_place(&mut self) -> usize {
        self.memory = false;
        let chunk = self.cursor + self.places.len() as u64;
        let position = self.plan.range(chunk).map_or(u64::MAX, |range| range.start);
        self.places.push_back(Place::new(position));
        self.places.len() - 1
    }

    /// Starts an attempt at the chunk of `index`.
    pub(super) fn attempt(&mut self, index: usize, now: Duration, opens: bool) -> Attempt {
        let id = self.next_id;
        self.next_id += 1;
        self.in_flight += 1;
        let chunk = self.cursor + index as u64;
        let range = self.plan.range(chunk).unwrap_or(u64::MAX..u64::MAX);
        let one_stream = self.is_stream() || (self.phase == Phase::Probe && self.streams_by_choice());
        if self.in_flight > 1 {
            self.places.iter_mut().for_each(|place| place.alone = false);
        }
        self.throttle.launched(now);
        let in_flight = self.in_flight;
        let told = self
            .control
            .as_mut()
            .map_or_else(Told::default, |control| control.launched(now, in_flight));
        let place = &mut self.places[index];
        if let (State::Waiting(at), Some(since)) = (place.state, place.failing_since) {
            place.failing_since = Some(since + now.saturating_sub(at));
        }
        (place.begun, place.proved, place.alone) = (false, false, self.in_flight == 1);
        (place.answered_at, place.silent) = (None, false);
        place.state = State::InFlight(id);
        place.track = Track::new(now, place.position);
        place.told = told;
        // A connection that was far slower than the others is left alone.
        let fresh = std::mem::take(&mut place.fresh) | self.stragglers.renews(id);
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
}
