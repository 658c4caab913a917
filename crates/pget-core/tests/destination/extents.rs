//! Several extents of one object, as a resumed file needs them.

use std::{ops::Range, sync::Arc};

use pget_core::{Destination, Download, Error, ErrorKind, ObjectInfo, Options, Revision, Stats};
use pget_testkit::sources::{Form, Object, Play, Staged, Stop};

use super::{
    CHUNK, DEADLINE, SIZE, first_goes,
    ledger::{Ledger, Mode},
    object, options,
};

async fn read(
    source: &Arc<Staged>,
    options: Options,
    extents: &[Range<u64>],
    mode: Mode,
) -> (Result<Stats, Error>, Arc<Ledger>) {
    let ledger = Ledger::new(object().pattern, mode);
    let download = Download::new(source.clone(), options).expect("right");
    let reading = download.read_extents_to(extents, Arc::clone(&ledger) as Arc<dyn Destination>);
    let result = tokio::time::timeout(DEADLINE, reading).await.expect("it ends");
    assert_eq!(ledger.inside(), 0);
    (result, ledger)
}

fn some() -> Vec<Range<u64>> {
    vec![
        5..6,
        CHUNK - 1..CHUNK + 1,
        3 * CHUNK..6 * CHUNK + 77,
        19 * CHUNK + 3..SIZE,
    ]
}

/// Reads `some` to both kinds of place, whatever the source does.
async fn completes(source: impl Fn() -> Arc<Staged>) -> Arc<Staged> {
    let bytes: u64 = some().iter().map(|extent| extent.end - extent.start).sum();
    let mut last = source();
    for concurrency in [1, 4] {
        for mode in [Mode::Put, Mode::Memory, Mode::Fresh] {
            last = source();
            let (result, ledger) = read(&last, options(concurrency), &some(), mode).await;
            let stats = result.expect("it is read");
            ledger.assert_has(&some());
            assert_eq!(stats.delivered, bytes);
            assert_eq!(ledger.entries().begun.len(), 1);
        }
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_the_extents_is_fetched() {
    let source = completes(|| Staged::right(object())).await;
    let bytes: u64 = some().iter().map(|extent| extent.end - extent.start).sum();
    assert_eq!(source.served(), bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_and_clips_are_made_good() {
    completes(|| first_goes(|object| Play::right(object).stop(30_001, Stop::Retry(ErrorKind::Unavailable))))
        .await;
    completes(|| Staged::new(|_| Play::right(object()).form(Form::Clipped(30_007)))).await;
    completes(|| {
        Staged::new(|_| Play {
            withhold: true,
            ..Play::right(object())
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stream_skips_the_gaps() {
    completes(|| Staged::new(|_| Play::right(object()).form(Form::Whole))).await;
    let endless = Staged::new(|_| Play::right(object()).form(Form::WholeUntilEnd));
    let (result, ledger) = read(&endless, options(4), &some(), Mode::Put).await;
    result.expect("it is read");
    ledger.assert_has(&some());
    completes(|| Staged::right(object().without_identity())).await;
    // The body is cut within an extent, within a gap, and at the start of an extent.
    for at in [4 * CHUNK + 1, 10 * CHUNK, 3 * CHUNK, CHUNK + 1] {
        completes(move || {
            Staged::new(move |call| {
                let play = Play::right(object()).form(Form::Whole);
                if call.number == 0 {
                    play.stop(at, Stop::Retry(ErrorKind::Unavailable))
                } else {
                    play
                }
            })
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_behind_the_end_is_left_out_and_nothing_is_nothing() {
    let source = Staged::right(object());
    let extents = [10..20, SIZE - 5..SIZE + 5, SIZE + 100..SIZE + 200];
    let (result, ledger) = read(&source, options(4), &extents, Mode::Put).await;
    result.expect("it is read");
    ledger.assert_has(&[10..20, SIZE - 5..SIZE]);

    let source = Staged::right(object());
    let nothing = std::iter::once(5..5).collect::<Vec<_>>();
    let (result, ledger) = read(&source, options(4), &nothing, Mode::Put).await;
    assert_eq!(result.expect("nothing to do").requests, 0);
    assert!(ledger.entries().begun.is_empty());

    let mut with_offset = options(4);
    with_offset.offset = 1;
    for (options, extents) in [
        (with_offset, some()),
        (options(4), vec![Range { start: 5, end: 4 }]),
    ] {
        let (result, _) = read(&source, options, &extents, Mode::Put).await;
        assert_eq!(
            result.expect_err("an unusable extent").kind(),
            ErrorKind::InvalidArgument
        );
    }
}

fn pinned(info: ObjectInfo) -> Options {
    let mut options = options(4);
    options.pin = Some(info);
    options
}

fn info(object: Object) -> ObjectInfo {
    ObjectInfo {
        size: Some(object.size),
        revision: object.revision,
        ..ObjectInfo::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pinned_revision_goes_on_and_another_is_refused_before_a_byte() {
    let pin = || info(object());
    for source in [
        Staged::right(object()),
        Staged::new(|_| Play::right(object()).form(Form::Whole)),
        Staged::new(|_| Play::right(object()).form(Form::RangeWithoutTotal)),
    ] {
        let (result, ledger) = read(&source, pinned(pin()), &some(), Mode::Put).await;
        result.expect("it is the same");
        ledger.assert_has(&some());
        assert!(source.calls()[0].request.pinned.is_some(), "sent as a condition");
    }
    let mut other_size = object();
    other_size.size += 1;
    for other in [Object::new(2, SIZE), other_size] {
        for form in [Form::Range, Form::Whole] {
            let other = other.clone();
            let source = Staged::new(move |_| Play::right(other.clone()).form(form));
            let (result, ledger) = read(&source, pinned(pin()), &some(), Mode::Put).await;
            assert_eq!(
                result.expect_err("another revision").kind(),
                ErrorKind::ObjectChanged
            );
            assert!(ledger.entries().begun.is_empty());
            assert_eq!(source.calls().len(), 1, "it is not asked again");
        }
    }
    let nameless = Staged::right(object().without_identity());
    let (result, _) = read(&nameless, pinned(pin()), &some(), Mode::Put).await;
    assert_eq!(result.expect_err("it may be another").kind(), ErrorKind::Protocol);
    let gone = Staged::new(|_| Play::right(object()).stop(0, Stop::Fatal(ErrorKind::NotFound)));
    let mut never = pinned(pin());
    never.retries = Some(0);
    let (result, _) = read(&gone, never, &some(), Mode::Put).await;
    assert_eq!(result.expect_err("deleted").kind(), ErrorKind::ObjectChanged);
}

#[tokio::test]
async fn a_pin_without_identity_is_refused() {
    let options = pinned(ObjectInfo {
        size: Some(5),
        revision: Revision::default(),
        ..ObjectInfo::default()
    });
    let error = Download::new(Staged::right(object()), options).expect_err("nothing to hold it against");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn a_pin_holds_for_an_object_that_ends_where_the_read_begins() {
    for (seed, kind) in [(1, None), (2, Some(ErrorKind::ObjectChanged))] {
        let mut options = pinned(info(object()));
        options.offset = SIZE;
        let source = Staged::right(Object::new(seed, SIZE));
        let ledger = Ledger::new(object().pattern, Mode::Put);
        let download = Download::new(source, options).expect("right");
        let result = download
            .read_to(Arc::clone(&ledger) as Arc<dyn Destination>)
            .await;
        assert_eq!(result.err().map(|error| error.kind()), kind);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_extents() {
    let extents: Vec<_> = (0..10_000_u64).map(|i| i * 200 + 7..i * 200 + 57).collect();
    let source = Staged::right(object());
    let (result, ledger) = read(&source, options(16), &extents, Mode::Put).await;
    result.expect("it is read");
    ledger.assert_has(&extents);
    assert_eq!(source.calls().len(), 10_000);
}
