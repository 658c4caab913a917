//! An AIStore bucket as a store, at the stand-in.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use pget_aistore::{Bucket, Config};
use pget_http::{Client, ClientOptions};
use pget_testkit::{
    aistore::{BucketOptions, Cluster, ClusterOptions, Object},
    content::Pattern,
};

use super::super::pget::{
    AistoreStore,
    object_store::{Error, GetOptions, ObjectStore as _, ObjectStoreExt as _, PutMode, path::Path},
};

const MIB: u64 = 1 << 20;

pub(super) async fn cluster() -> Cluster {
    let cluster = Cluster::start(ClusterOptions::default()).await;
    cluster.create_bucket("bucket", BucketOptions::default());
    cluster
}

fn store(cluster: &Cluster) -> AistoreStore {
    store_at(cluster.endpoint(), "bucket")
}

/// The bucket of this name of the cluster at `endpoint`.
pub(super) fn store_at(endpoint: String, bucket: &str) -> AistoreStore {
    let endpoint = BTreeMap::from([("ais.endpoint".to_owned(), endpoint)]);
    let config = Config::new(|_| None, &endpoint).expect("usable");
    let client = Client::new(&ClientOptions::default()).expect("usable");
    let bucket = Bucket {
        name: bucket.into(),
        namespace: None,
        provider: "ais".into(),
    };
    AistoreStore::new(client, config, bucket)
}

/// AIStore keeps times in whole seconds and has no condition, so the conditions are checked here.
#[tokio::test]
async fn conditions_are_checked_by_the_client() {
    let cluster = cluster().await;
    let (store, path) = (store(&cluster), Path::from("a/b"));
    let put = store.put(&path, vec![1; 100].into()).await.expect("stored");
    let meta = store.head(&path).await.expect("there");
    assert_eq!((meta.size, &meta.e_tag), (100, &put.e_tag));
    let listed: Vec<_> = store.list(None).try_collect().await.expect("listed");
    assert_eq!((&listed[0].e_tag, listed[0].size), (&put.e_tag, 100));
    for (options, is_met) in [
        (GetOptions::new().with_if_match(put.e_tag.clone()), true),
        (GetOptions::new().with_if_match(Some("\"other\"")), false),
        (GetOptions::new().with_if_none_match(put.e_tag.clone()), false),
        (
            GetOptions::new().with_if_modified_since(Some(meta.last_modified)),
            false,
        ),
        (
            GetOptions::new().with_if_unmodified_since(Some(meta.last_modified)),
            true,
        ),
    ] {
        let asked = format!("{options:?}");
        assert_eq!(store.get_opts(&path, options).await.is_ok(), is_met, "{asked}");
    }
    let create = store.put_opts(&path, "x".into(), PutMode::Create.into()).await;
    assert!(matches!(create, Err(Error::NotImplemented { .. })), "{create:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_objects_are_read_in_parallel_from_their_target() {
    let cluster = cluster().await;
    cluster.put("bucket", "large", Object::pattern(7, 32 * MIB));
    let options = pget_testkit::options(MIB, 8);
    let store = store(&cluster).with_options(options).expect("usable");
    let path = Path::from("large");
    let bytes = store
        .get(&path)
        .await
        .expect("there")
        .bytes()
        .await
        .expect("right");
    assert_eq!(
        (bytes.len() as u64, Pattern::new(7).check(0, &bytes)),
        (32 * MIB, Ok(()))
    );
    let before = cluster.counts().ranges;
    assert!(before >= 32, "{before} ranges");
    let ranges = [20 * MIB..24 * MIB, 3..4, 23 * MIB..99 * MIB];
    let read = store.get_ranges(&path, &ranges).await.expect("there");
    for (range, bytes) in ranges.iter().zip(&read) {
        assert_eq!(bytes.len() as u64, range.end.min(32 * MIB) - range.start);
        assert_eq!(Pattern::new(7).check(range.start, bytes), Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_object_is_an_error() {
    let cluster = cluster().await;
    cluster.put("bucket", "large", Object::pattern(7, 8 * MIB));
    let options = pget_testkit::options(MIB, 2);
    let store = store(&cluster).with_options(options).expect("usable");
    let result = store.get(&Path::from("large")).await.expect("there");
    // Version 1 again, and of the same size.
    cluster.delete("bucket", "large");
    cluster.put("bucket", "large", Object::pattern(8, 8 * MIB));
    let error = result.bytes().await.expect_err("it is replaced");
    assert!(matches!(error, Error::Precondition { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_object_that_was_replaced_is_read_again() {
    let cluster = cluster().await;
    cluster.put("bucket", "large", Object::pattern(7, 8 * MIB));
    let (store, path) = (store(&cluster), Path::from("large"));
    let ranges = [5..4 * MIB, 6 * MIB..8 * MIB];
    let read = async |seed| {
        let small = store.get_range(&path, 9..99).await.expect("there");
        assert_eq!(Pattern::new(seed).check(9, &small), Ok(()));
        let read = store.get_ranges(&path, &ranges).await.expect("there");
        for (range, bytes) in ranges.iter().zip(&read) {
            assert_eq!(Pattern::new(seed).check(range.start, bytes), Ok(()));
        }
    };
    let heads = || {
        let requests = cluster.counts().requests;
        let heads = requests.iter().filter(|((_, method), _)| method == "HEAD");
        heads.map(|(_, count)| count).sum::<u64>()
    };
    read(7).await;
    let first = heads();
    read(7).await;
    assert_eq!(heads(), first, "the object is known");
    // Version 1 again, and of the same size.
    cluster.delete("bucket", "large");
    cluster.put("bucket", "large", Object::pattern(8, 8 * MIB));
    read(8).await;
    assert!(heads() > first);
    cluster.put("bucket", "large", Object::pattern(9, 10));
    let last = store.get_opts(&path, GetOptions::new().with_range(Some(5..99)));
    let last = last.await.expect("there");
    assert_eq!((last.meta.size, last.range.clone()), (10, 5..10));
    let bytes = last.bytes().await.expect("there");
    assert_eq!(Pattern::new(9).check(5, &bytes), Ok(()));
    cluster.put("bucket", "large", Object::pattern(10, 8 * MIB));
    read(10).await;
    cluster.put("bucket", "large", Object::pattern(9, 10));
    let beyond = store.get_range(&path, 50..99).await;
    let text = beyond.expect_err("the object is shorter").to_string();
    assert!(text.contains("10"), "{text}");
    cluster.delete("bucket", "large");
    let gone = store.get_range(&path, 5..9).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_has_pages() {
    let cluster = cluster().await;
    let count = 10_003;
    for number in 0..count {
        cluster.put("bucket", &format!("folder/{number:06}"), Object::bytes(vec![1]));
    }
    cluster.put("bucket", "folders/other", Object::bytes(vec![1]));
    let listed: Vec<_> = store(&cluster)
        .list(Some(&Path::from("folder")))
        .map_ok(|meta| meta.location.to_string())
        .try_collect()
        .await
        .expect("listed");
    let expected: Vec<_> = (0..count).map(|number| format!("folder/{number:06}")).collect();
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn a_missing_bucket_is_not_found() {
    let cluster = Cluster::start(ClusterOptions::default()).await;
    let store = store(&cluster);
    let listed: Result<Vec<_>, _> = store.list(None).try_collect().await;
    assert!(matches!(listed, Err(Error::NotFound { .. })), "{listed:?}");
    let put = store.put(&Path::from("a"), "b".into()).await;
    assert!(matches!(put, Err(Error::NotFound { .. })), "{put:?}");
}
