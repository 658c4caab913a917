//! The ways in which the bytes of a download can go, so that one test holds for all of them.
//!
//! Invariant: a run ends, or panics at its deadline; and after it every byte that can be seen was looked at. In order: what was handed out. In memory: all of the buffer, and a margin behind it; each byte of it
//! must be the object's or untouched, however the run ended, because an answer that failed a check must not have left a byte anywhere. At a destination: the same, and what it was told has landed is right. Called by tests only.

use std::{fmt, sync::Arc, time::Duration};

use pget_core::{Download, Error, ErrorKind, Options, RangeSource, Stats};

mod expected;
mod relay;
mod witness;
mod writer;

pub use expected::Expected;
use expected::{blank, memory_is_right};
pub use relay::Relay;
use witness::Witness;
pub use writer::{Tally, reads_under_a_writer};

/// No run may take longer; most take milliseconds.
const DEADLINE: Duration = Duration::from_secs(60);
/// Where the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// To a reader, in order.
    InOrder,
    /// Into memory that is given away and comes back.
    Memory,
    /// Into memory that is lent while a thread waits.
    Lent,
    /// To a destination that is handed the bytes.
    Put,
    /// To a destination whose memory is written to.
    Placed,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::InOrder, Self::Memory, Self::Lent, Self::Put, Self::Placed];
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InOrder => "in order",
            Self::Memory => "into memory",
            Self::Lent => "into lent memory",
            Self::Put => "to a destination",
            Self::Placed => "into a destination's memory",
        })
    }
}

/// How a run ended. Whatever bytes it left are right: [`run`] has checked that.
#[derive(Debug)]
pub struct Outcome {
    /// Bytes handed out, or placed if the run succeeded.
    pub bytes: u64,
    /// The end.
    pub end: Result<(), Error>,
    /// The counters, of a run in order.
    pub stats: Option<Stats>,
}

impl Outcome {
    /// Whether it failed, and how.
    pub fn kind(&self) -> Option<ErrorKind> {
        self.end.as_ref().err().map(Error::kind)
    }
}

/// Reads what is expected of `source`, the way that `mode` says; needs a tokio runtime. `options` must ask for the expected offset.
///
/// # Panics
/// When a byte is wrong, when not all bytes came and yet no error did, and when it takes too long.
pub async fn run(mode: Mode, source: Arc<dyn RangeSource>, options: Options, expected: Expected) -> Outcome {
    let (left, outcome) = read(mode, source, options, expected.offset, expected.size).await;
    if let Err(wrong) = left.check(expected, outcome.end.is_ok()) {
        panic!("{mode}: {wrong}; it ended with {:?}", outcome.end);
    }
    outcome
}

/// What a run left where it can be seen.
enum Left {
    Prefix(Vec<u8>),
    Buffer(Vec<u8>),
    Witness(Arc<Witness>),
}

impl Left {
    fn check(&self, expected: Expected, complete: bool) -> Result<(), String> {
        match self {
            Self::Prefix(bytes) => {
                let length = bytes.len() as u64;
                if length > expected.size || (complete && length < expected.size) {
                    return Err(format!("{length} bytes of {}", expected.size));
                }
                let right = expected.pattern.check(expected.offset, bytes);
                right.map_err(|at| format!("byte {at} is wrong"))
            }
            Self::Buffer(buffer) => memory_is_right(buffer, expected, complete),
            Self::Witness(witness) => witness.check(expected, complete),
        }
    }

    /// The bytes, from the first that was asked for on.
    fn with_bytes<T>(&mut self, work: impl FnOnce(&mut [u8]) -> T) -> T {
        match self {
            Self::Prefix(bytes) | Self::Buffer(bytes) => work(bytes),
            Self::Witness(witness) => witness.with_memory(work),
        }
    }
}

/// Reads `size` bytes from `offset`, into room for a few more.
async fn read(
    mode: Mode,
    source: Arc<dyn RangeSource>,
    options: Options,
    offset: u64,
    size: u64,
) -> (Left, Outcome) {
    let download = match Download::new(source, options) {
        Ok(download) => download,
        Err(error) => return (Left::Prefix(Vec::new()), ended(0, Err(error))),
    };
    let counted = |end: Result<usize, Error>| match end {
        Ok(bytes) => ended(bytes as u64, Ok(())),
        Err(error) => ended(0, Err(error)),
    };
    let work = async {
        match mode {
            Mode::InOrder => in_order(&download).await,
            Mode::Memory => {
                let (end, buffer) = download.read_into(blank(size)).await;
                (Left::Buffer(buffer.expect("a Vec does not panic")), counted(end))
            }
            Mode::Lent => {
                let runtime = tokio::runtime::Handle::current();
                let lent = tokio::task::spawn_blocking(move || {
                    let mut buffer = blank(size);
                    let end = download.read_into_on(&runtime, &mut buffer);
                    (end, buffer)
                });
                let (end, buffer) = lent.await.expect("it does not panic");
                (Left::Buffer(buffer), counted(end))
            }
            Mode::Put | Mode::Placed => {
                let witness = Witness::new(offset, size, mode == Mode::Placed);
                let end = download.read_to(Arc::clone(&witness) as Arc<_>).await;
                let outcome = match end {
                    Ok(stats) => ended(stats.delivered, Ok(())),
                    Err(error) => ended(0, Err(error)),
                };
                (Left::Witness(witness), outcome)
            }
        }
    };
    let done = tokio::time::timeout(DEADLINE, work).await;
    let (left, outcome) = done.unwrap_or_else(|_| panic!("{mode}: hangs"));
    if outcome.end.is_ok() {
        assert_eq!(outcome.bytes, size, "{mode}: cut short, and no error");
    }
    (left, outcome)
}

fn ended(bytes: u64, end: Result<(), Error>) -> Outcome {
    Outcome {
        bytes,
        end,
        stats: None,
    }
}

async fn in_order(download: &Download) -> (Left, Outcome) {
    let mut reader = download.reader();
    let mut bytes = Vec::new();
    let end = loop {
        match reader.next().await {
            Ok(Some(lease)) => bytes.extend_from_slice(&lease),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let outcome = Outcome {
        bytes: bytes.len() as u64,
        end,
        stats: Some(reader.stats()),
    };
    (Left::Prefix(bytes), outcome)
}
