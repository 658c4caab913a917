//! A bucket of an AIStore cluster as a store.
//!
//! Reads are downloads straight from the targets, so they need no wrapper to be parallel. Each
//! begins with a HEAD, because AIStore ignores conditions and a ranged answer has no time. Several
//! ranges, and small ones, of an object that is known need none: all answers are compared with that
//! revision. Entity tags are made here, of version and checksum; an object without a checksum has
//! none.

use std::{
    fmt,
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use pget_aistore::{AistoreSource, Bucket, Config, Entry, Objects};
use pget_core::{Checksum, Error, ErrorKind, ObjectInfo, Revision, SourceError, patiently};
use pget_http::Client;
use tokio::runtime::Handle;

use super::super::object_store::{
    self, Attributes, CopyMode, CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, RenameTargetMode, Result, path::Path,
};
use super::{
    failure,
    known::Known,
    ranges,
    source::run_on,
    stream::{Begin, Parallel},
};
use crate::{Options, runtime, settings::Settings};
use upload::Upload;

mod pages;
mod upload;

/// Where errors come from.
const STORE: &str = "AistoreStore";

/// Bytes per second of the slowest upload that is waited for.
const SLOWEST_UPLOAD: u64 = 64 << 10;

/// How long, and how often, a request is waited for.
#[derive(Clone, Copy)]
struct Patience {
    asks_again: bool,
    /// On top of what a request without content may take.
    extra: Duration,
}

impl Patience {
    const AGAIN: Self = Self {
        asks_again: true,
        extra: Duration::ZERO,
    };
    const ONCE: Self = Self {
        asks_again: false,
        extra: Duration::ZERO,
    };

    /// For a request that sends so many bytes.
    const fn with_content(mut self, bytes: usize) -> Self {
        self.extra = Duration::from_secs(bytes as u64 / SLOWEST_UPLOAD);
        self
    }
}

/// A bucket of an AIStore cluster.
///
/// It lists, reads, stores and removes objects by AIStore's own API. What that API has not, it
/// refuses as not implemented: conditional writes, attributes and tags. A copy is a read and a
/// write through this process.
///
/// An upload by parts requires AIStore 4.0. No part of it is sent twice, because AIStore 5.0 loses
/// the content of such a part: if the answer to one is missing, the upload fails.
/// [`MultipartStore`](object_store::multipart::MultipartStore) and
/// [`PaginatedListStore`](object_store::list::PaginatedListStore) are implemented.
///
/// Everything else is asked for again as reads are, until
/// [`retry_timeout`](Options::retry_timeout).
///
/// # Examples
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use pget_aistore::{Bucket, Config};
/// use pget_http::{Client, ClientOptions};
/// use pget_object_store::v0_14::AistoreStore;
///
/// let settings = [("ais.endpoint".to_owned(), "http://localhost:51080".to_owned())];
/// let config = Config::new(|name| std::env::var(name).ok(), &settings.into())?;
/// let bucket = Bucket {
///     name: "training".into(),
///     namespace: None,
///     provider: "ais".into(),
/// };
/// let store = AistoreStore::new(Client::new(&ClientOptions::default())?, config, bucket);
/// assert_eq!(store.to_string(), "AistoreStore(ais://training)");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AistoreStore {
    objects: Arc<Objects>,
    settings: Settings,
    known: Arc<Known<Entry>>,
}

impl AistoreStore {
    /// The objects of `bucket`, through `client`. Sends nothing.
    #[must_use]
    pub fn new(client: Client, config: Config, bucket: Bucket) -> Self {
        Self {
            objects: Arc::new(Objects::new(client, config, bucket)),
            settings: Settings::default(),
            known: Arc::new(Known::new()),
        }
    }

    /// Reads with `options`, as [`PgetStore::with_options`](super::PgetStore::with_options).
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if an option is out of its range.
    pub fn with_options(mut self, options: Options) -> std::result::Result<Self, Error> {
        options.check_for(|| self.to_string())?;
        self.settings.options = options;
        Ok(self)
    }

    /// Does everything on `runtime`, which must have timers and sockets enabled, instead of this
    /// crate's thread.
    #[must_use]
    pub fn with_runtime(mut self, runtime: Handle) -> Self {
        self.settings.runtime = Some(runtime);
        self
    }

    /// Asks the cluster about `location` on the runtime that has the connections. `attempt` gets
    /// the number of its attempt, from 0 on.
    async fn ask<R: Send + 'static, F>(
        &self,
        location: &Path,
        patience: Patience,
        attempt: impl FnMut(u32) -> F + Send + 'static,
    ) -> Result<R>
    where
        F: Future<Output = std::result::Result<R, SourceError>> + Send + 'static,
    {
        let failed = |error| failure::to_store(error, location);
        let runtime = match &self.settings.runtime {
            Some(runtime) => runtime.clone(),
            None => runtime::handle().map_err(failed)?.clone(),
        };
        let mut options = self.settings.options.clone();
        if !patience.asks_again {
            options.retries = Some(0);
        }
        let name = format!("{self}/{location}");
        let work = {
            let name = name.clone();
            async move { patiently(&name, &options, patience.extra, attempt).await }
        };
        match run_on(&runtime, work).await {
            Ok(result) => result.map_err(failed),
            Err(error) => {
                let message = "the request has ended without a result";
                Err(failed(Error::with_cause(
                    ErrorKind::Internal,
                    name,
                    message,
                    error,
                )))
            }
        }
    }

    async fn entry(&self, location: &Path) -> Result<Entry> {
        let (objects, name) = (Arc::clone(&self.objects), location.to_string());
        let attempt = move |_| {
            let (objects, name) = (Arc::clone(&objects), name.clone());
            async move { objects.head(&name).await }
        };
        let entry = self.ask(location, Patience::AGAIN, attempt).await?;
        if entry.checksum.is_some() {
            self.known.note(location, &entry);
        }
        Ok(entry)
    }

    /// The object as a source, which must be what `entry` describes.
    fn source(&self, location: &Path, entry: &Entry) -> Result<(Arc<dyn Begin>, ObjectInfo)> {
        let source = self.objects.source(location.as_ref());
        let source = source.map_err(|error| failure::to_store(error, location))?;
        let checksum = entry.checksum.clone().map(|value| Checksum {
            algorithm: entry.checksum_type.clone().unwrap_or_default(),
            value,
        });
        let pin = ObjectInfo {
            size: Some(entry.size),
            revision: Revision {
                version: entry.version.clone(),
                checksum,
                ..Revision::default()
            },
            ..ObjectInfo::default()
        };
        Ok((Arc::new(source), pin))
    }

    /// Reads a small range of a known object without a HEAD. Returns `None` if that needs one.
    ///
    /// The range is read before the result is returned, because another revision would be another
    /// result.
    async fn get_known(&self, location: &Path, options: &GetOptions) -> Result<Option<GetResult>> {
        let has_condition = options.if_match.is_some()
            || options.if_none_match.is_some()
            || options.if_modified_since.is_some()
            || options.if_unmodified_since.is_some();
        let Some(wanted) = options.range.as_ref() else {
            return Ok(None);
        };
        if options.head || has_condition {
            return Ok(None);
        }
        let Some(entry) = self.known.find(location) else {
            return Ok(None);
        };
        let Ok(range) = wanted.as_range(entry.size) else {
            return Ok(None);
        };
        if range.is_empty() || range.end - range.start > self.settings.threshold {
            return Ok(None);
        }
        let read = self
            .read_ranges(location, &entry, std::slice::from_ref(&range))
            .await;
        match read {
            Ok(read) => Ok(Some(result!(GetResult {
                payload: GetResultPayload::Stream(stream::iter(read.into_iter().map(Ok)).boxed()),
                meta: meta(location.clone(), &entry),
                range,
                attributes: Attributes::default()
            }))),
            Err(error) if failure::is_of_another_revision(&error) => {
                self.known.forget(location);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads ranges of the revision that `entry` describes.
    async fn read_ranges(&self, location: &Path, entry: &Entry, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        for range in ranges {
            let range = GetRange::Bounded(range.clone());
            range.as_range(entry.size).map_err(invalid_range)?;
        }
        let Some(buffers) = ranges::buffers(ranges, entry.size) else {
            let text = "a range is longer than memory can be";
            return Err(object_store::Error::Generic {
                store: STORE,
                source: text.into(),
            });
        };
        let (source, pin) = self.source(location, entry)?;
        let options = self.settings.reading(pin, None);
        ranges::read(location, source, options, self.settings.runtime.clone(), buffers).await
    }

    async fn put_bytes(&self, location: &Path, content: Bytes) -> Result<PutResult> {
        let (objects, name) = (Arc::clone(&self.objects), location.to_string());
        let patience = Patience::AGAIN.with_content(content.len());
        let attempt = move |_| {
            let (objects, name, content) = (Arc::clone(&objects), name.clone(), content.clone());
            async move { objects.put(&name, content).await }
        };
        let entry = self.ask(location, patience, attempt).await?;
        Ok(stored(&entry))
    }

    async fn delete_one(&self, location: Path) -> Result<Path> {
        let (objects, name) = (Arc::clone(&self.objects), location.to_string());
        let attempt = move |attempts| {
            let (objects, name) = (Arc::clone(&objects), name.clone());
            async move {
                match objects.delete(&name).await {
                    // An attempt before has removed it, and its answer was lost.
                    Err(error) if error.kind() == ErrorKind::NotFound && attempts > 0 => Ok(()),
                    result => result,
                }
            }
        };
        self.ask(&location, Patience::AGAIN, attempt).await?;
        Ok(location)
    }
}

impl fmt::Display for AistoreStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bucket = self.objects.bucket();
        write!(f, "AistoreStore({}://", bucket.provider)?;
        match &bucket.namespace {
            Some(namespace) => write!(f, "{namespace}/{})", bucket.name),
            None => write!(f, "{})", bucket.name),
        }
    }
}

impl fmt::Debug for AistoreStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AistoreStore")
            .field("objects", &self.objects)
            .finish_non_exhaustive()
    }
}

/// The version alone starts again at 1 after a delete, so without a checksum nothing identifies the
/// content.
fn etag(entry: &Entry) -> Option<String> {
    let version = entry.version.as_deref().unwrap_or_default();
    let checksum = entry.checksum.as_deref()?;
    Some(format!("\"{version}-{checksum}\""))
}

fn meta(location: Path, entry: &Entry) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: entry.modified.unwrap_or(SystemTime::UNIX_EPOCH).into(),
        size: entry.size,
        e_tag: etag(entry),
        version: None,
    }
}

fn stored(entry: &Entry) -> PutResult {
    result!(PutResult {
        e_tag: etag(entry),
        version: None
    })
}

fn missing(operation: &str) -> object_store::Error {
    object_store::Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: STORE.to_owned(),
    }
}

/// Its connections belong to the runtime that drives its download.
impl Begin for AistoreSource {
    fn call_on(&self, _: Option<Handle>) {}
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for AistoreStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if !matches!(opts.mode, PutMode::Overwrite) {
            return Err(missing("put_opts with a condition"));
        }
        check_extras(opts.tags.encoded(), &opts.attributes)?;
        self.put_bytes(location, payload.into()).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        check_extras(opts.tags.encoded(), &opts.attributes)?;
        let id = self.begin_upload(location).await?;
        Ok(Box::new(Upload::new(self.clone(), location.clone(), id)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if options.version.is_some() {
            return Err(missing("get_opts with a version"));
        }
        if let Some(result) = self.get_known(location, &options).await? {
            return Ok(result);
        }
        let entry = self.entry(location).await?;
        let meta = meta(location.clone(), &entry);
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            None => 0..meta.size,
            Some(range) => range.as_range(meta.size).map_err(invalid_range)?,
        };
        if options.head || range.is_empty() {
            let payload = GetResultPayload::Stream(stream::empty().boxed());
            return Ok(result!(GetResult {
                payload,
                meta,
                range,
                attributes: Attributes::default()
            }));
        }
        let (source, pin) = self.source(location, &entry)?;
        let download = self.settings.reading(pin, Some(&range));
        let stream = Parallel::new(location, source, download, self.settings.runtime.clone());
        let payload = GetResultPayload::Stream(stream.boxed());
        Ok(result!(GetResult {
            payload,
            meta,
            range,
            attributes: Attributes::default()
        }))
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if let Some(entry) = self.known.find(location)
            && ranges.iter().all(|range| range.start < entry.size)
        {
            match self.read_ranges(location, &entry, ranges).await {
                Err(error) if failure::is_of_another_revision(&error) => self.known.forget(location),
                result => return result,
            }
        }
        let entry = self.entry(location).await?;
        self.read_ranges(location, &entry, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .map(move |location| {
                let store = store.clone();
                async move { store.delete_one(location?).await }
            })
            .buffered(10)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_below(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_below(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.list_folder(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        if !matches!(options.mode, CopyMode::Overwrite) {
            self.entry(from).await?;
            return Err(missing("copy_opts with a condition"));
        }
        let read = self.get_opts(from, GetOptions::default()).await?;
        self.put_bytes(to, read.bytes().await?).await?;
        Ok(())
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        if !matches!(options.target_mode, RenameTargetMode::Overwrite) {
            self.entry(from).await?;
            return Err(missing("rename_opts with a condition"));
        }
        self.copy_opts(from, to, CopyOptions::default()).await?;
        self.delete_one(from.clone()).await?;
        Ok(())
    }
}

fn invalid_range<E: std::error::Error + Send + Sync + 'static>(error: E) -> object_store::Error {
    object_store::Error::Generic {
        store: STORE,
        source: error.into(),
    }
}

fn check_extras(tags: &str, attributes: &Attributes) -> Result<()> {
    if tags.is_empty() && attributes.is_empty() {
        return Ok(());
    }
    Err(missing("put with tags or attributes"))
}
