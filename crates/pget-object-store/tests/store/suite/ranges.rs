//! Several ranges of one object.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "a list of one range is what is meant"
)]

use std::{ops::Range, sync::atomic::Ordering};

use pget_testkit::content::Pattern;

use super::super::pget::{
    PgetStore,
    object_store::{Error, GetRange, ObjectStore, ObjectStoreExt as _, memory::InMemory, path::Path},
};
use super::{made::Made, wrapped};

const MIB: u64 = 1 << 20;

fn path() -> Path {
    Path::from("object")
}

fn large(made: Made) -> PgetStore<Made> {
    let store = PgetStore::new(made);
    store.with_options(pget_testkit::options(MIB, 4)).expect("usable")
}

async fn check(store: &impl ObjectStore, size: u64, ranges: &[Range<u64>]) {
    let read = store.get_ranges(&path(), ranges).await.expect("there");
    assert_eq!(read.len(), ranges.len());
    for (range, bytes) in ranges.iter().zip(&read) {
        assert_eq!(bytes.len() as u64, range.end.min(size) - range.start, "{range:?}");
        assert_eq!(Pattern::new(1).check(range.start, bytes), Ok(()), "{range:?}");
    }
}

#[tokio::test]
async fn ranges_come_in_the_callers_order() {
    let size = 64 * MIB + 5;
    let store = large(Made::new(size));
    for ranges in [
        // Out of order, overlapping, the same, touching, across the end.
        vec![40 * MIB..44 * MIB, 0..10],
        vec![5..4 * MIB, 5..4 * MIB, 6..7],
        vec![3 * MIB..9 * MIB, MIB..5 * MIB, 9 * MIB..9 * MIB + 1],
        vec![size - 1..size + 100 * MIB, 60 * MIB..size, 0..3 * MIB],
    ] {
        check(&store, size, &ranges).await;
    }
    assert_eq!(store.inner().lists_asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_large_range_is_split() {
    let store = large(Made::new(64 * MIB));
    check(&store, 64 * MIB, &[8 * MIB..16 * MIB]).await;
    let mut asked: Vec<_> = store.inner().ranges().into_iter().flatten().collect();
    asked.sort_by_key(|range| match range {
        GetRange::Bounded(range) => range.start,
        _ => u64::MAX,
    });
    let expected: Vec<_> = (8..16)
        .map(|at| GetRange::Bounded(at * MIB..(at + 1) * MIB))
        .collect();
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn small_ranges_go_to_the_store_together() {
    let store = large(Made::new(64 * MIB));
    let ranges: Vec<_> = (0..500).map(|at| at * 100_000..at * 100_000 + 10).collect();
    check(&store, 64 * MIB, &ranges).await;
    check(&store, 64 * MIB, &[]).await;
    assert_eq!(store.inner().lists_asked.load(Ordering::SeqCst), 2);
}

/// As the column chunks of a Parquet file.
#[tokio::test]
async fn small_ranges_that_lie_together_are_large() {
    let store = large(Made::new(64 * MIB));
    let ranges: Vec<_> = (0..8)
        .map(|at| at * 2 * MIB + 9..(at * 2 + 1) * MIB + 20)
        .collect();
    check(&store, 64 * MIB, &ranges).await;
    assert_eq!(store.inner().lists_asked.load(Ordering::SeqCst), 0);
    let asked = store.inner().requests();
    assert!(asked >= 14, "{asked} requests for 15 MiB");
}

#[tokio::test]
async fn a_known_object_needs_no_first_request() {
    let store = large(Made::new(64 * MIB));
    let ranges = [0..2 * MIB, 10 * MIB..13 * MIB];
    store.head(&path()).await.expect("there");
    check(&store, 64 * MIB, &ranges).await;
    check(&store, 64 * MIB, &ranges).await;
    let asked = store.inner().asked.lock().expect("no panic");
    // All ranges are asked for under the condition that the revision is the known one.
    assert!(
        asked[0].head && asked[1..].iter().all(|options| options.if_match.is_some()),
        "{asked:?}"
    );
    assert_eq!(asked.len(), 1 + 2 * 5);
}

#[tokio::test]
async fn a_known_object_that_was_replaced_is_read_again() {
    for checks in [true, false] {
        let mut made = Made::new(64 * MIB);
        made.checks = checks;
        let store = large(made);
        check(&store, 64 * MIB, &[0..3 * MIB]).await;
        store.inner().seed.store(2, Ordering::SeqCst);
        let ranges = [5 * MIB..9 * MIB, 20 * MIB..21 * MIB];
        let read = store.get_ranges(&path(), &ranges).await.expect("there");
        for (range, bytes) in ranges.iter().zip(&read) {
            assert_eq!(bytes.len() as u64, range.end - range.start);
            assert_eq!(Pattern::new(2).check(range.start, bytes), Ok(()), "{range:?}");
        }
    }
}

#[tokio::test]
async fn an_object_without_identity_goes_to_the_store() {
    let mut made = Made::new(64 * MIB);
    made.has_etag = false;
    let store = large(made);
    check(&store, 64 * MIB, &[0..9 * MIB, 3..4]).await;
    assert_eq!(store.inner().lists_asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn ranges_are_of_one_revision_or_an_error() {
    let mut made = Made::new(64 * MIB);
    (made.checks, made.changes_after) = (false, 5);
    let store = large(made);
    let error = store
        .get_ranges(&path(), &[0..32 * MIB, 40 * MIB..41 * MIB])
        .await;
    let error = error.expect_err("it is replaced");
    assert!(matches!(error, Error::Precondition { .. }), "{error:?}");
}

#[tokio::test]
async fn a_dropped_call_ends_its_requests() {
    let mut made = Made::new(1 << 30);
    made.pause = std::time::Duration::from_millis(1);
    let store = large(made);
    let ranges = [0..512 * MIB];
    let path = path();
    let read = store.get_ranges(&path, &ranges);
    let short = std::time::Duration::from_millis(100);
    assert!(tokio::time::timeout(short, read).await.is_err());
    let ends = async {
        while store.inner().open.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(short).await;
        }
    };
    let soon = std::time::Duration::from_secs(60);
    tokio::time::timeout(soon, ends)
        .await
        .expect("all bodies are dropped");
}

#[tokio::test]
async fn odd_ranges_mean_what_they_mean_to_the_store() {
    let bare = InMemory::new();
    bare.put(&path(), vec![7; 100].into()).await.expect("stored");
    let store = wrapped(bare.clone());
    #[allow(clippy::reversed_empty_ranges, reason = "what a caller may pass")]
    let odd = [
        vec![0..50, 100..101],
        vec![200..300],
        vec![0..50, 20..20],
        vec![30..20],
        vec![0..50, 90..u64::MAX],
        vec![0..0],
        vec![],
    ];
    for ranges in odd {
        let (of_bare, of_ours) = (
            bare.get_ranges(&path(), &ranges).await,
            store.get_ranges(&path(), &ranges).await,
        );
        assert_eq!(format!("{of_bare:?}"), format!("{of_ours:?}"), "{ranges:?}");
    }
}
