//! How a wrapper reads, whatever the version of the trait.

use std::ops::Range;

use pget_core::{ObjectInfo, Options, Verify};
use tokio::runtime::Handle;

/// The settings of a wrapper.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) options: Options,
    /// Ranges of at most so many bytes are passed on.
    pub(crate) threshold: u64,
    /// The runtime that everything is done on, if the caller has set one.
    pub(crate) runtime: Option<Handle>,
}

impl Settings {
    /// Two first chunks: what is shorter is not faster in parallel.
    const THRESHOLD: u64 = 2 * Options::FIRST_CHUNK_SIZE;

    /// Bytes of the first request of a read.
    pub(crate) fn first_chunk(&self) -> u64 {
        self.options.chunk_size.unwrap_or(Options::FIRST_CHUNK_SIZE)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            options: Options::default(),
            threshold: Self::THRESHOLD,
            runtime: None,
        }
    }
}

impl Settings {
    /// Returns the options of a read of `range`, or of several ranges, of the revision `pin`.
    pub(crate) fn reading(&self, pin: ObjectInfo, range: Option<&Range<u64>>) -> Options {
        let mut options = self.options.clone();
        options.pin = Some(pin);
        // The trait has no checksums.
        options.verify = Verify::Off;
        options.offset = range.map_or(0, |range| range.start);
        options.length = range.map(|range| range.end - range.start);
        options
    }
}
