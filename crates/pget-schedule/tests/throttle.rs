//! What a download does at a server that serves so many requests at once, or so many a second, fails
//! now and then, or goes away for a while: whole downloads on a virtual clock.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use pget_schedule::{Action, Attempt, Backoff, Ended, Flow, Limit, Schedule, Settings, Wanted};

const CHUNK: u64 = 1 << 20;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Served,
    /// It ends like this.
    Fails(Ended),
    /// It has no answer.
    Silent,
}

/// A server, asked with each request: its number, the time, and how many it serves now.
type Server = Box<dyn FnMut(u64, Duration, usize) -> Fate>;

#[derive(Debug)]
struct Flight {
    attempt: Attempt,
    at: Duration,
    fate: Fate,
}

/// What came of a download.
#[derive(Debug, Default)]
struct Outcome {
    took: Duration,
    /// When each request was sent, and what became of it.
    requests: Vec<(Duration, Fate)>,
    most_in_flight: usize,
    ended: Option<Limit>,
}

impl Outcome {
    fn refused_after(&self, first: usize) -> (usize, usize) {
        let later = self.requests.get(first..).unwrap_or_default();
        let refused = later.iter().filter(|(_, fate)| *fate != Fate::Served).count();
        (refused, later.len())
    }
}

fn settings(chunks: u64, concurrency: u32) -> Settings {
    Settings {
        wanted: Wanted::from(0..chunks * CHUNK),
        chunk_size: CHUNK,
        follow_hint: false,
        concurrency,
        window: 3 * concurrency,
        window_follows: false,
        control: None,
        retries: None,
        retry_timeout: Duration::from_secs(120),
        seed: 1,
    }
}

/// An answer comes after `latency`, a body after `service`.
fn play(settings: &Settings, latency: Duration, service: Duration, mut server: Server) -> Outcome {
    let mut schedule = Schedule::new(settings.clone());
    let mut now = Duration::ZERO;
    let mut flights: BTreeMap<u64, Flight> = BTreeMap::new();
    let mut outcome = Outcome::default();
    let mut filled: VecDeque<bool> = VecDeque::new();
    let silent_for = Duration::from_secs(30);
    loop {
        let until = loop {
            match schedule.poll(now) {
                Action::Request(attempt) => {
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
                Action::Reserve { .. } => schedule.reserved(),
                Action::Wait(until) => break until,
                Action::GiveUp(limit) => {
                    outcome.ended = Some(limit);
                    outcome.took = now;
                    return outcome;
                }
                Action::Finished => {
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
                Fate::Served => (end, Ended::Complete),
                Fate::Fails(how) => (flight.attempt.start, how),
                Fate::Silent => (flight.attempt.start, Ended::Retry),
            };
            if flight.fate == Fate::Served {
                let index = usize::try_from(flight.attempt.chunk - schedule.cursor()).expect("few");
                filled[index] = true;
            }
            if let pget_schedule::Verdict::Failed(limit) = schedule.ended(id, now, position, how) {
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

const THROTTLED: Fate = Fate::Fails(Ended::Throttled(None));

fn at_most(limit: usize, refusal: Fate) -> Server {
    Box::new(move |_, _, serves| if serves >= limit { refusal } else { Fate::Served })
}

fn a_second(rate: usize) -> Server {
    let mut times: VecDeque<Duration> = VecDeque::new();
    Box::new(move |_, now, _| {
        while times
            .front()
            .is_some_and(|&at| at + Duration::from_secs(1) <= now)
        {
            times.pop_front();
        }
        if times.len() >= rate {
            return THROTTLED;
        }
        times.push_back(now);
        Fate::Served
    })
}

fn every(nth: u64, refusal: Fate) -> Server {
    Box::new(move |number, _, _| {
        if number > 0 && number.is_multiple_of(nth) {
            refusal
        } else {
            Fate::Served
        }
    })
}

fn away(from: Duration, lasts: Duration, how: Fate) -> Server {
    Box::new(move |_, now, _| {
        if (from..from + lasts).contains(&now) {
            how
        } else {
            Fate::Served
        }
    })
}

/// A thousand chunks.
fn thousand(concurrency: u32, service: Duration, server: Server) -> Outcome {
    let outcome = play(&settings(1000, concurrency), ms(1), service, server);
    assert_eq!(outcome.ended, None);
    outcome
}

/// The time at a fixed concurrency, if no request is refused.
fn ideal(concurrency: u32, service: Duration) -> Duration {
    (ms(1) + service) * 1000 / concurrency
}

#[test]
fn case_143_permits_settle_where_the_server_serves() {
    for refusal in [
        THROTTLED,
        Fate::Fails(Ended::Throttled(Some(Duration::ZERO))),
        Fate::Fails(Ended::Refused),
        Fate::Fails(Ended::Retry),
    ] {
        for (limit, concurrency) in [(1, 8), (4, 8), (4, 16), (4, 64), (32, 64), (7, 8)] {
            let service = ms(50);
            let outcome = thousand(concurrency, service, at_most(limit, refusal));
            let (refused, of) = outcome.refused_after(100);
            assert!(
                refused * 50 <= of,
                "{limit} at once, {refusal:?}: {refused} of {of} refused"
            );
            let fitting = ideal(u32::try_from(limit).expect("few"), service);
            assert!(
                outcome.took * 95 <= fitting * 100 + ms(50) * 100,
                "{limit} at once, {refusal:?}: {:?}, and {fitting:?} at best",
                outcome.took
            );
        }
    }
}

/// A server that counts a request for a moment after its end, as nginx does, refuses one now and
/// then that is not too many. What was found before is soon there again, and nothing beyond it is
/// tried.
#[test]
fn case_143_a_refusal_within_the_limit_costs_one_request() {
    for (limit, concurrency) in [(4, 8), (4, 16), (16, 64)] {
        let server: Server = Box::new(move |number, _, serves| {
            let is_early = serves + 1 == limit && number % 150 < 4;
            if serves >= limit || is_early {
                THROTTLED
            } else {
                Fate::Served
            }
        });
        let outcome = play(&settings(4000, concurrency), ms(1), ms(50), server);
        assert_eq!(outcome.ended, None);
        let (refused, of) = outcome.refused_after(100);
        println!("{limit} of {concurrency}: {refused} of {of}, {:?}", outcome.took);
        assert!(refused * 50 <= of, "{limit} at once: {refused} of {of} refused");
        let fitting = ideal(u32::try_from(limit).expect("few"), ms(50)) * 4;
        assert!(
            outcome.took * 90 <= fitting * 100,
            "{limit} at once: {:?}, and {fitting:?} at best",
            outcome.took
        );
    }
}

/// A level that is lost again and again is tried as seldom as the step beyond a limit.
#[test]
fn case_143_a_level_that_is_lost_again_is_tried_more_seldom() {
    for (limit, period) in [(2, 40), (4, 40), (8, 40), (4, 60), (8, 60)] {
        let server: Server = Box::new(move |number, _, serves| {
            let is_early = serves + 1 == limit && number % period < 4;
            if serves >= limit || is_early {
                THROTTLED
            } else {
                Fate::Served
            }
        });
        let outcome = play(&settings(4000, 16), ms(1), ms(50), server);
        assert_eq!(outcome.ended, None);
        let (refused, of) = outcome.refused_after(100);
        assert!(
            refused * 50 <= of,
            "{limit} at once, 4 of {period} early: {refused} of {of} refused"
        );
    }
}

#[test]
fn case_143_a_limit_that_is_lifted_is_noticed() {
    let mut served = 0;
    let server: Server = Box::new(move |_, _, serves| {
        let limit = if served < 300 { 4 } else { usize::MAX };
        let fate = if serves >= limit { THROTTLED } else { Fate::Served };
        served += u32::from(fate == Fate::Served);
        fate
    });
    let outcome = thousand(16, ms(50), server);
    assert_eq!(outcome.most_in_flight, 16);
    let most = ideal(4, ms(50)) * 3 / 10 + ideal(16, ms(50)) * 2;
    assert!(outcome.took < most, "{:?}, {most:?} at the most", outcome.took);
}

#[test]
fn case_107_a_limited_rate_is_kept() {
    for (rate, concurrency, service) in [
        (20, 8, ms(2)),
        (20, 8, ms(50)),
        (5, 8, ms(2)),
        (5, 8, ms(50)),
        (5, 64, ms(2)),
    ] {
        let outcome = thousand(concurrency, service, a_second(rate));
        let best = Duration::from_secs(1000) / u32::try_from(rate).expect("few");
        assert!(
            outcome.took * 4 <= best * 5,
            "{rate} a second: {:?}, and {best:?} at best",
            outcome.took
        );
        let (refused, of) = outcome.refused_after(200);
        assert!(refused * 20 <= of, "{rate} a second: {refused} of {of} refused");
    }
}

#[test]
fn case_105_a_share_of_failures_neither_ends_nor_throttles_a_download() {
    for refusal in [THROTTLED, Fate::Fails(Ended::Retry)] {
        for nth in [3, 4, 7, 10, 100] {
            let outcome = thousand(8, ms(50), every(nth, refusal));
            let most = ideal(8, ms(50)) * 3;
            assert!(
                outcome.took < most,
                "every {nth}th, {refusal:?}: {:?}, {most:?} at the most",
                outcome.took
            );
        }
    }
}

#[test]
fn case_136_one_request_in_ten_that_is_never_answered_costs_little() {
    for nth in [5, 10, 30] {
        let outcome = thousand(8, ms(50), every(nth, Fate::Silent));
        let most = ideal(8, ms(50)) * 8;
        assert!(
            outcome.took < most,
            "every {nth}th: {:?}, {most:?} at the most",
            outcome.took
        );
    }
}

#[test]
fn case_113_one_connection_that_is_served_is_enough() {
    let outcome = thousand(8, ms(50), at_most(1, Fate::Silent));
    let (silent, of) = outcome.refused_after(100);
    assert!(silent * 50 <= of, "{silent} of {of} without an answer");
    let most = ideal(1, ms(50)) * 2;
    assert!(outcome.took < most, "{:?}, {most:?} at the most", outcome.took);
}

#[test]
fn cases_103_and_104_a_download_is_back_soon_after_its_server() {
    for how in [THROTTLED, Fate::Fails(Ended::Retry), Fate::Silent] {
        for seconds in [1, 3, 10, 30, 100] {
            for concurrency in [2, 8, 64] {
                // All that are in flight are lost if their bodies take longer than this.
                let (from, lasts) = (ms(20), Duration::from_secs(seconds));
                let outcome = thousand(concurrency, ms(2), away(from, lasts, how));
                let after = outcome.requests.iter().map(|&(at, _)| at);
                let back = after.filter(|&at| at >= from + lasts).min().expect("it is back");
                let bound = (lasts / 10).max(Duration::from_secs(2));
                assert!(
                    back <= from + lasts + bound,
                    "{how:?} for {lasts:?}, {concurrency} at once: asked again {:?} after",
                    back - (from + lasts)
                );
                // Once there is trouble, there is one probe for each pause.
                let probes = |&&(at, _): &&(Duration, Fate)| (from + ms(1500)..from + lasts).contains(&at);
                let probes = outcome.requests.iter().filter(probes).count();
                assert!(probes <= 130, "{how:?} for {lasts:?}: {probes} probes");
                let most = from + lasts + bound + ideal(concurrency, ms(2)) * 2 + ms(1000);
                assert!(
                    outcome.took <= most,
                    "{how:?} for {lasts:?}, {concurrency} at once: {:?}, {most:?} at the most",
                    outcome.took
                );
            }
        }
    }
}

#[test]
fn case_108_a_server_that_is_dead_for_good_ends_it_in_time() {
    for how in [THROTTLED, Fate::Fails(Ended::Retry), Fate::Silent] {
        for timeout in [5, 30, 120].map(Duration::from_secs) {
            let settings = Settings {
                retry_timeout: timeout,
                ..settings(100, 8)
            };
            let forever = Duration::from_secs(10_000);
            let outcome = play(&settings, ms(1), ms(2), away(ms(20), forever, how));
            let Some(Limit::RetryTimeout { waited, attempts, .. }) = outcome.ended else {
                panic!("{how:?}: {:?}", outcome.ended);
            };
            assert!(
                waited >= timeout && attempts > 3,
                "{how:?}: {waited:?}, {attempts} attempts"
            );
            let most = ms(20) + timeout * 11 / 10;
            assert!(
                outcome.took <= most,
                "{how:?}: {:?}, {most:?} at the most",
                outcome.took
            );
        }
    }
}

#[test]
fn case_108_with_no_retries_the_first_failure_is_the_end() {
    let settings = Settings {
        retries: Some(0),
        ..settings(100, 8)
    };
    for how in [
        Ended::Retry,
        Ended::Throttled(Some(Duration::from_secs(9))),
        Ended::Refused,
    ] {
        let away = away(ms(20), ms(500), Fate::Fails(how));
        let outcome = play(&settings, ms(1), ms(2), away);
        assert!(outcome.ended.is_some(), "{how:?}");
        assert!(outcome.took <= ms(25), "{how:?}: {:?}", outcome.took);
    }
}

#[test]
fn case_111_a_refusal_is_believed_when_nothing_else_is_in_flight() {
    let refused = Fate::Fails(Ended::Refused);
    // A key that is revoked in mid read.
    let forever = Duration::from_secs(10_000);
    let outcome = play(&settings(100, 8), ms(1), ms(2), away(ms(20), forever, refused));
    assert_eq!(outcome.ended, Some(Limit::Final));
    assert!(outcome.took < ms(1000), "{:?}", outcome.took);
    // One that never was good.
    let outcome = play(&settings(100, 8), ms(1), ms(2), away(ms(0), forever, refused));
    assert_eq!((outcome.ended, outcome.requests.len()), (Some(Limit::Final), 1));
}

#[test]
fn a_pause_that_the_server_asks_for_is_kept_up_to_the_time_that_is_left() {
    for (asked, within) in [
        (
            Duration::from_secs(7),
            Duration::from_secs(7)..Duration::from_secs(9),
        ),
        (
            Duration::from_secs(100_000),
            Duration::from_secs(110)..Duration::from_secs(120),
        ),
    ] {
        let how = Fate::Fails(Ended::Throttled(Some(asked)));
        let outcome = thousand(8, ms(2), away(ms(20), ms(4), how));
        let last = outcome
            .requests
            .iter()
            .rposition(|&(_, fate)| fate == how)
            .expect("refused");
        let pause = outcome.requests[last + 1].0 - outcome.requests[last].0;
        assert!(within.contains(&pause), "{asked:?}: {pause:?}");
    }
}

/// A server that refuses some requests in a row is not one that limits their rate: a pace, which does
/// not help, is given up.
#[test]
fn case_105_a_pace_that_does_not_help_is_given_up() {
    for (concurrency, of) in [(1, 6), (1, 12), (2, 12), (2, 20), (4, 20)] {
        let refused = 2 * u64::from(concurrency);
        let server: Server = Box::new(move |number, _, _| {
            if number % of < refused {
                THROTTLED
            } else {
                Fate::Served
            }
        });
        let outcome = thousand(concurrency, ms(1), server);
        // The probes of so many short outages.
        let probes = 1000 * refused / (of - refused);
        let most = ms(150) * u32::try_from(probes).expect("few");
        assert!(
            outcome.took < most,
            "{refused} of {of}: {:?}, {most:?} at the most",
            outcome.took
        );
    }
}

/// Of `of` requests, one is refused, and which one depends on `seed`.
fn one_of(of: u64, seed: u64, refusal: Fate) -> Server {
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

/// A share of refusals costs few connections no more than many: about the share itself.
#[test]
fn case_105_a_share_of_failures_costs_few_connections_little() {
    for refusal in [THROTTLED, Fate::Fails(Ended::Retry)] {
        for concurrency in [1, 2, 3, 4] {
            // In tenths of the time without refusals.
            for (of, most) in [(2, 40), (3, 25), (10, 20)] {
                let took = (1..=5).map(|seed| thousand(concurrency, ms(50), one_of(of, seed, refusal)).took);
                let (mean, best) = (took.sum::<Duration>() / 5, ideal(concurrency, ms(50)));
                assert!(
                    mean * 10 <= best * most,
                    "1 of {of} at {concurrency}, {refusal:?}: {mean:?}, {best:?} without"
                );
            }
        }
    }
}

/// One refusal and then a success are no outage, even if nothing else was in flight: permits do not
/// come back step by step.
#[test]
fn case_105_one_refusal_is_no_outage() {
    for how in [Ended::Throttled(None), Ended::Retry] {
        let mut schedule = Schedule::new(settings(1000, 16));
        let mut now = ms(10);
        let first = next(&mut schedule, &mut now);
        schedule.ended(first.id, now, first.start, how);
        assert!(schedule.is_in_trouble());
        let probe = next(&mut schedule, &mut now);
        let size = Some(1000 * CHUNK);
        schedule.begun(probe.id, size, false, true, None, Some(probe.chunk_end));
        schedule.ended(probe.id, now, probe.chunk_end, Ended::Complete);
        let mut at_once = 0;
        loop {
            match schedule.poll(now) {
                Action::Reserve { .. } => schedule.reserved(),
                Action::Request(_) => at_once += 1,
                Action::Wait(_) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(at_once, 16, "{how:?}");
    }
}

/// Polls until something is requested, and waits for it.
fn next(schedule: &mut Schedule, now: &mut Duration) -> Attempt {
    loop {
        match schedule.poll(*now) {
            Action::Reserve { .. } => schedule.reserved(),
            Action::Request(attempt) => return attempt,
            Action::Wait(Some(until)) => *now = until,
            other => panic!("{other:?}"),
        }
    }
}

/// Where a share of requests fails, a level is no help, even if refusals of nothing else in flight
/// hide that: it is given up.
#[test]
fn case_105_a_level_that_does_not_help_is_given_up() {
    let best = ideal(2, ms(50));
    for (of, most) in [(3, 19), (4, 17), (6, 16)] {
        let took = (1..=5).map(|seed| thousand(2, ms(50), one_of(of, seed, THROTTLED)).took);
        let mean = took.sum::<Duration>() / 5;
        assert!(mean * 10 <= best * most, "1 of {of}: {mean:?}, {best:?} without");
    }
    let took = thousand(2, ms(50), every(3, THROTTLED)).took;
    assert!(took * 10 <= best * 13, "each third: {took:?}, {best:?} without");
}
