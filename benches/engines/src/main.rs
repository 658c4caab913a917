//! TPC-H-like queries of DataFusion over Parquet and CSV, in seconds: through a bare store, through
//! the same store in `PgetStore`, and from AIStore. All results must be equal.
//!
//! - `data` makes the tables once.
//! - `stores` makes a store from its words, `queries` runs the queries over it, `streams` reads a
//!   hundred streams of it at once.
//! - `compare` starts the servers, runs each of them in a process of its own, in turn, and prints
//!   tables of medians. The memory of each process is its own.
//!
//! The words are those of `run.sh`, or those that `compare` starts its processes with.

mod compare;
mod data;
mod queries;
mod stores;
mod streams;
mod usage;

use std::{error::Error, path::Path};

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["queries", format, store, address] => queries::run(format, store, address).await,
        ["streams", store, address] => streams::run(store, address).await,
        ["upload", folder, address] => stores::upload(Path::new(folder), address).await,
        [] => compare::run(6_000_000).await,
        [rows] => compare::run(rows.parse()?).await,
        _ => Err("usage: run.sh [ROWS]".into()),
    }
}
