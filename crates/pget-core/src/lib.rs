//! One object, read as many parallel byte ranges and delivered in order through a bounded window.
//!
//! This crate has no network. It asks the operating system how much memory there is (`Budget`),
//! and advises it where huge pages pay. It contains
//!
//! - the contract with a transport: [`RangeSource`], [`RangeRequest`], [`Reply`], [`ChunkWriter`];
//! - [`memory`]: the memory chunks land in, the published watermark, and the view lent to the
//!   consumer;
//! - [`Download`]: the thin tokio driver, and the in-order [`Reader`] and [`BlockingReader`] on top
//!   of it;
//! - `fork`: the generation of everything that belongs to one process, made again in a forked
//!   child;
//! - [`verify`]: the published checksum, compared with the bytes;
//! - [`Budget`]: what all downloads of a process may hold together.
//!
//! # The promises, in order of importance
//!
//! 1. The bytes are exactly one revision of the object, complete, or the read fails.
//! 2. Memory is bounded by `window × chunk_size` for a download, and by one [`Budget`] for all of
//!    them.
//! 3. Nothing hangs: what can stall has a no-progress deadline ([`Deadlines`]); dropping a reader
//!    cancels everything.
//! 4. The bytes of a socket land in their final memory.

mod budget;
mod cancel;
mod collector;
mod delivery;
mod download;
mod engine;
mod error;
mod exchange;
#[doc(hidden)]
pub mod fork;
pub mod memory;
mod options;
#[doc(hidden)]
pub mod redact;
mod revision;
mod source;
mod stats;
mod sync;
#[doc(hidden)]
pub mod system_memory;
#[doc(hidden)]
pub mod threads;
pub mod verify;

pub use budget::Budget;
pub use cancel::Cancel;
pub use collector::Collector;
pub use delivery::{BlockingReader, Destination, Keeps, Monitor, Ranges, Reader, Transfer};
pub use download::Download;
pub use engine::head;
#[doc(hidden)]
pub use engine::patiently;
pub use error::{BoxError, Error, ErrorKind, Retry, SourceError};
pub use exchange::{RangeRequest, Reply};
pub use memory::{ChunkWriter, Lease};
pub use options::{Deadlines, Options, Progress};
pub use revision::{Checksum, Match, ObjectInfo, Revision};
pub use source::RangeSource;
pub use stats::{Stats, Waiting};
pub use verify::{Published, Verification, Verify};

pub use bytes::BufMut;
