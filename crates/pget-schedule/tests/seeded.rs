//! A hundred thousand random downloads through the schedule, in virtual time and without tokio.
//!
//! Each seed makes a server, a consumer, options and faults (`seeded/scene.rs`);
//! `seeded/world.rs` plays them and keeps its own books, so that it notices when the schedule asks
//! for a wrong range, breaks a bound, gives up too early or too late, or stops.
//!
//! A seed that fails is replayed with the command that the failure prints. `PGET_SEEDS=n` runs
//! another number of them.

#[path = "seeded/scene.rs"]
mod scene;
#[path = "seeded/world.rs"]
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use scene::{Counts, Scene};
use world::World;

const SEEDS: u64 = 100_000;
/// Each kind of fault must have been met so often.
const LEAST: u64 = 1_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn play(seed: u64, counts: &mut Counts) {
    World::new(Scene::new(seed, counts), counts).run();
}

#[test]
fn a_hundred_thousand_random_downloads() {
    if let Some(seed) = number("PGET_SEED") {
        let scene = Scene::new(seed, &mut Counts::default());
        eprintln!("{scene:#?}");
        play(seed, &mut Counts::default());
        return;
    }
    let seeds = number("PGET_SEEDS").unwrap_or(SEEDS);
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let failed: Mutex<Vec<u64>> = Mutex::default();
    let met = Mutex::new(Counts::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let mut counts = Counts::default();
                while failed.lock().expect("no thread dies here").is_empty() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    if catch_unwind(AssertUnwindSafe(|| play(seed, &mut counts))).is_err() {
                        failed.lock().expect("no thread dies here").push(seed);
                    }
                }
                met.lock().expect("no thread dies here").add(&counts);
            });
        }
    });
    if let Some(seed) = failed.into_inner().expect("no thread dies here").first() {
        panic!(
            "seed {seed} fails; replay it with: PGET_SEED={seed} cargo test -p pget-schedule --test seeded -- --nocapture"
        );
    }
    let met = met.into_inner().expect("no thread dies here");
    eprintln!("{seeds} downloads in {:?}: {met:?}", began.elapsed());
    if seeds >= SEEDS {
        for (kind, count) in met.all() {
            assert!(count >= LEAST, "{kind} was met {count} times only");
        }
    }
}
