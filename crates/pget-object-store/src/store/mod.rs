//! The wrapper: what it does itself, and what it passes on. Compiled once for each version of
//! object_store, which `super::object_store` names.
//!
//! - [`PgetStore`] is the wrapper; `get` decides which reads are split, `ranges` does the same for
//!   several ranges of one object.
//! - `known` keeps the revisions that were seen, so that `ranges` needs no first request for them.
//! - `source` lets a download read ranges of the wrapped store, `stream` delivers them.
//! - [`ObjectStoreSource`] is one object of a store as the source of a download.
//! - `failure` translates errors in both directions.

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use pget_core::{Error, Options};
use tokio::runtime::Handle;

use super::object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
    list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore},
    path::Path,
};
use crate::settings::Settings;
use known::Known;

#[cfg(feature = "aistore")]
mod aistore;
mod failure;
mod get;
mod known;
mod object;
mod passed_on;
mod ranges;
mod source;
mod stream;

#[cfg(feature = "aistore")]
pub use aistore::AistoreStore;
pub use object::ObjectStoreSource;
#[cfg(feature = "signer")]
pub(super) use passed_on::pass_on_signatures;
pub(super) use passed_on::pass_on_uploads;

/// A store that reads large objects of another store in parallel.
///
/// - A `get` or a range of more than the [threshold](Self::with_threshold) is read as several
///   ranges. The first one is the probe: it has the caller's preconditions, and its error is the
///   caller's. The others ask for the revision that the probe found (`if_match`, or the version),
///   and each answer is compared with it. If the object is replaced during the read, the stream
///   ends with an error.
/// - Nothing but the probe is sent before the stream is polled. A stream that is dropped cancels
///   its requests.
/// - Everything else goes to the wrapped store as it is: small ranges, objects without entity tag
///   and version, files, heads, lists and writes.
///
/// The wrapped store keeps its own retries. A request that has no answer within
/// [`first_byte`](pget_core::Deadlines::first_byte) is sent again whatever the store does, and
/// a read without progress ends after [`retry_timeout`](Options::retry_timeout). If the store has a
/// timeout for whole requests (30 s by default), only a chunk must meet it, not the object.
///
/// Streams may be polled on any runtime, or on none. Each is driven by a thread of this crate. The
/// requests to the wrapped store are sent on the tokio runtime on which the stream is first polled,
/// if there is one.
pub struct PgetStore<T> {
    inner: Arc<T>,
    settings: Settings,
    known: Arc<Known<ObjectMeta>>,
}

impl<T: ObjectStore> PgetStore<T> {
    /// Wraps `inner` with the defaults.
    pub fn new(inner: T) -> Self {
        Self {
            inner: Arc::new(inner),
            settings: Settings::default(),
            known: Arc::new(Known::new()),
        }
    }

    /// Reads with `options`: chunk size, concurrency, window, deadlines, patience and budget.
    /// `offset`, `length`, `pin` and `verify` are set by each read and ignored here.
    ///
    /// # Errors
    /// [`InvalidArgument`](pget_core::ErrorKind::InvalidArgument) if an option is out of its range.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(feature = "v0_14")] {
    /// use pget_object_store::{Options, v0_14::{PgetStore, object_store::memory::InMemory}};
    ///
    /// let mut options = Options::default();
    /// options.concurrency = Some(8);
    /// let store = PgetStore::new(InMemory::new()).with_options(options).unwrap();
    /// # }
    /// ```
    pub fn with_options(mut self, options: Options) -> std::result::Result<Self, Error> {
        options.check_for(|| self.inner.to_string())?;
        self.settings.options = options;
        Ok(self)
    }

    /// Passes on ranges of at most `bytes`. The default is 2 MiB.
    #[must_use]
    pub fn with_threshold(mut self, bytes: u64) -> Self {
        self.settings.threshold = bytes;
        self
    }

    /// Drives reads and sends their requests on `runtime`, which must have timers enabled, instead
    /// of this crate's thread and the caller's runtime.
    #[must_use]
    pub fn with_runtime(mut self, runtime: Handle) -> Self {
        self.settings.runtime = Some(runtime);
        self
    }
}

impl<T> PgetStore<T> {
    /// Returns the wrapped store.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// Notes the latest revision of an object, if later reads can recognise it.
    fn note(&self, location: &Path, meta: &ObjectMeta) {
        if source::has_identity(meta) {
            self.known.note(location, meta);
        }
    }
}

impl<T> Clone for PgetStore<T> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            settings: self.settings.clone(),
            known: Arc::clone(&self.known),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for PgetStore<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgetStore")
            .field("inner", &self.inner)
            .field("settings", &self.settings)
            .finish()
    }
}

impl<T: fmt::Display> fmt::Display for PgetStore<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PgetStore({})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: ObjectStore> ObjectStore for PgetStore<T> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        get::get(self, location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        ranges::get(self, location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: PaginatedListStore> PaginatedListStore for PgetStore<T> {
    async fn list_paginated(
        &self,
        prefix: Option<&str>,
        opts: PaginatedListOptions,
    ) -> Result<PaginatedListResult> {
        self.inner.list_paginated(prefix, opts).await
    }
}
