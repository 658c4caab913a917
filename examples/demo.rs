//! An AIStore cluster in this process, and a parallel download in order through the real client.
//!
//! `cargo run --release --example demo`
//!
//! The cluster is the stand-in of the tests: it has real sockets and redirects, and the headers of
//! a live AIStore. It limits each connection to `PACE` bytes per second, as object storage does.
//! The example reads an object of 1 GiB over one connection and over several. It compares the
//! digest with the one that the cluster publishes.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use pget_testkit::aistore::{Cluster, ClusterOptions, Fault, Object, Rule};
use xxhash_rust::xxh64::Xxh64;

const SIZE: u64 = 1 << 30;
const CONNECTIONS: u32 = 8;
/// Rate of one connection in bytes per second. S3 has about this rate.
const PACE: u64 = 90 << 20;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    println!(
        "a cluster in this process: one proxy, two targets, {} MiB/s a connection",
        PACE >> 20
    );
    let cluster = Cluster::start(ClusterOptions::default()).await;
    cluster.put("demo", "checkpoint", Object::repeated(7, SIZE));
    cluster.inject(Rule::new(Fault::Pace { rate: PACE }).at_targets().times(u64::MAX));

    let single = read(&cluster, 1).await?;
    let parallel = read(&cluster, CONNECTIONS).await?;
    println!(
        "1 GiB, digest right both times: 1 connection {:.2} s ({:.0} MiB/s), {CONNECTIONS} connections in order {:.2} s ({:.0} MiB/s), {:.1} times as fast",
        single.as_secs_f64(),
        rate(single),
        parallel.as_secs_f64(),
        rate(parallel),
        single.as_secs_f64() / parallel.as_secs_f64(),
    );
    Ok(())
}

/// Reads the object in order and checks its digest.
async fn read(cluster: &Cluster, connections: u32) -> Result<Duration, Failure> {
    let bar = ProgressBar::new(SIZE).with_message(format!("{connections} connection(s)"));
    bar.set_style(ProgressStyle::with_template(
        "{msg:16} {bar:40} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}",
    )?);
    let began = Instant::now();
    let mut reader = pget::builder("ais://demo/checkpoint")
        .property("ais.endpoint", cluster.endpoint())
        .concurrency(connections)
        .object()?
        .reader()
        .await?;
    // AIStore's default checksum is XXH64 as 16 hex digits.
    let mut digest = Xxh64::new(0);
    let mut length = 0;
    while let Some(lease) = reader.next().await? {
        digest.update(&lease);
        length += lease.len() as u64;
        bar.set_position(length);
    }
    let took = began.elapsed();
    bar.finish();
    let published = reader
        .info()
        .await?
        .revision
        .checksum
        .ok_or("the cluster published no checksum")?;
    if length != SIZE || format!("{:016x}", digest.digest()) != published.value {
        return Err("the bytes are wrong".into());
    }
    Ok(took)
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn rate(took: Duration) -> f64 {
    (SIZE >> 20) as f64 / took.as_secs_f64()
}
