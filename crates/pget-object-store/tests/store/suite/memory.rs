//! A hundred streams at once: the budget bounds what is fetched and not yet taken.

use std::sync::atomic::Ordering;

use futures_util::{StreamExt as _, future::join_all};
use pget_core::Budget;

use super::super::pget::{
    PgetStore,
    object_store::{ObjectStoreExt as _, path::Path},
};
use super::made::Made;

const MIB: u64 = 1 << 20;
const STREAMS: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_streams_are_bounded_by_one_budget() {
    let mut options = pget_testkit::options(MIB / 4, 8);
    let budget = Budget::new(16 * MIB, 64);
    options.budget = std::sync::Arc::clone(&budget);
    let store = PgetStore::new(Made::new(8 * MIB))
        .with_options(options)
        .expect("usable");
    let path = Path::from("object");
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(store.get(&path).await.expect("there").into_stream());
    }
    // Each has begun, and then stands: fetched is what the budget lets be fetched.
    let mut consumed = 0;
    for stream in &mut streams {
        consumed += stream.next().await.expect("more").expect("right").len() as u64;
    }
    let mut last = 0;
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let taken = store.inner().taken.load(Ordering::SeqCst);
        if std::mem::replace(&mut last, taken) == taken {
            break;
        }
    }
    // Beyond the budget, each may have the chunk at its cursor.
    let most = budget.limit() + STREAMS * MIB / 4;
    assert!(
        last - consumed <= most,
        "{last} fetched, {consumed} taken, {most} allowed"
    );
    assert!(budget.in_flight() <= 64);
    let read = join_all(streams.into_iter().map(|mut stream| async move {
        let mut bytes = 0;
        while let Some(piece) = stream.next().await {
            bytes += piece.expect("right").len() as u64;
        }
        bytes
    }));
    let all: u64 = read.await.into_iter().sum();
    assert_eq!(all + consumed, STREAMS * 8 * MIB);
    assert_eq!(budget.taken(), 0, "all memory is given back");
}
