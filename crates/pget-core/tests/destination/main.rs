//! Reads to a destination.
//!
//! - Every byte arrives right and exactly once, whatever the source does.
//! - A destination that fails ends the download.
//! - No byte arrives after the call has returned.

mod ends;
mod extents;
mod inside;
mod ledger;

use std::{fs::File, os::unix::fs::FileExt, sync::Arc, time::Duration};

use ledger::{Ledger, Mode};
use pget_core::{
    Destination, Download, Error, ErrorKind, ObjectInfo, Options, RangeSource, Stats, Transfer, memory::PAGE,
};
use pget_testkit::{
    content::Pattern,
    sources::{Form, Object, Play, Staged, Stop},
};

const CHUNK: u64 = 100_000;
const SIZE: u64 = 20 * CHUNK + 9;
const DEADLINE: Duration = Duration::from_secs(60);

fn options(concurrency: u32) -> Options {
    pget_testkit::options(CHUNK, concurrency)
}

fn object() -> Object {
    Object::new(1, SIZE)
}

async fn read_to(
    source: Arc<dyn RangeSource>,
    options: Options,
    ledger: &Arc<Ledger>,
) -> Result<Stats, Error> {
    let download = Download::new(source, options).expect("the options are right");
    let reading = download.read_to(Arc::clone(ledger) as Arc<dyn Destination>);
    let result = tokio::time::timeout(DEADLINE, reading).await.expect("it ends");
    assert_eq!(
        ledger.inside(),
        0,
        "the call returned before the destination was left"
    );
    result
}

/// Reads the whole object to both kinds of place.
async fn completes(source: impl Fn() -> Arc<Staged>, options: &Options, end: u64) {
    for mode in [Mode::Put, Mode::Memory, Mode::Fresh] {
        let ledger = Ledger::new(object().pattern, mode);
        let stats = read_to(source(), options.clone(), &ledger)
            .await
            .expect("it is read");
        ledger.assert_complete(options.offset, end);
        assert_eq!(stats.delivered, end - options.offset);
        assert_eq!(stats.buffered, 0, "memory is given back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_and_ranges_are_right() {
    for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 3, 30 * CHUNK] {
        for concurrency in [1, 3, 16] {
            for (offset, length) in [
                (0, None),
                (size / 3, None),
                (size / 3, Some(size / 2 + 1)),
                (size, None),
            ] {
                let mut options = options(concurrency);
                (options.offset, options.length) = (offset, length);
                let end = length.map_or(size, |length| size.min(offset + length));
                completes(|| Staged::right(Object::new(1, size)), &options, end).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_larger_than_a_page_and_pages_that_fit_no_chunk_are_right() {
    let page = PAGE as u64;
    let size = 27 * page + 77;
    for chunk in [page, 2 * page, 5 * page / 2, page - 1, 20 * page] {
        for concurrency in [1, 4] {
            let mut options = options(concurrency);
            options.chunk_size = Some(chunk);
            options.offset = 13;
            completes(
                || {
                    Staged::new(move |_| Play {
                        piece: 300_001,
                        ..Play::right(Object::new(1, size))
                    })
                },
                &options,
                size,
            )
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_blocking_form_and_a_real_file() {
    #[derive(Debug)]
    struct Plain(File);
    impl Destination for Plain {
        fn begin(&self, _: &ObjectInfo, start: u64, end: Option<u64>) -> Result<Transfer, Error> {
            let length = end.unwrap_or(start) - start;
            self.0.set_len(length).map_err(failed)?;
            Ok(Transfer::Put)
        }

        fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
            self.0.write_all_at(bytes, offset - 17).map_err(failed)
        }
    }
    fn failed(cause: std::io::Error) -> Error {
        Error::with_cause(ErrorKind::Destination, "", "a file", cause)
    }

    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let destination = Arc::new(Plain(file.reopen().expect("it opens again")));
    let mut options = options(4);
    options.offset = 17;
    let download = Download::new(Staged::right(object()), options).expect("right");
    let runtime = tokio::runtime::Handle::current();
    let stats = tokio::task::spawn_blocking(move || download.read_to_on(&runtime, destination))
        .await
        .expect("no panic")
        .expect("it is read");
    assert_eq!(stats.delivered, SIZE - 17);
    let content = std::fs::read(file.path()).expect("it is there");
    assert_eq!(content.len() as u64, SIZE - 17);
    assert_eq!(object().pattern.check(17, &content), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_near_the_end_of_8_tib_are_right() {
    let size = (8 << 40) + 12_345;
    for (offset, length) in [(size - 5 * CHUNK - 1, None), ((4 << 40) + 1, Some(3 * CHUNK + 7))] {
        let mut options = options(4);
        (options.offset, options.length) = (offset, length);
        let end = length.map_or(size, |length| offset + length);
        completes(|| Staged::right(Object::new(1, size)), &options, end).await;
    }
}

/// Returns a source whose first attempt at each chunk goes as `play` says. All others are correct.
fn first_goes(play: impl Fn(Object) -> Play + Send + Sync + 'static) -> Arc<Staged> {
    Staged::new(move |call| {
        if call.request.attempt == 0 && call.request.start % CHUNK == 0 {
            play(object())
        } else {
            Play::right(object())
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_fails_is_resumed_where_it_was_and_no_byte_is_put_twice() {
    for mode in [Mode::Put, Mode::Memory] {
        let source = first_goes(|object| {
            Play::right(object)
                .paced(7_001, Duration::ZERO)
                .stop(30_001, Stop::Retry(ErrorKind::Unavailable))
        });
        let ledger = Ledger::new(object().pattern, mode);
        read_to(source.clone(), options(4), &ledger)
            .await
            .expect("it goes on");
        ledger.assert_complete(0, SIZE);
        let resumed = source
            .calls()
            .iter()
            .filter(|call| call.request.start % CHUNK == 30_001)
            .count();
        assert!(resumed >= 20, "{resumed} of 20 chunks went on where they were");
        assert_eq!(source.served(), SIZE, "no byte was fetched twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clipped_ranges_are_completed() {
    completes(
        || Staged::new(|_| Play::right(object()).form(Form::Clipped(30_007))),
        &options(4),
        SIZE,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_ignores_ranges_or_has_no_identity_is_one_stream() {
    let whole = || Staged::new(|_| Play::right(object()).form(Form::Whole));
    let nameless = || Staged::right(object().without_identity());
    for (offset, length) in [(0, None), (150_001, None), (150_001, Some(500_000))] {
        let mut options = options(4);
        (options.offset, options.length) = (offset, length);
        let end = length.map_or(SIZE, |length| offset + length);
        completes(whole, &options, end).await;
        completes(nameless, &options, end).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_cut_goes_on_where_it_was() {
    completes(
        || {
            Staged::new(|call| {
                let play = Play::right(object()).form(Form::Whole);
                if call.number < 3 {
                    play.stop(call.request.start + 250_001, Stop::Retry(ErrorKind::Unavailable))
                } else {
                    play
                }
            })
        },
        &options(4),
        SIZE,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_without_size_grows_in_order_and_memory_refuses_it() {
    let source = || Staged::new(|_| Play::right(object()).form(Form::WholeUntilEnd));
    let ledger = Ledger::new(object().pattern, Mode::Put);
    let stats = read_to(source(), options(4), &ledger).await.expect("it is read");
    assert_eq!(stats.delivered, SIZE);
    ledger.assert_complete(0, SIZE);
    assert_eq!(ledger.entries().begun, [(None, 0, None)]);
    let puts = ledger.entries().put.clone();
    assert!(
        puts.is_sorted_by_key(|range| range.start),
        "in order, so that it can be appended"
    );

    let ledger = Ledger::new(object().pattern, Mode::Memory);
    let error = read_to(source(), options(4), &ledger).await.expect_err("no size");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "the destination's own word");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_is_told_of_an_empty_object_but_not_of_nothing() {
    for mode in [Mode::Put, Mode::Memory] {
        for source in [
            Staged::right(Object::new(1, 0)),
            Staged::new(|_| Play::right(Object::new(1, 0)).form(Form::Whole)),
        ] {
            let ledger = Ledger::new(object().pattern, mode);
            let stats = read_to(source, options(4), &ledger).await.expect("it is empty");
            assert_eq!(stats.delivered, 0);
            ledger.assert_complete(0, 0);
            assert_eq!(ledger.entries().begun, [(Some(0), 0, Some(0))]);
        }
    }
    let ledger = Ledger::new(object().pattern, Mode::BeginFails);
    let error = read_to(Staged::right(Object::new(1, 0)), options(4), &ledger)
        .await
        .expect_err("nowhere to put it");
    assert_eq!(error.kind(), ErrorKind::Destination);
    let mut options = options(4);
    options.length = Some(0);
    let ledger = Ledger::new(object().pattern, Mode::Put);
    read_to(Staged::right(object()), options, &ledger)
        .await
        .expect("nothing to do");
    assert!(ledger.entries().begun.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn withheld_bytes_of_a_failed_attempt_are_never_put() {
    for (mode, chunk) in [
        (Mode::Put, CHUNK),
        (Mode::Memory, CHUNK),
        (Mode::Put, 2 * PAGE as u64 + 5),
    ] {
        let size = 5 * chunk + 9;
        let source = Staged::new(move |call| {
            let right = Object::new(1, size);
            let play = if call.request.attempt == 0 {
                let wrong = Object {
                    pattern: Pattern::new(99),
                    ..right
                };
                let most = chunk.min(size - call.request.start) - 2;
                Play::right(wrong).stop(most, Stop::Retry(ErrorKind::Checksum))
            } else {
                Play::right(right)
            };
            Play {
                withhold: true,
                ..play
            }
        });
        let mut options = options(4);
        options.chunk_size = Some(chunk);
        let ledger = Ledger::new(object().pattern, mode);
        let stats = read_to(source.clone(), options, &ledger)
            .await
            .expect("the second attempts are right");
        ledger.assert_complete(0, size);
        assert_eq!(stats.buffered, 0, "memory is given back");
        assert!(
            source.calls().iter().all(|call| call.request.start % chunk == 0),
            "nothing of the first counts"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_one_page_for_each_request_in_flight() {
    let size = 100 * PAGE as u64;
    let source = Staged::right(Object::new(1, size));
    let mut options = options(16);
    options.chunk_size = Some(5 * PAGE as u64);
    let ledger = Ledger::new(object().pattern, Mode::Put);
    let stats = read_to(source, options, &ledger).await.expect("it is read");
    ledger.assert_complete(0, size);
    assert!(
        stats.peak_buffered <= 16 * PAGE as u64,
        "at most {} bytes",
        stats.peak_buffered
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_told_and_goes_to_the_end() {
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut options = options(4);
    options.progress = Some(Arc::new({
        let told = Arc::clone(&told);
        move |progress| {
            told.lock()
                .expect("not poisoned")
                .push((progress.total, progress.stats.delivered));
        }
    }));
    let ledger = Ledger::new(object().pattern, Mode::Put);
    read_to(Staged::right(object()), options, &ledger)
        .await
        .expect("it is read");
    let told = told.lock().expect("not poisoned");
    assert_eq!(told.last(), Some(&(Some(SIZE), SIZE)));
}
