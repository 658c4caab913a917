//! A destination that waits, panics, or cancels the download inside its calls.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use pget_core::{
    BufMut, Cancel, ChunkWriter, Destination, Download, Error, ErrorKind, Keeps, ObjectInfo, RangeRequest,
    RangeSource, SourceError, Transfer,
};
use pget_testkit::sources::{Play, Staged};

use crate::{
    CHUNK, DEADLINE, SIZE,
    ledger::{Ledger, Mode},
    object, options, read_to,
};

/// A source that receives in a thread, in which a put may wait.
#[derive(Debug, Default)]
struct Threaded(AtomicUsize);

#[async_trait]
impl RangeSource for Threaded {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        Err(SourceError::fatal(ErrorKind::Unsupported, "not needed"))
    }

    async fn read(&self, request: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let end = request.end.unwrap_or(SIZE).min(SIZE);
        let mut at = request.start;
        chunk.begin(object().part(at..end))?;
        while at < end && chunk.ready().await? {
            let receiving = tokio::task::spawn_blocking(move || {
                let count = chunk.remaining_mut();
                chunk.put_slice(&object().pattern.bytes(at, count));
                (count as u64, chunk)
            });
            let count;
            (count, chunk) = receiving.await.expect("no panic");
            at += count;
        }
        tokio::task::spawn_blocking(move || chunk.release())
            .await
            .expect("no panic");
        Ok(())
    }

    fn name(&self) -> String {
        "threaded".into()
    }
}

/// The disk is slow, not the server: the time of a put is never a stall.
#[tokio::test(start_paused = true)]
async fn a_put_that_waits_is_no_stall_of_the_source() {
    let ledger = Ledger::new(object().pattern, Mode::Put);
    ledger.hold.store(true, Ordering::SeqCst);
    let source = Arc::new(Threaded::default());
    let mut options = options(2);
    let stall = Duration::from_secs(2);
    options.deadlines.stall = stall;
    options.retries = Some(0);
    let reading = tokio::spawn({
        let (source, ledger) = (Arc::clone(&source), Arc::clone(&ledger));
        async move { read_to(source, options, &ledger).await }
    });
    // While a thread is busy, the clock advances only when the test moves it.
    while ledger.puts() < 2 {
        // Wait for both puts: a thread that has not reached its put counts as a stall.
        tokio::task::yield_now().await;
    }
    for _ in 0..6 {
        tokio::time::advance(stall / 2).await;
        tokio::task::yield_now().await;
    }
    ledger.hold.store(false, Ordering::SeqCst);
    let stats = reading.await.expect("no panic").expect("it goes on");
    ledger.assert_complete(0, SIZE);
    assert_eq!((stats.retries, stats.fences), (0, 0));
    assert_eq!(source.0.load(Ordering::SeqCst) as u64, SIZE.div_ceil(CHUNK));
}

/// A destination whose put of one chunk waits while it is held.
#[derive(Debug)]
struct Holding {
    ledger: Arc<Ledger>,
    from: u64,
    held: AtomicBool,
    waits: Arc<AtomicBool>,
}

impl Destination for Holding {
    fn begin(&self, object: &ObjectInfo, start: u64, end: Option<u64>) -> Result<Transfer, Error> {
        self.ledger.begin(object, start, end)
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        while offset == self.from && self.held.load(Ordering::SeqCst) {
            self.waits.store(true, Ordering::SeqCst);
            std::thread::yield_now();
        }
        self.ledger.put(offset, bytes)
    }

    fn landed(&self, range: Range<u64>) -> Result<(), Error> {
        self.ledger.landed(range)
    }
}

const HALF: usize = 50_000;

/// A source that receives half of one chunk in a thread that no cancel reaches. It serves the other
/// chunks correctly.
#[derive(Debug)]
struct Half {
    others: Arc<Staged>,
    from: u64,
    begun: AtomicUsize,
    waits: Arc<AtomicBool>,
    is_gone: Arc<AtomicBool>,
}

#[async_trait]
impl RangeSource for Half {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        self.others.head().await
    }

    async fn read(&self, request: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        if request.start != self.from || self.begun.fetch_add(1, Ordering::SeqCst) > 0 {
            return self.others.read(request, chunk).await;
        }
        chunk.begin(object().part(self.from..self.from + CHUNK))?;
        let (from, is_gone) = (self.from, Arc::clone(&self.is_gone));
        // A task of the runtime would not do: the clock stands still during tasks.
        std::thread::spawn(move || {
            chunk.put_slice(&object().pattern.bytes(from, HALF));
            chunk.release();
            drop(chunk);
            is_gone.store(true, Ordering::SeqCst);
        });
        // The clock does not advance before that.
        while !self.waits.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        std::future::pending().await
    }

    fn name(&self) -> String {
        "half".into()
    }
}

/// The read is fenced because it is far slower than the others. The wait is still not the source's
/// fault.
#[tokio::test(start_paused = true)]
async fn a_put_that_waits_in_a_fenced_read_is_waited_for() {
    let ledger = Ledger::new(object().pattern, Mode::Put);
    let waits = Arc::new(AtomicBool::new(false));
    let destination = Arc::new(Holding {
        ledger: Arc::clone(&ledger),
        from: CHUNK,
        held: AtomicBool::new(true),
        waits: Arc::clone(&waits),
    });
    let source = Arc::new(Half {
        others: Staged::new(|_| Play::right(object()).paced(20_000, Duration::from_millis(20))),
        from: CHUNK,
        begun: AtomicUsize::new(0),
        waits,
        is_gone: Arc::default(),
    });
    let options = options(4);
    let stall = options.deadlines.stall;
    let download = Download::new(Arc::clone(&source) as Arc<dyn RangeSource>, options).expect("right");
    let mut reading = std::pin::pin!(download.read_to(Arc::clone(&destination) as Arc<dyn Destination>));
    let early = tokio::time::timeout(5 * stall, &mut reading).await;
    assert!(early.is_err(), "its put still waits: {early:?}");
    destination.held.store(false, Ordering::SeqCst);
    while !source.is_gone.load(Ordering::SeqCst) {
        // The clock does not advance here either.
        tokio::task::yield_now().await;
    }
    let stats = tokio::time::timeout(5 * stall, reading).await;
    let stats = stats.expect("it ends").expect("it goes on");
    ledger.assert_complete(0, SIZE);
    assert_eq!((stats.fences, stats.stalls), (1, 0), "{stats:?}");
}

/// A destination that panics, or cancels the download, when it is asked for the bytes that it
/// keeps.
#[derive(Debug)]
enum Odd {
    Panics,
    Cancels(Cancel),
}

impl Destination for Odd {
    fn begin(&self, _: &ObjectInfo, _: u64, _: Option<u64>) -> Result<Transfer, Error> {
        Ok(Transfer::Put)
    }

    fn put(&self, _: u64, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    fn keeps(&self) -> Keeps {
        match self {
            Self::Panics => panic!("staged panic of a destination"),
            Self::Cancels(cancel) => cancel.trigger(),
        }
        Keeps::Nothing
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_does_not_say_what_it_keeps_ends_the_download() {
    let cancel = Cancel::new();
    for (odd, kind) in [
        (Odd::Panics, ErrorKind::Internal),
        (Odd::Cancels(cancel.clone()), ErrorKind::Cancelled),
    ] {
        let mut options = options(4);
        options.cancel = Some(cancel.clone());
        let source = Staged::right(object());
        let download = Download::new(source.clone(), options).expect("right");
        let reading = tokio::spawn(async move { download.read_to(Arc::new(odd)).await });
        let result = tokio::time::timeout(DEADLINE, reading).await.expect("it ends");
        let error = result.expect("no panic").expect_err("it fails");
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(source.calls().len(), 0, "nothing is asked for");
    }
}
