//! Whether this process can start threads, and what is done where it cannot.
//!
//! A limit on threads (`RLIMIT_NPROC`, a control group, address space) is legitimate, but tokio
//! panics when it meets one, and queues blocking work for threads that never come. So [`startable`]
//! and [`can_start`] ask the system first, [`may_block`] falls back to the thread at hand, and
//! [`block_on`] drives a runtime that has no thread of its own.

use std::{
    future::Future,
    io,
    os::unix::net::UnixStream,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::channel,
    },
    thread,
    time::Instant,
};

use tokio::{
    runtime::{Handle, Runtime, RuntimeFlavor},
    task::{JoinError, spawn_blocking},
};

use crate::{Error, ErrorKind, fork::PerProcess};

/// How long it counts that there were threads to spare, in milliseconds: to start one costs some 20
/// µs.
const COUNTS_FOR: u64 = 1000;

/// So many beside each other are threads to spare: others may be started before the next look.
const SPARE: usize = 4;

/// When there were threads to spare, in milliseconds from an arbitrary time, plus 1; 0 for never.
static SPARE_AT: AtomicU64 = AtomicU64::new(0);

fn now() -> u64 {
    static ORIGIN: PerProcess<Instant> = PerProcess::new();
    let since = ORIGIN.inherit_or_init(Instant::now).elapsed();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX - 1) + 1
}

/// Returns how many threads can be started beside each other, up to `most`.
///
/// # Errors
/// The system's error, if no thread can be started.
pub fn startable(most: usize) -> io::Result<usize> {
    let wanted = most.saturating_add(SPARE);
    let count = start_together(wanted)?;
    let spare_at = if count == wanted { now() } else { 0 };
    SPARE_AT.store(spare_at, Ordering::Relaxed);
    Ok(count.min(most))
}

fn start_together(most: usize) -> io::Result<usize> {
    let mut started = Vec::new();
    let mut refused = None;
    // All wait for the end of the last one to be started, so that they are alive together.
    let gates: Vec<_> = std::iter::repeat_with(|| {
        let (gate, wait) = channel::<()>();
        // An error means that the gate is gone, which is what is waited for.
        thread::Builder::new()
            .name("pget-probe".into())
            .spawn(move || {
                wait.recv().ok();
            })
            .map(|thread| (gate, thread))
    })
    .take(most)
    .map_while(|made| made.map_err(|error| refused = Some(error)).ok())
    .map(|(gate, thread)| {
        started.push(thread);
        gate
    })
    .collect();
    drop(gates);
    let count = started.len();
    for thread in started {
        // It has nothing to panic about.
        thread.join().ok();
    }
    match refused {
        Some(error) if count == 0 => Err(error),
        _ => Ok(count),
    }
}

/// Whether a thread can be started now.
#[must_use]
pub fn can_start() -> bool {
    let last = SPARE_AT.load(Ordering::Relaxed);
    last > 0 && now().saturating_sub(last) < COUNTS_FOR || startable(1).is_ok()
}

/// Does `work`, which may block for a while, on a thread of its own if there can be one, else here.
///
/// # Errors
/// The work panicked on its thread, or the runtime shuts down.
pub async fn may_block<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    if can_start() {
        spawn_blocking(work).await
    } else {
        Ok(work())
    }
}

/// A runtime of the process that is never joined: dropped, it does not wait for its threads.
///
/// If two threads make one at once, the second one is dropped, which then has no task.
#[derive(Debug)]
pub struct Unjoined(Option<Runtime>);

impl Unjoined {
    /// The runtime that `build` makes, unless tokio would panic, as it does where it cannot have
    /// the descriptors that it needs for itself: six, and one more for a connection.
    ///
    /// # Errors
    /// [`Resources`](ErrorKind::Resources) if no descriptors are left; the error of `build`.
    pub fn build(build: impl FnOnce() -> Result<Runtime, Error>) -> Result<Self, Error> {
        let pairs: io::Result<Vec<_>> = (0..4).map(|_| UnixStream::pair()).collect();
        drop(pairs.map_err(no_descriptors)?);
        build().map(|runtime| Self(Some(runtime)))
    }

    /// Returns the runtime.
    ///
    /// # Errors
    /// None before it is dropped.
    pub fn get(&self) -> Result<&Runtime, Error> {
        let gone = || Error::new(ErrorKind::Internal, "", "the runtime is gone");
        self.0.as_ref().ok_or_else(gone)
    }
}

impl Drop for Unjoined {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The error of a runtime that cannot have its descriptors.
pub fn no_descriptors(cause: io::Error) -> Error {
    let message = "no file descriptors are left";
    Error::with_cause(ErrorKind::Resources, "", message, cause)
}

/// A runtime without threads, and what to do on a thread before it drives the runtime.
type WithoutThreads = (&'static Runtime, fn());

static WITHOUT_THREADS: PerProcess<Mutex<Option<WithoutThreads>>> = PerProcess::new();

fn without_threads() -> MutexGuard<'static, Option<WithoutThreads>> {
    let known = WITHOUT_THREADS.get_or_init(Mutex::default);
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets [`block_on`] drive `runtime`, which has no threads, on the thread that waits; `first` is
/// called on that thread before.
pub fn drive_by_waiting(runtime: &'static Runtime, first: fn()) {
    *without_threads() = Some((runtime, first));
}

/// Waits for `future` on the runtime of `handle`.
///
/// # Panics
/// On a thread of an asynchronous runtime, as tokio's `block_on` does.
pub fn block_on<F: Future>(handle: &Handle, future: F) -> F::Output {
    if handle.runtime_flavor() == RuntimeFlavor::CurrentThread {
        let known = *without_threads();
        if let Some((runtime, first)) = known
            && runtime.handle().id() == handle.id()
        {
            first();
            return runtime.block_on(future);
        }
    }
    handle.block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_alive_together_and_gone_after() {
        assert_eq!(startable(0).expect("none are wanted"), 0);
        assert_eq!(startable(16).expect("there is no limit"), 16);
        assert!(can_start());
    }

    #[test]
    fn a_runtime_without_threads_is_driven_by_who_waits() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let runtime: &'static Runtime = Box::leak(Box::new(runtime));
        drive_by_waiting(runtime, || {});
        let handle = runtime.handle();
        // A timer and a task need a driver.
        let task = handle.spawn(async {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            7
        });
        assert_eq!(block_on(handle, task).expect("it ends"), 7);
    }
}
