//! Every way to take the bytes delivers the same ones, on both kinds of runtime and from real
//! threads.
//!
//! The tests include failures on the consumer's side.

use std::{
    io::{self, BufRead, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use futures_util::StreamExt;
use pget_core::{BlockingReader, Download, ErrorKind, Options, RangeSource};
use pget_testkit::{
    content::Pattern,
    sources::{Object, Play, Staged, Stop},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt},
    runtime::Runtime,
};

const SIZE: u64 = 5_000_003;
const PATTERN: Pattern = Pattern::new(3);
const DEADLINE: Duration = Duration::from_secs(60);

fn download(source: Arc<Staged>) -> Download {
    let mut options = Options::default();
    options.chunk_size = Some(77_777);
    options.concurrency = Some(7);
    options.window = Some(9);
    let source: Arc<dyn RangeSource> = source;
    Download::new(source, options).expect("the options are right")
}

fn right() -> Download {
    download(Staged::new(|_| {
        Play::right(Object::new(PATTERN.seed, SIZE)).paced(9_999, Duration::from_nanos(1))
    }))
}

fn stalled() -> Download {
    download(Staged::new(|_| {
        Play::right(Object::new(PATTERN.seed, SIZE)).stop(10, Stop::Stall)
    }))
}

fn check(bytes: &[u8], how: &str) {
    assert_eq!(bytes.len() as u64, SIZE, "{how}");
    assert_eq!(PATTERN.check(0, bytes), Ok(()), "{how}");
}

fn multi_thread() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime")
}

/// Runs `work` on a thread of its own with a deadline.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    std::thread::spawn(move || done.send(work()).ok());
    result
        .recv_timeout(DEADLINE)
        .expect("it neither hangs nor panics")
}

async fn every_asynchronous_way() {
    let mut leases = Vec::new();
    let mut stream = right().reader();
    while let Some(lease) = stream.next().await.expect("it is read") {
        leases.extend_from_slice(&lease);
    }
    check(&leases, "next");
    let items: Vec<_> = StreamExt::collect(right().reader()).await;
    let items: Vec<u8> = items
        .iter()
        .flat_map(|item| item.as_ref().expect("it is read").to_vec())
        .collect();
    check(&items, "Stream");
    let mut bytes = Vec::new();
    right()
        .reader()
        .read_to_end(&mut bytes)
        .await
        .expect("it is read");
    check(&bytes, "AsyncRead");
    let (mut reader, mut bytes) = (right().reader(), Vec::new());
    loop {
        let lent = reader.fill_buf().await.expect("it is read");
        let some = lent.len().min(12_345);
        if some == 0 {
            break;
        }
        bytes.extend_from_slice(&lent[..some]);
        AsyncBufReadExt::consume(&mut reader, some);
    }
    check(&bytes, "AsyncBufRead");
    let mut bytes = Vec::new();
    assert_eq!(
        right().reader().copy_to(&mut bytes).await.expect("it is read"),
        SIZE
    );
    check(&bytes, "copy_to");
}

#[test]
fn all_asynchronous_ways_give_the_same() {
    let single = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    for runtime in [single, multi_thread()] {
        in_time(move || runtime.block_on(every_asynchronous_way()));
    }
}

#[test]
fn all_blocking_ways_give_the_same() {
    in_time(|| {
        let runtime = multi_thread();
        let open = || -> BlockingReader { right().blocking_reader_on(runtime.handle()) };
        let (mut reader, mut bytes) = (open(), Vec::new());
        while let Some(lease) = reader.next_lease().expect("it is read") {
            bytes.extend_from_slice(&lease);
        }
        check(&bytes, "next_lease");
        let mut bytes = Vec::new();
        open().read_to_end(&mut bytes).expect("it is read");
        check(&bytes, "Read");
        let (mut reader, mut bytes) = (open(), Vec::new());
        loop {
            let lent = reader.fill_buf().expect("it is read");
            let some = lent.len().min(12_345);
            if some == 0 {
                break;
            }
            bytes.extend_from_slice(&lent[..some]);
            reader.consume(some);
        }
        check(&bytes, "BufRead");
        let mut bytes = Vec::new();
        assert_eq!(open().write_to(&mut bytes).expect("it is read"), SIZE);
        check(&bytes, "write_to");
    });
}

/// A destination that takes some bytes, then is full.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let some = data.len().min(self.0);
        self.0 -= some;
        Ok(some)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_destination_ends_the_download() {
    in_time(|| {
        let runtime = multi_thread();
        let mut reader = right().blocking_reader_on(runtime.handle());
        let error = reader.write_to(&mut Full(100_000)).expect_err("no room");
        assert_eq!(error.kind(), ErrorKind::Destination);
        assert!(
            error.to_line().contains("storage"),
            "the cause is reported: {}",
            error.to_line()
        );
        assert_eq!(
            reader.next_lease().expect_err("over").kind(),
            ErrorKind::Destination,
            "errors are final"
        );
    });
}

#[test]
fn a_runtime_that_shuts_down_wakes_the_waiting_thread() {
    in_time(|| {
        let runtime = multi_thread();
        let mut reader = stalled().blocking_reader_on(runtime.handle());
        assert_eq!(
            reader.next_lease().expect("ten bytes").expect("ten bytes").len(),
            10
        );
        let (waits, is_waiting) = mpsc::channel();
        let waiting = std::thread::spawn(move || {
            waits.send(()).expect("the test waits");
            reader.next_lease()
        });
        is_waiting.recv().expect("the thread runs");
        runtime.shutdown_background();
        let error = waiting
            .join()
            .expect("no panic")
            .expect_err("the runtime has shut down");
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    });
}

#[test]
fn a_runtime_that_has_shut_down_is_an_error_from_the_start() {
    in_time(|| {
        let runtime = multi_thread();
        let handle = runtime.handle().clone();
        drop(runtime);
        let mut reader = right().blocking_reader_on(&handle);
        assert_eq!(
            reader.next_lease().expect_err("no runtime").kind(),
            ErrorKind::Cancelled
        );
    });
}

#[test]
fn progress_is_told_with_every_delivery() {
    in_time(|| {
        let told = Arc::new(AtomicU64::new(0));
        let mut options = Options::default();
        let last = Arc::clone(&told);
        options.progress = Some(Arc::new(move |progress| {
            assert_eq!(progress.total, Some(SIZE));
            let before = last.swap(progress.stats.delivered, Ordering::SeqCst);
            assert!(progress.stats.delivered > before, "it goes forward");
        }));
        let source: Arc<dyn RangeSource> = Staged::right(Object::new(PATTERN.seed, SIZE));
        let runtime = multi_thread();
        let download = Download::new(source, options).expect("the options are right");
        io::copy(
            &mut download.blocking_reader_on(runtime.handle()),
            &mut io::sink(),
        )
        .expect("it is read");
        assert_eq!(told.load(Ordering::SeqCst), SIZE);
    });
}

/// The bytes of the call that panicked never reached the consumer. It must get neither later bytes
/// nor a successful end.
#[test]
fn a_progress_function_that_panics_ends_the_download() {
    in_time(|| {
        let runtime = multi_thread();
        // The call panics at the first bytes, in the middle, and at the last bytes.
        for panics_at in [1, SIZE / 2, SIZE] {
            let mut options = Options::default();
            options.chunk_size = Some(77_777);
            options.progress = Some(Arc::new(move |progress| {
                assert!(progress.stats.delivered < panics_at, "as it is to");
            }));
            let source: Arc<dyn RangeSource> = Staged::right(Object::new(PATTERN.seed, SIZE));
            let download = Download::new(source, options).expect("the options are right");
            let mut reader = download.blocking_reader_on(runtime.handle());
            let panicked = catch_unwind(AssertUnwindSafe(|| io::copy(&mut reader, &mut io::sink())));
            assert!(panicked.is_err(), "{panics_at}");
            let error = reader.next_lease().expect_err("some bytes are lost");
            assert_eq!(error.kind(), ErrorKind::Cancelled, "{panics_at}: {error}");
        }
    });
}

#[test]
fn a_cancel_says_no_more_than_that_and_comes_too_late_at_the_end() {
    in_time(|| {
        let runtime = multi_thread();
        let mut reader = right().blocking_reader_on(runtime.handle());
        reader.next_lease().expect("it is read").expect("some bytes");
        reader.monitor().cancel();
        let error = reader.next_lease().expect_err("it is cancelled");
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(error.to_line().ends_with("cancelled"), "{}", error.to_line());
        let mut reader = right().blocking_reader_on(runtime.handle());
        while reader.next_lease().expect("it is read").is_some() {}
        reader.monitor().cancel();
        assert!(reader.next_lease().expect("it has ended").is_none());
    });
}

/// Lost wake-ups cause hangs. The test uses many small pieces, real threads, and a consumer that is
/// always slightly late.
#[test]
fn no_wake_up_is_lost_between_threads() {
    in_time(|| {
        let runtime = multi_thread();
        for round in 0..60 {
            let source =
                Staged::new(|_| Play::right(Object::new(PATTERN.seed, 200_000)).paced(97, Duration::ZERO));
            let mut options = Options::default();
            options.chunk_size = Some(1_000 + round * 37);
            options.concurrency = Some(1 + u32::try_from(round % 5).expect("small"));
            options.window = Some(1 + u32::try_from(round % 3).expect("small"));
            let source: Arc<dyn RangeSource> = source;
            let download = Download::new(source, options).expect("the options are right");
            let mut bytes = Vec::new();
            download
                .blocking_reader_on(runtime.handle())
                .read_to_end(&mut bytes)
                .expect("it is read");
            assert_eq!(
                (bytes.len(), PATTERN.check(0, &bytes)),
                (200_000, Ok(())),
                "round {round}"
            );
        }
    });
}
