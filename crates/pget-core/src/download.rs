//! A download that has not begun: a source and options.

use std::sync::Arc;

use tokio::runtime::Handle;

use pget_schedule::Wanted;

use crate::{
    Error, RangeSource,
    delivery::{BlockingReader, Reader, in_order::InOrder, verified::Verified},
    engine::{delivery::Delivery, driver, state::Engine},
    fork::Generation,
    options::Options,
};

/// A read of one object, not yet begun: a source and options. Each call of a method begins a read
/// of its own.
///
/// # Examples
/// ```no_run
/// # use std::sync::Arc;
/// # async fn example(source: Arc<dyn pget_core::RangeSource>) -> Result<(), pget_core::Error> {
/// let download = pget_core::Download::new(source, pget_core::Options::default())?;
/// let mut reader = download.reader();
/// while let Some(lease) = reader.next().await? {
///     println!("{} bytes at {}", lease.len(), lease.offset());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Download {
    pub(crate) source: Arc<dyn RangeSource>,
    pub(crate) options: Options,
    /// The process that it was made in: a source may have connections and locks of that process.
    generation: Generation,
}

impl Download {
    /// Checks the options; sends nothing.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if an option is out of its range.
    pub fn new(source: Arc<dyn RangeSource>, options: Options) -> Result<Self, Error> {
        options.check_for(|| source.name())?;
        Ok(Self {
            source,
            options,
            generation: Generation::current(),
        })
    }

    /// Begins the download on the tokio runtime of the caller and returns its in-order reader.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader_on(&Handle::current())
    }

    /// Begins the download on `runtime` (with time enabled) and returns its in-order reader, which
    /// may be polled from anywhere.
    #[doc(hidden)]
    #[must_use]
    pub fn reader_on(&self, runtime: &Handle) -> Reader {
        let delivery = self.verified(InOrder);
        let engine = self.start(runtime, None, Arc::clone(&delivery) as _);
        Reader::new(engine, delivery, self.options.progress.clone())
    }

    /// Begins the download on `runtime` and returns a reader for a thread that may block, which
    /// must not be a thread of an asynchronous runtime.
    #[doc(hidden)]
    #[must_use]
    pub fn blocking_reader_on(&self, runtime: &Handle) -> BlockingReader {
        BlockingReader::new(self.reader_on(runtime), runtime.clone())
    }

    /// # Errors
    /// [`Forked`](crate::ErrorKind::Forked) in a child that was forked since it was made.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        self.generation.check("the download")
    }

    /// Wraps a delivery of this download.
    pub(crate) fn verified<D: Delivery>(&self, delivery: D) -> Arc<Verified<D>> {
        let (wish, object) = (self.options.verify, self.source.name());
        Arc::new(Verified::new(delivery, wish, object))
    }

    /// Begins to read `wanted`, or the range of the options, to `delivery`.
    pub(crate) fn start(
        &self,
        runtime: &Handle,
        wanted: Option<Wanted>,
        delivery: Arc<dyn Delivery>,
    ) -> Arc<Engine> {
        let refused = self.check_process().err();
        let source = Arc::clone(&self.source);
        driver::start(source, &self.options, runtime, wanted, delivery, refused)
    }
}
