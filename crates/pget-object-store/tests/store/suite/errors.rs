//! Errors and preconditions are those of the bare store.

use super::super::pget::object_store::{
    Error, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt as _, Result,
    local::LocalFileSystem, memory::InMemory, path::Path,
};
use super::{s3, s3_server, wrapped};

/// What each caller may ask for.
fn table(meta: &ObjectMeta) -> Vec<GetOptions> {
    let at = meta.last_modified;
    let (before, after) = (
        at - std::time::Duration::from_secs(60),
        at + std::time::Duration::from_secs(60),
    );
    let etag = meta.e_tag.clone();
    let plain = GetOptions::new;
    let mut conditions = vec![
        plain(),
        plain().with_if_match(etag.clone()),
        plain().with_if_match(Some("\"other\"")),
        plain().with_if_match(Some("*")),
        plain().with_if_none_match(etag),
        plain().with_if_none_match(Some("\"other\"")),
        plain().with_if_none_match(Some("*")),
        plain().with_if_modified_since(Some(before)),
        plain().with_if_modified_since(Some(at)),
        plain().with_if_unmodified_since(Some(before)),
        plain().with_if_unmodified_since(Some(at)),
        plain().with_if_unmodified_since(Some(after)),
    ];
    let heads: Vec<_> = conditions
        .iter()
        .map(|options| options.clone().with_head(true))
        .collect();
    conditions.extend(heads);
    #[allow(clippy::reversed_empty_ranges, reason = "what a caller may pass")]
    let ranges = [
        None,
        Some(GetRange::Bounded(0..50)),
        Some(GetRange::Bounded(90..500)),
        Some(GetRange::Bounded(100..101)),
        Some(GetRange::Bounded(200..300)),
        Some(GetRange::Bounded(20..20)),
        Some(GetRange::Bounded(30..20)),
        Some(GetRange::Offset(0)),
        Some(GetRange::Offset(50)),
        Some(GetRange::Offset(99)),
        Some(GetRange::Offset(100)),
        Some(GetRange::Offset(500)),
        Some(GetRange::Suffix(1)),
        Some(GetRange::Suffix(50)),
        Some(GetRange::Suffix(500)),
    ];
    let all = ranges.iter().flat_map(|range| {
        conditions
            .iter()
            .map(|options| options.clone().with_range(range.clone()))
    });
    all.collect()
}

/// What came of a request, and which kind of error.
async fn outcome(result: Result<GetResult>) -> String {
    let kind = |error: &Error| {
        let text = format!("{error:?}");
        text.split([' ', '(']).next().unwrap_or_default().to_owned()
    };
    match result {
        Err(error) => kind(&error),
        Ok(result) => {
            let head = format!("{:?} {:?} {:?}", result.meta, result.range, result.attributes);
            match result.bytes().await {
                Ok(bytes) => format!("{head} {bytes:?}"),
                Err(error) => format!("{head} {}", kind(&error)),
            }
        }
    }
}

async fn compare(bare: &impl ObjectStore, ours: &impl ObjectStore) {
    let (full, empty, missing) = (Path::from("full"), Path::from("empty"), Path::from("missing"));
    let bytes: Vec<u8> = (0..100).collect();
    bare.put(&full, bytes.into()).await.expect("stored");
    bare.put(&empty, Vec::new().into()).await.expect("stored");
    let meta = bare.head(&full).await.expect("there");
    let mut failures = 0;
    for path in [full, empty, missing] {
        for options in table(&meta) {
            let asked = format!("{path} {options:?}");
            // Stores differ in the body of HEAD, which no caller reads.
            let is_head = options.head;
            let (of_bare, of_ours) = (
                bare.get_opts(&path, options.clone()).await,
                ours.get_opts(&path, options).await,
            );
            failures += u32::from(of_bare.is_err());
            if is_head && of_bare.is_ok() {
                assert!(of_ours.is_ok(), "{asked}");
                continue;
            }
            assert_eq!(outcome(of_ours).await, outcome(of_bare).await, "{asked}");
        }
    }
    assert!(failures > 100, "the table has errors: {failures}");
}

#[tokio::test]
async fn in_memory() {
    let store = InMemory::new();
    compare(&store, &wrapped(store.clone())).await;
}

#[tokio::test]
async fn local_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = || LocalFileSystem::new_with_prefix(folder.path()).expect("usable");
    compare(&store(), &wrapped(store())).await;
}

#[tokio::test]
async fn s3_at_versitygw() {
    let server = s3_server();
    compare(&s3(&server), &wrapped(s3(&server))).await;
}

#[tokio::test]
async fn an_error_in_the_middle_has_the_stores_cause() {
    let store = InMemory::new();
    let path = Path::from("object");
    store.put(&path, vec![1; 1 << 20].into()).await.expect("stored");
    let ours = wrapped(store.clone());
    let result = ours.get(&path).await.expect("there");
    store.delete(&path).await.expect("deleted");
    let error = result.bytes().await.expect_err("it is gone");
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    let mut cause: &dyn std::error::Error = &error;
    while let Some(next) = cause.source() {
        cause = next;
        if let Some(of_store) = cause.downcast_ref::<Error>() {
            assert!(matches!(of_store, Error::NotFound { .. }), "{of_store:?}");
            return;
        }
    }
    panic!("the store's own error is among the causes of {error:?}");
}
