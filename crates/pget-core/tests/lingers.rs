//! A read fails while its writer is still in use by code that cannot be stopped.
//!
//! Such code is a blocking read, or a task of its own. The next attempt waits for that writer, and
//! continues after its bytes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use pget_core::{
    BufMut, ChunkWriter, Download, ErrorKind, ObjectInfo, Options, RangeRequest, RangeSource, Reply,
    Revision, SourceError,
};
use pget_testkit::content::Pattern;
use tokio::time::{Instant, sleep};

const CHUNK: u64 = 10_000;
const SIZE: u64 = 10 * CHUNK;
const PATTERN: Pattern = Pattern::new(5);

/// A source that breaks off the first read of one chunk, whose writer lives on for a while.
#[derive(Debug)]
struct Lingers {
    chunk: u64,
    lasts: Duration,
    met: AtomicU32,
    has_writer: Arc<AtomicBool>,
}

fn put(chunk: &mut ChunkWriter, count: u64) {
    let count = usize::try_from(count)
        .expect("a chunk")
        .min(chunk.remaining_mut());
    let bytes = PATTERN.bytes(chunk.position(), count);
    chunk.put_slice(&bytes);
}

#[async_trait]
impl RangeSource for Lingers {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        unreachable!("a size that the first reply states")
    }

    async fn read(&self, request: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        let end = request.end.unwrap_or(SIZE).min(SIZE);
        let is_it = (self.chunk * CHUNK..(self.chunk + 1) * CHUNK).contains(&request.start);
        assert!(
            !(is_it && self.has_writer.load(Ordering::SeqCst)),
            "another attempt while the writer is there"
        );
        chunk.begin(Reply {
            start: request.start,
            length: Some(end - request.start),
            total: Some(SIZE),
            whole: false,
            revision: Revision {
                etag: Some("\"a\"".into()),
                ..Revision::default()
            },
            chunk_hint: None,
            checksum: None,
        })?;
        if is_it && self.met.fetch_add(1, Ordering::SeqCst) == 0 {
            put(&mut chunk, 1000);
            let (lasts, has_writer) = (self.lasts, Arc::clone(&self.has_writer));
            has_writer.store(true, Ordering::SeqCst);
            tokio::spawn(async move {
                sleep(lasts).await;
                put(&mut chunk, 1000);
                has_writer.store(false, Ordering::SeqCst);
                drop(chunk);
            });
            return Err(SourceError::retryable(ErrorKind::Unavailable, "reset"));
        }
        while chunk.position() < end {
            if !chunk.ready().await? {
                break;
            }
            put(&mut chunk, end - request.start);
        }
        Ok(())
    }

    fn name(&self) -> String {
        "object".into()
    }
}

async fn read(concurrency: u32, chunk: u64, lasts: Duration) -> (Result<(), ErrorKind>, Duration) {
    let source = Arc::new(Lingers {
        chunk,
        lasts,
        met: AtomicU32::new(0),
        has_writer: Arc::default(),
    });
    let mut options = Options::default();
    options.chunk_size = Some(CHUNK);
    options.concurrency = Some(concurrency);
    options.deadlines.stall = Duration::from_secs(20);
    let began = Instant::now();
    let download = Download::new(Arc::clone(&source) as _, options).expect("the options are right");
    let (mut reader, mut bytes) = (download.reader(), Vec::new());
    let read = loop {
        match reader.next().await {
            Ok(Some(lease)) => bytes.extend_from_slice(&lease),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.kind()),
        }
    };
    assert!(source.met.load(Ordering::SeqCst) > 0, "it was met");
    assert_eq!(PATTERN.check(0, &bytes), Ok(()));
    assert_eq!(read.is_ok(), bytes.len() as u64 == SIZE);
    (read, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn the_next_attempt_waits_for_a_lingering_writer() {
    for (concurrency, chunk) in [(1, 0), (4, 0), (4, 3), (4, 9)] {
        let lasts = Duration::from_secs(5);
        let (read, took) = read(concurrency, chunk, lasts).await;
        assert_eq!(read, Ok(()), "chunk {chunk} of {concurrency}");
        assert!(took >= lasts && took < Duration::from_secs(30), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_never_goes_is_waited_for_as_long_as_a_stall() {
    let (read, took) = read(4, 3, Duration::from_secs(3600)).await;
    assert_eq!(read, Err(ErrorKind::Timeout));
    assert!(
        took >= Duration::from_secs(20) && took < Duration::from_secs(30),
        "{took:?}"
    );
}

/// An object without an identity that differs in each read.
///
/// The first read ends before its first byte, as if the object were empty. Its writer puts some
/// bytes after that.
#[derive(Debug)]
struct LateBytes {
    reads: AtomicU32,
}

#[async_trait]
impl RangeSource for LateBytes {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        unreachable!("a size that the first reply states")
    }

    async fn read(&self, request: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        let number = self.reads.fetch_add(1, Ordering::SeqCst);
        chunk.begin(Reply {
            start: request.start,
            length: Some(SIZE - request.start),
            total: Some(SIZE),
            whole: request.start == 0,
            revision: Revision::default(),
            chunk_hint: None,
            checksum: None,
        })?;
        if number == 0 {
            tokio::spawn(async move {
                // Wait less than the time until the next attempt, which is a probe.
                sleep(Duration::from_millis(1)).await;
                put(&mut chunk, 1000);
                drop(chunk);
            });
            return Ok(());
        }
        let other = Pattern::new(6);
        while chunk.position() < SIZE && chunk.ready().await? {
            let bytes = other.bytes(chunk.position(), chunk.remaining_mut());
            chunk.put_slice(&bytes);
        }
        Ok(())
    }

    fn name(&self) -> String {
        "object".into()
    }
}

/// Nothing ties the late bytes to those of the next read.
#[tokio::test(start_paused = true)]
async fn late_bytes_of_a_stream_without_identity_are_its_end() {
    for concurrency in [1, 4] {
        let source = Arc::new(LateBytes {
            reads: AtomicU32::new(0),
        });
        let mut options = Options::default();
        options.chunk_size = Some(CHUNK);
        options.concurrency = Some(concurrency);
        let download = Download::new(source, options).expect("the options are right");
        let (mut reader, mut bytes) = (download.reader(), Vec::new());
        let error = loop {
            match reader.next().await {
                Ok(Some(lease)) => bytes.extend_from_slice(&lease),
                Ok(None) => panic!("bytes of two objects are no object"),
                Err(error) => break error,
            }
        };
        assert_eq!(PATTERN.check(0, &bytes), Ok(()));
        assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.to_line());
    }
}

/// A source that answers nothing.
#[derive(Debug)]
struct Silent;

#[async_trait]
impl RangeSource for Silent {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        std::future::pending().await
    }

    async fn read(&self, _: &RangeRequest, _: ChunkWriter) -> Result<(), SourceError> {
        std::future::pending().await
    }

    fn name(&self) -> String {
        "silent".into()
    }
}

/// The default deadlines are longer than this patience, which ends them.
#[tokio::test(start_paused = true)]
async fn case_108_a_silent_source_ends_within_a_short_retry_timeout() {
    for seconds in [2, 10, 25] {
        let mut options = Options::default();
        options.retry_timeout = Duration::from_secs(seconds);
        let begun = Instant::now();
        let download = Download::new(Arc::new(Silent), options).expect("sound options");
        let Err(error) = download.reader().next().await else {
            panic!("nothing was sent");
        };
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        let (took, most) = (begun.elapsed(), Duration::from_secs(seconds) * 11 / 10);
        assert!(took <= most, "{seconds} s: {took:?}");
    }
}
