//! The same for threads that may block: no tokio in sight.
//!
//! Not for threads of an asynchronous runtime, where waiting would panic.

use pget_core::{
    BlockingReader, Cancel, Download, Error, ErrorKind, ObjectInfo, fork::Own, threads::block_on,
};
use tokio::runtime::Handle;

use crate::{Builder, runtime};

/// Opens the object at `address` with default settings and waits for the first reply.
///
/// # Errors
/// As [`open`](crate::open).
pub fn open(address: &str) -> Result<BlockingReader, Error> {
    open_with(&Builder::new(address))
}

/// Size and revision of the object at `address`, without reading it.
///
/// # Errors
/// As [`open`](crate::open).
pub fn stat(address: &str) -> Result<ObjectInfo, Error> {
    stat_with(&Builder::new(address))
}

pub(crate) fn open_with(builder: &Builder) -> Result<BlockingReader, Error> {
    with_download(builder, |download, runtime| {
        let reader = download.blocking_reader_on(runtime);
        reader.info()?;
        Ok(reader)
    })
}

/// Has `read` use the builder's download on the process's runtime.
pub(crate) fn with_download<T>(
    builder: &Builder,
    read: impl FnOnce(&Download, &Handle) -> Result<T, Error>,
) -> Result<T, Error> {
    let runtime = runtime::handle()?;
    read(&on_process_runtime(builder).download()?, runtime)
}

pub(crate) fn stat_with(builder: &Builder) -> Result<ObjectInfo, Error> {
    let runtime = runtime::handle()?;
    let builder = on_process_runtime(builder);
    // On a worker: a write to a closed socket raises SIGPIPE, which is the caller's to have on its
    // own thread.
    let asked = runtime.spawn(async move { builder.stat().await });
    block_on(runtime, asked).unwrap_or_else(|cause| {
        Err(Error::with_cause(
            ErrorKind::Internal,
            "",
            "the request's task has ended",
            cause,
        ))
    })
}

/// Has the process's runtime run on that many threads, 1 to 1,024, whatever `PGET_THREADS` says.
/// The first blocking call starts it; from then on this has no effect.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) for another number.
pub fn use_threads(count: usize) -> Result<(), Error> {
    runtime::use_threads(count)
}

/// Calls `then` on a thread of the process's runtime when `cancel` is triggered, or soon if it was;
/// not after the result is dropped. For waits that are no download's.
///
/// # Errors
/// [`Resources`](ErrorKind::Resources) if the runtime cannot have a thread.
pub fn when_triggered(cancel: &Cancel, then: impl FnOnce() + Send + 'static) -> Result<WhenTriggered, Error> {
    let cancel = cancel.clone();
    let task = runtime::handle_with_threads()?.spawn(async move {
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

/// The process's runtime, for bindings to other languages: their waits are theirs.
///
/// # Errors
/// [`Resources`](ErrorKind::Resources) if the runtime cannot have a thread.
#[doc(hidden)]
pub fn runtime() -> Result<&'static Handle, Error> {
    runtime::handle_with_threads()
}

/// The same read on the process's [`runtime`], by the asynchronous calls: with the connections of
/// the blocking ones.
#[doc(hidden)]
pub fn on_process_runtime(builder: &Builder) -> Builder {
    Builder {
        #[cfg(feature = "http")]
        on_process_runtime: true,
        ..builder.clone()
    }
}
