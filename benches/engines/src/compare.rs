//! Starts the servers, runs all stores in processes of their own, and prints tables of medians.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
};

use pget_testkit::{
    aistore::{BucketOptions, Cluster, ClusterOptions, Fault, Object, Rule},
    shaped::{Counters, Network, Shaped},
};
use tokio::process::Command;

use crate::{Failure, data, queries::QUERIES, stores::BUCKET, streams};

/// The network, as settings.
const NETWORK: &str = "latency=20ms,rate=50MB";

/// Seconds and processor seconds of each query, by name, and its result.
type Answers = BTreeMap<String, (f64, f64, String)>;

/// Makes the data, and compares all stores.
///
/// `ROUNDS` (3) is the number of rounds, `FORMATS` ("parquet csv") chooses formats, `NETWORK`
/// replaces the network. `AIS_ENDPOINT` is a real AIStore, which has a bucket `engines` and no
/// shaped network.
pub async fn run(rows: u64) -> Result<(), Failure> {
    let folder = folder(rows);
    data::make(&folder, rows)?;
    let shape = std::env::var("NETWORK").unwrap_or_else(|_| NETWORK.into());
    let mut network = Network::unshaped();
    network.set_all(&shape)?;
    let server = Shaped::files(network.clone(), &folder)?;
    let url = server.url(0).trim_end_matches("/0").to_owned();
    let (endpoint, cluster) = match std::env::var("AIS_ENDPOINT") {
        Ok(endpoint) => {
            let folder = folder.to_str().ok_or("the folder's name is not UTF-8")?;
            output(&["upload", folder, &endpoint]).await?;
            (endpoint, None)
        }
        Err(_) => {
            let cluster = stand_in(&folder, &network).await?;
            (cluster.endpoint(), Some(cluster))
        }
    };
    let stores = [
        ("bare", url.as_str()),
        ("pget", url.as_str()),
        ("aistore", endpoint.as_str()),
    ];
    let kind = if cluster.is_some() { "the same" } else { "none" };
    println!("{rows} rows; network: {shape:?}; network of AIStore: {kind}");
    let formats = std::env::var("FORMATS").unwrap_or_else(|_| "parquet csv".into());
    for format in formats.split(' ') {
        formats_rows(format, &stores, &server).await?;
    }
    println!(
        "\n{} at once, within a budget of {} MB:\n",
        streams::COUNT,
        streams::BUDGET / 1_000_000
    );
    println!("| store | kind | seconds | memory taken, MB |\n|---|---|---|---|");
    for (store, address) in stores {
        for line in output(&["streams", store, address]).await?.lines() {
            let [kind, seconds, taken] = line.split('\t').collect::<Vec<_>>()[..] else {
                return Err(format!("an unknown line of a process: {line}").into());
            };
            println!("| {store} | {kind} | {seconds} | {taken} |");
            let taken = taken.parse::<u64>()?;
            if store != "bare" && kind == "streams" && taken > streams::MOST / 1_000_000 {
                return Err(format!("{taken} MB were taken, {} bytes are allowed", streams::MOST).into());
            }
        }
    }
    Ok(())
}

/// Runs all rounds over one format, and prints their medians.
async fn formats_rows(format: &str, stores: &[(&str, &str)], server: &Shaped) -> Result<(), Failure> {
    let rounds: usize = std::env::var("ROUNDS").map_or(Ok(3), |text| text.parse())?;
    let mut rows: BTreeMap<(String, usize), Vec<(f64, f64)>> = BTreeMap::new();
    let mut results: BTreeMap<String, String> = BTreeMap::new();
    let mut peaks = vec![Vec::new(); stores.len()];
    let mut traffic = vec![Counters::default(); stores.len()];
    for _ in 0..rounds {
        for (index, (store, address)) in stores.iter().enumerate() {
            server.reset();
            let (answers, peak) = queries(format, store, address).await?;
            traffic[index] = server.counters();
            peaks[index].push(peak);
            for (name, (seconds, cpu, result)) in answers {
                let first = results.entry(name.clone()).or_insert_with(|| result.clone());
                if *first != result {
                    return Err(format!("{format}, {name}: {store} returned {result}, not {first}").into());
                }
                rows.entry((name, index)).or_default().push((seconds, cpu));
            }
        }
    }
    println!("\n{format}, medians of {rounds}; processor seconds in brackets:\n");
    println!("| query | bare, s | `PgetStore`, s | share of bare | `AistoreStore`, s | share of bare |");
    println!("|---|---|---|---|---|---|");
    let mut sums = vec![(0.0, 0.0); stores.len()];
    for (name, _) in QUERIES {
        let medians: Vec<(f64, f64)> = (0..stores.len())
            .filter_map(|index| rows.get(&(name.to_owned(), index)))
            .map(|row| (median(row, |pair| pair.0), median(row, |pair| pair.1)))
            .collect();
        if medians.is_empty() {
            continue;
        }
        for (sum, (seconds, cpu)) in sums.iter_mut().zip(&medians) {
            *sum = (sum.0 + seconds, sum.1 + cpu);
        }
        print_row(name, &medians);
    }
    print_row("all", &sums);
    let peak = |index: usize| median(&peaks[index], |peak| *peak);
    println!(
        "| peak memory, MB | {} | {} | | {} | |",
        peak(0),
        peak(1),
        peak(2)
    );
    let counted = |index: usize| {
        let counters = &traffic[index];
        format!(
            "{} / {} / {}",
            counters.requests,
            counters.bytes / 1_000_000,
            counters.most_in_flight
        )
    };
    println!(
        "| requests / MB / most in flight | {} | {} | | | |",
        counted(0),
        counted(1)
    );
    println!("\nfigure {:.3} {format}-pget-share", sums[1].0 / sums[0].0);
    println!("figure {:.3} {format}-aistore-share", sums[2].0 / sums[0].0);
    Ok(())
}

fn print_row(name: &str, row: &[(f64, f64)]) {
    let (bare, pget, aistore) = (row[0], row[1], row[2]);
    println!(
        "| {name} | {:.2} ({:.2}) | {:.2} ({:.2}) | {:.2} | {:.2} ({:.2}) | {:.2} |",
        bare.0,
        bare.1,
        pget.0,
        pget.1,
        pget.0 / bare.0,
        aistore.0,
        aistore.1,
        aistore.0 / bare.0
    );
}

fn median<T, N: PartialOrd + Copy>(values: &[T], of: impl Fn(&T) -> N) -> N {
    let mut values: Vec<N> = values.iter().map(of).collect();
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values[values.len() / 2]
}

fn folder(rows: u64) -> PathBuf {
    let base = std::env::var_os("ENGINES_DATA").map_or_else(std::env::temp_dir, PathBuf::from);
    base.join(format!("pget-engines-{rows}"))
}

/// Starts a stand-in of AIStore that has the tables, over the same network.
///
/// Its latency and its rate are those of `network`; the stand-in has no others.
async fn stand_in(folder: &Path, network: &Network) -> Result<Cluster, Failure> {
    let cluster = Cluster::start(ClusterOptions::default()).await;
    cluster.create_bucket(BUCKET, BucketOptions::default());
    for file in std::fs::read_dir(folder)? {
        let file = file?;
        let name = file.file_name().to_string_lossy().into_owned();
        cluster.put(BUCKET, &name, Object::bytes(std::fs::read(file.path())?));
    }
    let delay = (!network.latency.is_zero()).then_some(Fault::Delay(network.latency));
    let pace = network.rate.map(|rate| Fault::Pace { rate });
    for fault in delay.into_iter().chain(pace) {
        cluster.inject(Rule::new(fault).times(u64::MAX));
    }
    Ok(cluster)
}

async fn queries(format: &str, store: &str, address: &str) -> Result<(Answers, u64), Failure> {
    let (mut answers, mut peak) = (Answers::new(), 0);
    for line in output(&["queries", format, store, address]).await?.lines() {
        match line.split('\t').collect::<Vec<_>>()[..] {
            ["peak", mb] => peak = mb.parse()?,
            [name, seconds, cpu, result] => {
                let answer = (seconds.parse()?, cpu.parse()?, result.to_owned());
                answers.insert(name.to_owned(), answer);
            }
            _ => return Err(format!("an unknown line of a process: {line}").into()),
        }
    }
    Ok((answers, peak))
}

/// Runs this program in a process of its own, and returns the text that it printed.
async fn output(arguments: &[&str]) -> Result<String, Failure> {
    let output = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {text}", arguments.join(" ")).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
