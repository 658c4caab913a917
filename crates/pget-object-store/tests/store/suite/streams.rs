//! A read as a stream: right bytes in order, nothing before the first poll, nothing after a drop,
//! on any runtime.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::StreamExt as _;
use pget_testkit::content::Pattern;
use tokio::{runtime::Builder, time::timeout};

use super::super::pget::{
    PgetStore,
    object_store::{GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt as _, path::Path},
};
use super::made::Made;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(60);

fn large(made: Made) -> PgetStore<Made> {
    let store = PgetStore::new(made).with_threshold(0);
    store.with_options(pget_testkit::options(MIB, 4)).expect("usable")
}

fn path() -> Path {
    Path::from("folder/object")
}

async fn read(result: GetResult) -> Vec<u8> {
    let (start, mut bytes) = (result.range.start, Vec::new());
    let mut stream = result.into_stream();
    while let Some(piece) = timeout(SOON, stream.next()).await.expect("no hang") {
        let piece = piece.expect("right");
        let at = start + bytes.len() as u64;
        assert_eq!(Pattern::new(1).check(at, &piece), Ok(()));
        bytes.extend_from_slice(&piece);
    }
    bytes
}

#[tokio::test]
async fn each_kind_of_range_brings_its_bytes() {
    let size = 5 * MIB + 3;
    let store = large(Made::new(size));
    for (range, expected) in [
        (None, 0..size),
        (Some(GetRange::Offset(MIB + 1)), MIB + 1..size),
        (Some(GetRange::Bounded(7..4 * MIB)), 7..4 * MIB),
        (Some(GetRange::Bounded(7..100 * MIB)), 7..size),
        (Some(GetRange::Suffix(3 * MIB)), size - 3 * MIB..size),
        (Some(GetRange::Suffix(100 * MIB)), 0..size),
        (Some(GetRange::Bounded(7..8)), 7..8),
    ] {
        let options = GetOptions {
            range: range.clone(),
            ..GetOptions::default()
        };
        let result = store.get_opts(&path(), options).await.expect("there");
        assert_eq!(result.range, expected, "{range:?}");
        assert_eq!(result.meta.size, size);
        let bytes = read(result).await;
        assert_eq!(bytes.len() as u64, expected.end - expected.start, "{range:?}");
    }
    assert_eq!(store.to_string(), "PgetStore(Made)");
}

#[tokio::test]
async fn the_first_request_is_the_callers_and_the_others_name_the_revision() {
    let store = large(Made::new(8 * MIB));
    let options = GetOptions {
        if_none_match: Some("\"other\"".into()),
        ..GetOptions::default()
    };
    read(store.get_opts(&path(), options).await.expect("there")).await;
    let asked = store.inner().asked.lock().expect("no panic");
    let (first, later) = asked.split_first().expect("a request");
    assert_eq!(first.range, Some(GetRange::Bounded(0..MIB)));
    assert_eq!(
        (first.if_none_match.as_deref(), first.if_match.as_deref()),
        (Some("\"other\""), None)
    );
    assert_eq!(later.len(), 7);
    for request in later {
        assert_eq!(
            (request.if_none_match.as_deref(), request.if_match.as_deref()),
            (None, Some("\"1\""))
        );
    }
}

#[tokio::test]
async fn an_object_without_identity_is_passed_on() {
    for weak in [false, true] {
        let mut made = Made::new(8 * MIB);
        made.has_etag = weak;
        made.is_weak = weak;
        let store = large(made);
        read(store.get(&path()).await.expect("there")).await;
        let ranges = store.inner().ranges();
        assert_eq!(ranges, [Some(GetRange::Bounded(0..MIB)), None], "{weak}");
    }
}

#[tokio::test]
async fn a_version_alone_is_an_identity() {
    let mut made = Made::new(8 * MIB);
    (made.has_etag, made.has_version) = (false, true);
    let store = large(made);
    read(store.get(&path()).await.expect("there")).await;
    let asked = store.inner().asked.lock().expect("no panic");
    assert!(
        asked[1..]
            .iter()
            .all(|request| request.version.as_deref() == Some("1"))
    );
    assert_eq!(asked.len(), 8);
}

#[tokio::test]
async fn small_ranges_and_heads_are_passed_on() {
    let store = PgetStore::new(Made::new(64 * MIB));
    let options = |range: Option<GetRange>, head| GetOptions {
        range,
        head,
        ..GetOptions::default()
    };
    for asked in [
        options(Some(GetRange::Bounded(5..MIB)), false),
        options(Some(GetRange::Suffix(MIB)), false),
        options(None, true),
    ] {
        let before = store.inner().requests();
        let result = store.get_opts(&path(), asked.clone()).await.expect("there");
        result.bytes().await.expect("right");
        let requests = store.inner().asked.lock().expect("no panic");
        assert_eq!(requests.len(), before + 1);
        assert_eq!(requests[before].range, asked.range);
        assert_eq!(requests[before].head, asked.head);
    }
}

#[tokio::test]
async fn nothing_is_asked_for_before_the_first_poll() {
    let store = large(Made::new(64 * MIB));
    let result = store.get(&path()).await.expect("there");
    // What must not happen has no signal: a prefetch would have begun by then.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(store.inner().requests(), 1);
    assert_eq!(store.inner().taken.load(Ordering::SeqCst), 0);
    drop(result);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(store.inner().requests(), 1);
    assert_eq!(store.inner().open.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_stream_ends_its_requests() {
    let mut made = Made::new(1 << 30);
    made.pause = Duration::from_millis(1);
    let store = large(made);
    for pieces in [1, 3, 200] {
        let mut stream = store.get(&path()).await.expect("there").into_stream();
        for _ in 0..pieces {
            stream.next().await.expect("more").expect("right");
        }
        drop(stream);
        let ends = async {
            while store.inner().open.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, ends).await.expect("all bodies are dropped");
    }
    let asked = store.inner().requests();
    // A request that comes after the end would have come by then.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(store.inner().requests(), asked);
}

#[test]
fn a_stream_goes_on_when_its_first_runtime_is_gone() {
    let mut made = Made::new(8 * MIB);
    made.pause = Duration::from_millis(1);
    let store = large(made);
    let (mut bytes, mut stream) = {
        let first = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        first.block_on(async {
            let mut stream = store.get(&path()).await.expect("there").into_stream();
            let bytes = stream.next().await.expect("more").expect("right").to_vec();
            (bytes, stream)
        })
    };
    let second = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    second.block_on(async {
        while let Some(piece) = timeout(SOON, stream.next()).await.expect("no hang") {
            bytes.extend_from_slice(&piece.expect("right"));
        }
    });
    assert_eq!(bytes.len() as u64, 8 * MIB);
    assert_eq!(Pattern::new(1).check(0, &bytes), Ok(()));
}

/// Waits for `future` on this thread, which has no runtime.
fn without_runtime<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park_timeout(SOON);
    }
}

#[test]
fn a_runtime_without_timers_or_none_will_do() {
    let store = Arc::new(large(Made::new(8 * MIB)));
    let all = async || {
        let bytes = store
            .get(&path())
            .await
            .expect("there")
            .bytes()
            .await
            .expect("right");
        assert_eq!(Pattern::new(1).check(0, &bytes), Ok(()));
        let ranges = [0..3 * MIB, 5 * MIB..6 * MIB];
        let read = store.get_ranges(&path(), &ranges).await.expect("there");
        assert_eq!(Pattern::new(1).check(5 * MIB, &read[1]), Ok(()));
        bytes.len() as u64
    };
    let bare = Builder::new_current_thread().build().expect("a runtime");
    assert_eq!(bare.block_on(all()), 8 * MIB);
    assert_eq!(without_runtime(all()), 8 * MIB);
}

#[tokio::test]
async fn a_runtime_that_is_set_does_everything() {
    let other = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("set")
        .enable_all()
        .build()
        .expect("a runtime");
    let made = Made::new(8 * MIB);
    let threads = Arc::clone(&made.threads);
    let store = large(made).with_runtime(other.handle().clone());
    let result = store.get(&path()).await.expect("there");
    threads.lock().expect("no panic").clear();
    read(result).await;
    let threads = threads.lock().expect("no panic").clone();
    assert!(
        !threads.is_empty() && threads.iter().all(|name| name == "set"),
        "{threads:?}"
    );
    other.shutdown_background();
}

#[tokio::test]
async fn a_store_that_panics_is_an_error() {
    let store = large(Made::new(8 * MIB));
    let result = store.get(&path()).await.expect("there");
    store.inner().panics.store(true, Ordering::SeqCst);
    let error = result.bytes().await.expect_err("it panics");
    assert!(error.to_string().contains("the store panicked"), "{error}");
}
