//! object_store's own tests over the wrapper.

use super::super::pget::object_store::{
    Error, ObjectStore,
    aws::{AmazonS3Builder, S3CopyIfNotExists},
    integration as test,
    list::PaginatedListStore,
    local::LocalFileSystem,
    memory::InMemory,
    path::Path,
    signer::Signer as _,
};
use super::{faults::bare, in_large_chunks, s3, s3_server, s3_with, webdav::WebDav, wrapped};

/// What object_store's own tests ask of each store.
async fn common(store: &impl ObjectStore) {
    test::put_get_delete_list(store).await;
    test::list_with_offset_exclusivity(store).await;
    test::list_uses_directories_correctly(store).await;
    test::list_with_delimiter(store).await;
    test::rename_and_copy(store).await;
    let missing = test::get_nonexistent_object(store, None).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
}

/// Those that read tens of megabytes, where chunks of seven bytes would be millions of requests.
/// They come first, because they expect an empty store.
async fn large(store: &impl ObjectStore) {
    test::stream_get(store).await;
    test::multipart_out_of_order(store).await;
    test::multipart_race_condition(store, true).await;
}

async fn pages(store: &(impl ObjectStore + PaginatedListStore)) {
    test::list_paginated(store, store).await;
}

/// versitygw compares the time of `If-Unmodified-Since` with fractions of a second that it does not
/// report.
async fn fails_bare(store: impl ObjectStore) {
    let bare = tokio::spawn(async move { test::get_opts(&store).await });
    assert!(
        bare.await.is_err(),
        "the bare store passes: let the wrapped one be tested"
    );
}

#[tokio::test]
async fn in_memory() {
    let memory = InMemory::new();
    let store = in_large_chunks(memory.clone());
    large(&store).await;
    test::multipart(&store, &store).await;
    let store = wrapped(memory);
    common(&store).await;
    test::put_get_attributes(&store).await;
    test::get_opts(&store).await;
    test::copy_if_not_exists(&store).await;
    test::copy_rename_nonexistent_object(&store).await;
    test::put_opts(&store, true).await;
}

#[tokio::test]
async fn local_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = || LocalFileSystem::new_with_prefix(folder.path()).expect("usable");
    large(&in_large_chunks(files())).await;
    let store = wrapped(files());
    common(&store).await;
    test::put_get_attributes(&store).await;
    test::get_opts(&store).await;
    test::copy_if_not_exists(&store).await;
    test::copy_rename_nonexistent_object(&store).await;
    test::put_opts(&store, false).await;
}

#[tokio::test]
async fn s3_at_versitygw() {
    let server = s3_server();
    let store = in_large_chunks(s3(&server));
    large(&store).await;
    test::multipart(&store, &store).await;
    let store = wrapped(s3(&server));
    common(&store).await;
    fails_bare(s3(&server)).await;
    test::put_get_attributes(&store).await;
    pages(&store).await;
    test::put_opts(&store, true).await;
}

/// `HttpStore` has no conditional writes, no uploads by parts and no pages, and loses attributes.
#[tokio::test]
async fn webdav_on_a_bad_day() {
    let server = WebDav::start().await.expect("a server");
    let store = wrapped(bare(server.address, 10));
    common(&store).await;
    test::get_opts(&store).await;
    test::copy_if_not_exists(&store).await;
    test::copy_rename_nonexistent_object(&store).await;
    let failures = server.failures();
    assert!(failures > 30, "{failures} requests have failed");
}

#[tokio::test]
async fn s3_copies_at_versitygw() {
    let server = s3_server();
    let set = |s3: AmazonS3Builder| s3.with_copy_if_not_exists(S3CopyIfNotExists::Multipart);
    let store = wrapped(s3_with(&server, set));
    test::copy_if_not_exists(&store).await;
    test::copy_rename_nonexistent_object(&store).await;
}

#[tokio::test]
async fn addresses_are_signed() {
    let server = s3_server();
    let store = wrapped(s3(&server));
    let (path, time) = (Path::from("a/b"), std::time::Duration::from_secs(60));
    let url = store
        .signed_url(http::Method::GET, &path, time)
        .await
        .expect("signed");
    let urls = store
        .signed_urls(http::Method::GET, &[path], time)
        .await
        .expect("signed");
    assert_eq!(url.path(), "/bucket/a/b");
    assert!(
        urls[0]
            .query()
            .is_some_and(|query| query.contains("X-Amz-Signature=")),
        "{urls:?}"
    );
}
