//! Plays one scene: server, consumer and the driver's part, in virtual time, with books of its own (`books.rs`) that the schedule's words are held against.

mod books;
mod fence;
mod flight;
mod reply;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    ops::Range,
    time::Duration,
};

use pget_schedule::{Action, Attempt, AttemptEnd, Schedule};

use super::scene::{Counts, Scene};
use flight::{Connection, Flight};

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

#[derive(Debug)]
struct Slot {
    chunk: u64,
    start: u64,
    end: u64,
    /// Offset of the first byte that is not there.
    filled: u64,
    /// The same when the attempt at hand began on it.
    base: u64,
    /// What the schedule has seen of it, and when it last saw more.
    seen: u64,
    last_byte: Duration,
    fruitless: u32,
    counted: u32,
    wrong: u32,
    /// Refusals in a row while nothing else was in flight.
    refused_alone: u32,
    wrong_since: Duration,
    /// For how long it was tried without a byte since an attempt failed, if one did.
    tried: Option<Duration>,
    /// For how long attempts that were fenced have brought nothing.
    fenced: Duration,
    fences: u32,
    /// The attempt before was fenced.
    fresh: bool,
    after_fence: bool,
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
    /// Since when nothing has come and when that was noticed, once attempts fail; and when the last
    /// byte was seen.
    failing: Option<(Duration, Duration)>,
    last_byte: Duration,
    /// A range has had wrong replies and then bytes.
    wrong_passes: bool,
    /// Attempts that had their answer after a fence.
    answered_after_fences: u64,
    paused_until: Duration,
    due: Option<Duration>,
    look: Option<Duration>,
    fences: u64,
    renewed: u64,
    /// Fenced attempts that had left something.
    fenced_rests: u64,
    steps: u64,
}

impl<'a> World<'a> {
    pub(crate) fn new(scene: Scene, counts: &'a mut Counts) -> Self {
        Self {
            schedule: Schedule::new(scene.settings.clone()),
            position: scene.settings.wanted.start(),
            failing: None,
            last_byte: Duration::ZERO,
            wrong_passes: false,
            answered_after_fences: 0,
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
            renewed: 0,
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
            self.check_patience();
        }
        let (start, end) = (self.scene.settings.wanted.start(), self.scene.right_end());
        match self.outcome {
            Outcome::Running => panic!(
                "it stopped at {} of {start}..{end}: {:?} {:?}",
                self.position, self.schedule, self.flights
            ),
            Outcome::Received => {
                assert_eq!(self.position, end, "delivered {start}..{}", self.position);
                assert!(self.schedule.is_consumed(), "the end is told");
                assert!(
                    self.scene.size >= start || self.scene.settings.wanted.end() == Some(start),
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
                Action::GiveUp(limit) => {
                    self.gave_up(limit);
                    continue;
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

    /// A slot for a chunk, in the window.
    fn open(&mut self, chunk: u64, range: &Range<u64>) {
        self.slots.push_back(Slot {
            chunk,
            start: range.start,
            end: range.end,
            filled: range.start,
            base: range.start,
            seen: range.start,
            last_byte: self.now,
            fruitless: 0,
            counted: 0,
            wrong: 0,
            refused_alone: 0,
            wrong_since: Duration::ZERO,
            tried: None,
            fenced: Duration::ZERO,
            fences: 0,
            fresh: false,
            after_fence: false,
        });
        assert!(
            self.slots.len() <= self.scene.settings.window as usize,
            "{} open",
            self.slots.len()
        );
    }

    fn launch(&mut self, attempt: Attempt) {
        let settings = &self.scene.settings;
        self.requests += 1;
        assert_eq!(self.outcome, Outcome::Running, "an attempt after the end");
        assert!(
            self.now >= self.paused_until,
            "an attempt at {:?} while the server wants a pause until {:?}",
            self.now,
            self.paused_until
        );
        let most = if self.is_first_reply_in && !self.stream {
            settings.concurrency
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
            self.open(attempt.chunk, &(attempt.chunk_start..attempt.chunk_end));
        }
        let settings = &self.scene.settings;
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
        // After a silent attempt, any connection will do. A connection that was far slower than the others is
        // left alone, but seldom.
        if attempt.fresh && !slot.fresh {
            self.renewed += 1;
            assert!(self.renewed <= attempt.id / 20 + 2, "over a fresh connection");
        }
        slot.fresh = false;
        (slot.base, slot.seen) = (slot.filled, slot.filled);
        let mut flight = self.new_flight(attempt);
        flight.alone = self.flights.is_empty();
        self.flights.values_mut().for_each(|other| other.alone = false);
        let mut after = self.soon();
        if flight.slow {
            after += Duration::from_secs(20);
        }
        self.flights.insert(attempt.id, flight);
        self.at(after, Event::Attempt(attempt.id));
    }

    fn attempt(&mut self, id: u64) {
        let Some(mut flight) = self.flights.remove(&id) else {
            return;
        };
        if self.parked == Some(id) {
            self.parked = None;
        }
        let goes_on = if self.outcome != Outcome::Running {
            self.land(&flight, AttemptEnd::Retry);
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
            } else if flight.stalls() && flight.done && flight.ends == AttemptEnd::Retry {
                after = Duration::from_secs(20);
            }
            let parked = self.parked == Some(id);
            self.flights.insert(id, flight);
            if !parked {
                self.at(after, Event::Attempt(id));
            }
        }
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
        let chunk = slot.chunk;
        self.wrong_passes |= slot.wrong > 0;
        self.slots.pop_front();
        if self.flights.values().any(|flight| flight.chunk == chunk) {
            // That its last bytes have come is known by this.
            self.progress_is_seen();
        }
        self.schedule.consumed();
        if let Some(id) = self.parked.take() {
            self.at(Duration::ZERO, Event::Attempt(id));
        }
        self.call_consumer();
    }
}
