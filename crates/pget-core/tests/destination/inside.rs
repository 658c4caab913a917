//! What a destination does inside its calls: it waits, it panics, it cancels the download.

use std::sync::atomic::AtomicUsize;

use pget_core::Keeps;

use super::*;

/// Receives in a thread, where a put may wait.
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
        chunk.begin(Reply {
            start: at,
            length: Some(end - at),
            total: Some(SIZE),
            whole: false,
            revision: object().revision,
            chunk_hint: None,
            checksum: None,
        })?;
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

/// The disk is slow, not the server: no time that a put takes is a stall.
#[tokio::test(start_paused = true)]
async fn a_put_that_waits_is_no_stall_of_the_source() {
    let ledger = Ledger::new(object().pattern, Mode::Put);
    ledger.hold.store(true, Ordering::SeqCst);
    let source = Arc::new(Threaded::default());
    let mut options = options(2);
    let stall = Duration::from_secs(2);
    options.deadlines.stall = stall;
    options.retries = 0;
    let reading = tokio::spawn({
        let (source, ledger) = (Arc::clone(&source), Arc::clone(&ledger));
        async move { read_to(source, options, &ledger).await }
    });
    // Time stands still while a thread is busy, but for what it is advanced by.
    ledger.put_began.notified().await;
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

/// Says what it keeps in this way.
#[derive(Debug)]
enum Odd {
    Panics,
    Cancels(Cancel),
}

impl Destination for Odd {
    fn begin(&self, _: &ObjectInfo, _: u64, _: Option<u64>) -> Result<Place, Error> {
        Ok(Place::Put)
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
