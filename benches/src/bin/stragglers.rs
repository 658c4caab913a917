//! The cost of one slow connection in eight, for in-order reads by pget and by others.
//!
//! The server limits each connection. Each eighth connection that it accepts (the fourth, the
//! twelfth, …) is far slower, or sends nothing after some bytes. A client that replaces such a
//! connection meets the next one in its turn, as any client would. The server determines the pace,
//! so the figures do not depend on the machine.

use std::{
    error::Error,
    process::{Command, ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::HeaderMap;
use pget_bench::{figure, median};
use pget_core::{Download, Options};
use pget_http::{Client, ClientOptions, HttpSource};
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, When},
};
use tokio::{runtime::Runtime, time::timeout};

type Failure = Box<dyn Error + Send + Sync>;

/// Options of the bench.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds. In each round, every way meets every server once.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Size of the object in MiB.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// Number of connections.
    #[arg(long, default_value_t = 8)]
    concurrency: u32,
    /// Bytes per range, in KiB.
    #[arg(long, default_value_t = 8192)]
    chunk_kib: u64,
    /// Rate of a connection, in MB per second.
    #[arg(long, default_value_t = 50)]
    fast: u64,
    /// Rate of each eighth connection, in MB per second.
    #[arg(long, default_value_t = 1)]
    slow: u64,
    /// Another `pget` program (of an earlier commit). Its `cat` is measured for comparison.
    #[arg(long)]
    program: Option<String>,
    /// Also measure reqwest, and curl over one connection and with ranges in parallel, once each.
    #[arg(long)]
    others: bool,
    /// Also measure another reader once: `NAME=COMMAND`.
    ///
    /// A shell runs the command with `ENDPOINT`, `SIZE`, `CHUNK` and `CONCURRENCY` set. The object
    /// is `/b/o`. For an AIStore client, it is object `o` of bucket `b`.
    #[arg(long, value_parser = other)]
    other: Vec<Way>,
    /// Seconds after which a way is given up.
    #[arg(long, default_value_t = 120)]
    patience: u64,
    /// Fail if pget does not reach this share of its throughput without the slow connection.
    #[arg(long)]
    least: Option<f64>,
}

/// The behaviour of each eighth connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Eighth {
    Fast,
    Slow,
    /// The connection sends the head and 256 KiB, then nothing.
    Stalls,
    /// The connection never answers.
    Silent,
}

const SERVERS: [Eighth; 4] = [Eighth::Fast, Eighth::Slow, Eighth::Stalls, Eighth::Silent];

impl Eighth {
    const fn name(self) -> &'static str {
        match self {
            Self::Fast => "as the others",
            Self::Slow => "slow",
            Self::Stalls => "stalls",
            Self::Silent => "never answers",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    Pget,
    Program,
    Reqwest,
    Curl,
    CurlInParallel,
    Other { name: String, command: String },
}

fn other(text: &str) -> Result<Way, String> {
    let (name, command) = text.split_once('=').ok_or("it is NAME=COMMAND")?;
    Ok(Way::Other {
        name: name.into(),
        command: command.into(),
    })
}

impl Way {
    fn name(&self) -> &str {
        match self {
            Self::Pget => "pget",
            Self::Program => "--program cat",
            Self::Reqwest => "reqwest, in order",
            Self::Curl => "curl, one connection",
            Self::CurlInParallel => "curl -Z, ranges",
            Self::Other { name, .. } => name,
        }
    }
}

/// The result of one run: its seconds and pget's counters.
struct Run {
    seconds: f64,
    fences: u64,
    requests: u64,
}

fn main() -> ExitCode {
    match compare(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("stragglers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> Result<bool, Failure> {
    println!(
        "{} MiB in chunks of {} KiB over {} connections of {} MB/s; slow: {} MB/s; seconds (medians)",
        args.mib, args.chunk_kib, args.concurrency, args.fast, args.slow
    );
    let mut good = true;
    let mut ways = vec![(Way::Pget, args.rounds.max(1))];
    if args.program.is_some() {
        ways.push((Way::Program, 1));
    }
    if args.others {
        ways.extend([(Way::Reqwest, 1), (Way::Curl, 1), (Way::CurlInParallel, 1)]);
    }
    ways.extend(args.other.iter().map(|way| (way.clone(), 1)));
    for (way, rounds) in ways {
        let mut without = None;
        for eighth in SERVERS {
            let runs: Result<Vec<Option<Run>>, _> = (0..rounds).map(|_| run(&way, eighth, args)).collect();
            let runs = match runs {
                // The failure of another reader is a result of the comparison.
                Err(error) if matches!(way, Way::Other { .. }) => {
                    println!("{:22} {:14} {error}", way.name(), eighth.name());
                    continue;
                }
                runs => runs?,
            };
            let Some(runs) = runs.into_iter().collect::<Option<Vec<Run>>>() else {
                println!(
                    "{:22} {:14} > {} (given up)",
                    way.name(),
                    eighth.name(),
                    args.patience
                );
                continue;
            };
            let seconds = median(runs.iter().map(|run| run.seconds).collect());
            let share = *without.get_or_insert(seconds) / seconds;
            let most = |count: fn(&Run) -> u64| runs.iter().map(count).max().unwrap_or_default();
            println!(
                "{:22} {:14} {seconds:7.2}   {:4.0} % of the throughput without   fences ≤ {} of {} requests",
                way.name(),
                eighth.name(),
                100.0 * share,
                most(|run| run.fences),
                most(|run| run.requests),
            );
            if way == Way::Pget && eighth != Eighth::Fast {
                figure(
                    &format!("stragglers, {}: share of the throughput without", eighth.name()),
                    share,
                );
                good &= args.least.is_none_or(|least| share >= least);
            }
        }
    }
    Ok(good)
}

fn run(way: &Way, eighth: Eighth, args: &Args) -> Result<Option<Run>, Failure> {
    let server = Hostile::start()?;
    let each = When::Connection { of: 8, number: 3 };
    let pace = |mb: u64| Fault::Pace {
        bytes_per_second: mb * 1_000_000,
    };
    let route = Route::new(Object::new(1, args.mib << 20));
    let route = match eighth {
        Eighth::Fast => route,
        Eighth::Slow => route.fault(each, pace(args.slow)),
        Eighth::Stalls => route.fault(each, Fault::Stall { after: 256 << 10 }),
        Eighth::Silent => route.fault(each, Fault::StallBeforeHead),
    };
    let route = route.fault(When::Always, pace(args.fast));
    let url = match way {
        Way::Other { .. } => {
            server.route("/v1/objects/b/o", route.clone());
            server.route("/b/o", route)
        }
        _ => server.route("/object", route),
    };
    let began = Instant::now();
    let counted = match way {
        Way::Pget => {
            let reading = async { timeout(Duration::from_secs(args.patience), pget(&url, args)).await };
            match Runtime::new()?.block_on(reading) {
                Ok(counted) => counted?,
                Err(_) => return Ok(None),
            }
        }
        Way::Reqwest => {
            let reading = async { timeout(Duration::from_secs(args.patience), reqwest(&url, args)).await };
            match Runtime::new()?.block_on(reading) {
                Ok(counted) => counted?,
                Err(_) => return Ok(None),
            }
        }
        Way::Program => {
            let mut command = Command::new(args.program.as_deref().unwrap_or("pget"));
            command
                .args(["cat", "--progress", "never", "--concurrency"])
                .arg(args.concurrency.to_string())
                .arg("--chunk-size")
                .arg((args.chunk_kib << 10).to_string())
                .arg(&url);
            if !ends(&mut command, args.patience)? {
                return Ok(None);
            }
            (0, 0)
        }
        Way::Curl => {
            let mut command = Command::new("curl");
            command.args(["-sS", "-o", "/dev/null", &url]);
            if !ends(&mut command, args.patience)? {
                return Ok(None);
            }
            (0, 0)
        }
        Way::CurlInParallel => {
            if !ends(&mut curl_in_parallel(&url, args), args.patience)? {
                return Ok(None);
            }
            (0, 0)
        }
        Way::Other { command: text, .. } => {
            let mut command = Command::new("sh");
            command
                .args(["-c", text])
                .env("ENDPOINT", server.url(""))
                .env("SIZE", (args.mib << 20).to_string())
                .env("CHUNK", (args.chunk_kib << 10).to_string())
                .env("CONCURRENCY", args.concurrency.to_string());
            if !ends(&mut command, args.patience)? {
                return Ok(None);
            }
            (0, 0)
        }
    };
    Ok(Some(Run {
        seconds: began.elapsed().as_secs_f64(),
        fences: counted.0,
        requests: counted.1,
    }))
}

/// Returns curl's command for ranges in parallel. Each range is a transfer of its own.
fn curl_in_parallel(url: &str, args: &Args) -> Command {
    let (size, chunk) = (args.mib << 20, args.chunk_kib << 10);
    let mut command = Command::new("curl");
    command
        .args([
            "-sS",
            "--no-progress-meter",
            "--parallel",
            "--parallel-immediate",
            "--parallel-max",
        ])
        .arg(args.concurrency.to_string());
    for start in (0..size).step_by(usize::try_from(chunk).unwrap_or(usize::MAX)) {
        if start > 0 {
            command.arg("--next");
        }
        let last = size.min(start + chunk) - 1;
        command.args(["-sS", "-o", "/dev/null", "-r", &format!("{start}-{last}"), url]);
    }
    command
}

/// Runs `command`. Kills it after `patience` seconds and returns false.
fn ends(command: &mut Command, patience: u64) -> Result<bool, Failure> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let deadline = Instant::now() + Duration::from_secs(patience);
    loop {
        if let Some(status) = child.try_wait()? {
            return if status.success() {
                Ok(true)
            } else {
                Err(format!("{:?} failed: {status}", command.get_program()).into())
            };
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        // The standard library cannot wait for a child with a deadline.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Reads with pget. Returns the numbers of fences and requests.
async fn pget(url: &str, args: &Args) -> Result<(u64, u64), Failure> {
    let client = Client::new(&ClientOptions::default())?;
    let source = Arc::new(HttpSource::new(client, url, HeaderMap::new())?);
    let mut options = Options::default();
    options.chunk_size = Some(args.chunk_kib << 10);
    options.concurrency = Some(args.concurrency);
    let mut reader = Download::new(source, options)?.reader();
    let (pattern, mut at) = (Pattern::new(1), 0);
    while let Some(lease) = reader.next().await? {
        pattern
            .check(at, &lease)
            .map_err(|wrong| format!("byte {wrong} is wrong"))?;
        at += lease.len() as u64;
    }
    if at != args.mib << 20 {
        return Err(format!("{at} bytes").into());
    }
    let stats = reader.stats();
    Ok((stats.fences, stats.requests))
}

/// Reads as many ranges at a time, in order, and does nothing about slow connections.
async fn reqwest(url: &str, args: &Args) -> Result<(u64, u64), Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .build()?;
    let (size, chunk) = (args.mib << 20, args.chunk_kib << 10);
    let fetches = (0..size.div_ceil(chunk)).map(|index| {
        let (start, end) = (index * chunk, size.min((index + 1) * chunk));
        let request = client
            .get(url)
            .header("range", format!("bytes={start}-{}", end - 1));
        async move { Ok::<_, Failure>(request.send().await?.error_for_status()?.bytes().await?) }
    });
    let mut ready = stream::iter(fetches).buffered(usize::try_from(args.concurrency)?);
    while ready.try_next().await?.is_some() {}
    Ok((0, size.div_ceil(chunk)))
}
