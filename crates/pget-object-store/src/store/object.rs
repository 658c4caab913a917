//! One object of a store as the source of a download, for destinations that no stream of a store
//! has: a file, memory, shared memory.
//!
//! Invariants: what the store says of a range goes to the download unchanged, and what it delivers
//! beyond that is refused; so a store that serves other bytes than it announces is an error, never
//! a splice. No text of the store leaves this module with an address's query or an error document.
//! Bytes are copied once, from the store's buffers into the slot.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use pget_core::{ChunkWriter, ErrorKind, ObjectInfo, RangeRequest, RangeSource, Reply, SourceError};

use super::super::object_store::{
    Error as StoreError, GetOptions, GetRange, ObjectMeta, ObjectStore, path::Path,
};
use super::{
    failure,
    source::{put, reply, revision},
};

/// Reads one object of a store into what no stream of the store can fill: a file, memory, shared
/// memory.
///
/// The download retries by itself, with its own deadlines: give the store a `RetryConfig` without
/// retries, or its patience comes on top. Cancelling a read drops the store's future and stream.
/// Errors show the store's own text as one plain line, without queries of addresses.
///
/// # Examples
/// ```
/// # #[cfg(feature = "v0_14")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use pget_object_store::{
///     Download, Options,
///     v0_14::{
///         ObjectStoreSource,
///         object_store::{ObjectStoreExt, memory::InMemory, path::Path},
///     },
/// };
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let store = std::sync::Arc::new(InMemory::new());
/// let path = Path::from("large");
/// store.put(&path, vec![7; 8 << 20].into()).await?;
/// let source = std::sync::Arc::new(ObjectStoreSource::new(store, path));
/// let download = Download::new(source, Options::default())?;
/// let (count, memory) = download.read_into(vec![0; 8 << 20]).await;
/// assert_eq!(count?, 8 << 20);
/// assert!(memory.expect("returned").iter().all(|byte| *byte == 7));
/// # Ok(())
/// # })
/// # }
/// # #[cfg(not(feature = "v0_14"))]
/// # fn main() {}
/// ```
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
            Err(error) => Err(failure::of_store_plain("asking for its size", error)),
        }
    }

    /// Returns the meaning of `error` for a range from `start`.
    ///
    /// Many stores answer a range past the object's end with an error of no particular type.
    async fn explain(&self, start: u64, error: StoreError) -> SourceError {
        if let StoreError::Generic { .. } = error
            && let Ok(meta) = self.meta().await
            && meta.size <= start
        {
            let text = format!("it has {} bytes, asked for those from {start}", meta.size);
            return SourceError::fatal(ErrorKind::Range, text).with_cause(failure::Plain::of(&error));
        }
        failure::of_store_plain("reading a range", error)
    }
}

#[async_trait]
impl RangeSource for ObjectStoreSource {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        let meta = self.meta().await?;
        Ok(ObjectInfo {
            size: Some(meta.size),
            revision: revision(&meta),
            ..ObjectInfo::default()
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
        let (meta, range) = (&result.meta, &result.range);
        chunk.begin(Reply {
            whole: range.start == 0 && range.end == meta.size && request.start > 0,
            ..reply(meta, range)?
        })?;
        let mut body = result.into_stream();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| failure::of_store_plain("receiving a range", error))?;
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
