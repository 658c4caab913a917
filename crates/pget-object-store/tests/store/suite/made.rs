//! A store whose objects are computed, and which notes what it is asked for.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use pget_testkit::content::Pattern;

use super::super::pget::object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    path::Path,
};

/// Bytes of a piece of a body.
const PIECE: u64 = 16 << 10;

/// Serves one object at every path. Every revision has the same size and other bytes.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) size: u64,
    /// Chooses the revision.
    pub(super) seed: Arc<AtomicU64>,
    pub(super) has_etag: bool,
    pub(super) is_weak: bool,
    pub(super) has_version: bool,
    /// Whether conditions are checked, as some servers do not.
    pub(super) checks: bool,
    /// After so many requests for content, the object is another revision.
    pub(super) changes_after: u64,
    /// Before each piece.
    pub(super) pause: Duration,
    pub(super) asked: Mutex<Vec<GetOptions>>,
    pub(super) lists_asked: AtomicU64,
    /// Bytes of bodies that were taken.
    pub(super) taken: Arc<AtomicU64>,
    /// Bodies that exist.
    pub(super) open: Arc<AtomicU64>,
    pub(super) panics: AtomicBool,
    /// The names of the threads that asked.
    pub(super) threads: Arc<Mutex<Vec<String>>>,
}

impl Made {
    pub(super) fn new(size: u64) -> Self {
        Self {
            size,
            seed: Arc::new(AtomicU64::new(1)),
            has_etag: true,
            is_weak: false,
            has_version: false,
            checks: true,
            changes_after: u64::MAX,
            pause: Duration::ZERO,
            asked: Mutex::default(),
            lists_asked: AtomicU64::new(0),
            taken: Arc::default(),
            open: Arc::default(),
            panics: AtomicBool::new(false),
            threads: Arc::default(),
        }
    }

    /// How many requests have come.
    pub(super) fn requests(&self) -> usize {
        self.asked.lock().expect("no panic").len()
    }

    /// The ranges that were asked for.
    pub(super) fn ranges(&self) -> Vec<Option<GetRange>> {
        let asked = self.asked.lock().expect("no panic");
        asked.iter().map(|options| options.range.clone()).collect()
    }

    fn meta(&self, location: &Path, seed: u64) -> ObjectMeta {
        ObjectMeta {
            location: location.clone(),
            last_modified: Default::default(),
            size: self.size,
            e_tag: self.has_etag.then(|| {
                let weak = if self.is_weak { "W/" } else { "" };
                format!("{weak}\"{seed}\"")
            }),
            version: self.has_version.then(|| seed.to_string()),
        }
    }
}

/// Counted while it exists.
struct Open(Arc<AtomicU64>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn body(store: &Made, seed: u64, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
    let (taken, pause) = (Arc::clone(&store.taken), store.pause);
    store.open.fetch_add(1, Ordering::SeqCst);
    let open = Open(Arc::clone(&store.open));
    futures_util::stream::unfold((range, open), move |(range, open)| {
        let taken = Arc::clone(&taken);
        async move {
            if range.is_empty() {
                return None;
            }
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let end = range.end.min(range.start + PIECE);
            let length = usize::try_from(end - range.start).expect("small");
            taken.fetch_add(end - range.start, Ordering::SeqCst);
            let piece = Pattern::new(seed).bytes(range.start, length);
            Some((Ok(piece.into()), (end..range.end, open)))
        }
    })
    .boxed()
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Made")
    }
}

fn missing<T>(operation: &str) -> Result<T> {
    Err(Error::NotImplemented {
        operation: operation.into(),
        implementer: "Made".into(),
    })
}

#[async_trait]
impl ObjectStore for Made {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        missing("put")
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        missing("put_multipart")
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let number = {
            let mut asked = self.asked.lock().expect("no panic");
            asked.push(options.clone());
            asked.len() as u64
        };
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        self.threads.lock().expect("no panic").push(thread);
        assert!(!self.panics.load(Ordering::SeqCst), "as the test wants it");
        let changed = u64::from(number > self.changes_after);
        let seed = self.seed.load(Ordering::SeqCst) + changed;
        let seed = match &options.version {
            Some(version) => version.parse().expect("a version of this store"),
            None => seed,
        };
        let meta = self.meta(location, seed);
        if self.checks {
            options.check_preconditions(&meta)?;
        }
        let range = match &options.range {
            None => 0..self.size,
            Some(range) => range.as_range(self.size).map_err(|error| Error::Generic {
                store: "Made",
                source: error.into(),
            })?,
        };
        let payload = GetResultPayload::Stream(if options.head {
            futures_util::stream::empty().boxed()
        } else {
            body(self, seed, range.clone())
        });
        Ok(super::super::result(payload, meta, range, Attributes::new()))
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.lists_asked.fetch_add(1, Ordering::SeqCst);
        let mut read = Vec::new();
        for range in ranges {
            let options = GetOptions {
                range: Some(range.clone().into()),
                ..GetOptions::default()
            };
            read.push(self.get_opts(location, options).await?.bytes().await?);
        }
        Ok(read)
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        futures_util::stream::once(async { missing("delete") }).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        futures_util::stream::once(async { missing("list") }).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        missing("list_with_delimiter")
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        missing("copy")
    }
}
