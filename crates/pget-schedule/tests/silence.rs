//! What silence means: whole downloads on a virtual clock, from a server that answers each request
//! after a time of its own, or never.

mod common;

use std::{collections::BTreeMap, time::Duration};

use common::poll;
use pget_schedule::{Action, Attempt, AttemptEnd, Flow, Schedule, Settings, Wanted};

const CHUNK: u64 = 1 << 20;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How long after a request at this time for this chunk its answer comes, with the whole body.
type Server = fn(chunk: u64, now: Duration) -> Option<Duration>;

/// Plays until `end` or until all is received. Returns the requests, and when all was received.
fn play(concurrency: u32, server: Server, end: Duration) -> (Vec<(Duration, u64)>, Option<Duration>) {
    let chunks = 100_000;
    let mut schedule = Schedule::new(Settings {
        wanted: Wanted::from(0..chunks * CHUNK),
        concurrency,
        ..common::settings(CHUNK)
    });
    let (mut now, mut requests) = (Duration::ZERO, Vec::new());
    let mut flights: BTreeMap<u64, (Attempt, Option<Duration>)> = BTreeMap::new();
    while now < end {
        let until = loop {
            match poll(&mut schedule, now) {
                Ok(attempt) => {
                    requests.push((now, attempt.chunk));
                    let answer = server(attempt.chunk, now).map(|after| now + after);
                    flights.insert(attempt.id, (attempt, answer));
                }
                Err(Action::Wait(until)) => break until,
                Err(Action::Finished) => return (requests, Some(now)),
                Err(other) => panic!("{other:?} at {now:?}"),
            }
        };
        let answers = flights.values().filter_map(|&(_, at)| at);
        let next = answers.chain(until).chain(schedule.look_at()).min();
        now = next.expect("something will happen").max(now + ms(1));
        let due: Vec<u64> = flights
            .iter()
            .filter(|(_, (_, at))| at.is_some_and(|at| at <= now))
            .map(|(&id, _)| id)
            .collect();
        for id in due {
            let (attempt, _) = flights.remove(&id).expect("it is in flight");
            let size = Some(chunks * CHUNK);
            schedule.begun(id, size, false, true, None, attempt.end);
            schedule.ended(id, now, attempt.chunk_end, AttemptEnd::Complete);
        }
        while schedule.is_cursor_filled() {
            schedule.consumed();
        }
        let flow = |id| {
            let (attempt, _) = flights.get(&id)?;
            Some(Flow {
                asked: true,
                bytes: 0,
                position: attempt.start,
            })
        };
        if let Some(id) = schedule.look(now, flow) {
            let (attempt, _) = flights.remove(&id).expect("it is in flight");
            schedule.fenced(id, now, attempt.start);
        }
    }
    (requests, None)
}

/// One chunk is never answered, and all others are. It is fenced twice for being slower than they are;
/// each fence makes the next answer awaited four times as long.
#[test]
fn a_chunk_without_an_answer_is_asked_for_ever_more_rarely() {
    let (requests, _) = play(
        4,
        |chunk, _| (chunk != 1).then_some(ms(50)),
        Duration::from_secs(120),
    );
    let asked: Vec<Duration> = requests
        .iter()
        .filter(|&&(_, chunk)| chunk == 1)
        .map(|&(at, _)| at)
        .collect();
    assert_eq!(asked.len(), 5, "{asked:?}");
    for (pair, least) in asked[2..].windows(2).zip([16, 64]) {
        let gap = (pair[1] - pair[0]).as_secs();
        assert!((least..least + 2).contains(&gap), "{asked:?}");
    }
}

/// A source that becomes slow is silent for a while. It would never answer if each question were taken
/// back.
#[test]
fn the_oldest_question_is_left_to_a_source_that_is_only_slow() {
    let slow = |_, now: Duration| {
        let is_slow = (Duration::from_secs(2)..Duration::from_secs(60)).contains(&now);
        Some(if is_slow { Duration::from_secs(5) } else { ms(50) })
    };
    let (requests, _) = play(2, slow, Duration::from_secs(60));
    // It answers one after another, in turn with those that make room.
    let chunks = requests.iter().map(|&(_, chunk)| chunk).max().expect("requests");
    let before = requests
        .iter()
        .filter(|&&(at, _)| at < Duration::from_secs(2))
        .map(|&(_, chunk)| chunk)
        .max()
        .expect("requests");
    assert!(chunks >= before + 8, "{before} chunks before, {chunks} after");
}
