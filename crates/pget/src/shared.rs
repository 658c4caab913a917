//! Reads into shared memory, in the background: this process and every process that attaches read
//! while bytes arrive. Or into a ring, for one process that reads.

use std::sync::Arc;

use pget_core::{
    Cancel, Destination, Error, ErrorKind, Stats,
    fork::{Own, forked},
    threads::block_on,
};
use pget_shm::{IntoShared, Placement, RingWriter, SharedBuffer};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    task::{JoinError, JoinHandle},
};

use crate::{runtime, source::ObjectSource};

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
    /// Returns the error that ended the download. Every call returns the same result.
    pub async fn ended(&mut self) -> Result<Stats, Error> {
        if let Some(result) = &self.task.result {
            return result.clone();
        }
        self.task.check_process()?;
        let result = (&mut *self.task.handle).await.unwrap_or_else(lost);
        self.task.result = Some(result.clone());
        result
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

/// A download into shared memory that goes on in the background, for threads that may block.
///
/// Dropping it ends the download, and closes the buffer: its names are removed, and waits for its
/// bytes return [`Cancelled`](ErrorKind::Cancelled).
///
/// # Examples
/// ```no_run
/// let object = pget::builder("s3://bucket/key").blocking()?;
/// let mut download = object.get_shared(pget::Placement::Anonymous)?;
/// let first = download.buffer().wait_for(4096)?;
/// let stats = download.ended()?;
/// # Ok::<(), pget::Error>(())
/// ```
#[derive(Debug)]
pub struct BlockingDownload(SharedDownload);

impl BlockingDownload {
    /// Returns the buffer. Wait for its bytes by [`SharedBuffer::wait_for`], here or in a process
    /// that [attaches](SharedBuffer::attach) by its name.
    #[must_use]
    pub const fn buffer(&self) -> &SharedBuffer {
        self.0.buffer()
    }

    /// Waits until all bytes are there, and returns the counters of the download.
    ///
    /// # Errors
    /// The error that ended the download. Every call returns the same.
    ///
    /// # Panics
    /// On a thread of an asynchronous runtime.
    pub fn ended(&mut self) -> Result<Stats, Error> {
        if let Some(result) = &self.0.task.result {
            return result.clone();
        }
        // In a child, the runtime is the parent's.
        self.0.task.check_process()?;
        let runtime = self.0.runtime.clone();
        block_on(&runtime, self.0.ended())
    }

    /// Returns the buffer alone. A download that has not ended goes on until it has, or until the
    /// buffer is closed.
    #[must_use]
    pub fn into_buffer(self) -> SharedBuffer {
        self.0.into_buffer()
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

async fn read_to(source: &ObjectSource, destination: Arc<dyn Destination>) -> Result<Stats, Error> {
    source.download()?.read_to(destination).await
}

/// Begins the download on `runtime`, and waits until its first reply has said how long the object
/// is.
async fn begin(
    source: Arc<ObjectSource>,
    placement: Placement,
    runtime: &Handle,
) -> Result<SharedDownload, Error> {
    placement.check()?;
    let (made, is_made) = oneshot::channel();
    let into = Arc::new(IntoShared::new(placement, |buffer| {
        // If the caller waits no more, the buffer closes, and ends the download.
        drop(made.send(buffer));
    }));
    let handle = runtime.spawn(async move {
        let result = read_to(&source, Arc::clone(&into) as _).await;
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

pub(crate) async fn get(source: &Arc<ObjectSource>, placement: Placement) -> Result<SharedDownload, Error> {
    begin(Arc::clone(source), placement, &Handle::current()).await
}

pub(crate) fn get_blocking(
    source: &Arc<ObjectSource>,
    placement: Placement,
) -> Result<BlockingDownload, Error> {
    let runtime = runtime::handle_with_threads()?;
    block_on(runtime, begin(Arc::clone(source), placement, runtime)).map(BlockingDownload)
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
pub(crate) fn put_into_ring(source: &ObjectSource, ring: &mut RingWriter) -> Result<Stats, Error> {
    let mut reader = source.blocking_reader()?;
    let cancel = source.settings().options.cancel.as_ref();
    let waker = ring.waker();
    let watch = cancel.map(|cancel| runtime::when_triggered(cancel, move || waker.wake()));
    let _watch = watch.transpose()?;
    let cancel = cancel.cloned();
    ring.stop_when(move || cancel.as_ref().is_some_and(Cancel::is_triggered));
    Stopping(ring).0.put_object(&mut reader)?;
    Ok(reader.stats())
}
