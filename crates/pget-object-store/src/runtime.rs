//! The runtime that downloads are driven on: one thread with timers, made at first use, also in a
//! forked child. It is never joined.
//!
//! The caller's runtime may have no timers, may be blocked, or may not exist. The requests to the
//! wrapped store are sent on the caller's runtime if there is one, because that is where the store
//! expects to be called.

use pget_core::{Error, ErrorKind, fork::PerProcess, threads};
use tokio::runtime::{Builder, Handle, Runtime};

static RUNTIME: PerProcess<Process> = PerProcess::new();

/// The runtime of this process. If two threads make one at once, the second one is dropped without
/// a wait for its thread.
struct Process(Option<Runtime>);

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Returns the runtime.
///
/// # Errors
/// [`Resources`](ErrorKind::Resources) if its thread cannot be started.
pub(crate) fn handle() -> Result<&'static Handle, Error> {
    let refused = |cause| {
        let message = "the thread that drives reads cannot be started";
        Error::with_cause(ErrorKind::Resources, "", message, cause)
    };
    let process = RUNTIME.get_or_try_init(|| {
        // tokio panics where it cannot start one.
        threads::startable(1).map_err(refused)?;
        let built = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("pget-store")
            .enable_all()
            .build();
        built.map(|runtime| Process(Some(runtime))).map_err(refused)
    })?;
    match &process.0 {
        Some(runtime) => Ok(runtime.handle()),
        None => Err(Error::new(ErrorKind::Internal, "", "the runtime is gone")),
    }
}
