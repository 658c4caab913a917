//! CPU seconds per GiB of `parallel_get` in C, into a callback that drops the bytes, beside `pget cat > /dev/null`, from nginx on loopback.
//!
//! `benches/c_abi.sh` builds both programs and runs this. They run in turn, round after round; medians and their ratio are printed.

use std::{
    error::Error,
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use clap::Parser;
use nix::sys::resource::{UsageWho, getrusage};
use pget_bench::median;
use pget_testkit::{
    content::Pattern,
    servers::{Nginx, NginxOptions},
};

/// What to measure.
#[derive(Debug, Parser)]
struct Args {
    /// The `pget` program.
    #[arg(long)]
    pget: PathBuf,
    /// The program of benches/c/discard.c.
    #[arg(long)]
    discard: PathBuf,
    /// Rounds; in each, both run once.
    #[arg(long, default_value_t = 9)]
    rounds: u32,
    /// Size of the object in MiB.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// Fail unless C costs at most this much of the program.
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
    let nginx = Nginx::start(&NginxOptions::default())?;
    let mut file = BufWriter::with_capacity(1 << 20, File::create(nginx.root().join("object"))?);
    let pattern = Pattern::new(1);
    let mut piece = vec![0; 1 << 20];
    for at in 0..args.mib {
        pattern.fill(at << 20, &mut piece);
        file.write_all(&piece)?;
    }
    file.into_inner()?;
    let url = nginx.url("/object");
    let (mut rust, mut c) = (Vec::new(), Vec::new());
    for round in 0..=args.rounds {
        let of_rust = cpu_of(&args.pget, &["cat", &url])?;
        let of_c = cpu_of(&args.discard, &[&url])?;
        // The first round warms the page cache and the processor.
        if round > 0 {
            let gib = f64::from(u32::try_from(args.mib)?) / 1024.0;
            rust.push(of_rust / gib);
            c.push(of_c / gib);
        }
    }
    println!("{} MiB, {} rounds; CPU seconds per GiB", args.mib, args.rounds);
    for (name, costs) in [("pget cat", &rust), ("parallel_get", &c)] {
        let all: Vec<String> = costs.iter().map(|cost| format!("{cost:.3}")).collect();
        println!("{name:12} {:.3}  ({})", median(costs.clone()), all.join(" "));
    }
    let ratio = median(c) / median(rust);
    println!("parallel_get / pget cat: {ratio:.3}");
    Ok(args.most.is_none_or(|most| ratio <= most))
}

/// Runs it with its output dropped; the CPU seconds it took, user and system.
fn cpu_of(program: &Path, arguments: &[&str]) -> Result<f64, Box<dyn Error>> {
    let before = of_children()?;
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("{} failed: {status}", program.display()).into());
    }
    Ok(of_children()? - before)
}

/// CPU seconds of all children that have ended; the server's are none of them before it is stopped.
fn of_children() -> nix::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let (user, system) = (usage.user_time(), usage.system_time());
    #[allow(clippy::cast_precision_loss, reason = "CPU seconds of a bench are few")]
    let seconds = |seconds: i64, micros: i64| seconds as f64 + micros as f64 / 1e6;
    Ok(seconds(user.tv_sec(), user.tv_usec()) + seconds(system.tv_sec(), system.tv_usec()))
}
