//! The ways in which the bytes of a download can go, so that one test holds for all of them.
//!
//! Invariant: a run ends, or panics at its deadline; and after it every byte that can be seen was looked at. In order: what was handed out. In memory: all of the buffer, and a margin behind it; each byte of it
//! must be the object's or untouched, however the run ended, because an answer that failed a check must not have left a byte anywhere. At a destination: the same, and what it was told has landed is right. Called by tests only.

use std::{fmt, sync::Arc, time::Duration};

use pget_core::{Download, Error, ErrorKind, Options, RangeSource, Stats};

use crate::content::Pattern;

mod witness;

use witness::Witness;

/// No run may take longer; most take milliseconds.
const DEADLINE: Duration = Duration::from_secs(60);
/// Bytes behind the object, which nobody may touch.
const MARGIN: usize = 4096;
/// What memory holds before a run.
const UNTOUCHED: u8 = 0xa5;

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

/// What should be read: `size` bytes of `pattern` from `offset` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The object's content.
    pub pattern: Pattern,
    /// The object's offset of the first byte read.
    pub offset: u64,
    /// How many bytes.
    pub size: u64,
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
    let download = match Download::new(source, options) {
        Ok(download) => download,
        Err(error) => return ended(0, Err(error)),
    };
    let work = async {
        match mode {
            Mode::InOrder => in_order(&download, expected).await,
            Mode::Memory => {
                let (end, buffer) = download.read_into(blank(expected)).await;
                placed(mode, end, &buffer.expect("a Vec does not panic"), expected)
            }
            Mode::Lent => {
                let runtime = tokio::runtime::Handle::current();
                let lent = tokio::task::spawn_blocking(move || {
                    let mut buffer = blank(expected);
                    let end = download.read_into_on(&runtime, &mut buffer);
                    (end, buffer)
                });
                let (end, buffer) = lent.await.expect("it does not panic");
                placed(mode, end, &buffer, expected)
            }
            Mode::Put | Mode::Placed => {
                let witness = Witness::new(expected, mode == Mode::Placed);
                let end = download.read_to(Arc::clone(&witness) as Arc<_>).await;
                witness.check(end.is_ok());
                match end {
                    Ok(stats) => ended(stats.delivered, Ok(())),
                    Err(error) => ended(0, Err(error)),
                }
            }
        }
    };
    let outcome = tokio::time::timeout(DEADLINE, work).await;
    let outcome = outcome.unwrap_or_else(|_| panic!("{mode}: hangs"));
    if outcome.end.is_ok() {
        assert_eq!(outcome.bytes, expected.size, "{mode}: cut short, and no error");
    }
    outcome
}

fn ended(bytes: u64, end: Result<(), Error>) -> Outcome {
    Outcome {
        bytes,
        end,
        stats: None,
    }
}

async fn in_order(download: &Download, expected: Expected) -> Outcome {
    let mut reader = download.reader();
    let mut bytes = 0;
    let end = loop {
        match reader.next().await {
            Ok(Some(lease)) => {
                let checked = expected.pattern.check(expected.offset + bytes, &lease);
                assert_eq!(checked, Ok(()), "in order: wrong bytes");
                bytes += lease.len() as u64;
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    assert!(
        bytes <= expected.size,
        "in order: {bytes} bytes of {}",
        expected.size
    );
    Outcome {
        bytes,
        end,
        stats: Some(reader.stats()),
    }
}

fn blank(expected: Expected) -> Vec<u8> {
    let size = usize::try_from(expected.size).expect("small");
    vec![UNTOUCHED; size + MARGIN]
}

fn placed(mode: Mode, end: Result<usize, Error>, buffer: &[u8], expected: Expected) -> Outcome {
    let (object, margin) = buffer.split_at(buffer.len() - MARGIN);
    assert!(
        margin.iter().all(|byte| *byte == UNTOUCHED),
        "{mode}: bytes behind the object"
    );
    let right = expected.pattern.bytes(expected.offset, object.len());
    let wrong =
        (object.iter().zip(&right)).position(|(is, due)| is != due && (*is != UNTOUCHED || end.is_ok()));
    assert_eq!(wrong, None, "{mode}: the first wrong byte, of {}", expected.size);
    match end {
        Ok(bytes) => ended(bytes as u64, Ok(())),
        Err(error) => ended(0, Err(error)),
    }
}
