//! HEAD and ranged GET: the permitted requests, and the meaning of the answers.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use pget_core::{ErrorKind, Options};
use pget_testkit::{
    aistore::{ClusterOptions, Fault, Object, Pull, Rule},
    content::Pattern,
};
use support::{BUCKET, MIB, Place, aws, cluster, expect_content, options, pattern, script, standin, within};

/// Returns all `Range` headers of many downloads: sizes around that of a chunk, whole and in part,
/// with faults.
async fn ranges_sent() -> Vec<String> {
    let place = standin(ClusterOptions::default()).await;
    for size in [0, 1, 9_999, 10_000, 10_001, 50_003] {
        let name = format!("o{size}");
        place.fake().put(BUCKET, &name, pattern(1, size));
        let source = place.object(&name);
        for concurrency in [1, 4] {
            let cut = Rule::new(Fault::Cut { after: 0 }).object(&name).times(2);
            place.fake().inject(cut);
            for (offset, length) in [
                (0, None),
                (0, Some(0)),
                (size, None),
                (size / 2, None),
                (size / 2, Some(1)),
            ] {
                let mut part = options(10_000, concurrency);
                (part.offset, part.length) = (offset, length);
                let bytes = support::read(&source, part).await.expect("it can be read");
                assert_eq!(Pattern::new(1).check(offset, &bytes), Ok(()));
                let wanted = length.unwrap_or(u64::MAX).min(size - offset);
                assert_eq!(bytes.len() as u64, wanted, "{offset} and {length:?} of {size}");
            }
        }
    }
    let (proxy, targets) = place.exchanges();
    let all = proxy.iter().chain(&targets);
    all.filter_map(|exchange| exchange.header("range").map(str::to_owned))
        .collect()
}

/// An empty range makes the target panic, and leaves the object locked.
#[tokio::test(flavor = "multi_thread")]
async fn no_empty_range_is_ever_sent() {
    let sent = ranges_sent().await;
    assert!(sent.len() > 50, "{}", sent.len());
    for range in sent {
        let (first, last) = range
            .strip_prefix("bytes=")
            .and_then(|rest| rest.split_once('-'))
            .expect("bytes=A-B");
        let first: u64 = first.parse().expect("a first byte");
        assert!(
            last.is_empty() || last.parse::<u64>().is_ok_and(|last| last >= first),
            "{range}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_suffix_ranges() {
    for range in ranges_sent().await {
        assert!(!range.starts_with("bytes=-") && !range.contains(','), "{range}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_object_by_416() {
    let place = cluster().await;
    let name = support::unique("empty");
    place.put(&name, b"").await;
    let source = place.object(&name);
    for concurrency in [1, 4] {
        let bytes = support::read(&source, options(1000, concurrency))
            .await
            .expect("nothing is not an error");
        assert_eq!(bytes.len(), 0);
    }
    assert_eq!(within(source.head()).await.expect("it is there").size, Some(0));
    if place.standin().is_some() {
        let refused = place
            .exchanges()
            .1
            .iter()
            .filter(|exchange| exchange.status == 416)
            .count();
        assert!(refused > 0, "it was asked for by a range");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_the_end_is_an_error() {
    let place = cluster().await;
    let name = support::unique("short");
    place.put(&name, &support::bytes(1, 100)).await;
    let mut behind = options(1000, 4);
    behind.offset = 101;
    let error = support::read(&place.object(&name), behind)
        .await
        .expect_err("nothing is there");
    assert_eq!(error.kind(), ErrorKind::Range, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_before_4_1_answer_200_with_content_range() {
    let place = standin(ClusterOptions {
        before_4_1: true,
        ..ClusterOptions::default()
    })
    .await;
    place.fake().put(BUCKET, "o", pattern(1, 1_000_000));
    expect_content(&place.object("o"), Pattern::new(1), 1_000_000).await;
    assert_eq!(
        place.counts().ranges,
        10,
        "each was taken for the range that it is"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ignored_range_is_the_stream_at_first_and_tried_again_later() {
    let place = standin(ClusterOptions::default()).await;
    place.fake().put(BUCKET, "o", pattern(1, 1_000_000));
    for skip in [0, 3] {
        place.fake().inject(
            Rule::new(Fault::IgnoreRange)
                .at_targets()
                .method("GET")
                .skip(skip),
        );
        expect_content(&place.object("o"), Pattern::new(1), 1_000_000).await;
    }
    assert_eq!(place.counts().fault("ignore_range"), 2);
}

async fn chunked(object: Object) -> (Place, Option<u64>) {
    let place = standin(ClusterOptions::default()).await;
    place.fake().put(BUCKET, "o", object);
    let hint = within(place.object("o").head())
        .await
        .expect("it is there")
        .chunk_hint;
    (place, hint)
}

/// Returns the starts of the ranges of a download with default options.
async fn offsets(place: &Place) -> Vec<u64> {
    let mut reader = support::reader(&place.object("o"), Options::default());
    within(async { while reader.next().await.expect("it can be read").is_some() {} }).await;
    let (_, targets) = place.exchanges();
    let ranges = targets.iter().filter_map(|exchange| exchange.header("range"));
    let starts = ranges.filter_map(|range| range.strip_prefix("bytes=")?.split_once('-')?.0.parse().ok());
    let mut starts: Vec<u64> = starts.collect();
    starts.sort_unstable();
    starts
}

#[tokio::test(flavor = "multi_thread")]
async fn even_chunks_set_the_range_length() {
    let object = Object::repeated(1, 30 * MIB).with_chunk_size(12 * MIB);
    let (place, hint) = chunked(object).await;
    assert_eq!(hint, Some(12 * MIB));
    // The first range is requested before anything is known. The others are aligned.
    let starts = offsets(&place).await;
    assert!(starts.ends_with(&[12 * MIB, 24 * MIB]), "{starts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn uneven_chunks_do_not_set_the_range_length() {
    let object = Object::repeated(1, 30 * MIB).with_chunks([MIB, 2 * MIB, 12 * MIB, 9 * MIB, 6 * MIB]);
    let (place, hint) = chunked(object).await;
    assert_eq!(hint, None);
    // Without a hint, the library finds the chunk size by measurements. It is a whole number of
    // MiB, not that of the stored chunks.
    let offsets = offsets(&place).await;
    assert!(offsets.iter().all(|offset| offset % MIB == 0), "{offsets:?}");
    assert_ne!(offsets, [0, MIB, 3 * MIB, 15 * MIB, 24 * MIB]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hint_is_capped_and_divides_the_chunk() {
    let object = Object::repeated(1, 4096 * MIB)
        .with_chunk_size(1024 * MIB)
        .with_stated_checksum("xxhash2", "0123456789abcdef");
    let (_, hint) = chunked(object).await;
    assert_eq!(hint, Some(16 * MIB));
}

#[tokio::test(flavor = "multi_thread")]
async fn head_with_props() {
    let place = cluster().await;
    let name = support::unique("props");
    place.put(&name, &support::bytes(1, 1234)).await;
    let info = within(place.object(&name).head()).await.expect("it is there");
    assert_eq!(info.size, Some(1234));
    let revision = info.revision;
    assert_eq!(revision.version.as_deref(), Some("1"));
    assert_eq!(
        revision.checksum.map(|checksum| checksum.algorithm).as_deref(),
        Some("xxhash2")
    );
    assert!(revision.etag.is_some_and(|etag| etag.starts_with("\"v1-")));
    assert_eq!(info.ranges, Some(true));
    if place.standin().is_some() {
        let asked = place
            .exchanges()
            .1
            .into_iter()
            .find(|exchange| exchange.method == "HEAD")
            .expect("a HEAD");
        assert!(
            asked
                .target
                .contains("&props=size%2Cversion%2Cchecksum%2Cchunked%2Cetag&"),
            "{}",
            asked.target
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_prop_400_falls_back() {
    let place = standin(ClusterOptions::default()).await;
    for (name, size) in [("o", 1234), ("empty", 0)] {
        place.fake().put(BUCKET, name, pattern(1, size));
        place
            .fake()
            .inject(Rule::new(Fault::Status(400)).at_targets().method("HEAD"));
        let info = within(place.object(name).head()).await.expect("it is there");
        assert_eq!(info.size, Some(size));
        assert_eq!(info.revision.version.as_deref(), Some("1"));
        let last = place.exchanges().1.into_iter().next_back().expect("a HEAD");
        assert!(!last.target.contains("props="), "{}", last.target);
    }
}

/// Returns a tar file with one member.
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut head = vec![0; 512];
    head[..name.len()].copy_from_slice(name.as_bytes());
    head[100..107].copy_from_slice(b"0000644");
    head[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    head[136..147].copy_from_slice(b"00000000000");
    head[148..156].copy_from_slice(b"        ");
    head[156] = b'0';
    head[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    head.extend_from_slice(content);
    head.resize(head.len().next_multiple_of(512) + 1024, 0);
    head
}

#[tokio::test(flavor = "multi_thread")]
async fn archpath_and_etl_are_one_plain_stream() {
    let place = cluster().await;
    let (name, content) = (
        format!("{}.tar", support::unique("archive")),
        support::bytes(1, 300_000),
    );
    let archive = tar("dir/member", &content);
    match place.standin() {
        Some(standin) => standin.put(
            BUCKET,
            &name,
            Object::bytes(archive).with_member("dir/member", content),
        ),
        None => place.put(&name, &archive).await,
    }
    let address = format!("ais://{BUCKET}/{name}");
    expect_content(
        &place.open(&address, &[("ais.archpath", "dir/member")]),
        Pattern::new(1),
        300_000,
    )
    .await;
    if let Some(standin) = place.standin() {
        standin.put(BUCKET, "o", pattern(2, 300_000));
        let source = place.open(&format!("ais://{BUCKET}/o"), &[("ais.etl", "etl-1")]);
        expect_content(&source, Pattern::new(2), 300_000).await;
        let (_, targets) = place.exchanges();
        let gets: Vec<_> = targets
            .iter()
            .filter(|exchange| exchange.method == "GET")
            .collect();
        assert!(gets.iter().all(|exchange| exchange.header("range").is_none()));
        // Neither answer identifies its object. A read that began as a range restarts at most once,
        // as a single stream.
        assert!(gets.len() <= 4, "{}", gets.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_transformation_is_not_spliced() {
    let parts = |head: &str| {
        if script::target(head).contains("/target/") {
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc".to_owned()
        } else {
            script::redirect("/target/v1/objects/b/o")
        }
    };
    // The server closes after its first bytes.
    let server = script::Script::start_closing(parts).await;
    let source = support::open_at(
        &support::client(),
        &server.endpoint(),
        "ais://b/o",
        &[("ais.etl", "x")],
    );
    let error = support::read(&source, options(1000, 4))
        .await
        .expect_err("it never comes whole");
    assert!(
        matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Unavailable),
        "{error}"
    );
}

/// The headers are those of the object, which does not change. Each answer is a different transform
/// of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_transformation_that_gives_something_else_is_not_spliced() {
    const IDENTITY: &str =
        "Ais-Version: 1\r\nAis-Checksum-Type: xxhash2\r\nAis-Checksum-Value: 0123456789abcdef";
    let asked = Arc::new(AtomicUsize::new(0));
    let server = {
        let asked = Arc::clone(&asked);
        script::Script::start_closing(move |head| {
            let target = script::target(head);
            if !target.contains("/target/") {
                return script::redirect("/target/v1/objects/b/o");
            }
            let head_only = head.starts_with("HEAD");
            let (letter, sent) = match head_only {
                true => ("", 0),
                // The first answer breaks off after bytes that were delivered.
                false if asked.fetch_add(1, Ordering::Relaxed) == 0 => ("a", 2500),
                false => ("b", 4000),
            };
            format!(
                "HTTP/1.1 200 OK\r\n{IDENTITY}\r\nContent-Length: 4000\r\n\r\n{}",
                letter.repeat(sent)
            )
        })
        .await
    };
    let source = support::open_at(
        &support::client(),
        &server.endpoint(),
        "ais://b/o",
        &[("ais.etl", "x")],
    );
    let told = within(source.head()).await.expect("it is there").revision;
    assert!(!told.is_identity(), "of the input, not of what comes out: {told}");
    let error = support::read(&source, options(1000, 4))
        .await
        .expect_err("the rest is of another output");
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Protocol | ErrorKind::Unavailable | ErrorKind::ObjectChanged
        ),
        "{error}"
    );
    // The whole of another output is as good as that of the first.
    let bytes = support::read(&source, options(1000, 4))
        .await
        .expect("it comes whole");
    assert!(bytes.len() == 4000 && bytes.iter().all(|byte| *byte == b'b'));
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_ver_is_sent_once() {
    let place = standin(ClusterOptions::default()).await;
    place.fake().put(aws("b"), "o", pattern(1, 1_000_000));
    let source = place.open("ais://b/o", &[("ais.provider", "aws"), ("ais.latest", "true")]);
    expect_content(&source, Pattern::new(1), 1_000_000).await;
    let counts = place.counts();
    assert_eq!((counts.latest_checks, counts.ranges), (1, 10));
    place
        .fake()
        .put(aws("b"), "cold", pattern(2, 1000).cold(Pull::WhenReleased));
    let source = place.open("ais://b/cold", &[("ais.provider", "aws"), ("ais.latest", "true")]);
    expect_content(&source, Pattern::new(2), 1000).await;
}
