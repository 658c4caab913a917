//! Calls into the C library that a fork must not interrupt: see [`gate`].

use super::{Generation, gate};

/// Runs a call of the C library that takes a lock which a forked child would find locked.
///
/// It waits while a fork is under way. `call` must not fork.
pub fn apart_from_forks<T>(call: impl FnOnce() -> T) -> T {
    // The handlers are registered with the first generation.
    let generation = Generation::current();
    gate::enter();
    let under_way = UnderWay(generation);
    let result = call();
    drop(under_way);
    result
}

/// A call under way, which ends also when it panics.
struct UnderWay(Generation);

impl Drop for UnderWay {
    fn drop(&mut self) {
        // A call that still forked is not counted in the child.
        if !self.0.is_past() {
            gate::leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::ToSocketAddrs as _,
        sync::atomic::{AtomicBool, Ordering},
        thread::{self, sleep},
        time::Duration,
    };

    use pget_testkit::forked::in_child;

    use super::*;

    const LOOK: Duration = Duration::from_micros(200);

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
            while !gate::is_in_use() {
                sleep(LOOK);
            }
            // The child's gate is open, and the parent's is again after it.
            in_child(Duration::from_secs(20), look_up);
            look_up();
            over.store(true, Ordering::Release);
        });
    }
}
