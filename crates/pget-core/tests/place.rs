//! Reads straight into the caller's memory.
//!
//! The call delivers the right bytes, and the right size or an error that contains it. No writer is
//! left after the call has returned.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use pget_core::{
    BufMut, Cancel, ChunkWriter, Download, Error, ErrorKind, ObjectInfo, Options, RangeRequest, RangeSource,
    Reply, Revision, SourceError,
};
use pget_testkit::sources::{Form, Object, Play, Staged, Stop};

const CHUNK: u64 = 100_000;
const DEADLINE: Duration = Duration::from_secs(60);

fn options(concurrency: u32) -> Options {
    pget_testkit::options(CHUNK, concurrency)
}

/// Reads in both forms, which must agree.
async fn place(
    source: Arc<dyn RangeSource>,
    options: Options,
    capacity: usize,
) -> (Result<usize, Error>, Vec<u8>) {
    let download = Download::new(source, options).expect("the options are right");
    let owned = download.read_into(vec![0xAA_u8; capacity]);
    let (result, buffer) = tokio::time::timeout(DEADLINE, owned).await.expect("it ends");
    let buffer = buffer.expect("the buffer comes back");
    let runtime = tokio::runtime::Handle::current();
    let blocking = tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0xAA_u8; capacity];
        let result = download.read_into_on(&runtime, &mut buffer);
        (result, buffer)
    });
    let (again, borrowed) = tokio::time::timeout(DEADLINE, blocking)
        .await
        .expect("it ends")
        .expect("no panic");
    assert_eq!(
        result.as_ref().map_err(Error::kind),
        again.as_ref().map_err(Error::kind)
    );
    if result.is_ok() {
        assert_eq!(buffer, borrowed, "the two forms differ");
    }
    (result, buffer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_and_ranges_are_right() {
    for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 3, 30 * CHUNK] {
        for concurrency in [1, 3, 16] {
            for (offset, length) in [
                (0, None),
                (size / 3, None),
                (size / 3, Some(size / 2)),
                (size, None),
            ] {
                let object = Object::new(size, size);
                let mut options = options(concurrency);
                (options.offset, options.length) = (offset, length);
                let expected = length.unwrap_or(u64::MAX).min(size - offset);
                let expected = usize::try_from(expected).expect("small");
                let (result, buffer) = place(Staged::right(object.clone()), options, expected + 10).await;
                assert_eq!(
                    result.expect("it fits"),
                    expected,
                    "{size} {offset} {length:?} {concurrency}"
                );
                assert_eq!(object.pattern.check(offset, &buffer[..expected]), Ok(()));
                assert!(
                    buffer[expected..].iter().all(|byte| *byte == 0xAA),
                    "bytes after the end were touched"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buffer_one_byte_too_small_is_told_the_size_and_not_written() {
    for concurrency in [1, 4] {
        let size = 3 * CHUNK;
        let source = Staged::right(Object::new(1, size));
        let capacity = usize::try_from(size).expect("small") - 1;
        let (result, buffer) = place(source, options(concurrency), capacity).await;
        let error = result.expect_err("it does not fit");
        assert_eq!(
            (error.kind(), error.needed()),
            (ErrorKind::BufferTooSmall, Some(size))
        );
        assert!(buffer.iter().all(|byte| *byte == 0xAA));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_without_size_is_copied_in_order() {
    let size = 3 * CHUNK + 5;
    let source = || {
        let object = Object::new(1, size);
        Staged::new(move |_| Play::right(object.clone()).form(Form::WholeUntilEnd))
    };
    let exact = usize::try_from(size).expect("small");
    let (result, buffer) = place(source(), options(4), exact).await;
    assert_eq!(result.expect("it fits"), exact);
    assert_eq!(Object::new(1, size).pattern.check(0, &buffer), Ok(()));
    let (result, _) = place(source(), options(4), exact - 1).await;
    let error = result.expect_err("it does not fit");
    assert_eq!((error.kind(), error.needed()), (ErrorKind::BufferTooSmall, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_resume_and_changes_end_it() {
    let size = 20 * CHUNK + 9;
    let object = Object::new(1, size);
    let flaky = Staged::new({
        let object = object.clone();
        move |call| {
            let play = Play::right(object.clone());
            if call.request.attempt == 0 && call.request.start % CHUNK == 0 {
                play.stop(30_000, Stop::Retry(ErrorKind::Unavailable))
            } else {
                play
            }
        }
    });
    let (result, buffer) = place(flaky, options(4), usize::try_from(size).expect("small")).await;
    assert_eq!(
        result.map_err(|error| error.to_string()),
        Ok(usize::try_from(size).expect("small"))
    );
    assert_eq!(object.pattern.check(0, &buffer), Ok(()));

    let changing = Staged::new(move |call| {
        Play::right(Object::new(
            if call.request.start > 10 * CHUNK { 2 } else { 1 },
            size,
        ))
    });
    let (result, _) = place(changing, options(4), usize::try_from(size).expect("small")).await;
    assert_eq!(
        result.expect_err("two revisions").kind(),
        ErrorKind::ObjectChanged
    );
}

/// A source that writes slowly from a thread that no cancel reaches, like a `pread` of a hanging
/// file system.
#[derive(Debug)]
struct Stubborn {
    writing: Arc<AtomicBool>,
}

#[async_trait]
impl RangeSource for Stubborn {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        Err(SourceError::fatal(ErrorKind::Unsupported, "not asked"))
    }

    async fn read(&self, request: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        let end = request.end.unwrap_or(10 * CHUNK);
        chunk.begin(Reply {
            start: request.start,
            length: Some(end - request.start),
            total: Some(10 * CHUNK),
            whole: false,
            revision: Revision {
                version: Some("1".into()),
                ..Revision::default()
            },
            chunk_hint: None,
            checksum: None,
        })?;
        let writing = Arc::clone(&self.writing);
        let thread = tokio::task::spawn_blocking(move || {
            writing.store(true, Ordering::SeqCst);
            for _ in 0..50 {
                std::thread::sleep(Duration::from_millis(10));
                chunk.put_u8(7);
            }
            writing.store(false, Ordering::SeqCst);
        });
        thread
            .await
            .map_err(|_| SourceError::fatal(ErrorKind::Internal, "the thread panicked"))?;
        std::future::pending().await
    }

    fn name(&self) -> String {
        "stubborn".into()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_call_returns_only_when_no_writer_is_left() {
    let writing = Arc::new(AtomicBool::new(false));
    let cancel = Cancel::new();
    let mut options = options(1);
    options.cancel = Some(cancel.clone());
    let download = Download::new(
        Arc::new(Stubborn {
            writing: Arc::clone(&writing),
        }),
        options,
    )
    .expect("right");
    let runtime = tokio::runtime::Handle::current();
    let call = tokio::task::spawn_blocking({
        let writing = Arc::clone(&writing);
        move || {
            let mut buffer = vec![0_u8; usize::try_from(10 * CHUNK).expect("small")];
            let result = download.read_into_on(&runtime, &mut buffer);
            (result, writing.load(Ordering::SeqCst))
        }
    });
    while !writing.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    cancel.trigger();
    let (result, still_writing) = tokio::time::timeout(DEADLINE, call)
        .await
        .expect("it ends")
        .expect("no panic");
    assert_eq!(result.expect_err("cancelled").kind(), ErrorKind::Cancelled);
    assert!(
        !still_writing,
        "the call returned while its buffer was being written"
    );
}

/// A buffer that sets a flag when it is freed.
struct Watched(Vec<u8>, Arc<AtomicBool>);

impl AsMut<[u8]> for Watched {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.1.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_future_leaves_the_buffer_to_the_last_writer() {
    let (writing, freed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let source = Arc::new(Stubborn {
        writing: Arc::clone(&writing),
    });
    let download = Download::new(source, options(1)).expect("right");
    let buffer = Watched(
        vec![0; usize::try_from(10 * CHUNK).expect("small")],
        Arc::clone(&freed),
    );
    let future = tokio::spawn(async move { download.read_into(buffer).await.0 });
    while !writing.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    future.abort();
    while !freed.load(Ordering::SeqCst) {
        tokio::time::timeout(DEADLINE, tokio::task::yield_now())
            .await
            .expect("it is freed");
    }
    assert!(
        !writing.load(Ordering::SeqCst),
        "the buffer was freed under its writer"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_triggered_before_ends_it_at_once_and_serves_many() {
    let cancel = Cancel::new();
    cancel.trigger();
    for _ in 0..3 {
        let mut options = options(4);
        options.cancel = Some(cancel.clone());
        let source = Staged::right(Object::new(1, 5 * CHUNK));
        let (result, _) = place(source.clone(), options, 1_000_000).await;
        assert_eq!(result.expect_err("cancelled").kind(), ErrorKind::Cancelled);
        assert_eq!(source.served(), 0);
    }
}
