//! Compares the bytes with the object's checksum, which every answer states: in order and into
//! memory.

mod support;

use pget_core::{Download, Error, ErrorKind, Options, Verification, Verify, verify::Algorithm};
use pget_testkit::aistore::{BucketOptions, ClusterOptions, Fault, Rule};
use support::{options, pattern, standin, within};

const SIZE: u64 = 500_003;
const CHUNK: u64 = 50_000;

fn required(concurrency: u32) -> Options {
    let mut options = options(CHUNK, concurrency);
    options.verify = Verify::Require;
    options
}

/// Case 13: right headers, wrong bytes.
#[tokio::test(flavor = "multi_thread")]
async fn case_13_a_flipped_bit_is_a_checksum_error_wherever_it_is_and_however_it_is_read() {
    let place = standin(ClusterOptions::default()).await;
    for (kind, algorithm) in [
        ("xxhash", Algorithm::Xxh64),
        ("xxhash2", Algorithm::Xxh64),
        ("crc32c", Algorithm::Crc32c),
        ("md5", Algorithm::Md5),
        ("sha256", Algorithm::Sha256),
        ("sha512", Algorithm::Sha512),
    ] {
        let bucket = format!("verify-{kind}");
        let of_kind = BucketOptions::default().checksum(kind);
        place.fake().create_bucket(bucket.as_str(), of_kind);
        place.fake().put(bucket.as_str(), "o", pattern(5, SIZE));
        let source = place.open(&format!("ais://{bucket}/o"), &[]);
        for concurrency in [1, 4, 16] {
            let download = Download::new(source.clone(), required(concurrency)).expect("good options");
            let read = || async {
                let mut reader = download.reader();
                let mut all = 0;
                while let Some(lease) = reader.next().await? {
                    all += lease.len() as u64;
                }
                Ok::<_, Error>((all, reader.stats().verification))
            };
            let placed = || async {
                let buffer = vec![0_u8; usize::try_from(SIZE).expect("small")];
                download.read_into(buffer).await.0
            };
            let right = within(read()).await.expect("it is right");
            assert_eq!(right, (SIZE, Verification::Verified(algorithm)), "{kind}");
            within(placed()).await.expect("it is right");
            for offset in [0, SIZE / 2, SIZE - 1] {
                // The fault affects one answer.
                let flip = || place.fake().inject(Rule::new(Fault::Flip { offset }).object("o"));
                flip();
                let error = within(read()).await.expect_err("a bit is another");
                assert_eq!(error.kind(), ErrorKind::Checksum, "{kind}: {}", error.to_line());
                flip();
                let error = within(placed()).await.expect_err("a bit is another");
                assert_eq!(error.kind(), ErrorKind::Checksum, "{kind}: {}", error.to_line());
                place.fake().clear_rules();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_without_checksums_is_read_and_refused_to_who_requires_them() {
    let place = standin(ClusterOptions::default()).await;
    let nothing = BucketOptions::default().checksum("none");
    place.fake().create_bucket("verify-none", nothing);
    place.fake().put("verify-none", "o", pattern(5, SIZE));
    let source = place.open("ais://verify-none/o", &[]);
    let download = Download::new(source.clone(), options(CHUNK, 4)).expect("good options");
    let mut reader = download.reader();
    while within(reader.next()).await.expect("it is read").is_some() {}
    assert_eq!(reader.stats().verification, Verification::Unpublished);
    let error = support::read(&source, required(4))
        .await
        .expect_err("nothing to verify by");
    assert_eq!(error.kind(), ErrorKind::Unverifiable);
}
