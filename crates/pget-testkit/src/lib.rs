//! Servers and sources for pget's tests.
//!
//! - [`hostile`]: an HTTP server that misbehaves as its rules say.
//! - [`shaped`]: a server of one object that behaves like a network.
//! - [`aistore`]: a stand-in for an AIStore cluster.
//! - [`servers`]: real servers as child processes on free ports.
//! - [`sources`]: sources inside the test's process.
//! - [`conformance`]: the suite that every transport must pass.
//! - [`modes`]: the ways in which a download can deliver its bytes.

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

/// Checks that the committed file at `path` is what the code makes, `fresh`.
///
/// The file is written first if `scripts/header.sh` has set `PGET_WRITE_HEADER`.
///
/// # Panics
/// If the file differs, or cannot be read or written.
#[track_caller]
pub fn committed(path: &std::path::Path, fresh: &str) {
    let name = path.display();
    if std::env::var_os("PGET_WRITE_HEADER").is_some() {
        std::fs::write(path, fresh).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let committed = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(committed == fresh, "{name} is stale: run scripts/header.sh");
}

/// Returns options with chunks of `chunk_size` bytes, `concurrency` connections and three retries.
#[must_use]
pub fn options(chunk_size: u64, concurrency: u32) -> pget_core::Options {
    let mut options = pget_core::Options::default();
    options.chunk_size = Some(chunk_size);
    options.concurrency = Some(concurrency);
    options.retries = Some(3);
    options
}
