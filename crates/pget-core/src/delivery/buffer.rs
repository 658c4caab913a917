//! The delivery into the caller's memory: each chunk is received at its own offset, with no copy.
//!
//! Invariant: when a call returns, or its future returns the buffer, nothing can write to the
//! buffer any more, however the download ended. A borrowed buffer is therefore only taken by the
//! blocking form, which waits; the asynchronous form owns its buffer, and a future that is dropped
//! leaves it to the last writer.

#![allow(
    unsafe_code,
    reason = "lends a borrowed buffer to writers, and waits until they have let go"
)]

use std::{
    ops::Range,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, sync::oneshot, time::timeout};

use super::{landing::Landing, verified::Verified};
use crate::{
    Error, ErrorKind, SourceError,
    budget::Reservation,
    download::Download,
    engine::{
        delivery::{Delivery, Offer, Order},
        state::Engine,
    },
    memory::{Region, SlotMemory},
    options::Progress,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    threads::block_on,
};

/// How often the progress callback is called.
pub(crate) const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Bytes go into a buffer.
pub(crate) struct IntoBuffer {
    /// Taken at the end, so that the buffer goes back to its owner.
    landing: Mutex<Option<Landing>>,
    capacity: u64,
    /// The first reply did not say whether the object fits.
    size_unknown: AtomicBool,
}

impl IntoBuffer {
    /// Into `region`, whose first byte is the byte at `start` of the object.
    fn new(region: Region, start: u64) -> Self {
        Self {
            capacity: region.len() as u64,
            landing: Mutex::new(Some(Landing::new(region, start))),
            size_unknown: AtomicBool::new(false),
        }
    }

    /// Returns whether the download failed because the first reply did not say whether the object
    /// fits.
    fn is_size_unknown(&self) -> bool {
        self.size_unknown.load(Ordering::Relaxed)
    }

    fn landing(&self) -> Option<Landing> {
        self.landing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Delivery for IntoBuffer {
    fn order(&self) -> Order {
        Order::Landing
    }

    fn accept(&self, offer: &Offer<'_>) -> Result<(), SourceError> {
        let Some(end) = offer.end else {
            self.size_unknown.store(true, Ordering::Relaxed);
            return Err(SourceError::fatal(
                ErrorKind::Unsupported,
                "the object's size is not known before its end",
            ));
        };
        let (needed, capacity) = (end - offer.start, self.capacity);
        if needed > capacity {
            let message = format!("{needed} bytes do not fit in {capacity}");
            return Err(SourceError::fatal(ErrorKind::BufferTooSmall, message).with_needed(needed));
        }
        Ok(())
    }

    fn memory_for(&self, _bytes: u64, _page: usize) -> Option<u64> {
        None
    }

    fn slot_memory(&self, _range: &Range<u64>, reserved: Option<Reservation>) -> SlotMemory {
        self.landing()
            .map_or(SlotMemory::Pages(reserved), |landing| landing.slot_memory())
    }

    fn read_back(
        &self,
        range: Range<u64>,
        _buffer: &mut Vec<u8>,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, Error> {
        let landing = self.landing();
        Ok(landing.is_some_and(|landing| landing.read_back(&range, each)))
    }

    fn close(&self) {
        let landing = self.landing.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Outside the lock, as the buffer may go back to its owner.
        drop(landing);
    }
}

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
    #[doc(hidden)]
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
        let delivery = self.buffer_delivery(region);
        let engine = self.start(runtime, None, Arc::clone(&delivery) as _);
        lent.engine = Some(Arc::clone(&engine));
        let result = block_on(runtime, self.ended(&engine)).map(in_memory);
        drop(lent);
        match result {
            Err(_) if delivery.inner().is_size_unknown() => block_on(runtime, self.copy_into(buffer)),
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
        let delivery = self.buffer_delivery(region);
        let engine = self.start(&Handle::current(), None, Arc::clone(&delivery) as _);
        let guard = CancelOnDrop(Arc::clone(&engine));
        let result = self.ended(&engine).await.map(in_memory);
        drop(guard);
        // The sender is only lost with a panic in the buffer's own code.
        let Ok(mut buffer) = returned.await else {
            return (result, None);
        };
        match result {
            Err(_) if delivery.inner().is_size_unknown() => {
                let result = self.copy_into(buffer.as_mut()).await;
                (result, Some(buffer))
            }
            result => (result, Some(buffer)),
        }
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

    fn buffer_delivery(&self, region: Region) -> Arc<Verified<IntoBuffer>> {
        self.verified(IntoBuffer::new(region, self.options.offset))
    }

    /// Waits for the end, and reports the progress until then; returns the number of bytes.
    pub(crate) async fn ended(&self, engine: &Engine) -> Result<u64, Error> {
        let bytes = || engine.total().unwrap_or_default();
        let Some(progress) = &self.options.progress else {
            return engine.ended().await.map(|()| bytes());
        };
        let report = || {
            progress(Progress {
                total: engine.total(),
                stats: engine.stats(),
            })
        };
        loop {
            let ended = timeout(PROGRESS_EVERY, engine.ended()).await;
            report();
            if let Ok(outcome) = ended {
                return outcome.map(|()| bytes());
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
