//! Functions that the tests of `S3Source` share.

use std::{sync::Arc, time::Duration};

use pget_core::{Download, Error, Options};
use pget_http::{Client, ClientOptions, ProxyChoice};
use pget_s3::{S3Source, Settings};
use pget_testkit::content::Pattern;

/// Part of every secret of these tests. No text may show it.
pub(crate) const CANARY: &str = "canary";

/// Runs `work`, and fails if it takes longer than a test may.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), work)
        .await
        .expect("it must end")
}

pub(crate) fn client() -> Client {
    let mut options = ClientOptions::default();
    options.proxy = ProxyChoice::None;
    Client::new(&options).expect("a client")
}

pub(crate) fn open(address: &str, settings: &Settings) -> Arc<S3Source> {
    let source = S3Source::open(address, settings, client());
    Arc::new(source.unwrap_or_else(|error| panic!("{address}: {}", error.to_line())))
}

pub(crate) fn options(chunk: u64, concurrency: u32) -> Options {
    let mut options = Options::default();
    options.chunk_size = Some(chunk);
    options.concurrency = Some(concurrency);
    options.retries = Some(2);
    options
}

pub(crate) async fn read(source: Arc<S3Source>, options: Options) -> Result<Vec<u8>, Error> {
    let mut reader = Download::new(source, options)?.reader();
    let mut bytes = Vec::new();
    while let Some(lease) = reader.next().await? {
        bytes.extend_from_slice(&lease);
    }
    Ok(bytes)
}

pub(crate) fn check(bytes: &[u8], pattern: Pattern, size: u64) {
    assert_eq!(bytes.len() as u64, size);
    assert_eq!(pattern.check(0, bytes), Ok(()));
}

/// Returns all texts of an error, which must not contain a secret.
pub(crate) fn texts(error: &Error) -> String {
    let text = format!("{error} {error:?} {error:#?} {}", error.to_line());
    assert!(!text.to_ascii_lowercase().contains(CANARY), "{text}");
    assert!(
        !text.contains("X-Amz-Signature=") && !text.contains("sig="),
        "{text}"
    );
    text
}
