//! The main job on an embedded default: an AIStore cluster in this process, an object of 1 GiB in it, fetched in parallel and in order through the real client.
//!
//! `cargo run --release --example demo`
//!
//! The cluster is the tests' stand-in: real sockets, redirects, the headers of a live AIStore. As object storage does, it gives one connection only so much:
//! `PACE` bytes a second. The object is read twice, over one connection and over many, and its digest checked both times.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use pget_testkit::aistore::{Cluster, ClusterOptions, Fault, Object, Rule};
use sha2::{Digest, Sha256};

const SIZE: u64 = 1 << 30;
const CONNECTIONS: u32 = 8;
/// Bytes a second for one connection: S3 gives about this much.
const PACE: u64 = 90 << 20;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    println!(
        "a cluster in this process: one proxy, two targets, {} MiB/s a connection",
        PACE >> 20
    );
    let cluster = Cluster::start(ClusterOptions::default()).await;
    let object = Object::repeated(7, SIZE);
    let expected = digest_of(&object);
    cluster.put("demo", "checkpoint", object);
    cluster.inject(Rule::new(Fault::Pace { rate: PACE }).at_targets().times(u64::MAX));

    let single = read(&cluster, 1, &expected).await?;
    let parallel = read(&cluster, CONNECTIONS, &expected).await?;
    println!(
        "1 GiB, sha256 right both times: 1 connection {:.2} s ({:.0} MiB/s), {CONNECTIONS} connections in order {:.2} s ({:.0} MiB/s), {:.1} times as fast",
        single.as_secs_f64(),
        rate(single),
        parallel.as_secs_f64(),
        rate(parallel),
        single.as_secs_f64() / parallel.as_secs_f64(),
    );
    Ok(())
}

/// Reads the object in order and checks its digest.
async fn read(cluster: &Cluster, connections: u32, expected: &[u8]) -> Result<Duration, Failure> {
    let bar = ProgressBar::new(SIZE).with_message(format!("{connections} connection(s)"));
    bar.set_style(ProgressStyle::with_template(
        "{msg:16} {bar:40} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}",
    )?);
    let began = Instant::now();
    let mut reader = pget::builder("ais://demo/checkpoint")
        .property("ais.endpoint", cluster.endpoint())
        .concurrency(connections)
        .open()
        .await?;
    // Hashing has a thread of its own, so that it does not set the pace of the socket's.
    let (leases, received) = std::sync::mpsc::sync_channel::<pget::Lease>(4);
    let hashing = std::thread::spawn(move || {
        let mut hash = Sha256::new();
        received.iter().for_each(|lease| hash.update(&*lease));
        hash.finalize().to_vec()
    });
    while let Some(lease) = reader.next().await? {
        bar.inc(lease.len() as u64);
        tokio::task::block_in_place(|| leases.send(lease))?;
    }
    let took = began.elapsed();
    drop(leases);
    let digest = hashing.join().map_err(|_| "the hashing thread panicked")?;
    bar.finish();
    if digest != expected {
        return Err("the digest is wrong".into());
    }
    Ok(took)
}

fn digest_of(object: &Object) -> Vec<u8> {
    let mut hash = Sha256::new();
    let mut offset = 0;
    while offset < SIZE {
        let piece = object.read(offset, 8 << 20);
        hash.update(&piece);
        offset += piece.len() as u64;
    }
    hash.finalize().to_vec()
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn rate(took: Duration) -> f64 {
    (SIZE >> 20) as f64 / took.as_secs_f64()
}
