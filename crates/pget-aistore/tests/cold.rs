//! Objects that are only in their backend as yet.

mod support;

use std::time::Duration;

use pget_core::ErrorKind;
use pget_testkit::{
    aistore::{ClusterOptions, Fault, Pull, Rule},
    content::Pattern,
};
use support::{Place, aws, expect_content, expect_error, options, pattern, script, standin, within};

const SIZE: u64 = 1_000_000;
const AWS: (&str, &str) = ("ais.provider", "aws");

async fn cold(pull: Pull) -> Place {
    let place = standin(ClusterOptions::default()).await;
    place.fake().put(aws("b"), "o", pattern(1, SIZE).cold(pull));
    place
}

/// The object never arrives by itself here, so a ranged read would wait forever.
#[tokio::test(flavor = "multi_thread")]
async fn cold_object_is_one_blob_download_stream() {
    let place = cold(Pull::WhenReleased).await;
    let source = place.open("ais://b/o", &[AWS]);
    expect_content(&source, Pattern::new(1), SIZE).await;
    let (_, targets) = place.exchanges();
    let gets: Vec<_> = targets
        .iter()
        .filter(|exchange| exchange.method == "GET")
        .collect();
    assert_eq!(gets.len(), 1);
    assert_eq!(gets[0].header("ais-blob-download"), Some("true"));
    assert_eq!(gets[0].header("range"), None);
    // Now the object is present, and the read is parallel.
    expect_content(&source, Pattern::new(1), SIZE).await;
    assert_eq!(place.counts().ranges, 10);
    let blobs = place
        .exchanges()
        .1
        .iter()
        .filter(|exchange| exchange.header("ais-blob-download").is_some())
        .count();
    assert_eq!(blobs, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_cold_object_is_cut_from_the_stream() {
    let place = cold(Pull::WhenReleased).await;
    let mut part = options(100_000, 4);
    (part.offset, part.length) = (450_000, Some(200_000));
    let bytes = support::read(&place.open("ais://b/o", &[AWS]), part)
        .await
        .expect("it can be read");
    assert_eq!(bytes.len(), 200_000);
    assert_eq!(Pattern::new(1).check(450_000, &bytes), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn blob_download_header_refused_with_400_falls_back() {
    let place = cold(Pull::After(Duration::from_millis(20))).await;
    place
        .fake()
        .inject(Rule::new(Fault::Status(400)).at_targets().method("GET"));
    expect_content(&place.open("ais://b/o", &[AWS]), Pattern::new(1), SIZE).await;
    let (_, targets) = place.exchanges();
    let asked: Vec<_> = targets
        .iter()
        .filter(|exchange| exchange.method == "GET")
        .map(|exchange| {
            (
                exchange.header("ais-blob-download"),
                exchange.header("range"),
                exchange.status,
            )
        })
        .collect();
    assert_eq!(asked, [(Some("true"), None, 400), (None, None, 200)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ais_bucket_is_not_asked_whether_it_is_cold() {
    let place = standin(ClusterOptions::default()).await;
    place.fake().put("b", "o", pattern(1, 1000));
    expect_content(&place.open("ais://b/o", &[]), Pattern::new(1), 1000).await;
    let counts = place.counts();
    assert_eq!(
        (counts.at_targets("GET"), counts.at_targets("HEAD")),
        (1, 0),
        "one request for one chunk"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_stream_that_breaks_goes_on_with_what_was_pulled() {
    let place = cold(Pull::WhenReleased).await;
    place.fake().inject(Rule::new(Fault::Reset { after: 500_000 }));
    expect_content(&place.open("ais://b/o", &[AWS]), Pattern::new(1), SIZE).await;
    assert_eq!(place.counts().fault("reset"), 1);
}

/// The stream states no checksum, and each later range states its own (`enable_read_range`). Both
/// are of one object.
#[tokio::test(flavor = "multi_thread")]
async fn a_cold_stream_without_a_checksum_goes_on_by_ranges_with_theirs() {
    const BODY: &str = "0123456789abcdefghijABCDEFGHIJ";
    let server = script::Script::start_closing(|head| {
        let asked = |range: &str| head.contains(&format!("Range: bytes={range}"));
        let part = |start: usize, checksum: &str| {
            format!(
                "HTTP/1.1 206 Partial Content\r\nAis-Version: 1\r\nAis-Checksum-Type: crc32c\r\n\
                 Ais-Checksum-Value: {checksum}\r\nContent-Range: bytes {start}-29/30\r\n\
                 Content-Length: {}\r\n\r\n{}",
                30 - start,
                &BODY[start..(start + 10).min(30)]
            )
        };
        if head.starts_with("HEAD") {
            "HTTP/1.1 200 OK\r\nAis-Version: 1\r\nAis-Present: false\r\nContent-Length: 30\r\n\r\n".to_owned()
        } else if asked("10-") {
            part(10, "2f5a9c01")
        } else if asked("20-") {
            part(20, "7b33e0d4")
        } else {
            let begun = &BODY[..10];
            format!("HTTP/1.1 200 OK\r\nAis-Version: 1\r\nContent-Length: 30\r\n\r\n{begun}")
        }
    })
    .await;
    let source = support::open_at(&support::client(), &server.endpoint(), "ais://b/o", &[AWS]);
    let bytes = support::read(&source, options(100, 1))
        .await
        .expect("it is one object");
    assert_eq!(bytes, BODY.as_bytes());
    let ranges = server
        .heads()
        .iter()
        .filter(|head| head.contains("Range: "))
        .count();
    assert_eq!(ranges, 2, "{:?}", server.heads());
}

/// Another client pulls the object. The answer is "busy" until it has arrived.
#[tokio::test(flavor = "multi_thread")]
async fn cold_get_conflict_409() {
    let place = cold(Pull::WhenReleased).await;
    let busy = Rule::new(Fault::Status(409)).at_targets().method("GET").times(2);
    place.fake().inject(busy);
    expect_content(&place.open("ais://b/o", &[AWS]), Pattern::new(1), SIZE).await;
    assert_eq!(place.counts().fault("status"), 2);
    let busy = Rule::new(Fault::Status(409))
        .at_targets()
        .method("GET")
        .times(u64::MAX);
    place.fake().inject(busy);
    let mut once = options(100_000, 4);
    once.retries = Some(1);
    let error = support::read(&place.open("ais://b/o", &[AWS]), once)
        .await
        .expect_err("always busy");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("ErrBusy"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_object_of_a_backend_is_not_found() {
    let place = cold(Pull::WhenReleased).await;
    expect_error(&place.open("ais://b/none", &[AWS]), ErrorKind::NotFound).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_cold_read_ends_it() {
    let place = cold(Pull::WhenReleased).await;
    place.fake().inject(Rule::new(Fault::Stall { after: 300_000 }));
    let source = place.open("ais://b/o", &[AWS]);
    let mut reader = support::reader(&source, options(100_000, 4));
    drop(support::first_of(&mut reader).await);
    drop(reader);
    within(
        place
            .fake()
            .until(|counts| counts.fault("stall") == 1 && counts.all_open() <= 2),
    )
    .await;
}
