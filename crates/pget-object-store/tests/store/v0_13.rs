use pget_object_store::v0_13 as pget;

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
    }
}

#[path = "suite/mod.rs"]
mod suite;

/// object_store 0.13 has no further tests of uploads.
fn uploads_of_aistore<T>(_: T) -> Option<std::future::Ready<()>> {
    None
}
