//! A subscriber's view of a download: its span, its requests, a retry and its end, and never a
//! secret.
//!
//! The program has a single test. `tracing` remembers for each place in the code whether there is a
//! subscriber, and asks the first thread that arrives there. With other tests in the program, that
//! could be a thread without a subscriber. The place would then stay silent for this test.

use pget_core::Download;
use pget_s3::Settings;
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, When},
};
use tracing_subscriber::filter::LevelFilter;

#[path = "s3/common.rs"]
mod common;
#[path = "s3/lines.rs"]
mod lines;

use common::{CANARY, check, open, options, read, texts, within};
use lines::Lines;

const CHUNK: u64 = 32 << 10;
const SIZE: u64 = 6 * CHUNK + 5;

#[tokio::test]
async fn a_download_can_be_followed_and_shows_no_secret() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("the only one");
    let server = Hostile::start().expect("a server");
    let busy = Fault::Answer {
        status: 500,
        headers: Vec::new(),
        body: format!("<Error><Code>InternalError</Code><Message>m</Message><StringToSign>{CANARY}</StringToSign></Error>")
            .into_bytes(),
    };
    server.route(
        "/bucket/k",
        Route::new(Object::new(61, SIZE)).fault(When::Nth(3), busy),
    );
    let settings = Settings::new()
        .property("aws.endpoint", server.url(""))
        .property("aws.access_key_id", format!("{CANARY}-key"))
        .property("aws.secret_access_key", format!("{CANARY}-secret"))
        .property("aws.session_token", format!("{CANARY}-token"));
    let source = open("s3://bucket/k", &settings);
    let bytes = within(read(source.clone(), options(CHUNK, 2)))
        .await
        .expect("it is read");
    check(&bytes, Pattern::new(61), SIZE);
    let mut part = options(CHUNK, 2);
    part.offset = SIZE + 1;
    let mut reader = Download::new(source, part).expect("right").reader();
    texts(&within(reader.next()).await.expect_err("past the end"));
    // The driver reports the end to the subscriber after the reader has got it.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    let text = loop {
        let text = lines.text();
        if text.contains("download over") && text.contains("download failed") {
            break text;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "its end is not reported:\n{text}"
        );
        tokio::task::yield_now().await;
    };
    for part in [
        "download{object=s3://bucket/k}",
        "request{start=0 end=32768 attempt=0 chunk=0}",
        "status=206",
        "status=500",
        "request done bytes=32768 milliseconds=",
        "request failed bytes=0 milliseconds=",
        "the rest is asked for again",
        "requests=8 retries=1",
        "verification=unpublished",
        "range not satisfiable",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(!text.to_ascii_lowercase().contains(CANARY), "{text}");
    assert!(!text.contains("X-Amz-Signature"), "{text}");
}
