//! A gate between `fork` and calls into the C library that hold a lock of its own.
//!
//! The C library makes some of its locks usable in a forked child (those of `malloc` and of `stdio`), and
//! others not: a child whose parent was just inside `getaddrinfo` may wait forever in its own first call
//! (glibc 2.36, the lock of `resolv_conf.c`). Therefore the process's own calls pass this gate:
//!
//! 1. `fork` closes the gate, and waits until the calls under way have ended, but for each at most
//!    [`PATIENCE`]: the lock is held at the beginning of a call, and not while it waits for the network.
//! 2. A call that arrives at a closed gate waits until parent and child go their ways.
//!
//! Calls of other libraries in the process do not pass the gate; nothing here can help with those.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use super::Generation;

/// How long after its beginning a call may hold up a fork. A look-up holds the lock for microseconds, on a
/// machine with more threads than processors for some tens of milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often both sides look whether they may go on.
const LOOK: Duration = Duration::from_micros(200);

/// Calls under way, and forks under way times [`FORK`].
static GATE: AtomicU64 = AtomicU64::new(0);

const FORK: u64 = 1 << 32;

/// When the last call began, in microseconds since [`start`].
static LAST_BEGAN: AtomicU64 = AtomicU64::new(0);

/// Runs a call of the C library that takes a lock which a forked child would find locked.
///
/// It waits while a fork is under way. `call` must not fork.
pub fn apart_from_forks<T>(call: impl FnOnce() -> T) -> T {
    // The handlers are registered with the first generation.
    let generation = Generation::current();
    loop {
        let gate = GATE.load(Ordering::Acquire);
        if gate >= FORK {
            sleep(LOOK);
            continue;
        }
        // Before the call is counted: a fork that finds it must not take an older call's beginning for its own.
        LAST_BEGAN.store(elapsed(), Ordering::Release);
        let counted = GATE.compare_exchange(gate, gate + 1, Ordering::AcqRel, Ordering::Relaxed);
        if counted.is_ok() {
            break;
        }
    }
    let under_way = UnderWay(generation);
    let result = call();
    drop(under_way);
    result
}

/// A call under way, which ends also when it panics.
struct UnderWay(Generation);

impl Drop for UnderWay {
    fn drop(&mut self) {
        // A call that forked all the same is not counted in the child.
        if !self.0.is_past() {
            GATE.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Runs before `fork`: closes the gate, and waits for the calls under way.
pub(super) extern "C" fn prepare() {
    let patience = u64::try_from(PATIENCE.as_micros()).unwrap_or(u64::MAX);
    let calls = |gate: u64| gate % FORK;
    let mut gate = GATE.fetch_add(FORK, Ordering::AcqRel);
    while calls(gate) > 0 && elapsed().saturating_sub(LAST_BEGAN.load(Ordering::Acquire)) < patience {
        sleep(LOOK);
        gate = GATE.load(Ordering::Acquire);
    }
}

/// Runs in the parent after `fork`: opens the gate.
pub(super) extern "C" fn in_parent() {
    // If this handler was registered in the midst of a fork, `prepare` has not run for it.
    let _closed_by_us = GATE.fetch_update(Ordering::AcqRel, Ordering::Acquire, |gate| gate.checked_sub(FORK));
}

/// Runs in the child: no call and no fork is under way there.
pub(super) fn in_child() {
    GATE.store(0, Ordering::Release);
}

fn elapsed() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{net::ToSocketAddrs as _, sync::atomic::AtomicBool, thread};

    use pget_testkit::forked::in_child;

    use super::*;

    fn look_up() {
        let found = apart_from_forks(|| ("localhost", 80).to_socket_addrs());
        assert!(found.is_ok_and(|mut found| found.next().is_some()));
    }

    /// One child in 150 hung without the gate.
    #[test]
    fn a_child_can_look_up_names_while_its_parent_does() {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while !over.load(Ordering::Acquire) {
                        look_up();
                    }
                });
            }
            for _ in 0..500 {
                in_child(Duration::from_secs(20), look_up);
            }
            over.store(true, Ordering::Release);
        });
    }

    #[test]
    fn a_call_that_waits_holds_up_a_fork_for_a_while_only() {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                apart_from_forks(|| {
                    while !over.load(Ordering::Acquire) {
                        sleep(LOOK);
                    }
                });
            });
            while GATE.load(Ordering::Acquire) == 0 {
                sleep(LOOK);
            }
            // The child's gate is open, and the parent's is again after it.
            in_child(Duration::from_secs(20), look_up);
            look_up();
            over.store(true, Ordering::Release);
        });
    }
}
