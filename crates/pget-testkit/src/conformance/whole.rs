//! Checks of whole downloads over the source under test.

use std::sync::Arc;

use pget_core::{Download, Error, ErrorKind, Options, RangeSource};
use sha2::{Digest, Sha256};

use super::Fixture;
use crate::content::Pattern;

const PATTERN: Pattern = Pattern::new(13);

/// Reads the whole object. Returns its length, and its SHA-256 in lower-case hex.
async fn digest(source: &Arc<dyn RangeSource>, options: Options) -> Result<(u64, String), Error> {
    let mut reader = Download::new(Arc::clone(source), options)?.reader();
    let (mut length, mut hasher) = (0, Sha256::new());
    while let Some(lease) = reader.next().await? {
        length += lease.len() as u64;
        hasher.update(&lease);
    }
    let hex = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok((length, hex))
}

pub(super) async fn empty_object(fixture: &dyn Fixture) {
    let source = fixture.put("empty", PATTERN, 0).await;
    let info = source.head().await.expect("an empty object is there");
    assert_eq!(info.size, Some(0), "empty: head");
    for concurrency in [1, 4] {
        let mut options = Options::default();
        options.concurrency = Some(concurrency);
        let (length, sum) = digest(&source, options)
            .await
            .expect("an empty object can be read");
        assert_eq!(
            (length, sum),
            (0, PATTERN.sha256(0)),
            "empty: concurrency {concurrency}"
        );
    }
}

pub(super) async fn offsets_at_and_behind_the_end(fixture: &dyn Fixture) {
    let source = fixture.put("offsets", PATTERN, 1000).await;
    for concurrency in [1, 4] {
        let at = |offset, length| {
            let mut options = Options::default();
            options.concurrency = Some(concurrency);
            options.chunk_size = Some(300);
            options.offset = offset;
            options.length = length;
            digest(&source, options)
        };
        let (length, _) = at(1000, None).await.expect("nothing is left at the end");
        assert_eq!(length, 0, "offset at the end, concurrency {concurrency}");
        let error = at(1001, None).await.expect_err("an offset past the end");
        assert_eq!(
            error.kind(),
            ErrorKind::Range,
            "offset past the end, concurrency {concurrency}: {error}"
        );
        let (length, sum) = at(0, Some(5000)).await.expect("a length is cut at the end");
        assert_eq!((length, sum), (1000, PATTERN.sha256(1000)), "length past the end");
        let (length, sum) = at(0, Some(601)).await.expect("a part");
        assert_eq!((length, sum), (601, PATTERN.sha256(601)), "length inside");
        let (length, sum) = at(350, Some(400)).await.expect("a part");
        let part = crate::content::sha256(&PATTERN.bytes(350, 400));
        assert_eq!((length, sum), (400, part), "offset and length inside");
    }
}

pub(super) async fn sizes_windows_and_concurrencies(fixture: &dyn Fixture) {
    let chunk = fixture.chunk_size();
    for size in [0, 1, chunk - 1, chunk, chunk + 1, 5 * chunk + 3] {
        let source = fixture.put(&format!("whole-{size}"), PATTERN, size).await;
        let expected = PATTERN.sha256(size);
        for window in [1, 2, 7, 64] {
            for concurrency in [1, 3, 16, 128] {
                let mut options = Options::default();
                options.chunk_size = Some(chunk);
                options.window = Some(window);
                options.concurrency = Some(concurrency);
                let what = format!("{size} bytes, chunk {chunk}, window {window}, concurrency {concurrency}");
                let result = digest(&source, options).await;
                let (length, sum) = result.unwrap_or_else(|error| panic!("whole read of {what}: {error:?}"));
                assert_eq!((length, &sum), (size, &expected), "whole read of {what}");
            }
        }
    }
}
