use pget_object_store::v0_14 as pget;

/// `GetResult` has one field more from 0.14 on.
fn result(
    payload: pget::object_store::GetResultPayload,
    meta: pget::object_store::ObjectMeta,
    range: std::ops::Range<u64>,
    attributes: pget::object_store::Attributes,
) -> pget::object_store::GetResult {
    pget::object_store::GetResult {
        payload,
        meta,
        range,
        attributes,
        extensions: Default::default(),
    }
}

#[path = "suite/mod.rs"]
mod suite;

use pget::object_store::{
    aws::AmazonS3Builder,
    integration::{
        MarkerHttpConnector, multipart_put_part_out_of_order, multipart_with_opts, response_extensions,
    },
};

/// The functions that object_store 0.13 has not.
#[tokio::test]
async fn uploads_by_parts() {
    let memory = suite::in_large_chunks(pget::object_store::memory::InMemory::new());
    multipart_with_opts(&memory, &memory).await;
    multipart_put_part_out_of_order(&memory, &memory).await;
    let server = suite::s3_server();
    let s3 = suite::in_large_chunks(suite::s3(&server));
    multipart_with_opts(&s3, &s3).await;
    multipart_put_part_out_of_order(&s3, &s3).await;
}

/// What a connector adds to an answer reaches the caller, also of a read in chunks.
#[tokio::test]
async fn extensions_of_answers() {
    let server = suite::s3_server();
    let marked = |s3: AmazonS3Builder| s3.with_http_connector(MarkerHttpConnector::default());
    let store = suite::wrapped(suite::s3_with(&server, marked));
    response_extensions(&store, true).await;
}

/// The tests of uploads to AIStore that object_store 0.13 has not.
///
/// `multipart_with_opts` wants attributes, which are refused.
fn uploads_of_aistore(store: pget::PgetStore<pget::AistoreStore>) -> Option<impl Future<Output = ()>> {
    Some(async move {
        multipart_put_part_out_of_order(&store, &store).await;
        let refused = tokio::spawn(async move { multipart_with_opts(&store, &store).await });
        assert!(refused.await.is_err(), "it passes: say so in the table");
    })
}
