//! Random downloads through the real driver over a simulated network and clock.
//!
//! Each seed makes an object, options, faults and a consumer (`simulation/scene.rs`); `simulation/source.rs` is the network, `simulation/play.rs` plays, `simulation/verdict.rs` holds what came of it against what
//! may: the bytes of one revision or an error that the faults met explain; requests, memory and time within bounds; everything given back within 100 ms.
//!
//! Requests: one a chunk, one more for each fault met that costs one, for each fence (at most 5 %, rounded up, and one) and for the probe, and no more than the retry bucket pays for. So without
//! faults there is none that the plan does not need, and under them nothing is asked for twice that came: far within the tenth that is allowed beyond what the faults themselves cost.
//!
//! A seed that fails is replayed with the command that the failure prints. `PGET_SEEDS=n` runs another number of them. The million runs in a release build:
//! `cargo test --release -p pget-core --test simulation -- --ignored`.

#[path = "simulation/play.rs"]
mod play;
#[path = "simulation/scene.rs"]
mod scene;
#[path = "simulation/source.rs"]
mod source;
#[path = "simulation/verdict.rs"]
mod verdict;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use scene::{Counts, Leaves, Scene, Way};

/// In a debug build.
const SEEDS: u64 = 10_000;
const MILLION: u64 = 1_000_000;
/// Of a million, each kind of event must have been met so often.
const LEAST: u64 = 1_000;
/// Downloads that are dropped and cancelled at each of their polls.
const EACH_POLL: u64 = 1_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs seeds `0..seeds` on as many threads as there are cores, until one fails; the first that failed, and why.
fn run(
    seeds: u64,
    each: impl Fn(&tokio::runtime::Runtime, u64, &mut Counts) -> Result<(), String> + Sync,
) -> (Counts, Option<(u64, String)>) {
    let next = AtomicU64::new(0);
    let failed: Mutex<Option<(u64, String)>> = Mutex::default();
    let met = Mutex::new(Counts::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let mut counts = Counts::default();
                let runtime = play::runtime();
                while failed.lock().expect("no thread dies here").is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    if let Err(why) = each(&runtime, seed, &mut counts) {
                        failed
                            .lock()
                            .expect("no thread dies here")
                            .get_or_insert((seed, why));
                    }
                }
                met.lock().expect("no thread dies here").add(&counts);
            });
        }
    });
    let failed = failed.into_inner().expect("no thread dies here");
    (met.into_inner().expect("no thread dies here"), failed)
}

fn all(seeds: u64) -> Counts {
    let began = Instant::now();
    let (met, failed) = run(seeds, |runtime, seed, counts| {
        runtime.block_on(play::play(&Scene::new(seed), counts))
    });
    if let Some((seed, why)) = failed {
        panic!(
            "seed {seed}: {why}\nreplay it with: PGET_SEED={seed} cargo test -p pget-core --test simulation random -- --nocapture"
        );
    }
    eprintln!("{seeds} downloads in {:?}: {met:?}", began.elapsed());
    met
}

#[test]
fn random_downloads() {
    if let Some(seed) = number("PGET_SEED") {
        let scene = Scene::new(seed);
        eprintln!("{scene:#?}");
        let played = play::runtime().block_on(play::play(&scene, &mut Counts::default()));
        assert_eq!(played, Ok(()));
        return;
    }
    all(number("PGET_SEEDS").unwrap_or(SEEDS));
}

#[test]
#[ignore = "for a release build: a debug build takes minutes"]
fn a_million_downloads() {
    let met = all(MILLION);
    for (kind, count) in met.all() {
        assert!(count >= LEAST, "{kind} was met {count} times only");
    }
}

#[test]
fn a_canary_is_noticed() {
    let (_, failed) = run(1000, |runtime, seed, counts| {
        let scene = Scene {
            canary: true,
            ..Scene::new(seed)
        };
        runtime.block_on(play::play(&scene, counts))
    });
    let (_, why) = failed.expect("a wrong byte must be noticed");
    assert!(
        why.contains("neither revision") || why.contains("wrong bytes"),
        "{why}"
    );
}

/// Plays each seed's scene, in each of the `ways` that it gives, again and again: dropped and cancelled at its first poll, its second, and so on to its last.
fn left_at_each_poll(ways: impl Fn(&Scene) -> Vec<Way> + Sync) {
    let polls = AtomicU64::new(0);
    let (_, failed) = run(number("PGET_SEEDS").unwrap_or(EACH_POLL), |runtime, seed, _| {
        let scene = Scene {
            leaves: Leaves::No,
            ..Scene::new(seed)
        };
        for way in ways(&scene) {
            let scene = scene.clone().read_by(way);
            for at in 0.. {
                let ended = runtime
                    .block_on(play::drop_at(&scene, at))
                    .map_err(|why| format!("{way:?} dropped at poll {at}: {why}"))?;
                runtime
                    .block_on(play::cancel_at(&scene, at))
                    .map_err(|why| format!("{way:?} cancelled at poll {at}: {why}"))?;
                polls.fetch_add(1, Ordering::Relaxed);
                if ended {
                    break;
                }
            }
        }
        Ok(())
    });
    if let Some((seed, why)) = failed {
        panic!("seed {seed}: {why}");
    }
    eprintln!("dropped and cancelled at {} polls", polls.into_inner());
}

#[test]
fn a_drop_or_a_cancel_at_any_poll_gives_everything_back() {
    left_at_each_poll(|scene| vec![scene.way]);
}

#[test]
#[ignore = "for a release build: a debug build takes minutes"]
fn a_drop_or_a_cancel_at_any_poll_gives_everything_back_in_every_way() {
    left_at_each_poll(|_| vec![Way::Leases, Way::Read, Way::Memory, Way::Destination, Way::Ranges]);
}
