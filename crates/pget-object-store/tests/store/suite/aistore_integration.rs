//! object_store's own tests over AIStore: which of them pass, at the stand-in and at a cluster.
//!
//! `AIS_ENDPOINT=http://127.0.0.1:8080 cargo test -p pget-object-store --test store -- --ignored
//! real_cluster` runs them at a real cluster.

use std::{sync::Arc, time::Duration};

use futures_util::TryStreamExt as _;

use super::super::pget::{
    AistoreStore, PgetStore,
    object_store::{
        Error, ObjectStore, ObjectStoreExt as _, integration as test, list::PaginatedListStore,
        multipart::MultipartStore, path::Path,
    },
};
use super::{
    aistore::{cluster, store_at},
    in_large_chunks, wrapped,
};

/// The tests that AIStore's API cannot pass, because it has no conditions of writes and copies.
/// `multipart_with_opts` of object_store 0.14 wants attributes, which an upload cannot have.
const MISSING: [&str; 2] = ["put_opts", "copy_if_not_exists"];

type Store = Arc<dyn ObjectStore>;
type Outcomes = Vec<(&'static str, bool)>;

async fn empty(store: &Store) {
    let listed: Vec<_> = store.list(None).try_collect().await.expect("listed");
    for meta in listed {
        store.delete(&meta.location).await.expect("deleted");
    }
}

/// Runs tests of object_store, each over an empty store, and notes which of them pass.
macro_rules! outcomes {
    ($store:expr, $($name:ident $(($extra:expr))?),+ $(,)?) => {{
        let mut outcomes = Outcomes::new();
        $(
            empty($store).await;
            let store = Arc::clone($store);
            let run = tokio::spawn(async move { test::$name(&store $(, $extra)?).await; });
            let ended = tokio::time::timeout(Duration::from_secs(300), run).await;
            let is_passed = ended.expect("it ends in time").is_ok();
            outcomes.push((stringify!($name), is_passed));
        )+
        outcomes
    }};
}

/// Most tests, for chunks of a few bytes. Most of them store a few bytes, too.
async fn small(store: &Store) -> Outcomes {
    let outcomes = outcomes!(
        store,
        put_get_delete_list,
        put_get_attributes,
        get_opts,
        put_opts(false),
        list_uses_directories_correctly,
        list_with_delimiter,
        rename_and_copy,
        copy_if_not_exists,
        copy_rename_nonexistent_object,
        list_with_offset_exclusivity,
    );
    let missing = test::get_nonexistent_object(store, None).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
    outcomes
}

/// The tests that read tens of megabytes.
async fn large(store: &Store) -> Outcomes {
    outcomes!(
        store,
        stream_get,
        multipart_out_of_order,
        multipart_race_condition(true)
    )
}

/// The tests of the traits below `ObjectStore`.
async fn parts_and_pages<T>(store: T)
where
    T: ObjectStore + MultipartStore + PaginatedListStore + Clone,
{
    let dynamic = Arc::new(store.clone()) as Store;
    empty(&dynamic).await;
    test::multipart(&store, &store).await;
    empty(&dynamic).await;
    test::list_paginated(&store, &store).await;
}

/// Names that servers like to clean, decode or refuse.
async fn odd_names(store: &Store) {
    empty(store).await;
    let names = [
        "..",
        ".",
        "a b",
        "a%20b",
        "%41",
        "ü/日本",
        "a+b&c=d?e#f",
        "..%2f",
        "~",
        "a\\b",
        "'\"<>",
        "a:b@c",
    ];
    let paths: Vec<Path> = names
        .iter()
        .map(|name| Path::from_iter(["odd", name, "x"]))
        .collect();
    for (index, path) in paths.iter().enumerate() {
        store.put(path, vec![1; index].into()).await.expect("stored");
    }
    for (index, path) in paths.iter().enumerate() {
        let bytes = store.get(path).await.expect("there").bytes().await;
        assert_eq!(bytes.expect("read").len(), index, "{path}");
    }
    let listed = store.list(Some(&Path::from("odd"))).map_ok(|meta| meta.location);
    let mut listed: Vec<_> = listed.try_collect().await.expect("listed");
    listed.sort();
    let mut sorted = paths.clone();
    sorted.sort();
    assert_eq!(listed, sorted);
    let folders = store
        .list_with_delimiter(Some(&Path::from("odd")))
        .await
        .expect("listed");
    assert_eq!(folders.common_prefixes.len(), names.len());
    for path in &paths {
        store.delete(path).await.expect("removed");
    }
}

/// Compares which tests pass over the store, alone and in `PgetStore`, with which should.
async fn check(store: impl Fn() -> AistoreStore) {
    let chunks = |size| {
        let options = pget_testkit::options(size, 4);
        store().with_options(options).expect("usable")
    };
    for store in [Arc::new(chunks(7)) as Store, Arc::new(wrapped(store()))] {
        let outcomes = small(&store).await;
        let failed: Vec<_> = outcomes.iter().filter(|(_, passed)| !passed).collect();
        assert_eq!(outcomes.len(), 10);
        assert!(
            failed.iter().map(|(name, _)| *name).eq(MISSING),
            "{store}: {failed:?} failed"
        );
    }
    for store in [
        Arc::new(chunks(200_003)) as Store,
        Arc::new(in_large_chunks(store())),
    ] {
        for (name, is_passed) in large(&store).await {
            assert!(is_passed, "{store}: {name} failed");
        }
    }
    odd_names(&(Arc::new(chunks(7)) as Store)).await;
    parts_and_pages(chunks(200_003)).await;
    let wrapped: PgetStore<AistoreStore> = in_large_chunks(store());
    parts_and_pages(wrapped.clone()).await;
    if let Some(more) = super::super::uploads_of_aistore(wrapped) {
        more.await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stand_in() {
    let cluster = cluster().await;
    check(|| store_at(cluster.endpoint(), "bucket")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real AIStore at AIS_ENDPOINT"]
async fn real_cluster() {
    super::set_cryptography();
    let endpoint = std::env::var("AIS_ENDPOINT").expect("AIS_ENDPOINT=http://127.0.0.1:8080");
    // The suites of two versions of object_store run at the same time.
    let version = if module_path!().contains("v0_13") { 13 } else { 14 };
    let bucket = format!("integration-{}-{version}", std::process::id());
    let ask = async |method, action: &str| {
        let url = format!("{endpoint}/v1/buckets/{bucket}");
        let request = reqwest::Client::new().request(method, url);
        let request = request.header("Content-Type", "application/json");
        let body = format!("{{\"action\":\"{action}\"}}");
        let answer = request.body(body).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{action}: {answer:?}");
    };
    ask(reqwest::Method::POST, "create-bck").await;
    check(|| store_at(endpoint.clone(), &bucket)).await;
    ask(reqwest::Method::DELETE, "destroy-bck").await;
}
