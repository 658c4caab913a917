//! Identity: a real change under a reader must end the read, and an apparent one must not.

mod support;

use std::sync::Arc;

use pget_core::{ErrorKind, Options, RangeSource};
use pget_testkit::{
    aistore::{BucketOptions, ClusterOptions, Fault, Rule},
    content::Pattern,
};
use support::{BUCKET, Place, cluster, expect_content, expect_error, options, pattern, standin, within};

const SIZE: u64 = 3_000_000;
const OF_RANGES: (&str, &str) = (
    "pget-test-ranges",
    r#"{"type":"xxhash2","enable_read_range":true}"#,
);
const NONE: (&str, &str) = ("pget-test-none", r#"{"type":"none"}"#);

/// Returns options that read two of thirty chunks at a time. Most are requested after the first
/// bytes were delivered.
fn narrow() -> Options {
    let mut narrow = options(100_000, 2);
    narrow.window = Some(2);
    narrow
}

/// Reads the first bytes, makes `change` happen, and checks the end of the rest.
async fn changed_mid_read(source: &Arc<dyn RangeSource>, change: impl Future<Output = ()>) {
    let mut reader = support::reader(source, narrow());
    let first = support::first_of(&mut reader).await;
    within(change).await;
    let mut bytes = first.to_vec();
    drop(first);
    let error = within(async {
        loop {
            match reader.next().await {
                Ok(Some(lease)) => bytes.extend_from_slice(&lease),
                Ok(None) => panic!("all {} bytes were read, of two revisions", bytes.len()),
                Err(error) => return error,
            }
        }
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::ObjectChanged, "{error}");
    assert_eq!(
        Pattern::new(1).check(0, &bytes),
        Ok(()),
        "only bytes of the first revision were handed out"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn overwrite_mid_read_is_object_changed() {
    let place = cluster().await;
    for (bucket, checksum) in [
        (BUCKET, None),
        (OF_RANGES.0, Some(OF_RANGES.1)),
        (NONE.0, Some(NONE.1)),
    ] {
        let name = support::unique("overwritten");
        place
            .put_in(bucket, checksum, &name, &support::bytes(1, SIZE))
            .await;
        let source = place.open(&format!("ais://{bucket}/{name}"), &[]);
        changed_mid_read(
            &source,
            place.put_in(bucket, checksum, &name, &support::bytes(2, SIZE)),
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_mid_read_is_object_changed() {
    let place = cluster().await;
    let name = support::unique("deleted");
    place.put(&name, &support::bytes(1, SIZE)).await;
    changed_mid_read(&place.object(&name), place.delete(BUCKET, &name)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shrinking_mid_read_is_object_changed() {
    let place = cluster().await;
    let name = support::unique("shrunk");
    place.put(&name, &support::bytes(1, SIZE)).await;
    changed_mid_read(
        &place.object(&name),
        place.put(&name, &support::bytes(2, 250_000)),
    )
    .await;
}

/// Version and size stay the same, so only the checksum reveals the change. If the checksum is that
/// of the range, it fits the bytes, and only HEAD reveals the change.
#[tokio::test(flavor = "multi_thread")]
async fn version_restarts_at_1_after_delete_and_put() {
    let place = cluster().await;
    for (bucket, checksum) in [(BUCKET, None), (OF_RANGES.0, Some(OF_RANGES.1))] {
        let name = support::unique("again");
        place
            .put_in(bucket, checksum, &name, &support::bytes(1, SIZE))
            .await;
        let source = place.open(&format!("ais://{bucket}/{name}"), &[]);
        let before = within(source.head()).await.expect("it is there").revision.version;
        changed_mid_read(&source, async {
            place.delete(bucket, &name).await;
            place
                .put_in(bucket, checksum, &name, &support::bytes(2, SIZE))
                .await;
        })
        .await;
        let after = within(source.head()).await.expect("it is there").revision.version;
        assert_eq!(
            (before.as_deref(), after.as_deref()),
            (Some("1"), Some("1")),
            "{bucket}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checksum_of_a_range_is_not_a_change() {
    let place = cluster().await;
    for (number, kind) in ["xxhash", "xxhash2", "crc32c", "md5", "sha256", "sha512"]
        .into_iter()
        .enumerate()
    {
        let checksum = format!(r#"{{"type":"{kind}","enable_read_range":true}}"#);
        let (bucket, name) = (format!("pget-test-ranges-{kind}"), support::unique("o"));
        let seed = number as u64;
        place
            .put_in(&bucket, Some(&checksum), &name, &support::bytes(seed, SIZE))
            .await;
        let source = place.open(&format!("ais://{bucket}/{name}"), &[]);
        expect_content(&source, Pattern::new(seed), SIZE).await;
        // Read as a single stream and as a single range.
        for concurrency in [1, 2] {
            let bytes = support::read(&source, options(SIZE, concurrency))
                .await
                .expect("it can be read");
            assert_eq!(Pattern::new(seed).check(0, &bytes), Ok(()), "{kind}");
            assert_eq!(bytes.len() as u64, SIZE, "{kind}");
        }
    }
}

async fn of_ranges(size: u64) -> Place {
    let place = standin(ClusterOptions::default()).await;
    place
        .fake()
        .create_bucket(BUCKET, BucketOptions::default().read_range_checksum());
    place.fake().put(BUCKET, "o", pattern(1, size));
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn checksum_of_a_range_finds_wrong_bytes() {
    let place = of_ranges(SIZE).await;
    let flip = || Rule::new(Fault::Flip { offset: 1_234_567 });
    place.fake().inject(flip());
    expect_content(&place.object("o"), Pattern::new(1), SIZE).await;
    assert_eq!(place.counts().fault("flip"), 1);
    place.fake().inject(flip().times(u64::MAX));
    let error = expect_error(&place.object("o"), ErrorKind::Checksum).await;
    // A checksum that is wrong each time is a definite answer, so the reader does not wait for
    // long.
    assert_eq!(error.attempts(), 3, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_checksums_of_ranges_resumes() {
    let place = of_ranges(SIZE).await;
    place
        .fake()
        .inject(Rule::new(Fault::Reset { after: 1_000_000 }).times(3));
    let bytes = support::read(&place.object("o"), options(100_000, 1))
        .await
        .expect("it goes on");
    assert_eq!(Pattern::new(1).check(0, &bytes), Ok(()));
    assert_eq!(bytes.len() as u64, SIZE);
    assert!(place.counts().fault("reset") > 0);
    let resumed = place
        .exchanges()
        .1
        .iter()
        .filter(|exchange| exchange.header("range").is_some())
        .count();
    assert!(
        resumed > 0,
        "it went on with ranges, whose checksums are their own"
    );
}

/// A request from the middle to the end states the checksum of that half.
#[tokio::test(flavor = "multi_thread")]
async fn the_checksum_of_the_end_is_not_taken_for_the_objects() {
    const HALF: u64 = SIZE / 2;
    let place = of_ranges(SIZE).await;
    let source = place.object("o");
    let mut tail = options(HALF, 1);
    tail.offset = HALF;
    place.fake().inject(Rule::new(Fault::Reset { after: 1_000_000 }));
    let mut reader = support::reader(&source, tail);
    let bytes = within(support::rest_of(&mut reader)).await.expect("it goes on");
    assert_eq!(Pattern::new(1).check(HALF, &bytes), Ok(()));
    assert_eq!(bytes.len() as u64, HALF);
    assert_eq!(place.counts().fault("reset"), 1);
    // The range that reached the end has shown facts that are true of the whole object.
    let mut all = options(100_000, 4);
    all.pin = Some(within(reader.info()).await.expect("it was read"));
    let bytes = support::read(&source, all).await.expect("it is the same object");
    assert_eq!(Pattern::new(1).check(0, &bytes), Ok(()));
    assert_eq!(bytes.len() as u64, SIZE);
}

/// Each range has a checksum of its own, so each needs a HEAD. That costs no connection.
#[tokio::test(flavor = "multi_thread")]
async fn asking_whether_it_is_the_same_costs_no_connection() {
    let place = of_ranges(SIZE).await;
    let read = support::read(&place.object("o"), options(100_000, 2)).await;
    assert_eq!(Pattern::new(1).check(0, &read.expect("it can be read")), Ok(()));
    let counts = place.counts();
    let (asked, opened) = (
        counts.at_targets("HEAD"),
        counts.connections.values().sum::<u64>(),
    );
    // Two ranges at a time need connections for themselves, for their HEADs, and at the proxy.
    // Their number does not depend on the thirty ranges.
    assert!(
        asked >= 28 && opened * 2 < asked,
        "{opened} connections for {asked} questions"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_while_the_reading_begins_gives_one_of_the_two() {
    for place in [standin(ClusterOptions::default()).await, of_ranges(SIZE).await] {
        place.fake().put(BUCKET, "o", pattern(1, SIZE));
        // The first range is of the old revision. The HEAD that follows it is of the new one.
        for seed in [2, 3, 4] {
            let replace = Fault::Replace(pattern(seed, SIZE));
            place
                .fake()
                .inject(Rule::new(replace).at_targets().method("HEAD"));
        }
        let bytes = support::read(&place.object("o"), options(100_000, 4))
            .await
            .expect("in the end it stays");
        let seed = place.counts().fault("replace") + 1;
        assert!(seed > 1, "it was replaced");
        assert_eq!(Pattern::new(seed).check(0, &bytes), Ok(()));
        assert_eq!(bytes.len() as u64, SIZE);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_head_permission_an_object_can_be_read() {
    let place = standin(ClusterOptions::default()).await;
    place.fake().put(BUCKET, "o", pattern(1, SIZE));
    place.fake().put(support::aws("b"), "o", pattern(2, SIZE));
    place
        .fake()
        .inject(Rule::new(Fault::Status(403)).method("HEAD").times(u64::MAX));
    expect_content(&place.object("o"), Pattern::new(1), SIZE).await;
    let source = place.open("ais://b/o", &[("ais.provider", "aws")]);
    expect_content(&source, Pattern::new(2), SIZE).await;
    assert!(place.counts().fault("status") >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_head_permission_checksums_of_ranges_are_a_clear_error() {
    let place = of_ranges(SIZE).await;
    place
        .fake()
        .inject(Rule::new(Fault::Status(403)).method("HEAD").times(u64::MAX));
    expect_error(&place.object("o"), ErrorKind::PermissionDenied).await;
}
