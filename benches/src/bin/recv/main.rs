//! CPU seconds per GiB of receiving one object in parallel from nginx on loopback.
//!
//! Compares pget with a bare loop of `recv` and with reqwest. `benches/recv.sh` builds the program
//! and this bench, and measures `pget cat > /dev/null`. Without `--program`, the bench measures the
//! library in its own process.
//!
//! The ways run in turn, round after round, each run in a process of its own. The bench prints
//! medians and ratios.

mod ways;

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Parser;
use pget_bench::{Cost, figure, median, serve};

/// Options of the bench.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds. In each round, every way runs once.
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// Size of the object in MiB.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// Number of connections.
    #[arg(long, default_value_t = 4)]
    concurrency: u32,
    /// Bytes per range, in KiB.
    #[arg(long, default_value_t = 8192)]
    chunk_kib: u64,
    /// Chunks that are requested or received but not consumed. The default is pget's own.
    #[arg(long)]
    window: Option<u32>,
    /// Threads of the asynchronous ways. With 1, the runtime uses the calling thread.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// A `pget` program. Its `cat > /dev/null` is measured instead of the library.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Fail if pget costs more than this factor of the bare loop.
    #[arg(long)]
    most_of_bare: Option<f64>,
    /// Fail if pget costs more than this factor of reqwest.
    #[arg(long)]
    most_of_reqwest: Option<f64>,
    /// Run one way and print its cost. The parent process uses this option.
    #[arg(long, hide = true)]
    way: Option<ways::Way>,
    /// URL of the object.
    #[arg(long, hide = true)]
    url: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match (args.way, &args.url) {
        (Some(way), Some(url)) => ways::run(way, url, &args).map(|cost| {
            println!("{}", cost.to_line());
            true
        }),
        _ => compare(&args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("recv: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> Result<bool, Box<dyn Error>> {
    let (_nginx, url) = serve(args.mib)?;
    let program = std::env::current_exe()?;
    let mut costs = [const { Vec::new() }; ways::ALL.len()];
    let mut speeds = [const { Vec::new() }; ways::ALL.len()];
    for round in 0..=args.rounds {
        for (index, way) in ways::ALL.into_iter().enumerate() {
            let cost = match &args.program {
                Some(pget) if index == ways::PGET => {
                    Cost::of_program(&mut cat(pget, &url, args), args.mib << 20)?
                }
                _ => Cost::of_child(&mut child(&program, way, &url, args))?,
            };
            if cost.bytes != args.mib << 20 {
                return Err(format!("{} moved {} bytes", way.name(), cost.bytes).into());
            }
            // Skip the first round, which warms the page cache and the processor.
            if round > 0 {
                costs[index].push(cost.per_gib());
                speeds[index].push(cost.speed());
            }
        }
    }
    println!(
        "{} MiB, {} connections, ranges of {} KiB, {} worker(s), {} rounds; CPU seconds per GiB",
        args.mib, args.concurrency, args.chunk_kib, args.workers, args.rounds
    );
    for (index, way) in ways::ALL.into_iter().enumerate() {
        let all: Vec<String> = costs[index].iter().map(|cost| format!("{cost:.3}")).collect();
        println!(
            "{:8} {:.3}  ({:.2} GiB/s; {})",
            way.name(),
            median(costs[index].clone()),
            median(speeds[index].clone()),
            all.join(" ")
        );
    }
    // Compute the ratios within a round: a disturbance of one run mostly affects its neighbours
    // too.
    let ratio = |other: usize| {
        let pairs = costs[ways::PGET].iter().zip(&costs[other]);
        median(pairs.map(|(pget, other)| pget / other).collect())
    };
    let (of_bare, of_reqwest) = (ratio(ways::BARE), ratio(ways::REQWEST));
    figure("recv: pget / bare", of_bare);
    figure("recv: pget / reqwest", of_reqwest);
    Ok(args.most_of_bare.is_none_or(|most| of_bare <= most)
        && args.most_of_reqwest.is_none_or(|most| of_reqwest <= most))
}

/// Returns the command that runs this bench for one way.
fn child(program: &Path, way: ways::Way, url: &str, args: &Args) -> Command {
    let mut child = Command::new(program);
    child.args(["--way", way.name(), "--url", url]);
    child.arg("--concurrency").arg(args.concurrency.to_string());
    child.arg("--chunk-kib").arg(args.chunk_kib.to_string());
    child.arg("--mib").arg(args.mib.to_string());
    child.arg("--workers").arg(args.workers.to_string());
    if let Some(window) = args.window {
        child.arg("--window").arg(window.to_string());
    }
    child
}

/// Returns the command of the program, with the same settings.
fn cat(pget: &Path, url: &str, args: &Args) -> Command {
    let mut cat = Command::new(pget);
    cat.args(["cat", url, "--concurrency", &args.concurrency.to_string()]);
    cat.arg("--chunk-size").arg((args.chunk_kib << 10).to_string());
    cat.env("PGET_THREADS", args.workers.to_string());
    if let Some(window) = args.window {
        cat.arg("--window").arg(window.to_string());
    }
    cat
}
