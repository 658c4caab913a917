//! Forked children for tests: a body runs in a child of the test's process.
//!
//! Invariants:
//! - A child exits as soon as its body returns. It skips the exit handlers of the test's process.
//! - A child that hangs is killed by its own alarm.

use std::{
    any::Any,
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, Pid, alarm, fork},
};

/// A child in which the body runs.
#[derive(Debug)]
#[must_use]
pub struct Child(Pid);

impl Child {
    /// Forks and runs `body` in the child.
    ///
    /// The child exits when the body returns, and after `within` (whole seconds) at the latest. The
    /// parent immediately drops everything that the body owns.
    ///
    /// # Panics
    /// If the system cannot create another process.
    pub fn start(within: Duration, body: impl FnOnce()) -> Self {
        #[allow(
            unsafe_code,
            reason = "forks a process with several threads, which is what is tested"
        )]
        // SAFETY: the child runs the body and exits. The body's use of this process's state is what
        // the test checks.
        match unsafe { fork() }.expect("a process") {
            ForkResult::Parent { child } => Self(child),
            ForkResult::Child => {
                alarm::set(u32::try_from(within.as_secs().max(1)).unwrap_or(u32::MAX));
                let outcome = catch_unwind(AssertUnwindSafe(body));
                if let Err(panic) = &outcome {
                    writeln!(std::io::stderr(), "in a child: {}", text(&**panic)).ok();
                }
                #[allow(unsafe_code, reason = "ends without the parent's destructors and buffers")]
                // SAFETY: `_exit` has no preconditions.
                unsafe {
                    libc::_exit(i32::from(outcome.is_err()))
                }
            }
        }
    }

    /// Waits for the end of the child.
    ///
    /// # Panics
    /// If the body panicked or did not return in time.
    pub fn succeeds(self) {
        let ended = loop {
            match waitpid(self.0, None) {
                Err(Errno::EINTR) => {}
                ended => break ended,
            }
        };
        assert_eq!(ended, Ok(WaitStatus::Exited(self.0, 0)), "a forked child");
    }
}

/// Runs `body` in a forked child and waits for its end.
///
/// # Panics
/// As [`Child::succeeds`] does.
pub fn in_child(within: Duration, body: impl FnOnce()) {
    Child::start(within, body).succeeds();
}

fn text(panic: &(dyn Any + Send)) -> &str {
    match panic.downcast_ref::<String>() {
        Some(text) => text,
        None => panic.downcast_ref::<&str>().unwrap_or(&"a panic"),
    }
}
