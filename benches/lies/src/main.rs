//! Serves the testkit's 29 lies to pget, in every mode, and to other readers.
//!
//! It prints the result of each reader as a table. Every reader reads the same object in ranges of
//! 1 MiB. It reads four at a time if it can, with timeouts of 3 s and 3 retries if it supports
//! them. `run.sh` runs this program.

mod readers;

use std::{
    fmt,
    io::Write as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use object_store::{ClientOptions, RetryConfig};
use pget_core::ErrorKind;
use pget_testkit::hostile::{Hostile, Lie, lies};

use readers::{Reader, SEED, SIZE};

/// A reader that has not ended by then hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The result of a reader that met a lie.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Right,
    Refused(Option<ErrorKind>),
    Wrong,
    Hangs,
    Panics,
    /// The reader made no request that the lie concerns.
    NotMet,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Right => f.write_str("right"),
            Self::Refused(Some(kind)) => write!(f, "{kind:?}"),
            Self::Refused(None) => f.write_str("error"),
            Self::Wrong => f.write_str("**WRONG**"),
            Self::Hangs => f.write_str("**hangs**"),
            Self::Panics => f.write_str("**panics**"),
            Self::NotMet => f.write_str("–"),
        }
    }
}

async fn tell(lie: &Lie, reader: &Reader) -> Verdict {
    let server = Hostile::start().expect("a server");
    let path = reader.path();
    server.route(path, lie.route.clone());
    let endpoint = server.url("");
    let reader = reader.clone();
    let task = tokio::spawn(async move { reader.read(endpoint).await });
    let abort = task.abort_handle();
    let ended = tokio::time::timeout(PATIENCE, task).await;
    let verdict = match ended {
        Err(_) => {
            abort.abort();
            Verdict::Hangs
        }
        Ok(Err(panic)) => {
            eprintln!("{}: {panic}", lie.name);
            Verdict::Panics
        }
        Ok(Ok(Ok(true))) => Verdict::Right,
        Ok(Ok(Ok(false))) => Verdict::Wrong,
        Ok(Ok(Err(kind))) => Verdict::Refused(kind),
    };
    if server.served(path) == 0 && verdict == Verdict::Right {
        return Verdict::NotMet;
    }
    verdict
}

/// Reads the object at `ENDPOINT` in ranges of `CHUNK` bytes, `CONCURRENCY` at a time.
///
/// The reader uses its own deadlines and retries. It writes into the file `OUT` if that is set.
/// `benches/stragglers.sh --other` and `benches/outages.py --object-store` run it.
async fn object_store() {
    let number = |name| -> usize {
        let value = std::env::var(name).ok().and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("{name} is not set"))
    };
    let endpoint = std::env::var("ENDPOINT").expect("ENDPOINT is set");
    let (chunk, concurrency) = (number("CHUNK") as u64, number("CONCURRENCY"));
    let mut bytes = 0;
    let mut out = std::env::var_os("OUT").map(|out| std::fs::File::create(out).expect("a file"));
    let read = readers::object_store_ranges(
        &endpoint,
        chunk,
        concurrency,
        ClientOptions::default(),
        RetryConfig::default(),
        |part| {
            bytes += part.len();
            if let Some(out) = &mut out {
                out.write_all(part).expect("room");
            }
        },
    );
    if let Err(error) = read.await {
        eprintln!("object_store: {error}");
        std::process::exit(1);
    }
    assert_eq!(bytes, number("SIZE"), "object_store cut it short");
}

#[tokio::main]
async fn main() {
    opendal::install_default();
    std::panic::set_hook(Box::new(|_| {}));
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from).peekable();
    if arguments
        .peek()
        .is_some_and(|first| first.as_os_str() == "object_store")
    {
        return object_store().await;
    }
    let (Some(python), Some(script)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: pget-lies PYTHON READERS.PY (run.sh knows them)");
        std::process::exit(2);
    };
    let readers = Reader::all(&python, &script);
    let head: Vec<_> = readers.iter().map(Reader::name).collect();
    println!("| case | lie | {} |", head.join(" | "));
    println!("|{}", "---|".repeat(head.len() + 2));
    let mut wrong = vec![0; readers.len()];
    let mut stuck = vec![0; readers.len()];
    let begun = Instant::now();
    for lie in lies(SEED, SIZE, 256 << 10) {
        let told = futures_util::future::join_all(readers.iter().map(|reader| tell(&lie, reader))).await;
        for (at, verdict) in told.iter().enumerate() {
            wrong[at] += u32::from(*verdict == Verdict::Wrong);
            stuck[at] += u32::from(matches!(verdict, Verdict::Hangs | Verdict::Panics));
        }
        let told: Vec<_> = told.iter().map(Verdict::to_string).collect();
        println!("| {} | {} | {} |", lie.case, lie.name, told.join(" | "));
    }
    let counted = |counts: &[u32]| {
        counts
            .iter()
            .map(|count| format!("**{count}**"))
            .collect::<Vec<_>>()
            .join(" | ")
    };
    println!("| | wrong bytes and no error | {} |", counted(&wrong));
    println!("| | hangs and panics | {} |", counted(&stuck));
    eprintln!(
        "{} s; {}",
        begun.elapsed().as_secs(),
        readers::versions(&python).await
    );
}
