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
///
/// # Examples
/// An object in memory:
/// ```
/// use async_trait::async_trait;
/// use pget_core::{
///     ChunkWriter, ErrorKind, ObjectInfo, RangeRequest, RangeSource, Reply, Revision, SourceError,
/// };
///
/// #[derive(Debug)]
/// struct Constant(&'static [u8]);
///
/// impl Constant {
///     fn revision(&self) -> Revision {
///         let mut revision = Revision::default();
///         // The bytes never change, so any constant identifies them.
///         revision.version = Some("1".into());
///         revision
///     }
/// }
///
/// #[async_trait]
/// impl RangeSource for Constant {
///     async fn head(&self) -> Result<ObjectInfo, SourceError> {
///         let mut info = ObjectInfo::default();
///         info.size = Some(self.0.len() as u64);
///         info.revision = self.revision();
///         Ok(info)
///     }
///
///     async fn read(
///         &self,
///         request: &RangeRequest,
///         mut chunk: ChunkWriter,
///     ) -> Result<(), SourceError> {
///         let total = self.0.len() as u64;
///         if request.start >= total {
///             return Err(SourceError::fatal(ErrorKind::Range, "the object is shorter"));
///         }
///         let end = request.end.unwrap_or(total).min(total);
///         chunk.begin(Reply {
///             start: request.start,
///             length: Some(end - request.start),
///             total: Some(total),
///             revision: self.revision(),
///             ..Reply::default()
///         })?;
///         chunk.put_wanted(&self.0[request.start as usize..end as usize]).await?;
///         Ok(())
///     }
///
///     fn name(&self) -> String {
///         "a constant".into()
///     }
/// }
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// let source = std::sync::Arc::new(Constant(b"some bytes"));
/// let download = pget_core::Download::new(source, pget_core::Options::default())?;
/// let mut read = Vec::new();
/// download.reader().copy_to(&mut read).await?;
/// assert_eq!(read, b"some bytes");
/// # Ok::<(), pget_core::Error>(())
/// # }).unwrap();
/// ```
#[async_trait]
pub trait RangeSource: Send + Sync + fmt::Debug {
    /// Returns the object's size and revision without reading it.
    ///
    /// An ordinary download does not call it, because the first ranged read reports the same.
    /// `stat` calls it. A download calls it if the server refuses the first range and does not
    /// report the size (416 without `Content-Range`).
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
    /// Returns the failure, and whether another attempt may help.
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
