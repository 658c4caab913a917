//! The conformance suite over the stand-in or a real cluster, for each kind of bucket.

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use pget_core::RangeSource;
use pget_testkit::{aistore::ClusterOptions, conformance, content::Pattern};
use support::{Place, cluster, standin};

struct Fixture {
    place: Place,
    bucket: &'static str,
    checksum: Option<&'static str>,
    prefix: String,
}

impl Fixture {
    fn new(place: Place, bucket: &'static str, checksum: Option<&'static str>) -> Self {
        let prefix = support::unique("conformance");
        Self {
            place,
            bucket,
            checksum,
            prefix,
        }
    }

    fn address(&self, name: &str) -> String {
        format!("ais://{}/{}/{name}", self.bucket, self.prefix)
    }
}

#[async_trait]
impl conformance::Fixture for Fixture {
    async fn put(&self, name: &str, pattern: Pattern, size: u64) -> Arc<dyn RangeSource> {
        let bytes = support::bytes(pattern.seed, size);
        let object = format!("{}/{name}", self.prefix);
        self.place
            .put_in(self.bucket, self.checksum, &object, &bytes)
            .await;
        self.place.open(&self.address(name), &[])
    }

    async fn missing(&self) -> Arc<dyn RangeSource> {
        self.place.open(&self.address("missing"), &[])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let place = cluster().await;
    conformance::run(&Fixture::new(place, support::BUCKET, None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_where_checksums_are_of_ranges() {
    let checksum = r#"{"type":"xxhash2","enable_read_range":true}"#;
    conformance::run(&Fixture::new(cluster().await, "pget-test-ranges", Some(checksum))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_without_checksums() {
    let checksum = r#"{"type":"none"}"#;
    conformance::run(&Fixture::new(cluster().await, "pget-test-none", Some(checksum))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_to_a_signing_cluster_with_two_interfaces() {
    let options = ClusterOptions {
        signing: true,
        interfaces: 2,
        reencode_queries: true,
        ..ClusterOptions::default()
    };
    conformance::run(&Fixture::new(standin(options).await, support::BUCKET, None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_to_servers_before_4_1() {
    let options = ClusterOptions {
        before_4_1: true,
        ..ClusterOptions::default()
    };
    conformance::run(&Fixture::new(standin(options).await, support::BUCKET, None)).await;
}
