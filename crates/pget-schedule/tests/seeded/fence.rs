//! Looks at the attempts, and those that the schedule wants fenced.

use std::time::Duration;

use pget_schedule::Flow;

use super::{
    Event, Outcome, World,
    flight::{Connection, Flight},
};

impl World<'_> {
    /// What the driver does now and then.
    pub(super) fn look(&mut self) {
        if self.schedule.look_at().is_some_and(|at| at <= self.now) {
            let mut seen = false;
            for slot in &mut self.slots {
                let more = slot.filled > slot.seen;
                let flight = self.flights.values().find(|flight| flight.chunk == slot.chunk);
                if let Some(flight) = flight.filter(|_| more) {
                    (slot.seen, slot.last_byte, seen) = (slot.filled, flight.quiet_since, true);
                    self.wrong_passes |= slot.wrong > 0;
                    (slot.wrong, slot.tried, slot.fenced) = (0, None, Duration::ZERO);
                }
            }
            if seen {
                self.progress_is_seen();
            }
        }
        let flights = &self.flights;
        let slots = &self.slots;
        let flow = |id| {
            let flight: &Flight = flights.get(&id)?;
            let slot = slots.iter().find(|slot| slot.chunk == flight.chunk)?;
            Some(Flow {
                asked: true,
                bytes: flight.at - flight.attempt.start,
                position: slot.filled,
            })
        };
        let at = self.schedule.look_at();
        let before = self.schedule.fences();
        if let Some(id) = self.schedule.look(self.now, flow) {
            assert!(at.is_some_and(|at| at <= self.now), "a look before its time");
            self.fence(id);
        } else {
            assert_eq!(self.schedule.fences(), before);
        }
        if let Some(trial) = self.schedule.trial()
            && self.failing.is_none()
        {
            // The source is silent.
            assert!(trial.since >= self.last_byte, "silent since before the last byte");
            self.is_quiet_since(trial.since);
        }
        match self.schedule.look_at() {
            Some(at) if self.outcome == Outcome::Running && self.look.is_none_or(|look| at < look) => {
                assert!(at > self.now, "to look at what has been looked at");
                self.look = Some(at);
                self.at(at - self.now, Event::Look);
            }
            _ => {}
        }
    }

    fn fence(&mut self, id: u64) {
        assert!(
            self.now >= self.paused_until,
            "a fence while the server wants a pause"
        );
        let flight = self.flights.get_mut(&id).expect("an attempt in flight");
        assert!(!flight.fenced, "fenced already");
        flight.fenced = true;
        flight.silent = !flight.began;
        if self.schedule.is_in_trouble() {
            // A probe without an answer makes room for the next.
            self.counts.silent_probes += 1;
            assert!(!flight.began, "it has its answer: {flight:?}");
            return self.ask_to_let_go(id);
        }
        assert!(
            !self.stream && self.scene.settings.concurrency > 1,
            "nothing to compare with"
        );
        self.fences += 1;
        let most = self.requests.div_ceil(20) + 1 + 2 * self.answered_after_fences;
        assert!(
            self.fences <= most,
            "{} fences in {} requests",
            self.fences,
            self.requests
        );
        let flight = &self.flights[&id];
        assert!(
            flight.slow || flight.connection != Connection::Good,
            "as fast as any: {flight:?}"
        );
        let first = self.slots.front().expect("it has a slot");
        assert!(first.filled < first.end, "the consumer has something to take");
        let near = u64::from(self.scene.settings.concurrency);
        let all_open = self
            .schedule
            .plan()
            .chunks()
            .is_some_and(|all| first.chunk + self.slots.len() as u64 >= all)
            || self.slots.len() >= self.scene.settings.window as usize;
        assert!(
            flight.chunk < first.chunk + near || all_open,
            "far from the cursor"
        );
        let slot = self
            .slots
            .iter_mut()
            .find(|slot| slot.chunk == flight.chunk)
            .expect("a slot");
        slot.fences += 1;
        assert!(slot.fences <= 6, "{} fences of a chunk", slot.fences);
        self.ask_to_let_go(id);
    }

    fn ask_to_let_go(&mut self, id: u64) {
        let after = if self.scene.held {
            self.counts.fences_of_a_held_writer += 1;
            Duration::from_millis(self.scene.rng.u64(0..40_000))
        } else {
            self.soon()
        };
        self.at(after, Event::Fenced(id));
    }

    pub(super) fn let_go(&mut self, id: u64) {
        let Some(flight) = self.flights.remove(&id) else {
            self.counts.fences_that_came_too_late += 1;
            return;
        };
        self.counts.fences += 1;
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.chunk == flight.chunk) {
            slot.fresh = slot.filled < slot.end;
            self.fenced_rests += u64::from(slot.fresh);
            let mut quiet_since = flight.launched;
            if slot.filled > slot.base {
                quiet_since = self.now;
                self.wrong_passes |= slot.wrong > 0;
                (slot.last_byte, slot.wrong, slot.tried) = (self.now, 0, None);
                slot.fenced = Duration::ZERO;
                slot.refused_alone = 0;
                (self.failing, self.last_byte) = (None, self.now);
            }
            slot.base = slot.filled;
            slot.after_fence = true;
            let took = self.now - flight.launched;
            if quiet_since == flight.launched {
                slot.fenced += took;
            }
            slot.tried = slot.tried.map(|tried| tried + took);
            if flight.silent && slot.fresh && self.schedule.is_in_trouble() {
                // A probe without an answer has failed, as its deadline would say later.
                let tried = std::mem::take(&mut slot.fenced);
                quiet_since = quiet_since.min(self.now - tried);
                slot.tried.get_or_insert(tried);
                self.is_quiet_since(quiet_since);
            }
        }
        self.schedule.fenced(id, self.now, flight.at);
        self.call_consumer();
    }
}
