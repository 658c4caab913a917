//! Straight to where the bytes are to be: the caller's memory, where each chunk is received at its
//! own offset with no ring and no copy, or a [`Destination`].
//!
//! Invariant: when a call returns, or its future returns the buffer, nothing can write to the
//! buffer any more, however the download ended. A borrowed buffer is therefore only taken by the
//! blocking form, which waits; the asynchronous form owns its buffer, and a future that is dropped
//! leaves it to the last writer.

#![allow(
    unsafe_code,
    reason = "lends a borrowed buffer to writers, and waits until they have let go"
)]

use std::{ops::Range, sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::oneshot, time::timeout};

use super::destination::Destination;
use crate::{
    Error, ErrorKind, Stats,
    download::Download,
    engine::state::{Engine, Sink},
    memory::Region,
    options::Progress,
    threads::block_on,
};

/// How often the progress callback is called.
pub(crate) const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Waits, when dropped, until the last writer has let go of the borrowed buffer.
struct LetGo {
    free: Option<oneshot::Receiver<()>>,
    runtime: Handle,
    engine: Option<Arc<Engine>>,
}

impl Drop for LetGo {
    fn drop(&mut self) {
        if self.engine.as_ref().is_some_and(|engine| engine.is_forked()) {
            // A child that came from the progress function: no writer is there.
            return;
        }
        if let Some(engine) = self.engine.take() {
            // Does nothing if the download has ended; else (a panic of the progress callback) it
            // must not go on.
            engine.cancel();
        }
        if let Some(free) = self.free.take() {
            // An error means that the sender is gone, which it is only with the region.
            drop(block_on(&self.runtime, free));
        }
    }
}

impl Download {
    /// Reads into `buffer` from a thread that may block, on `runtime` (with time enabled);
    /// returns the number of bytes.
    ///
    /// When it returns, nothing writes to `buffer` any more. After an error the buffer's content is
    /// unspecified. Except after [`BufferTooSmall`](ErrorKind::BufferTooSmall) from an object of
    /// known size: then nothing was written.
    ///
    /// # Errors
    /// What ended the download; [`BufferTooSmall`](ErrorKind::BufferTooSmall) with the [needed
    /// size](Error::needed), if it is known.
    ///
    /// # Panics
    /// On a thread of an asynchronous runtime, as tokio's `block_on` does; nothing was sent then.
    pub fn read_into_on(&self, runtime: &Handle, buffer: &mut [u8]) -> Result<usize, Error> {
        self.check_process()?;
        // Panics where waiting is not possible before anything is lent: `LetGo` could not wait
        // either, and to panic again would abort.
        block_on(runtime, async {});
        // SAFETY: `LetGo` waits, on every way out of this block, until the region is gone; `buffer`
        // is not touched before.
        let (region, free) = unsafe { Region::borrowing(buffer) };
        let mut lent = LetGo {
            free: Some(free),
            runtime: runtime.clone(),
            engine: None,
        };
        let engine = self.start(runtime, Sink::Region(region));
        lent.engine = Some(Arc::clone(&engine));
        let result = block_on(runtime, self.placed(&engine)).map(in_memory);
        drop(lent);
        match result {
            Err(_) if engine.is_size_unknown() => block_on(runtime, self.copy_into(buffer)),
            result => result,
        }
    }

    /// Reads into `buffer` on the caller's tokio runtime; returns the number of bytes, and the
    /// buffer.
    ///
    /// Dropping the future cancels; the buffer is then freed when the last writer has let go of it.
    /// Errors as [`read_into_on`](Self::read_into_on).
    pub async fn read_into<B: AsMut<[u8]> + Send + 'static>(
        &self,
        buffer: B,
    ) -> (Result<usize, Error>, Option<B>) {
        if let Err(error) = self.check_process() {
            return (Err(error), Some(buffer));
        }
        let (region, returned) = Region::owning(buffer);
        let engine = self.start(&Handle::current(), Sink::Region(region));
        let guard = CancelOnDrop(Arc::clone(&engine));
        let result = self.placed(&engine).await.map(in_memory);
        drop(guard);
        // The sender is only lost with a panic in the buffer's own code.
        let Ok(mut buffer) = returned.await else {
            return (result, None);
        };
        match result {
            Err(_) if engine.is_size_unknown() => {
                let result = self.copy_into(buffer.as_mut()).await;
                (result, Some(buffer))
            }
            result => (result, Some(buffer)),
        }
    }

    /// Reads to `destination` on the caller's tokio runtime; returns what was done, `delivered`
    /// being the number of bytes placed.
    ///
    /// When it has returned, well or not, nothing gets to the destination any more, and all that
    /// got there was reported to [`landed`](Destination::landed). Dropping the future cancels, and
    /// does not wait: calls of the destination that have begun then go on to their end, and
    /// memory of a [`Transfer::Memory`](super::Transfer::Memory) is dropped when the last writer
    /// has let go of it.
    ///
    /// # Errors
    /// What ended the download, or the destination's error.
    pub async fn read_to(&self, destination: Arc<dyn Destination>) -> Result<Stats, Error> {
        let sink = Sink::Destination(destination, None);
        self.read_to_sink(&Handle::current(), sink).await
    }

    /// The same from a thread that may block, on `runtime` (with time enabled).
    ///
    /// # Errors
    /// As [`read_to`](Self::read_to).
    ///
    /// # Panics
    /// On a thread of an asynchronous runtime, as tokio's `block_on` does.
    pub fn read_to_on(&self, runtime: &Handle, destination: Arc<dyn Destination>) -> Result<Stats, Error> {
        self.check_process()?;
        block_on(
            runtime,
            self.read_to_sink(runtime, Sink::Destination(destination, None)),
        )
    }

    /// Reads only `extents` of the object to `destination`, as [`read_to`](Self::read_to) does:
    /// what is missing of it. In any order; what lies beyond the object's end is left out. The
    /// [`Transfer::Memory`](super::Transfer::Memory) of a destination reaches from the first byte
    /// of the first to the last of the last. If nothing is wanted, nothing is sent, and the
    /// destination is not called.
    ///
    /// # Errors
    /// As [`read_to`](Self::read_to); [`InvalidArgument`](ErrorKind::InvalidArgument) if an extent
    /// ends before it begins, or an offset or a length is set; what the destination says of [the
    /// extents](Destination::check_extents).
    pub async fn read_extents_to(
        &self,
        extents: &[Range<u64>],
        destination: Arc<dyn Destination>,
    ) -> Result<Stats, Error> {
        let extents = self.extents(extents)?;
        destination.check_extents(&extents)?;
        let sink = Sink::Destination(destination, Some(extents));
        self.read_to_sink(&Handle::current(), sink).await
    }

    /// The same from a thread that may block, on `runtime` (with time enabled).
    ///
    /// # Errors
    /// As [`read_extents_to`](Self::read_extents_to).
    ///
    /// # Panics
    /// On a thread of an asynchronous runtime, as tokio's `block_on` does.
    pub fn read_extents_to_on(
        &self,
        runtime: &Handle,
        extents: &[Range<u64>],
        destination: Arc<dyn Destination>,
    ) -> Result<Stats, Error> {
        let extents = self.extents(extents)?;
        destination.check_extents(&extents)?;
        let sink = Sink::Destination(destination, Some(extents));
        block_on(runtime, self.read_to_sink(runtime, sink))
    }

    fn extents(&self, extents: &[Range<u64>]) -> Result<Vec<Range<u64>>, Error> {
        self.check_process()?;
        self.check_has_no_range()?;
        for extent in extents {
            if extent.start > extent.end {
                return Err(self.invalid(format!("an extent from {} to {}", extent.start, extent.end)));
            }
        }
        Ok(extents.to_vec())
    }

    pub(crate) fn check_has_no_range(&self) -> Result<(), Error> {
        if self.options.offset != 0 || self.options.length.is_some() {
            return Err(self.invalid("an offset or a length besides ranges".into()));
        }
        Ok(())
    }

    pub(crate) fn invalid(&self, message: String) -> Error {
        Error::new(ErrorKind::InvalidArgument, self.source.name(), message)
    }

    async fn read_to_sink(&self, runtime: &Handle, sink: Sink) -> Result<Stats, Error> {
        self.check_process()?;
        let engine = self.start(runtime, sink);
        let guard = CancelOnDrop(Arc::clone(&engine));
        let result = self.placed(&engine).await;
        drop(guard);
        engine.destination_deserted().await;
        result.map(|_| engine.stats())
    }

    /// Waits for the end, and reports the progress until then.
    async fn placed(&self, engine: &Engine) -> Result<u64, Error> {
        let Some(progress) = &self.options.progress else {
            engine.ended().await?;
            return Ok(engine.placed_bytes());
        };
        let tell = || {
            progress(Progress {
                total: engine.total(),
                stats: engine.stats(),
            })
        };
        loop {
            let ended = timeout(PROGRESS_EVERY, engine.ended()).await;
            tell();
            if let Ok(outcome) = ended {
                return outcome.map(|()| engine.placed_bytes());
            }
        }
    }

    /// In order and with a copy, for an object whose size only its end shows.
    async fn copy_into(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut reader = self.reader();
        let mut filled = 0;
        while let Some(lease) = reader.next().await? {
            let end = filled + lease.len();
            let place = buffer.get_mut(filled..end).ok_or_else(|| {
                Error::new(
                    ErrorKind::BufferTooSmall,
                    self.source.name(),
                    "the object is longer, and does not say how long",
                )
            })?;
            place.copy_from_slice(&lease);
            filled = end;
        }
        Ok(filled)
    }
}

/// The number of bytes that are in memory, and so can be counted there.
fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or_default()
}

/// Ends the download of a future that is dropped.
pub(crate) struct CancelOnDrop(pub(crate) Arc<Engine>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
