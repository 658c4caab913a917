//! The contract with a transport: one trait, its request and its reply.
//!
//! Called by the download's driver only. A source reads ranges of **one** object; it neither retries (but for a stale pooled connection) nor
//! reorders nor buffers, it states what the server said and puts the body's bytes where the [`ChunkWriter`] points.

use std::{fmt, net::SocketAddr, sync::Arc};

use async_trait::async_trait;

use crate::{ChunkWriter, ObjectInfo, Published, Revision, SourceError, Verify};

/// One range that the download wants.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RangeRequest {
    /// Offset of the first byte wanted.
    pub start: u64,
    /// Offset behind the last byte wanted; `None`: to the object's end, in one stream. Never equal to `start`.
    pub end: Option<u64>,
    /// What earlier replies of this download fixed; `None` on the first request. Send it as a condition where conditions
    /// work (`If-Match`): the reply is compared in any case.
    pub pinned: Option<Arc<ObjectInfo>>,
    /// How many attempts at this range came before, since one last brought a byte.
    pub attempt: u32,
    /// Whether the checksum of the whole object is wanted with the reply: a source whose ranged answers do not tell it may ask for it then, unless this is
    /// [`Off`](Verify::Off), as it is once a first reply has come.
    pub verify: Verify,
    /// The attempt before was fenced, as its connection was far slower than the others: send this one over a fresh connection, if the transport has connections.
    pub fresh: bool,
    /// And not to this address if there is another: it is what the fenced attempt [told](ChunkWriter::comes_from).
    pub avoid: Option<SocketAddr>,
}

impl RangeRequest {
    /// A first request for `start..end`, for tests of sources.
    #[must_use]
    pub const fn new(start: u64, end: Option<u64>) -> Self {
        Self {
            start,
            end,
            pinned: None,
            attempt: 0,
            verify: Verify::Auto,
            fresh: false,
            avoid: None,
        }
    }

    /// Whether this asks for the whole object as one stream, so that no `Range` header is needed.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.start == 0 && self.end.is_none()
    }
}

/// What the server said before the body.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// Offset of the body's first byte. 0 for a reply that ignored the range.
    pub start: u64,
    /// Bytes in the body; `None` when only its end tells.
    pub length: Option<u64>,
    /// Size of the object; `None` when not told.
    pub total: Option<u64>,
    /// The body is the whole object although a part was asked for, or by the source's own choice (cold object).
    pub whole: bool,
    /// The identity of the content.
    pub revision: Revision,
    /// The range length that suits the source, in bytes (see [`ObjectInfo::chunk_hint`]).
    pub chunk_hint: Option<u64>,
    /// The checksum of the whole object, if that is published.
    pub checksum: Option<Published>,
}

/// A transport that reads ranges of one object.
///
/// Implementations are shared by many concurrent reads. Dropping the future of [`read`](Self::read) cancels it: the implementation must stop
/// writing, and a part that cannot stop (a blocking `pread`) must own the [`ChunkWriter`] so that its memory stays reserved until it is done.
#[async_trait]
pub trait RangeSource: Send + Sync + fmt::Debug {
    /// What is known without reading. Not called by an ordinary download, whose first ranged read tells the same; `stat` calls it, and a
    /// download does when the server refuses the first range without saying the size (416 without `Content-Range`).
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    async fn head(&self) -> Result<ObjectInfo, SourceError>;

    /// Reads `request`'s range into `chunk`.
    ///
    /// First call [`ChunkWriter::begin`] with what the server said; it refuses what does not fit the request or the pinned revision. Then, while
    /// [`ChunkWriter::ready`] says so, put bytes through [`bytes::BufMut`]. Return `Ok` when the body has ended; the caller notices a body that ended
    /// early. A body that goes on after the last wanted byte is for the source to refuse, as `Protocol`.
    ///
    /// # Errors
    /// What failed and whether another attempt may help.
    async fn read(&self, request: &RangeRequest, chunk: ChunkWriter) -> Result<(), SourceError>;

    /// The server that serves the object, as `scheme://host:port`: downloads from the same one share what
    /// they find out about how many requests it serves. Without credentials. Default: `None`.
    fn endpoint(&self) -> Option<String> {
        None
    }

    /// The most requests that a download should have in flight if its caller does not say.
    ///
    /// The default is 16, as many as a public web server takes from one client. A source of many servers may
    /// return more.
    fn most_requests(&self) -> u32 {
        16
    }

    /// The object's address for messages: redacted, without credentials or signatures.
    fn name(&self) -> String;
}
