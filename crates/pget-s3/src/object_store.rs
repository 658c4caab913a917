//! A source over any `object_store` store: memory, local files, a store of the caller's own.
//!
//! Invariants: what the store says of a range goes to the download unchanged, and what it delivers
//! beyond that is refused; so a store that serves other bytes than it announces is an error, never
//! a splice. Bytes are copied once, from the store's buffers into the slot: S3, GCS and Azure are
//! read faster by [`S3Source`](crate::S3Source).

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use object_store::{Error as StoreError, GetOptions, GetRange, ObjectMeta, ObjectStore, path::Path};
use pget_core::{
    ChunkWriter, ErrorKind, ObjectInfo, RangeRequest, RangeSource, Reply, Revision, SourceError,
};

use crate::errors;

/// Reads one object of a store.
///
/// The download retries by itself, with its own deadlines: give the store a `RetryConfig` without
/// retries, or its patience comes on top. Cancelling a read drops the store's future and stream.
pub struct ObjectStoreSource {
    store: Arc<dyn ObjectStore>,
    location: Path,
    version: Option<String>,
    name: String,
}

impl ObjectStoreSource {
    /// The object at `location` of `store`, at the latest version when the first range is read.
    /// Sends nothing.
    ///
    /// `Path::from` of a key with characters like `%` or `~` names **another** key (it encodes
    /// them); use `Path::parse`.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, location: Path) -> Self {
        let name = format!("{store}/{location}");
        Self {
            store,
            location,
            version: None,
            name,
        }
    }

    /// Reads this version instead of the latest.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    fn options(&self, pinned: Option<&ObjectInfo>) -> GetOptions {
        GetOptions {
            if_match: pinned.and_then(|info| info.revision.strong_etag().map(str::to_owned)),
            version: self.version.clone(),
            ..GetOptions::default()
        }
    }

    async fn meta(&self) -> Result<ObjectMeta, SourceError> {
        let options = GetOptions {
            head: true,
            ..self.options(None)
        };
        match self.store.get_opts(&self.location, options).await {
            Ok(result) => Ok(result.meta),
            Err(error) => Err(errors::of_store("asking for its size", error)),
        }
    }

    /// What `error` means for a range from `start`: many stores answer a range beyond the object's
    /// end with an error of no particular type.
    async fn explain(&self, start: u64, error: StoreError) -> SourceError {
        if let StoreError::Generic { .. } = error
            && let Ok(meta) = self.meta().await
            && meta.size <= start
        {
            let text = format!("it has {} bytes, asked for those from {start}", meta.size);
            return SourceError::fatal(ErrorKind::Range, text).with_cause(errors::Cause::of(&error));
        }
        errors::of_store("reading a range", error)
    }
}

#[async_trait]
impl RangeSource for ObjectStoreSource {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        let meta = self.meta().await?;
        Ok(ObjectInfo {
            size: Some(meta.size),
            revision: revision(&meta),
            chunk_hint: None,
            checksum: None,
            ranges: None,
        })
    }

    async fn read(&self, request: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        let mut options = self.options(request.pinned.as_deref());
        options.range = match request.end {
            Some(end) => Some(GetRange::Bounded(request.start..end)),
            None if request.is_whole() => None,
            None => Some(GetRange::Offset(request.start)),
        };
        let result = match self.store.get_opts(&self.location, options).await {
            Ok(result) => result,
            Err(error) => return Err(self.explain(request.start, error).await),
        };
        chunk.begin(reply(request, &result.meta, &result.range)?)?;
        let mut body = result.into_stream();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| errors::of_store("receiving a range", error))?;
            put(&mut chunk, &piece).await?;
        }
        Ok(())
    }

    fn most_requests(&self) -> u32 {
        128
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl fmt::Debug for ObjectStoreSource {
    /// Without the store, whose own text may say anything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectStoreSource")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

fn reply(request: &RangeRequest, meta: &ObjectMeta, range: &Range<u64>) -> Result<Reply, SourceError> {
    let Some(length) = range.end.checked_sub(range.start) else {
        let text = format!("the store answers with bytes {}..{}", range.start, range.end);
        return Err(SourceError::fatal(ErrorKind::Protocol, text));
    };
    let ignored = range.start == 0 && range.end == meta.size && request.start > 0;
    Ok(Reply {
        start: range.start,
        length: Some(length),
        total: Some(meta.size),
        whole: ignored,
        revision: revision(meta),
        chunk_hint: None,
        checksum: None,
    })
}

fn revision(meta: &ObjectMeta) -> Revision {
    Revision {
        etag: meta.e_tag.clone(),
        version: meta.version.clone(),
        checksum: None,
        // Every store says a time; with all of its digits, as in-memory and file systems have more
        // than seconds.
        last_modified: Some(meta.last_modified.to_rfc3339()),
    }
}

/// Copies `piece` into the chunk, which must want all of it.
pub(crate) async fn put(chunk: &mut ChunkWriter, piece: &[u8]) -> Result<(), SourceError> {
    if chunk.put_wanted(piece).await?.is_empty() {
        return Ok(());
    }
    let text = "the store continues after the end of the range";
    Err(SourceError::fatal(ErrorKind::Protocol, text))
}
