//! Many ranges of one object at once, each into its own buffer, handed on as it is complete.
//!
//! Invariant: as in `buffer`: a borrowed buffer is only taken by a call that waits until no writer
//! is left. A caller that does not wait hands the buffer over, and gets it back when no writer is
//! left.

#![allow(
    unsafe_code,
    reason = "lends borrowed buffers to writers, and waits until they have let go"
)]

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, timeout},
};

use super::{
    buffer::{CancelOnDrop, PROGRESS_EVERY},
    range_buffers::{IntoRanges, Lent},
    reader::Monitor,
    verified::Verified,
};
use crate::{
    Error, ErrorKind, Stats, Verify,
    download::Download,
    engine::state::Engine,
    fork::Own,
    memory::Region,
    options::{Progress, ProgressFn},
    threads::block_on,
};

/// Ranges that are being read into buffers, each of which comes back as it is complete. Dropping it
/// cancels; what has not come back is freed when the last writer has let go of it.
#[must_use]
pub struct Ranges<B> {
    running: Running<(usize, B)>,
}

/// What both forms wait for.
struct Running<T> {
    engine: Arc<Engine>,
    delivery: Arc<Verified<IntoRanges>>,
    complete: Own<UnboundedReceiver<T>>,
    progress: Option<ProgressFn>,
    reported: Instant,
    /// How it failed, as reported; a range that completes later is not given any more.
    failed: Option<Error>,
    _guard: CancelOnDrop,
}

impl<T> Running<T> {
    fn start(
        download: &Download,
        runtime: &Handle,
        buffers: Vec<Lent>,
        complete: UnboundedReceiver<T>,
    ) -> Self {
        let delivery = download.verified(IntoRanges::new(buffers, download.source.name()));
        let wanted = delivery.inner().wanted(download.options.gap);
        let engine = download.start(runtime, Some(wanted), Arc::clone(&delivery) as _);
        Self {
            _guard: CancelOnDrop(Arc::clone(&engine)),
            engine,
            delivery,
            complete: Own::new(complete),
            progress: download.options.progress.clone(),
            reported: Instant::now(),
            failed: None,
        }
    }

    /// The next range that is complete; `None` when all are. An error does not wait for those that
    /// are not.
    async fn next(&mut self) -> Result<Option<T>, Error> {
        self.engine.check_process()?;
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let next = self.next_or_end().await;
        self.failed = next.as_ref().err().cloned();
        next
    }

    async fn next_or_end(&mut self) -> Result<Option<T>, Error> {
        let every = self.progress.as_ref().map_or(Duration::MAX, |_| PROGRESS_EVERY);
        loop {
            if self.reported.elapsed() >= every {
                self.report();
            }
            let left = every.saturating_sub(self.reported.elapsed());
            let next = async {
                tokio::select! {
                    biased;
                    complete = self.complete.recv() => Ok(complete),
                    error = failed(&self.engine) => Err(error),
                }
            };
            match timeout(left, next).await {
                Err(_) => {}
                Ok(Err(error)) => {
                    self.report();
                    return Err(self.delivery.inner().name(error));
                }
                Ok(Ok(Some(complete))) => return Ok(Some(complete)),
                Ok(Ok(None)) => {
                    // All buffers have come back or are gone.
                    let ended = self.engine.ended().await;
                    self.report();
                    ended.map_err(|error| self.delivery.inner().name(error))?;
                    return self.delivery.inner().incomplete().map_or(Ok(None), Err);
                }
            }
        }
    }

    fn report(&mut self) {
        self.reported = Instant::now();
        if let Some(progress) = &self.progress {
            let panics = Panics(&self.engine);
            progress(Progress {
                total: self.engine.total(),
                stats: self.engine.stats(),
            });
            std::mem::forget(panics);
        }
    }
}

/// Dropped when the caller's function panics.
struct Panics<'a>(&'a Engine);

impl Drop for Panics<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Waits for the download's error.
async fn failed(engine: &Engine) -> Error {
    match engine.ended().await {
        Err(error) => error,
        Ok(()) => std::future::pending().await,
    }
}

impl<B> Ranges<B> {
    /// Waits for the next range that is complete, and returns its index in the list and its buffer,
    /// whose first bytes are those of the range; `None` when all ranges have been returned.
    ///
    /// # Cancel safety
    /// Dropping the future loses no range.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(download: &pget_core::Download) -> Result<(), pget_core::Error> {
    /// let mut ranges = download.read_ranges(vec![(0..8, vec![0; 8]), (96..128, vec![0; 32])])?;
    /// while let Some((index, bytes)) = ranges.next().await? {
    ///     println!("range {index}: {} bytes", bytes.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What ended the download, again and again. What was given before is right in any case.
    pub async fn next(&mut self) -> Result<Option<(usize, B)>, Error> {
        self.running.next().await
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.running.engine.stats()
    }

    /// Returns a handle that reports the counters and cancels, for other threads.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor::new(Arc::clone(&self.running.engine))
    }
}

impl<B> fmt::Debug for Ranges<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ranges({:?})", self.running.delivery.inner())
    }
}

/// Borrowed buffers that are lent; waits on drop, after the download was cancelled, until the last
/// writer has let go of them.
struct LentMany {
    running: Option<Running<usize>>,
    runtime: Handle,
}

impl Drop for LentMany {
    fn drop(&mut self) {
        let Some(Running {
            engine, mut complete, ..
        }) = self.running.take()
        else {
            return;
        };
        if engine.is_forked() {
            // A child that came from the caller's function: no writer is there.
            return;
        }
        // Does nothing if the download has ended.
        engine.cancel();
        // Every region has a sender, called or not; the last one is gone with the last region.
        let all = async { while complete.recv().await.is_some() {} };
        block_on(&self.runtime, all);
    }
}

impl Download {
    /// Reads many ranges of one revision of the object, each into its own buffer, from a thread
    /// that may block, on `runtime` (with time enabled).
    ///
    /// Ranges may touch, overlap and be the same, in any order. Those that are closer to each other
    /// than [`gap`](crate::Options::gap) are fetched together. A buffer must be as long as its
    /// range, or longer. `each` is called on this thread as a range is complete, with its place in
    /// the list and its buffer. A range without bytes is complete at once. When the call returns,
    /// nothing writes to the buffers any more; after an error, those that `each` was not called for
    /// have unspecified content.
    ///
    /// # Errors
    /// What ended the download; [`Range`](ErrorKind::Range) if a range goes beyond the object,
    /// telling which; [`BufferTooSmall`](ErrorKind::BufferTooSmall) and
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) (a range that ends before it begins, an
    /// offset, a length or [`Require`](Verify::Require) in the options) before anything is sent.
    ///
    /// # Panics
    /// On a thread of an asynchronous runtime, as tokio's `block_on` does; nothing was sent then.
    #[doc(hidden)]
    pub fn read_ranges_on(
        &self,
        runtime: &Handle,
        ranges: &mut [(Range<u64>, &mut [u8])],
        mut each: impl FnMut(usize, &mut [u8]),
    ) -> Result<Stats, Error> {
        self.check_takes_buffers()?;
        for (index, (range, buffer)) in ranges.iter().enumerate() {
            self.check_range(index, range, buffer.len())?;
        }
        // Panics where waiting is not possible before anything is lent: `LentMany` could not wait
        // either, and to panic again would abort.
        block_on(runtime, async {});
        let (sender, complete) = unbounded_channel();
        let mut lent = LentMany {
            running: None,
            runtime: runtime.clone(),
        };
        let lend = |(index, (range, buffer)): (usize, &mut (Range<u64>, &mut [u8]))| {
            let left = Arc::new(AtomicU64::new(range.end - range.start));
            let (sender, missing) = (sender.clone(), Arc::clone(&left));
            let end = move || {
                if missing.load(Ordering::Acquire) == 0 {
                    // Who waits may have stopped to.
                    sender.send(index).ok();
                }
            };
            // SAFETY: `lent` waits, on every way out of this function, until every sender, and so
            // every `end`, is gone. A buffer is touched before only when `end` was called.
            let region = unsafe { Region::borrowing_until(buffer, end) };
            (range.clone(), left, region)
        };
        let buffers = ranges.iter_mut().enumerate().map(lend).collect();
        drop(sender);
        let running = lent
            .running
            .insert(Running::start(self, runtime, buffers, complete));
        loop {
            // The caller's function may have forked: in the child, the runtime is the parent's.
            running.engine.check_process()?;
            let Some(index) = block_on(runtime, running.next())? else {
                break;
            };
            let (range, buffer) = &mut ranges[index];
            let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            each(index, &mut buffer[..length]);
        }
        Ok(running.engine.stats())
    }

    /// Reads many ranges of one revision of the object, each into a buffer that is given and comes
    /// back as it is complete, on the caller's tokio runtime. As
    /// [`read_ranges_on`](Self::read_ranges_on).
    ///
    /// # Errors
    /// Before anything is sent: [`BufferTooSmall`](ErrorKind::BufferTooSmall),
    /// [`InvalidArgument`](ErrorKind::InvalidArgument).
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    pub fn read_ranges<B: AsMut<[u8]> + Send + 'static>(
        &self,
        ranges: Vec<(Range<u64>, B)>,
    ) -> Result<Ranges<B>, Error> {
        self.check_takes_buffers()?;
        let (sender, complete) = unbounded_channel();
        let mut buffers = Vec::with_capacity(ranges.len());
        for (index, (range, mut buffer)) in ranges.into_iter().enumerate() {
            self.check_range(index, &range, buffer.as_mut().len())?;
            let left = Arc::new(AtomicU64::new(range.end - range.start));
            let (sender, missing) = (sender.clone(), Arc::clone(&left));
            let region = Region::keeping(buffer, move |buffer| {
                if missing.load(Ordering::Acquire) == 0 {
                    // If no caller waits for it, it is freed.
                    drop(sender.send((index, buffer)));
                }
            });
            buffers.push((range, left, region));
        }
        drop(sender);
        Ok(Ranges {
            running: Running::start(self, &Handle::current(), buffers, complete),
        })
    }

    /// Also of no range at all, and of ones without a byte, for which no reply would refuse it.
    fn check_takes_buffers(&self) -> Result<(), Error> {
        self.check_process()?;
        self.check_has_no_range()?;
        if self.options.verify == Verify::Require {
            let message = "verify=require is for whole objects: ranges into many buffers are not verified";
            return Err(self.invalid(message.into()));
        }
        Ok(())
    }

    fn check_range(&self, index: usize, range: &Range<u64>, capacity: usize) -> Result<(), Error> {
        let Some(length) = range.end.checked_sub(range.start) else {
            return Err(self.invalid(format!("range {index} from {} to {}", range.start, range.end)));
        };
        if length > capacity as u64 {
            let message = format!("range {index} has {length} bytes, its buffer {capacity}");
            let error = crate::SourceError::fatal(ErrorKind::BufferTooSmall, message).with_needed(length);
            return Err(Error::from_source(self.source.name(), error));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::{ChunkWriter, ObjectInfo, Options, RangeRequest, RangeSource, SourceError};

    #[derive(Debug)]
    struct Gone;

    #[async_trait]
    impl RangeSource for Gone {
        async fn head(&self) -> Result<ObjectInfo, SourceError> {
            Err(SourceError::fatal(ErrorKind::NotFound, "gone"))
        }

        async fn read(&self, _: &RangeRequest, _: ChunkWriter) -> Result<(), SourceError> {
            Err(SourceError::fatal(ErrorKind::NotFound, "gone"))
        }

        fn name(&self) -> String {
            "gone".into()
        }
    }

    #[tokio::test]
    async fn a_range_that_completes_after_the_error_is_not_given() {
        let download = Download::new(Arc::new(Gone), Options::default()).expect("right");
        let (sender, complete) = unbounded_channel();
        let buffers = vec![(0..8, Arc::new(AtomicU64::new(8)), Region::owning(vec![0; 8]).0)];
        let mut running = Running::start(&download, &Handle::current(), buffers, complete);
        let error = running.next().await.expect_err("gone");
        sender.send(0).expect("it is still there");
        let again = running.next().await.expect_err("the error stays");
        assert_eq!(
            (error.kind(), again.kind()),
            (ErrorKind::NotFound, ErrorKind::NotFound)
        );
    }
}
