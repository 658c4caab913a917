//! What follows a head: received into the slot, read as a short text, or drained so that the
//! connection can be used again.
//!
//! Invariants: a connection goes back to the pool only when its body ended exactly and it may serve
//! another request; not one byte after the framing or after what the writer wants reaches the
//! writer.

use std::{fmt, io, sync::Arc, time::Duration};

use bytes::BufMut;
use pget_core::{ChunkWriter, ErrorKind, SourceError};
use tokio::time::timeout;

use crate::{
    chunked::Chunked,
    connection::{Connection, Sink},
    head::{Framing, protocol},
    pool::{Origin, Pool},
    proxy::ProxyBody,
};

/// Bytes drained at a time.
const DRAIN_PIECE: usize = 8 * 1024;
/// How long a body that is not wanted may take before its connection is given up instead.
const DRAIN_WITHIN: Duration = Duration::from_secs(1);
/// How long to wait for the end of a body of which all that is wanted is here.
const END_WITHIN: Duration = Duration::from_millis(250);

/// The body of a [`Response`](crate::Response). Dropping it closes its connection.
#[must_use = "dropping a body closes its connection; drain a small one"]
pub struct Body {
    way: BodySource,
    /// The answer was 206: it must end where its range ends.
    partial: bool,
    /// The body is the whole object, whose size is known: it must end there.
    ends_object: bool,
}

enum BodySource {
    Direct(Box<Direct>),
    ProxyBody {
        detour: ProxyBody,
        /// It ends with its connection.
        until_close: bool,
    },
}

pub(crate) struct Direct {
    pub(crate) connection: Connection,
    pub(crate) left: Remaining,
    pub(crate) keeps_alive: bool,
    pub(crate) origin: Origin,
    pub(crate) pool: Arc<Pool>,
}

/// What is left of a body.
#[derive(Debug)]
pub(crate) enum Remaining {
    Length(u64),
    Chunked(Chunked),
    Close,
    /// It has ended with its connection.
    Over,
}

impl From<Framing> for Remaining {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::default()),
            Framing::Close => Self::Close,
        }
    }
}

impl Body {
    pub(crate) fn direct(direct: Direct, partial: bool) -> Self {
        Self {
            way: BodySource::Direct(Box::new(direct)),
            partial,
            ends_object: false,
        }
    }

    pub(crate) fn detour(detour: ProxyBody, framing: &Framing, partial: bool) -> Self {
        Self {
            way: BodySource::ProxyBody {
                detour,
                until_close: matches!(framing, Framing::Close),
            },
            partial,
            ends_object: false,
        }
    }

    /// Requires the body to end with the last byte that its writer wants: it is the whole object,
    /// of a size that an earlier reply reported. A body without a length could otherwise go on
    /// unseen.
    pub(crate) const fn must_end_with_object(&mut self) {
        self.ends_object = true;
    }

    /// Receives the body into `writer`, which must have been [begun](ChunkWriter::begin), as far as
    /// it wants bytes.
    ///
    /// Whole bodies may continue after what is wanted (an offset and a length in a stream): the
    /// connection is closed then. Cancel-safe by dropping.
    ///
    /// # Errors
    /// A body that ends early or breaks off may be tried again; one that continues after its range,
    /// or is framed badly, is [`Protocol`](ErrorKind::Protocol); and what the writer says.
    pub async fn read_into(mut self, writer: &mut ChunkWriter) -> Result<(), SourceError> {
        if let BodySource::Direct(direct) = &self.way
            && let Some(peer) = direct.connection.peer()
        {
            writer.comes_from(peer);
        }
        while writer.ready().await? {
            let wanted = writer.remaining();
            if self.receive(writer, wanted).await? == 0 {
                self.finish();
                return Ok(());
            }
        }
        if self.ends_here().await? {
            self.finish();
        }
        Ok(())
    }

    /// Reads and forgets up to `limit` bytes, for at most a second, so that the connection can be
    /// used again; whether the body has ended. If not, the connection is closed.
    pub async fn drain_small(mut self, limit: u64) -> bool {
        let draining = async {
            let mut rest = limit;
            let mut bin = Vec::with_capacity(DRAIN_PIECE);
            loop {
                bin.clear();
                match self.receive(&mut (&mut bin).limit(DRAIN_PIECE), None).await {
                    Ok(0) => return true,
                    Ok(count) => match rest.checked_sub(count as u64) {
                        Some(left) => rest = left,
                        None => return false,
                    },
                    Err(_) => return false,
                }
            }
        };
        let ended = timeout(DRAIN_WITHIN, draining).await.unwrap_or(false);
        if ended {
            self.finish();
        }
        ended
    }

    /// The body as text, cut after `limit` bytes; what is not UTF-8 is replaced. For messages of
    /// servers: 64 KiB is plenty. The caller sets the deadline.
    ///
    /// # Errors
    /// If the connection breaks off or the framing is bad.
    pub async fn text(self, limit: usize) -> Result<String, SourceError> {
        let bytes = self.bytes(limit).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The body, cut after `limit` bytes. There is no deadline here.
    ///
    /// # Errors
    /// As for [`text`](Self::text).
    pub async fn bytes(mut self, limit: usize) -> Result<Vec<u8>, SourceError> {
        let mut bytes = Vec::new();
        while bytes.len() < limit {
            let room = limit - bytes.len();
            if self.receive(&mut (&mut bytes).limit(room), None).await? == 0 {
                self.finish();
                return Ok(bytes);
            }
        }
        if self.ends_here().await.unwrap_or(false) {
            self.finish();
        }
        Ok(bytes)
    }

    /// Bytes of the body that are still to come, if the framing says so.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match &self.way {
            BodySource::Direct(direct) => match direct.left {
                Remaining::Length(length) => Some(length),
                Remaining::Over => Some(0),
                Remaining::Chunked(_) | Remaining::Close => None,
            },
            BodySource::ProxyBody { detour, .. } => detour.length(),
        }
    }

    /// Moves a piece of the body into `into`, which has room and wants `wanted` bytes (`None`:
    /// not known); 0 when the body has ended well.
    async fn receive(&mut self, into: &mut impl Sink, wanted: Option<u64>) -> Result<usize, SourceError> {
        match &mut self.way {
            BodySource::Direct(direct) => direct.receive(into, wanted).await,
            BodySource::ProxyBody { detour, .. } => detour.receive(into).await,
        }
    }

    /// The writer has all it wants: whether the body ends here, too.
    async fn ends_here(&mut self) -> Result<bool, SourceError> {
        let ends = self.partial || self.ends_object;
        let (patience, must_end) = match &self.way {
            BodySource::Direct(direct) => match &direct.left {
                Remaining::Length(0) | Remaining::Over => return Ok(true),
                // A whole body is cut on purpose; a range's length was compared with its framing
                // before.
                Remaining::Length(_) => return Ok(false),
                // Its last chunk belongs to it; a stall before that is for the download's deadline
                // to see.
                Remaining::Chunked(_) if ends => (None, true),
                // Mostly the last chunk is here already; a body that was cut on purpose is not
                // worth waiting for.
                Remaining::Chunked(_) => (Some(END_WITHIN), false),
                // All of it is here; whether the peer closes is its own affair.
                Remaining::Close if ends => (Some(END_WITHIN), true),
                Remaining::Close => return Ok(false),
            },
            BodySource::ProxyBody { until_close, .. } if ends => (until_close.then_some(END_WITHIN), true),
            BodySource::ProxyBody { .. } => return Ok(false),
        };
        let mut probe = [0_u8; 1];
        let mut room = probe.as_mut_slice();
        let next = self.receive(&mut room, Some(1));
        let next = match patience {
            None => next.await,
            Some(patience) => match timeout(patience, next).await {
                Ok(next) => next,
                Err(_) => return Ok(false),
            },
        };
        match next {
            Ok(0) => Ok(true),
            Ok(_) if self.ends_object => Err(SourceError::fatal(
                ErrorKind::ObjectChanged,
                "the object is longer than an earlier reply reported",
            )),
            Ok(_) if must_end => Err(protocol("the body continues after the requested range")),
            Err(error) if must_end => Err(error),
            Ok(_) | Err(_) => Ok(false),
        }
    }

    /// Returns the connection of an ended body to the pool.
    fn finish(self) {
        let BodySource::Direct(direct) = self.way else {
            return;
        };
        let ended = match &direct.left {
            Remaining::Length(left) => *left == 0,
            Remaining::Chunked(decoder) => decoder.is_done(),
            Remaining::Close | Remaining::Over => false,
        };
        if ended && direct.keeps_alive {
            direct.pool.put(direct.origin, direct.connection);
        }
    }
}

impl Direct {
    async fn receive(&mut self, into: &mut impl Sink, wanted: Option<u64>) -> Result<usize, SourceError> {
        let connection = &mut self.connection;
        match &mut self.left {
            Remaining::Over | Remaining::Length(0) => Ok(0),
            Remaining::Length(left) => {
                let count = connection.body(into, *left, *left).await.map_err(broken_off)?;
                if count == 0 {
                    return Err(ended_early(&format!("{left} bytes before its end")));
                }
                *left = left.saturating_sub(count as u64);
                Ok(count)
            }
            Remaining::Close => {
                let count = connection
                    .body(into, u64::MAX, wanted.unwrap_or(1))
                    .await
                    .map_err(broken_off)?;
                if count == 0 {
                    self.left = Remaining::Over;
                }
                Ok(count)
            }
            Remaining::Chunked(decoder) => {
                while decoder.data_left() == 0 {
                    if decoder.is_done() {
                        return Ok(0);
                    }
                    if connection.buffered().is_empty()
                        && connection.fill_buffer().await.map_err(broken_off)? == 0
                    {
                        return Err(ended_early("before its last chunk"));
                    }
                    let used = decoder.framing(connection.buffered()).map_err(|cause| {
                        protocol("invalid framing of the response body").with_cause(cause)
                    })?;
                    connection.use_buffered(used);
                }
                let left = decoder.data_left();
                let count = connection
                    .body(into, left, wanted.unwrap_or(1).max(left))
                    .await
                    .map_err(broken_off)?;
                if count == 0 {
                    return Err(ended_early("before its last chunk"));
                }
                decoder.took(count as u64);
                Ok(count)
            }
        }
    }
}

fn broken_off(cause: io::Error) -> SourceError {
    SourceError::retryable(ErrorKind::Unavailable, "the connection broke off in the body").with_cause(cause)
}

fn ended_early(where_: &str) -> SourceError {
    SourceError::retryable(
        ErrorKind::Protocol,
        format!("the connection ended in the body, {where_}"),
    )
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("length", &self.length())
            .finish_non_exhaustive()
    }
}
