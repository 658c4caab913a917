//! One download: options, the driver, and the in-order readers.
//!
//! Who is who: [`Shared`](shared::Shared) holds the schedule and the open slots under one lock; the [`driver`] task does what the schedule says, one task an attempt;
//! the [`Reader`] takes leases at the cursor and moves it. Dropping the reader cancels: the driver ends, and with it every attempt.

mod accept;
mod blocking;
mod cancel;
mod destination;
mod driver;
mod gathered;
mod head;
mod hosts;
mod judge;
#[cfg(all(test, feature = "model"))]
mod model;
mod options;
mod place;
mod ranges;
mod reader;
mod scatter;
mod shared;
mod watchdog;

use std::sync::Arc;

pub use blocking::BlockingReader;
pub use cancel::Cancel;
pub use destination::{Destination, Keeps, Place};
pub use head::head;
pub use options::{Deadlines, Options, Progress};
pub use ranges::Ranges;
pub use reader::{Monitor, Reader};
use tokio::runtime::Handle;

pub(crate) use accept::accept;

use crate::{Error, RangeSource, fork::Generation};

/// A read of one object, not yet begun: a source and options.
#[derive(Clone, Debug)]
pub struct Download {
    source: Arc<dyn RangeSource>,
    options: Options,
    /// The process that it was made in: a source may have connections and locks of that process.
    generation: Generation,
}

impl Download {
    /// Checks the options; sends nothing.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if an option is out of its range.
    pub fn new(source: Arc<dyn RangeSource>, options: Options) -> Result<Self, Error> {
        options
            .check()
            .map_err(|message| Error::new(crate::ErrorKind::InvalidArgument, source.name(), message))?;
        Ok(Self {
            source,
            options,
            generation: Generation::current(),
        })
    }

    /// Begins the download on the tokio runtime of the caller and gives its in-order reader.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader_on(&Handle::current())
    }

    /// Begins the download on `runtime` (with time enabled) and gives its in-order reader, which may be polled from anywhere.
    #[must_use]
    pub fn reader_on(&self, runtime: &Handle) -> Reader {
        Reader::new(
            self.start(runtime, shared::Sink::Reader),
            self.options.progress.clone(),
        )
    }

    /// Begins the download on `runtime` and gives a reader for a thread that may block, which must not be a thread of an asynchronous runtime.
    #[must_use]
    pub fn blocking_reader_on(&self, runtime: &Handle) -> BlockingReader {
        BlockingReader::new(self.reader_on(runtime), runtime.clone())
    }

    /// # Errors
    /// [`Forked`](crate::ErrorKind::Forked) in a child that was forked since it was made.
    fn check_process(&self) -> Result<(), Error> {
        self.generation.check("the download")
    }

    fn start(&self, runtime: &Handle, sink: shared::Sink) -> Arc<shared::Shared> {
        let refused = self.check_process().err();
        driver::start(Arc::clone(&self.source), &self.options, runtime, sink, refused)
    }
}
