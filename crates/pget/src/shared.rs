//! An object into shared memory, in the background: who asked for it, and every process that
//! attaches, reads while it arrives; or into a ring, for one process that reads. Called by the
//! builder.

use std::sync::Arc;

use pget_core::{
    Cancel, Error, ErrorKind, Stats,
    fork::{Own, forked},
    threads::block_on,
};
use pget_shm::{IntoShared, Placement, RingWriter, SharedBuffer};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    task::{JoinError, JoinHandle},
};

use crate::{Builder, blocking, runtime};

/// A download into shared memory that goes on in the background.
///
/// Dropping it ends the download, and closes the buffer: its names go, and who waits for bytes gets
/// [`Cancelled`](ErrorKind::Cancelled).
#[derive(Debug)]
pub struct SharedDownload {
    /// Goes before the task, so that readers see the close and not what it does to the
    /// download.
    buffer: SharedBuffer,
    task: Task,
    runtime: Handle,
}

impl SharedDownload {
    /// The object, arriving: wait for bytes by [`SharedBuffer::wait_for`], here or in a process
    /// that [attaches](SharedBuffer::attach) by its name.
    #[must_use]
    pub const fn buffer(&self) -> &SharedBuffer {
        &self.buffer
    }

    /// Waits until all of it is there; returns what was done.
    ///
    /// # Errors
    /// What ended the download. Every call returns the same.
    pub async fn ended(&mut self) -> Result<Stats, Error> {
        if let Some(result) = &self.task.result {
            return result.clone();
        }
        self.task.check_process()?;
        let result = (&mut *self.task.handle).await.unwrap_or_else(lost);
        self.task.result = Some(result.clone());
        result
    }

    /// As [`ended`](Self::ended), for a thread that may block.
    ///
    /// # Errors
    /// As [`ended`](Self::ended).
    pub fn ended_blocking(&mut self) -> Result<Stats, Error> {
        if let Some(result) = &self.task.result {
            return result.clone();
        }
        // In a child, the runtime is the parent's.
        self.task.check_process()?;
        let runtime = self.runtime.clone();
        block_on(&runtime, self.ended())
    }

    /// The buffer alone. A download that has not ended goes on until it has, or until the buffer is
    /// closed.
    #[must_use]
    pub fn into_buffer(self) -> SharedBuffer {
        let Self { buffer, mut task, .. } = self;
        task.goes_on = true;
        buffer
    }
}

/// The download's task, which ends with this.
#[derive(Debug)]
struct Task {
    handle: Own<JoinHandle<Result<Stats, Error>>>,
    result: Option<Result<Stats, Error>>,
    goes_on: bool,
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.goes_on && !Own::is_forked(&self.handle) {
            self.handle.abort();
        }
    }
}

impl Task {
    /// # Errors
    /// [`Forked`](ErrorKind::Forked) in a child that was forked since.
    fn check_process(&self) -> Result<(), Error> {
        if Own::is_forked(&self.handle) {
            return Err(forked("the download into shared memory"));
        }
        Ok(())
    }
}

fn lost(cause: JoinError) -> Result<Stats, Error> {
    let (kind, message) = if cause.is_cancelled() {
        (ErrorKind::Cancelled, "the runtime has shut down")
    } else {
        (ErrorKind::Internal, "the download's task panicked")
    };
    Err(Error::with_cause(kind, "", message, cause))
}

/// Begins the download on `runtime`, and waits until its first reply has said how long the object
/// is.
async fn begin(builder: Builder, placement: Placement, runtime: &Handle) -> Result<SharedDownload, Error> {
    placement.check()?;
    let (made, is_made) = oneshot::channel();
    let into = Arc::new(IntoShared::new(placement, |buffer| {
        // If the caller waits no more, the buffer closes, and ends the download.
        drop(made.send(buffer));
    }));
    let handle = runtime.spawn(async move {
        let result = builder.read_to(Arc::clone(&into) as _).await;
        into.finish(result.as_ref().map(drop))?;
        result
    });
    let mut task = Task {
        handle: Own::new(handle),
        result: None,
        goes_on: false,
    };
    match is_made.await {
        Ok(buffer) => Ok(SharedDownload {
            buffer,
            task,
            runtime: runtime.clone(),
        }),
        // It ended, and the destination went, without a segment.
        Err(_) => match (&mut *task.handle).await.unwrap_or_else(lost) {
            Err(error) => Err(error),
            Ok(_) => Err(Error::new(ErrorKind::Internal, "", "no segment was made")),
        },
    }
}

pub(crate) async fn get(builder: &Builder, placement: Placement) -> Result<SharedDownload, Error> {
    begin(builder.clone(), placement, &Handle::current()).await
}

pub(crate) fn get_blocking(builder: &Builder, placement: Placement) -> Result<SharedDownload, Error> {
    let runtime = runtime::handle_with_threads()?;
    let builder = blocking::on_process_runtime(builder);
    block_on(runtime, begin(builder, placement, runtime))
}

/// Reads all of it, and reports the progress on this thread.
pub(crate) fn fill_blocking(builder: &Builder, placement: Placement) -> Result<SharedBuffer, Error> {
    placement.check()?;
    let (made, is_made) = std::sync::mpsc::channel();
    let into = Arc::new(IntoShared::new(placement, move |buffer| {
        // The receiver waits below.
        made.send(buffer).ok();
    }));
    let result = builder.read_to_blocking(Arc::clone(&into) as _);
    into.finish(result.as_ref().map(drop))?;
    is_made
        .try_recv()
        .map_err(|cause| Error::with_cause(ErrorKind::Internal, "", "no segment was made", cause))
}

/// The ring while an object is put into it. What stopped that does not stop what is put next, also
/// if the progress function panicked.
struct Stopping<'a>(&'a mut RingWriter);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.stop_when(|| false);
    }
}

/// The object as the ring's next one.
pub(crate) fn put_into_ring(
    builder: &Builder,
    cancel: Option<&Cancel>,
    ring: &mut RingWriter,
) -> Result<Stats, Error> {
    let mut reader = builder.open_blocking()?;
    let waker = ring.waker();
    let watch = cancel.map(|cancel| blocking::when_triggered(cancel, move || waker.wake()));
    let _watch = watch.transpose()?;
    let cancel = cancel.cloned();
    ring.stop_when(move || cancel.as_ref().is_some_and(Cancel::is_triggered));
    Stopping(ring).0.put_object(&mut reader)?;
    Ok(reader.stats())
}
