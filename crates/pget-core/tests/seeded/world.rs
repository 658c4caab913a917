//! Plays one scene: server, consumer and the driver's part, in virtual time, with books of its own that the schedule's words are held against.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    time::Duration,
};

use pget_core::schedule::{Action, Attempt, Backoff, Begun, Ended, Flow, Schedule, Verdict};

use super::scene::{Counts, Scene};

/// The schedule's own constants, again: below this many bytes there was no progress, with so many the next attempt is earned, and so many failures are paid for.
const PROGRESS: u64 = 4096;
const PLENTY: u64 = 64 << 10;
const PRICE: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// Something about this attempt.
    Attempt(u64),
    Consumer,
    Memory,
    Due,
    /// Time to look at the attempts.
    Look,
    /// This attempt, which was to be fenced, has let go.
    Fenced(u64),
}

/// What an attempt's connection is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    Good,
    /// It brings a thousandth of a chunk at a time.
    Slow,
    /// It brings nothing after some bytes, until the deadline.
    Stalls(u64),
}

impl Connection {
    /// Bytes at a time, of an attempt that has brought `brought`.
    fn most(self, chunk: u64, brought: u64) -> u64 {
        match self {
            Self::Good => u64::MAX,
            Self::Slow => chunk.div_ceil(200),
            Self::Stalls(after) => after.saturating_sub(brought),
        }
    }
}

impl Flight {
    fn stalls(&self) -> bool {
        self.began
            && matches!(self.connection, Connection::Stalls(after) if self.at - self.attempt.start >= after)
    }
}

/// How an attempt will go.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Right,
    /// It fails without a reply.
    Before(Ended),
    /// It fails after so many bytes of its body.
    After(u64, Ended),
}

#[derive(Debug)]
struct Slot {
    chunk: u64,
    start: u64,
    end: u64,
    /// Offset of the first byte that is not there.
    filled: u64,
    /// The same when the attempt at hand began on it.
    base: u64,
    fruitless: u32,
    fences: u32,
    /// The attempt before was fenced.
    fresh: bool,
}

#[derive(Debug)]
struct Flight {
    attempt: Attempt,
    fate: Fate,
    connection: Connection,
    /// Its end is asked for.
    fenced: bool,
    slow: bool,
    began: bool,
    restream: bool,
    /// The chunk that it fills now.
    chunk: u64,
    /// Offset of the next byte that it brings.
    at: u64,
    /// Behind its body's last byte.
    body_end: u64,
    /// It brings so many bytes more, then ends like this.
    left: u64,
    ends: Ended,
    /// All its bytes are there; only its end is to be told.
    done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Running,
    Received,
    Failed,
    Cancelled,
}

pub(crate) struct World<'a> {
    scene: Scene,
    counts: &'a mut Counts,
    schedule: Schedule,
    now: Duration,
    order: u64,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    flights: BTreeMap<u64, Flight>,
    slots: VecDeque<Slot>,
    outcome: Outcome,
    /// The consumer's.
    position: u64,
    consumer_comes: bool,
    memory_comes: bool,
    reserved: Option<u64>,
    /// A stream's attempt that waits for the window.
    parked: Option<u64>,
    is_first_reply_in: bool,
    stream: bool,
    resumable: bool,
    requests: u64,
    faults: u64,
    permits: u32,
    tokens: u32,
    paused_until: Duration,
    due: Option<Duration>,
    look: Option<Duration>,
    fences: u64,
    /// Fenced attempts that had left something.
    fenced_rests: u64,
    steps: u64,
}

impl<'a> World<'a> {
    pub(crate) fn new(scene: Scene, counts: &'a mut Counts) -> Self {
        let concurrency = scene.settings.concurrency;
        Self {
            schedule: if scene.has_gaps() {
                Schedule::of_extents(scene.settings.clone(), scene.extents.clone())
            } else {
                Schedule::new(scene.settings.clone())
            },
            position: scene.settings.start,
            permits: concurrency,
            tokens: (concurrency * 4 + 16) * PRICE,
            scene,
            counts,
            now: Duration::ZERO,
            order: 0,
            events: BinaryHeap::new(),
            flights: BTreeMap::new(),
            slots: VecDeque::new(),
            outcome: Outcome::Running,
            consumer_comes: false,
            memory_comes: false,
            reserved: None,
            parked: None,
            is_first_reply_in: false,
            stream: false,
            resumable: false,
            requests: 0,
            faults: 0,
            paused_until: Duration::ZERO,
            due: None,
            look: None,
            fences: 0,
            fenced_rests: 0,
            steps: 0,
        }
    }

    pub(crate) fn run(mut self) {
        self.act();
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            self.now = self.now.max(at);
            self.steps += 1;
            assert!(self.steps < 200_000, "it does not come to an end");
            if self.scene.cancel_at == Some(self.steps) && self.outcome == Outcome::Running {
                self.counts.cancels += 1;
                self.end(Outcome::Cancelled);
            }
            match event {
                Event::Attempt(id) => self.attempt(id),
                Event::Consumer => self.consume(),
                Event::Memory if self.memory_comes => {
                    self.memory_comes = false;
                    self.schedule.reserved();
                }
                Event::Memory | Event::Due => {}
                Event::Look => self.look = None,
                Event::Fenced(id) => self.let_go(id),
            }
            self.look();
            self.act();
        }
        let (start, end) = (self.scene.settings.start, self.scene.right_end());
        match self.outcome {
            Outcome::Running => panic!(
                "it stopped at {} of {start}..{end}: {:?} {:?}",
                self.position, self.schedule, self.flights
            ),
            Outcome::Received => {
                assert_eq!(self.position, end, "delivered {start}..{}", self.position);
                assert!(self.schedule.is_consumed(), "the end is told");
                assert!(
                    self.scene.size >= start || self.scene.settings.end == Some(start),
                    "behind the end"
                );
                self.counts.completed += 1;
                if self.faults == 0 {
                    self.check_economy();
                }
            }
            Outcome::Failed => self.counts.failed += 1,
            Outcome::Cancelled => {}
        }
        assert!(self.position <= end, "bytes behind the end");
        assert_eq!(self.schedule.in_flight(), 0, "attempts are left");
        // Each attempt, each consumer's step and each pause is short.
        let longest = Duration::from_secs(40) * u32::try_from(self.steps + 1).expect("bounded above");
        assert!(
            self.now <= longest,
            "it took {:?} in {} steps",
            self.now,
            self.steps
        );
    }

    /// Without a fault, nothing is asked for twice.
    fn check_economy(&self) {
        let chunks = self.schedule.plan().chunks().expect("the end is known");
        let one_stream = self.streams_by_choice() || !self.scene.ranges;
        if self.scene.settings.end == Some(self.scene.settings.start) {
            assert_eq!(self.requests, 0, "requests for nothing");
        } else if one_stream || chunks <= 1 {
            assert_eq!(self.requests, 1, "requests for one stream of {chunks} chunks");
        } else if !self.scene.identity {
            assert_eq!(self.requests, 2, "requests without an identity");
        } else {
            assert_eq!(
                self.requests,
                chunks + self.fenced_rests,
                "requests for {chunks} chunks"
            );
        }
    }

    fn streams_by_choice(&self) -> bool {
        self.scene.settings.concurrency == 1 && !self.scene.has_gaps()
    }

    fn at(&mut self, after: Duration, event: Event) {
        self.order += 1;
        self.events.push(Reverse((self.now + after, self.order, event)));
    }

    fn soon(&mut self) -> Duration {
        Duration::from_micros(self.scene.rng.u64(0..2000))
    }

    /// The download is over; what is in flight ends.
    fn end(&mut self, outcome: Outcome) {
        self.outcome = outcome;
        self.schedule.cancel();
        self.slots.clear();
        for id in self.flights.keys().copied().collect::<Vec<_>>() {
            let after = self.soon();
            self.at(after, Event::Attempt(id));
        }
    }

    /// The driver's loop.
    fn act(&mut self) {
        for _ in 0..10_000 {
            let action = self.schedule.poll(self.now);
            if let Err(broken) = self.schedule.check(Some(action)) {
                panic!("{broken}");
            }
            assert_eq!(
                self.schedule.in_flight() as usize,
                self.flights.len() + usize::from(matches!(action, Action::Request(_))),
                "attempts in flight"
            );
            match action {
                Action::Request(attempt) => self.launch(attempt),
                Action::Reserve {
                    bytes,
                    at_cursor,
                    retry_at,
                } => {
                    assert_eq!(
                        at_cursor,
                        self.slots.is_empty(),
                        "only a chunk at the cursor goes before the budget"
                    );
                    self.reserved = Some(bytes);
                    if !at_cursor && (self.memory_comes || self.scene.rng.u32(0..1000) < self.scene.tight) {
                        self.counts.refused_memory += 1;
                        if !self.memory_comes && self.scene.tight < 1000 {
                            self.memory_comes = true;
                            self.at(Duration::from_millis(50), Event::Memory);
                        }
                        self.wake_at(retry_at);
                        return;
                    }
                    self.memory_comes = false;
                    self.schedule.reserved();
                }
                Action::Wait(until) => return self.wake_at(until),
                Action::Finished => {
                    if self.outcome == Outcome::Running {
                        self.outcome = Outcome::Received;
                    }
                    assert!(self.flights.is_empty(), "finished with attempts in flight");
                    return self.call_consumer();
                }
            }
            assert_eq!(self.outcome, Outcome::Running, "new attempts after the end");
        }
        panic!("the schedule never waits");
    }

    fn wake_at(&mut self, until: Option<Duration>) {
        if until != self.due
            && let Some(at) = until
        {
            assert!(at > self.now, "to wait for what has come");
            self.at(at - self.now, Event::Due);
        }
        self.due = until;
    }

    fn launch(&mut self, attempt: Attempt) {
        let settings = &self.scene.settings;
        self.requests += 1;
        assert_eq!(self.outcome, Outcome::Running, "an attempt after the end");
        assert!(
            self.now >= self.paused_until,
            "an attempt while the server wants a pause"
        );
        let most = if self.is_first_reply_in && !self.stream {
            self.permits
        } else {
            1
        };
        assert!(
            self.flights.len() < most as usize,
            "{} in flight of {most}",
            self.flights.len()
        );
        if attempt.opens {
            let next = self.slots.back().map_or(self.position, |slot| slot.end);
            let next = self.scene.wanted_from(next);
            let number = self
                .slots
                .back()
                .map_or_else(|| self.schedule.cursor(), |slot| slot.chunk + 1);
            assert_eq!(
                (attempt.chunk, attempt.chunk_start),
                (number, next),
                "chunks in order, without a gap"
            );
            let reserved = self.reserved.take().expect("memory was asked for");
            let bytes = attempt.chunk_end - attempt.chunk_start;
            assert!(bytes <= reserved, "{bytes} bytes in {reserved}");
            assert!(
                bytes <= settings.chunk_size.max(self.scene.hint.unwrap_or(0)),
                "chunk of {bytes}"
            );
            self.slots.push_back(Slot {
                chunk: attempt.chunk,
                start: attempt.chunk_start,
                end: attempt.chunk_end,
                filled: attempt.chunk_start,
                base: attempt.chunk_start,
                fruitless: 0,
                fences: 0,
                fresh: false,
            });
            assert!(
                self.slots.len() <= settings.window as usize,
                "{} open",
                self.slots.len()
            );
        }
        let by_choice = settings.concurrency == 1 && !self.scene.has_gaps();
        let stream = self.stream || (!self.is_first_reply_in && by_choice);
        assert_eq!(
            attempt.at_cursor,
            self.slots.front().is_some_and(|slot| slot.chunk == attempt.chunk),
            "at the cursor"
        );
        let slot = self
            .slots
            .iter_mut()
            .find(|slot| slot.chunk == attempt.chunk)
            .expect("an open chunk");
        assert!(
            !self
                .flights
                .values()
                .any(|flight| flight.chunk == attempt.chunk && !flight.done),
            "two writers"
        );
        assert_eq!(attempt.start, slot.filled, "it resumes at the watermark");
        assert_eq!(attempt.fruitless, slot.fruitless, "fruitless attempts before");
        if stream {
            let known = self.schedule.plan().end();
            assert_eq!(attempt.end, known, "a stream goes to the end");
        } else {
            assert_eq!(attempt.end, Some(slot.end), "the rest of the chunk");
        }
        assert_eq!(attempt.fresh, slot.fresh, "over a fresh connection");
        slot.fresh = false;
        slot.base = slot.filled;
        let flight = self.new_flight(attempt);
        let mut after = self.soon();
        if flight.slow {
            after += Duration::from_secs(20);
        }
        self.flights.insert(attempt.id, flight);
        self.at(after, Event::Attempt(attempt.id));
    }

    fn new_flight(&mut self, attempt: Attempt) -> Flight {
        let rng = &mut self.scene.rng;
        let fate = if rng.u32(0..1000) < self.scene.faults {
            let kind = match rng.u32(0..8) {
                0..4 => Ended::Retry,
                4 => Ended::Throttled(None),
                5 => Ended::Throttled(Some(Duration::from_millis(rng.u64(0..100_000)))),
                6 => Ended::Complete,
                _ => Ended::Fatal,
            };
            if rng.bool() && kind != Ended::Complete {
                Fate::Before(kind)
            } else {
                let most = if rng.bool() { 5_000 } else { 1 + self.scene.size };
                Fate::After(rng.u64(0..most), kind)
            }
        } else {
            Fate::Right
        };
        let slow = rng.u32(0..50) == 0;
        self.counts.slow_chunks += u64::from(slow);
        let connection = if rng.u32(0..1000) >= self.scene.stragglers {
            Connection::Good
        } else if rng.bool() {
            self.counts.slow_connections += 1;
            Connection::Slow
        } else {
            self.counts.stalled_connections += 1;
            Connection::Stalls(rng.u64(0..=self.scene.settings.chunk_size))
        };
        Flight {
            chunk: attempt.chunk,
            at: attempt.start,
            attempt,
            fate,
            connection,
            fenced: false,
            slow,
            began: false,
            restream: false,
            body_end: 0,
            left: 0,
            ends: Ended::Complete,
            done: false,
        }
    }

    fn attempt(&mut self, id: u64) {
        let Some(mut flight) = self.flights.remove(&id) else {
            return;
        };
        if self.parked == Some(id) {
            self.parked = None;
        }
        let goes_on = if self.outcome != Outcome::Running {
            self.land(&flight, Ended::Retry);
            false
        } else if flight.restream {
            self.schedule.restream(id, self.now);
            false
        } else if flight.done {
            self.land(&flight, flight.ends);
            false
        } else if flight.began {
            self.bring(&mut flight)
        } else {
            self.begin(&mut flight)
        };
        if goes_on {
            let mut after = self.soon();
            if flight.connection == Connection::Slow {
                after = Duration::from_millis(50);
            } else if flight.stalls() && flight.done && flight.ends == Ended::Retry {
                after = Duration::from_secs(20);
            }
            let parked = self.parked == Some(id);
            self.flights.insert(id, flight);
            if !parked {
                self.at(after, Event::Attempt(id));
            }
        }
    }

    /// What the driver does now and then.
    fn look(&mut self) {
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
            !self.stream && self.scene.settings.concurrency > 1,
            "nothing to compare with"
        );
        assert!(
            self.now >= self.paused_until,
            "a fence while the server wants a pause"
        );
        assert!(
            self.flights.len() <= self.permits as usize,
            "no leave to ask again"
        );
        self.fences += 1;
        let most = self.requests.div_ceil(20) + 1;
        assert!(
            self.fences <= most,
            "{} fences in {} requests",
            self.fences,
            self.requests
        );
        let flight = self.flights.get_mut(&id).expect("an attempt in flight");
        assert!(!flight.fenced, "fenced already");
        assert!(
            flight.slow || flight.connection != Connection::Good,
            "as fast as any: {flight:?}"
        );
        flight.fenced = true;
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
        assert!(slot.fences <= 2, "{} fences of a chunk", slot.fences);
        let after = if self.scene.held {
            self.counts.fences_of_a_held_writer += 1;
            Duration::from_millis(self.scene.rng.u64(0..40_000))
        } else {
            self.soon()
        };
        self.at(after, Event::Fenced(id));
    }

    fn let_go(&mut self, id: u64) {
        let Some(flight) = self.flights.remove(&id) else {
            self.counts.fences_that_came_too_late += 1;
            return;
        };
        self.counts.fences += 1;
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.chunk == flight.chunk) {
            slot.fresh = slot.filled < slot.end;
            self.fenced_rests += u64::from(slot.fresh);
            slot.base = slot.filled;
            if slot.filled == slot.end {
                self.tokens = (self.tokens + 1).min((self.scene.settings.concurrency * 4 + 16) * PRICE);
            }
        }
        self.schedule.fenced(id, self.now, flight.at);
        self.call_consumer();
    }

    /// The reply, and what the download does with it; `false` if the attempt is over.
    fn begin(&mut self, flight: &mut Flight) -> bool {
        let (start, size) = (flight.attempt.start, self.scene.size);
        if let Fate::Before(how) = flight.fate {
            self.faults += 1;
            match how {
                Ended::Throttled(_) => self.counts.throttled_before_the_reply += 1,
                Ended::Fatal => self.counts.fatal_before_the_reply += 1,
                Ended::Retry | Ended::Complete => self.counts.retryable_before_the_reply += 1,
            }
            self.land(flight, how);
            return false;
        }
        if start > size || (start == size && self.scene.rng.bool()) {
            return self.not_satisfiable(flight);
        }
        let whole = !self.scene.ranges || (self.scene.faults > 0 && self.scene.rng.u32(0..20) == 0);
        if whole
            && self.is_first_reply_in
            && flight.attempt.end.is_some()
            && !(start == 0 && flight.attempt.end == Some(size))
        {
            self.counts.ranges_ignored_later += 1;
            self.faults += 1;
            self.land(flight, Ended::Retry);
            return false;
        }
        let first = !self.is_first_reply_in;
        let body_end = if whole {
            size
        } else {
            let end = flight.attempt.end.unwrap_or(u64::MAX).min(size);
            self.scene.clip.map_or(end, |clip| end.min(start + clip))
        };
        let clipped = !whole && body_end < flight.attempt.end.unwrap_or(u64::MAX).min(size);
        self.counts.clipped_bodies += u64::from(clipped);
        self.faults += u64::from(clipped);
        let told = (self.scene.tells_size || !whole).then_some(size);
        self.counts.unknown_sizes += u64::from(told.is_none());
        self.counts.no_identity += u64::from(!self.scene.identity);
        self.counts.ranges_ignored_at_first += u64::from(whole && first);
        self.faults += u64::from(whole && self.scene.ranges);
        let said_end = (told.is_some() || !whole).then_some(body_end);
        self.counts.hints += u64::from(first && self.scene.settings.follow_hint && self.scene.hint.is_some());
        let begun = self.schedule.begun(
            flight.attempt.id,
            told,
            whole,
            self.scene.identity,
            self.scene.hint,
            said_end,
        );
        flight.began = true;
        let wanted_end = match begun {
            Begun::Restream => {
                assert!(first && !self.scene.identity, "read again without need");
                self.counts.restreams += 1;
                (self.stream, self.resumable, self.is_first_reply_in) = (true, false, true);
                flight.restream = true;
                return true;
            }
            Begun::Chunk { end } => {
                assert!(
                    self.scene.identity || self.outcome != Outcome::Running,
                    "many requests without an identity"
                );
                assert!(!self.stream, "a stream that became a chunk");
                Some(end)
            }
            Begun::Stream { end } => {
                assert!(first || self.stream, "a stream among ranges");
                (self.stream, self.resumable) = (true, self.scene.identity);
                end
            }
        };
        self.is_first_reply_in = true;
        self.shrink(flight.chunk);
        flight.body_end = body_end.min(wanted_end.unwrap_or(u64::MAX)).max(start);
        flight.left = u64::MAX;
        if let Fate::After(bytes, how) = flight.fate
            // A body of unknown length that ends well is all there is: it cannot be short.
            && (how != Ended::Complete || told.is_some())
        {
            (flight.left, flight.ends) = (bytes, how);
        }
        true
    }

    /// The server refuses the range, and `head` tells why.
    fn not_satisfiable(&mut self, flight: &Flight) -> bool {
        if flight.attempt.start > self.scene.size || self.is_first_reply_in {
            self.faults += 1;
            self.land(flight, Ended::Fatal);
        } else {
            self.schedule.nothing_to_read();
            self.land(flight, Ended::Complete);
        }
        false
    }

    /// More of the body; `false` if the attempt is over.
    fn bring(&mut self, flight: &mut Flight) -> bool {
        // When there is no slot, it was full and is consumed.
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.chunk == flight.chunk) {
            let room = slot.end.min(flight.body_end) - flight.at;
            let bytes = match self.scene.rng.u32(0..3) {
                0 => room,
                _ => self.scene.rng.u64(0..=room),
            }
            .min(flight.left)
            .min(
                flight
                    .connection
                    .most(self.scene.settings.chunk_size, flight.at - flight.attempt.start),
            );
            assert_eq!(slot.filled, flight.at, "a byte twice, or out of order");
            slot.filled += bytes;
            flight.at += bytes;
            flight.left -= bytes.min(flight.left);
            if bytes > 0 {
                self.call_consumer();
            }
            if flight.left == 0 {
                return self.stops(flight);
            }
            if flight.stalls() && bytes < room {
                // Until the deadline.
                self.faults += 1;
                flight.done = true;
                flight.ends = Ended::Retry;
                return true;
            }
            if bytes < room {
                return true;
            }
        }
        if flight.at >= flight.body_end {
            flight.done = true;
            flight.ends = Ended::Complete;
            return true;
        }
        let Some((chunk, range)) = self.schedule.next_in_stream(flight.attempt.id) else {
            self.counts.streams_waiting_for_the_window += 1;
            self.parked = Some(flight.attempt.id);
            return true;
        };
        assert!(self.stream, "an attempt goes beyond its chunk");
        assert_eq!(
            range.start,
            self.scene.wanted_from(flight.at),
            "the stream goes on where it was, or behind the gap"
        );
        self.counts.streams_over_gaps += u64::from(range.start > flight.at);
        flight.at = range.start;
        if flight.at > flight.body_end {
            // Its body was clipped in the gap.
            flight.done = true;
            flight.ends = Ended::Retry;
        }
        let next = self
            .slots
            .back()
            .map_or_else(|| self.schedule.cursor(), |slot| slot.chunk + 1);
        assert_eq!(chunk, next, "the next chunk");
        self.tokens = (self.tokens + 1).min((self.scene.settings.concurrency * 4 + 16) * PRICE);
        flight.chunk = chunk;
        self.slots.push_back(Slot {
            chunk,
            start: range.start,
            end: range.end,
            filled: range.start,
            base: range.start,
            fruitless: 0,
            fences: 0,
            fresh: false,
        });
        assert!(
            self.slots.len() <= self.scene.settings.window as usize,
            "{} open",
            self.slots.len()
        );
        true
    }

    fn stops(&mut self, flight: &mut Flight) -> bool {
        self.faults += 1;
        match flight.ends {
            Ended::Retry => self.counts.retryable_in_the_body += 1,
            Ended::Throttled(_) => self.counts.throttled_in_the_body += 1,
            Ended::Fatal => self.counts.fatal_in_the_body += 1,
            Ended::Complete => self.counts.short_bodies += 1,
        }
        flight.done = true;
        true
    }

    /// An attempt ends; what that must mean is worked out here, and compared with what the schedule says.
    fn land(&mut self, flight: &Flight, how: Ended) {
        let running = self.outcome == Outcome::Running;
        let over = !running
            || self.schedule.plan().known_end() == Some(self.scene.settings.start) && !self.is_first_reply_in;
        let all_known = self.schedule.plan().known_end();
        let start = self.scene.settings.start;
        let nothing_ties = self.stream && !self.resumable && flight.at > start;
        let cannot_go_on = how == Ended::Fatal || nothing_ties;
        let brought_all = how == Ended::Complete || self.scene.settings.end == Some(flight.at);
        let ends_here = brought_all && self.stream && all_known.is_none();
        let end = if ends_here { Some(flight.at) } else { all_known };
        let slot = self.slots.iter_mut().find(|slot| slot.chunk == flight.chunk);
        let mut must_fail = false;
        if over {
        } else if let Some(slot) = slot {
            let slot_end = end.map_or(slot.end, |end| slot.end.min(end.max(slot.start)));
            let progress = flight.at - slot.base;
            slot.base = flight.at;
            if flight.at >= slot_end {
                let more = self.stream && end.is_none_or(|end| slot_end < end);
                must_fail = how == Ended::Fatal || (more && cannot_go_on);
                self.tokens = (self.tokens + 1).min((self.scene.settings.concurrency * 4 + 16) * PRICE);
                self.permits = (self.permits + 1).min(self.scene.settings.concurrency);
            } else {
                let fruitless = if progress >= PROGRESS {
                    0
                } else {
                    slot.fruitless + 1
                };
                slot.fruitless = fruitless;
                let free = progress >= PLENTY || how == Ended::Complete && progress >= PROGRESS;
                must_fail =
                    cannot_go_on || fruitless > self.scene.settings.retries || (!free && self.tokens < PRICE);
                if !free && !must_fail {
                    self.tokens -= PRICE;
                }
                if let (Ended::Throttled(after), false) = (how, must_fail) {
                    self.permits = (self.permits / 2).max(1);
                    let after = after.unwrap_or_default().min(Backoff::LONGEST);
                    self.paused_until = self.paused_until.max(self.now + after);
                }
            }
        } else {
            self.counts.chunks_consumed_before_their_attempt_ended += 1;
            let more = end.is_none_or(|end| flight.at < end);
            must_fail = how == Ended::Fatal || (more && cannot_go_on);
        }
        let verdict = self.schedule.ended(flight.attempt.id, self.now, flight.at, how);
        if running {
            assert_eq!(verdict == Verdict::Failed, must_fail, "{how:?} of {flight:?}");
        }
        self.shrink(flight.chunk);
        if verdict == Verdict::Failed {
            self.end(Outcome::Failed);
        }
        self.call_consumer();
    }

    /// The end is known: the chunk at it becomes shorter.
    fn shrink(&mut self, chunk: u64) {
        if let Some(end) = self.schedule.plan().known_end()
            && let Some(slot) = self.slots.iter_mut().find(|slot| slot.chunk == chunk)
        {
            slot.end = slot.end.min(end.max(slot.start));
        }
    }

    fn call_consumer(&mut self) {
        if !self.consumer_comes && !self.slots.is_empty() {
            self.consumer_comes = true;
            let after = if self.scene.slow_consumer {
                Duration::from_millis(self.scene.rng.u64(0..30_000))
            } else {
                self.soon()
            };
            self.at(after, Event::Consumer);
        }
    }

    fn consume(&mut self) {
        self.consumer_comes = false;
        let Some(slot) = self.slots.front() else { return };
        assert!(
            slot.start <= self.position && self.position <= slot.filled,
            "the chunk at the cursor"
        );
        self.position = slot.filled;
        if slot.filled < slot.end {
            return;
        }
        self.position = self.scene.wanted_from(slot.end);
        self.slots.pop_front();
        self.schedule.consumed();
        if let Some(id) = self.parked.take() {
            self.at(Duration::ZERO, Event::Attempt(id));
        }
        self.call_consumer();
    }
}
