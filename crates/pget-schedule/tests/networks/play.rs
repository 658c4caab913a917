//! Plays a download over a network: the driver's part, the server's, and the flow of bytes between events.
//!
//! Bodies share the link in proportion to what each could bring alone. `work` is the integral of the share, so that
//! the end of a body is known by its work, whatever the others do meanwhile.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use pget_schedule::{Action, Attempt, Bounds, Controller, Ended, Flow, Schedule, Settings};

use crate::network::Network;

/// Bytes that a socket gathers before its reader sees them.
const GATHER: f64 = 262_144.0;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice {
    /// Requests in flight, and bytes per range.
    Fixed(u32, u64),
    Measured,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) seconds: f64,
    pub(crate) requests: u64,
    pub(crate) refused: u64,
    pub(crate) level: u32,
    pub(crate) chunk_size: u64,
    pub(crate) changes: u32,
}

#[derive(Clone, Copy, PartialEq)]
struct At(f64);

impl Eq for At {}

impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for At {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Answer(u64),
    /// A round trip of a connection that starts slowly is over.
    Round(u64),
    Change,
}

#[derive(Clone, Copy)]
struct Connection {
    odd: bool,
    /// Bytes in a round trip, while it starts slowly; else 0.
    window: f64,
}

struct Flight {
    connection: Connection,
    start: u64,
    end: u64,
    refused: bool,
    /// What it could bring alone, once its body flows; else 0.
    alone: f64,
    /// Bytes brought up to the work and the time of the last change of `alone`.
    bytes: f64,
    work: f64,
    since: f64,
    /// Bytes that its reader has seen.
    seen: u64,
}

impl Flight {
    fn left(&self) -> f64 {
        (float(self.end - self.start) - self.bytes).max(0.0)
    }

    fn ends_at(&self) -> f64 {
        self.work + self.left() / self.alone
    }
}

struct World<'a> {
    network: &'a Network,
    schedule: Schedule,
    rate: f64,
    link: f64,
    now: f64,
    work: f64,
    /// What all bodies could bring, each alone.
    alone: f64,
    flights: BTreeMap<u64, Flight>,
    ends: BinaryHeap<Reverse<(At, u64)>>,
    events: BinaryHeap<Reverse<(At, u64, Event)>>,
    order: u64,
    idle: Vec<Connection>,
    made: u64,
    served: u32,
    server_free: f64,
    random: fastrand::Rng,
    requests: u64,
    refused: u64,
}

/// Plays the download; `None` if it takes longer than `most` seconds.
pub(crate) fn play(network: &Network, choice: Choice, seed: u64, most: f64) -> Option<Run> {
    let (concurrency, chunk_size, control) = match choice {
        Choice::Fixed(concurrency, chunk_size) => (concurrency, chunk_size, None),
        Choice::Measured => (
            128,
            Controller::FIRST_CHUNK,
            Some(Bounds {
                most: 128,
                level: None,
                chunk_size: None,
                memory: 192 << 20,
                most_memory: 512 << 20,
            }),
        ),
    };
    let settings = Settings {
        start: 0,
        end: None,
        chunk_size,
        follow_hint: false,
        concurrency,
        window: concurrency * 3,
        window_follows: true,
        control,
        retries: None,
        retry_timeout: Duration::from_secs(120),
        seed,
    };
    let mut world = World {
        network,
        schedule: Schedule::new(settings),
        rate: network.rate,
        link: network.link,
        now: 0.0,
        work: 0.0,
        alone: 0.0,
        flights: BTreeMap::new(),
        ends: BinaryHeap::new(),
        events: BinaryHeap::new(),
        order: 0,
        idle: Vec::new(),
        made: 0,
        served: 0,
        server_free: 0.0,
        random: fastrand::Rng::with_seed(seed),
        requests: 0,
        refused: 0,
    };
    for change in &network.changes {
        world.at(change.0, Event::Change);
    }
    world.run(most)
}

impl World<'_> {
    fn run(mut self, most: f64) -> Option<Run> {
        for _ in 0..5_000_000 {
            let Some(due) = self.act() else {
                return Some(Run {
                    seconds: self.now,
                    requests: self.requests,
                    refused: self.refused,
                    level: self.schedule.level(),
                    chunk_size: self.schedule.plan().chunk_size(),
                    changes: self.schedule.level_changes(),
                });
            };
            let look = self
                .schedule
                .look_at()
                .map_or(f64::INFINITY, |at| at.as_secs_f64());
            let share = if self.alone > self.link {
                self.link / self.alone
            } else {
                1.0
            };
            let end = self.ends.peek().map_or(f64::INFINITY, |Reverse((work, _))| {
                self.now + (work.0 - self.work).max(0.0) / share
            });
            let event = self.events.peek().map_or(f64::INFINITY, |Reverse((at, ..))| at.0);
            let next = end.min(event).min(due.max(self.now)).min(look.max(self.now));
            assert!(next.is_finite(), "it stops at {}: {}", self.now, self.network);
            if next > most {
                return None;
            }
            self.work += (next - self.now) * share;
            self.now = next;
            if end <= next {
                self.end();
            } else if event <= next {
                self.event();
            }
            if look <= next {
                self.look();
            }
        }
        panic!("it does not end: {}", self.network);
    }

    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.now)
    }

    fn at(&mut self, at: f64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((At(at), self.order, event)));
    }

    /// Does what the schedule says; `None` when it is finished, else when it wants to be asked again.
    fn act(&mut self) -> Option<f64> {
        loop {
            match self.schedule.poll(self.time()) {
                Action::Request(attempt) => self.launch(&attempt),
                Action::Reserve { .. } => self.schedule.reserved(),
                Action::Wait(until) => return Some(until.map_or(f64::INFINITY, |until| until.as_secs_f64())),
                Action::Finished => return None,
                Action::GiveUp(limit) => panic!("{limit:?}: {}", self.network),
            }
        }
    }

    fn launch(&mut self, attempt: &Attempt) {
        self.requests += 1;
        let reused = if attempt.fresh { None } else { self.idle.pop() };
        let mut arrives = self.now;
        let connection = reused.unwrap_or_else(|| {
            arrives += self.network.latency;
            let number = self.made;
            self.made += 1;
            Connection {
                odd: self
                    .network
                    .odd
                    .is_some_and(|(every, _)| number % every == every / 2),
                window: self.network.slow_start,
            }
        });
        if self.network.cost > 0.0 {
            self.server_free = self.server_free.max(arrives) + self.network.cost;
            arrives = self.server_free;
        }
        let refused = self.served >= self.network.limit;
        if refused {
            self.refused += 1;
        } else {
            self.served += 1;
        }
        let jitter = self.network.jitter * self.random.f64();
        let answer = arrives + self.network.latency * (1.0 + jitter);
        self.at(answer, Event::Answer(attempt.id));
        let flight = Flight {
            connection,
            start: attempt.start,
            end: attempt.end.unwrap_or(self.network.size).min(self.network.size),
            refused,
            alone: 0.0,
            bytes: 0.0,
            work: 0.0,
            since: 0.0,
            seen: 0,
        };
        self.flights.insert(attempt.id, flight);
    }

    fn round_trip(&self) -> f64 {
        self.network.latency.max(0.001)
    }

    /// What a connection brings alone; also ends a slow start that has reached that.
    fn brings(&self, connection: &mut Connection) -> f64 {
        let odd = self.network.odd.filter(|_| connection.odd);
        let rate = odd.map_or(self.rate, |(_, rate)| rate).min(self.link);
        let started = connection.window / self.round_trip();
        if started >= rate {
            connection.window = 0.0;
        }
        if connection.window > 0.0 { started } else { rate }
    }

    fn event(&mut self) {
        let Some(Reverse((_, _, event))) = self.events.pop() else {
            return;
        };
        match event {
            Event::Answer(id) => self.answer(id),
            Event::Round(id) => {
                if let Some(flight) = self.flights.get_mut(&id) {
                    flight.connection.window *= 2.0;
                    self.flows(id);
                }
            }
            Event::Change => {
                let mut passed = self.network.changes.iter().filter(|change| change.0 <= self.now);
                if let Some(&(_, rate, link)) = passed.next_back() {
                    (self.rate, self.link) = (rate, link);
                }
                let flowing = self.flights.iter().filter(|(_, flight)| flight.alone > 0.0);
                let ids: Vec<u64> = flowing.map(|(&id, _)| id).collect();
                ids.into_iter().for_each(|id| self.flows(id));
            }
        }
    }

    fn answer(&mut self, id: u64) {
        let Some(flight) = self.flights.get(&id) else {
            // It was fenced.
            return;
        };
        let (start, end) = (flight.start, flight.end);
        if flight.refused {
            if let Some(flight) = self.flights.remove(&id) {
                self.idle.push(flight.connection);
            }
            self.schedule
                .ended(id, self.time(), start, Ended::Throttled(None));
            return;
        }
        let size = Some(self.network.size);
        self.schedule.begun(id, size, false, true, None, Some(end));
        self.schedule.answered(id, self.time());
        self.flows(id);
    }

    /// The body of `id` begins to flow, or flows at another rate from now on.
    fn flows(&mut self, id: u64) {
        let Some(mut flight) = self.flights.remove(&id) else {
            return;
        };
        flight.bytes += (self.work - flight.work) * flight.alone;
        (flight.work, flight.since) = (self.work, self.now);
        self.alone -= flight.alone;
        flight.alone = self.brings(&mut flight.connection);
        self.alone += flight.alone;
        self.ends.push(Reverse((At(flight.ends_at()), id)));
        if flight.connection.window > 0.0 {
            self.at(self.now + self.round_trip(), Event::Round(id));
        }
        self.flights.insert(id, flight);
    }

    /// A body has come to its end, unless its rate has changed since that was computed.
    fn end(&mut self) {
        let Some(Reverse((work, id))) = self.ends.pop() else {
            return;
        };
        let is_now = |flight: &Flight| {
            flight.alone > 0.0 && (flight.ends_at() - work.0).abs() <= 1e-9 * work.0.max(1.0)
        };
        if !self.flights.get(&id).is_some_and(is_now) {
            return;
        }
        let Some(mut flight) = self.flights.remove(&id) else {
            return;
        };
        self.stops(&flight);
        // The window has grown with what has come of this round trip.
        let part = ((self.now - flight.since) / self.round_trip()).min(1.0);
        flight.connection.window *= 2_f64.powf(part);
        self.idle.push(flight.connection);
        self.schedule.ended(id, self.time(), flight.end, Ended::Complete);
        while self.schedule.is_cursor_filled() {
            self.schedule.consumed();
        }
    }

    fn stops(&mut self, flight: &Flight) {
        self.alone -= flight.alone;
        self.served -= u32::from(!flight.refused);
        if self.flights.values().all(|flight| flight.alone == 0.0) {
            self.alone = 0.0;
        }
    }

    fn look(&mut self) {
        for flight in self.flights.values_mut() {
            let bytes = flight.bytes + (self.work - flight.work) * flight.alone;
            flight.seen = flight.seen.max(whole((bytes / GATHER).floor() * GATHER));
        }
        let flights = &self.flights;
        let flow = |id: u64| {
            flights.get(&id).map(|flight| Flow {
                asked: true,
                bytes: flight.seen,
                position: flight.start + flight.seen,
            })
        };
        if let Some(id) = self.schedule.look(self.time(), flow)
            && let Some(flight) = self.flights.remove(&id)
        {
            self.stops(&flight);
            self.schedule.fenced(id, self.time(), flight.start + flight.seen);
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
const fn float(bytes: u64) -> f64 {
    bytes as f64
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of floats saturate"
)]
const fn whole(value: f64) -> u64 {
    value as u64
}
