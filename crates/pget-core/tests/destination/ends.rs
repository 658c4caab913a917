//! How a read to a destination ends: by a failure of either side, a cancel or a drop.

use std::{
    error::Error as _,
    sync::{Arc, atomic::Ordering},
};

use async_trait::async_trait;
use pget_core::{
    BufMut, Cancel, ChunkWriter, Destination, Download, ErrorKind, ObjectInfo, RangeRequest, RangeSource,
    Reply, Revision, SourceError, memory::PAGE,
};
use pget_testkit::sources::{Form, Object, Play, Staged, Stop};

use crate::{
    CHUNK, DEADLINE, SIZE, first_goes,
    ledger::{Ledger, Mode, covered},
    object, options, read_to,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_the_destination_ends_it_at_once() {
    for withhold in [false, true] {
        for concurrency in [1, 4] {
            for number in [0, 1, 7, 20] {
                let source = Staged::new(move |_| Play {
                    withhold: withhold && concurrency > 1,
                    ..Play::right(object())
                });
                let ledger = Ledger::new(object().pattern, Mode::PutFails(number));
                let error = read_to(source.clone(), options(concurrency), &ledger)
                    .await
                    .expect_err("the disk is full");
                assert_eq!(error.kind(), ErrorKind::Destination);
                let cause = error.source().expect("the cause is kept");
                assert!(
                    cause
                        .downcast_ref::<std::io::Error>()
                        .is_some_and(|cause| cause.kind() == std::io::ErrorKind::StorageFull)
                );
                let puts = ledger.puts();
                assert!(
                    puts <= number + 1 + concurrency as usize,
                    "{puts} puts after the failure of {number}"
                );
                assert!(
                    source.calls().len() <= 21,
                    "an error of the destination is not retried"
                );
                while source.active() > 0 {
                    tokio::task::yield_now().await;
                }
                assert_eq!(ledger.puts(), puts, "nothing comes later");
                covered(&ledger.entries().put);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_fails_otherwise_ends_it_too() {
    for (mode, kind) in [
        (Mode::BeginFails, ErrorKind::Destination),
        (Mode::ShortMemory, ErrorKind::Destination),
        (Mode::BeginPanics, ErrorKind::Internal),
        (Mode::PutPanics(3), ErrorKind::Internal),
        (Mode::LandedPanics, ErrorKind::Internal),
        (Mode::LandedFails, ErrorKind::Cancelled),
    ] {
        for concurrency in [1, 4] {
            let source = Staged::right(object());
            let ledger = Ledger::new(object().pattern, mode);
            let error = read_to(source.clone(), options(concurrency), &ledger)
                .await
                .expect_err("it fails");
            assert_eq!(error.kind(), kind, "{mode:?}: {error}");
            assert_eq!(ledger.entries().begun.len(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_the_source_end_it_as_they_are() {
    let changing = Staged::new(|call| {
        Play::right(Object::new(
            if call.request.start > 10 * CHUNK { 2 } else { 1 },
            SIZE,
        ))
    });
    for (source, kind) in [
        (changing, ErrorKind::ObjectChanged),
        (
            first_goes(|object| Play::right(object).stop(50_000, Stop::Panic)),
            ErrorKind::Internal,
        ),
        (
            first_goes(|object| Play::right(object).stop(50_000, Stop::Fatal(ErrorKind::PermissionDenied))),
            ErrorKind::PermissionDenied,
        ),
        (
            Staged::new(|_| Play::right(object()).form(Form::Shifted)),
            ErrorKind::Protocol,
        ),
    ] {
        for mode in [Mode::Put, Mode::Memory] {
            let ledger = Ledger::new(object().pattern, mode);
            let error = read_to(source.clone(), options(4), &ledger)
                .await
                .expect_err("it fails");
            assert_eq!(error.kind(), kind, "{error}");
            assert_eq!(ledger.entries().wrong, None);
            covered(&ledger.entries().landed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_call_waits_for_the_put_that_goes_on_and_no_other_begins() {
    let cancel = Cancel::new();
    let mut options = options(4);
    options.cancel = Some(cancel.clone());
    let ledger = Ledger::new(object().pattern, Mode::Put);
    ledger.hold.store(true, Ordering::SeqCst);
    let reading = tokio::spawn({
        let ledger = Arc::clone(&ledger);
        async move { read_to(Staged::right(object()), options, &ledger).await }
    });
    tokio::time::timeout(DEADLINE, ledger.put_began.notified())
        .await
        .expect("it begins");
    // Use a thread of its own, because the held puts may block the runtime's threads.
    let letting_go = std::thread::spawn({
        let ledger = Arc::clone(&ledger);
        move || {
            cancel.trigger();
            ledger.hold.store(false, Ordering::SeqCst);
        }
    });
    let error = reading.await.expect("no panic").expect_err("cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    letting_go.join().expect("no panic");
    assert!(
        (1..=2).contains(&ledger.puts()),
        "each of two threads was held in one put, and none begins after the cancel"
    );
}

#[tokio::test]
async fn a_dropped_future_lets_go_of_the_destination() {
    let source = Staged::new(|_| Play::right(object()).stop(50_000, Stop::Stall));
    for mode in [Mode::Put, Mode::Memory] {
        let ledger = Ledger::new(object().pattern, mode);
        let download = Download::new(source.clone(), options(4)).expect("right");
        let mut reading = Box::pin(download.read_to(Arc::clone(&ledger) as Arc<dyn Destination>));
        while source.served() < 50_000 {
            assert!(futures_util::poll!(&mut reading).is_pending());
            tokio::task::yield_now().await;
        }
        drop(reading);
        let gone = async {
            while Arc::strong_count(&ledger) > 1 || source.active() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, gone).await.expect("it is let go");
        assert_eq!(ledger.inside(), 0);
    }
}

/// A source that keeps its writer in a thread that no cancel reaches.
#[derive(Debug)]
struct Stubborn {
    goes_on: Arc<std::sync::atomic::AtomicBool>,
    put: Arc<tokio::sync::Notify>,
}

#[async_trait]
impl RangeSource for Stubborn {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        Err(SourceError::fatal(ErrorKind::Unsupported, "not asked"))
    }

    async fn read(&self, request: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        let size = 10 * PAGE as u64;
        let pattern = object().pattern;
        chunk.begin(Reply {
            start: request.start,
            length: request.end.map(|end| end - request.start),
            total: Some(size),
            whole: false,
            revision: Revision {
                version: Some("1".into()),
                ..Revision::default()
            },
            chunk_hint: None,
            checksum: None,
        })?;
        let (goes_on, put) = (Arc::clone(&self.goes_on), Arc::clone(&self.put));
        tokio::task::spawn_blocking(move || {
            while chunk.has_remaining_mut() {
                chunk.put_u8(pattern.byte(chunk.position()));
                put.notify_one();
                while !goes_on.load(Ordering::SeqCst) && chunk.position().is_multiple_of(CHUNK) {
                    std::thread::yield_now();
                }
            }
        })
        .await
        .map_err(|_| SourceError::fatal(ErrorKind::Internal, "the thread panicked"))
    }

    fn name(&self) -> String {
        "stubborn".into()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_cannot_be_stopped_finds_the_gate_closed() {
    let (goes_on, put) = (Arc::default(), Arc::default());
    let source = Arc::new(Stubborn {
        goes_on: Arc::clone(&goes_on),
        put: Arc::clone(&put),
    });
    let cancel = Cancel::new();
    let mut options = options(2);
    options.chunk_size = Some(2 * PAGE as u64);
    options.cancel = Some(cancel.clone());
    let ledger = Ledger::new(object().pattern, Mode::Put);
    let reading = tokio::spawn({
        let ledger = Arc::clone(&ledger);
        let source: Arc<dyn RangeSource> = source.clone();
        async move { read_to(source, options, &ledger).await }
    });
    tokio::time::timeout(DEADLINE, put.notified())
        .await
        .expect("it writes");
    cancel.trigger();
    let error = reading.await.expect("no panic").expect_err("cancelled");
    assert_eq!(
        error.kind(),
        ErrorKind::Cancelled,
        "without waiting for the thread"
    );
    let before = ledger.puts();
    goes_on.store(true, Ordering::SeqCst);
    let gone = async {
        // The threads drop the download, and with it the destination, at their end.
        while Arc::strong_count(&ledger) > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.expect("they end");
    assert_eq!(
        ledger.puts(),
        before,
        "nothing gets there after the call has returned"
    );
}
