//! When a download gives up: after `retry_timeout` since the first failure in a row, and never while
//! bytes arrive.

mod common;

use std::time::Duration;

use common::poll;
use pget_schedule::{Action, AfterAttempt, Attempt, AttemptEnd, Flow, Limit, Schedule, Settings, Wanted};

const CHUNK: u64 = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);

fn settings(retry_timeout: Duration) -> Settings {
    Settings {
        window: 4,
        retry_timeout,
        ..common::settings(CHUNK)
    }
}

/// Two attempts in flight, the first of which is answered.
fn two(schedule: &mut Schedule) -> [Attempt; 2] {
    let first = poll(schedule, Duration::ZERO).expect("the first attempt");
    schedule.begun(first.id, Some(10 * CHUNK), false, true, None, Some(CHUNK));
    let second = poll(schedule, Duration::ZERO).expect("the second attempt");
    [first, second]
}

/// One attempt receives; the other one failed. Bytes that came since the last look count before the
/// download gives up, and a look is due at that very time.
#[test]
fn bytes_that_no_look_has_seen_yet_count_before_the_end() {
    for arrives in [true, false] {
        let mut schedule = Schedule::new(settings(SECOND));
        let [first, second] = two(&mut schedule);
        schedule.begun(second.id, Some(10 * CHUNK), false, true, None, Some(2 * CHUNK));
        let mut now = Duration::from_millis(10);
        assert_eq!(
            schedule.ended(second.id, now, CHUNK, AttemptEnd::Retry),
            AfterAttempt::GoesOn
        );
        let end = now + SECOND;
        let flow = |id, position| {
            (id == first.id).then_some(Flow {
                asked: true,
                bytes: position,
                position,
            })
        };
        // The last looks see nothing new.
        while let Some(at) = schedule.look_at().filter(|&at| at < end) {
            now = at;
            assert_eq!(schedule.look(now, |id| flow(id, 0)), None);
            while let Ok(attempt) = poll(&mut schedule, now) {
                schedule.ended(attempt.id, now, attempt.start, AttemptEnd::Retry);
            }
        }
        assert_eq!(schedule.look_at(), Some(end), "a look is due when patience ends");
        schedule.look(end, |id| flow(id, if arrives { 1 } else { 0 }));
        let gives_up = matches!(
            poll(&mut schedule, end),
            Err(Action::GiveUp(Limit::RetryTimeout { waited: SECOND, .. }))
        );
        assert_eq!(gives_up, !arrives);
    }
}

/// A patience that cannot be counted is one without an end.
#[test]
fn the_longest_patience_overflows_nowhere() {
    for retry_timeout in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::MAX / 2] {
        let mut schedule = Schedule::new(settings(retry_timeout));
        let [first, second] = two(&mut schedule);
        let mut now = SECOND;
        schedule.ended(first.id, now, 0, AttemptEnd::Retry);
        schedule.ended(second.id, now, CHUNK, AttemptEnd::Throttled(None));
        let mut failed = 0;
        while failed < 1000 {
            schedule.look(now, |_| None);
            match poll(&mut schedule, now) {
                Ok(attempt) => {
                    failed += 1;
                    let position = attempt.start;
                    schedule.ended(attempt.id, now, position, AttemptEnd::Retry);
                }
                Err(Action::Wait(Some(until))) => {
                    assert!(until > now && until < now + Duration::from_secs(60), "{until:?}");
                    now = until;
                }
                Err(other) => panic!("{other:?} after {failed} attempts"),
            }
        }
        assert!(schedule.trial().expect("it waits").gives_up_at > Duration::from_secs(1 << 60));
        // The longest pause that a server can ask for is one, too.
        let attempt = loop {
            match poll(&mut schedule, now) {
                Ok(attempt) => break attempt,
                Err(Action::Wait(Some(until))) => now = until,
                Err(other) => panic!("{other:?}"),
            }
        };
        let how = AttemptEnd::Throttled(Some(Duration::MAX));
        assert_eq!(
            schedule.ended(attempt.id, now, attempt.start, how),
            AfterAttempt::GoesOn
        );
        assert!(matches!(poll(&mut schedule, now), Err(Action::Wait(_))));
    }
}

/// Wrong bytes are believed at the third time in a row; another wrong reply only when nothing else has
/// come for ten seconds.
#[test]
fn what_is_wrong_again_and_again_is_believed_sooner_than_trouble() {
    for (how, least, most) in [
        (AttemptEnd::Damaged, Duration::ZERO, SECOND),
        (AttemptEnd::Wrong, 10 * SECOND, 15 * SECOND),
    ] {
        let mut schedule = Schedule::new(settings(120 * SECOND));
        let [first, second] = two(&mut schedule);
        let mut now = Duration::from_millis(10);
        schedule.ended(first.id, now, CHUNK, AttemptEnd::Complete);
        let mut verdict = schedule.ended(second.id, now, CHUNK, how);
        let mut attempts = 1;
        while verdict == AfterAttempt::GoesOn {
            match poll(&mut schedule, now) {
                Ok(attempt) => {
                    attempts += u32::from(attempt.chunk == second.chunk);
                    verdict = schedule.ended(attempt.id, now, attempt.start, how);
                }
                Err(Action::Wait(Some(until))) => now = until,
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(
            matches!(verdict, AfterAttempt::Failed(Limit::Wrong { attempts }) if attempts >= 3),
            "{verdict:?}"
        );
        assert!(
            attempts >= 3 && (least..most).contains(&now),
            "{attempts} by {now:?}"
        );
    }
}

/// One range is wrong each time, and all others are right: that is an answer, long before patience
/// ends. If another range was wrong at first, wrong replies come and go, and patience decides.
#[test]
fn a_range_that_is_always_wrong_is_believed_while_others_are_served() {
    for (passes, least, most) in [
        (false, 10 * SECOND, 25 * SECOND),
        (true, 120 * SECOND, 140 * SECOND),
    ] {
        let mut schedule = Schedule::new(Settings {
            wanted: Wanted::from(0..100_000 * CHUNK),
            window: Settings::UNBOUNDED,
            ..settings(120 * SECOND)
        });
        let mut now = Duration::ZERO;
        let mut was_wrong = !passes;
        // Each attempt takes a second.
        let mut flying: Vec<(Duration, Attempt)> = Vec::new();
        let limit = loop {
            match poll(&mut schedule, now) {
                Ok(attempt) => flying.push((now + SECOND, attempt)),
                Err(Action::GiveUp(limit)) => break limit,
                Err(Action::Wait(until)) => {
                    let ends = flying.iter().map(|flight| flight.0).min();
                    now = ends
                        .into_iter()
                        .chain(until)
                        .min()
                        .expect("something happens")
                        .max(now);
                }
                Err(other) => panic!("{other:?}"),
            }
            let Some(index) = flying.iter().position(|flight| flight.0 <= now) else {
                continue;
            };
            let (_, attempt) = flying.remove(index);
            let (position, how) = if attempt.chunk == 3 || attempt.chunk == 5 && !was_wrong {
                was_wrong |= attempt.chunk == 5;
                (attempt.start, AttemptEnd::Wrong)
            } else {
                let end = Some(attempt.chunk_end);
                schedule.begun(attempt.id, Some(100_000 * CHUNK), false, true, None, end);
                (attempt.chunk_end, AttemptEnd::Complete)
            };
            if let AfterAttempt::Failed(limit) = schedule.ended(attempt.id, now, position, how) {
                break limit;
            }
        };
        assert_eq!(matches!(limit, Limit::Wrong { .. }), !passes, "{limit:?}");
        assert!((least..most).contains(&now), "{limit:?} at {now:?}");
    }
}

/// Several servers, most of which ignore ranges: as long as bytes come, none of that is believed.
#[test]
fn wrong_replies_are_not_believed_while_bytes_come() {
    let mut schedule = Schedule::new(settings(120 * SECOND));
    let [first, second] = two(&mut schedule);
    let mut now = Duration::from_millis(10);
    schedule.ended(first.id, now, CHUNK, AttemptEnd::Complete);
    schedule.consumed();
    let mut replies = [0; 10];
    let mut answer = |schedule: &mut Schedule, attempt: Attempt, now| {
        let chunk = usize::try_from(attempt.chunk).expect("ten chunks");
        replies[chunk] += 1;
        let (position, how) = if replies[chunk] < 5 {
            (attempt.start, AttemptEnd::Wrong)
        } else {
            (attempt.chunk_end, AttemptEnd::Complete)
        };
        assert_eq!(
            schedule.ended(attempt.id, now, position, how),
            AfterAttempt::GoesOn,
            "the reply {} of chunk {chunk} at {now:?}",
            replies[chunk]
        );
        while schedule.is_cursor_filled() {
            schedule.consumed();
        }
    };
    answer(&mut schedule, second, now);
    loop {
        match poll(&mut schedule, now) {
            Ok(attempt) => answer(&mut schedule, attempt, now),
            Err(Action::Wait(Some(until))) => now = until,
            Err(Action::Finished) => break,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(schedule.is_consumed());
}

/// While a range waits for a permit, its clock stands still.
#[test]
fn the_clock_of_a_range_stands_still_while_it_waits_for_a_permit() {
    let mut schedule = Schedule::new(settings(SECOND));
    let [first, second] = two(&mut schedule);
    let mut now = Duration::from_millis(10);
    schedule.ended(second.id, now, CHUNK, AttemptEnd::Retry);
    let mut flying = vec![first];
    // The first one is seen to receive, so another chunk gets the permit before the range is due again;
    // both receive for a minute.
    for bytes in 1..600 {
        let flow = |id| {
            let attempt = flying.iter().find(|attempt: &&Attempt| attempt.id == id)?;
            Some(Flow {
                asked: true,
                bytes,
                position: attempt.start + bytes,
            })
        };
        assert_eq!(schedule.look(now, flow), None);
        if let Ok(attempt) = poll(&mut schedule, now) {
            assert!(flying.len() < 2 && attempt.chunk != second.chunk, "{attempt:?}");
            let end = Some(attempt.chunk_end);
            schedule.begun(attempt.id, Some(10 * CHUNK), false, true, None, end);
            flying.push(attempt);
        }
        assert!(
            matches!(poll(&mut schedule, now), Err(Action::Wait(_))),
            "at {now:?}"
        );
        now = schedule.look_at().expect("a look").max(now);
    }
    assert!(now > 10 * SECOND);
    schedule.ended(first.id, now, CHUNK, AttemptEnd::Complete);
    let again = poll(&mut schedule, now).expect("its turn");
    assert_eq!(again.chunk, second.chunk);
    assert!(
        matches!(poll(&mut schedule, now), Err(Action::Wait(_))),
        "its clock stood still"
    );
}

/// A refusal is believed when nothing else was in flight, after a few seconds. A range that is
/// refused again and again is asked for alone, long before the others are done.
#[test]
fn a_range_that_is_refused_again_and_again_is_asked_for_alone() {
    let mut schedule = Schedule::new(Settings {
        concurrency: 16,
        window: Settings::UNBOUNDED,
        ..settings(120 * SECOND)
    });
    let first = poll(&mut schedule, Duration::ZERO).expect("the first attempt");
    let size = 100_000 * CHUNK;
    schedule.begun(first.id, Some(size), false, true, None, Some(CHUNK));
    let (mut now, mut flying, mut refused) = (Duration::ZERO, vec![first], 0);
    let verdict = loop {
        while let Ok(attempt) = poll(&mut schedule, now) {
            flying.push(attempt);
        }
        now += Duration::from_millis(50);
        if flying.is_empty() {
            continue;
        }
        let attempt = flying.remove(0);
        if attempt.chunk == 3 {
            refused += 1;
            match schedule.ended(attempt.id, now, attempt.start, AttemptEnd::Refused) {
                AfterAttempt::GoesOn => {}
                verdict @ AfterAttempt::Failed(_) => break verdict,
            }
        } else {
            schedule.begun(attempt.id, Some(size), false, true, None, Some(attempt.chunk_end));
            let verdict = schedule.ended(attempt.id, now, attempt.chunk_end, AttemptEnd::Complete);
            assert_eq!(verdict, AfterAttempt::GoesOn);
        }
        assert!(now < 60 * SECOND, "it is never asked for alone");
    };
    assert_eq!(verdict, AfterAttempt::Failed(Limit::Refused { attempts: 8 }));
    assert_eq!(refused, 8, "four times beside others, and four times alone");
}

/// A refusal of everything is final at once until the object was served, and within four seconds
/// once it was.
#[test]
fn case_111_a_lone_refusal_of_what_was_served_is_confirmed() {
    let mut schedule = Schedule::new(settings(120 * SECOND));
    let first = poll(&mut schedule, Duration::ZERO).expect("the first attempt");
    let verdict = schedule.ended(first.id, Duration::ZERO, 0, AttemptEnd::Refused);
    assert_eq!(verdict, AfterAttempt::Failed(Limit::Final), "nothing was served");

    let mut schedule = Schedule::new(settings(120 * SECOND));
    let [first, second] = two(&mut schedule);
    schedule.begun(second.id, Some(10 * CHUNK), false, true, None, Some(2 * CHUNK));
    for (attempt, end) in [(first, CHUNK), (second, 2 * CHUNK)] {
        schedule.ended(attempt.id, Duration::ZERO, end, AttemptEnd::Complete);
        schedule.consumed();
    }
    let (mut now, mut times) = (Duration::ZERO, Vec::new());
    loop {
        match poll(&mut schedule, now) {
            Ok(attempt) => {
                assert_eq!(schedule.in_flight(), 1, "nothing is beside it");
                times.push(now);
                now += Duration::from_millis(1);
                match schedule.ended(attempt.id, now, attempt.start, AttemptEnd::Refused) {
                    AfterAttempt::GoesOn => {}
                    AfterAttempt::Failed(limit) => {
                        assert_eq!(limit, Limit::Refused { attempts: 4 });
                        break;
                    }
                }
            }
            Err(Action::Wait(Some(until))) => now = until,
            Err(other) => panic!("{other:?}"),
        }
    }
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.is_sorted() && pauses[0] >= SECOND / 2, "{pauses:?}");
    assert!(now < 5 * SECOND, "a real refusal ends the download soon: {now:?}");
}

/// After an outage permits come back step by step.
#[test]
fn permits_come_back_step_by_step_after_an_outage() {
    let mut schedule = Schedule::new(Settings {
        concurrency: 16,
        window: Settings::UNBOUNDED,
        ..settings(120 * SECOND)
    });
    let first = poll(&mut schedule, Duration::ZERO).expect("the first attempt");
    schedule.begun(first.id, Some(1000 * CHUNK), false, true, None, Some(CHUNK));
    let mut now = Duration::from_millis(10);
    let mut flying = vec![first];
    while let Ok(attempt) = poll(&mut schedule, now) {
        flying.push(attempt);
    }
    assert_eq!(flying.len(), 16);
    for attempt in flying {
        schedule.ended(attempt.id, now, attempt.start, AttemptEnd::Retry);
    }
    assert!(schedule.is_in_trouble());
    let probe = loop {
        match poll(&mut schedule, now) {
            Ok(attempt) => break attempt,
            Err(Action::Wait(Some(until))) => now = until,
            Err(other) => panic!("{other:?}"),
        }
    };
    let mut at_once = Vec::new();
    let mut flying = vec![probe];
    while at_once.last() != Some(&16) && at_once.len() < 6 {
        now += SECOND;
        for attempt in std::mem::take(&mut flying) {
            schedule.ended(attempt.id, now, attempt.chunk_end, AttemptEnd::Complete);
        }
        while let Ok(attempt) = poll(&mut schedule, now) {
            flying.push(attempt);
        }
        at_once.push(flying.len());
    }
    assert!(matches!(at_once[..], [2, 8 | 4, ..]), "{at_once:?}");
    assert_eq!(at_once.last(), Some(&16), "{at_once:?}");
}

/// Silence counts from the last byte, and not from the time at which an attempt fails by it.
#[test]
fn case_108_silence_before_the_first_failure_counts() {
    for seconds in [5, 30, 120] {
        let timeout = seconds * SECOND;
        let deadline = SECOND + (timeout / 2).min(20 * SECOND);
        let mut schedule = Schedule::new(settings(timeout));
        let [first, second] = two(&mut schedule);
        schedule.begun(second.id, Some(10 * CHUNK), false, true, None, Some(2 * CHUNK));
        let mut now = Duration::ZERO;
        while now < deadline {
            // Both have received seven bytes within a second, and nothing since.
            let bytes = if now < SECOND { 0 } else { 7 };
            let flow = |id| {
                let start = if id == first.id { 0 } else { CHUNK };
                Some(Flow {
                    asked: true,
                    bytes,
                    position: start + bytes,
                })
            };
            assert_eq!(schedule.look(now, flow), None, "{now:?}");
            assert!(
                matches!(poll(&mut schedule, now), Err(Action::Wait(_))),
                "{now:?}"
            );
            now = schedule.look_at().expect("a look").max(now);
        }
        for (attempt, position) in [(first, 7), (second, CHUNK + 7)] {
            schedule.was_quiet(attempt.id, SECOND);
            let verdict = schedule.ended(attempt.id, now, position, AttemptEnd::Retry);
            assert_eq!(verdict, AfterAttempt::GoesOn);
        }
        let gives_up_at = loop {
            schedule.look(now, |_| None);
            match poll(&mut schedule, now) {
                Ok(attempt) => {
                    schedule.ended(attempt.id, now, attempt.start, AttemptEnd::Retry);
                }
                Err(Action::Wait(until)) => now = until.expect("a time").max(now),
                Err(Action::GiveUp(Limit::RetryTimeout { .. })) => break now,
                Err(other) => panic!("{other:?}"),
            }
        };
        let silent_for = gives_up_at - SECOND;
        assert!(
            silent_for >= timeout && silent_for <= timeout + SECOND / 5,
            "{silent_for:?} of {timeout:?}"
        );
    }
}

/// Bytes of other ranges that came while an attempt was silent keep the download alive: only that
/// attempt's range may end it.
#[test]
fn silence_of_one_range_is_no_silence_of_the_download() {
    let mut schedule = Schedule::new(settings(30 * SECOND));
    let [first, second] = two(&mut schedule);
    let mut now = 19 * SECOND;
    schedule.begun(second.id, Some(10 * CHUNK), false, true, None, Some(2 * CHUNK));
    schedule.was_quiet(second.id, now);
    assert_eq!(
        schedule.ended(second.id, now, 2 * CHUNK, AttemptEnd::Complete),
        AfterAttempt::GoesOn
    );
    now = 20 * SECOND;
    schedule.was_quiet(first.id, Duration::ZERO);
    schedule.ended(first.id, now, 0, AttemptEnd::Retry);
    if let Err(Action::GiveUp(limit)) = poll(&mut schedule, now) {
        panic!("it has given up: {limit:?}");
    }
    let trial = schedule.trial();
    assert!(trial.is_none_or(|trial| trial.since == 19 * SECOND), "{trial:?}");
}

/// A range that is silent, fenced and silent again has brought nothing since its first attempt,
/// while the others are served.
#[test]
fn silence_before_a_fence_counts_for_the_range() {
    let timeout = 30 * SECOND;
    let step = Duration::from_millis(50);
    let mut schedule = Schedule::new(Settings {
        wanted: Wanted::from(0..100_000 * CHUNK),
        window: Settings::UNBOUNDED,
        ..settings(timeout)
    });
    let (mut now, mut fences) = (Duration::ZERO, 0);
    let mut flying: Vec<(Duration, Attempt)> = Vec::new();
    let waited = loop {
        match poll(&mut schedule, now) {
            Ok(attempt) => {
                flying.push((now, attempt));
                continue;
            }
            Err(Action::GiveUp(Limit::RetryTimeout { position, .. })) => {
                assert_eq!(position, Some(3 * CHUNK));
                break now;
            }
            Err(Action::Wait(_)) => now += step,
            Err(other) => panic!("{other:?}"),
        }
        for (launched, attempt) in std::mem::take(&mut flying) {
            let end = attempt.chunk_end;
            if attempt.chunk != 3 {
                schedule.begun(attempt.id, Some(100_000 * CHUNK), false, true, None, Some(end));
                schedule.ended(attempt.id, now, end, AttemptEnd::Complete);
            } else if now - launched >= 20 * SECOND {
                schedule.was_quiet(attempt.id, launched);
                schedule.ended(attempt.id, now, attempt.start, AttemptEnd::Retry);
            } else {
                flying.push((launched, attempt));
            }
        }
        let flow = |id| {
            let attempt = flying.iter().find(|flight| flight.1.id == id)?.1;
            Some(Flow {
                asked: true,
                bytes: 0,
                position: attempt.start,
            })
        };
        if let Some(id) = schedule.look(now, flow) {
            let index = flying
                .iter()
                .position(|flight| flight.1.id == id)
                .expect("it flies");
            let (_, attempt) = flying.remove(index);
            fences += 1;
            schedule.fenced(id, now, attempt.start);
        }
        assert!(now < 2 * timeout, "it never gives up");
    };
    assert!(fences > 0, "it was never fenced");
    assert!(
        waited >= timeout && waited <= timeout + SECOND,
        "{waited:?}, {fences} fences"
    );
}
