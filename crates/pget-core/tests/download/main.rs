//! The real driver over sources in the process.
//!
//! The tests cover failures and resumption, single streams, deadlines, bounds, and resources after
//! a drop. Time is tokio's, paused.

mod resources;
mod streams;

use std::{sync::Arc, time::Duration};

use pget_core::{BufMut, Download, Error, ErrorKind, Options, RangeSource, Reader, memory::PAGE};
use pget_testkit::sources::{Form, Object, Play, Staged, Stop};

const CHUNK: u64 = 100_000;
const SIZE: u64 = 10 * CHUNK + 7;

fn options(concurrency: u32) -> Options {
    pget_testkit::options(CHUNK, concurrency)
}

fn object() -> Object {
    Object::new(1, SIZE)
}

fn reader(source: &Arc<Staged>, options: Options) -> Reader {
    let source: Arc<dyn RangeSource> = source.clone();
    Download::new(source, options)
        .expect("the options are right")
        .reader()
}

/// Reads everything. Returns the number of bytes, which are checked from `offset` on, and the end.
async fn read(source: &Arc<Staged>, options: Options) -> (u64, Result<(), Error>) {
    let offset = options.offset;
    read_on(&mut reader(source, options), offset).await
}

async fn read_on(reader: &mut Reader, mut at: u64) -> (u64, Result<(), Error>) {
    let from = at;
    let pattern = object().pattern;
    let all = async {
        while let Some(lease) = reader.next().await? {
            assert_eq!(lease.offset(), at);
            assert_eq!(pattern.check(at, &lease), Ok(()), "wrong bytes");
            at += lease.len() as u64;
        }
        Ok(())
    };
    // The time is virtual, and far beyond every deadline and backoff.
    let result = tokio::time::timeout(Duration::from_secs(86_400), all).await;
    let result = result.unwrap_or_else(|_| panic!("it hangs"));
    (at - from, result)
}

fn kind(result: &Result<(), Error>) -> ErrorKind {
    result.as_ref().expect_err("it must fail").kind()
}

/// Returns a source whose first attempt at each start goes as `first` says. The others are correct.
fn first_goes(first: impl Fn(Object) -> Play + Send + Sync + 'static) -> Arc<Staged> {
    let source = Staged::new(move |call| {
        if call.request.attempt == 0 && call.request.start % CHUNK == 0 {
            first(object())
        } else {
            Play::right(object())
        }
    });
    source.set_head(object());
    source
}

#[tokio::test(start_paused = true)]
async fn a_failed_range_resumes_at_its_watermark() {
    for concurrency in [1, 4] {
        let source =
            first_goes(|object| Play::right(object).stop(30_000, Stop::Retry(ErrorKind::Unavailable)));
        let (length, result) = read(&source, options(concurrency)).await;
        result.expect("the rest is asked for again");
        assert_eq!(length, SIZE);
        assert_eq!(source.served(), SIZE, "no byte twice");
        assert!(source.calls().iter().any(|call| call.request.start == 30_000));
    }
}

#[tokio::test(start_paused = true)]
async fn what_changes_under_way_is_told_and_never_mixed_in() {
    let deleted = Staged::new(|call| match call.number {
        0..2 => Play::right(object()),
        _ => Play::right(object()).stop(0, Stop::Fatal(ErrorKind::NotFound)),
    });
    assert_eq!(
        kind(&read(&deleted, options(2)).await.1),
        ErrorKind::ObjectChanged
    );
    for (size, about) in [(SIZE, "content"), (SIZE - 1, "shorter"), (SIZE + 1, "longer")] {
        let changed = Staged::new(move |call| match call.number {
            0..2 => Play::right(object()),
            _ => Play::right(Object::new(2, size)),
        });
        assert_eq!(
            kind(&read(&changed, options(2)).await.1),
            ErrorKind::ObjectChanged,
            "{about}"
        );
    }
    let mut unnamed = object();
    unnamed.revision = pget_core::Revision::default();
    let silent = Staged::new(move |call| match call.number {
        0 => Play::right(object()),
        _ => Play::right(unnamed.clone()),
    });
    assert_eq!(kind(&read(&silent, options(2)).await.1), ErrorKind::Protocol);
    // A cache drops the ETag of the first reply. It passes those of two contents of the same
    // second.
    let date = || Some("Sun, 06 Nov 1994 08:49:37 GMT".into());
    let dropping = |second: &'static str| {
        Staged::new(move |call| {
            let etag = ["", "\"a\""].get(call.number).copied().unwrap_or(second);
            let mut object = object();
            object.revision = pget_core::Revision {
                etag: Some(etag.to_owned()).filter(|etag| !etag.is_empty()),
                last_modified: date(),
                ..pget_core::Revision::default()
            };
            Play::right(object)
        })
    };
    assert_eq!(
        kind(&read(&dropping("\"b\""), options(2)).await.1),
        ErrorKind::ObjectChanged
    );
    read(&dropping(""), options(2)).await.1.expect("nothing differs");
}

#[tokio::test(start_paused = true)]
async fn what_a_writer_did_not_take_is_not_passed_over() {
    let mut reader = reader(&Staged::right(object()), options(16));
    // The whole object is received.
    while reader.stats().received < SIZE {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let full = &mut [0_u8; 10][..];
    let mut full = std::io::Cursor::new(full);
    for _ in 0..2 {
        let error = reader.copy_to(&mut full).await.expect_err("it is full");
        assert_eq!(error.kind(), ErrorKind::Destination, "{error}");
    }
    assert_eq!(
        reader.next().await.expect_err("final").kind(),
        ErrorKind::Destination
    );
}

#[tokio::test(start_paused = true)]
async fn the_edges_of_the_object() {
    for concurrency in [1, 4] {
        let empty = Staged::right(Object::new(1, 0));
        assert_eq!(read(&empty, options(concurrency)).await.0, 0);
        assert_eq!(
            empty.heads(),
            1,
            "the size comes from head, as the range is refused"
        );
        let source = Staged::right(object());
        for (offset, length) in [(SIZE, Some(0)), (SIZE - 1, Some(1)), (SIZE + 1, None)] {
            let mut options = options(concurrency);
            options.offset = offset;
            let (got, result) = read(&source, options).await;
            match length {
                Some(length) => assert_eq!((got, result.is_ok()), (length, true), "offset {offset}"),
                None => assert_eq!(kind(&result), ErrorKind::Range),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_request_where_one_will_do() {
    let source = Staged::right(object());
    assert_eq!(read(&source, options(1)).await.0, SIZE);
    assert_eq!(source.calls().len(), 1, "one connection");
    for size in [1, CHUNK - 1, CHUNK] {
        let small = Staged::right(Object::new(1, size));
        assert_eq!(read(&small, options(8)).await.0, size);
        assert_eq!(small.calls().len(), 1, "{size} bytes");
    }
    let source = Staged::new(|_| Play::right(object()).delayed(Duration::from_millis(1)));
    assert_eq!(read(&source, options(8)).await.0, SIZE);
    assert_eq!(source.calls().len(), 11, "a request a chunk");
    assert!(source.most_active() <= 8 && source.most_active() > 1);
}

#[tokio::test(start_paused = true)]
async fn a_stall_is_asked_for_again_at_its_deadline() {
    let stall = first_goes(|object| Play::right(object).stop(50_000, Stop::Stall));
    let began = tokio::time::Instant::now();
    let mut options = options(16);
    options.deadlines.stall = Duration::from_secs(4);
    let (length, result) = read(&stall, options.clone()).await;
    result.expect("the rest comes from another attempt");
    assert_eq!(length, SIZE);
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(4) && took < Duration::from_secs(6),
        "it took {took:?}"
    );
    options.deadlines.first_byte = Duration::from_secs(2);
    options.retries = Some(0);
    let mute = Staged::new(|_| Play::right(object()).delayed(Duration::from_secs(3600)));
    let began = tokio::time::Instant::now();
    assert_eq!(kind(&read(&mute, options).await.1), ErrorKind::Timeout);
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "first byte: {:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_answers_does_not_hang_the_download() {
    let source: Arc<dyn RangeSource> = Arc::new(MuteHead);
    let mut reader = Download::new(source, options(4)).expect("right").reader();
    assert_eq!(kind(&read_on(&mut reader, 0).await.1), ErrorKind::Range);
}

#[derive(Debug)]
struct MuteHead;

#[async_trait::async_trait]
impl RangeSource for MuteHead {
    async fn head(&self) -> Result<pget_core::ObjectInfo, pget_core::SourceError> {
        std::future::pending().await
    }

    async fn read(
        &self,
        _request: &pget_core::RangeRequest,
        _chunk: pget_core::ChunkWriter,
    ) -> Result<(), pget_core::SourceError> {
        Err(pget_core::SourceError::fatal(ErrorKind::Range, "416"))
    }

    fn name(&self) -> String {
        "mute".into()
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_consumer_is_no_stall_and_nothing_is_read_ahead_of_the_window() {
    for (concurrency, form) in [(1, Form::Range), (4, Form::Range), (4, Form::Whole)] {
        let source = Staged::new(move |_| Play::right(object()).form(form).paced(10_000, Duration::ZERO));
        let mut options = options(concurrency);
        options.window = Some(2);
        let mut reader = reader(&source, options);
        let mut at = 0;
        while let Some(lease) = reader.next().await.expect("slow is no failure") {
            tokio::time::sleep(Duration::from_secs(100)).await;
            let open = at / CHUNK * CHUNK + 2 * CHUNK;
            assert!(
                source.served() <= open.min(SIZE),
                "{} served, consumer at {at}",
                source.served()
            );
            at += lease.len() as u64;
        }
        assert_eq!(at, SIZE);
        let peak = reader.stats().peak_buffered;
        assert!(peak <= 2 * CHUNK + PAGE as u64, "{peak} bytes at the peak");
        let most = if form == Form::Range && concurrency > 1 {
            11
        } else {
            1
        };
        assert_eq!(source.calls().len(), most, "no attempt was given up");
    }
}

#[tokio::test(start_paused = true)]
async fn sources_that_break_the_contract_are_internal_errors() {
    let panics = Staged::new(|_| Play::right(object()).stop(10, Stop::Panic));
    assert_eq!(kind(&read(&panics, options(4)).await.1), ErrorKind::Internal);
    for begins in [0, 2] {
        let source = Staged::new(move |_| Play {
            begins,
            ..Play::right(object())
        });
        assert_eq!(
            kind(&read(&source, options(4)).await.1),
            ErrorKind::Internal,
            "begun {begins} times"
        );
    }
    let nothing = Staged::new(|_| Play::right(object()).stop(0, Stop::End));
    assert_eq!(kind(&read(&nothing, options(4)).await.1), ErrorKind::Protocol);
    let shifted = Staged::new(|_| Play::right(object()).form(Form::Shifted));
    assert_eq!(kind(&read(&shifted, options(4)).await.1), ErrorKind::Protocol);
    let sizeless = Staged::new(|_| Play::right(object()).form(Form::RangeWithoutTotal));
    assert_eq!(kind(&read(&sizeless, options(4)).await.1), ErrorKind::Protocol);
}

#[tokio::test(start_paused = true)]
async fn a_clipping_server_is_asked_for_the_rest_without_a_pause() {
    let source = Staged::new(|_| Play::right(object()).form(Form::Clipped(30_000)));
    let began = tokio::time::Instant::now();
    let (length, result) = read(&source, options(4)).await;
    result.expect("a clipped range is a right answer");
    assert_eq!((length, source.calls().len()), (SIZE, 10 * 4 + 1));
    assert!(began.elapsed() < Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn throttling_pauses_everything_for_as_long_as_the_server_asks() {
    let source =
        first_goes(|object| Play::right(object).stop(0, Stop::Throttle(Some(Duration::from_secs(7)))));
    let began = tokio::time::Instant::now();
    let (length, result) = read(&source, options(2)).await;
    result.expect("it comes back");
    assert_eq!(length, SIZE);
    assert!(began.elapsed() >= Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn withheld_bytes_of_a_failed_attempt_are_never_delivered() {
    let source = Staged::new(|call| {
        let wrong = Object {
            pattern: pget_testkit::content::Pattern::new(99),
            ..object()
        };
        if call.request.attempt == 0 {
            Play {
                withhold: true,
                ..Play::right(wrong).stop(
                    CHUNK.min(SIZE - call.request.start) - 2,
                    Stop::Retry(ErrorKind::Checksum),
                )
            }
        } else {
            Play {
                withhold: true,
                ..Play::right(object())
            }
        }
    });
    let (length, result) = read(&source, options(4)).await;
    result.expect("the second attempts are right");
    assert_eq!(length, SIZE);
    assert!(
        source.calls().iter().all(|call| call.request.start % CHUNK == 0),
        "nothing of the first counts"
    );
}

#[tokio::test]
async fn a_buffer_past_the_request_cannot_be_had() {
    let collector = pget_core::Collector::new(pget_core::RangeRequest::new(0, Some(10)));
    let mut writer = collector.writer().expect("the first");
    assert!(collector.writer().is_none(), "one writer at a time");
    assert_eq!(writer.remaining_mut(), 0, "nothing before begin");
    let reply = pget_core::Reply {
        start: 0,
        length: Some(10),
        total: Some(10),
        whole: false,
        revision: object().revision,
        chunk_hint: None,
        checksum: None,
    };
    writer.begin(reply).expect("it fits");
    assert_eq!(writer.remaining_mut(), 10);
    let failed: Result<usize, &str> = writer.put_with(100, |_| Err("refused"));
    assert_eq!((failed, collector.bytes().len()), (Err("refused"), 0));
    let count = writer.put_with(4, |room| {
        room.copy_from_slice(b"four");
        Ok::<_, ()>(4)
    });
    assert_eq!((count, collector.bytes()), (Ok(4), b"four".to_vec()));
    let outside = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        writer.put_with(4, |_| Ok::<_, ()>(5))
    }));
    assert!(outside.is_err(), "more than there was room for");
    drop(writer);
    assert_eq!(collector.rest().start, 4);
}
