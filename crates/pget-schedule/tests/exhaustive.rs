//! Every order of events of small downloads: all states that the schedule can come to, each checked, and from each the end must be reached.
//!
//! Besides the invariants (in order, no byte twice, window, concurrency) there is a rule of progress: in every state that is not the end some *good* event is possible (one that is
//! no fault), and good events never go round in a circle. So whatever went wrong before, if nothing more does, the download ends.

mod common;

use std::{collections::HashMap, time::Duration};

use pget_schedule::{Action, AfterAttempt, AttemptEnd, Flow, Limit, ReplyOutcome, Schedule, Settings};

/// Two steps of progress.
const CHUNK: u64 = 8192;
const STEP: u64 = 4096;

#[derive(Clone, Copy, Debug)]
struct Server {
    size: u64,
    tells_size: bool,
    ranges: bool,
    identity: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Sent,
    Body,
    Restream,
}

#[derive(Clone, Debug)]
struct Flight {
    id: u64,
    chunk: u64,
    wanted: Option<u64>,
    at: u64,
    end: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    chunk: u64,
    start: u64,
    end: u64,
    filled: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Running,
    Received,
    Failed,
    Cancelled,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Begin(usize),
    Bring(usize),
    Land(usize, AttemptEnd),
    Consume,
    Memory,
    Time(Duration),
    Cancel,
}

#[derive(Clone, Debug)]
struct World {
    server: Server,
    settings: Settings,
    schedule: Schedule,
    now: Duration,
    flights: Vec<Flight>,
    slots: Vec<Slot>,
    position: u64,
    outcome: Outcome,
    waits: Action,
}

impl World {
    fn new(server: Server, settings: Settings) -> Self {
        let mut world = Self {
            server,
            schedule: Schedule::new(settings.clone()),
            settings,
            now: Duration::ZERO,
            flights: Vec::new(),
            slots: Vec::new(),
            position: 0,
            outcome: Outcome::Running,
            waits: Action::Finished,
        };
        world.act();
        world
    }

    fn key(&self) -> Vec<u64> {
        let name = |id| {
            self.flights
                .iter()
                .position(|flight| flight.id == id)
                .map_or(99, |index| index as u64)
        };
        let mut key = self.schedule.key(self.now, name);
        key.extend([self.outcome as u64, self.position, u64::MAX]);
        for flight in &self.flights {
            key.extend([
                flight.chunk,
                flight.at,
                flight.end,
                flight.stage as u64,
                flight.wanted.unwrap_or(u64::MAX),
            ]);
        }
        key.push(u64::MAX);
        for slot in &self.slots {
            key.extend([slot.end, slot.filled]);
        }
        key
    }

    /// The events that are possible, and whether they are good.
    fn events(&self) -> Vec<(Event, bool)> {
        let mut events = Vec::new();
        for (index, flight) in self.flights.iter().enumerate() {
            let over = self.outcome != Outcome::Running;
            if over || flight.stage == Stage::Restream {
                events.push((Event::Land(index, AttemptEnd::Retry), true));
                continue;
            }
            let throttled = AttemptEnd::Throttled(Some(Duration::from_secs(1)));
            let bad = [
                AttemptEnd::Retry,
                throttled,
                AttemptEnd::Refused,
                AttemptEnd::Fatal,
            ];
            events.extend(bad.map(|how| (Event::Land(index, how), false)));
            if flight.stage == Stage::Sent {
                events.push((Event::Begin(index), true));
            } else if flight.at == flight.end {
                events.push((Event::Land(index, AttemptEnd::Complete), true));
            } else {
                if self.can_bring(flight) {
                    events.push((Event::Bring(index), true));
                }
                if self.server.tells_size {
                    events.push((Event::Land(index, AttemptEnd::Complete), false));
                }
            }
        }
        if self.slots.first().is_some_and(|slot| slot.filled == slot.end) {
            events.push((Event::Consume, true));
        }
        let until = match self.waits {
            Action::Reserve { retry_at, .. } => {
                events.push((Event::Memory, true));
                retry_at
            }
            Action::Wait(until) => until,
            Action::Request(_) | Action::GiveUp(_) | Action::Finished => None,
        };
        if let Some(until) = until {
            events.push((Event::Time(until), true));
        }
        if self.outcome == Outcome::Running {
            events.push((Event::Cancel, false));
        }
        events
    }

    fn can_bring(&self, flight: &Flight) -> bool {
        let room = self
            .slots
            .iter()
            .any(|slot| slot.chunk == flight.chunk && flight.at < slot.end);
        room || self.schedule.clone().next_in_stream(flight.id).is_some()
    }

    fn is_end(&self) -> bool {
        match self.outcome {
            Outcome::Running => false,
            Outcome::Received => self.slots.is_empty(),
            Outcome::Failed | Outcome::Cancelled => self.flights.is_empty(),
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Begin(index) => self.begin(index),
            Event::Bring(index) => self.bring(index),
            Event::Land(index, how) => self.land(index, how),
            Event::Consume => {
                let slot = self.slots.remove(0);
                assert_eq!(slot.start, self.position, "in order, without a gap");
                self.position = slot.end;
                self.schedule.consumed();
            }
            Event::Memory => self.schedule.reserved(),
            Event::Time(until) => {
                self.now = until;
                self.look();
            }
            Event::Cancel => self.over(Outcome::Cancelled),
        }
        self.act();
    }

    /// Looks at the bodies, as the driver does before it polls.
    fn look(&mut self) {
        let (flights, slots) = (&self.flights, &self.slots);
        let flow = |id| {
            let flight = flights.iter().find(|flight| flight.id == id)?;
            let slot = slots.iter().find(|slot| slot.chunk == flight.chunk)?;
            (flight.stage == Stage::Body).then_some(Flow {
                asked: true,
                bytes: slot.filled,
                position: slot.filled,
            })
        };
        assert_eq!(self.schedule.look(self.now, flow), None, "nothing to fence");
    }

    fn over(&mut self, outcome: Outcome) {
        self.outcome = outcome;
        self.schedule.cancel();
        self.slots.clear();
    }

    fn act(&mut self) {
        loop {
            self.waits = self.schedule.poll(self.now);
            self.schedule
                .check(Some(self.waits))
                .expect("the invariants hold");
            match self.waits {
                Action::Request(attempt) => {
                    assert_eq!(self.outcome, Outcome::Running, "an attempt after the end");
                    if attempt.opens {
                        self.open(attempt.chunk, attempt.chunk_start, attempt.chunk_end);
                    }
                    let slot = self
                        .slots
                        .iter()
                        .find(|slot| slot.chunk == attempt.chunk)
                        .expect("an open chunk");
                    assert_eq!(attempt.start, slot.filled, "from the watermark on");
                    assert!(
                        self.flights.iter().all(|flight| flight.chunk != attempt.chunk),
                        "two writers"
                    );
                    self.flights.push(Flight {
                        id: attempt.id,
                        chunk: attempt.chunk,
                        wanted: attempt.end,
                        at: attempt.start,
                        end: 0,
                        stage: Stage::Sent,
                    });
                    assert!(
                        self.flights.len() <= self.settings.concurrency as usize,
                        "too many in flight"
                    );
                }
                Action::Reserve { at_cursor: true, .. } => self.schedule.reserved(),
                Action::Finished => {
                    if self.outcome == Outcome::Running {
                        self.outcome = Outcome::Received;
                        let end = self.slots.last().map_or(self.position, |slot| slot.filled);
                        assert_eq!(end, self.server.size, "all is received");
                    }
                    return;
                }
                Action::GiveUp(limit) => {
                    assert!(matches!(limit, Limit::RetryTimeout { .. }), "{limit:?}");
                    assert!(
                        self.now >= self.settings.retry_timeout,
                        "gave up at {:?}",
                        self.now
                    );
                    self.over(Outcome::Failed);
                }
                Action::Reserve { .. } | Action::Wait(_) => return,
            }
        }
    }

    fn open(&mut self, chunk: u64, start: u64, end: u64) {
        let next = self.slots.last().map_or(self.position, |slot| slot.end);
        assert_eq!(start, next, "chunks without a gap");
        self.slots.push(Slot {
            chunk,
            start,
            end,
            filled: start,
        });
        assert!(self.slots.len() <= self.settings.window as usize, "too many open");
    }

    fn begin(&mut self, index: usize) {
        let server = self.server;
        let flight = &mut self.flights[index];
        let whole = !server.ranges;
        let total = server.tells_size.then_some(server.size);
        let body_end = if whole {
            server.size
        } else {
            flight.wanted.unwrap_or(u64::MAX).min(server.size)
        };
        let said = server.tells_size.then_some(body_end);
        match self
            .schedule
            .begun(flight.id, total, whole, server.identity, None, said)
        {
            ReplyOutcome::Restream => flight.stage = Stage::Restream,
            ReplyOutcome::Chunk { end } => (flight.stage, flight.end) = (Stage::Body, end.min(body_end)),
            ReplyOutcome::Stream { end } => {
                (flight.stage, flight.end) = (Stage::Body, end.unwrap_or(u64::MAX).min(body_end));
            }
        }
        let chunk = flight.chunk;
        self.shrink(chunk);
    }

    fn shrink(&mut self, chunk: u64) {
        if let Some(end) = self.schedule.plan().known_end() {
            for slot in self.slots.iter_mut().filter(|slot| slot.chunk == chunk) {
                slot.end = slot.end.min(end.max(slot.start));
            }
        }
    }

    fn bring(&mut self, index: usize) {
        let flight = &mut self.flights[index];
        let slot = self.slots.iter_mut().find(|slot| slot.chunk == flight.chunk);
        if let Some(slot) = slot.filter(|slot| flight.at < slot.end) {
            assert_eq!(slot.filled, flight.at, "no byte twice");
            flight.at = (flight.at + STEP).min(slot.end).min(flight.end);
            slot.filled = flight.at;
            return;
        }
        let (chunk, range) = self
            .schedule
            .next_in_stream(flight.id)
            .expect("it was asked before");
        assert_eq!(range.start, flight.at, "the stream goes on where it was");
        flight.chunk = chunk;
        self.open(chunk, range.start, range.end);
    }

    fn land(&mut self, index: usize, how: AttemptEnd) {
        let flight = self.flights.remove(index);
        if flight.stage == Stage::Restream && self.outcome == Outcome::Running {
            return self.schedule.restream(flight.id, self.now);
        }
        let verdict = self.schedule.ended(flight.id, self.now, flight.at, how);
        self.shrink(flight.chunk);
        if matches!(verdict, AfterAttempt::Failed(_)) && self.outcome == Outcome::Running {
            self.over(Outcome::Failed);
        }
    }
}

/// Walks all states; gives how many there are.
fn walk(server: Server, settings: &Settings) -> usize {
    let what = format!("{server:?} {settings:?}");
    let first = World::new(server, settings.clone());
    let mut numbers = HashMap::from([(first.key(), 0)]);
    let mut open = vec![(0, first)];
    // For each state: whether it is an end, and where its good events lead.
    let mut good: Vec<(bool, Vec<usize>)> = vec![(false, Vec::new())];
    while let Some((number, world)) = open.pop() {
        good[number].0 = world.is_end();
        for (event, is_good) in world.events() {
            let mut next = world.clone();
            next.happens(event);
            let count = good.len();
            let to = *numbers.entry(next.key()).or_insert(count);
            if to == count {
                good.push((false, Vec::new()));
                open.push((to, next));
            }
            if is_good {
                good[number].1.push(to);
            }
        }
        assert!(
            good[number].0 || !good[number].1.is_empty(),
            "stuck: {what}: {world:?}"
        );
    }
    // Ends are taken away until nothing is left; what is left goes round in a circle.
    let mut from: Vec<Vec<usize>> = vec![Vec::new(); good.len()];
    for (number, (_, leads)) in good.iter().enumerate() {
        leads.iter().for_each(|to| from[*to].push(number));
    }
    let mut left: Vec<usize> = good.iter().map(|(_, leads)| leads.len()).collect();
    let mut ends: Vec<usize> = (0..good.len()).filter(|number| left[*number] == 0).collect();
    let mut taken = 0;
    while let Some(number) = ends.pop() {
        taken += 1;
        for before in &from[number] {
            left[*before] -= 1;
            if left[*before] == 0 {
                ends.push(*before);
            }
        }
    }
    assert_eq!(taken, good.len(), "good events go round in a circle: {what}");
    good.len()
}

#[test]
fn all_states_of_small_downloads() {
    let (mut states, mut configurations) = (0, 0);
    let servers = [
        (true, true, true),
        (true, true, false),
        (true, false, true),
        (false, false, true),
        (false, false, false),
    ];
    for (tells_size, ranges, identity) in servers {
        for size in [STEP, CHUNK, CHUNK + STEP, 3 * CHUNK, 4 * CHUNK] {
            for (window, concurrency) in [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2), (3, 3)] {
                for retries in [0, 1] {
                    // The largest have too many orders for a test.
                    if size > CHUNK + STEP && concurrency * (retries + 1) > 3 {
                        continue;
                    }
                    let settings = Settings {
                        concurrency,
                        window,
                        retries: Some(retries),
                        retry_timeout: Duration::from_secs(1_000_000),
                        ..common::settings(CHUNK)
                    };
                    let server = Server {
                        size,
                        tells_size,
                        ranges,
                        identity,
                    };
                    states += walk(server, &settings);
                    configurations += 1;
                }
            }
        }
    }
    eprintln!("{configurations} configurations, {states} states");
    assert!(states > 10_000, "only {states} states");
}
