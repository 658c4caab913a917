//! The ways in which a download can deliver its bytes, so that one test covers all of them.
//!
//! Invariants:
//! - A run ends, or panics at its deadline.
//! - After a run, every byte that is visible was checked. A run in order checks the bytes that the
//!   reader returned. A run into memory checks the whole buffer and a margin after it. A run with a
//!   destination checks its memory, and the ranges that were reported as landed.
//! - However a run into memory ended, each byte of the memory is the object's or untouched. An
//!   answer that failed a check must not have written a byte anywhere.

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

/// Time limit of a run. Most runs take milliseconds.
const DEADLINE: Duration = Duration::from_secs(60);
/// The place to which the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// To a reader, in order.
    InOrder,
    /// Into a buffer that the caller passes by value, and that the download returns.
    Memory,
    /// Into memory that is borrowed while a thread waits.
    Lent,
    /// To a destination that receives the bytes.
    Put,
    /// Into the memory of a destination.
    Placed,
}

impl Mode {
    /// All modes.
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

/// The end of a run. [`run`] has already checked the bytes that it left.
#[derive(Debug)]
pub struct Outcome {
    /// Number of bytes that the reader returned, or that were placed by a successful run.
    pub bytes: u64,
    /// The result of the run.
    pub end: Result<(), Error>,
    /// The counters, if the run was in order.
    pub stats: Option<Stats>,
}

impl Outcome {
    /// Returns the kind of the failure, if the run failed.
    pub fn kind(&self) -> Option<ErrorKind> {
        self.end.as_ref().err().map(Error::kind)
    }
}

/// Reads the expected bytes of `source` in the given mode. It needs a tokio runtime.
///
/// `options` must ask for the expected offset.
///
/// # Panics
/// If a byte is wrong, if bytes are missing without an error, or if the run takes too long.
pub async fn run(mode: Mode, source: Arc<dyn RangeSource>, options: Options, expected: Expected) -> Outcome {
    let (left, outcome) = read(mode, source, options, expected.offset, expected.size).await;
    if let Err(wrong) = left.check(expected, outcome.end.is_ok()) {
        panic!("{mode}: {wrong}; it ended with {:?}", outcome.end);
    }
    outcome
}

/// The visible bytes that a run has left.
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

    /// Calls `work` with the bytes, from the first requested one on.
    fn with_bytes<T>(&mut self, work: impl FnOnce(&mut [u8]) -> T) -> T {
        match self {
            Self::Prefix(bytes) | Self::Buffer(bytes) => work(bytes),
            Self::Witness(witness) => witness.with_memory(work),
        }
    }
}

/// Reads `size` bytes from `offset`, into a buffer with a margin.
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
