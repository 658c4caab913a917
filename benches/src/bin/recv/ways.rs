//! The compared ways to receive an object.
//!
//! Each way receives every byte. Each except the bare loop also writes the bytes in order to
//! `/dev/null`.

use std::{
    error::Error,
    fs::File,
    io::{self, Write as _},
    sync::{Arc, Mutex},
    time::Instant,
};

use clap::ValueEnum;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::HeaderMap;
use pget_bench::{Cost, bare::in_parallel};
use pget_core::{Download, Options};
use pget_http::{Client, ClientOptions, HttpSource};
use tokio::runtime::{Builder, Runtime};

use crate::Args;

type Failure = Box<dyn Error + Send + Sync>;

/// A way to receive an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// Threads that block in `recv`. Each receives into a reused buffer of one range.
    Bare,
    /// The download over the HTTP source.
    Pget,
    /// `bytes_stream` of reqwest, copied into reused buffers of one range each, and put in order.
    Reqwest,
}

/// All ways, in the order of a round.
pub(crate) const ALL: [Way; 3] = [Way::Bare, Way::Pget, Way::Reqwest];
pub(crate) const BARE: usize = 0;
pub(crate) const PGET: usize = 1;
pub(crate) const REQWEST: usize = 2;

impl Way {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Pget => "pget",
            Self::Reqwest => "reqwest",
        }
    }
}

/// Receives the object at `url` in the given way.
pub(crate) fn run(way: Way, url: &str, args: &Args) -> Result<Cost, Box<dyn Error>> {
    let began = Instant::now();
    let moved = match way {
        Way::Bare => bare(url, args),
        Way::Pget => pget(url, args),
        Way::Reqwest => reqwest(url, args),
    };
    let moved = moved.map_err(|error| error.to_string())?;
    Ok(Cost::of_this_process(moved, began.elapsed().as_secs_f64())?)
}

fn runtime(args: &Args) -> Result<Runtime, Failure> {
    let mut builder = if args.workers == 1 {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    Ok(builder.worker_threads(args.workers).enable_all().build()?)
}

fn bare(url: &str, args: &Args) -> Result<u64, Failure> {
    let (size, chunk) = (args.mib << 20, args.chunk_kib << 10);
    let received = in_parallel(url, size, chunk, args.concurrency, |connection, ranges| {
        let mut buffer = vec![0; usize::try_from(chunk).map_err(io::Error::other)?];
        for range in ranges {
            let first = connection.ask(&range)?.len();
            let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
            connection.fill(&mut buffer[first..length])?;
        }
        Ok(())
    });
    Ok(received?)
}

fn pget(url: &str, args: &Args) -> Result<u64, Failure> {
    let client = Client::new(&ClientOptions::default())?;
    let source = Arc::new(HttpSource::new(client, url, HeaderMap::new())?);
    let mut options = Options::default();
    options.chunk_size = Some(args.chunk_kib << 10);
    options.concurrency = Some(args.concurrency);
    options.window = args.window;
    let download = Download::new(source, options)?;
    let mut sink = File::create("/dev/null")?;
    runtime(args)?.block_on(async {
        let mut reader = download.reader();
        let mut moved = 0;
        while let Some(lease) = reader.next().await? {
            sink.write_all(&lease)?;
            moved += lease.len() as u64;
        }
        Ok(moved)
    })
}

fn reqwest(url: &str, args: &Args) -> Result<u64, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .build()?;
    let (size, chunk) = (args.mib << 20, args.chunk_kib << 10);
    let pool: Mutex<Vec<Vec<u8>>> = Mutex::default();
    let pool = &pool;
    let mut sink = File::create("/dev/null")?;
    let connections = usize::try_from(args.concurrency)?;
    runtime(args)?.block_on(async {
        let starts = (0..size.div_ceil(chunk)).map(|index| index * chunk);
        let fetches = starts.map(|start| {
            let end = size.min(start + chunk);
            let request = client
                .get(url)
                .header("range", format!("bytes={start}-{}", end - 1));
            async move {
                let mut buffer = pool
                    .lock()
                    .ok()
                    .and_then(|mut pool| pool.pop())
                    .unwrap_or_default();
                buffer.clear();
                let mut body = request.send().await?.error_for_status()?.bytes_stream();
                while let Some(piece) = body.try_next().await? {
                    buffer.extend_from_slice(&piece);
                }
                Ok::<_, Failure>(buffer)
            }
        });
        let mut moved = 0;
        let mut ready = stream::iter(fetches).buffered(connections);
        while let Some(buffer) = ready.try_next().await? {
            sink.write_all(&buffer)?;
            moved += buffer.len() as u64;
            if let Ok(mut pool) = pool.lock() {
                pool.push(buffer);
            }
        }
        Ok(moved)
    })
}
