//! Objects that are read as one stream: no ranges, no size or no identity.

use pget_core::ErrorKind;
use pget_testkit::sources::{Form, Object, Play, Staged, Stop};

use crate::{CHUNK, SIZE, kind, object, options, read, read_on, reader};

/// The first reply of a stream has no identity, so an identity in a later reply does not help. The
/// object may have changed before that reply.
#[tokio::test(start_paused = true)]
async fn a_stream_that_began_without_an_identity_goes_on_by_no_later_one() {
    let source = Staged::new(|call| {
        let mut object = if call.number < 2 {
            object()
        } else {
            Object::new(2, SIZE)
        };
        if call.number != 1 {
            object.revision = pget_core::Revision::default();
        }
        let play = Play::right(object);
        match call.number {
            0 => play.stop(0, Stop::Retry(ErrorKind::Unavailable)),
            1 => play.stop(5_000, Stop::Retry(ErrorKind::Unavailable)),
            _ => play,
        }
    });
    assert_eq!(kind(&read(&source, options(1)).await.1), ErrorKind::Unavailable);
    assert_eq!(source.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_ignores_ranges_is_read_as_one_stream() {
    for form in [Form::Whole, Form::WholeUntilEnd] {
        for offset in [0, 1, 2 * CHUNK + 1, SIZE, SIZE + 1] {
            for length in [None, Some(CHUNK + 1), Some(2 * SIZE)] {
                let source = Staged::new(move |_| Play::right(object()).form(form));
                source.set_head(object());
                let mut options = options(4);
                (options.offset, options.length) = (offset, length);
                let mut reader = reader(&source, options);
                let (got, result) = read_on(&mut reader, offset).await;
                if offset > SIZE {
                    assert_eq!(kind(&result), ErrorKind::Range, "{form:?}");
                    continue;
                }
                result.unwrap_or_else(|error| panic!("{form:?} {offset} {length:?}: {error}"));
                assert_eq!(got, length.unwrap_or(SIZE).min(SIZE - offset));
                assert_eq!(source.calls().len(), 1, "one request");
                assert!(reader.stats().one_stream);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_body_that_breaks_off_is_skipped_to_where_it_was() {
    let source = Staged::new(|call| {
        let play = Play::right(object()).form(Form::WholeUntilEnd);
        if call.number == 0 {
            play.stop(250_000, Stop::Retry(ErrorKind::Protocol))
        } else {
            play
        }
    });
    let (length, result) = read(&source, options(4)).await;
    result.expect("it is identified, so it can be resumed");
    assert_eq!((length, source.calls().len()), (SIZE, 2));
    // The second body ends normally, but before the byte at which it should continue. That is not
    // the end of the object.
    let short = Staged::new(|call| {
        let play = Play::right(object()).form(Form::WholeUntilEnd);
        if call.number == 0 {
            play.stop(250_000, Stop::Retry(ErrorKind::Protocol))
        } else {
            play.stop(1000, Stop::End)
        }
    });
    assert_eq!(kind(&read(&short, options(4)).await.1), ErrorKind::Protocol);
}

#[tokio::test(start_paused = true)]
async fn an_offset_behind_an_untold_end_stays_one_after_a_failed_attempt() {
    for (offset, form) in [
        (SIZE + 1, Form::WholeUntilEnd),
        (SIZE + 1, Form::Range),
        (SIZE, Form::WholeUntilEnd),
        (SIZE, Form::Range),
    ] {
        let source = Staged::new(move |call| {
            if call.number == 0 {
                let untold = Play::right(object()).form(Form::WholeUntilEnd);
                untold.stop(250_000, Stop::Retry(ErrorKind::Unavailable))
            } else {
                Play::right(object()).form(form)
            }
        });
        source.set_head(object());
        let mut options = options(4);
        options.offset = offset;
        let (got, result) = read(&source, options).await;
        assert_eq!((got, source.calls().len()), (0, 2), "{form:?}");
        if offset == SIZE {
            result.unwrap_or_else(|error| panic!("{form:?}: there is nothing to read: {error}"));
        } else {
            assert_eq!(kind(&result), ErrorKind::Range, "{form:?}");
        }
    }
    // A reported size is believed: a body that ends before it was cut short.
    let short = Staged::new(|call| {
        let whole = Play::right(object()).form(Form::Whole);
        match call.number {
            0 => whole.stop(250_000, Stop::Retry(ErrorKind::Unavailable)),
            _ => whole.stop(1000, Stop::End),
        }
    });
    let mut options = options(4);
    options.offset = CHUNK;
    assert_eq!(kind(&read(&short, options).await.1), ErrorKind::Protocol);
}

#[tokio::test(start_paused = true)]
async fn a_whole_body_shorter_than_it_said_is_no_success() {
    let mut sizeless = object();
    sizeless.size = SIZE;
    let source = Staged::new(move |_| {
        Play::right(sizeless.clone())
            .form(Form::Whole)
            .stop(SIZE - 1, Stop::End)
    });
    assert_eq!(kind(&read(&source, options(4)).await.1), ErrorKind::Protocol);
}

/// Only the size ties the stream to the probe.
#[tokio::test(start_paused = true)]
async fn case_133_a_stream_without_identity_has_the_size_of_its_probe() {
    for (probe, stream) in [(SIZE - 500_000, SIZE), (SIZE, SIZE - 500_000)] {
        for sizeless in [false, true] {
            let source = Staged::new(move |call| {
                let size = if call.number == 0 { probe } else { stream };
                let play = Play::right(Object::new(1, size).without_identity());
                if sizeless && call.number > 0 {
                    play.form(Form::WholeUntilEnd)
                } else {
                    play
                }
            });
            let (length, result) = read(&source, options(4)).await;
            if sizeless && stream > probe {
                // Sources themselves notice if a body without a length continues past its end.
                assert_eq!(length, probe);
            } else if sizeless {
                assert_eq!(kind(&result), ErrorKind::Protocol);
            } else {
                assert_eq!((length, kind(&result)), (0, ErrorKind::ObjectChanged));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_identity_there_is_one_stream_and_no_splice() {
    let source = Staged::new(|_| Play::right(object().without_identity()));
    let (length, result) = read(&source, options(4)).await;
    result.expect("one stream is one revision");
    assert_eq!(
        (length, source.calls().len()),
        (SIZE, 2),
        "the probe and the stream"
    );
    assert_eq!(source.calls()[1].request.end, None);
    // The object has one chunk, or many. A stream that broke off cannot be continued.
    for size in [CHUNK - 1, SIZE] {
        let broken = Staged::new(move |_| {
            let object = Object::new(1, size).without_identity();
            Play::right(object).stop(5000, Stop::Retry(ErrorKind::Unavailable))
        });
        let (length, result) = read(&broken, options(4)).await;
        assert_eq!(kind(&result), ErrorKind::Unavailable);
        assert!(
            length <= 5000 && broken.calls().len() <= 2,
            "nothing ties a second stream to the first"
        );
    }
}
