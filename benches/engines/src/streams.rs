//! A hundred streams of one store at once, and a hundred queries. All streams are opened, read by
//! turns and left half read; the memory that this takes must stay within bounds.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use datafusion::object_store::{ObjectStoreExt as _, path::Path};
use futures_util::{StreamExt as _, future::try_join_all};
use pget_core::Budget;
use pget_object_store::Options;

use crate::{Failure, queries, stores, usage};

/// Streams, and queries, at once.
pub const COUNT: usize = 100;
/// Bytes that each stream delivers.
const EACH: u64 = 8 << 20;
/// Bytes that all streams together may hold.
pub const BUDGET: u64 = 64 << 20;
/// Requests that all streams together may have.
const REQUESTS: usize = 64;
/// Bytes that the process may take for all streams: the budget, the chunk at the cursor of each
/// stream, and as much for the buffers of each stream's connection.
pub const MOST: u64 = BUDGET + 2 * CHUNK * COUNT as u64;
/// Bytes of a chunk.
const CHUNK: u64 = 1 << 20;

/// Prints `NAME, seconds, MB taken` for streams, and for queries.
pub async fn run(store: &str, address: &str) -> Result<(), Failure> {
    let mut options = Options::default();
    options.budget = Budget::new(BUDGET, REQUESTS);
    options.chunk_size = Some(CHUNK);
    let before = usage::peak_mb()?;
    let opened = stores::open(store, address, options.clone())?;
    let began = Instant::now();
    let read = (0..COUNT).map(|_| {
        let opened = Arc::clone(&opened);
        async move {
            let mut stream = opened.get(&Path::from("lineitem.csv")).await?.into_stream();
            let mut read = 0;
            while read < EACH {
                read += stream.next().await.ok_or("the object is short")??.len() as u64;
            }
            Ok::<_, Failure>(stream)
        }
    });
    let streams = try_join_all(read).await?;
    let seconds = began.elapsed().as_secs_f64();
    // Nothing signals that a store fetches no more without a consumer. So the bench waits for
    // longer than the bytes of a whole window take.
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop(streams);
    println!("streams\t{seconds:.3}\t{}", usage::peak_mb()? - before);

    let context = queries::context("csv", store, address, options).await?;
    let began = Instant::now();
    let answers = (0..COUNT).map(|_| async {
        let query = "select count(*), sum(c_acctbal), max(c_comment) from customer";
        let batches = context.sql(query).await?.collect().await?;
        Ok::<_, Failure>(format!("{batches:?}"))
    });
    let answers = try_join_all(answers).await?;
    if answers.iter().any(|answer| *answer != answers[0]) {
        return Err("the same query has had different results".into());
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("queries\t{seconds:.3}\t{}", usage::peak_mb()? - before);
    Ok(())
}
