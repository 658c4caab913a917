//! Reads under a writer: case 40 and similar ones, on servers that check conditions and on one that
//! does not.

use std::sync::Arc;

use pget_core::RangeSource;
use pget_testkit::{
    modes::{Relay, reads_under_a_writer},
    servers::{Gofakes3, S3Endpoint, Versitygw, VersitygwOptions, require},
};

use super::{
    common::options,
    real::{put, source},
};

const CHUNK: u64 = 64 << 10;
const SIZE: u64 = 16 * CHUNK + 3;

/// Reads an object under a writer. Only the relay's record of a wrong label excuses a read of two
/// revisions.
///
/// versitygw 1.8.0 checks the ETag before it opens the file. If an overwrite happens between the
/// two, it sends the old ETag and the new bytes. boto3 met that once in 13,066 ranged GETs with
/// eight readers.
async fn under_a_writer(endpoint: &S3Endpoint, each: u64) {
    let open = async || {
        let relay = Relay::before(endpoint.address()).await.expect("a port");
        let source: Arc<dyn RangeSource> = source(&endpoint.behind(relay.address()), "written");
        (source, Some(relay))
    };
    let write = async |pattern| put(endpoint, "written", pattern, SIZE).await;
    let tally = reads_under_a_writer(open, &options(CHUNK, 4), SIZE, each, write).await;
    assert!(tally.answers > tally.complete, "the relays saw {tally}");
    println!("{each} reads in every mode: {tally}");
}

async fn on_versitygw(each: u64) {
    if let Some(server) = require(Versitygw::start(VersitygwOptions::default())) {
        under_a_writer(server.endpoint(), each).await;
    }
}

async fn on_gofakes3(each: u64) {
    if let Some(server) = require(Gofakes3::start()) {
        under_a_writer(server.endpoint(), each).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_under_a_writer_where_conditions_work() {
    on_versitygw(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_under_a_writer_where_conditions_are_ignored() {
    on_gofakes3(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a thousand reads in every mode, minutes: `cargo test --release -p pget-s3 a_thousand -- --ignored --nocapture`"]
async fn a_thousand_reads_under_a_writer_where_conditions_work() {
    on_versitygw(1000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a thousand reads in every mode, minutes: `cargo test --release -p pget-s3 a_thousand -- --ignored --nocapture`"]
async fn a_thousand_reads_under_a_writer_where_conditions_are_ignored() {
    on_gofakes3(1000).await;
}
