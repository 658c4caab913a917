//! The writer of a slot, as a source sees it.
//!
//! Invariants: one writer a slot; bytes go to increasing offsets; nothing is accepted before
//! [`ChunkWriter::begin`] has; nothing lands after the request's end.

#![allow(
    unsafe_code,
    reason = "implements bytes::BufMut over shared pages; the argument is at the head of `memory`"
)]

use std::{
    fmt,
    future::poll_fn,
    net::SocketAddr,
    ops::Range,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{BufMut, buf::UninitSlice};
use tokio::time::Instant;

use super::{
    block::PAGE,
    events::{Accepted, WriterEvents},
    page::Page,
    pulse::{Pulse, Waiting},
    slot::{Slot, in_page},
};
use crate::{ErrorKind, Reply, SourceError};

/// The only writer of a request's bytes, handed to [`RangeSource::read`](crate::RangeSource::read).
///
/// Owned and `Send`, so that a blocking read or a cancelled task can never write into memory that
/// has been handed on: until it is dropped, the slot is taken. Bytes are put through [`BufMut`] (so
/// that `read_buf` of tokio and others receive straight into their final memory) and published as
/// they are put; of a download to a [`Destination`](crate::Destination) that takes pages, a page at
/// a time, from the one page that this writer receives into again and again.
pub struct ChunkWriter {
    events: Arc<dyn WriterEvents>,
    attempt: u64,
    pulse: Arc<Pulse>,
    slot: Arc<Slot>,
    /// The page being written and where in the slot it starts. If pages are put, no other code has
    /// it: what is in it up to `at` is not published.
    page: Option<(Arc<Page>, u64)>,
    /// Bytes written, counted from the slot's start.
    at: u64,
    begun: Option<Accepted>,
    /// Bytes that come before the next one wanted.
    skip: u64,
    /// Where they land.
    scratch: Option<Arc<Page>>,
    /// While withheld: where the unpublished bytes begin, counted from the slot's start.
    withheld_from: Option<u64>,
    /// The destination takes nothing any more. Bytes are still accepted, as `BufMut` cannot refuse
    /// them, and forgotten.
    refused: bool,
}

impl ChunkWriter {
    /// A writer from the slot's watermark on, or `None` while the slot has another writer.
    pub(crate) fn claim(events: Arc<dyn WriterEvents>, attempt: u64, slot: Arc<Slot>) -> Option<Self> {
        slot.claim().then(|| {
            let at = slot.filled();
            let pulse = Arc::default();
            Self {
                events,
                attempt,
                pulse,
                slot,
                page: None,
                at,
                begun: None,
                skip: 0,
                scratch: None,
                withheld_from: None,
                refused: false,
            }
        })
    }

    pub(crate) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Reports what the server said, before any byte. Must be called once.
    ///
    /// # Errors
    /// If the reply does not answer the request, or is of another revision than the pinned one:
    /// return the error from `read`.
    pub fn begin(&mut self, reply: Reply) -> Result<(), SourceError> {
        if self.begun.is_some() {
            return Err(SourceError::fatal(
                ErrorKind::Internal,
                "the source began the same chunk twice",
            ));
        }
        let accepted = self.events.accept_reply(self.attempt, &reply)?;
        self.begun = Some(accepted);
        // When nothing is wanted there is nothing to skip to.
        let wanted = accepted.end.is_none_or(|end| end > self.position());
        self.skip_next(if wanted { accepted.skip } else { 0 });
        self.pulse.begun.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Reports the address that the bytes come from, as soon as it is known. If this attempt turns
    /// out far slower than the others, the next one is asked to [avoid](crate::RangeRequest::avoid)
    /// it. Only the first call counts.
    pub fn comes_from(&self, address: SocketAddr) {
        self.pulse.from.get_or_init(|| address);
    }

    /// Reports that the request was sent so long before the read began, and was answered by then:
    /// a caller has sent it to learn of the object. It is how long answers take. Call it before
    /// [`begin`](Self::begin); only the first call counts.
    pub fn asked_before(&self, time: Duration) {
        self.pulse.asked_before.get_or_init(|| time);
    }

    /// Waits until there is room for at least one byte; `false` when the request has all its bytes.
    ///
    /// Returns at once for a request of one chunk, whose slot is reserved beforehand. In a request
    /// that spans chunks it waits for the consumer to make room in the window; no deadline of the
    /// transport should run during that wait.
    ///
    /// # Errors
    /// If nothing was [begun](Self::begin), or the download is over.
    pub async fn ready(&mut self) -> Result<bool, SourceError> {
        let Some(accepted) = self.begun else {
            return Err(SourceError::fatal(
                ErrorKind::Internal,
                "the source writes before it has begun the chunk",
            ));
        };
        if self.refused {
            return Err(SourceError::fatal(
                ErrorKind::Cancelled,
                "the download's destination takes no more bytes",
            ));
        }
        if self.skip > 0 {
            return Ok(true);
        }
        if accepted.end.is_some_and(|end| self.position() >= end) {
            return Ok(false);
        }
        if self.slot.start() + self.at < self.slot.end() {
            return Ok(true);
        }
        let waiting = Waiting::new(&self.pulse);
        let mut since = None;
        let next = poll_fn(|cx| {
            let next = self.events.poll_next_slot(self.attempt, cx);
            if next.is_pending() {
                since.get_or_insert_with(Instant::now);
            }
            next
        })
        .await?;
        drop(waiting);
        if let Some(since) = since {
            self.events.waited(since.elapsed());
        }
        let Some(gap) = next.start().checked_sub(self.position()) else {
            return Err(SourceError::fatal(
                ErrorKind::Internal,
                "the next slot of the stream is not the next",
            ));
        };
        if !next.claim() {
            return Err(SourceError::fatal(
                ErrorKind::Internal,
                "the next slot of the stream has another writer",
            ));
        }
        // A whole page of its own can go on to the next slot; the other kinds are the slot's, or
        // made to its measure.
        let page = self
            .page
            .take()
            .filter(|(page, _)| self.slot.puts() && page.len() == next.page_length());
        self.slot.release_writer();
        self.slot = next;
        self.at = self.slot.filled();
        if self.slot.puts() {
            self.page = page.map(|(page, _)| (page, self.at));
        }
        // The bytes between two extents are not wanted.
        self.skip_next(gap);
        Ok(true)
    }

    /// Puts what the chunk wants of `bytes`, waits for room as [`ready`](Self::ready) does, and
    /// returns the bytes that it does not want.
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub async fn put_wanted<'b>(&mut self, mut bytes: &'b [u8]) -> Result<&'b [u8], SourceError> {
        while !bytes.is_empty() && self.ready().await? {
            let (now, later) = bytes.split_at(bytes.len().min(self.remaining_mut()));
            self.put_slice(now);
            bytes = later;
        }
        Ok(bytes)
    }

    /// Lets `fill` write into the memory that the next bytes belong in (at most `most` bytes, at
    /// most a page), publishes the first bytes of it, and returns their count. Works with any
    /// reader.
    ///
    /// `fill` returns how many bytes it wrote, from the beginning of the slice that it gets. The
    /// slice holds arbitrary bytes: zeros, or bytes of an earlier read.
    ///
    /// # Errors
    /// The error of `fill`. Nothing is published in that case.
    ///
    /// # Panics
    /// If `fill` returns more than the length of its slice.
    ///
    /// # Examples
    /// `fill` cannot make the memory uninitialised, which may be the caller's own buffer:
    /// ```compile_fail,E0308
    /// # fn f(writer: &mut pget_core::ChunkWriter) {
    /// writer.put_with(1, |room| {
    ///     room[0] = std::mem::MaybeUninit::uninit();
    ///     Err("failed")
    /// });
    /// # }
    /// ```
    /// A read of a file, or of anything that implements [`Read`](std::io::Read):
    /// ```
    /// # use std::io::Read;
    /// # use pget_core::ChunkWriter;
    /// # fn f(writer: &mut ChunkWriter, mut from: std::fs::File) -> std::io::Result<()> {
    /// writer.put_with(1 << 20, |room| from.read(room))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn put_with<E>(
        &mut self,
        most: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let length = self.remaining_mut().min(most);
        let room: &mut [u8] = match self.page_at_hand() {
            None => &mut [],
            Some((page, range)) => {
                let range = range.start..range.end.min(range.start.saturating_add(length));
                // SAFETY: as in `chunk_mut`; the bytes of the page before `range` were put.
                unsafe { page.unfilled_initialised(range) }
            }
        };
        let most = room.len();
        let count = fill(room)?;
        assert!(count <= most, "{count} bytes were put where {most} have room");
        // SAFETY: they are initialised, and not more than `page_at_hand` has room for.
        unsafe { self.advance_mut(count) };
        Ok(count)
    }

    /// The page and the bytes of it that come next, or `None` if no byte is wanted.
    fn page_at_hand(&mut self) -> Option<(&Page, Range<usize>)> {
        let room = self.remaining_mut();
        if room == 0 {
            return None;
        }
        if self.skip > 0 {
            let length = room.min(PAGE);
            let page = self
                .scratch
                .get_or_insert_with(|| self.slot.page_of_writer(length));
            let length = length.min(page.len());
            return Some((page, 0..length));
        }
        if self
            .page
            .as_ref()
            .is_none_or(|(page, start)| self.at >= start + page.len() as u64)
        {
            self.page = Some(if self.slot.puts() && self.withheld_from.is_none() {
                let length = in_page(self.room().min(self.slot.page_length() as u64));
                (self.slot.page_of_writer(length), self.at)
            } else {
                self.slot.page_for_write(self.at)
            });
        }
        let (page, page_start) = self.page.as_ref()?;
        let from = in_page(self.at - page_start);
        Some((page, from..page.len().min(from.saturating_add(room))))
    }

    /// Ready while the consumer waits for the bytes that come next, or will as soon as it has taken
    /// those that are there. Pending while other chunks come first: a transport may then let bytes
    /// gather for a while, up to about 100 ms. The task of `cx` is woken when that changes.
    pub fn poll_awaited(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.events.poll_awaited(&self.slot, cx)
    }

    /// Offset in the object of the next byte to be put.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.slot.start() + self.at
    }

    /// Bytes of the body still wanted, those to be skipped included; `None` when only the body's
    /// end shows it.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        self.begun?
            .end
            .map(|end| end.saturating_sub(self.position()) + self.skip)
    }

    /// From here on, keeps bytes from the consumer until [`release`](Self::release): for a range
    /// whose checksum is only known at its end. If the writer is dropped before, the bytes are
    /// forgotten.
    ///
    /// # Errors
    /// In a request that spans chunks: those are handed out as they fill.
    pub fn withhold(&mut self) -> Result<(), SourceError> {
        let end = self.begun.and_then(|accepted| accepted.end);
        if end.is_none_or(|end| end > self.slot.end()) {
            return Err(SourceError::fatal(
                ErrorKind::Unsupported,
                "a body that spans chunks cannot be withheld",
            ));
        }
        if self.withheld_from.is_none() {
            self.put_page();
            // What is withheld is kept in the slot's pages.
            self.page = None;
            self.withheld_from = Some(self.at);
            self.events.withholds();
        }
        Ok(())
    }

    /// Calls `each` with the bytes put since [`withhold`](Self::withhold), in order.
    pub fn read_withheld(&self, mut each: impl FnMut(&[u8])) {
        let Some(from) = self.withheld_from else { return };
        for (page, range) in self.slot.pages_of(from..self.at) {
            // SAFETY: this writer put all bytes of `from..self.at` (`advance_mut`'s contract) and
            // is `&self` here, so none is being written.
            each(unsafe { page.filled(range) });
        }
    }

    /// Publishes what was withheld.
    pub fn release(&mut self) {
        let Some(from) = self.withheld_from.take() else {
            return;
        };
        if self.slot.puts() {
            self.page = None;
            for (page, range) in self.slot.pages_of(from..self.at) {
                // SAFETY: as in `read_withheld`.
                let bytes = unsafe { page.filled(range) };
                let _waiting = Waiting::new(&self.pulse);
                self.refused = self.refused || !self.events.put(&self.slot, bytes);
            }
            self.slot.clear();
        } else {
            self.slot.publish(self.at);
            let start = self.slot.start();
            self.events.published(&self.slot, start + from..start + self.at);
        }
    }

    fn skip_next(&mut self, bytes: u64) {
        self.skip = bytes;
        self.pulse.to_skip.store(bytes, Ordering::Relaxed);
        if bytes == 0 {
            self.scratch = None;
        }
    }

    /// Hands what is in the page to the destination; the page is then empty.
    fn put_page(&mut self) {
        let filled = self.slot.filled();
        if !self.slot.puts() || self.withheld_from.is_some() || self.at == filled {
            return;
        }
        let Some((page, page_start)) = &mut self.page else {
            return;
        };
        if !self.refused {
            // SAFETY: this writer put all bytes from the page's beginning to `self.at`
            // (`advance_mut`'s contract), and no other code has the page.
            let bytes = unsafe { page.filled(0..in_page(self.at - *page_start)) };
            // It may block, which is no fault of the source's.
            let _waiting = Waiting::new(&self.pulse);
            self.refused = !self.events.put(&self.slot, bytes);
        }
        *page_start = self.at;
    }

    fn room(&self) -> u64 {
        let end = match self.begun {
            None => return 0,
            Some(Accepted { end: Some(end), .. }) => end.min(self.slot.end()),
            Some(Accepted { end: None, .. }) => self.slot.end(),
        };
        end.saturating_sub(self.position())
    }
}

// SAFETY: `chunk_mut` is never empty while `remaining_mut` is not zero, and `advance_mut` moves
// only over bytes that `chunk_mut` gave out.
unsafe impl BufMut for ChunkWriter {
    /// Room in the chunk at hand, or bytes to be skipped; 0 before `begin`, and at a chunk's end
    /// until [`ready`](Self::ready) has been asked.
    fn remaining_mut(&self) -> usize {
        let room = if self.skip > 0 { self.skip } else { self.room() };
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        let Some((page, range)) = self.page_at_hand() else {
            return UninitSlice::new(&mut []);
        };
        // SAFETY: this is the slot's only writer (claimed), its position is never below the
        // watermark, and nothing else has a page of the writer's own. The borrow of `self` keeps
        // the slice unique.
        let unfilled = unsafe { page.unfilled(range) };
        UninitSlice::uninit(unfilled)
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        let count = count as u64;
        self.pulse.bytes.fetch_add(count, Ordering::Relaxed);
        if self.skip > 0 {
            assert!(count <= self.skip, "advanced beyond what chunk_mut gave");
            self.skip_next(self.skip - count);
            return;
        }
        assert!(count <= self.room(), "advanced beyond what chunk_mut gave");
        self.at += count;
        if self.withheld_from.is_some() {
            return;
        }
        if self.slot.puts() {
            let is_full = self
                .page
                .as_ref()
                .is_some_and(|(page, start)| self.at >= start + page.len() as u64);
            if is_full || self.room() == 0 {
                self.put_page();
            }
            return;
        }
        self.slot.publish(self.at);
        let position = self.position();
        self.events.published(&self.slot, position - count..position);
    }
}

impl Drop for ChunkWriter {
    fn drop(&mut self) {
        // Their reply passed the checks: the next attempt need not bring them again. A panic ends
        // the download.
        if !std::thread::panicking() {
            self.put_page();
        }
        self.page = None;
        self.slot.release_writer();
        self.events.writer_dropped();
    }
}

impl fmt::Debug for ChunkWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkWriter")
            .field("chunk", &self.slot.chunk())
            .field("position", &self.position())
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}
