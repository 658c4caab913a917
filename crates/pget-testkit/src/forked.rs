//! Forked children for tests: a body that runs in a child of the test's process, and its outcome.
//!
//! Invariants: a child ends with its body, without what the test's process does at its end; one that hangs is
//! killed by its own alarm.

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
    /// Forks, and runs `body` in the child, which ends with it, after `within` (whole seconds) at the latest. The parent drops
    /// what the body owns at once.
    ///
    /// # Panics
    /// If the system has no more processes.
    pub fn start(within: Duration, body: impl FnOnce()) -> Self {
        #[allow(
            unsafe_code,
            reason = "forks a process with several threads, which is what is tested"
        )]
        // SAFETY: the child runs the body, whose use of this process's state is the test's subject, and ends.
        match unsafe { fork() }.expect("a process") {
            ForkResult::Parent { child } => Self(child),
            ForkResult::Child => {
                alarm::set(u32::try_from(within.as_secs().max(1)).unwrap_or(u32::MAX));
                let outcome = catch_unwind(AssertUnwindSafe(body));
                if let Err(panic) = &outcome {
                    writeln!(std::io::stderr(), "in a child: {}", text(&**panic)).ok();
                }
                #[allow(unsafe_code, reason = "ends without the parent's destructors and buffers")]
                // SAFETY: has no preconditions.
                unsafe {
                    libc::_exit(i32::from(outcome.is_err()))
                }
            }
        }
    }

    /// Waits for the child's end.
    ///
    /// # Panics
    /// If the body panicked, or did not end in time.
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

/// Runs `body` in a forked child, and waits for its end.
///
/// # Panics
/// As [`Child::succeeds`].
pub fn in_child(within: Duration, body: impl FnOnce()) {
    Child::start(within, body).succeeds();
}

fn text(panic: &(dyn Any + Send)) -> &str {
    match panic.downcast_ref::<String>() {
        Some(text) => text,
        None => panic.downcast_ref::<&str>().unwrap_or(&"a panic"),
    }
}
