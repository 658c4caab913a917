//! CPU seconds per GiB of `parallel_get` in C, compared with `pget cat > /dev/null`.
//!
//! The C program's callback discards the bytes. The server is nginx on loopback. `benches/c_abi.sh`
//! builds both programs and runs this bench. The programs run in turn, round after round. The bench
//! prints medians and their ratio.

use std::{
    error::Error,
    path::PathBuf,
    process::{Command, ExitCode},
};

use clap::Parser;
use pget_bench::{Cost, figure, median, serve};

/// Options of the bench.
#[derive(Debug, Parser)]
struct Args {
    /// The `pget` program.
    #[arg(long)]
    pget: PathBuf,
    /// The program built from benches/c/discard.c.
    #[arg(long)]
    discard: PathBuf,
    /// Rounds. In each round, both programs run once.
    #[arg(long, default_value_t = 9)]
    rounds: u32,
    /// Size of the object in MiB.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// Fail if C costs more than this factor of the program.
    #[arg(long)]
    most: Option<f64>,
}

fn main() -> ExitCode {
    match compare(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("c_abi: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> Result<bool, Box<dyn Error>> {
    let (_nginx, url) = serve(args.mib)?;
    let bytes = args.mib << 20;
    let (mut rust, mut c) = (Vec::new(), Vec::new());
    for round in 0..=args.rounds {
        let of_rust = Cost::of_program(Command::new(&args.pget).args(["cat", &url]), bytes)?;
        let of_c = Cost::of_program(Command::new(&args.discard).arg(&url), bytes)?;
        // Skip the first round, which warms the page cache and the processor.
        if round > 0 {
            rust.push(of_rust.per_gib());
            c.push(of_c.per_gib());
        }
    }
    println!("{} MiB, {} rounds; CPU seconds per GiB", args.mib, args.rounds);
    for (name, costs) in [("pget cat", &rust), ("parallel_get", &c)] {
        let all: Vec<String> = costs.iter().map(|cost| format!("{cost:.3}")).collect();
        println!("{name:12} {:.3}  ({})", median(costs.clone()), all.join(" "));
    }
    let ratio = median(c) / median(rust);
    figure("c_abi: parallel_get / pget cat", ratio);
    Ok(args.most.is_none_or(|most| ratio <= most))
}
