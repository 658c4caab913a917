//! The runtime that downloads are driven on: one thread with timers, made at first use, also in a
//! forked child. It is never joined.
//!
//! The caller's runtime may have no timers, may be blocked, or may not exist. The requests to the
//! wrapped store are sent on the caller's runtime if there is one, because that is where the store
//! expects to be called.

use pget_core::{
    Error, ErrorKind,
    fork::PerProcess,
    threads::{self, Unjoined},
};
use tokio::runtime::{Builder, Handle, Runtime};

static RUNTIME: PerProcess<Unjoined> = PerProcess::new();

/// Returns the runtime.
///
/// # Errors
/// [`Resources`](ErrorKind::Resources) if its thread cannot be started, or no file descriptors are
/// left.
pub(crate) fn handle() -> Result<&'static Handle, Error> {
    let runtime = RUNTIME.get_or_try_init(|| Unjoined::build(start))?;
    runtime.get().map(Runtime::handle)
}

fn start() -> Result<Runtime, Error> {
    let refused = |cause| {
        let message = "the thread that drives reads cannot be started";
        Error::with_cause(ErrorKind::Resources, "", message, cause)
    };
    // tokio panics where it cannot start one.
    threads::startable(1).map_err(refused)?;
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("pget-store")
        .enable_all()
        .build()
        .map_err(refused)
}
