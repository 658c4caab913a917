//! Reads through `HttpStore` and through `PgetStore` of it, from a server that answers after 20 ms
//! and sends 50 MB/s a connection. Prints seconds and the most memory that each took.
//!
//! `cargo run -p pget-object-store --example far [MEGABYTES]` (256): each case runs in a process of
//! its own. The reads are those of an engine: a whole object in order (CSV), and sixteen
//! column chunks of one object at once (Parquet).

use std::{error::Error, ops::Range, process::Command, time::Instant};

use futures_util::TryStreamExt as _;
use pget_object_store::v0_14::{
    PgetStore,
    object_store::{ClientOptions, ObjectStore, ObjectStoreExt as _, http::HttpBuilder, path::Path},
};
use pget_testkit::shaped::{Network, Shaped};

const MB: u64 = 1_000_000;
/// Column chunks, and what lies between the beginnings of two.
const CHUNKS: u64 = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run", store, case, size, url] => run(store, case, size.parse()?, url),
        [] => compare(256 * MB),
        [megabytes] => compare(megabytes.parse::<u64>()? * MB),
        _ => Err("usage: far [MEGABYTES]".into()),
    }
}

fn compare(size: u64) -> Result<(), Box<dyn Error>> {
    let mut network = Network::unshaped();
    network.set_all("latency=20ms")?;
    network.set_all("rate=50MB")?;
    let server = Shaped::start(network)?;
    let url = format!("http://{}", server.address());
    println!(
        "| {} MB | store | seconds | peak memory, MB |\n|---|---|---|---|",
        size / MB
    );
    for case in ["whole", "chunks"] {
        for store in ["bare", "PgetStore"] {
            let output = Command::new(std::env::current_exe()?)
                .args(["run", store, case, &size.to_string(), &url])
                .output()?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into());
            }
            print!("| {case} | {store} | {}", String::from_utf8(output.stdout)?);
        }
    }
    Ok(())
}

fn run(store: &str, case: &str, size: u64, url: &str) -> Result<(), Box<dyn Error>> {
    // Another part of the process may have set it, which is as good.
    rustls::crypto::ring::default_provider().install_default().ok();
    let bare = HttpBuilder::new()
        .with_url(url)
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .build()?;
    let path = Path::from(size.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let began = Instant::now();
    let bytes = match store {
        "bare" => runtime.block_on(read(&bare, case, size, &path))?,
        _ => runtime.block_on(read(&PgetStore::new(bare), case, size, &path))?,
    };
    let seconds = began.elapsed().as_secs_f64();
    let expected = if case == "whole" { size } else { size / 2 };
    if bytes.abs_diff(expected) >= CHUNKS {
        return Err(format!("{bytes} bytes came, not {expected}").into());
    }
    println!("{seconds:.2} | {} |", peak_mb()?);
    Ok(())
}

async fn read(store: &dyn ObjectStore, case: &str, size: u64, path: &Path) -> Result<u64, Box<dyn Error>> {
    if case == "whole" {
        let stream = store.get(path).await?.into_stream();
        let count = stream.try_fold(0, async |count, bytes| Ok(count + bytes.len() as u64));
        return Ok(count.await?);
    }
    // Every other part of the object is a chunk that is wanted.
    let step = size / CHUNKS;
    let chunk = |number: u64| number * step..number * step + step / 2;
    let ranges: Vec<Range<u64>> = (0..CHUNKS).map(chunk).collect();
    let read = store.get_ranges(path, &ranges).await?;
    Ok(read.iter().map(|bytes| bytes.len() as u64).sum())
}

/// The most memory that this process has had.
fn peak_mb() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(kilobytes.ok_or("no peak in /proc/self/status")? / 1000)
}
