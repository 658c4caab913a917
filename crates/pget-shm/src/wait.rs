//! Waiting for bytes, and for the end, of a segment that another process may be filling.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    thread::futex::{self, Timespec},
};

use crate::layout::{COMPLETE, Companion, FAILED, FILLING};

/// How often those who wait look whether the creator lives: its death wakes no process.
pub(crate) const LIVENESS: Duration = Duration::from_millis(250);

/// Why a wait ended without the bytes.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The filling failed; the companion says why.
    Failed,
    /// The creator is gone and has not said why.
    Died,
    /// The time is over.
    Late,
    /// The wait was asked to stop.
    Stopped,
    /// The futex does not work.
    System(Errno),
}

/// Waits until the bytes up to `offset` are there; for `offset` at the object's end, until it is
/// known to be complete.
pub(crate) fn wait(
    companion: &Companion,
    offset: u64,
    deadline: Option<Instant>,
    stop: &dyn Fn() -> bool,
    is_alive: impl Fn() -> bool,
) -> Result<(), Ended> {
    let whole = offset >= companion.length();
    // Whether what is missing will not come any more.
    let look = || match companion.state() {
        COMPLETE => Some(Ok(())),
        _ if !whole && companion.watermark() >= offset => Some(Ok(())),
        FILLING => None,
        FAILED => Some(Err(Ended::Failed)),
        _ => Some(Err(Ended::Died)),
    };
    until(companion.notices(), deadline, stop, is_alive, look)
}

/// Waits until `look` has something to say, which changes only with the futex word `notices`, or
/// with the death of who changes it.
pub(crate) fn until<T>(
    notices: &AtomicU32,
    deadline: Option<Instant>,
    stop: &dyn Fn() -> bool,
    is_alive: impl Fn() -> bool,
    look: impl Fn() -> Option<Result<T, Ended>>,
) -> Result<T, Ended> {
    let mut looked = Instant::now();
    loop {
        let notice = notices.load(Ordering::Acquire);
        if let Some(end) = look() {
            return end;
        }
        if stop() {
            return Err(Ended::Stopped);
        }
        let mut step = LIVENESS;
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let why = if is_alive() { Ended::Late } else { Ended::Died };
                return look().unwrap_or(Err(why));
            }
            step = step.min(left);
        }
        let time = Timespec {
            tv_sec: 0,
            tv_nsec: step.subsec_nanos().into(),
        };
        match futex::wait(notices, futex::Flags::empty(), notice, Some(&time)) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => {}
            Err(error) => return Err(Ended::System(error)),
        }
        // By the clock: others who come and go, or signals, may wake this one more often than that.
        if looked.elapsed() >= LIVENESS {
            if !is_alive() {
                // What it did before its end counts.
                return look().unwrap_or(Err(Ended::Died));
            }
            looked = Instant::now();
        }
    }
}
