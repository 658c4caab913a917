//! How far the schedule runs ahead of the cursor: no permit idles while the window has room, and the
//! window follows the permits.

mod common;

use std::time::Duration;

use common::poll;
use pget_schedule::{Action, AttemptEnd, Schedule, Settings};

const CHUNK: u64 = 8 << 20;

fn settings(chunk_size: u64, window: u32) -> Settings {
    Settings {
        window,
        retries: Some(0),
        ..common::settings(chunk_size)
    }
}

/// Two chunks in flight, the second one complete: what happens to the free permit at each time.
fn after_overtaking(settings: Settings, times: &[u64]) -> Vec<Action> {
    let chunk_size = settings.chunk_size;
    let mut schedule = Schedule::new(settings);
    let mut ids = Vec::new();
    while ids.len() < 2 {
        let attempt = poll(&mut schedule, Duration::ZERO).expect("two attempts");
        ids.push(attempt.id);
        if ids.len() == 1 {
            let size = Some(100 * chunk_size);
            schedule.begun(attempt.id, size, false, true, None, Some(chunk_size));
        }
    }
    schedule.ended(ids[1], Duration::ZERO, 2 * chunk_size, AttemptEnd::Complete);
    times
        .iter()
        .map(|millis| schedule.poll(Duration::from_millis(*millis)))
        .collect()
}

#[test]
fn a_free_permit_never_waits_while_the_window_has_room() {
    for settings in [
        settings(CHUNK, 6),
        settings(1 << 20, 6),
        settings(CHUNK, Settings::UNBOUNDED),
    ] {
        let seen = after_overtaking(settings, &[0]);
        assert!(matches!(seen[0], Action::Reserve { .. }), "{:?}", seen[0]);
    }
}

/// Opens chunks at `now` until the schedule waits, and completes all but the first.
fn fill(schedule: &mut Schedule, now: Duration) {
    while let Ok(attempt) = poll(schedule, now) {
        let end = attempt.end.expect("a chunk");
        if attempt.chunk == 0 {
            schedule.begun(attempt.id, Some(1000 * CHUNK), false, true, None, Some(end));
        } else {
            let took = now + Duration::from_millis(10);
            schedule.ended(attempt.id, took, end, AttemptEnd::Complete);
        }
    }
}

#[test]
fn the_window_is_half_as_many_again_and_more_is_borrowed_while_the_cursor_lags() {
    let mut follows = settings(1 << 20, 24);
    (follows.concurrency, follows.window_follows) = (8, true);
    let mut schedule = Schedule::new(follows);
    fill(&mut schedule, Duration::ZERO);
    assert_eq!(schedule.open(), 12);
    fill(&mut schedule, Duration::from_millis(15));
    assert_eq!(
        schedule.open(),
        12,
        "it takes no longer than others did, twice over"
    );
    fill(&mut schedule, Duration::from_millis(21));
    assert_eq!(schedule.open(), 24);
}

#[test]
fn set_options_borrow_no_more_than_16_mib() {
    for (chunk, open) in [(1 << 20, 24), (4 << 20, 16), (8 << 20, 14), (32 << 20, 12)] {
        let mut follows = settings(chunk, 24);
        (follows.concurrency, follows.window_follows) = (8, true);
        let mut schedule = Schedule::new(follows);
        fill(&mut schedule, Duration::ZERO);
        assert_eq!(schedule.open(), 12, "{chunk}");
        fill(&mut schedule, Duration::from_millis(21));
        assert_eq!(schedule.open(), open, "{chunk}");
    }
}

#[test]
fn a_connection_that_is_cut_every_megabyte_does_not_end_a_long_download() {
    let mut schedule = Schedule::new(settings(CHUNK, 1));
    let (mut now, mut position) = (Duration::ZERO, 0);
    while position < 100 * CHUNK {
        match poll(&mut schedule, now) {
            Ok(attempt) => {
                assert!(
                    attempt.chunk == position / CHUNK && attempt.start == position,
                    "{attempt:?} at {position}"
                );
                if position == 0 {
                    schedule.begun(attempt.id, Some(100 * CHUNK), false, true, None, attempt.end);
                }
                position += 1 << 20;
                let how = if position % CHUNK == 0 {
                    AttemptEnd::Complete
                } else {
                    AttemptEnd::Retry
                };
                let verdict = schedule.ended(attempt.id, now, position, how);
                assert_eq!(verdict, pget_schedule::AfterAttempt::GoesOn, "at {position}");
                if position % CHUNK == 0 {
                    schedule.consumed();
                }
            }
            Err(Action::Wait(Some(at))) => now = at,
            Err(other) => panic!("{other:?} at {position}"),
        }
    }
}
