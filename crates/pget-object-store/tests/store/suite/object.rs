//! `ObjectStoreSource` over stores that behave and a store that does not.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use pget_core::{Download, Error, ErrorKind, Options, RangeSource};
use pget_testkit::{
    conformance::{self, Fixture},
    content::Pattern,
};

use super::super::pget::{
    ObjectStoreSource,
    object_store::{
        CopyOptions, Error as StoreError, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
        MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions,
        PutPayload, PutResult, Result as StoreResult, local::LocalFileSystem, memory::InMemory, path::Path,
    },
};

const CHUNK: u64 = 64 << 10;
const PATTERN: Pattern = Pattern::new(31);

/// Every test ends within this time.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .expect("it must end")
}

fn options(offset: u64, length: Option<u64>) -> Options {
    let mut options = Options::default();
    options.chunk_size = Some(CHUNK);
    options.concurrency = Some(4);
    options.retries = Some(2);
    options.offset = offset;
    options.length = length;
    options
}

async fn read(store: Arc<dyn ObjectStore>, key: &str, options: Options) -> Result<Vec<u8>, Error> {
    let source = ObjectStoreSource::new(store, Path::parse(key).expect("a path"));
    let mut reader = Download::new(Arc::new(source), options)?.reader();
    let mut bytes = Vec::new();
    while let Some(lease) = reader.next().await? {
        bytes.extend_from_slice(&lease);
    }
    Ok(bytes)
}

async fn put(store: &dyn ObjectStore, key: &str, pattern: Pattern, length: u64) {
    let bytes = pattern.bytes(0, usize::try_from(length).expect("small"));
    store
        .put(&Path::parse(key).expect("a path"), bytes.into())
        .await
        .expect("put");
}

fn check(bytes: &[u8], offset: u64, length: u64) {
    assert_eq!(bytes.len() as u64, length);
    assert_eq!(PATTERN.check(offset, bytes), Ok(()));
}

async fn sizes_are_exact(store: Arc<dyn ObjectStore>) {
    for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 3] {
        let key = format!("of size/{size}");
        put(&*store, &key, PATTERN, size).await;
        check(
            &read(Arc::clone(&store), &key, options(0, None))
                .await
                .expect("all"),
            0,
            size,
        );
        let (offset, length) = (size / 3, size / 2);
        let part = options(offset, Some(length));
        let bytes = read(Arc::clone(&store), &key, part).await.expect("a part");
        check(&bytes, offset, length);
        let mut one = options(offset, None);
        one.concurrency = Some(1);
        let bytes = read(Arc::clone(&store), &key, one).await.expect("one stream");
        check(&bytes, offset, size - offset);
        let empty = read(Arc::clone(&store), &key, options(size, None))
            .await
            .expect("the end");
        assert!(empty.is_empty());
        let beyond = read(Arc::clone(&store), &key, options(size + 1, None)).await;
        assert_eq!(
            beyond.expect_err("after the end").kind(),
            ErrorKind::Range,
            "size {size}"
        );
    }
    let missing = read(Arc::clone(&store), "missing", options(0, None)).await;
    assert_eq!(missing.expect_err("missing").kind(), ErrorKind::NotFound);
}

struct Anywhere(Arc<dyn ObjectStore>);

#[async_trait]
impl Fixture for Anywhere {
    async fn put(&self, name: &str, pattern: Pattern, size: u64) -> Arc<dyn RangeSource> {
        put(&*self.0, name, pattern, size).await;
        Arc::new(ObjectStoreSource::new(Arc::clone(&self.0), Path::from(name)))
    }

    async fn missing(&self) -> Arc<dyn RangeSource> {
        Arc::new(ObjectStoreSource::new(Arc::clone(&self.0), Path::from("missing")))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_conforms() {
    conformance::run(&Anywhere(Arc::new(InMemory::new()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_conform() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = LocalFileSystem::new_with_prefix(folder.path()).expect("a store");
    conformance::run(&Anywhere(Arc::new(store))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_read_exactly() {
    within(sizes_are_exact(Arc::new(InMemory::new()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_read_exactly() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = LocalFileSystem::new_with_prefix(folder.path()).expect("a store");
    within(sizes_are_exact(Arc::new(store))).await;
}

#[tokio::test]
async fn head_tells_what_a_read_tells() {
    let store = Arc::new(InMemory::new());
    put(&*store, "k", PATTERN, 10).await;
    let source = ObjectStoreSource::new(store, Path::from("k"));
    let info = within(source.head()).await.expect("head");
    assert_eq!(info.size, Some(10));
    assert!(info.revision.strong_etag().is_some());
    assert_eq!(source.name(), "InMemory/k");
}

/// What the evil store does from its second ranged read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evil {
    /// Puts another object in the place of the first, then answers honestly.
    Replace,
    /// Ignores conditions, and replaces.
    ReplaceAndIgnoreConditions,
    /// Deletes the object, then answers honestly.
    Delete,
    /// Says the right range, delivers half of it, unless it is small.
    Short,
    /// Says the right range, delivers one byte more.
    Long,
    /// Says and delivers a range that starts one byte late.
    Shifted,
    /// Says and delivers a longer range.
    Longer,
    /// Fails in the middle of the body, once.
    BreakOnce,
    /// Says that the object is larger than it is.
    Grown,
    Deny,
    Refuse,
    /// A range that ends before it starts.
    Reversed,
}

struct EvilStore {
    inner: InMemory,
    evil: Evil,
    reads: AtomicU32,
    served: AtomicU32,
}

impl fmt::Debug for EvilStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EvilStore { secret: canary }")
    }
}

impl fmt::Display for EvilStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("evil")
    }
}

fn refusal() -> Box<dyn std::error::Error + Send + Sync> {
    "GET http://host/k?sig=canary: <?xml?><Error><Code>AccessDenied</Code><StringToSign>canary</StringToSign></Error>"
        .into()
}

impl EvilStore {
    fn lie(&self, mut result: GetResult) -> GetResult {
        let start = result.range.start;
        let length = usize::try_from(result.range.end - start).expect("small");
        let (from, count) = match self.evil {
            Evil::Short if length > 16 << 10 => (start, length / 2),
            Evil::Long => (start, length + 1),
            Evil::Shifted => (start + 1, length),
            Evil::Longer => (start, length + 8),
            _ => (start, length),
        };
        match self.evil {
            Evil::Shifted => result.range = from..from + count as u64,
            Evil::Longer => result.range = from..from + count as u64,
            Evil::Reversed => std::mem::swap(&mut result.range.start, &mut result.range.end),
            Evil::Grown => result.meta.size += 1,
            _ => {}
        }
        let mut pieces = vec![Ok(Bytes::from(PATTERN.bytes(from, count)))];
        if self.evil == Evil::BreakOnce {
            let half = Bytes::from(PATTERN.bytes(from, count / 2));
            let error = StoreError::Generic {
                store: "evil",
                source: refusal(),
            };
            pieces = vec![Ok(half), Err(error)];
        }
        result.payload = GetResultPayload::Stream(futures_util::stream::iter(pieces).boxed());
        result
    }
}

#[async_trait]
impl ObjectStore for EvilStore {
    async fn get_opts(&self, location: &Path, mut options: GetOptions) -> StoreResult<GetResult> {
        if options.head || self.reads.fetch_add(1, Ordering::SeqCst) == 0 {
            return self.inner.get_opts(location, options).await;
        }
        let served = self.served.fetch_add(1, Ordering::SeqCst);
        let path = location.to_string();
        match self.evil {
            Evil::Replace | Evil::ReplaceAndIgnoreConditions if served == 0 => {
                put(&self.inner, location.as_ref(), Pattern::new(32), 5 * CHUNK + 3).await;
            }
            Evil::Delete if served == 0 => self.inner.delete(location).await?,
            Evil::BreakOnce if served > 0 => return self.inner.get_opts(location, options).await,
            Evil::Deny => {
                return Err(StoreError::PermissionDenied {
                    path,
                    source: refusal(),
                });
            }
            Evil::Refuse => return Err(StoreError::NotSupported { source: refusal() }),
            _ => {}
        }
        if self.evil == Evil::ReplaceAndIgnoreConditions {
            options.if_match = None;
        }
        let honest = matches!(
            self.evil,
            Evil::Replace | Evil::ReplaceAndIgnoreConditions | Evil::Delete
        );
        assert!(
            matches!(options.range, Some(GetRange::Bounded(_))),
            "more than one range is read"
        );
        let result = self.inner.get_opts(location, options).await?;
        Ok(if honest { result } else { self.lie(result) })
    }

    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> StoreResult<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

async fn meet(evil: Evil) -> Result<Vec<u8>, Error> {
    let store = Arc::new(EvilStore {
        inner: InMemory::new(),
        evil,
        reads: AtomicU32::new(0),
        served: AtomicU32::new(0),
    });
    put(&*store, "k", PATTERN, 5 * CHUNK + 3).await;
    let source: Arc<dyn ObjectStore> = Arc::clone(&store) as _;
    let outcome = within(read(source, "k", options(0, None))).await;
    assert!(store.served.load(Ordering::SeqCst) > 0, "{evil:?} was never met");
    outcome
}

#[tokio::test]
async fn an_evil_store_is_found_out() {
    for (evil, kind) in [
        (Evil::Replace, ErrorKind::ObjectChanged),
        (Evil::ReplaceAndIgnoreConditions, ErrorKind::ObjectChanged),
        (Evil::Delete, ErrorKind::ObjectChanged),
        (Evil::Grown, ErrorKind::ObjectChanged),
        (Evil::Long, ErrorKind::Protocol),
        (Evil::Shifted, ErrorKind::Protocol),
        (Evil::Longer, ErrorKind::Protocol),
        (Evil::Reversed, ErrorKind::Protocol),
        (Evil::Deny, ErrorKind::PermissionDenied),
        (Evil::Refuse, ErrorKind::Unsupported),
    ] {
        let error = meet(evil).await.expect_err("it must be found out");
        assert_eq!(error.kind(), kind, "{evil:?}: {}", error.to_line());
        let text = format!("{error} {error:?} {}", error.to_line());
        assert!(!text.contains("canary"), "{evil:?}: {text}");
    }
}

#[tokio::test]
async fn a_break_and_a_short_body_are_resumed() {
    for evil in [Evil::BreakOnce, Evil::Short] {
        let bytes = meet(evil)
            .await
            .unwrap_or_else(|error| panic!("{evil:?}: {}", error.to_line()));
        check(&bytes, 0, 5 * CHUNK + 3);
    }
}

#[tokio::test]
async fn debug_does_not_show_the_store() {
    let store = EvilStore {
        inner: InMemory::new(),
        evil: Evil::Deny,
        reads: AtomicU32::new(0),
        served: AtomicU32::new(0),
    };
    let source = ObjectStoreSource::new(Arc::new(store), Path::from("k")).with_version("1");
    assert!(!format!("{source:?}").contains("canary"));
}
