//! Servers and sources for pget's tests: a misbehaving HTTP server, an AIStore stand-in, real servers started on free ports, conformance, and the
//! ways in which a download's bytes go.

pub mod aistore;
pub mod conformance;
pub mod content;
pub mod corpus;
pub mod forked;
pub mod hostile;
pub mod modes;
pub mod servers;
pub mod shaped;
pub mod sources;

/// A download of chunks of `chunk_size` bytes by `concurrency` connections, whose attempts may fail three times.
#[must_use]
pub fn options(chunk_size: u64, concurrency: u32) -> pget_core::Options {
    let mut options = pget_core::Options::default();
    options.chunk_size = Some(chunk_size);
    options.concurrency = Some(concurrency);
    options.retries = Some(3);
    options
}
