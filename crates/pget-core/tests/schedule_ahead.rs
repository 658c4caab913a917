//! How far the schedule runs ahead of the cursor when memory would fall out of cache.

use std::time::Duration;

use pget_core::schedule::{Action, Ended, Schedule, Settings};

const CHUNK: u64 = 8 << 20;

fn settings(chunk_size: u64, window: u32) -> Settings {
    Settings {
        start: 0,
        end: None,
        chunk_size,
        follow_hint: false,
        concurrency: 2,
        window,
        retries: Some(0),
        retry_timeout: Duration::from_secs(120),
        seed: 1,
    }
}

/// Two chunks in flight, the second one complete: what happens to the free permit at each time.
fn after_overtaking(settings: Settings, times: &[u64]) -> Vec<Action> {
    let chunk_size = settings.chunk_size;
    let mut schedule = Schedule::new(settings);
    let mut ids = Vec::new();
    while ids.len() < 2 {
        match schedule.poll(Duration::ZERO) {
            Action::Request(attempt) => {
                ids.push(attempt.id);
                if ids.len() == 1 {
                    schedule.begun(
                        attempt.id,
                        Some(100 * chunk_size),
                        false,
                        true,
                        None,
                        Some(chunk_size),
                    );
                }
            }
            Action::Reserve { .. } => schedule.reserved(),
            other => panic!("{other:?} with {} in flight", ids.len()),
        }
    }
    schedule.ended(ids[1], Duration::ZERO, 2 * chunk_size, Ended::Complete);
    times
        .iter()
        .map(|millis| schedule.poll(Duration::from_millis(*millis)))
        .collect()
}

#[test]
fn a_permit_waits_a_little_for_the_cursor_and_no_longer() {
    let seen = after_overtaking(settings(CHUNK, 6), &[1, 3, 6]);
    let until = Some(Duration::from_millis(6));
    assert_eq!(seen[..2], [Action::Wait(until), Action::Wait(until)]);
    assert!(matches!(seen[2], Action::Reserve { .. }), "{:?}", seen[2]);
}

#[test]
fn small_chunks_and_chunks_at_their_destination_do_not_wait() {
    for settings in [settings(1 << 20, 6), settings(CHUNK, Settings::UNBOUNDED)] {
        let seen = after_overtaking(settings, &[0]);
        assert!(matches!(seen[0], Action::Reserve { .. }), "{:?}", seen[0]);
    }
}

#[test]
fn a_connection_that_is_cut_every_megabyte_does_not_end_a_long_download() {
    let mut schedule = Schedule::new(settings(CHUNK, 1));
    let (mut now, mut position) = (Duration::ZERO, 0);
    while position < 100 * CHUNK {
        match schedule.poll(now) {
            Action::Request(attempt) => {
                assert!(
                    attempt.chunk == position / CHUNK && attempt.start == position,
                    "{attempt:?} at {position}"
                );
                if position == 0 {
                    schedule.begun(attempt.id, Some(100 * CHUNK), false, true, None, attempt.end);
                }
                position += 1 << 20;
                let how = if position % CHUNK == 0 {
                    Ended::Complete
                } else {
                    Ended::Retry
                };
                let verdict = schedule.ended(attempt.id, now, position, how);
                assert_eq!(verdict, pget_core::schedule::Verdict::GoesOn, "at {position}");
                if position % CHUNK == 0 {
                    schedule.consumed();
                }
            }
            Action::Reserve { .. } => schedule.reserved(),
            Action::Wait(Some(at)) => now = at,
            other => panic!("{other:?} at {position}"),
        }
    }
}
