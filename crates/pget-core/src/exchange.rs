//! A download's requests to its source, and the server's replies as the source reports them.

use std::{net::SocketAddr, sync::Arc};

use crate::{ObjectInfo, Published, Revision, Verify};

/// One range that the download wants.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RangeRequest {
    /// Offset of the first byte wanted.
    pub start: u64,
    /// Offset after the last byte wanted; `None`: to the object's end, in one stream. Never equal
    /// to `start`.
    pub end: Option<u64>,
    /// The facts that earlier replies of this download have fixed, or `None` on the first request.
    ///
    /// A source sends them as a condition where conditions work (`If-Match`). The reply is compared
    /// in any case.
    pub pinned: Option<Arc<ObjectInfo>>,
    /// How many attempts at this range came before, since one last brought a byte.
    pub attempt: u32,
    /// Whether the checksum of the whole object is wanted with the reply: a source whose ranged
    /// answers do not contain it may ask for it then, unless this is [`Off`](Verify::Off), as it is
    /// once a first reply has come.
    pub verify: Verify,
    /// The attempt before was fenced, as its connection was far slower than the others: send this
    /// one over a fresh connection, if the transport has connections.
    pub fresh: bool,
    /// And not to this address if there is another: it is what the fenced attempt
    /// [reported](crate::ChunkWriter::comes_from).
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

/// The server's reply before the body.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// Offset of the body's first byte. 0 for a reply that ignored the range.
    pub start: u64,
    /// Bytes in the body; `None` when only its end shows it.
    pub length: Option<u64>,
    /// Size of the object; `None` when not stated.
    pub total: Option<u64>,
    /// The body is the whole object although a part was asked for, or by the source's own choice
    /// (cold object).
    pub whole: bool,
    /// The identity of the content.
    pub revision: Revision,
    /// The range length that suits the source, in bytes (see [`ObjectInfo::chunk_hint`]).
    pub chunk_hint: Option<u64>,
    /// The checksum of the whole object, if that is published.
    pub checksum: Option<Published>,
}
