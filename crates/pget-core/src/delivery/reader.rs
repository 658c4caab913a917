//! The in-order reader: leases at the cursor, as a stream, as `AsyncRead` and `AsyncBufRead`, and
//! copied to a writer.
//!
//! Invariants: bytes come in order, each once, all of one revision; the end is reported only after
//! every attempt has ended well, so that a body that turns out wrong after its last byte is still
//! an error.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::Instant,
};

use super::{in_order::InOrder, verified::Verified};
use crate::{
    Error, ErrorKind, Lease, ObjectInfo, Stats,
    engine::state::{AtCursor, Engine},
    fork::Own,
    memory::Slot,
    options::{Progress, ProgressFn},
    verify::Passing,
};

/// Reads an object in order while it is being fetched in parallel.
///
/// The bytes at the cursor are handed out as they arrive. Dropping the reader cancels the download
/// and closes its connections. Errors are final: after one, every call returns the same one.
pub struct Reader {
    engine: Own<Arc<Engine>>,
    delivery: Own<Arc<Verified<InOrder>>>,
    progress: Option<ProgressFn>,
    /// The slot at the cursor.
    slot: Option<Arc<Slot>>,
    /// Offset in the object of the next byte to be leased.
    position: u64,
    /// The lease from which `poll_fill_buf` lends.
    lent: Option<Lease>,
    /// The `Stream` has returned its error.
    failed: bool,
    verifying: Verifying,
    /// The lease that may be the object's last. It is withheld until that is known and the object
    /// is verified.
    withheld: Option<Lease>,
    /// When a call found nothing.
    waits_since: Option<Instant>,
}

/// Where the reader stands with the published checksum.
#[derive(Debug)]
enum Verifying {
    /// Nothing has come yet.
    Undecided,
    Running(Passing),
    /// Done, or nothing to do.
    Settled,
}

impl Reader {
    pub(crate) fn new(
        engine: Arc<Engine>,
        delivery: Arc<Verified<InOrder>>,
        progress: Option<ProgressFn>,
    ) -> Self {
        let position = engine.state().schedule.plan().start();
        Self {
            engine: Own::new(engine),
            delivery: Own::new(delivery),
            progress,
            slot: None,
            position,
            lent: None,
            failed: false,
            verifying: Verifying::Undecided,
            withheld: None,
            waits_since: None,
        }
    }

    /// Returns what the first reply said of the object; waits for it.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(reader: &pget_core::Reader) -> Result<(), pget_core::Error> {
    /// println!("{:?} bytes", reader.info().await?.size);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the download fails before.
    pub async fn info(&self) -> Result<ObjectInfo, Error> {
        loop {
            self.engine.check_process()?;
            // Enabled before the look, so that no notice falls between.
            let mut begun = std::pin::pin!(self.engine.begun.notified());
            begun.as_mut().enable();
            if let Some(info) = self.engine.pinned()? {
                return Ok(ObjectInfo::clone(&info));
            }
            if self.engine.is_over() {
                return Ok(ObjectInfo::default());
            }
            begun.await;
        }
    }

    /// Bytes that this reader will give in all, once that is known: the object's size less what
    /// offset and length cut off.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.engine.total()
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Returns a handle that reports the counters and cancels, for other threads.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor(Own::clone(&self.engine))
    }

    /// Returns the next bytes, without a copy; `None` at the end.
    ///
    /// # Cancel safety
    /// Dropping the future loses no byte.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(reader: &mut pget_core::Reader) -> Result<(), pget_core::Error> {
    /// while let Some(lease) = reader.next().await? {
    ///     println!("{} bytes at {}", lease.len(), lease.offset());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns the error that ended the download.
    pub async fn next(&mut self) -> Result<Option<Lease>, Error> {
        std::future::poll_fn(|cx| self.poll_lease(cx)).await
    }

    /// Writes all remaining bytes to `writer`, and flushes; returns the number of bytes.
    ///
    /// # Cancel safety
    /// Dropping the future leaves an unknown number of bytes written.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(reader: &mut pget_core::Reader) -> Result<(), pget_core::Error> {
    /// let mut bytes = Vec::new();
    /// let count = reader.copy_to(&mut bytes).await?;
    /// assert_eq!(count, bytes.len() as u64);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns the error that ended the download, or [`Destination`](ErrorKind::Destination) if the
    /// writer failed.
    pub async fn copy_to<W: AsyncWrite + Unpin + ?Sized>(&mut self, writer: &mut W) -> Result<u64, Error> {
        let mut written = 0;
        while let Some(lease) = self.next().await? {
            writer
                .write_all(&lease)
                .await
                .map_err(|cause| self.destination_failed(cause))?;
            written += lease.len() as u64;
        }
        writer
            .flush()
            .await
            .map_err(|cause| self.destination_failed(cause))?;
        Ok(written)
    }

    pub(crate) fn destination_failed(&self, cause: io::Error) -> Error {
        let error = Error::with_cause(ErrorKind::Destination, self.engine.object(), "", cause);
        self.engine.fail_after_delivery(error.clone());
        error
    }

    /// As [`next`](Self::next), for hand-written futures.
    pub fn poll_lease(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, Error>> {
        self.engine.check_process()?;
        if let Some(lease) = self.lent.take() {
            return Poll::Ready(Ok(Some(lease)));
        }
        if let Some(result) = self.try_lease() {
            self.waited();
            return Poll::Ready(result);
        }
        self.engine.reader_waker.register(cx.waker());
        // Check again: bytes that arrived before the waker was registered did not wake it.
        match self.try_lease() {
            Some(result) => {
                self.waited();
                Poll::Ready(result)
            }
            None => {
                self.waits_since.get_or_insert_with(Instant::now);
                Poll::Pending
            }
        }
    }

    /// The next bytes if they are there.
    pub(crate) fn try_lease(&mut self) -> Option<Result<Option<Lease>, Error>> {
        loop {
            if self.engine.is_over() || self.slot.is_none() {
                match self.engine.at_cursor() {
                    Err(error) => {
                        self.slot = None;
                        return Some(Err(error));
                    }
                    Ok(AtCursor::End) => {
                        if let Err(error) = self.settle() {
                            return Some(Err(error));
                        }
                        let last = self.withheld.take();
                        return Some(Ok(last.map(|lease| self.hand_out(lease))));
                    }
                    Ok(AtCursor::Nothing) => return None,
                    Ok(AtCursor::Slot(slot)) => self.slot = Some(slot),
                }
            }
            let slot = self.slot.as_ref()?;
            if let Some(lease) = slot.lease(self.position) {
                self.position += lease.len() as u64;
                match self.verify(lease) {
                    Ok(Some(lease)) => return Some(Ok(Some(self.hand_out(lease)))),
                    Ok(None) => continue,
                    Err(error) => return Some(Err(error)),
                }
            }
            if self.position < slot.end() {
                return None;
            }
            self.slot = None;
            self.engine.consumed();
        }
    }
}

/// Verification on the way to the consumer, where the bytes are in cache.
impl Reader {
    /// The lease to hand out next. The object's last one comes only when all of it is verified; of
    /// an object whose end is not known, any may be the last.
    fn verify(&mut self, lease: Lease) -> Result<Option<Lease>, Error> {
        if matches!(self.verifying, Verifying::Undecided) {
            self.decide();
        }
        let Verifying::Running(check) = &mut self.verifying else {
            return Ok(Some(lease));
        };
        check.update(&lease);
        let total = self.engine.total();
        if total == Some(self.position) {
            self.settle()?;
        }
        if total.is_some() && self.withheld.is_none() {
            return Ok(Some(lease));
        }
        Ok(self.withheld.replace(lease))
    }

    fn decide(&mut self) {
        self.verifying = match self.delivery.expected() {
            Some(expected) => Verifying::Running(Passing::new(expected)),
            None => Verifying::Settled,
        };
    }

    /// All bytes have passed.
    fn settle(&mut self) -> Result<(), Error> {
        if matches!(self.verifying, Verifying::Undecided) {
            self.decide();
        }
        match std::mem::replace(&mut self.verifying, Verifying::Settled) {
            Verifying::Running(check) => self
                .delivery
                .compared(check.finish())
                .inspect_err(|error| self.engine.fail_after_delivery(error.clone())),
            Verifying::Undecided | Verifying::Settled => Ok(()),
        }
    }

    /// The consumer waits no more, if it did.
    fn waited(&mut self) {
        if let Some(since) = self.waits_since.take() {
            self.engine.counters.consumer_wait.add(since.elapsed());
        }
    }

    fn hand_out(&self, lease: Lease) -> Lease {
        self.engine
            .counters
            .delivered
            .fetch_add(lease.len() as u64, Ordering::Relaxed);
        if let Some(progress) = &self.progress {
            let lost = Lost(&self.engine);
            progress(Progress {
                total: self.engine.total(),
                stats: self.engine.stats(),
            });
            std::mem::forget(lost);
        }
        lease
    }
}

/// Dropped when the caller's function panics, and the lease with it: a caller that goes on reading
/// must not get what follows it.
struct Lost<'a>(&'a Engine);

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        let message = "the progress function panicked";
        self.0
            .fail_after_delivery(Error::new(ErrorKind::Cancelled, self.0.object(), message));
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.engine.abandon();
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("object", &self.engine.object())
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

/// Reports how a download stands, and cancels it, from any thread; does not keep it alive.
///
/// # Examples
/// ```no_run
/// # fn example(reader: &pget_core::BlockingReader) {
/// let monitor = reader.monitor();
/// std::thread::spawn(move || {
///     std::thread::sleep(std::time::Duration::from_secs(60));
///     println!("{} of {:?} bytes", monitor.stats().delivered, monitor.total());
///     monitor.cancel();
/// });
/// # }
/// ```
#[derive(Clone)]
pub struct Monitor(Own<Arc<Engine>>);

impl Monitor {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self(Own::new(engine))
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// Bytes to be delivered in all, once that is known.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.0.total()
    }

    /// Ends the download: the reader returns [`Cancelled`](ErrorKind::Cancelled) from here on, also
    /// to a call that waits now.
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Monitor({})", self.0.object())
    }
}

impl Stream for Reader {
    type Item = Result<Lease, Error>;

    /// Ends after the first error.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.failed {
            return Poll::Ready(None);
        }
        let item = ready!(this.poll_lease(cx)).transpose();
        this.failed = matches!(item, Some(Err(_)));
        Poll::Ready(item)
    }
}

impl AsyncBufRead for Reader {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        this.engine.check_process()?;
        if this.lent.as_ref().is_none_or(|lease| lease.is_empty()) {
            this.lent = None;
            this.lent = ready!(this.poll_lease(cx))?;
        }
        Poll::Ready(Ok(this.lent.as_deref().unwrap_or_default()))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        if amount > 0 {
            self.get_mut().consume_lent(amount);
        }
    }
}

impl Reader {
    /// The lease that is lent by `poll_fill_buf`, if any of it is left.
    pub(crate) fn lent(&self) -> Option<&Lease> {
        self.lent.as_ref().filter(|lease| !lease.is_empty())
    }

    /// # Errors
    /// [`Forked`](ErrorKind::Forked) in a child that was forked since.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        self.engine.check_process()
    }

    pub(crate) fn lend(&mut self, lease: Option<Lease>) -> &[u8] {
        self.lent = lease;
        self.lent.as_deref().unwrap_or_default()
    }

    pub(crate) fn consume_lent(&mut self, amount: usize) {
        let Some(lease) = &mut self.lent else { return };
        lease.advance(amount.min(lease.len()));
        if lease.is_empty() {
            // Its page can be used again at once.
            self.lent = None;
        }
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let bytes = ready!(self.as_mut().poll_fill_buf(cx))?;
        let count = bytes.len().min(buf.remaining());
        buf.put_slice(&bytes[..count]);
        self.consume(count);
        Poll::Ready(Ok(()))
    }
}
