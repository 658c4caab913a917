//! The end of an object, as far as it is known. Time is tokio's, paused.
//!
//! It is known from its size, from a size known before, from a body that ends with its connection,
//! or not at all.

use std::{sync::Arc, time::Duration};

use pget_core::{Download, Error, ErrorKind, ObjectInfo, Options, RangeSource};
use pget_testkit::sources::{Form, Object, Play, Staged, Stop};

const CHUNK: u64 = 100_000;
const SIZE: u64 = 10 * CHUNK + 7;
const BROKE: Stop = Stop::Retry(ErrorKind::Unavailable);

fn object() -> Object {
    Object::new(1, SIZE)
}

/// Returns the same revision, as far as it is named, with another size.
fn sized(size: u64) -> Object {
    Object { size, ..object() }
}

/// Reads everything. Returns the number of bytes, which are checked, and the end.
async fn read(source: &Arc<Staged>, options: Options) -> (u64, Result<(), Error>) {
    let from = options.offset;
    let source: Arc<dyn RangeSource> = source.clone();
    let mut reader = Download::new(source, options).expect("right").reader();
    let mut at = from;
    let all = async {
        while let Some(lease) = reader.next().await? {
            assert_eq!(object().pattern.check(at, &lease), Ok(()), "wrong bytes");
            at += lease.len() as u64;
        }
        Ok(())
    };
    let result = tokio::time::timeout(Duration::from_secs(86_400), all).await;
    (at - from, result.expect("it hangs"))
}

fn kind(result: &Result<(), Error>) -> ErrorKind {
    result.as_ref().expect_err("it must fail").kind()
}

/// A stream breaks off, and a part of an object of unknown size continues it. The end of the part
/// need not be the end of the object.
#[tokio::test(start_paused = true)]
async fn a_part_that_tells_no_size_is_no_end() {
    for end in [SIZE / 2, SIZE] {
        let source = Staged::new(move |call| match call.number {
            0 => Play::right(object())
                .form(Form::WholeUntilEnd)
                .stop(30_000, BROKE),
            _ => Play::right(sized(end)).form(Form::RangeWithoutTotal),
        });
        let (length, result) = read(&source, pget_testkit::options(CHUNK, 4)).await;
        assert_eq!((length, kind(&result)), (30_000, ErrorKind::Protocol));
    }
    // The end is certain if the caller wants no byte after it.
    let source = Staged::new(|call| match call.number {
        0 => Play::right(object())
            .form(Form::WholeUntilEnd)
            .stop(30_000, BROKE),
        _ => Play::right(object()).form(Form::RangeWithoutTotal),
    });
    let mut options = pget_testkit::options(CHUNK, 4);
    options.length = Some(SIZE / 2);
    let (length, result) = read(&source, options).await;
    result.expect("all that is wanted came");
    assert_eq!((length, source.calls().len()), (SIZE / 2, 2));
}

/// The continuation of a download knew the object's size. A stream that ends before that was cut.
#[tokio::test(start_paused = true)]
async fn a_size_that_is_pinned_is_not_forgotten_by_a_stream() {
    let pinned = |concurrency| {
        let mut options = pget_testkit::options(CHUNK, concurrency);
        options.pin = Some(ObjectInfo {
            size: Some(SIZE),
            revision: object().revision,
            ..ObjectInfo::default()
        });
        options
    };
    for concurrency in [1, 4] {
        for offset in [0, CHUNK + 3] {
            let mut options = pinned(concurrency);
            options.offset = offset;
            let cut = |call: &pget_testkit::sources::Call, cuts| {
                let play = Play::right(object()).form(Form::WholeUntilEnd);
                if call.number < cuts {
                    play.stop(250_000 * (call.number as u64 + 1), Stop::End)
                } else {
                    play
                }
            };
            let mended = Staged::new(move |call| cut(call, 2));
            let (length, result) = read(&mended, options.clone()).await;
            result.expect("the third is whole");
            assert_eq!((length, mended.calls().len()), (SIZE - offset, 3));
            let never = Staged::new(move |_| {
                let play = Play::right(object()).form(Form::WholeUntilEnd);
                play.stop(250_000, Stop::End)
            });
            assert_eq!(kind(&read(&never, options).await.1), ErrorKind::Protocol);
        }
        // The part reports no size, but the object's size is known.
        let part = Staged::new(|_| Play::right(object()).form(Form::RangeWithoutTotal));
        let (length, result) = read(&part, pinned(concurrency)).await;
        result.expect("the size is known");
        assert_eq!(length, SIZE);
    }
}
