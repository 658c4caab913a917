//! Plays a download at a server that is a function, on a virtual clock.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use pget_schedule::{Action, Attempt, AttemptEnd, Backoff, Flow, Limit, Schedule, Settings, Wanted};

use crate::common::{self, poll};

pub(crate) const CHUNK: u64 = 1 << 20;

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Served,
    /// It ends like this.
    Fails(AttemptEnd),
    /// It has no answer.
    Silent,
}

/// A server, asked with each request: its number, the time, and how many it serves now.
pub(crate) type Server = Box<dyn FnMut(u64, Duration, usize) -> Fate>;

#[derive(Debug)]
struct Flight {
    attempt: Attempt,
    at: Duration,
    fate: Fate,
}

/// What came of a download.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) took: Duration,
    /// When each request was sent, and what became of it.
    pub(crate) requests: Vec<(Duration, Fate)>,
    pub(crate) most_in_flight: usize,
    pub(crate) ended: Option<Limit>,
}

impl Outcome {
    pub(crate) fn refused_after(&self, first: usize) -> (usize, usize) {
        let later = self.requests.get(first..).unwrap_or_default();
        let refused = later.iter().filter(|(_, fate)| *fate != Fate::Served).count();
        (refused, later.len())
    }
}

pub(crate) fn settings(chunks: u64, concurrency: u32) -> Settings {
    Settings {
        wanted: Wanted::from(0..chunks * CHUNK),
        concurrency,
        window: 3 * concurrency,
        ..common::settings(CHUNK)
    }
}

/// An answer comes after `latency`, a body after `service`.
pub(crate) fn play(settings: &Settings, latency: Duration, service: Duration, mut server: Server) -> Outcome {
    let mut schedule = Schedule::new(settings.clone());
    let mut now = Duration::ZERO;
    let mut flights: BTreeMap<u64, Flight> = BTreeMap::new();
    let mut outcome = Outcome::default();
    let mut filled: VecDeque<bool> = VecDeque::new();
    let silent_for = Duration::from_secs(30);
    loop {
        let until = loop {
            match poll(&mut schedule, now) {
                Ok(attempt) => {
                    let serves = flights
                        .values()
                        .filter(|flight| flight.fate == Fate::Served)
                        .count();
                    let fate = server(outcome.requests.len() as u64, now, serves);
                    outcome.requests.push((now, fate));
                    let at = now
                        + match fate {
                            Fate::Served => latency + service,
                            Fate::Fails(_) => latency,
                            Fate::Silent => silent_for,
                        };
                    let index = usize::try_from(attempt.chunk - schedule.cursor()).expect("few");
                    filled.resize(filled.len().max(index + 1), false);
                    flights.insert(attempt.id, Flight { attempt, at, fate });
                    outcome.most_in_flight = outcome.most_in_flight.max(flights.len());
                }
                Err(Action::Wait(until)) => break until,
                Err(end) => {
                    if let Action::GiveUp(limit) = end {
                        outcome.ended = Some(limit);
                    }
                    outcome.took = now;
                    return outcome;
                }
            }
        };
        let begins = |flight: &Flight| (flight.fate == Fate::Served).then(|| (flight.at - service).max(now));
        let next = flights
            .values()
            .flat_map(|flight| [Some(flight.at), begins(flight).filter(|&at| at > now)])
            .flatten()
            .chain(until)
            .chain(schedule.look_at().map(|at| at.max(now + ms(1))))
            .min()
            .expect("something will happen");
        now = now.max(next);
        assert!(
            now < Duration::from_secs(3600),
            "it does not come to an end: {schedule:?}"
        );
        for id in flights.keys().copied().collect::<Vec<_>>() {
            let flight = &flights[&id];
            let end = flight.attempt.end.expect("ranges have ends");
            if flight.fate == Fate::Served && now >= flight.at - service {
                schedule.begun(id, settings.wanted.end(), false, true, None, Some(end));
            }
            if now < flight.at {
                continue;
            }
            let flight = flights.remove(&id).expect("it is there");
            let (position, how) = match flight.fate {
                Fate::Served => (end, AttemptEnd::Complete),
                Fate::Fails(how) => (flight.attempt.start, how),
                Fate::Silent => (flight.attempt.start, AttemptEnd::Retry),
            };
            if flight.fate == Fate::Served {
                let index = usize::try_from(flight.attempt.chunk - schedule.cursor()).expect("few");
                filled[index] = true;
            }
            if let pget_schedule::AfterAttempt::Failed(limit) = schedule.ended(id, now, position, how) {
                outcome.ended = Some(limit);
                outcome.took = now;
                return outcome;
            }
        }
        while filled.front() == Some(&true) {
            filled.pop_front();
            schedule.consumed();
        }
        let flow = |id| {
            let flight: &Flight = flights.get(&id)?;
            let (start, end) = (flight.attempt.start, flight.attempt.end?);
            let since = (now + service).saturating_sub(flight.at);
            let brought = if flight.fate == Fate::Served && !service.is_zero() {
                u64::try_from(u128::from(end - start) * since.as_nanos() / service.as_nanos()).ok()?
            } else {
                0
            };
            Some(Flow {
                asked: true,
                bytes: brought,
                position: start + brought,
            })
        };
        if let Some(id) = schedule.look(now, flow) {
            let flight = flights.remove(&id).expect("it is in flight");
            schedule.fenced(id, now, flight.attempt.start);
        }
    }
}

pub(crate) const THROTTLED: Fate = Fate::Fails(AttemptEnd::Throttled(None));

pub(crate) fn at_most(limit: usize, refusal: Fate) -> Server {
    Box::new(move |_, _, serves| if serves >= limit { refusal } else { Fate::Served })
}

pub(crate) fn a_second(rate: usize) -> Server {
    a_second_else(rate, THROTTLED)
}

pub(crate) fn a_second_else(rate: usize, refusal: Fate) -> Server {
    let mut times: VecDeque<Duration> = VecDeque::new();
    Box::new(move |_, now, _| {
        while times
            .front()
            .is_some_and(|&at| at + Duration::from_secs(1) <= now)
        {
            times.pop_front();
        }
        if times.len() >= rate {
            return refusal;
        }
        times.push_back(now);
        Fate::Served
    })
}

pub(crate) fn every(nth: u64, refusal: Fate) -> Server {
    Box::new(move |number, _, _| {
        if number > 0 && number.is_multiple_of(nth) {
            refusal
        } else {
            Fate::Served
        }
    })
}

pub(crate) fn away(from: Duration, lasts: Duration, how: Fate) -> Server {
    Box::new(move |_, now, _| {
        if (from..from + lasts).contains(&now) {
            how
        } else {
            Fate::Served
        }
    })
}

/// A thousand chunks.
pub(crate) fn thousand(concurrency: u32, service: Duration, server: Server) -> Outcome {
    let outcome = play(&settings(1000, concurrency), ms(1), service, server);
    assert_eq!(outcome.ended, None);
    outcome
}

/// The time at a fixed concurrency, if no request is refused.
pub(crate) fn ideal(concurrency: u32, service: Duration) -> Duration {
    (ms(1) + service) * 1000 / concurrency
}

/// Of `of` requests, one is refused, and which one depends on `seed`.
pub(crate) fn one_of(of: u64, seed: u64, refusal: Fate) -> Server {
    let mut random = Backoff::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    Box::new(move |_, _, _| {
        let at = random.probe(Duration::ZERO).as_nanos();
        if at.is_multiple_of(u128::from(of)) {
            refusal
        } else {
            Fate::Served
        }
    })
}
