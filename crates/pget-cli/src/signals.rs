//! SIGINT, SIGTERM and SIGHUP while something is in shared memory, whose name must go with the
//! program.

use std::sync::mpsc::{Receiver, channel};

use nix::sys::signal::{SigSet, Signal, raise};
use pget::{Cancel, Error, ErrorKind};

/// The signals that have come.
pub(crate) struct Signals(Receiver<Signal>);

impl Signals {
    /// From now on SIGINT, SIGTERM and SIGHUP trigger `cancel` instead of ending the program; not
    /// those that are ignored, as `nohup` and a shell's `&` have it. To be called before there are
    /// other threads, which they would else interrupt.
    pub(crate) fn cancel(cancel: &Cancel) -> Result<Self, Error> {
        let failed = |cause| Error::with_cause(ErrorKind::Internal, "", "cannot wait for signals", cause);
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            // A signal that is ignored and then blocked would still arrive.
            if !is_ignored(signal) {
                set.add(signal);
            }
        }
        set.thread_block().map_err(failed)?;
        let (tell, told) = channel();
        let cancel = cancel.clone();
        let wait = move || {
            if let Ok(signal) = set.wait() {
                // Sent first, so that who finds the read cancelled finds the signal.
                tell.send(signal).ok();
                cancel.trigger();
            }
        };
        std::thread::Builder::new().spawn(wait).map_err(|cause| {
            let message = "no thread can be started to wait for signals";
            Error::with_cause(ErrorKind::Resources, "", message, cause)
        })?;
        Ok(Self(told))
    }

    /// Waits for one.
    pub(crate) fn wait(&self) {
        // The thread that waits for them never goes away without one.
        self.0.recv().ok();
    }

    /// Ends the program by the signal that cancelled it, if one did: the process that waits for the
    /// program is to see what ended it. To be called when nothing is left to be tidied up.
    pub(crate) fn end(&self, error: &Error) {
        let (ErrorKind::Cancelled, Ok(signal)) = (error.kind(), self.0.try_recv()) else {
            return;
        };
        let mut set = SigSet::empty();
        set.add(signal);
        if raise(signal).and_then(|()| set.thread_unblock()).is_err() {
            tracing::debug!(%signal, "not ended by it");
        }
    }
}

/// Returns whether the signal is ignored, as the kernel reports it; if that cannot be read, it is
/// not.
///
/// Source: proc_pid_status(5): `SigIgn`, a mask in hexadecimal digits.
fn is_ignored(signal: Signal) -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return false;
    };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal as i32 - 1) & 1 == 1)
}
