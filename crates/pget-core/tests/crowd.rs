//! Two hundred simultaneous downloads share a budget that is far too small for all of them.
//!
//! They are dropped and cancelled at random. Every download must end, all memory must come back,
//! and the limits of `Budget` must hold: its bytes plus one chunk per download, and its requests
//! plus one per download. A chunk at a cursor never waits for the budget.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use fastrand::Rng;
use pget_core::{
    Budget, BufMut, Cancel, ChunkWriter, Destination, Download, Error, ErrorKind, Monitor, ObjectInfo,
    Options, RangeRequest, RangeSource, Reply, Revision, SourceError, Transfer,
};
use pget_testkit::content::Pattern;
use tokio::{runtime::Handle, task::JoinSet, time::sleep};

const DOWNLOADS: usize = 200;
const CHUNK: u64 = 64 << 10;
/// The least budget in bytes: sixteen chunks for two hundred downloads.
const LIMIT: u64 = 1 << 20;
const CONNECTIONS: usize = 16;

/// The state that all downloads share.
struct Crowd {
    budget: Arc<Budget>,
    active: AtomicUsize,
    most_active: AtomicUsize,
    monitors: Mutex<Vec<Option<Monitor>>>,
    most_buffered: AtomicU64,
    /// Number of requests that were made while the budget was exhausted.
    tight: AtomicUsize,
    completed: AtomicUsize,
    left: AtomicUsize,
}

impl Crowd {
    fn new(connections: usize) -> Arc<Self> {
        Arc::new(Self {
            budget: Budget::new(LIMIT, connections),
            active: AtomicUsize::new(0),
            most_active: AtomicUsize::new(0),
            monitors: Mutex::new((0..DOWNLOADS).map(|_| None).collect()),
            most_buffered: AtomicU64::new(0),
            tight: AtomicUsize::new(0),
            completed: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
        })
    }

    /// Adds up the memory in the slots of all downloads.
    fn measure(&self) {
        let monitors = self.monitors.lock().expect("no panic under it");
        let buffered = monitors.iter().flatten().map(|one| one.stats().buffered).sum();
        self.most_buffered.fetch_max(buffered, Ordering::Relaxed);
        let is_tight = LIMIT - self.budget.taken() < CHUNK;
        self.tight.fetch_add(usize::from(is_tight), Ordering::Relaxed);
        assert!(self.budget.taken() <= LIMIT && self.budget.in_flight() <= CONNECTIONS);
    }
}

/// The source of one download.
struct Source {
    crowd: Arc<Crowd>,
    pattern: Pattern,
    size: u64,
    rng: Mutex<Rng>,
}

impl Source {
    fn new(crowd: &Arc<Crowd>, pattern: Pattern, size: u64, rng: Rng) -> Arc<Self> {
        Arc::new(Self {
            crowd: Arc::clone(crowd),
            pattern,
            size,
            rng: Mutex::new(rng),
        })
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({} bytes)", self.size)
    }
}

/// Counts a read as active as long as this value lives.
struct Active<'a>(&'a Crowd);

impl<'a> Active<'a> {
    fn new(crowd: &'a Crowd) -> Self {
        let now = crowd.active.fetch_add(1, Ordering::SeqCst) + 1;
        crowd.most_active.fetch_max(now, Ordering::SeqCst);
        Self(crowd)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl RangeSource for Source {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        Ok(ObjectInfo {
            size: Some(self.size),
            ..ObjectInfo::default()
        })
    }

    async fn read(&self, request: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        let _active = Active::new(&self.crowd);
        if request.start >= self.size {
            return Err(SourceError::fatal(ErrorKind::Range, "past the end"));
        }
        let end = request.end.unwrap_or(u64::MAX).min(self.size);
        let (latency, breaks) = {
            let mut rng = self.rng.lock().expect("no panic under it");
            (
                Duration::from_micros(rng.u64(0..3000)),
                (rng.u32(0..10) == 0).then(|| rng.u64(request.start..end)),
            )
        };
        sleep(latency).await;
        chunk.begin(Reply {
            start: request.start,
            length: Some(end - request.start),
            total: Some(self.size),
            revision: Revision {
                etag: Some("\"one\"".into()),
                ..Revision::default()
            },
            ..Reply::default()
        })?;
        let mut at = request.start;
        while chunk.ready().await? {
            if breaks.is_some_and(|breaks| at >= breaks) {
                return Err(SourceError::retryable(ErrorKind::Unavailable, "reset"));
            }
            let piece = chunk.remaining_mut().min(20_000);
            chunk.put_slice(&self.pattern.bytes(at, piece));
            at += piece as u64;
            self.crowd.measure();
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn name(&self) -> String {
        "one of many".into()
    }
}

/// A destination that accepts pages, and checks them.
#[derive(Debug)]
struct Checked(Pattern);

impl Destination for Checked {
    fn begin(&self, _: &ObjectInfo, _: u64, _: Option<u64>) -> Result<Transfer, Error> {
        Ok(Transfer::Put)
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        assert_eq!(self.0.check(offset, bytes), Ok(()));
        Ok(())
    }
}

/// Runs one download from its options to its end.
async fn one(crowd: Arc<Crowd>, seed: u64, index: usize) {
    let mut rng = Rng::with_seed(seed ^ (index as u64) << 32);
    let size = rng.u64(0..CHUNK * 20);
    let pattern = Pattern::new(rng.u64(..));
    let source = Source::new(&crowd, pattern, size, rng.fork());
    let cancel = Cancel::new();
    let mut options = Options::default();
    options.chunk_size = Some(CHUNK);
    options.concurrency = Some([1, 4, 8][rng.usize(0..3)]);
    options.retries = Some(20);
    options.budget = Arc::clone(&crowd.budget);
    options.cancel = Some(cancel.clone());
    options.seed = Some(rng.u64(..));
    let download = Download::new(Arc::clone(&source) as _, options).expect("the options are right");
    let to_a_destination = rng.u32(0..4) == 0;
    let pause = [0, 0, 3000][rng.usize(0..3)];
    let end = rng.u32(0..4);
    let leaves_after = Duration::from_micros(rng.u64(0..60_000));
    let task = {
        let crowd = Arc::clone(&crowd);
        async move {
            if to_a_destination {
                return download.read_to(Arc::new(Checked(pattern))).await.map(|_| size);
            }
            let mut reader = download.reader();
            crowd.monitors.lock().expect("no panic under it")[index] = Some(reader.monitor());
            let mut at = 0;
            while let Some(lease) = reader.next().await? {
                assert_eq!(pattern.check(at, &lease), Ok(()), "wrong bytes");
                at += lease.len() as u64;
                drop(lease);
                if pause > 0 {
                    sleep(Duration::from_micros(rng.u64(0..pause))).await;
                }
            }
            Ok(at)
        }
    };
    let mut task = std::pin::pin!(task);
    let result = tokio::select! {
        result = &mut task => Some(result),
        () = sleep(leaves_after), if end < 2 => None,
    };
    let result = match (result, end) {
        (Some(result), _) => Some(result),
        (None, 0) => {
            cancel.trigger();
            Some(task.await)
        }
        // The download is dropped at the end of this function.
        (None, _) => None,
    };
    match result {
        Some(Ok(length)) => {
            assert_eq!(length, size);
            crowd.completed.fetch_add(1, Ordering::Relaxed);
        }
        Some(Err(error)) => {
            assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
            crowd.left.fetch_add(1, Ordering::Relaxed);
        }
        None => {
            crowd.left.fetch_add(1, Ordering::Relaxed);
        }
    }
    crowd.monitors.lock().expect("no panic under it")[index] = None;
}

/// Runs all downloads. Checks the limits after all have ended.
async fn play(seed: u64) -> Arc<Crowd> {
    let crowd = Crowd::new(CONNECTIONS);
    let mut all = JoinSet::new();
    for index in 0..DOWNLOADS {
        all.spawn(one(Arc::clone(&crowd), seed, index));
    }
    while let Some(ended) = all.join_next().await {
        ended.expect("none panics");
    }
    let chunks = DOWNLOADS as u64 * CHUNK;
    let buffered = crowd.most_buffered.load(Ordering::Relaxed);
    assert!(buffered <= LIMIT + chunks, "{buffered} bytes in slots");
    let active = crowd.most_active.load(Ordering::Relaxed);
    assert!(active <= CONNECTIONS + DOWNLOADS, "{active} requests in flight");
    eprintln!("seed {seed}: {buffered} bytes in slots and at most {active} requests");
    crowd
}

fn held_by(crowd: &Arc<Crowd>) -> (u64, usize, usize, usize) {
    (
        crowd.budget.taken(),
        crowd.budget.in_flight(),
        crowd.active.load(Ordering::SeqCst),
        // Each source holds one reference.
        Arc::strong_count(crowd) - 1,
    )
}

#[test]
fn the_limits_hold_for_two_hundred_downloads_and_all_comes_back() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    for seed in 0..3 {
        let (tight, completed, left) = runtime.block_on(async {
            // The time is virtual, and far beyond every deadline.
            let crowd = tokio::time::timeout(Duration::from_secs(3600), play(seed))
                .await
                .unwrap_or_else(|_| panic!("seed {seed}: it hangs"));
            sleep(Duration::from_millis(100)).await;
            assert_eq!(held_by(&crowd), (0, 0, 0, 0), "seed {seed}");
            assert_eq!(Handle::current().metrics().num_alive_tasks(), 0, "seed {seed}");
            let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
            (count(&crowd.tight), count(&crowd.completed), count(&crowd.left))
        });
        eprintln!("seed {seed}: {tight} times tight, {completed} completed, {left} left");
        assert!(
            tight > 1000 && completed > 50 && left > 20,
            "{tight} {completed} {left}"
        );
    }
}

/// Runs the crowd on several threads.
#[test]
fn the_limits_hold_across_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let deadline = Duration::from_secs(120);
        let all = async {
            let crowd = play(7).await;
            while held_by(&crowd) != (0, 0, 0, 0) || Handle::current().metrics().num_alive_tasks() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(deadline, all)
            .await
            .expect("everything ends and comes back");
    });
}

/// A download without a reader takes all memory. As a single stream, it also keeps the only
/// connection. Another download's chunk at the cursor waits for neither.
#[test]
fn a_download_that_is_not_read_holds_up_no_other() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let size = 40 * CHUNK + 1;
    for concurrency in [1, 4] {
        runtime.block_on(async {
            let crowd = Crowd::new(1);
            let reader = |seed| {
                let mut options = Options::default();
                options.chunk_size = Some(CHUNK);
                options.concurrency = Some(concurrency);
                options.window = Some(32);
                options.retries = Some(20);
                options.budget = Arc::clone(&crowd.budget);
                options.seed = Some(seed);
                let source = Source::new(&crowd, Pattern::new(seed), size, Rng::with_seed(seed));
                let download = Download::new(source as _, options).expect("the options are right");
                (seed, download.reader())
            };
            let (mut idle, mut read) = (reader(1), reader(2));
            let first = idle.1.next().await.expect("no error").expect("not the end");
            assert_eq!(Pattern::new(1).check(0, &first), Ok(()));
            let mut idle = (idle.0, idle.1, first.len() as u64);
            drop(first);
            // The time is virtual. The download gets as far as it can.
            sleep(Duration::from_secs(60)).await;
            let held = (crowd.budget.taken(), crowd.budget.in_flight());
            assert!(LIMIT - held.0 < CHUNK, "{held:?}");
            assert_eq!(held.1, usize::from(concurrency == 1));
            // The window would take twice as much.
            let buffered = idle.1.monitor().stats().buffered;
            assert!(buffered <= LIMIT + CHUNK, "{buffered} bytes in slots");
            for (seed, reader, at) in [(read.0, &mut read.1, 0), (idle.0, &mut idle.1, idle.2)] {
                let mut at = at;
                let all = async {
                    while let Some(lease) = reader.next().await.expect("no error") {
                        assert_eq!(Pattern::new(seed).check(at, &lease), Ok(()), "wrong bytes");
                        at += lease.len() as u64;
                    }
                };
                tokio::time::timeout(Duration::from_secs(600), all)
                    .await
                    .unwrap_or_else(|_| panic!("concurrency {concurrency}: download {seed} waits"));
                assert_eq!(at, size);
            }
            drop((idle, read));
            sleep(Duration::from_millis(100)).await;
            assert_eq!(held_by(&crowd), (0, 0, 0, 0));
        });
    }
}
