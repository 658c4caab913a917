//! The bytes are compared with the published checksum in every way of reading, over sources in the
//! process.
//!
//! Time is tokio's, paused.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use pget_core::{
    Destination, Download, Error, ErrorKind, Keeps, ObjectInfo, Options, Published, RangeSource, Stats,
    Transfer, Verification, Verify,
    verify::{Algorithm, Digest, Hasher},
};
use pget_testkit::sources::{Form, Object, Play, Staged, Stop};

const CHUNK: u64 = 30_000;
const SIZE: u64 = 10 * CHUNK + 7;
const CONCURRENCIES: [u32; 3] = [1, 4, 16];

fn options(concurrency: u32) -> Options {
    pget_testkit::options(CHUNK, concurrency)
}

fn digest(algorithm: Algorithm, object: &Object) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    let size = usize::try_from(object.size).expect("small");
    hasher.update(&object.pattern.bytes(0, size));
    hasher.finish()
}

/// Returns an object that publishes its checksum.
fn object(algorithm: Algorithm, size: u64) -> Object {
    let mut object = Object::new(1, size);
    object.checksum = Some(Published::Whole(digest(algorithm, &object)));
    object
}

/// Returns an object that publishes another one's checksum.
fn wrong(algorithm: Algorithm, size: u64) -> Object {
    let mut object = Object::new(1, size);
    object.checksum = Some(Published::Whole(digest(algorithm, &Object::new(2, size + 1))));
    object
}

/// Reads in order. Returns the number of delivered bytes, the end, and the counters.
async fn read(source: &Arc<Staged>, options: Options) -> (u64, Result<(), Error>, Stats) {
    let source: Arc<dyn RangeSource> = source.clone();
    let download = match Download::new(source, options) {
        Ok(download) => download,
        Err(error) => return (0, Err(error), Stats::default()),
    };
    let mut reader = download.reader();
    let mut bytes = 0;
    let all = async {
        while let Some(lease) = reader.next().await? {
            bytes += lease.len() as u64;
        }
        Ok(())
    };
    let result = tokio::time::timeout(Duration::from_secs(86_400), all)
        .await
        .expect("it ends");
    let again = reader
        .next()
        .await
        .map(|lease| assert!(lease.is_none(), "it is over"));
    assert_eq!(
        again.map_err(|error| error.kind()),
        result.as_ref().copied().map_err(Error::kind),
        "the end stays"
    );
    (bytes, result, reader.stats())
}

#[tokio::test(start_paused = true)]
async fn in_order_every_algorithm_at_every_concurrency() {
    for algorithm in Algorithm::ALL {
        for concurrency in CONCURRENCIES {
            for size in [0, 1, CHUNK, SIZE] {
                let source = Staged::right(object(algorithm, size));
                let (bytes, result, stats) = read(&source, options(concurrency)).await;
                result.unwrap_or_else(|error| panic!("{algorithm}, {size}: {}", error.to_line()));
                assert_eq!(bytes, size);
                assert_eq!(stats.verification, Verification::Verified(algorithm));
                assert_eq!(stats.delivered, size);

                let source = Staged::right(wrong(algorithm, size));
                let (bytes, result, stats) = read(&source, options(concurrency)).await;
                let error = result.expect_err("the bytes are not those");
                assert_eq!(error.kind(), ErrorKind::Checksum, "{}", error.to_line());
                assert!(
                    bytes < size || size == 0,
                    "the last lease is kept back, {bytes} of {size}"
                );
                assert_eq!(stats.verification, Verification::Mismatch(algorithm));
                assert_eq!(stats.delivered, bytes);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_end_is_not_told_keeps_back_what_may_be_the_last() {
    for concurrency in CONCURRENCIES {
        let whole =
            |object: Object| Staged::new(move |_| Play::right(object.clone()).form(Form::WholeUntilEnd));
        let (bytes, result, stats) =
            read(&whole(object(Algorithm::Crc32c, SIZE)), options(concurrency)).await;
        result.expect("verified");
        assert_eq!((bytes, stats.delivered), (SIZE, SIZE));
        assert_eq!(stats.verification.verified(), Some(Algorithm::Crc32c));
        assert!(stats.one_stream);
        let (bytes, result, stats) = read(&whole(wrong(Algorithm::Crc32c, SIZE)), options(concurrency)).await;
        assert_eq!(result.expect_err("wrong").kind(), ErrorKind::Checksum);
        assert!(bytes < SIZE);
        assert_eq!(stats.delivered, bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_degraded_stream_and_resumed_ranges_are_verified() {
    for algorithm in [Algorithm::Xxh64, Algorithm::Crc64Nvme] {
        for concurrency in CONCURRENCIES {
            let ignores = Staged::new(move |_| Play::right(object(algorithm, SIZE)).form(Form::Whole));
            let (bytes, result, stats) = read(&ignores, options(concurrency)).await;
            result.expect("one stream");
            assert_eq!(
                (bytes, stats.verification),
                (SIZE, Verification::Verified(algorithm))
            );

            let breaks = Staged::new(move |call| {
                let play = Play::right(object(algorithm, SIZE));
                if call.request.attempt == 0 && call.request.start % CHUNK == 0 {
                    play.stop(10_000, Stop::Retry(ErrorKind::Unavailable))
                } else {
                    play
                }
            });
            let (bytes, result, stats) = read(&breaks, options(concurrency)).await;
            result.expect("resumed");
            assert_eq!(
                (bytes, stats.verification),
                (SIZE, Verification::Verified(algorithm))
            );
            assert!(stats.retries > 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_verified_is_said_and_refused_when_it_is_required() {
    let plain = Object::new(1, SIZE);
    let mut composite = plain.clone();
    composite.checksum = Some(Published::Composite(Algorithm::Crc32c));
    for (object, verification) in [
        (plain, Verification::Unpublished),
        (composite, Verification::Composite(Algorithm::Crc32c)),
    ] {
        for concurrency in CONCURRENCIES {
            let source = Staged::right(object.clone());
            let (bytes, result, stats) = read(&source, options(concurrency)).await;
            result.expect("auto verifies what can be");
            assert_eq!((bytes, stats.verification), (SIZE, verification));

            let source = Staged::right(object.clone());
            let mut required = options(concurrency);
            required.verify = Verify::Require;
            let (bytes, result, stats) = read(&source, required).await;
            let error = result.expect_err("required");
            assert_eq!((bytes, error.kind()), (0, ErrorKind::Unverifiable));
            assert_eq!(stats.verification, verification);
            assert!(
                error.to_line().contains("published for it"),
                "{}",
                error.to_line()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn off_verifies_nothing() {
    let source = Staged::right(wrong(Algorithm::Md5, SIZE));
    let mut off = options(4);
    off.verify = Verify::Off;
    let (bytes, result, stats) = read(&source, off).await;
    result.expect("nothing is compared");
    assert_eq!((bytes, stats.verification), (SIZE, Verification::Off));
    assert!(
        source
            .calls()
            .iter()
            .all(|call| call.request.verify == Verify::Off)
    );
}

#[tokio::test(start_paused = true)]
async fn a_part_is_not_verified_and_all_of_it_by_offset_and_length_is() {
    let part = |offset, length| {
        let mut options = options(4);
        options.offset = offset;
        options.length = length;
        options
    };
    for (offset, length) in [(1, None), (0, Some(SIZE - 1)), (SIZE, None), (CHUNK, Some(CHUNK))] {
        let source = Staged::right(wrong(Algorithm::Sha1, SIZE));
        let (_, result, stats) = read(&source, part(offset, length)).await;
        result.expect("a part has no published checksum");
        assert_eq!(stats.verification, Verification::Part, "{offset} {length:?}");

        let mut required = part(offset, length);
        required.verify = Verify::Require;
        let source = Staged::right(object(Algorithm::Sha1, SIZE));
        let (_, result, _) = read(&source, required).await;
        assert_eq!(result.expect_err("no part").kind(), ErrorKind::InvalidArgument);
        assert!(source.calls().is_empty());
    }
    for length in [SIZE, SIZE + 1, u64::MAX] {
        let source = Staged::right(object(Algorithm::Sha1, SIZE));
        let (bytes, result, stats) = read(&source, part(0, Some(length))).await;
        result.expect("all of it");
        assert_eq!(
            (bytes, stats.verification),
            (SIZE, Verification::Verified(Algorithm::Sha1))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn another_checksum_in_a_later_reply_is_another_object() {
    for concurrency in [4, 16] {
        let source = Staged::new(|call| {
            let mut now = object(Algorithm::Crc32, SIZE);
            if call.request.start >= 5 * CHUNK {
                now.checksum = wrong(Algorithm::Crc32, SIZE).checksum;
            }
            Play::right(now)
        });
        let (_, result, _) = read(&source, options(concurrency)).await;
        assert_eq!(result.expect_err("changed").kind(), ErrorKind::ObjectChanged);
    }
}

/// A destination that keeps the bytes as `keeps` says.
#[derive(Debug)]
struct Shelf {
    bytes: Mutex<Vec<u8>>,
    keeps: Keeps,
    memory: bool,
}

impl Shelf {
    fn new(keeps: Keeps) -> Arc<Self> {
        Arc::new(Self {
            bytes: Mutex::new(Vec::new()),
            keeps,
            memory: false,
        })
    }

    fn memory() -> Arc<Self> {
        Arc::new(Self {
            bytes: Mutex::default(),
            keeps: Keeps::Nothing,
            memory: true,
        })
    }
}

fn index(at: u64) -> usize {
    usize::try_from(at).expect("small")
}

impl Destination for Shelf {
    fn begin(&self, object: &ObjectInfo, start: u64, end: Option<u64>) -> Result<Transfer, Error> {
        if self.memory {
            let length = index(end.expect("the size is known") - start);
            return Ok(Transfer::Memory(Box::new(vec![0_u8; length])));
        }
        let size = index(object.size.or(end).unwrap_or(SIZE));
        self.bytes.lock().expect("no panic").resize(size, 0);
        Ok(Transfer::Put)
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let at = index(offset);
        self.bytes.lock().expect("no panic")[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn keeps(&self) -> Keeps {
        self.keeps
    }

    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let at = index(offset);
        buffer.copy_from_slice(&self.bytes.lock().expect("no panic")[at..at + buffer.len()]);
        Ok(())
    }
}

/// Returns an object whose checksum is of other bytes: the byte at `at` differs.
fn damaged(algorithm: Algorithm, at: u64) -> Object {
    let mut object = Object::new(1, SIZE);
    let mut bytes = object.pattern.bytes(0, index(SIZE));
    bytes[index(at)] ^= 1;
    let mut hasher = Hasher::new(algorithm);
    hasher.update(&bytes);
    object.checksum = Some(Published::Whole(hasher.finish()));
    object
}

async fn to(object: Object, concurrency: u32, shelf: &Arc<Shelf>) -> Result<Stats, Error> {
    let download = Download::new(Staged::right(object), options(concurrency)).expect("the options are right");
    let shelf: Arc<dyn Destination> = shelf.clone();
    tokio::time::timeout(Duration::from_secs(86_400), download.read_to(shelf))
        .await
        .expect("it ends")
}

async fn into_memory(object: Object, concurrency: u32) -> Result<(), Error> {
    let download = Download::new(Staged::right(object), options(concurrency)).expect("the options are right");
    let (result, buffer) = download.read_into(vec![0_u8; index(SIZE)]).await;
    assert!(buffer.is_some(), "it comes back");
    result.map(|bytes| assert_eq!(bytes, index(SIZE)))
}

#[tokio::test(start_paused = true)]
async fn placed_in_any_way_every_algorithm_is_verified_wherever_the_damage_is() {
    for algorithm in Algorithm::ALL {
        for concurrency in CONCURRENCIES {
            let right = || object(algorithm, SIZE);
            into_memory(right(), concurrency).await.expect("right");
            for shelf in [Shelf::new(Keeps::Landed), Shelf::memory()] {
                let stats = to(right(), concurrency, &shelf).await.expect("right");
                assert_eq!(stats.verification, Verification::Verified(algorithm));
            }
            for at in [0, SIZE / 2, SIZE - 1] {
                let wrong = || damaged(algorithm, at);
                let failed = |result: Result<(), Error>| {
                    let error = result.expect_err("the bytes are not those");
                    assert_eq!(error.kind(), ErrorKind::Checksum, "{}", error.to_line());
                };
                failed(into_memory(wrong(), concurrency).await);
                for shelf in [Shelf::new(Keeps::Landed), Shelf::memory()] {
                    failed(to(wrong(), concurrency, &shelf).await.map(drop));
                }
                let (_, result, _) = read(&Staged::right(wrong()), options(concurrency)).await;
                failed(result);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_gives_nothing_back_is_verified_by_what_combines_or_comes_in_order() {
    for concurrency in CONCURRENCIES {
        let shelf = Shelf::new(Keeps::Nothing);
        let stats = to(object(Algorithm::Crc64Nvme, SIZE), concurrency, &shelf).await;
        assert_eq!(
            stats.expect("right").verification,
            Verification::Verified(Algorithm::Crc64Nvme)
        );
        // The second chunk arrives last, unless there is a single stream.
        let late = Staged::new(|call| {
            let wait = if call.request.start == CHUNK { 1 } else { 0 };
            Play::right(object(Algorithm::Md5, SIZE)).delayed(Duration::from_secs(wait))
        });
        let download = Download::new(late.clone(), options(concurrency)).expect("right");
        let stats = download.read_to(shelf.clone()).await;
        let verification = stats.expect("auto").verification;
        if concurrency == 1 {
            assert_eq!(verification, Verification::Verified(Algorithm::Md5));
            continue;
        }
        assert_eq!(verification, Verification::Unreadable(Algorithm::Md5));
        let mut required = options(concurrency);
        required.verify = Verify::Require;
        let download = Download::new(late, required).expect("right");
        let error = download.read_to(shelf).await.expect_err("it cannot be verified");
        assert_eq!(error.kind(), ErrorKind::Unverifiable);
        assert!(
            error.to_line().contains("cannot give bytes back"),
            "{}",
            error.to_line()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_download_left_is_verified_with_the_rest() {
    for algorithm in Algorithm::ALL {
        for concurrency in CONCURRENCIES {
            for damage in [false, true] {
                let object = object(algorithm, SIZE);
                let shelf = Shelf::new(Keeps::Object);
                let mut bytes = object.pattern.bytes(0, index(SIZE));
                let missing = [CHUNK + 5..3 * CHUNK, 7 * CHUNK..SIZE - 9];
                for gap in &missing {
                    bytes[index(gap.start)..index(gap.end)].fill(0);
                }
                if damage {
                    bytes[index(5 * CHUNK)] ^= 1;
                }
                *shelf.bytes.lock().expect("no panic") = bytes;
                let download = Download::new(Staged::right(object), options(concurrency)).expect("right");
                let destination: Arc<dyn Destination> = shelf.clone();
                let result = download.read_extents_to(&missing, destination).await;
                if damage {
                    assert_eq!(
                        result.expect_err("damaged").kind(),
                        ErrorKind::Checksum,
                        "{algorithm}"
                    );
                } else {
                    assert_eq!(
                        result.expect("right").verification,
                        Verification::Verified(algorithm)
                    );
                }
            }
        }
    }
    // The extents are only a part of the object, because the destination does not keep the rest.
    let source = Staged::right(wrong(Algorithm::Crc32, SIZE));
    let download = Download::new(source, options(4)).expect("right");
    let stats = download
        .read_extents_to(&[0..5, 10..20], Shelf::new(Keeps::Landed))
        .await;
    assert_eq!(stats.expect("a part").verification, Verification::Part);
}

#[tokio::test(start_paused = true)]
async fn placed_an_empty_object_and_one_of_unknown_size_are_verified() {
    for algorithm in [Algorithm::Crc32c, Algorithm::Xxh64] {
        let shelf = Shelf::new(Keeps::Nothing);
        let stats = to(object(algorithm, 0), 4, &shelf).await.expect("right");
        assert_eq!(stats.verification, Verification::Verified(algorithm));
        let error = to(wrong(algorithm, 0), 4, &shelf).await.expect_err("wrong");
        assert_eq!(error.kind(), ErrorKind::Checksum);
        for right in [true, false] {
            let object = if right {
                object(algorithm, SIZE)
            } else {
                wrong(algorithm, SIZE)
            };
            let source = Staged::new(move |_| Play::right(object.clone()).form(Form::WholeUntilEnd));
            let download = Download::new(source, options(4)).expect("right");
            match download.read_to(Shelf::new(Keeps::Nothing)).await {
                Ok(stats) => assert!(right && stats.verification == Verification::Verified(algorithm)),
                Err(error) => assert!(
                    !right && error.kind() == ErrorKind::Checksum,
                    "{}",
                    error.to_line()
                ),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_whom_is_counted() {
    // The source takes 10 s per chunk, so the consumer waits.
    let source = Staged::new(|_| Play::right(Object::new(1, SIZE)).delayed(Duration::from_secs(10)));
    let (_, result, stats) = read(&source, options(4)).await;
    result.expect("it is read");
    assert!(stats.consumer_wait >= Duration::from_secs(30), "{stats:?}");
    assert_eq!(stats.window_full, Duration::ZERO, "{stats:?}");
    // The consumer takes 10 s per lease, so the window of ranges, or of one stream, is full.
    for concurrency in [1, 4] {
        let mut narrow = options(concurrency);
        narrow.window = Some(2);
        let download = Download::new(Staged::right(Object::new(1, SIZE)), narrow).expect("right");
        let mut reader = download.reader();
        while reader.next().await.expect("it is read").is_some() {
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        let stats = reader.stats();
        assert!(stats.window_full >= Duration::from_secs(50), "{stats:?}");
        assert!(stats.consumer_wait < Duration::from_secs(1), "{stats:?}");
    }
}

/// Several buffers cannot be checked together, so a read into them is not verified, even if they
/// cover the whole object. `require` must fail before any request, even if no byte is to be
/// read.
#[tokio::test(start_paused = true)]
#[allow(
    clippy::single_range_in_vec_init,
    reason = "one range is what is wanted, in a list"
)]
async fn ranges_are_refused_when_verification_is_required() {
    for ranges in [
        vec![0..SIZE],
        vec![0..CHUNK, CHUNK..SIZE],
        vec![5..9],
        vec![],
        vec![0..0],
        vec![5..5, SIZE..SIZE],
    ] {
        let mut required = options(4);
        required.verify = Verify::Require;
        let source = Staged::right(object(Algorithm::Crc32c, SIZE));
        let download = Download::new(Arc::clone(&source) as _, required).expect("right");
        let buffer =
            |range: std::ops::Range<u64>| (range.clone(), vec![0_u8; index(range.end - range.start)]);
        let buffers = ranges.iter().cloned().map(buffer).collect();
        let error = download.read_ranges(buffers).expect_err("required");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{ranges:?}");
        assert!(error.to_line().contains("verify=require"), "{error}");
        let mut memory = ranges.into_iter().map(buffer).collect::<Vec<_>>();
        let runtime = tokio::runtime::Handle::current();
        let blocking = std::thread::scope(|scope| {
            let call = scope.spawn(|| {
                let mut list = memory
                    .iter_mut()
                    .map(|(range, buffer)| (range.clone(), &mut buffer[..]))
                    .collect::<Vec<_>>();
                download.read_ranges_on(&runtime, &mut list, |_, _| panic!("refused"))
            });
            call.join().expect("no panic")
        });
        let error = blocking.expect_err("required");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(source.calls().is_empty());
    }
}
