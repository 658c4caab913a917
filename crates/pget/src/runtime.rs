//! The process's one runtime, for callers that have none. Made at first use, also in a forked
//! child; never joined: nothing blocks at exit.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering},
};

use nix::sys::signal::{SigSet, Signal};
use pget_core::{
    Cancel, Error, ErrorKind,
    fork::{Own, PerProcess},
    threads::{self, Unjoined},
};
use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};

static RUNTIME: PerProcess<Unjoined> = PerProcess::new();

fn make() -> Result<Unjoined, Error> {
    let wanted = match WANTED.load(Ordering::Relaxed) {
        0 => setting(std::env::var(THREADS).ok().as_deref())?,
        wanted => wanted,
    };
    Unjoined::build(|| start(wanted))
}

/// More threads than these add wake-ups and no speed: one receives about 3 GiB a second.
const MOST_THREADS: usize = 8;

/// The environment variable that sets the number of threads.
const THREADS: &str = "PGET_THREADS";

/// The latest number of [`use_threads`]; 0 before its first call.
static WANTED: AtomicUsize = AtomicUsize::new(0);

/// Has the process's runtime run on `count` threads, which [`Settings`](crate::Settings) has
/// checked. Has no effect once the runtime was started.
pub(crate) fn use_threads(count: u32) {
    WANTED.store(count as usize, Ordering::Relaxed);
}

/// The runtime that blocking calls run on.
pub(crate) fn handle() -> Result<&'static Handle, Error> {
    RUNTIME.get_or_try_init(make)?.get().map(usable)
}

/// As [`handle`], for work that goes on while no thread waits for it.
///
/// # Errors
/// [`Resources`](ErrorKind::Resources) if the runtime has no thread.
pub(crate) fn handle_with_threads() -> Result<&'static Handle, Error> {
    let handle = handle()?;
    if has_no_thread(handle) {
        let message = "no thread can be started for work in the background";
        return Err(Error::new(ErrorKind::Resources, "", message));
    }
    Ok(handle)
}

/// Calls `then` on a thread of the process's runtime when `cancel` is triggered, or soon if it was;
/// never after the result is dropped. For waits of the caller's own.
///
/// # Errors
/// [`Resources`](ErrorKind::Resources) if the runtime cannot have a thread.
pub fn when_triggered(cancel: &Cancel, then: impl FnOnce() + Send + 'static) -> Result<WhenTriggered, Error> {
    let cancel = cancel.clone();
    let task = handle_with_threads()?.spawn(async move {
        cancel.triggered().await;
        then();
    });
    Ok(WhenTriggered(Own::new(task)))
}

/// Stands for a call of [`when_triggered`], which ends with this.
#[derive(Debug)]
#[must_use]
pub struct WhenTriggered(Own<tokio::task::JoinHandle<()>>);

impl Drop for WhenTriggered {
    fn drop(&mut self) {
        if !Own::is_forked(&self.0) {
            self.0.abort();
        }
    }
}

fn has_no_thread(handle: &Handle) -> bool {
    handle.runtime_flavor() == RuntimeFlavor::CurrentThread
}

/// The runtime's handle, for waits by [`block_on`](threads::block_on).
fn usable(runtime: &'static Runtime) -> &'static Handle {
    if has_no_thread(runtime.handle()) {
        threads::drive_by_waiting(runtime, block_sigpipe);
    }
    runtime.handle()
}

/// A runtime with as many threads as there can be, up to `wanted`. Without any, it is driven by the
/// threads that wait for it.
fn start(wanted: usize) -> Result<Runtime, Error> {
    // tokio panics where it cannot start one.
    let mut builder = match threads::startable(wanted) {
        Ok(0) | Err(_) => Builder::new_current_thread(),
        Ok(count) => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(count);
            builder
        }
    };
    builder
        .thread_name("pget")
        .on_thread_start(block_sigpipe)
        .enable_io()
        .enable_time();
    // Another process of the user may have taken the last thread since.
    match catch_unwind(AssertUnwindSafe(|| builder.build())) {
        Ok(built) => built.map_err(threads::no_descriptors),
        Err(_) => {
            let message = "worker threads cannot be started";
            Err(Error::new(ErrorKind::Resources, "", message))
        }
    }
}

fn setting(setting: Option<&str>) -> Result<usize, Error> {
    match setting {
        None => Ok(std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(MOST_THREADS)),
        Some(text) => match text.parse() {
            Ok(count @ 1..=1024) => Ok(count),
            _ => Err(Error::new(
                ErrorKind::InvalidArgument,
                "",
                format!("{THREADS} must be 1 to 1024, not {text:?}"),
            )),
        },
    }
}

/// A peer's close must not kill a host that leaves SIGPIPE at its default: vectored socket writes
/// raise it.
fn block_sigpipe() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGPIPE);
    if let Err(error) = set.thread_block() {
        tracing::warn!(%error, "cannot block SIGPIPE in a worker thread");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_from_the_environment_are_checked() {
        assert_eq!(setting(Some("3")).expect("usable"), 3);
        assert!((1..=MOST_THREADS).contains(&setting(None).expect("the default")));
        for text in ["0", "-1", "", "many", "99999999999"] {
            assert_eq!(
                setting(Some(text)).expect_err(text).kind(),
                ErrorKind::InvalidArgument
            );
        }
    }
}
