//! The wrapped store as the source of a download.
//!
//! Invariants: each answer's revision goes to the download as the store states it, which compares
//! it with the pinned one; the probe's body is used once, for the range that it answers.

use std::{
    fmt,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use pget_core::{
    ChunkWriter, ErrorKind, Match, ObjectInfo, RangeRequest, RangeSource, Reply, Revision, SourceError,
};
use tokio::{
    runtime::Handle,
    task::{JoinError, JoinHandle},
};

use super::super::object_store::{
    self, Extensions, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, path::Path,
};
use super::{PgetStore, failure, known::Known, stream::Begin};

type Piece = object_store::Result<Bytes>;

/// The answer to the first request of a read.
pub(super) struct Probe {
    pub(super) body: BoxStream<'static, Piece>,
    pub(super) range: Range<u64>,
    pub(super) meta: ObjectMeta,
    /// From the request to the answer.
    pub(super) took: Duration,
}

/// Reads ranges of one revision of one object of the wrapped store.
pub(super) struct Source<T> {
    object: Arc<Object<T>>,
    probe: Mutex<Option<Probe>>,
    /// Where the store is called, if not where the download is driven.
    runtime: Mutex<Option<Handle>>,
}

struct Object<T> {
    store: Arc<T>,
    known: Arc<Known<ObjectMeta>>,
    location: Path,
    if_match: Option<String>,
    version: Option<String>,
    extensions: Extensions,
    pin: ObjectInfo,
}

/// Whether later answers can be asked for, and recognised, as being of the same revision.
pub(super) fn has_identity(meta: &ObjectMeta) -> bool {
    strong_etag(meta).is_some() || meta.version.is_some()
}

/// Returns the entity tag, if `If-Match` can name it. A weak one never matches (RFC 9110, 13.1.1).
fn strong_etag(meta: &ObjectMeta) -> Option<&String> {
    meta.e_tag.as_ref().filter(|tag| !tag.starts_with("W/"))
}

pub(super) fn revision(meta: &ObjectMeta) -> Revision {
    Revision {
        etag: meta.e_tag.clone(),
        version: meta.version.clone(),
        checksum: None,
        last_modified: Some(meta.last_modified.to_rfc3339()),
    }
}

impl<T: ObjectStore> Source<T> {
    /// The revision that `meta` describes, for a caller who asked with `options`.
    pub(super) fn new(
        store: &PgetStore<T>,
        location: &Path,
        options: &GetOptions,
        meta: &ObjectMeta,
    ) -> Self {
        let if_match = strong_etag(meta).cloned();
        // Naming a version takes another permission than reading the object does, so it is named
        // only if the caller did, or if nothing else identifies the revision.
        let version = match if_match {
            Some(_) => options.version.clone(),
            None => meta.version.clone(),
        };
        let pin = ObjectInfo {
            size: Some(meta.size),
            revision: revision(meta),
            ..ObjectInfo::default()
        };
        Self {
            object: Arc::new(Object {
                store: Arc::clone(&store.inner),
                known: Arc::clone(&store.known),
                location: location.clone(),
                if_match,
                version,
                extensions: options.extensions.clone(),
                pin,
            }),
            probe: Mutex::default(),
            runtime: Mutex::default(),
        }
    }

    /// Returns the revision that all answers must have.
    pub(super) fn pin(&self) -> ObjectInfo {
        self.object.pin.clone()
    }

    /// Uses the body of `probe` for the range that it answers.
    pub(super) fn with_probe(self, probe: Probe) -> Self {
        *self.probe.lock().unwrap_or_else(PoisonError::into_inner) = Some(probe);
        self
    }

    fn probe_for(&self, request: &RangeRequest) -> Option<Probe> {
        let mut probe = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        probe.take_if(|probe| probe.range.start == request.start)
    }
}

impl<T: ObjectStore> Object<T> {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        let options = GetOptions {
            head: true,
            version: self.version.clone(),
            extensions: self.extensions.clone(),
            ..GetOptions::default()
        };
        let result = self.store.get_opts(&self.location, options).await;
        let meta = result
            .map_err(|error| failure::of_store("asking for its size", error))?
            .meta;
        Ok(ObjectInfo {
            size: Some(meta.size),
            revision: revision(&meta),
            ..ObjectInfo::default()
        })
    }

    async fn read(
        self: Arc<Self>,
        request: RangeRequest,
        probe: Option<Probe>,
        mut chunk: ChunkWriter,
    ) -> Result<(), SourceError> {
        let Some(probe) = probe else {
            let result = self.get(&request).await?;
            chunk.begin(reply(&result.meta, &result.range)?)?;
            return receive(result.into_stream(), &mut chunk).await;
        };
        chunk.asked_before(probe.took);
        let wanted = head_to(&probe.range, request.end);
        chunk.begin(reply(&probe.meta, &wanted)?)?;
        // The body may go on, as nothing shorter could be asked for.
        receive(first(probe.body, wanted.end - wanted.start), &mut chunk).await
    }

    async fn get(&self, request: &RangeRequest) -> Result<GetResult, SourceError> {
        let range = match request.end {
            Some(end) => GetRange::Bounded(request.start..end),
            None => GetRange::Offset(request.start),
        };
        let options = GetOptions {
            range: Some(range),
            if_match: self.if_match.clone(),
            version: self.version.clone(),
            extensions: self.extensions.clone(),
            ..GetOptions::default()
        };
        match self.store.get_opts(&self.location, options).await {
            Ok(result) => Ok(result),
            Err(error) => Err(self.explain(error).await),
        }
    }

    /// Returns the meaning of `error`.
    ///
    /// Many stores report a shortened object by an error of no particular type.
    async fn explain(&self, error: object_store::Error) -> SourceError {
        if let object_store::Error::Generic { .. } = error
            && let Ok(now) = self.head().await
            && (now.size != self.pin.size
                || matches!(self.pin.revision.compare(&now.revision), Match::Changed(_)))
        {
            let size = now.size.unwrap_or_default();
            let text = format!("it is another revision now, of {size} bytes");
            return SourceError::fatal(ErrorKind::ObjectChanged, text).with_cause(error);
        }
        failure::of_store("reading a range", error)
    }
}

#[async_trait]
impl<T: ObjectStore> RangeSource for Source<T> {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        let object = Arc::clone(&self.object);
        self.call(async move { object.head().await }).await
    }

    async fn read(&self, request: &RangeRequest, chunk: ChunkWriter) -> Result<(), SourceError> {
        let (object, probe) = (Arc::clone(&self.object), self.probe_for(request));
        self.call(object.read(request.clone(), probe, chunk)).await
    }

    /// What one read of the store has measured, the next one starts from.
    fn endpoint(&self) -> Option<String> {
        Some(self.object.known.endpoint())
    }

    fn most_requests(&self) -> u32 {
        128
    }

    fn name(&self) -> String {
        format!("{}/{}", self.object.store, self.object.location)
    }
}

impl<T: ObjectStore> Begin for Source<T> {
    fn call_on(&self, runtime: Option<Handle>) {
        *self.runtime.lock().unwrap_or_else(PoisonError::into_inner) = runtime;
    }
}

impl<T> Source<T> {
    /// Does `work` where the store is to be called.
    async fn call<R: Send + 'static>(
        &self,
        work: impl Future<Output = Result<R, SourceError>> + Send + 'static,
    ) -> Result<R, SourceError> {
        let runtime = self
            .runtime
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(runtime) = runtime else {
            return work.await;
        };
        match run_on(&runtime, work).await {
            Ok(result) => result,
            Err(error) => Err(self.ended(error)),
        }
    }

    /// The task of a request has ended without a result.
    fn ended(&self, error: JoinError) -> SourceError {
        if !error.is_cancelled() {
            return SourceError::fatal(ErrorKind::Internal, "the store panicked").with_cause(error);
        }
        // The caller's runtime shuts down, but the stream may be polled elsewhere.
        *self.runtime.lock().unwrap_or_else(PoisonError::into_inner) = None;
        SourceError::retryable(ErrorKind::Unavailable, "the runtime has shut down")
    }
}

impl<T> fmt::Debug for Source<T> {
    /// Without the store, which may say anything of itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("location", &self.object.location)
            .field("pin", &self.object.pin)
            .finish_non_exhaustive()
    }
}

/// Runs `work` on `runtime`; it ends with this future.
///
/// # Errors
/// If `work` panics, or the runtime shuts down.
pub(super) async fn run_on<R: Send + 'static>(
    runtime: &Handle,
    work: impl Future<Output = R> + Send + 'static,
) -> Result<R, JoinError> {
    let mut task = AbortOnDrop(runtime.spawn(work));
    (&mut task.0).await
}

/// A task that ends with this.
struct AbortOnDrop<R>(JoinHandle<R>);

impl<R> Drop for AbortOnDrop<R> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Returns `range` cut at `end`, if there is one.
fn head_to(range: &Range<u64>, end: Option<u64>) -> Range<u64> {
    range.start..end.map_or(range.end, |end| end.min(range.end))
}

pub(super) fn reply(meta: &ObjectMeta, range: &Range<u64>) -> Result<Reply, SourceError> {
    let Some(length) = range.end.checked_sub(range.start) else {
        let text = format!("the store answers with bytes {}..{}", range.start, range.end);
        return Err(SourceError::fatal(ErrorKind::Protocol, text));
    };
    Ok(Reply {
        start: range.start,
        length: Some(length),
        total: Some(meta.size),
        revision: revision(meta),
        ..Reply::default()
    })
}

/// Returns the first `most` bytes of `body`.
fn first(body: impl Stream<Item = Piece> + Send, most: u64) -> impl Stream<Item = Piece> + Send {
    let mut left = most;
    body.map(move |piece| {
        let mut piece = piece?;
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= piece.len() as u64;
        Ok((piece, left))
    })
    .scan(false, |is_over, piece: object_store::Result<(Bytes, u64)>| {
        let ends = std::mem::replace(is_over, matches!(piece, Ok((_, 0))));
        std::future::ready((!ends).then(|| piece.map(|(piece, _)| piece)))
    })
}

/// Copies `body` into the chunk, which must want all of it.
async fn receive(body: impl Stream<Item = Piece> + Send, chunk: &mut ChunkWriter) -> Result<(), SourceError> {
    let mut body = std::pin::pin!(body);
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| failure::of_store("receiving a range", error))?;
        put(chunk, &piece).await?;
    }
    Ok(())
}

/// Copies `piece` into the chunk, which must want all of it.
pub(super) async fn put(chunk: &mut ChunkWriter, piece: &[u8]) -> Result<(), SourceError> {
    if chunk.put_wanted(piece).await?.is_empty() {
        return Ok(());
    }
    let text = "the store continues after the end of the range";
    Err(SourceError::fatal(ErrorKind::Protocol, text))
}
