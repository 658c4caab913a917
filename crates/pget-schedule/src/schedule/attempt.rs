//! Opens chunks and starts attempts at them.

use std::time::Duration;

use super::{Phase, Schedule};
use crate::{
    Attempt,
    control::Told,
    open_chunk::{Place, State},
    track::Track,
};

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
        if let State::Waiting(at) = place.state {
            let waited = now.saturating_sub(at);
            place.failing_since = place.failing_since.map(|since| since + waited);
            place.fenced_since = place.fenced_since.map(|since| since + waited);
        }
        place.quiet_since = None;
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
