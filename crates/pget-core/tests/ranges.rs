//! Many ranges in one call.
//!
//! Each range gets its bytes, whatever their positions and whatever the source does. Each is
//! delivered when it is complete. No writer is left after the call.

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use futures_util::FutureExt as _;
use pget_core::{Cancel, Download, Error, ErrorKind, Options, RangeSource, Stats, memory::PAGE};
use pget_testkit::sources::{Form, Object, Play, Staged, Stop};
use tokio::runtime::Handle;

const CHUNK: u64 = 100_000;
const SIZE: u64 = 20 * CHUNK + 9;
const DEADLINE: Duration = Duration::from_secs(60);
/// Bytes after the wanted ones in each buffer.
const SPARE: usize = 3;

fn options(concurrency: u32) -> Options {
    pget_testkit::options(CHUNK, concurrency)
}

fn object() -> Object {
    Object::new(1, SIZE)
}

fn length(range: &Range<u64>) -> usize {
    usize::try_from(range.end - range.start).expect("small")
}

/// Checks the delivered ranges, and returns their order.
fn check(object: &Object, ranges: &[Range<u64>], given: &[(usize, Vec<u8>)]) -> Vec<usize> {
    for (index, bytes) in given {
        let range = &ranges[*index];
        assert_eq!(
            object.pattern.check(range.start, &bytes[..length(range)]),
            Ok(()),
            "range {index}, {range:?}"
        );
    }
    let order: Vec<_> = given.iter().map(|(index, _)| *index).collect();
    let mut once = order.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), order.len(), "each once: {order:?}");
    order
}

/// Reads in the owned form. Returns the result, and the order of the ranges.
async fn owned(
    source: &Arc<Staged>,
    options: Options,
    object: &Object,
    ranges: &[Range<u64>],
) -> (Result<Stats, Error>, Vec<usize>) {
    let download = Download::new(Arc::clone(source) as Arc<dyn RangeSource>, options).expect("right");
    let buffers = ranges
        .iter()
        .map(|range| (range.clone(), vec![0xAA; length(range) + SPARE]))
        .collect();
    let mut reading = match download.read_ranges(buffers) {
        Ok(reading) => reading,
        Err(error) => return (Err(error), Vec::new()),
    };
    let mut given = Vec::new();
    let all = async {
        while let Some((index, buffer)) = reading.next().await? {
            assert!(buffer[length(&ranges[index])..].iter().all(|byte| *byte == 0xAA));
            given.push((index, buffer));
        }
        Ok(())
    };
    let result: Result<(), Error> = tokio::time::timeout(DEADLINE, all).await.expect("it ends");
    let result = result.map(|()| reading.stats());
    if let Err(error) = &result {
        let again = reading.next().await.expect_err("the error stays");
        assert_eq!(again.kind(), error.kind());
    }
    (result, check(object, ranges, &given))
}

/// Reads in the borrowed form.
async fn borrowed(
    source: &Arc<Staged>,
    options: Options,
    object: &Object,
    ranges: &[Range<u64>],
) -> (Result<Stats, Error>, Vec<usize>) {
    let download = Download::new(Arc::clone(source) as Arc<dyn RangeSource>, options).expect("right");
    let (runtime, wanted) = (Handle::current(), ranges.to_vec());
    let call = tokio::task::spawn_blocking(move || {
        let mut memory: Vec<_> = wanted
            .iter()
            .map(|range| vec![0xAA; length(range) + SPARE])
            .collect();
        let mut given = Vec::new();
        let mut list: Vec<_> = wanted
            .into_iter()
            .zip(memory.iter_mut().map(Vec::as_mut_slice))
            .collect();
        let result = download.read_ranges_on(&runtime, &mut list, |index, bytes| {
            given.push((index, bytes.to_vec()))
        });
        // Delivered bytes do not change later.
        for (index, bytes) in &given {
            assert_eq!(&memory[*index][..bytes.len()], bytes);
            assert!(memory[*index][bytes.len()..].iter().all(|byte| *byte == 0xAA));
        }
        (result, given)
    });
    let (result, given) = tokio::time::timeout(DEADLINE, call)
        .await
        .expect("it ends")
        .expect("no panic");
    (result, check(object, ranges, &given))
}

/// Checks that both forms deliver everything.
async fn complete(
    source: impl Fn() -> Arc<Staged>,
    options: &Options,
    object: &Object,
    ranges: &[Range<u64>],
) -> Arc<Staged> {
    let (result, order) = owned(&source(), options.clone(), object, ranges).await;
    result.expect("it is read");
    assert_eq!(order.len(), ranges.len());
    let source = source();
    let (result, order) = borrowed(&source, options.clone(), object, ranges).await;
    result.expect("it is read");
    assert_eq!(order.len(), ranges.len());
    source
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_overlaps_empty_ones_and_the_end_are_right() {
    let ranges = [
        SIZE - 5..SIZE,
        10..20,
        10..20,
        15..3 * CHUNK + 7,
        0..SIZE,
        7..7,
        SIZE..SIZE,
        2 * CHUNK..3 * CHUNK,
        2 * CHUNK..3 * CHUNK + 1,
        SIZE - 1..SIZE,
    ];
    for concurrency in [1, 4] {
        for gap in [0, 5, 1 << 20] {
            let mut options = options(concurrency);
            options.gap = gap;
            let source = complete(|| Staged::right(object()), &options, &object(), &ranges).await;
            assert_eq!(source.served(), SIZE, "no byte is fetched twice");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn near_ranges_are_one_request_and_far_ones_several() {
    let ranges = [500..600, 100..200, 610..700, 50_000..50_001];
    for (gap, requests, bytes) in [
        (0, 4, 100 + 100 + 90 + 1),
        (9, 4, 100 + 100 + 90 + 1),
        (10, 3, 100 + 200 + 1),
        (300, 2, 600 + 1),
        (1 << 20, 1, 50_001 - 100),
    ] {
        let mut options = options(4);
        options.gap = gap;
        let source = complete(|| Staged::right(object()), &options, &object(), &ranges).await;
        assert_eq!(
            (source.calls().len(), source.served()),
            (requests, bytes),
            "gap {gap}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_ranges_far_apart_cost_what_they_have_also_one_at_a_time() {
    let size = 8 << 40;
    let object = Object::new(1, size);
    let ranges = [size - 2 * CHUNK - 3..size, 5..10, (4 << 40) - 1..(4 << 40) + 1];
    for concurrency in [1, 4] {
        let right = object.clone();
        let source = complete(
            || Staged::right(right.clone()),
            &options(concurrency),
            &object,
            &ranges,
        )
        .await;
        assert_eq!(source.served(), 2 * CHUNK + 3 + 5 + 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_ranges_of_random_sources_are_right() {
    for seed in 0..150 {
        let mut rng = Rng::with_seed(seed);
        let count = rng.usize(0..40);
        let longest = [10, 1000, 3 * CHUNK][rng.usize(0..3)];
        let ranges: Vec<_> = (0..count)
            .map(|_| {
                let start = rng.u64(0..=SIZE);
                start..(start + rng.u64(0..longest)).min(SIZE)
            })
            .collect();
        let mut options = options(1 << rng.u32(0..5));
        options.gap = [0, 1, 5000, 1 << 20][rng.usize(0..4)];
        options.chunk_size = Some([CHUNK, 7777, 3 * PAGE as u64][rng.usize(0..3)]);
        let shape = rng.usize(0..7);
        let source = move || {
            Staged::new(move |call| {
                let play = Play::right(object());
                match shape {
                    0 => play,
                    1 => play.form(Form::Clipped(5001)),
                    2 => play.form(Form::Whole),
                    3 => play.form(Form::WholeUntilEnd),
                    4 => Play::right(object().without_identity()),
                    5 if call.number % 3 == 0 => play.stop(70_000, Stop::Retry(ErrorKind::Unavailable)),
                    6 => Play {
                        withhold: true,
                        ..play
                    },
                    _ => play,
                }
            })
        };
        if shape == 3 && ranges.iter().all(|range| range.is_empty()) {
            continue;
        }
        eprintln!("seed {seed}");
        complete(source, &options, &object(), &ranges).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_is_handed_on_while_others_are_not_complete() {
    let source = Staged::new(|call| {
        let play = Play::right(object());
        match call.request.start / CHUNK {
            5 => play.delayed(Duration::from_secs(5)),
            9 => play.delayed(Duration::from_secs(9)),
            _ => play,
        }
    });
    let ranges = [
        9 * CHUNK..9 * CHUNK + 10,
        0..10,
        5 * CHUNK..5 * CHUNK + 10,
        12 * CHUNK..15 * CHUNK,
        // The first chunk of this range is late.
        5 * CHUNK..7 * CHUNK,
    ];
    let mut options = options(16);
    options.gap = 0;
    let (result, order) = owned(&source, options, &object(), &ranges).await;
    result.expect("it is read");
    assert_eq!(order[..2], [1, 3]);
    assert_eq!(order[4], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_of_one_range_are_received_in_its_buffer() {
    let size = 40 * PAGE as u64;
    let object = Object::new(1, size);
    let mut options = options(4);
    options.chunk_size = Some(2 * PAGE as u64);
    let ranges = [0..size / 2, size / 2..size];
    let source = Staged::right(object.clone());
    let (result, _) = owned(&source, options, &object, &ranges).await;
    let peak = result.expect("it is read").peak_buffered;
    assert_eq!(peak, 0, "no page was needed but the buffers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_small_ranges() {
    let ranges: Vec<_> = (0..10_000_u64).rev().map(|i| i * 200 + 7..i * 200 + 57).collect();
    for (gap, requests) in [(0, 10_000), (1 << 20, 20)] {
        let mut options = options(16);
        options.gap = gap;
        let source = complete(|| Staged::right(object()), &options, &object(), &ranges).await;
        assert_eq!(source.calls().len(), requests);
    }
    // Every range overlaps all others.
    let nested: Vec<_> = (0..10_000_u64).map(|i| i..SIZE.min(2 * CHUNK) - i).collect();
    let source = Staged::right(object());
    let download = Download::new(source, options(4)).expect("right");
    let buffers = nested
        .iter()
        .take(1000)
        .map(|range| (range.clone(), vec![0; length(range)]))
        .collect();
    let mut reading = download.read_ranges(buffers).expect("right");
    let mut count = 0;
    while let Some((index, buffer)) = reading.next().await.expect("it goes on") {
        assert_eq!(object().pattern.check(nested[index].start, &buffer), Ok(()));
        count += 1;
    }
    assert_eq!(count, 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_revision_ends_it_and_what_was_given_is_right() {
    let source = || {
        Staged::new(|call| {
            let later = call.request.start > 10 * CHUNK;
            let play = Play::right(Object::new(if later { 2 } else { 1 }, SIZE));
            if later {
                play.delayed(Duration::from_millis(50))
            } else {
                play
            }
        })
    };
    let mut options = options(4);
    options.gap = 0;
    let ranges = [15 * CHUNK..16 * CHUNK, 0..100, 5 * CHUNK..15 * CHUNK];
    for (result, order) in [
        owned(&source(), options.clone(), &object(), &ranges).await,
        borrowed(&source(), options, &object(), &ranges).await,
    ] {
        assert_eq!(
            result.expect_err("two revisions").kind(),
            ErrorKind::ObjectChanged
        );
        assert!(order.iter().all(|index| *index == 1), "{order:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_beyond_the_object_is_told_which() {
    let shapes: [fn() -> Arc<Staged>; 3] = [
        || Staged::right(object()),
        || Staged::new(|_| Play::right(object()).form(Form::Whole)),
        || Staged::new(|_| Play::right(object()).form(Form::WholeUntilEnd)),
    ];
    for source in shapes {
        for beyond in [SIZE - 1..SIZE + 1, SIZE..SIZE + 1, SIZE + CHUNK..SIZE + CHUNK + 1] {
            let ranges = [0..10, beyond, SIZE + 2 * CHUNK..SIZE + 3 * CHUNK];
            for (result, _) in [
                owned(&source(), options(4), &object(), &ranges).await,
                borrowed(&source(), options(4), &object(), &ranges).await,
            ] {
                let error = result.expect_err("it goes beyond");
                assert_eq!(error.kind(), ErrorKind::Range, "{error}");
                assert!(error.to_string().contains("range 1 "), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn unusable_arguments_are_refused_before_anything_is_sent() {
    let source = Staged::right(object());
    let download = Download::new(source.clone(), options(4)).expect("right");
    let error = download
        .read_ranges(vec![(0..10, vec![0; 10]), (5..9, vec![0; 3])])
        .expect_err("too small");
    assert_eq!(
        (error.kind(), error.needed()),
        (ErrorKind::BufferTooSmall, Some(4))
    );
    let reversed = Range { start: 9, end: 5 };
    let error = download
        .read_ranges(vec![(reversed, vec![0; 10])])
        .expect_err("reversed");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let mut with_length = options(4);
    with_length.length = Some(5);
    let download = Download::new(source.clone(), with_length).expect("right");
    let error = download
        .read_ranges(vec![(0..10, vec![0; 10])])
        .expect_err("a length besides");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(source.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_ranges_and_empty_ones_send_nothing() {
    for ranges in [vec![], vec![5..5, 9..9]] {
        let source = complete(|| Staged::right(object()), &options(4), &object(), &ranges).await;
        assert!(source.calls().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_and_a_panic_of_the_callback_leave_no_writer() {
    let cancel = Cancel::new();
    let source = Staged::new(|call| {
        let play = Play::right(object());
        if call.request.start > 0 {
            play.stop(10, Stop::Stall)
        } else {
            play
        }
    });
    let mut options = options(4);
    (options.cancel, options.gap) = (Some(cancel.clone()), 0);
    let download = Download::new(source.clone(), options).expect("right");
    let runtime = Handle::current();
    let call = tokio::task::spawn_blocking(move || {
        let mut memory = [vec![0; 10], vec![0; 1000]];
        let [first, second] = &mut memory;
        let mut list = [(0..10, &mut first[..]), (CHUNK..CHUNK + 1000, &mut second[..])];
        let cancelled = download.read_ranges_on(&runtime, &mut list, |index, _| {
            assert_eq!(index, 0);
            cancel.trigger();
        });
        cancelled.expect_err("cancelled").kind()
    });
    let kind = tokio::time::timeout(DEADLINE, call)
        .await
        .expect("it ends")
        .expect("no panic");
    assert_eq!(kind, ErrorKind::Cancelled);

    let mut options = self::options(4);
    options.gap = 0;
    let download = Download::new(source.clone(), options).expect("right");
    let runtime = Handle::current();
    let call = tokio::task::spawn_blocking(move || {
        let mut memory = [vec![0; 10], vec![0; 1000]];
        let [first, second] = &mut memory;
        let mut list = [(0..10, &mut first[..]), (CHUNK..CHUNK + 1000, &mut second[..])];
        let calling = || download.read_ranges_on(&runtime, &mut list, |_, _| panic!("of the callback"));
        catch_unwind(AssertUnwindSafe(calling)).is_err()
    });
    assert!(
        tokio::time::timeout(DEADLINE, call)
            .await
            .expect("it ends")
            .expect("caught")
    );
    while source.active() > 0 {
        tokio::task::yield_now().await;
    }
}

/// A buffer that counts the live buffers of its kind.
struct Counted(Vec<u8>, Arc<AtomicUsize>);

impl AsMut<[u8]> for Counted {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_it_frees_the_buffers() {
    let source = Staged::new(|_| Play::right(object()).stop(10, Stop::Stall));
    let count = Arc::new(AtomicUsize::new(3));
    let buffers = (0..3)
        .map(|i| {
            (
                i * CHUNK..i * CHUNK + 1000,
                Counted(vec![0; 1000], Arc::clone(&count)),
            )
        })
        .collect();
    let download = Download::new(source.clone(), options(4)).expect("right");
    let reading = download.read_ranges(buffers).expect("right");
    while source.served() == 0 {
        tokio::task::yield_now().await;
    }
    drop(reading);
    let freed = async {
        while count.load(Ordering::SeqCst) > 0 || source.active() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, freed)
        .await
        .expect("they are freed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_goes_to_the_end() {
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
    let ranges = [0..CHUNK, 3 * CHUNK..4 * CHUNK];
    options.gap = 0;
    let (result, _) = owned(&Staged::right(object()), options, &object(), &ranges).await;
    result.expect("it is read");
    let told = told.lock().expect("not poisoned");
    assert_eq!(told.last(), Some(&(Some(2 * CHUNK), 2 * CHUNK)));
}

#[tokio::test(start_paused = true)]
async fn a_progress_function_that_panics_cancels_the_download() {
    let source = Staged::new(|_| Play::right(object()).paced(10_000, Duration::from_secs(1)));
    let mut options = options(2);
    let told = AtomicUsize::new(0);
    options.progress = Some(Arc::new(move |_| {
        let first = told.fetch_add(1, Ordering::Relaxed) == 0;
        assert!(!first, "staged panic of a progress function");
    }));
    let download = Download::new(source.clone() as Arc<dyn RangeSource>, options).expect("right");
    let mut reading = download
        .read_ranges(vec![(0..SIZE, vec![0xAA_u8; length(&(0..SIZE))])])
        .expect("it begins");
    let panics = AssertUnwindSafe(reading.next()).catch_unwind().await;
    assert!(panics.is_err());
    let error = reading.next().await.expect_err("it is cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert!(source.served() < SIZE);
}
