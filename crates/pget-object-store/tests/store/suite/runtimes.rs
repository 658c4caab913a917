//! A runtime that the caller has set and that shuts down: reads fail, and none waits without end.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "a list of one range is what is meant"
)]

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::StreamExt as _;
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use super::super::pget::{
    PgetStore,
    object_store::{ObjectStore as _, ObjectStoreExt as _, path::Path},
};
use super::made::Made;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(60);

fn large(made: Made) -> PgetStore<Made> {
    let store = PgetStore::new(made);
    store.with_options(pget_testkit::options(MIB, 4)).expect("usable")
}

fn path() -> Path {
    Path::from("object")
}

fn one_thread(name: &str) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(name)
        .enable_all()
        .build()
        .expect("a runtime")
}

#[tokio::test]
async fn a_runtime_that_has_shut_down_is_an_error() {
    let other = one_thread("gone");
    let store = large(Made::new(10 * MIB)).with_runtime(other.handle().clone());
    let result = store.get(&path()).await.expect("there");
    other.shutdown_background();
    let late = timeout(SOON, result.bytes()).await.expect("no hang");
    late.expect_err("the stream cannot be driven");
    // The object is known, so all requests are those of the download.
    let ranges = [0..4 * MIB];
    let late = timeout(SOON, store.get_ranges(&path(), &ranges)).await;
    late.expect("no hang").expect_err("nothing can be sent");
}

#[tokio::test]
async fn a_runtime_that_shuts_down_during_a_read_is_an_error() {
    let other = one_thread("going");
    let mut made = Made::new(64 * MIB);
    made.pause = Duration::from_millis(1);
    let open = Arc::clone(&made.open);
    let store = large(made).with_runtime(other.handle().clone());
    let mut stream = store.get(&path()).await.expect("there").into_stream();
    stream.next().await.expect("more").expect("right");
    other.shutdown_background();
    let ends = async {
        while let Some(piece) = stream.next().await {
            if piece.is_err() {
                return;
            }
        }
        panic!("the stream ended as if it were complete");
    };
    timeout(SOON, ends).await.expect("no hang");
    let closed = async {
        // The runtime drops the bodies on a thread of its own, and nothing reports that.
        while open.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, closed).await.expect("all bodies are dropped");
}
