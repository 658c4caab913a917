//! CPU seconds per GiB of receiving one object over TLS from nginx on loopback.
//!
//! Compares pget with a bare loop on rustls' unbuffered API and with curl. `benches/tls.sh` builds
//! the program and this bench, and measures `pget cat > /dev/null`. Without `--program`, the bench
//! measures the library in a process of its own.
//!
//! The ways run in turn, round after round, each run in a process of its own. The bench prints
//! medians and ratios.

mod bare;

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
    time::Instant,
};

use clap::{Parser, ValueEnum};
use http::HeaderMap;
use pget_bench::{Cost, figure, fill, median};
use pget_core::{Download, Options};
use pget_http::{Client, ClientOptions, HttpSource};
use pget_testkit::servers::{Authority, Nginx, NginxOptions, Validity};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::runtime::Builder;

/// Options of the bench.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds. In each round, every way runs once.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Size of the object in MiB.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// Number of connections. With 0, the programs get no options, and the other ways use four.
    #[arg(long, default_value_t = 4)]
    concurrency: u32,
    /// Bytes per range, in KiB.
    #[arg(long, default_value_t = 8192)]
    chunk_kib: u64,
    /// Threads of the library.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// `pget` programs. The `cat > /dev/null` of each is measured instead of the library.
    #[arg(long)]
    program: Vec<PathBuf>,
    /// Protocol versions of the server, in nginx's syntax.
    #[arg(long, default_value = "TLSv1.3")]
    protocol: String,
    /// Do not measure curl.
    #[arg(long)]
    no_curl: bool,
    /// Run one way and print its cost. The parent process uses this option.
    #[arg(long, hide = true)]
    way: Option<Way>,
    /// URL of the object.
    #[arg(long, hide = true)]
    url: Option<String>,
    /// The authority's certificate.
    #[arg(long, hide = true)]
    authority: Option<PathBuf>,
}

/// A way to receive the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// The bare loop of this bench.
    Bare,
    /// The download over the HTTP source.
    Pget,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match (args.way, &args.url, &args.authority) {
        (Some(way), Some(url), Some(authority)) => {
            run(way, url, authority, &args).map(|cost| println!("{}", cost.to_line()))
        }
        _ => compare(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tls: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(way: Way, url: &str, authority: &Path, args: &Args) -> Result<Cost, Box<dyn Error>> {
    let pem = std::fs::read(authority)?;
    let (size, chunk) = (args.mib << 20, args.chunk_kib << 10);
    let began = Instant::now();
    let moved = match way {
        Way::Bare => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(&pem)?)?;
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
            bare::run(url, size, chunk, args.concurrency, &Arc::new(config))?
        }
        Way::Pget => pget(url, pem, args)?,
    };
    Ok(Cost::of_this_process(moved, began.elapsed().as_secs_f64())?)
}

fn pget(url: &str, authority: Vec<u8>, args: &Args) -> Result<u64, Box<dyn Error>> {
    let mut settings = ClientOptions::default();
    settings.tls.platform_roots = false;
    settings.tls.extra_roots = vec![authority];
    let source = HttpSource::new(Client::new(&settings)?, url, HeaderMap::new())?;
    let mut options = Options::default();
    options.chunk_size = Some(args.chunk_kib << 10);
    options.concurrency = Some(args.concurrency);
    let download = Download::new(Arc::new(source), options)?;
    let mut builder = if args.workers == 1 {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    let runtime = builder.worker_threads(args.workers).enable_all().build()?;
    runtime.block_on(async {
        let mut reader = download.reader();
        let mut moved = 0;
        while let Some(lease) = reader.next().await? {
            moved += lease.len() as u64;
        }
        Ok(moved)
    })
}

fn compare(args: &Args) -> Result<(), Box<dyn Error>> {
    let authority = Authority::new()?;
    let nginx = Nginx::start(&NginxOptions {
        tls: Some(authority.leaf(&["localhost"], Validity::Now)?),
        server: format!("ssl_protocols {};", args.protocol),
        ..NginxOptions::default()
    })?;
    fill(&nginx, args.mib)?;
    let url = nginx.https_url("/object").ok_or("no TLS")?;
    let trusted = nginx.root().join("authority.pem");
    std::fs::write(&trusted, authority.pem())?;
    let bench = std::env::current_exe()?;
    let child = |way: &str| {
        let mut child = Command::new(&bench);
        child
            .args(["--way", way, "--url", &url])
            .arg("--authority")
            .arg(&trusted);
        let connections = if args.concurrency == 0 {
            4
        } else {
            args.concurrency
        };
        child.arg("--concurrency").arg(connections.to_string());
        child.arg("--chunk-kib").arg(args.chunk_kib.to_string());
        child.arg("--mib").arg(args.mib.to_string());
        child.arg("--workers").arg(args.workers.to_string());
        child
    };
    let mut ways = vec![("bare".to_owned(), child("bare"), true)];
    if args.program.is_empty() {
        ways.push(("pget".into(), child("pget"), true));
    }
    for program in &args.program {
        let mut cat = Command::new(program);
        cat.arg("cat").arg(&url).env("SSL_CERT_FILE", &trusted);
        if args.concurrency > 0 {
            cat.arg("--chunk-size").arg((args.chunk_kib << 10).to_string());
            cat.arg("--concurrency").arg(args.concurrency.to_string());
        }
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        ways.push((name.into_owned(), cat, false));
    }
    if !args.no_curl {
        let mut curl = Command::new("curl");
        curl.args(["-sSf", &url, "--cacert"]).arg(&trusted);
        ways.push(("curl".into(), curl, false));
    }
    let mut costs = vec![Vec::new(); ways.len()];
    let mut speeds = vec![Vec::new(); ways.len()];
    for round in 0..=args.rounds {
        for (index, (name, way, tells)) in ways.iter_mut().enumerate() {
            let cost = if *tells {
                Cost::of_child(way)?
            } else {
                Cost::of_program(way, args.mib << 20)?
            };
            if cost.bytes != args.mib << 20 {
                return Err(format!("{name} moved {} bytes", cost.bytes).into());
            }
            // Skip the first round, which warms the page cache and the processor.
            if round > 0 {
                costs[index].push(cost.per_gib());
                speeds[index].push(cost.speed());
            }
        }
    }
    println!(
        "{}, {} MiB, {} connections, ranges of {} KiB, {} rounds; CPU seconds per GiB",
        args.protocol, args.mib, args.concurrency, args.chunk_kib, args.rounds
    );
    for (index, (name, ..)) in ways.iter().enumerate() {
        let all: Vec<String> = costs[index].iter().map(|cost| format!("{cost:.3}")).collect();
        println!(
            "{name:12} {:.3}  ({:.2} GiB/s; {})",
            median(costs[index].clone()),
            median(speeds[index].clone()),
            all.join(" ")
        );
    }
    // Compute the ratios within a round: a disturbance of one run mostly affects its neighbours
    // too.
    let title = match args.concurrency {
        0 => "no options".to_owned(),
        connections => format!("{connections} connections"),
    };
    let ratio = |one: usize, other: usize| {
        let pairs = costs[one].iter().zip(&costs[other]);
        let name = format!("tls, {title}: {} / {}", ways[one].0, ways[other].0);
        figure(&name, median(pairs.map(|(one, other)| one / other).collect()));
    };
    for index in 1..ways.len() {
        ratio(index, 0);
    }
    if !args.no_curl {
        (1..ways.len() - 1).for_each(|index| ratio(index, ways.len() - 1));
    }
    Ok(())
}
