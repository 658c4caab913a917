//! Checks of single reads, through a [`Collector`].

use std::{future::Future, pin::pin, sync::Arc, task::Poll, time::Duration};

use pget_core::{
    BufMut, Collector, ErrorKind, Match, ObjectInfo, RangeRequest, RangeSource, Reply, SourceError,
};

use super::Fixture;
use crate::content::Pattern;

const PATTERN: Pattern = Pattern::new(11);
const SIZE: u64 = 300_007;

async fn collect(source: &dyn RangeSource, collector: &Collector) -> Result<(), SourceError> {
    let writer = collector
        .writer()
        .expect("an earlier read has let go of its writer");
    source.read(&collector.rest(), writer).await
}

fn pin_of(reply: &Reply) -> Arc<ObjectInfo> {
    Arc::new(ObjectInfo {
        size: reply.total,
        revision: reply.revision.clone(),
        ..ObjectInfo::default()
    })
}

/// Reads the first byte of the object, and returns its reply.
async fn first_reply(source: &dyn RangeSource) -> Reply {
    let collector = Collector::new(RangeRequest::new(0, Some(1)));
    collect(source, &collector)
        .await
        .expect("the first byte is there");
    collector.reply().expect("a read begins")
}

pub(super) async fn exact_ranges(fixture: &dyn Fixture) {
    let source = fixture.put("exact_ranges", PATTERN, SIZE).await;
    let pinned = pin_of(&first_reply(&*source).await);
    let ranges = [
        (0, 1),
        (0, 65_536),
        (1, 2),
        (4_095, 4_097),
        (SIZE / 2, SIZE / 2 + 70_000),
        (SIZE - 1, SIZE),
        (SIZE - 65_536, SIZE),
        (0, SIZE),
        // The first request of a download does not know the end of the object.
        (SIZE - 10, SIZE + 100_000),
        (0, SIZE + 1),
    ];
    for (start, end) in ranges {
        for pinned in [None, Some(&pinned)] {
            let mut request = RangeRequest::new(start, Some(end));
            request.pinned = pinned.cloned();
            let collector = Collector::new(request);
            let result = collect(&*source, &collector).await;
            assert!(result.is_ok(), "exact_ranges {start}..{end}: {result:?}");
            let bytes = collector.bytes();
            assert_eq!(
                bytes.len() as u64,
                end.min(SIZE) - start,
                "exact_ranges {start}..{end}: length"
            );
            assert_eq!(
                PATTERN.check(start, &bytes),
                Ok(()),
                "exact_ranges {start}..{end}: content"
            );
            let reply = collector.reply().expect("a read begins");
            assert_eq!(reply.total, Some(SIZE), "exact_ranges {start}..{end}: size");
            assert!(
                collector.writer().is_some(),
                "exact_ranges {start}..{end}: the writer is kept"
            );
        }
    }
}

/// Checks that a read of an empty range never delivers the whole object. Downloads request no such
/// range.
pub(super) async fn an_empty_range_brings_nothing(fixture: &dyn Fixture) {
    let source = fixture.put("empty_range", PATTERN, SIZE).await;
    for at in [0, 1_000, SIZE] {
        let collector = Collector::new(RangeRequest::new(at, Some(at)));
        if collect(&*source, &collector).await.is_ok() {
            let length = collector.reply().and_then(|reply| reply.length);
            assert_eq!(length, Some(0), "empty range at {at}: what came");
        }
        assert!(collector.bytes().is_empty(), "empty range at {at}: bytes");
    }
}

pub(super) async fn head_tells_what_a_read_tells(fixture: &dyn Fixture) {
    let source = fixture.put("head", PATTERN, SIZE).await;
    let info = source.head().await.expect("head of an object that is there");
    assert_eq!(info.size, Some(SIZE), "head: size");
    let reply = first_reply(&*source).await;
    if reply.revision.is_identity() {
        assert_eq!(
            info.revision.compare(&reply.revision),
            Match::Same,
            "head: {:?}, read: {:?}",
            info.revision,
            reply.revision
        );
    }
}

pub(super) async fn a_half_filled_chunk_is_completed(fixture: &dyn Fixture) {
    let source = fixture.put("half_filled", PATTERN, SIZE).await;
    let reply = first_reply(&*source).await;
    let (start, end) = (100_000, 250_000);
    for filled in [1, 75_000, 149_999] {
        let mut request = RangeRequest::new(start, Some(end));
        request.pinned = Some(pin_of(&reply));
        let collector = Collector::new(request);
        let mut writer = collector.writer().expect("the writer is not taken yet");
        writer
            .begin(Reply {
                start,
                length: Some(end - start),
                ..reply.clone()
            })
            .expect("it answers the request");
        let mut at = start;
        while at < start + filled {
            let piece = writer
                .chunk_mut()
                .len()
                .min(usize::try_from(start + filled - at).expect("small"));
            writer.put_slice(&PATTERN.bytes(at, piece));
            at += piece as u64;
        }
        drop(writer);
        collect(&*source, &collector).await.expect("the rest is read");
        assert_eq!(
            collector.reply().map(|reply| reply.start),
            Some(start + filled),
            "half_filled: where the rest begins"
        );
        let bytes = collector.bytes();
        assert_eq!(bytes.len() as u64, end - start, "half_filled {filled}: length");
        assert_eq!(
            PATTERN.check(start, &bytes),
            Ok(()),
            "half_filled {filled}: content"
        );
    }
}

pub(super) async fn another_revision_is_refused(fixture: &dyn Fixture) {
    let old = fixture.put("changing", PATTERN, SIZE).await;
    let reply = first_reply(&*old).await;
    if !reply.revision.is_identity() {
        return;
    }
    let size = if fixture.tells_same_size() { SIZE } else { SIZE + 1 };
    let new = fixture.put("changing", Pattern::new(12), size).await;
    // A source that is opened again sees the new content. One that was open before may continue
    // with the old content.
    for (name, source) in [("opened before", old), ("opened again", new)] {
        let mut request = RangeRequest::new(1_000, Some(2_000));
        request.pinned = Some(pin_of(&reply));
        let collector = Collector::new(request);
        match collect(&*source, &collector).await {
            Err(error) => {
                assert_eq!(
                    error.kind(),
                    ErrorKind::ObjectChanged,
                    "another revision, {name}: {error}"
                );
                assert!(
                    collector.bytes().is_empty(),
                    "another revision, {name}: bytes of it were let in"
                );
            }
            Ok(()) => {
                assert_eq!(name, "opened before", "another revision was taken for the first");
                assert_eq!(
                    PATTERN.check(1_000, &collector.bytes()),
                    Ok(()),
                    "another revision, {name}"
                );
            }
        }
    }
}

pub(super) async fn missing_is_not_found(fixture: &dyn Fixture) {
    let source = fixture.missing().await;
    let collector = Collector::new(RangeRequest::new(0, Some(100)));
    let error = collect(&*source, &collector)
        .await
        .expect_err("there is no such object");
    assert_eq!(error.kind(), ErrorKind::NotFound, "missing, read: {error}");
    let error = source.head().await.expect_err("there is no such object");
    assert_eq!(error.kind(), ErrorKind::NotFound, "missing, head: {error}");
}

/// Drops the read at its `polls`-th wake-up. Returns whether it had finished before.
async fn drop_at_poll(read: impl Future<Output = Result<(), SourceError>>, polls: usize) -> bool {
    let mut read = pin!(read);
    let mut count = 0;
    std::future::poll_fn(|cx| {
        if count == polls {
            return Poll::Ready(false);
        }
        count += 1;
        read.as_mut().poll(cx).map(|_| true)
    })
    .await
}

pub(super) async fn drop_leaves_no_writer(fixture: &dyn Fixture) {
    let size = 4 << 20;
    let source = fixture.put("dropped", PATTERN, size).await;
    for polls in (0..6).chain([10, 20, 40]) {
        let collector = Collector::new(RangeRequest::new(0, Some(size)));
        let writer = collector.writer().expect("the writer is not taken yet");
        let done = drop_at_poll(source.read(&collector.rest(), writer), polls).await;
        // A read that blocks a thread keeps its writer until it notices the drop. It must notice
        // soon.
        let mut waited = Duration::ZERO;
        while collector.writer().is_none() {
            assert!(
                waited < Duration::from_secs(10),
                "dropped at poll {polls}: the writer is kept"
            );
            let pause = Duration::from_millis(1);
            tokio::time::sleep(pause).await;
            waited += pause;
        }
        if !done && collector.rest().start < size {
            collect(&*source, &collector)
                .await
                .expect("the rest can be read after the drop");
        }
        let bytes = collector.bytes();
        assert_eq!(bytes.len() as u64, size, "dropped at poll {polls}: length");
        assert_eq!(
            PATTERN.check(0, &bytes),
            Ok(()),
            "dropped at poll {polls}: content"
        );
    }
}

pub(super) async fn concurrent_reads(fixture: &dyn Fixture) {
    let source = fixture.put("concurrent", PATTERN, SIZE).await;
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..16 {
        let source = Arc::clone(&source);
        tasks.spawn(async move {
            let start = index * (SIZE / 16);
            let collector = Collector::new(RangeRequest::new(start, Some(start + SIZE / 16 + 1)));
            collect(&*source, &collector).await.expect("one of many reads");
            assert_eq!(
                PATTERN.check(start, &collector.bytes()),
                Ok(()),
                "concurrent: content from {start}"
            );
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.expect("no read fails");
    }
}
