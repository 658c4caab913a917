//! When the schedule fences, and when it does not: whole downloads over connections of known speeds, in steps of a virtual clock.
//!
//! Attempts go over the connection that idles longest; a fenced attempt's connection is closed, and its rest goes over a new one. Connections have numbers in the order in
//! which they are made, and each number its speed.

mod common;

use std::{collections::BTreeMap, time::Duration};

use common::poll;
use pget_schedule::{Attempt, AttemptEnd, Flow, Schedule, Settings, Wanted};

const STEP: Duration = Duration::from_millis(5);
const CHUNK: u64 = 8 << 20;
const MB: u64 = 1_000_000;

/// How a connection brings bytes: those of an answer at `age`, all told.
type Connection = fn(number: u64, now: Duration, age: Duration) -> u64;

struct Network {
    connection: Connection,
    /// Bytes in a step that the consumer takes.
    consumer: u64,
    /// This chunk comes at so many bytes a second over each connection.
    cursed: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Flight {
    attempt: Attempt,
    connection: u64,
    since: Duration,
    bytes: u64,
}

/// What came of a download.
#[derive(Debug)]
struct Outcome {
    took: Duration,
    requests: u64,
    fences: u64,
}

fn settings(chunks: u64, concurrency: u32, window: u32) -> Settings {
    Settings {
        wanted: Wanted::from(0..chunks * CHUNK),
        concurrency,
        window,
        retries: Some(3),
        ..common::settings(CHUNK)
    }
}

fn at_most(duration: Duration) -> u128 {
    duration.as_millis()
}

fn play(settings: &Settings, network: &Network) -> Outcome {
    let size = settings.wanted.end().expect("an end");
    let mut schedule = Schedule::new(settings.clone());
    let mut now = Duration::ZERO;
    let mut flights: BTreeMap<u64, Flight> = BTreeMap::new();
    let mut filled: BTreeMap<u64, u64> = BTreeMap::new();
    let (mut idle, mut connections, mut requests, mut consumed) = (Vec::new(), 0, 0_u64, 0);
    loop {
        while let Ok(attempt) = poll(&mut schedule, now) {
            requests += 1;
            let kept = if attempt.fresh { None } else { idle.pop() };
            let connection = kept.unwrap_or_else(|| {
                connections += 1;
                connections - 1
            });
            filled.entry(attempt.chunk).or_insert(attempt.start);
            let (since, bytes) = (now, 0);
            flights.insert(
                attempt.id,
                Flight {
                    attempt,
                    connection,
                    since,
                    bytes,
                },
            );
            if requests == 1 {
                schedule.begun(attempt.id, Some(size), false, true, None, attempt.end);
            }
        }
        now += STEP;
        assert!(now < Duration::from_secs(600), "it does not come to an end");
        for id in flights.keys().copied().collect::<Vec<_>>() {
            let flight = flights.get_mut(&id).expect("it is there");
            let wanted = flight.attempt.end.expect("ranges have ends") - flight.attempt.start;
            let age = now - flight.since;
            let brought = match network.cursed {
                Some((chunk, rate)) if chunk == flight.attempt.chunk => bytes(rate, age),
                _ => (network.connection)(flight.connection, now, age),
            };
            flight.bytes = brought.clamp(flight.bytes, wanted);
            let position = flight.attempt.start + flight.bytes;
            filled.insert(flight.attempt.chunk, position);
            if flight.bytes == wanted {
                schedule.ended(id, now, position, AttemptEnd::Complete);
                idle.push(flight.connection);
                flights.remove(&id);
            }
        }
        let mut room = network.consumer;
        while let Some(&position) = filled.get(&schedule.cursor()) {
            let taken = room.min(position - consumed);
            (consumed, room) = (consumed + taken, room - taken);
            if consumed < (schedule.cursor() + 1) * CHUNK {
                break;
            }
            filled.remove(&schedule.cursor());
            schedule.consumed();
        }
        if consumed == size {
            let fences = schedule.fences();
            assert!(
                fences <= requests.div_ceil(20) + 1,
                "{fences} fences in {requests} requests"
            );
            return Outcome {
                took: now,
                requests,
                fences,
            };
        }
        let flow = |id| {
            let flight: &Flight = flights.get(&id)?;
            Some(Flow {
                asked: true,
                bytes: flight.bytes,
                position: flight.attempt.start + flight.bytes,
            })
        };
        if let Some(id) = schedule.look(now, flow) {
            let flight = flights.remove(&id).expect("it is in flight");
            schedule.fenced(id, now, flight.attempt.start + flight.bytes);
        }
    }
}

fn bytes(rate: u64, age: Duration) -> u64 {
    u64::try_from(u128::from(rate) * age.as_nanos() / 1_000_000_000).expect("few")
}

fn good(_: u64, _: Duration, age: Duration) -> u64 {
    bytes(50 * MB, age)
}

/// In steps of 5 ms, a chunk of 8 MiB takes 170 ms.
fn rounds(count: u32) -> u128 {
    at_most(Duration::from_millis(170) * count)
}

const EAGER: u64 = u64::MAX;

#[test]
fn one_slow_connection_in_eight_costs_less_than_a_seventh() {
    let connections: [(&str, Connection); 4] = [
        ("slow", |number, _, age| {
            bytes(if number % 8 == 3 { MB } else { 50 * MB }, age)
        }),
        ("stalls", |number, _, age| {
            bytes(50 * MB, age).min(if number % 8 == 3 { 300_000 } else { u64::MAX })
        }),
        (
            "silent",
            |number, _, age| if number % 8 == 3 { 0 } else { bytes(50 * MB, age) },
        ),
        ("slows down", |number, now, age| {
            if number % 8 == 3 && now > Duration::from_millis(400) {
                0
            } else {
                bytes(50 * MB, age)
            }
        }),
    ];
    for (name, connection) in connections {
        for window in [24, Settings::UNBOUNDED] {
            let network = Network {
                connection,
                consumer: EAGER,
                cursed: None,
            };
            let outcome = play(&settings(128, 8, window), &network);
            // Without it, the probe apart, sixteen rounds.
            assert!(
                at_most(outcome.took) * 85 <= rounds(17) * 100,
                "{name}, window {window}: {outcome:?}"
            );
            assert!((1..=3).contains(&outcome.fences), "{name}: {outcome:?}");
            assert_eq!(outcome.requests, 128 + outcome.fences, "{name}");
        }
    }
}

/// The fence may come when other attempts have just ended and none has replaced them yet. The
/// server serves their connections, so the schedule keeps their permits.
#[test]
fn one_silent_connection_does_not_take_the_permits_of_the_others() {
    // At the second rate, a look comes at the end of a round.
    let connections: [(u32, Connection); 2] = [
        (
            170,
            |number, _, age| if number == 3 { 0 } else { bytes(50 * MB, age) },
        ),
        (
            75,
            |number, _, age| if number == 3 { 0 } else { bytes(115 * MB, age) },
        ),
    ];
    for (millis, connection) in connections {
        let network = Network {
            connection,
            consumer: EAGER,
            cursed: None,
        };
        let outcome = play(&settings(128, 8, 24), &network);
        let without = at_most(Duration::from_millis(17) * millis);
        assert!(
            at_most(outcome.took) * 85 <= without * 100,
            "{outcome:?} in place of {without} ms"
        );
        assert_eq!(outcome.fences, 1, "{outcome:?}");
    }
}

#[test]
fn the_last_chunks_do_not_wait_for_a_slow_one() {
    let network = Network {
        connection: |number, _, age| bytes(if number == 5 { MB } else { 50 * MB }, age),
        consumer: EAGER,
        cursed: None,
    };
    for (chunks, window) in [(8, 24), (9, 24), (32, Settings::UNBOUNDED)] {
        let outcome = play(&settings(chunks, 8, window), &network);
        let without = rounds(u32::try_from(chunks.div_ceil(8)).expect("few") + 1);
        assert!(
            at_most(outcome.took) <= without + 900,
            "{chunks} chunks: {outcome:?}"
        );
        assert_eq!(outcome.fences, 1, "{chunks} chunks: {outcome:?}");
    }
}

#[test]
fn nothing_is_fenced_without_a_straggler() {
    let connections: [(&str, Connection); 8] = [
        ("all alike", good),
        ("not four times slower", |number, _, age| {
            bytes(if number == 3 { 12_700_000 } else { 50 * MB }, age)
        }),
        ("one speeds up all the while", |number, _, age| {
            // With the third power of time, to 50 MB/s in half a second.
            let ramp = Duration::from_millis(500).min(age);
            let gained = u64::try_from(ramp.as_millis().pow(4) / 10_000).expect("few");
            if number == 3 {
                gained + bytes(50 * MB, age - ramp)
            } else {
                bytes(50 * MB, age)
            }
        }),
        ("all slow", |_, _, age| bytes(MB, age)),
        ("all stall for three seconds", |_, now, age| {
            let pause = Duration::from_secs(2)..Duration::from_secs(5);
            let lost = now.clamp(pause.start, pause.end) - (now - age).clamp(pause.start, pause.end);
            bytes(20 * MB, age - lost)
        }),
        ("half as fast", |number, _, age| {
            bytes(if number % 2 == 0 { 25 * MB } else { 50 * MB }, age)
        }),
        ("answers come late", |number, _, age| {
            let late = Duration::from_millis(600 + 150 * (number % 8));
            bytes(50 * MB, age.saturating_sub(late))
        }),
        ("they open slowly", |number, now, age| {
            // The connections after the first eight are young: their rate doubles every 200 ms.
            let rate = if now < Duration::from_secs(2) || number < 4 {
                50 * MB
            } else {
                (MB / 2) << (age.as_millis() / 200).min(6)
            };
            bytes(rate, age)
        }),
    ];
    for (name, connection) in connections {
        let network = Network {
            connection,
            consumer: EAGER,
            cursed: None,
        };
        let outcome = play(&settings(64, 8, 24), &network);
        assert_eq!((outcome.fences, outcome.requests), (0, 64), "{name}: {outcome:?}");
    }
}

#[test]
fn a_slow_consumer_is_no_reason_to_fence() {
    // Attempts are as fast as ever; the consumer takes 10 MB/s.
    let network = Network {
        connection: good,
        consumer: 50_000,
        cursed: None,
    };
    let outcome = play(&settings(32, 8, 24), &network);
    assert_eq!((outcome.fences, outcome.requests), (0, 32), "{outcome:?}");
}

#[test]
fn alone_there_is_nothing_to_compare_with() {
    let network = Network {
        connection: |_, now, age| {
            if now < Duration::from_secs(1) {
                bytes(50 * MB, age)
            } else {
                bytes(MB, age)
            }
        },
        consumer: EAGER,
        cursed: None,
    };
    let outcome = play(&settings(1, 8, 24), &network);
    assert_eq!((outcome.fences, outcome.requests), (0, 1), "{outcome:?}");
}

#[test]
fn when_fresh_connections_are_no_better_fences_end_at_their_bound() {
    // Whatever is new is slow, and is used again once its chunk has come.
    let network = Network {
        connection: |number, _, age| bytes(if number == 3 || number >= 8 { MB } else { 50 * MB }, age),
        consumer: EAGER,
        cursed: None,
    };
    let outcome = play(&settings(64, 8, 24), &network);
    assert_eq!(outcome.fences, 5, "{outcome:?}");
}

/// Each fence from the third on must promise twice as much as the one before, and there are six.
#[test]
fn a_chunk_that_is_slow_each_time_is_fenced_as_often_as_that_may_pay() {
    for (rate, fences) in [(MB / 10, 6), (MB, 6), (2 * MB, 4), (4 * MB, 3)] {
        let network = Network {
            connection: good,
            consumer: EAGER,
            cursed: Some((40, rate)),
        };
        let outcome = play(&settings(400, 8, Settings::UNBOUNDED), &network);
        let expected = (fences, 400 + fences);
        assert_eq!(
            (outcome.fences, outcome.requests),
            expected,
            "{rate}: {outcome:?}"
        );
    }
}
