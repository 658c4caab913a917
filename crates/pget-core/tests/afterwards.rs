//! Events after the expected moment.
//!
//! Writers outlive their reads, bodies fail after their last byte, and readers are dropped after
//! the end.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::StreamExt;
use pget_core::{
    Budget, BufMut, ChunkWriter, Download, ErrorKind, ObjectInfo, Options, RangeRequest, RangeSource,
    SourceError,
};
use pget_testkit::sources::{Form, Object, Play, Staged, Stop};
use tokio::sync::oneshot;

const CHUNK: u64 = 100_000;
const SIZE: u64 = 3 * CHUNK + 7;
const LARGE: u64 = 60 * CHUNK;

fn object() -> Object {
    Object::new(1, SIZE)
}

fn options(concurrency: u32) -> Options {
    pget_testkit::options(CHUNK, concurrency)
}

fn download(source: Arc<dyn RangeSource>, options: Options) -> Download {
    Download::new(source, options).expect("the options are right")
}

/// A source that behaves like a blocking one.
///
/// An abandoned read continues in the background, puts some more bytes, and only then drops its
/// writer.
#[derive(Debug)]
struct Late {
    /// Number of bytes that the first read puts after its end.
    bytes: usize,
    calls: Mutex<Vec<RangeRequest>>,
}

impl Late {
    fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes,
            calls: Mutex::default(),
        })
    }

    fn put(chunk: &mut ChunkWriter, at: u64, most: usize) -> usize {
        let count = chunk.remaining_mut().min(most);
        chunk.put_slice(&object().pattern.bytes(at, count));
        count
    }
}

/// A read that continues when it is dropped.
struct GoesOn {
    chunk: Option<ChunkWriter>,
    bytes: usize,
}

impl Drop for GoesOn {
    fn drop(&mut self) {
        let Some(mut chunk) = self.chunk.take() else {
            return;
        };
        let bytes = self.bytes;
        tokio::spawn(async move {
            // Continue until the download has seen the end of the read.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            let at = chunk.position();
            Late::put(&mut chunk, at, bytes);
        });
    }
}

#[async_trait]
impl RangeSource for Late {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        Err(SourceError::fatal(ErrorKind::Unsupported, "not needed"))
    }

    async fn read(&self, request: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        let first = {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            calls.push(request.clone());
            calls.len() == 1
        };
        let end = request.end.unwrap_or(SIZE).min(SIZE);
        chunk.begin(object().part(request.start..end))?;
        if first {
            chunk.put_slice(&object().pattern.bytes(0, 10));
            let _goes_on = GoesOn {
                chunk: Some(chunk),
                bytes: self.bytes,
            };
            return std::future::pending().await;
        }
        // The bytes are those of the request, as in a body.
        let mut at = request.start;
        while chunk.ready().await? {
            at += Self::put(&mut chunk, at, usize::MAX) as u64;
        }
        Ok(())
    }

    fn name(&self) -> String {
        "late".into()
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_put_behind_the_end_of_a_read_shift_nothing() {
    for concurrency in [1, 2] {
        for bytes in [0, 1, 5000, 99_989, 99_990] {
            let source = Late::new(bytes);
            let mut reader = download(source.clone(), options(concurrency)).reader();
            let mut at = 0;
            while let Some(lease) = reader.next().await.expect("the second read is right") {
                assert_eq!(
                    object().pattern.check(at, &lease),
                    Ok(()),
                    "wrong bytes at {at}, {bytes} late, concurrency {concurrency}"
                );
                at += lease.len() as u64;
            }
            assert_eq!(at, SIZE);
            let calls = source.calls.lock().expect("not poisoned");
            assert!(
                calls
                    .iter()
                    .all(|call| call.end.is_none_or(|end| call.start < end)),
                "an empty range was asked for"
            );
        }
    }
}

/// A source that passes the writer of its first read to another task, which never drops it.
#[derive(Debug)]
struct Keeping {
    others: Arc<Staged>,
    to: Mutex<Option<oneshot::Sender<ChunkWriter>>>,
}

#[async_trait]
impl RangeSource for Keeping {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        self.others.head().await
    }

    async fn read(&self, request: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        // Not the very first read: a fenced read needs siblings that have shown the server's speed.
        let to =
            (request.start == CHUNK).then(|| self.to.lock().unwrap_or_else(PoisonError::into_inner).take());
        match to.flatten() {
            Some(to) => {
                chunk.begin(Object::new(1, LARGE).part(CHUNK..2 * CHUNK))?;
                chunk.put_slice(&object().pattern.bytes(CHUNK, 10));
                to.send(chunk).expect("the test waits");
                std::future::pending().await
            }
            None => self.others.read(request, chunk).await,
        }
    }

    fn name(&self) -> String {
        "keeping".into()
    }
}

/// The read is fenced. No other read may write to its place, so the download waits as long as for a
/// stall.
#[tokio::test(start_paused = true)]
async fn a_fenced_writer_that_nobody_lets_go_of_ends_the_download() {
    let (to, kept) = oneshot::channel();
    let source = Arc::new(Keeping {
        others: Staged::new(|_| Play::right(Object::new(1, LARGE)).paced(20_000, Duration::from_millis(20))),
        to: Mutex::new(Some(to)),
    });
    let mut options = options(4);
    options.window = Some(64);
    let stall = options.deadlines.stall;
    let mut reader = download(source, options).reader();
    let began = tokio::time::Instant::now();
    let all = async {
        while reader.next().await?.is_some() {}
        Ok::<(), pget_core::Error>(())
    };
    let result = tokio::time::timeout(10 * stall, all).await;
    let error = result.expect("it hangs").expect_err("a chunk never comes");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(began.elapsed() < stall + Duration::from_secs(5));
    let stats = reader.stats();
    assert_eq!(
        (stats.stalls, stats.retries),
        (0, 0),
        "it was fenced before: {stats:?}"
    );
    drop(kept);
}

#[tokio::test(start_paused = true)]
async fn a_body_found_wrong_behind_its_last_byte_is_an_error_however_fast_the_consumer() {
    for concurrency in [1, 2] {
        let source = Staged::new(|call| {
            let end = call.request.end.unwrap_or(SIZE).min(SIZE);
            let body = end - call.request.start;
            let play = Play::right(object());
            if end == SIZE {
                // `Pausing` allows the consumer to take all bytes before the failure is reported.
                play.stop(body, Stop::Fatal(ErrorKind::Protocol))
            } else {
                play
            }
        });
        let slow = Arc::new(Pausing(source));
        let mut reader = download(slow, options(concurrency)).reader();
        let result = loop {
            match reader.next().await {
                Ok(Some(_)) => {}
                other => break other,
            }
        };
        assert_eq!(
            result.expect_err("it was reported as a success").kind(),
            ErrorKind::Protocol,
            "concurrency {concurrency}"
        );
    }
}

/// A source that reports the failure of a read only after a while.
#[derive(Debug)]
struct Pausing(Arc<Staged>);

#[async_trait]
impl RangeSource for Pausing {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        self.0.head().await
    }

    async fn read(&self, request: &RangeRequest, chunk: ChunkWriter) -> Result<(), SourceError> {
        let result = self.0.read(request, chunk).await;
        if result.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        result
    }

    fn name(&self) -> String {
        self.0.name()
    }
}

#[tokio::test(start_paused = true)]
async fn the_stream_ends_behind_its_first_error() {
    let source = Staged::new(|_| Play::right(object()).stop(10, Stop::Fatal(ErrorKind::Protocol)));
    let reader = download(source, options(2)).reader();
    let items: Vec<_> = reader.take(1000).collect().await;
    assert_eq!(items.iter().filter(|item| item.is_err()).count(), 1);
    assert!(items.last().is_some_and(Result::is_err));
}

#[tokio::test(start_paused = true)]
async fn a_reader_dropped_behind_the_last_byte_received_gives_its_memory_back_while_a_monitor_lives() {
    let budget = Budget::new(1 << 20, 8);
    let mut options = options(2);
    // The window lets the download receive everything before the consumer takes a byte.
    options.window = Some(8);
    options.budget = Arc::clone(&budget);
    let reader = download(Staged::right(object()), options.clone()).reader();
    let monitor = reader.monitor();
    reader.info().await.expect("it begins");
    // Everything is received, and nothing is taken.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(monitor.stats().received, SIZE);
    drop(reader);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(monitor.stats().buffered, 0, "bytes are kept without a consumer");
}

/// A full chunk at the cursor waits for its consumer, not for memory. A download may exceed the
/// limit by one chunk, not by two.
#[tokio::test(start_paused = true)]
async fn streams_that_nobody_reads_take_one_chunk_each_beyond_the_limit() {
    const LIMIT: u64 = 1 << 20;
    let budget = Budget::new(LIMIT, 64);
    let readers: Vec<_> = (0..20)
        .map(|_| {
            let mut options = options(2);
            options.window = Some(4);
            options.budget = Arc::clone(&budget);
            download(Staged::new(|_| Play::right(object()).form(Form::Whole)), options).reader()
        })
        .collect();
    // Wait until nothing moves. The simulated clock advances only when no task can run.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let buffered = || readers.iter().map(|reader| reader.stats().buffered).sum::<u64>();
    assert!(
        buffered() > LIMIT - CHUNK && buffered() <= LIMIT + 20 * CHUNK,
        "{}",
        buffered()
    );
    // Every download continues when its reader reads.
    for mut reader in readers {
        let all = async { while reader.next().await.expect("it goes on").is_some() {} };
        let ended = tokio::time::timeout(Duration::from_secs(3600), all).await;
        ended.expect("it waits for the others");
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_body_of_known_length_that_breaks_off_is_skipped_to_where_it_was() {
    let source = Staged::new(|call| {
        let play = Play::right(object()).form(Form::Whole);
        if call.number == 0 {
            play.stop(150_000, Stop::Retry(ErrorKind::Unavailable))
        } else {
            play
        }
    });
    let mut reader = download(source.clone(), options(4)).reader();
    let mut at = 0;
    while let Some(lease) = reader
        .next()
        .await
        .expect("it is identified, so it can be resumed")
    {
        assert_eq!(object().pattern.check(at, &lease), Ok(()));
        at += lease.len() as u64;
    }
    assert_eq!((at, source.calls().len()), (SIZE, 2));
}

#[tokio::test(start_paused = true)]
async fn the_last_offset_that_can_be_counted_is_no_hang() {
    let mut options = options(2);
    options.offset = u64::MAX;
    let error = Download::new(Staged::right(object()), options.clone()).err();
    assert_eq!(
        error.expect("there can be no byte").kind(),
        ErrorKind::InvalidArgument
    );
    options.offset = u64::MAX - 1;
    let source = Staged::right(object());
    let mut reader = download(source, options).reader();
    let result = tokio::time::timeout(Duration::from_secs(1000), reader.next()).await;
    assert_eq!(
        result.expect("it ends").expect_err("past the end").kind(),
        ErrorKind::Range
    );
}

#[tokio::test]
async fn a_borrowed_buffer_in_a_runtime_is_a_panic_and_no_abort() {
    let download = download(Staged::right(object()), options(2));
    let runtime = tokio::runtime::Handle::current();
    let mut buffer = vec![0_u8; 10];
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        download.read_into_on(&runtime, &mut buffer).map(drop)
    }));
    assert!(result.is_err(), "waiting here would block the runtime");
}

#[tokio::test(start_paused = true)]
async fn a_long_stream_outlives_any_number_of_breaks_that_are_far_apart() {
    const SMALL: u64 = 5000;
    let object = Object::new(1, 2000 * SMALL);
    let source = Staged::new({
        let object = object.clone();
        move |_| Play::right(object.clone()).stop(25 * SMALL + 4500, Stop::Retry(ErrorKind::Unavailable))
    });
    let mut options = options(1);
    options.chunk_size = Some(SMALL);
    let mut reader = download(source.clone(), options).reader();
    let mut length = 0;
    while let Some(lease) = reader.next().await.expect("chunks completed pay for the retries") {
        length += lease.len() as u64;
    }
    assert_eq!(length, object.size);
    assert!(source.calls().len() > 70);
}
