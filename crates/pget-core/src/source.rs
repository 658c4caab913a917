//! The contract with a transport: one trait.
//!
//! Called by the download's driver only. A source reads ranges of **one** object; it neither
//! retries (except for a stale pooled connection) nor reorders nor buffers, it states what the
//! server said and puts the body's bytes where the [`ChunkWriter`] points.

use std::fmt;

use async_trait::async_trait;

use crate::{ChunkWriter, ObjectInfo, RangeRequest, SourceError};

/// A transport that reads ranges of one object.
///
/// Implementations are shared by many concurrent reads. Dropping the future of [`read`](Self::read)
/// cancels it: the implementation must stop writing, and a part that cannot stop (a blocking
/// `pread`) must own the [`ChunkWriter`] so that its memory stays reserved until it is done.
#[async_trait]
pub trait RangeSource: Send + Sync + fmt::Debug {
    /// What is known without reading. Not called by an ordinary download, whose first ranged read
    /// reports the same; `stat` calls it, and a download does when the server refuses the first
    /// range without saying the size (416 without `Content-Range`).
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    async fn head(&self) -> Result<ObjectInfo, SourceError>;

    /// Reads `request`'s range into `chunk`.
    ///
    /// First call [`ChunkWriter::begin`] with what the server said; it refuses what does not fit
    /// the request or the pinned revision. Then, while [`ChunkWriter::ready`] says so, put bytes
    /// through [`bytes::BufMut`]. Return `Ok` when the body has ended; the caller notices a body
    /// that ended early. A body that goes on after the last wanted byte is for the source to
    /// refuse, as `Protocol`.
    ///
    /// # Errors
    /// What failed and whether another attempt may help.
    async fn read(&self, request: &RangeRequest, chunk: ChunkWriter) -> Result<(), SourceError>;

    /// The server that serves the object, as `scheme://host:port`: downloads from the same one
    /// share what they find out about how many requests it serves. Without credentials. Default:
    /// `None`.
    fn endpoint(&self) -> Option<String> {
        None
    }

    /// The most requests that a download should have in flight if its caller does not say.
    ///
    /// The default is 16, as many as a public web server takes from one client. A source of many
    /// servers may return more.
    fn most_requests(&self) -> u32 {
        16
    }

    /// The object's address for messages: redacted, without credentials or signatures.
    fn name(&self) -> String;
}
