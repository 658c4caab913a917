//! What the micro-benchmarks share: a source in memory, and the CPU time of a thread.

use std::time::Duration;

use async_trait::async_trait;
use bytes::BufMut as _;
use nix::time::{ClockId, clock_gettime};
use pget_core::{ChunkWriter, ObjectInfo, RangeRequest, RangeSource, Reply, Revision, SourceError};

/// An object of `size` bytes that repeats one buffer, put in pieces of `piece` bytes.
#[derive(Debug)]
pub struct InMemory {
    size: u64,
    piece: Vec<u8>,
}

impl InMemory {
    /// Makes the object.
    #[must_use]
    pub fn new(size: u64, piece: usize) -> Self {
        Self {
            size,
            piece: vec![0x5a; piece],
        }
    }
}

#[async_trait]
impl RangeSource for InMemory {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        Ok(ObjectInfo::default())
    }

    async fn read(&self, request: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        let end = request.end.unwrap_or(self.size).min(self.size);
        chunk.begin(Reply {
            start: request.start,
            length: Some(end - request.start),
            total: Some(self.size),
            revision: Revision {
                etag: Some("\"micro\"".into()),
                ..Revision::default()
            },
            ..Reply::default()
        })?;
        while chunk.ready().await? {
            let length = chunk.chunk_mut().len().min(self.piece.len());
            chunk.put_slice(&self.piece[..length]);
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn name(&self) -> String {
        "in memory".into()
    }
}

/// Returns the CPU time that this thread has used.
///
/// # Panics
/// If the system has no such clock.
#[must_use]
pub fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("Linux has this clock")
        .into()
}
