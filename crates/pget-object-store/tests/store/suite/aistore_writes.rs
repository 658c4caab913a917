//! Writes to AIStore: uploads by parts, and failures that pass.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use pget_testkit::{
    aistore::{Cluster, Fault, Object, Rule},
    content::Pattern,
};

use super::super::pget::{
    AistoreStore,
    object_store::{
        Error, ObjectStore as _, ObjectStoreExt as _, PutPayload, list::PaginatedListStore as _,
        multipart::MultipartStore as _, path::Path,
    },
};
use super::aistore::{cluster, store_at};

const PART: usize = 300_000;

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), work)
        .await
        .expect("no hang")
}

/// Fails 20 s after the first failure.
fn store(cluster: &Cluster) -> AistoreStore {
    let mut options = pget_testkit::options(100_003, 4);
    options.retry_timeout = Duration::from_secs(20);
    let store = store_at(cluster.endpoint(), "bucket");
    store.with_options(options).expect("usable")
}

fn part(number: u64) -> PutPayload {
    Pattern::new(7).bytes(number * PART as u64, PART).into()
}

/// PUTs that targets got.
fn puts_at_targets(cluster: &Cluster) -> u64 {
    let requests = cluster.counts().requests;
    let puts = requests
        .iter()
        .filter(|((node, method), _)| *node != pget_testkit::aistore::Node::Proxy && method == "PUT");
    puts.map(|(_, count)| count).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_become_one_object_when_the_upload_is_complete() {
    let cluster = cluster().await;
    let (store, path) = (store(&cluster), Path::from("a/large.parquet"));
    let mut upload = store.put_multipart(&path).await.expect("begun");
    let parts: Vec<_> = (0..5).map(|number| upload.put_part(part(number))).collect();
    let nothing = upload.put_part(PutPayload::default());
    let last = upload.put_part(Pattern::new(7).bytes(5 * PART as u64, 17).into());
    last.await.expect("sent");
    nothing.await.expect("nothing is sent");
    for part in parts.into_iter().rev() {
        part.await.expect("sent");
    }
    let early = store.head(&path).await;
    assert!(matches!(early, Err(Error::NotFound { .. })), "{early:?}");
    let put = upload.complete().await.expect("complete");
    assert_eq!((puts_at_targets(&cluster), cluster.open_uploads()), (6, 0));
    let read = store.get(&path).await.expect("there");
    assert_eq!(read.meta.e_tag, put.e_tag);
    let bytes = read.bytes().await.expect("read");
    assert_eq!(
        (bytes.len(), Pattern::new(7).check(0, &bytes)),
        (5 * PART + 17, Ok(()))
    );
}

#[tokio::test]
async fn an_upload_without_content_is_an_empty_object() {
    let cluster = cluster().await;
    let (store, path) = (store(&cluster), Path::from("empty"));
    let mut upload = store.put_multipart(&path).await.expect("begun");
    upload
        .put_part(PutPayload::default())
        .await
        .expect("nothing is sent");
    upload.complete().await.expect("complete");
    assert_eq!(store.head(&path).await.expect("there").size, 0);
    assert_eq!(cluster.open_uploads(), 0);
}

/// AIStore loses the content of a part that it gets twice, and completes the upload.
#[tokio::test]
async fn a_part_whose_answer_is_missing_is_not_sent_again() {
    let cluster = cluster().await;
    let (store, path) = (store(&cluster), Path::from("large"));
    for fault in [Fault::Hangup, Fault::Status(503)] {
        let before = puts_at_targets(&cluster);
        let mut upload = store.put_multipart(&path).await.expect("begun");
        upload.put_part(part(0)).await.expect("sent");
        cluster.inject(Rule::new(fault).at_targets().method("PUT"));
        within(upload.put_part(part(1))).await.expect_err("no answer");
        assert_eq!(puts_at_targets(&cluster) - before, 2);
        let error = upload.complete().await.expect_err("it has no second part");
        assert!(error.to_string().contains("1 of 2 parts"), "{error}");
        assert_eq!(cluster.open_uploads(), 1);
        upload.abort().await.expect("aborted");
        assert_eq!(cluster.open_uploads(), 0);
        let absent = store.head(&path).await;
        assert!(matches!(absent, Err(Error::NotFound { .. })), "{absent:?}");
    }
}

#[tokio::test]
async fn parts_with_gaps_are_refused() {
    let cluster = cluster().await;
    let (store, path) = (store(&cluster), Path::from("large"));
    let id = store.create_multipart(&path).await.expect("begun");
    let mut parts = Vec::new();
    for (index, payload) in [part(0), PutPayload::default(), part(2)].into_iter().enumerate() {
        parts.push(store.put_part(&path, &id, index, payload).await.expect("sent"));
    }
    let error = store
        .complete_multipart(&path, &id, parts)
        .await
        .expect_err("a gap");
    assert!(error.to_string().contains("in the place of part 2"), "{error}");
    store.abort_multipart(&path, &id).await.expect("aborted");
    let gone = store.put_part(&path, &id, 0, part(0)).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_repeated_outlasts_a_bad_day() {
    let cluster = cluster().await;
    let (store, path) = (store(&cluster), Path::from("object"));
    let fail = |fault: &Fault, method| {
        cluster.inject(Rule::new(fault.clone()).method(method).times(3));
    };
    for fault in [Fault::Hangup, Fault::Status(503), Fault::Status(429)] {
        within(async {
            fail(&fault, "PUT");
            store.put(&path, part(0)).await.expect("stored");
            fail(&fault, "HEAD");
            assert_eq!(store.head(&path).await.expect("there").size, PART as u64);
            fail(&fault, "GET");
            let listed: Vec<_> = store.list(None).try_collect().await.expect("listed");
            assert_eq!(listed.len(), 1);
            fail(&fault, "POST");
            let mut upload = store.put_multipart(&path).await.expect("begun");
            fail(&fault, "DELETE");
            upload.abort().await.expect("aborted");
            fail(&fault, "DELETE");
            store.delete(&path).await.expect("removed");
        })
        .await;
    }
    let absent = store.head(&path).await;
    assert!(matches!(absent, Err(Error::NotFound { .. })), "{absent:?}");
}

#[tokio::test]
async fn without_retries_the_first_failure_is_the_error() {
    let cluster = cluster().await;
    let mut options = pget_testkit::options(100_003, 4);
    options.retries = Some(0);
    let store = store(&cluster).with_options(options).expect("usable");
    cluster.inject(Rule::new(Fault::Status(503)).method("PUT"));
    store
        .put(&Path::from("object"), part(0))
        .await
        .expect_err("refused once");
    store.put(&Path::from("object"), part(0)).await.expect("stored");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let cluster = cluster().await;
    let mut options = pget_testkit::options(100_003, 4);
    options.retry_timeout = Duration::from_secs(2);
    let store = store(&cluster).with_options(options).expect("usable");
    cluster.inject(Rule::new(Fault::Silence).times(u64::MAX));
    within(store.head(&Path::from("object")))
        .await
        .expect_err("no answer");
    within(store.put(&Path::from("object"), "x".into()))
        .await
        .expect_err("no answer");
    within(store.put_multipart(&Path::from("object")))
        .await
        .expect_err("no answer");
}

/// A folder's list passes over what lies deeper.
#[tokio::test]
async fn a_folder_is_listed_without_what_lies_deeper() {
    let cluster = cluster().await;
    for number in 0..30_050 {
        cluster.put("bucket", &format!("t/deep/{number:05}"), Object::bytes(vec![1]));
    }
    for name in ["t/a", "t-b", "t/deep/x/y", "t/z/c", "tt"] {
        cluster.put("bucket", name, Object::bytes(vec![1]));
    }
    let store = store(&cluster);
    let before = cluster.exchanges().len();
    let listed = store.list_with_delimiter(Some(&Path::from("t"))).await;
    let listed = listed.expect("listed");
    assert_eq!(cluster.exchanges().len() - before, 2, "two pages of four");
    let names: Vec<_> = listed.objects.iter().map(|meta| meta.location.as_ref()).collect();
    assert_eq!(names, ["t/a"]);
    assert_eq!(listed.common_prefixes, [Path::from("t/deep"), Path::from("t/z")]);
    // An offset skips pages at the server, too.
    let before = cluster.exchanges().len();
    let rest = store.list_with_offset(Some(&Path::from("t")), &Path::from("t/deep/30048"));
    let rest: Vec<_> = rest
        .map_ok(|meta| meta.location)
        .try_collect()
        .await
        .expect("listed");
    assert_eq!(
        rest,
        [
            Path::from("t/deep/30049"),
            Path::from("t/deep/x/y"),
            Path::from("t/z/c")
        ]
    );
    assert_eq!(cluster.exchanges().len() - before, 1, "one page");
}

#[tokio::test]
async fn pages_have_tokens_and_only_one_delimiter() {
    use super::super::pget::object_store::list::PaginatedListOptions;
    let cluster = cluster().await;
    for name in ["a", "b", "c"] {
        cluster.put("bucket", name, Object::bytes(vec![1]));
    }
    let store = store(&cluster);
    let (mut names, mut opts) = (Vec::new(), PaginatedListOptions::default());
    opts.max_keys = Some(2);
    opts.offset = Some("a".into());
    loop {
        let page = store.list_paginated(None, opts.clone()).await.expect("listed");
        names.extend(
            page.result
                .objects
                .into_iter()
                .map(|meta| meta.location.to_string()),
        );
        opts.page_token = page.page_token;
        if opts.page_token.is_none() {
            break;
        }
    }
    assert_eq!(names, ["b", "c"]);
    opts.page_token = Some("not a token".into());
    store
        .list_paginated(None, opts.clone())
        .await
        .expect_err("no token");
    opts.page_token = None;
    opts.delimiter = Some("-".into());
    let refused = store.list_paginated(None, opts).await;
    assert!(matches!(refused, Err(Error::NotSupported { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_wrong_token_is_refused_in_every_call() {
    let cluster = cluster().await;
    let (store, path) = (store(&cluster), Path::from("object"));
    store.put(&path, part(0)).await.expect("stored");
    cluster.set_token(Some("secret-of-the-server"));
    let refused = [
        store.head(&path).await.err(),
        store.get(&path).await.err(),
        store.get_range(&path, 5..9).await.err(),
        store.put(&path, "x".into()).await.err(),
        store.put_multipart(&path).await.err(),
        store.delete(&path).await.err(),
        store.copy(&path, &Path::from("other")).await.err(),
        store.list(None).try_collect::<Vec<_>>().await.err(),
        store.list_with_delimiter(None).await.err(),
    ];
    for (index, error) in refused.into_iter().enumerate() {
        let error = error.expect("it is refused");
        assert!(
            matches!(error, Error::PermissionDenied { .. }),
            "{index}: {error:?}"
        );
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
