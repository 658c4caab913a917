//! CPU seconds per GiB of receiving one object in parallel from nginx straight into its
//! destination.
//!
//! Compares pget with the bare limit of each destination, which is `recv` into the same kind of
//! place. `benches/place.sh` builds the program and this bench.
//!
//! The ways run in turn, round after round. Each run is a process of its own with a fresh
//! destination. The bench prints medians, and the medians of each round's ratios to the bare limit.

mod mapped;
mod ways;

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Parser;
use pget_bench::{Cost, figure, median, serve};
use ways::{Fresh, Kind, Prepare, Way};

/// Options of the bench.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds. In each round, every way runs once.
    #[arg(long, default_value_t = 5)]
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
    /// KiB that the bare way receives before it writes them.
    #[arg(long, default_value_t = 1024)]
    page_kib: u64,
    /// The bare way's preparation of a file.
    #[arg(long, value_enum, default_value = "reserve")]
    prepare: Prepare,
    /// The bare way's method of writing to fresh shared memory.
    #[arg(long, value_enum, default_value = "put")]
    fresh: Fresh,
    /// Number of objects read into reused memory before the measured one.
    #[arg(long, default_value_t = 2)]
    before: u32,
    /// Threads of pget's runtime. The default is pget's own.
    #[arg(long)]
    workers: Option<usize>,
    /// The kinds of destination to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = ways::KINDS)]
    kinds: Vec<Kind>,
    /// The `pget` program, which reads into files.
    #[arg(long)]
    program: PathBuf,
    /// Further arguments of the program, separated by spaces.
    #[arg(long, default_value = "")]
    with: String,
    /// A folder on a disk.
    #[arg(long, default_value = "/var/tmp")]
    disk: PathBuf,
    /// Fail if pget costs more than this factor of a bare limit.
    #[arg(long)]
    most_of_bare: Option<f64>,
    /// Run one way and print its cost. The parent process uses this option.
    #[arg(long, hide = true, value_enum)]
    way: Option<Way>,
    /// URL of the object.
    #[arg(long, hide = true)]
    url: Option<String>,
    /// Path of the destination.
    #[arg(long, hide = true)]
    target: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match (args.way, &args.url, &args.target) {
        (Some(way), Some(url), Some(target)) => {
            ways::run(args.kinds[0], way, url, target, &args).map(|cost| {
                println!("{}", cost.to_line());
                true
            })
        }
        _ => compare(&args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("place: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> Result<bool, Box<dyn Error>> {
    let (_nginx, url) = serve(args.mib)?;
    let mut all = vec![[const { Vec::new() }; 2]; args.kinds.len()];
    for round in 0..=args.rounds {
        for (kind, costs) in args.kinds.iter().zip(&mut all) {
            for (way, costs) in [Way::Bare, Way::Pget].into_iter().zip(costs) {
                let target = kind
                    .folder(&args.disk)
                    .join(format!("pget-bench-{}", std::process::id()));
                let cost = once(*kind, way, &url, &target, args);
                // Remove the file, so that its write-back does not disturb the next run.
                drop(std::fs::remove_file(&target));
                let cost = cost?;
                if cost.bytes != args.mib << 20 {
                    return Err(format!("{kind:?} {way:?} moved {} bytes", cost.bytes).into());
                }
                // Skip the first round, which warms the page cache and the processor.
                if round > 0 {
                    costs.push((cost.per_gib(), cost.speed()));
                }
            }
        }
    }
    println!(
        "{} MiB, {} connections, ranges of {} KiB, bare pages of {} KiB, {:?}, {:?}, {} before, {} rounds; CPU seconds per GiB",
        args.mib,
        args.concurrency,
        args.chunk_kib,
        args.page_kib,
        args.prepare,
        args.fresh,
        args.before,
        args.rounds
    );
    let mut within = true;
    for (kind, costs) in args.kinds.iter().zip(&all) {
        for (way, costs) in ["bare", "pget"].into_iter().zip(costs) {
            let each: Vec<String> = costs.iter().map(|(cost, _)| format!("{cost:.3}")).collect();
            println!(
                "{:14} {way} {:.3}  ({:.2} GiB/s; {})",
                kind.name(),
                median(costs.iter().map(|(cost, _)| *cost).collect()),
                median(costs.iter().map(|(_, speed)| *speed).collect()),
                each.join(" ")
            );
        }
        // Compute the ratios within a round: a disturbance of one run mostly affects its neighbours
        // too.
        let pairs = costs[0].iter().zip(&costs[1]);
        let ratio = median(pairs.map(|((bare, _), (pget, _))| pget / bare).collect());
        figure(&format!("place, {}: pget / bare", kind.name()), ratio);
        within &= args.most_of_bare.is_none_or(|most| ratio <= most);
    }
    Ok(within)
}

fn once(kind: Kind, way: Way, url: &str, target: &Path, args: &Args) -> Result<Cost, Box<dyn Error>> {
    if way == Way::Pget && kind.is_file() {
        let mut get = Command::new(&args.program);
        get.args(["get", url, "--concurrency", &args.concurrency.to_string(), "-o"]);
        get.arg(target);
        get.arg("--chunk-size").arg((args.chunk_kib << 10).to_string());
        get.args(args.with.split_whitespace());
        if let Some(workers) = args.workers {
            get.env("PGET_THREADS", workers.to_string());
        }
        let mut cost = Cost::of_program(&mut get, 0)?;
        cost.bytes = std::fs::metadata(target)?.len();
        return Ok(cost);
    }
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["--kinds", kind.name(), "--way", way.name(), "--url", url]);
    child.arg("--program").arg(&args.program);
    child.arg("--target");
    child.arg(target);
    child.args(["--prepare", args.prepare.name(), "--fresh", args.fresh.name()]);
    for (name, value) in [
        ("--concurrency", u64::from(args.concurrency)),
        ("--chunk-kib", args.chunk_kib),
        ("--page-kib", args.page_kib),
        ("--mib", args.mib),
        ("--before", u64::from(args.before)),
    ] {
        child.arg(name).arg(value.to_string());
    }
    if let Some(workers) = args.workers {
        child.arg("--workers").arg(workers.to_string());
    }
    Ok(Cost::of_child(&mut child)?)
}
