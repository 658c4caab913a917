//! SIGINT and SIGTERM while something is in shared memory, whose name must go with the program.

use std::sync::mpsc::{Receiver, channel};

use nix::sys::signal::{SigSet, Signal, raise};
use pget::{Cancel, Error, ErrorKind};

/// The signals that have come.
pub(crate) struct Signals(Receiver<Signal>);

impl Signals {
    /// From now on SIGINT and SIGTERM trigger `cancel` instead of ending the program. To be called before there are other threads, which they would else interrupt.
    pub(crate) fn cancel(cancel: &Cancel) -> Result<Self, Error> {
        let failed = |cause| Error::with_cause(ErrorKind::Internal, "", "cannot wait for signals", cause);
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.add(Signal::SIGTERM);
        set.thread_block().map_err(failed)?;
        let (tell, told) = channel();
        let cancel = cancel.clone();
        std::thread::spawn(move || {
            if let Ok(signal) = set.wait() {
                // Sent first, so that who finds the read cancelled finds the signal.
                tell.send(signal).ok();
                cancel.trigger();
            }
        });
        Ok(Self(told))
    }

    /// Waits for one.
    pub(crate) fn wait(&self) {
        // The thread that waits for them never goes away without one.
        self.0.recv().ok();
    }

    /// Ends the program by the signal that cancelled it, if one did: whoever waits for the program is to see what ended it. To be called when nothing is left to be tidied up.
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
