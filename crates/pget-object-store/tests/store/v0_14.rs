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

use pget::object_store::integration::{multipart_put_part_out_of_order, multipart_with_opts};

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
