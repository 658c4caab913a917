//! Reads under a writer: each read is of a single revision, or reports that the object changed.
//!
//! AIStore ignores conditions, so only the identity in the replies reveals a change. With
//! `AIS_ENDPOINT` set, the tests use that cluster.

mod support;

use pget_testkit::modes::reads_under_a_writer;
use support::{cluster, options, unique};

const CHUNK: u64 = 64 << 10;
const SIZE: u64 = 16 * CHUNK + 3;

async fn under_a_writer(each: u64) {
    let place = cluster().await;
    let name = unique("written");
    let write = async |pattern: pget_testkit::content::Pattern| {
        let bytes = pattern.bytes(0, usize::try_from(SIZE).expect("small"));
        place.put(&name, &bytes).await;
    };
    // Requests pass no relay, so the judge excuses no wrong label of the server.
    let open = async || (place.object(&name), None);
    let tally = reads_under_a_writer(open, &options(CHUNK, 4), SIZE, each, write).await;
    println!("{each} reads in every mode: {tally}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_under_a_writer_of_aistore() {
    under_a_writer(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a thousand reads in every mode, minutes: `cargo test --release -p pget-aistore --test writer -- --ignored --nocapture`"]
async fn a_thousand_reads_under_a_writer_of_aistore() {
    under_a_writer(1000).await;
}
