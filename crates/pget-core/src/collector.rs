//! A place for one request's bytes without a download: for tests of sources.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use crate::{
    ErrorKind, RangeRequest, Reply, SourceError,
    memory::{Accepted, ChunkWriter, Gauge, Slot, SlotMemory, WriterEvents},
    revision::accept,
};

/// Collects what a source writes for one request of one chunk. It checks a reply against the
/// request and against the pinned revision, as a download does, but neither retries nor goes on to
/// a second chunk.
///
/// # Examples
/// ```no_run
/// # async fn example(source: &dyn pget_core::RangeSource) {
/// let request = pget_core::RangeRequest::new(0, Some(4096));
/// let collector = pget_core::Collector::new(request.clone());
/// let writer = collector.writer().expect("the first one");
/// source.read(&request, writer).await.expect("the source serves it");
/// # }
/// ```
#[derive(Debug)]
pub struct Collector {
    state: Arc<CollectorState>,
    slot: Arc<Slot>,
}

#[derive(Debug)]
struct CollectorState {
    request: RangeRequest,
    slot: Arc<Slot>,
    reply: Mutex<Option<Reply>>,
}

impl CollectorState {
    fn rest(&self) -> RangeRequest {
        RangeRequest {
            start: self.slot.position(),
            ..self.request.clone()
        }
    }
}

impl Collector {
    /// For `request`, which must have an end.
    #[must_use]
    pub fn new(request: RangeRequest) -> Self {
        let end = request.end.unwrap_or(request.start);
        let slot = Slot::new(
            0,
            request.start..end,
            Arc::new(Gauge::default()),
            SlotMemory::default(),
        );
        Self {
            state: Arc::new(CollectorState {
                request,
                slot: Arc::clone(&slot),
                reply: Mutex::new(None),
            }),
            slot,
        }
    }

    /// The request.
    #[must_use]
    pub fn request(&self) -> &RangeRequest {
        &self.state.request
    }

    /// The request for what is not yet there: from the watermark on.
    #[must_use]
    pub fn rest(&self) -> RangeRequest {
        self.state.rest()
    }

    /// A writer from the watermark on, for a read of [`rest`](Self::rest); `None` while there is
    /// another.
    #[must_use]
    pub fn writer(&self) -> Option<ChunkWriter> {
        let events = Arc::clone(&self.state);
        ChunkWriter::claim(events, 0, Arc::clone(&self.slot))
    }

    /// The reply that was begun with last.
    #[must_use]
    pub fn reply(&self) -> Option<Reply> {
        self.state
            .reply
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The bytes published so far.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.slot
            .views()
            .iter()
            .flat_map(|lease| lease.iter().copied())
            .collect()
    }
}

impl WriterEvents for CollectorState {
    fn accept_reply(&self, _attempt: u64, reply: &Reply) -> Result<Accepted, SourceError> {
        let accepted = accept(&self.rest(), self.request.pinned.as_deref(), reply)?;
        let end = accepted.body_end.map_or(self.request.end, |end| {
            self.request.end.map(|wanted| wanted.min(end))
        });
        *self.reply.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply.clone());
        Ok(Accepted {
            skip: accepted.skip,
            end,
        })
    }

    fn poll_next_slot(&self, _attempt: u64, _cx: &mut Context<'_>) -> Poll<Result<Arc<Slot>, SourceError>> {
        Poll::Ready(Err(SourceError::fatal(
            ErrorKind::Internal,
            "a collector holds one chunk",
        )))
    }

    fn published(&self, _slot: &Slot, _range: Range<u64>) {}

    fn put(&self, _slot: &Slot, _bytes: &[u8]) -> bool {
        false
    }

    fn writer_dropped(&self) {}
}
