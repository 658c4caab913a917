//! Waits for what another process, or a download of this one, puts into shared memory: bounded by a
//! caller's timeout and cancel handle, and by a close.
//!
//! Invariant: when a wait has returned, nothing of it is left, so what it looked at may be used
//! again. Called by shared memory and rings.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use pget_rs::{Cancel, Error, ErrorKind, blocking, shm::Waker};

/// Has `once` wait: until a deadline `timeout` milliseconds from now (`u64::MAX`: as long as it
/// takes), and unless its second argument says that `closed` or `cancel` ends it.
pub(crate) fn wait<T>(
    timeout: u64,
    cancel: Option<&Cancel>,
    closed: &AtomicBool,
    waker: impl FnOnce() -> Option<Waker>,
    mut once: impl FnMut(Option<Instant>, &dyn Fn() -> bool) -> Result<T, Error>,
) -> Result<T, Error> {
    let is_over = || closed.load(Ordering::SeqCst) || cancel.is_some_and(Cancel::is_triggered);
    // A time that is too far for the clock is as good as none.
    let deadline = match timeout {
        u64::MAX => None,
        milliseconds => Instant::now().checked_add(Duration::from_millis(milliseconds)),
    };
    // Looks first: most waits have nothing to wait for, and need no watch over them. If it
    // is the object that failed so, the next look reports the same.
    match once(Some(Instant::now()), &is_over) {
        Err(error) if error.kind() == ErrorKind::Timeout => {}
        other => return other,
    }
    // A waker, not the handle, which may go back to being used again as soon as the call has
    // returned.
    let waker = waker();
    let watch = cancel.map(|cancel| {
        blocking::when_triggered(cancel, move || {
            if let Some(waker) = waker {
                waker.wake();
            }
        })
    });
    let _watch = watch.transpose()?;
    once(deadline, &is_over)
}
