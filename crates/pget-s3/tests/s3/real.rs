//! `S3Source` against S3 servers: versitygw checks signatures and conditions, gofakes3 checks
//! neither.

use std::sync::Arc;

use super::common::{check, client, open, options, read, texts, within};
use async_trait::async_trait;
use pget_core::{Download, ErrorKind, RangeSource};
use pget_s3::{S3Source, Settings};
use pget_testkit::{
    conformance::{self, Fixture},
    content::Pattern,
    servers::{Gofakes3, S3Endpoint, Versitygw, VersitygwOptions, require},
};

const MIB: u64 = 1 << 20;
const CHUNK: u64 = MIB;
const OLD: Pattern = Pattern::new(41);
const NEW: Pattern = Pattern::new(42);

pub(super) fn settings(endpoint: &S3Endpoint) -> Settings {
    Settings::new()
        .property("aws.endpoint", endpoint.url())
        .property("aws.region", endpoint.region())
        .property("aws.access_key_id", endpoint.access_key())
        .property("aws.secret_access_key", endpoint.secret_key())
}

fn address(endpoint: &S3Endpoint, key: &str) -> String {
    format!("s3://{}/{key}", endpoint.bucket())
}

pub(super) fn source(endpoint: &S3Endpoint, key: &str) -> Arc<S3Source> {
    open(&address(endpoint, key), &settings(endpoint))
}

/// Runs blocking work on a thread of its own, because the testkit's client blocks.
async fn blocking<T: Send + 'static>(
    endpoint: &S3Endpoint,
    work: impl FnOnce(S3Endpoint) -> T + Send + 'static,
) -> T {
    let endpoint = endpoint.clone();
    tokio::task::spawn_blocking(move || work(endpoint))
        .await
        .expect("it does not panic")
}

pub(super) async fn put(endpoint: &S3Endpoint, key: &str, pattern: Pattern, size: u64) {
    let key = key.to_owned();
    blocking(endpoint, move |endpoint| {
        endpoint.put_pattern(&key, pattern, size)
    })
    .await
    .expect("put");
}

fn versitygw(options: VersitygwOptions) -> Option<Versitygw> {
    require(Versitygw::start(options))
}

struct Bucket(S3Endpoint);

#[async_trait]
impl Fixture for Bucket {
    async fn put(&self, name: &str, pattern: Pattern, size: u64) -> Arc<dyn RangeSource> {
        put(&self.0, name, pattern, size).await;
        source(&self.0, name)
    }

    async fn missing(&self) -> Arc<dyn RangeSource> {
        source(&self.0, "missing")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versitygw_conforms() {
    let Some(server) = versitygw(VersitygwOptions::default()) else {
        return;
    };
    conformance::run(&Bucket(server.endpoint().clone())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gofakes3_conforms() {
    let Some(server) = require(Gofakes3::start()) else {
        return;
    };
    conformance::run(&Bucket(server.endpoint().clone())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_53_sizes_are_exact() {
    let Some(server) = versitygw(VersitygwOptions::default()) else {
        return;
    };
    let endpoint = server.endpoint();
    let part = 5 * MIB;
    for size in [
        0,
        1,
        CHUNK - 1,
        CHUNK,
        CHUNK + 1,
        5 * CHUNK + 3,
        part - 1,
        part,
        part + 1,
        64 * MIB,
    ] {
        put(endpoint, "sized", OLD, size).await;
        let bytes = within(read(source(endpoint, "sized"), options(CHUNK, 4))).await;
        check(
            &bytes.unwrap_or_else(|error| panic!("{size}: {}", error.to_line())),
            OLD,
            size,
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_their_kinds_and_show_no_secret() {
    let Some(server) = versitygw(VersitygwOptions::default()) else {
        return;
    };
    let endpoint = server.endpoint();
    put(endpoint, "k", OLD, 10).await;
    let wrong_secret = settings(endpoint).property("aws.secret_access_key", "canary-secret");
    let wrong_key = settings(endpoint).property("aws.access_key_id", "canary-key");
    let nobody = settings(endpoint).property("aws.skip_signature", "true");
    let right = settings(endpoint);
    for (key, settings, kind) in [
        ("s3://bucket/k", &wrong_secret, ErrorKind::PermissionDenied),
        ("s3://bucket/k", &wrong_key, ErrorKind::PermissionDenied),
        ("s3://bucket/k", &nobody, ErrorKind::PermissionDenied),
        ("s3://bucket/missing", &right, ErrorKind::NotFound),
        ("s3://no-such-bucket/k", &right, ErrorKind::NotFound),
    ] {
        let source = open(key, settings);
        assert!(!format!("{source:?} {settings:?}").contains("canary"));
        assert_eq!(source.name(), key);
        let head = within(source.head()).await.expect_err("no head either");
        assert_eq!(head.kind(), kind, "{key}: {head}");
        let error = within(read(source, options(CHUNK, 4)))
            .await
            .expect_err("it is refused");
        assert_eq!(error.kind(), kind, "{key}: {}", error.to_line());
        let text = texts(&error);
        assert!(text.contains(key), "{text}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Overwrite,
    Delete,
    Recreate,
    Shrink,
}

/// Reads the first chunk, changes the object, and reads on.
///
/// No other chunk was requested before the change.
async fn change_while_reading(endpoint: &S3Endpoint, change: Change) -> Result<Vec<u8>, pget_core::Error> {
    let key = format!("changing-{change:?}");
    let size = 20 * CHUNK;
    put(endpoint, &key, OLD, size).await;
    let mut options = options(CHUNK, 2);
    options.window = Some(1);
    let mut reader = Download::new(source(endpoint, &key), options)
        .expect("options")
        .reader();
    let first = reader
        .next()
        .await
        .expect("the first bytes")
        .expect("there are some");
    let mut bytes = first.to_vec();
    drop(first);
    match change {
        Change::Overwrite => put(endpoint, &key, NEW, size).await,
        Change::Shrink => put(endpoint, &key, NEW, 1).await,
        Change::Delete | Change::Recreate => {
            let gone = key.clone();
            blocking(endpoint, move |endpoint| endpoint.delete(&gone))
                .await
                .expect("delete");
            if let Change::Recreate = change {
                put(endpoint, &key, OLD, size).await;
            }
        }
    }
    while let Some(lease) = reader.next().await? {
        bytes.extend_from_slice(&lease);
        // All bytes before the error are those of the old object.
        assert_eq!(OLD.check(0, &bytes), Ok(()), "{change:?}");
    }
    Ok(bytes)
}

async fn changes_are_noticed(endpoint: &S3Endpoint) {
    // The changes are cases 39, 40, 47 and 45.
    for change in [Change::Overwrite, Change::Shrink, Change::Delete] {
        let error = within(change_while_reading(endpoint, change))
            .await
            .expect_err("it changed");
        assert_eq!(
            error.kind(),
            ErrorKind::ObjectChanged,
            "{change:?}: {}",
            error.to_line()
        );
    }
    // Case 46: the same bytes have the same ETag.
    let bytes = within(change_while_reading(endpoint, Change::Recreate))
        .await
        .expect("it is the same");
    check(&bytes, OLD, 20 * CHUNK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_noticed_where_conditions_work() {
    let Some(server) = versitygw(VersitygwOptions::default()) else {
        return;
    };
    changes_are_noticed(server.endpoint()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_noticed_where_conditions_are_ignored() {
    let Some(server) = require(Gofakes3::start()) else {
        return;
    };
    changes_are_noticed(server.endpoint()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_bucket_is_read_without_a_signature() {
    let Some(server) = versitygw(VersitygwOptions {
        anonymous: true,
        ..VersitygwOptions::default()
    }) else {
        return;
    };
    let endpoint = server.endpoint();
    let settings = Settings::new()
        .property("aws.endpoint", endpoint.url())
        .property("aws.skip_signature", "true");
    put(endpoint, "open", OLD, 3 * CHUNK).await;
    let bytes = within(read(open("s3://bucket/open", &settings), options(CHUNK, 4))).await;
    check(
        &bytes.unwrap_or_else(|error| panic!("{}", error.to_line())),
        OLD,
        3 * CHUNK,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_stay_readable_and_are_told() {
    let Some(server) = versitygw(VersitygwOptions {
        versioning: true,
        ..VersitygwOptions::default()
    }) else {
        return;
    };
    let endpoint = server.endpoint();
    put(endpoint, "k", OLD, 3 * CHUNK).await;
    let info = within(source(endpoint, "k").head()).await.expect("head");
    let version = info.revision.version.expect("a version");
    put(endpoint, "k", NEW, 2 * CHUNK).await;
    let latest = within(read(source(endpoint, "k"), options(CHUNK, 4)))
        .await
        .expect("the latest");
    check(&latest, NEW, 2 * CHUNK);
    let key = format!("k?versionId={version}");
    let old = within(read(source(endpoint, &key), options(CHUNK, 4))).await;
    check(
        &old.unwrap_or_else(|error| panic!("{}", error.to_line())),
        OLD,
        3 * CHUNK,
    );
}

/// Keys that versitygw can store in its files. `addresses.rs` sends the others to the misbehaving
/// server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_66_keys_are_sent_byte_for_byte() {
    let Some(server) = versitygw(VersitygwOptions::default()) else {
        return;
    };
    let endpoint = server.endpoint();
    // Each key as in an address, and encoded according to SigV4 for the testkit's client.
    for (number, (given, encoded)) in [
        ("a+b c", "a%2Bb%20c"),
        ("%2541", "%2541"),
        ("A", "A"),
        ("what%3Fis#this&that=1", "what%3Fis%23this%26that%3D1"),
        ("ä/€/𝄞", "%C3%A4/%E2%82%AC/%F0%9D%84%9E"),
        ("(paren)*'!~@$,;:", "%28paren%29%2A%27%21~%40%24%2C%3B%3A"),
        ("..a/.b/c..", "..a/.b/c.."),
    ]
    .into_iter()
    .enumerate()
    {
        let pattern = Pattern::new(100 + number as u64);
        put(endpoint, encoded, pattern, 1000).await;
        let bytes = within(read(source(endpoint, given), options(CHUNK, 4))).await;
        check(
            &bytes.unwrap_or_else(|error| panic!("{given}: {}", error.to_line())),
            pattern,
            1000,
        );
    }
}

/// versitygw checks the signature in headers that such keys get, whatever its file system does with
/// the key afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signatures_of_keys_with_empty_parts_are_right() {
    let Some(server) = versitygw(VersitygwOptions::default()) else {
        return;
    };
    let endpoint = server.endpoint();
    put(endpoint, "dir//d%2Bbl%20e", OLD, 3 * CHUNK).await;
    let bytes = within(read(source(endpoint, "dir//d+bl e"), options(CHUNK, 4))).await;
    check(
        &bytes.unwrap_or_else(|error| panic!("{}", error.to_line())),
        OLD,
        3 * CHUNK,
    );
    let wrong = settings(endpoint).property("aws.secret_access_key", "canary");
    let outcome = within(read(open("s3://bucket/dir//d+bl e", &wrong), options(CHUNK, 4))).await;
    let error = outcome.expect_err("the signature is checked");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}", error.to_line());
    texts(&error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_with_empty_parts_are_read_where_the_server_keeps_them() {
    // gofakes3 stores objects in memory under their exact key.
    let Some(server) = require(Gofakes3::start()) else {
        return;
    };
    let endpoint = server.endpoint();
    for (number, key) in ["dir//dbl", "trail/", "dir/dbl"].into_iter().enumerate() {
        put(endpoint, key, Pattern::new(200 + number as u64), 1000).await;
    }
    for (number, key) in ["dir//dbl", "trail/", "dir/dbl"].into_iter().enumerate() {
        let bytes = within(read(source(endpoint, key), options(CHUNK, 4))).await;
        let bytes = bytes.unwrap_or_else(|error| panic!("{key}: {}", error.to_line()));
        check(&bytes, Pattern::new(200 + number as u64), 1000);
        let unsigned = settings(endpoint).property("aws.skip_signature", "true");
        let bytes = within(read(open(&address(endpoint, key), &unsigned), options(CHUNK, 4))).await;
        check(
            &bytes.unwrap_or_else(|error| panic!("{key}: {}", error.to_line())),
            Pattern::new(200 + number as u64),
            1000,
        );
    }
}

#[test]
fn what_cannot_be_used_is_refused_before_anything_is_sent() {
    let settings = Settings::new()
        .property("aws.access_key_id", "a")
        .property("aws.secret_access_key", "canary");
    for (address, settings) in [
        ("s3://bucket/a/../b", settings.clone()),
        (
            "s3://bucket/k",
            settings.clone().property("aws.endpoint", "127.0.0.1:80"),
        ),
        (
            "s3://bucket/k",
            settings
                .clone()
                .property("aws.endpoint", "http://user:canary@host"),
        ),
        ("s3://bucket/k", settings.clone().property("aws.regoin", "canary")),
        (
            "s3://bucket/k",
            settings.clone().property("aws.skip_signature", "perhaps"),
        ),
        (
            "s3://bucket/k",
            settings.clone().property("aws.profile", "nobody-has-it"),
        ),
        (
            "s3://bucket/k",
            Settings::new().property("aws.access_key_id", "canary"),
        ),
        (
            "az://container/k",
            Settings::new()
                .property("azure.storage_account_name", "a/b")
                .property("azure.sas_token", "sig=canary"),
        ),
    ] {
        let error = S3Source::open(address, &settings, client()).expect_err(address);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{}", error.to_line());
        texts(&error);
    }
}
