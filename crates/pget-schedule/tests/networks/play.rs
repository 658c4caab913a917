//! Plays a download over a network: the driver's part, the server's, and the flow of bytes between
//! events.
//!
//! Bodies share the link fairly: each gets the same, except for those that cannot bring as much
//! alone, and what these leave is shared by the others.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use pget_schedule::{Action, Attempt, AttemptEnd, Bounds, Controller, Flow, Schedule, Settings, Wanted};

use crate::network::Network;

/// Bytes that a socket gathers before its reader sees them, and seconds after which it sees fewer.
const GATHER: f64 = 262_144.0;
const PATIENCE: f64 = 0.1;
/// Memory comes in pages of this size.
const PAGE: u64 = 256 << 10;
const SLOWER: f64 = 2.0;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice {
    /// Requests in flight, and bytes per range.
    Fixed(u32, u64),
    Measured,
    /// As `Measured`; each change of level or chunk size is printed.
    Traced,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) seconds: f64,
    pub(crate) requests: u64,
    pub(crate) refused: u64,
    pub(crate) level: u32,
    pub(crate) chunk_size: u64,
    pub(crate) changes: u32,
    /// The most bytes from the cursor to the end of the last open chunk.
    pub(crate) most_open: u64,
    /// The most bytes that came and were not consumed, in whole pages.
    pub(crate) most_held: u64,
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
    /// Bytes a second of its last body.
    pace: f64,
}

struct Flight {
    connection: Connection,
    start: u64,
    end: u64,
    refused: bool,
    /// What it could bring alone, once its body flows; else 0.
    alone: f64,
    /// What it brings now.
    rate: f64,
    /// Bytes brought so far.
    bytes: f64,
    /// When its last round trip began.
    since: f64,
    flows_since: f64,
    /// Bytes that its reader has seen, and when.
    seen: u64,
    seen_at: f64,
}

impl Flight {
    fn left(&self) -> f64 {
        (float(self.end - self.start) - self.bytes).max(0.0)
    }

    fn ends_in(&self) -> f64 {
        if self.rate > 0.0 {
            self.left() / self.rate
        } else {
            f64::INFINITY
        }
    }
}

struct World<'a> {
    network: &'a Network,
    schedule: Schedule,
    rate: f64,
    link: f64,
    now: f64,
    flights: BTreeMap<u64, Flight>,
    /// The rates are to be shared anew.
    changed: bool,
    /// The body that ends next, and when.
    next_end: (f64, u64),
    events: BinaryHeap<Reverse<(At, u64, Event)>>,
    order: u64,
    idle: Vec<Connection>,
    made: u64,
    served: u32,
    server_free: f64,
    random: fastrand::Rng,
    requests: u64,
    refused: u64,
    most_open: u64,
    most_held: u64,
    /// Bytes of complete chunks, and of those that were consumed.
    complete: u64,
    consumed: u64,
    /// Prints each change of level or chunk size.
    traces: bool,
}

/// Plays the download; `None` if it takes longer than `most` seconds.
pub(crate) fn play(network: &Network, choice: Choice, seed: u64, most: f64) -> Option<Run> {
    let (concurrency, chunk_size, control) = match choice {
        Choice::Fixed(concurrency, chunk_size) => (concurrency, chunk_size, None),
        Choice::Measured | Choice::Traced => (
            128,
            Controller::FIRST_CHUNK,
            Some(Bounds {
                most: 128,
                level: None,
                chunk_size: None,
                memory: 128 << 20,
                most_memory: 512 << 20,
            }),
        ),
    };
    let settings = Settings {
        wanted: Wanted::all(),
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
        flights: BTreeMap::new(),
        changed: false,
        next_end: (f64::INFINITY, 0),
        events: BinaryHeap::new(),
        order: 0,
        idle: Vec::new(),
        made: 0,
        served: 0,
        server_free: 0.0,
        random: fastrand::Rng::with_seed(seed),
        requests: 0,
        refused: 0,
        most_open: 0,
        most_held: 0,
        complete: 0,
        consumed: 0,
        traces: matches!(choice, Choice::Traced),
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
                    most_open: self.most_open,
                    most_held: self.most_held,
                });
            };
            let look = self
                .schedule
                .look_at()
                .map_or(f64::INFINITY, |at| at.as_secs_f64());
            if std::mem::take(&mut self.changed) {
                self.share();
            }
            let end = self.next_end.0;
            let event = self.events.peek().map_or(f64::INFINITY, |Reverse((at, ..))| at.0);
            let next = end.min(event).min(due.max(self.now)).min(look.max(self.now));
            assert!(next.is_finite(), "it stops at {}: {}", self.now, self.network);
            if next > most {
                return None;
            }
            let passed = next - self.now;
            for flight in self.flights.values_mut() {
                flight.bytes += flight.rate * passed;
            }
            self.now = next;
            self.hold();
            if end <= next {
                self.end(self.next_end.1);
            } else if event <= next {
                self.event();
            }
            if look <= next {
                self.look();
            }
            if self.traces {
                self.trace();
            }
        }
        panic!("it does not end: {}", self.network);
    }

    fn hold(&mut self) {
        let cursor = self
            .schedule
            .plan()
            .range(self.schedule.cursor())
            .map_or(0, |range| range.start);
        let pages = |flight: &Flight| whole(flight.bytes).div_ceil(PAGE) * PAGE;
        let flights = self.flights.values().filter(|flight| flight.start != cursor);
        let held = flights.map(pages).sum::<u64>() + self.complete - self.consumed;
        self.most_held = self.most_held.max(held);
    }

    fn trace(&mut self) {
        let Some(choice) = self.schedule.new_choice() else {
            return;
        };
        println!(
            "{:8.3} s: {} x {} KiB: {}; {:.1} ms, {:.2} MB/s; {} in flight, {} open, {} of {} refused, {} fenced",
            self.now,
            choice.level,
            choice.chunk_size >> 10,
            choice.why,
            choice.latency * 1e3,
            choice.body / 1e6,
            self.schedule.in_flight(),
            self.schedule.open(),
            self.refused,
            self.requests,
            self.schedule.fences(),
        );
    }

    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.now)
    }

    fn at(&mut self, at: f64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((At(at), self.order, event)));
    }

    /// Does what the schedule says; `None` when it is finished, else when it wants to be asked
    /// again.
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
        if let Some(cursor) = self.schedule.plan().range(self.schedule.cursor()) {
            self.most_open = self.most_open.max(attempt.chunk_end - cursor.start);
        }
        let reused = if attempt.fresh { None } else { self.take() };
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
                pace: 0.0,
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
            rate: 0.0,
            bytes: 0.0,
            since: 0.0,
            flows_since: 0.0,
            seen: 0,
            seen_at: self.now,
        };
        self.flights.insert(attempt.id, flight);
    }

    /// The connection that was used last and was not far slower than the fastest.
    fn take(&mut self) -> Option<Connection> {
        let fastest = self.idle.iter().map(|idle| idle.pace).fold(0.0, f64::max);
        let index = self.idle.iter().rposition(|idle| idle.pace * SLOWER >= fastest)?;
        Some(self.idle.remove(index))
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
                .ended(id, self.time(), start, AttemptEnd::Throttled(None));
            return;
        }
        let size = Some(self.network.size);
        self.schedule.begun(id, size, false, true, None, Some(end));
        self.schedule.answered(id, self.time());
        let now = self.now;
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.flows_since = now;
        }
        self.flows(id);
    }

    /// The body of `id` begins to flow, or could flow at another rate from now on.
    fn flows(&mut self, id: u64) {
        let Some(mut flight) = self.flights.remove(&id) else {
            return;
        };
        flight.since = self.now;
        flight.alone = self.brings(&mut flight.connection);
        if flight.connection.window > 0.0 {
            self.at(self.now + self.round_trip(), Event::Round(id));
        }
        self.flights.insert(id, flight);
        self.changed = true;
    }

    /// Shares the link.
    fn share(&mut self) {
        let mut alone: Vec<f64> = self.flights.values().map(|flight| flight.alone).collect();
        alone.retain(|&alone| alone > 0.0);
        alone.sort_by(f64::total_cmp);
        let (mut left, mut fair) = (self.link, f64::INFINITY);
        let mut sharing = u32::try_from(alone.len()).unwrap_or(u32::MAX);
        for alone in alone {
            fair = left / f64::from(sharing);
            if alone > fair {
                break;
            }
            (left, sharing, fair) = (left - alone, sharing - 1, f64::INFINITY);
        }
        self.next_end = (f64::INFINITY, 0);
        for (&id, flight) in &mut self.flights {
            flight.rate = flight.alone.min(fair);
            let end = self.now + flight.ends_in();
            if end < self.next_end.0 {
                self.next_end = (end, id);
            }
        }
    }

    /// The body of `id` has come to its end.
    fn end(&mut self, id: u64) {
        let Some(mut flight) = self.flights.remove(&id) else {
            return;
        };
        self.stops(&flight);
        // The window has grown with what has come of this round trip.
        let part = ((self.now - flight.since) / self.round_trip()).min(1.0);
        flight.connection.window *= 2_f64.powf(part);
        flight.connection.pace = flight.bytes / (self.now - flight.flows_since).max(1e-6);
        self.idle.push(flight.connection);
        self.complete += flight.end - flight.start;
        self.schedule
            .ended(id, self.time(), flight.end, AttemptEnd::Complete);
        while self.schedule.is_cursor_filled() {
            let range = self.schedule.plan().range(self.schedule.cursor());
            self.consumed += range.map_or(0, |range| range.end - range.start);
            self.schedule.consumed();
        }
    }

    fn stops(&mut self, flight: &Flight) {
        self.changed = true;
        self.served -= u32::from(!flight.refused);
    }

    fn look(&mut self) {
        for flight in self.flights.values_mut() {
            let gathered = if self.now >= flight.seen_at + PATIENCE {
                flight.bytes
            } else {
                (flight.bytes / GATHER).floor() * GATHER
            };
            if whole(gathered) > flight.seen {
                (flight.seen, flight.seen_at) = (whole(gathered), self.now);
            }
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
            self.complete += flight.seen;
            self.schedule.fenced(id, self.time(), flight.start + flight.seen);
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
pub(crate) const fn float(bytes: u64) -> f64 {
    bytes as f64
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of floats saturate"
)]
pub(crate) const fn whole(value: f64) -> u64 {
    value as u64
}
