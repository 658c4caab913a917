//! The schedule without I/O: what one chunk costs it, from the request to its consumption.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pget_schedule::{Action, AttemptEnd, Bounds, Controller, Flow, Schedule, Settings, Wanted};

const MIB: u64 = 1 << 20;
const CHUNKS: u64 = 1000;

fn settings(concurrency: u32, measures: bool) -> Settings {
    Settings {
        wanted: Wanted::all(),
        chunk_size: Controller::FIRST_CHUNK,
        follow_hint: false,
        concurrency,
        window: concurrency * 3,
        window_follows: true,
        control: measures.then_some(Bounds {
            most: concurrency,
            level: None,
            chunk_size: None,
            memory: 128 * MIB,
            most_memory: 512 * MIB,
        }),
        retries: None,
        retry_timeout: Duration::from_secs(120),
        seed: 1,
    }
}

/// Plays a download in which each request is answered and ends at once, a millisecond after the one
/// before. Returns how many requests there were.
fn play(mut schedule: Schedule) -> u32 {
    let mut now = Duration::ZERO;
    let mut requests = 0;
    let mut flying = std::collections::VecDeque::new();
    loop {
        match schedule.poll(now) {
            Action::Request(attempt) => {
                requests += 1;
                flying.push_back(attempt);
                continue;
            }
            Action::Reserve { .. } => {
                schedule.reserved();
                continue;
            }
            Action::Finished => return requests,
            Action::GiveUp(limit) => panic!("ended: {limit:?}"),
            Action::Wait(_) => {}
        }
        now += Duration::from_millis(1);
        let attempt = flying.pop_front().expect("a wait has requests in flight");
        let end = attempt.end.unwrap_or(u64::MAX).min(CHUNKS * MIB);
        schedule.begun(attempt.id, Some(CHUNKS * MIB), false, true, None, Some(end));
        schedule.answered(attempt.id, now);
        if schedule.look_at().is_some_and(|at| at <= now) {
            schedule.look(now, |_| {
                Some(Flow {
                    asked: true,
                    bytes: 0,
                    position: 0,
                })
            });
        }
        schedule.ended(attempt.id, now, end, AttemptEnd::Complete);
        while schedule.is_cursor_filled() {
            schedule.consumed();
        }
    }
}

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("schedule");
    group.throughput(Throughput::Elements(CHUNKS));
    for (name, concurrency, measures) in [
        ("4 in flight", 4, false),
        ("64 in flight", 64, false),
        ("as measured", 128, true),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(play(Schedule::new(settings(concurrency, measures)))));
        });
    }
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
