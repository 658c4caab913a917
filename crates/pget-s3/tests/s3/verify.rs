//! Compares the bytes with the checksum that a store publishes.
//!
//! versitygw computes its own checksums, and a test can change its files unnoticed. Scripted
//! answers imitate those of AWS and GCS that no installed server produces.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use pget_core::{
    Download, Error, ErrorKind, Options, RangeSource, Stats, Verification, Verify,
    verify::{Algorithm, Hasher},
};
use pget_s3::{S3Source, Settings};
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, When},
    servers::{Versitygw, VersitygwOptions, require},
};

use super::common::{open, options, within};

const CHUNK: u64 = 32 << 10;
const SIZE: u64 = 20 * CHUNK + 5;
const PATTERN: Pattern = Pattern::new(71);

/// Reads in order and into memory. Both must have the same result.
async fn read(source: &Arc<S3Source>, options: Options) -> Result<Stats, Error> {
    let source: Arc<dyn RangeSource> = source.clone();
    let download = Download::new(source, options).expect("the options are right");
    let mut reader = download.reader();
    let mut bytes = 0;
    let result = within(async {
        while let Some(lease) = reader.next().await? {
            bytes += lease.len() as u64;
        }
        Ok::<_, Error>(())
    })
    .await;
    let size = usize::try_from(SIZE).expect("small");
    let (placed, _) = within(download.read_into(vec![0_u8; size])).await;
    assert_eq!(
        placed.as_ref().map(|_| ()).map_err(Error::kind),
        result.as_ref().copied().map_err(Error::kind),
        "in order and in memory it is the same"
    );
    if result
        .as_ref()
        .is_err_and(|error| error.kind() == ErrorKind::Checksum)
    {
        assert!(bytes < SIZE, "the last bytes are kept back");
    }
    result.map(|()| reader.stats())
}

fn required(concurrency: u32) -> Options {
    let mut options = options(CHUNK, concurrency);
    options.verify = Verify::Require;
    options
}

fn base64(algorithm: Algorithm, bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    BASE64_STANDARD.encode(hasher.finish().bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_97_a_full_object_checksum_is_verified_and_damage_behind_the_server_is_found() {
    let Some(server) = require(Versitygw::start(VersitygwOptions::default())) else {
        return;
    };
    let endpoint = server.endpoint().clone();
    let settings = Settings::new()
        .property("aws.endpoint", endpoint.url())
        .property("aws.access_key_id", endpoint.access_key())
        .property("aws.secret_access_key", endpoint.secret_key());
    let bytes = PATTERN.bytes(0, usize::try_from(SIZE).expect("small"));
    for (algorithm, name) in [
        (Algorithm::Crc32, "x-amz-checksum-crc32"),
        (Algorithm::Crc32c, "x-amz-checksum-crc32c"),
        (Algorithm::Crc64Nvme, "x-amz-checksum-crc64nvme"),
        (Algorithm::Sha1, "x-amz-checksum-sha1"),
        (Algorithm::Sha256, "x-amz-checksum-sha256"),
        // The server computes a checksum of its own, as S3 does.
        (Algorithm::Crc64Nvme, ""),
    ] {
        let key = format!("{algorithm}{name}");
        let value = base64(algorithm, &bytes);
        let (to, put, data) = (endpoint.clone(), key.clone(), bytes.clone());
        tokio::task::spawn_blocking(move || {
            let headers = [(name, value.as_str())];
            to.put_with(&put, &data, if name.is_empty() { &[] } else { &headers })
        })
        .await
        .expect("no panic")
        .expect("put");
        let source = open(&format!("s3://{}/{key}", endpoint.bucket()), &settings);
        for concurrency in [1, 4, 16] {
            let stats = read(&source, options(CHUNK, concurrency)).await;
            let stats = stats.unwrap_or_else(|error| panic!("{key}: {}", error.to_line()));
            assert_eq!(stats.verification, Verification::Verified(algorithm));
            let stats = read(&source, required(concurrency)).await;
            let stats = stats.unwrap_or_else(|error| panic!("{key}: {}", error.to_line()));
            assert_eq!(stats.verification, Verification::Verified(algorithm));
        }
        let file = server.bucket_folder().join(&key);
        for (at, concurrency) in [(0, 1), (SIZE / 2, 4), (SIZE - 1, 16)] {
            let mut damaged = bytes.clone();
            damaged[usize::try_from(at).expect("small")] ^= 0x10;
            // Write in place, because the server keeps ETag and checksum in attributes of the file.
            std::fs::write(&file, &damaged).expect("written");
            let error = read(&source, required(concurrency)).await.expect_err("damaged");
            assert_eq!(error.kind(), ErrorKind::Checksum, "{key}: {}", error.to_line());
            let mut off = options(CHUNK, concurrency);
            off.verify = Verify::Off;
            let stats = read(&source, off).await.expect("nothing is verified");
            assert_eq!(stats.verification, Verification::Off);
        }
    }
}

#[tokio::test]
async fn an_etag_that_is_an_md5_serves_who_requires_verification() {
    let bytes = PATTERN.bytes(0, usize::try_from(SIZE).expect("small"));
    let mut hasher = Hasher::new(Algorithm::Md5);
    hasher.update(&bytes);
    let right = hasher.finish().to_hex();
    for (etag, verified) in [
        (right.as_str(), true),
        ("00000000000000000000000000000000", false),
    ] {
        let server = Hostile::start().expect("a server");
        let mut object = Object::new(71, SIZE);
        object.etag = Some(format!("\"{etag}\""));
        server.route("/bucket/k", Route::new(object));
        let source = amazon(&server);
        for concurrency in [1, 4, 16] {
            let stats = read(&source, options(CHUNK, concurrency))
                .await
                .expect("it is read");
            assert_eq!(stats.verification, Verification::Unpublished);
            match read(&source, required(concurrency)).await {
                Ok(stats) => {
                    assert!(verified && stats.verification == Verification::Verified(Algorithm::Md5))
                }
                Err(error) => assert!(
                    !verified && error.kind() == ErrorKind::Checksum,
                    "{}",
                    error.to_line()
                ),
            }
        }
    }
}

fn serve(headers: &[(&str, &str)]) -> Hostile {
    let server = Hostile::start().expect("a server");
    let mut object = Object::new(71, SIZE);
    for (name, value) in headers {
        object.headers.push(((*name).to_owned(), (*value).to_owned()));
    }
    server.route("/bucket/k", Route::new(object));
    server
}

fn amazon(server: &Hostile) -> Arc<S3Source> {
    let settings = Settings::new()
        .property("aws.endpoint", server.url(""))
        .property("aws.access_key_id", "keyid")
        .property("aws.secret_access_key", "canary");
    open("s3://bucket/k", &settings)
}

#[tokio::test]
async fn case_99_a_composite_checksum_is_named_and_not_verified() {
    for headers in [
        &[
            ("x-amz-checksum-crc32c", "4waSgw=="),
            ("x-amz-checksum-type", "COMPOSITE"),
        ][..],
        &[("x-amz-checksum-crc32c", "4waSgw==-2")][..],
    ] {
        let server = serve(headers);
        let source = amazon(&server);
        let stats = read(&source, options(CHUNK, 4))
            .await
            .expect("it is no checksum of the bytes");
        assert_eq!(stats.verification, Verification::Composite(Algorithm::Crc32c));
        let error = read(&source, required(4)).await.expect_err("required");
        assert_eq!(error.kind(), ErrorKind::Unverifiable);
        assert!(error.to_line().contains("composite"), "{}", error.to_line());
    }
}

#[tokio::test]
async fn case_98_an_etag_of_parts_or_of_an_encrypted_object_is_no_md5() {
    let md5 = "\"00000000000000000000000000000000\"";
    for (etag, more) in [
        ("\"00000000000000000000000000000000-3\"", None),
        (md5, Some(("x-amz-server-side-encryption", "aws:kms"))),
        (
            md5,
            Some(("x-amz-server-side-encryption-customer-algorithm", "AES256")),
        ),
    ] {
        let server = Hostile::start().expect("a server");
        let mut object = Object::new(71, SIZE);
        object.etag = Some(etag.to_owned());
        object
            .headers
            .extend(more.map(|(name, value)| (name.to_owned(), value.to_owned())));
        server.route("/bucket/k", Route::new(object));
        let source = amazon(&server);
        let stats = read(&source, options(CHUNK, 4)).await.expect("it is read");
        assert_eq!(stats.verification, Verification::Unpublished);
        let error = read(&source, required(4))
            .await
            .expect_err("there is nothing to verify by");
        assert!(
            error.to_line().contains("no checksum of a known kind"),
            "{}",
            error.to_line()
        );
    }
}

#[tokio::test]
async fn the_checksum_is_asked_for_once_by_a_signed_head_and_not_for_a_part() {
    let value = base64(
        Algorithm::Crc64Nvme,
        &PATTERN.bytes(0, usize::try_from(SIZE).expect("small")),
    );
    let server = serve(&[("x-amz-checksum-crc64nvme", &value)]);
    let source = amazon(&server);
    let heads = || {
        let seen = server.requests("/bucket/k");
        seen.into_iter()
            .filter(|seen| seen.method == "HEAD")
            .collect::<Vec<_>>()
    };
    let download = Download::new(source.clone(), options(CHUNK, 4)).expect("right");
    let mut reader = download.reader();
    while within(reader.next()).await.expect("it is read").is_some() {}
    let asked = heads();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("x-amz-checksum-mode"), Some("ENABLED"));
    let signature = asked[0].header("authorization").expect("signed");
    assert!(signature.contains("x-amz-checksum-mode"), "it is signed, too");
    let mut part = options(CHUNK, 4);
    part.offset = 5;
    let mut off = options(CHUNK, 4);
    off.verify = Verify::Off;
    for options in [part, off] {
        let mut reader = Download::new(source.clone(), options).expect("right").reader();
        while within(reader.next()).await.expect("it is read").is_some() {}
    }
    assert_eq!(heads().len(), 1);
}

/// The server answers GETs immediately. With required verification, the read is refused. Without
/// it, the read succeeds, even if the deadline is shorter than the first wait for HEAD.
#[tokio::test]
async fn a_head_that_hangs_costs_the_checksum_and_not_the_read() {
    let server = Hostile::start().expect("a server");
    let route = Route::new(Object::new(71, SIZE)).fault(When::Head, Fault::StallBeforeHead);
    server.route("/bucket/k", route);
    let source = amazon(&server);
    for (first_byte, retries) in [(3000, 2), (800, 10)] {
        let mut auto = options(CHUNK, 4);
        auto.deadlines.first_byte = Duration::from_millis(first_byte);
        auto.retries = Some(retries);
        let bytes = within(super::common::read(source.clone(), auto.clone())).await;
        let bytes = bytes.unwrap_or_else(|error| panic!("{first_byte}: {}", error.to_line()));
        super::common::check(&bytes, PATTERN, SIZE);
        let stats = read(&source, auto).await.expect("in memory, too");
        assert_eq!(stats.verification, Verification::Unpublished);
    }
    for first_byte in [30_000, 800] {
        let mut required = required(4);
        required.deadlines.first_byte = Duration::from_millis(first_byte);
        required.retries = Some(1);
        let mut reader = Download::new(source.clone(), required).expect("right").reader();
        let error = within(reader.next())
            .await
            .expect_err("there is nothing to verify by");
        let expected = if first_byte > 5000 {
            ErrorKind::Unverifiable
        } else {
            ErrorKind::Timeout
        };
        assert_eq!(error.kind(), expected, "{}", error.to_line());
    }
}

#[tokio::test]
async fn gcs_says_its_crc32c_with_every_answer() {
    let bytes = PATTERN.bytes(0, usize::try_from(SIZE).expect("small"));
    for (damage, expected) in [(0, Ok(())), (1, Err(ErrorKind::Checksum))] {
        let mut told = bytes.clone();
        told[77_777] ^= damage;
        let crc = base64(Algorithm::Crc32c, &told);
        let hash = format!("crc32c={crc},md5={}", base64(Algorithm::Md5, b""));
        let server = serve(&[("x-goog-hash", &hash), ("x-goog-generation", "7")]);
        let settings = Settings::new()
            .property("google.base_url", server.url(""))
            .property("google.skip_signature", "true");
        let source = open("gs://bucket/k", &settings);
        for concurrency in [1, 4, 16] {
            let result = read(&source, options(CHUNK, concurrency)).await;
            if let Ok(stats) = &result {
                assert_eq!(stats.verification, Verification::Verified(Algorithm::Crc32c));
            }
            assert_eq!(result.map(drop).map_err(|error| error.kind()), expected);
        }
        assert!(
            server
                .requests("/bucket/k")
                .iter()
                .all(|seen| seen.method == "GET")
        );
    }
}
