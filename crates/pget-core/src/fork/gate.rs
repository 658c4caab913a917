//! A gate between `fork` and calls into the C library that hold a lock of its own.
//!
//! The C library makes some of its locks usable in a forked child (those of `malloc` and of
//! `stdio`), and others not: a child whose parent was just inside `getaddrinfo` may wait forever in
//! its own first call (glibc 2.36, the lock of `resolv_conf.c`). Therefore the process's own calls
//! pass this gate:
//!
//! 1. `fork` closes the gate, and waits until the calls under way have ended, for each at most
//!    [`PATIENCE`]: the lock is held at the beginning of a call, and not while it waits for the
//!    network.
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

/// How long after its beginning a call may hold up a fork. A look-up holds the lock for
/// microseconds, on a machine with more threads than processors for some tens of milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often both sides look whether they may go on.
const LOOK: Duration = Duration::from_micros(200);

/// Calls under way, and forks under way times [`FORK`].
static GATE: AtomicU64 = AtomicU64::new(0);

const FORK: u64 = 1 << 32;

/// When the last call began, in microseconds since [`start`].
static LAST_BEGAN: AtomicU64 = AtomicU64::new(0);

/// Counts a call as under way, after it has waited for a fork under way.
pub(super) fn enter() {
    loop {
        let gate = GATE.load(Ordering::Acquire);
        if gate >= FORK {
            sleep(LOOK);
            continue;
        }
        // Before the call is counted: a fork that finds it must not take an older call's beginning
        // for its own.
        LAST_BEGAN.store(elapsed(), Ordering::Release);
        let counted = GATE.compare_exchange(gate, gate + 1, Ordering::AcqRel, Ordering::Relaxed);
        if counted.is_ok() {
            break;
        }
    }
}

/// Ends a call that [`enter`] has counted in this process.
pub(super) fn leave() {
    GATE.fetch_sub(1, Ordering::AcqRel);
}

/// Returns whether a call or a fork is under way.
#[cfg(test)]
pub(super) fn is_in_use() -> bool {
    GATE.load(Ordering::Acquire) > 0
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
