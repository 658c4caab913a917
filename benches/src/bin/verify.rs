//! CPU seconds per GiB of each checksum algorithm, compared with `verify=off`.
//!
//! The object is read in order and into memory. The source copies from a warm buffer instead of a
//! socket, so that only the pipeline and the checksum are measured. Receiving costs about 0.35 s
//! per GiB more (`recv.sh`).

use std::{fmt::Write as _, io, sync::Arc};

use async_trait::async_trait;
use clap::Parser;
use pget_bench::{cpu_of_this_process, median};
use pget_core::{
    BufMut, ChunkWriter, Download, ObjectInfo, Options, Published, RangeRequest, RangeSource, Reply,
    Revision, SourceError, Verify,
    verify::{Algorithm, Hasher},
};

const SIZE: u64 = 256 << 20;
/// Factor from a run to a GiB.
const SCALE: f64 = 4.0;
/// Length of the piece that the object repeats, in bytes.
const PIECE: usize = 1 << 20;

/// Options of the bench.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds. In each round, every algorithm runs once in both ways.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

#[derive(Debug)]
struct Warm {
    piece: Vec<u8>,
    checksum: Published,
}

#[async_trait]
impl RangeSource for Warm {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        Ok(ObjectInfo::default())
    }

    async fn read(&self, request: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        let end = request.end.unwrap_or(SIZE).min(SIZE);
        chunk.begin(Reply {
            start: request.start,
            length: Some(end - request.start),
            total: Some(SIZE),
            revision: Revision {
                etag: Some("\"warm\"".into()),
                ..Revision::default()
            },
            checksum: Some(self.checksum),
            ..Reply::default()
        })?;
        while chunk.ready().await? {
            let at = usize::try_from(chunk.position() % PIECE as u64).unwrap_or_default();
            let length = chunk.chunk_mut().len().min(PIECE - at);
            chunk.put_slice(&self.piece[at..at + length]);
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn name(&self) -> String {
        "warm".into()
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let piece: Vec<u8> = (0..PIECE).map(|at| ((at * 31) >> 3).to_le_bytes()[0]).collect();
    let sources: Vec<Arc<Warm>> = Algorithm::ALL
        .into_iter()
        .map(|algorithm| {
            let mut hasher = Hasher::new(algorithm);
            for _ in 0..SIZE / PIECE as u64 {
                hasher.update(&piece);
            }
            Arc::new(Warm {
                piece: piece.clone(),
                checksum: Published::Whole(hasher.finish()),
            })
        })
        .collect();
    let mut buffer = vec![0; usize::try_from(SIZE).expect("64 bits")];
    let mut measured = |source: &Arc<Warm>, verify: Verify, in_order: bool| -> io::Result<f64> {
        let mut options = Options::default();
        options.concurrency = Some(4);
        options.verify = verify;
        let download = Download::new(source.clone(), options).expect("the options are right");
        let before = cpu_of_this_process()?;
        if in_order {
            let mut reader = download.blocking_reader_on(runtime.handle());
            while reader.next_lease().expect("it is right").is_some() {}
        } else {
            download
                .read_into_on(runtime.handle(), &mut buffer)
                .expect("it is right");
        }
        Ok((cpu_of_this_process()? - before) * SCALE)
    };
    let mut table = String::from("| | in order | into memory |\n|---|---|---|\n");
    let mut row = |name: &str, figures: [f64; 2]| {
        writeln!(table, "| {name} | {:.3} | {:.3} |", figures[0], figures[1]).expect("a String takes all");
    };
    // All algorithms run in turn, so that a change of the machine's speed affects all of them.
    let mut times = vec![[Vec::new(), Vec::new()]; sources.len() + 1];
    for _ in 0..args.rounds.max(1) {
        for (mode, in_order) in [(0, true), (1, false)] {
            times[0][mode].push(measured(&sources[0], Verify::Off, in_order)?);
            for (source, times) in sources.iter().zip(&mut times[1..]) {
                times[mode].push(measured(source, Verify::Require, in_order)?);
            }
        }
    }
    let names = std::iter::once("off").chain(Algorithm::ALL.map(Algorithm::name));
    for (name, times) in names.zip(times) {
        row(name, times.map(median));
    }
    print!("{table}");
    Ok(())
}
