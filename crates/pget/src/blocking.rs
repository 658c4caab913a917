//! Objects and readers for threads that may block. They need no tokio in the caller.
//!
//! Do not use them on threads of an asynchronous runtime, where a wait would panic.
//!
//! ```no_run
//! let object = pget::builder("s3://bucket/key").blocking()?;
//! let mut buffer = vec![0; 1 << 20];
//! let length = object.read_into(&mut buffer)?;
//! # Ok::<(), pget::Error>(())
//! ```

use std::{ops::Range, path::Path, sync::Arc};

use pget_core::{
    BlockingReader, Destination, Error, ErrorKind, ObjectInfo, RangeSource, Stats, threads::block_on,
};
use tokio::runtime::Handle;

use crate::{Builder, Settings, file, runtime, source::ObjectSource};

pub use crate::runtime::{WhenTriggered, when_triggered};

#[cfg(all(feature = "shm", target_os = "linux", not(pget_portable)))]
pub use crate::shared::BlockingDownload as SharedDownload;

/// Opens the object at `address` with default settings and waits for the first reply.
///
/// # Errors
/// As [`open`](crate::open).
///
/// # Examples
/// ```no_run
/// let mut reader = pget::blocking::open("s3://bucket/key")?;
/// std::io::copy(&mut reader, &mut std::io::stdout())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open(address: &str) -> Result<BlockingReader, Error> {
    Builder::new(address).blocking()?.reader()
}

/// Returns size and revision of the object at `address`, without reading it.
///
/// # Errors
/// As [`open`](crate::open).
///
/// # Examples
/// ```no_run
/// println!("{:?}", pget::blocking::stat("s3://bucket/key")?.size);
/// # Ok::<(), pget::Error>(())
/// ```
pub fn stat(address: &str) -> Result<ObjectInfo, Error> {
    Builder::new(address).blocking()?.stat()
}

impl Builder {
    /// Checks address and settings, and returns the object, to be read by threads that may block.
    /// Sends nothing.
    ///
    /// # Errors
    /// As [`object`](Self::object).
    ///
    /// # Examples
    /// ```no_run
    /// let object = pget::builder("ais://shards/train-000.tar").blocking()?;
    /// let mut archive = Vec::new();
    /// object.reader()?.write_to(&mut archive)?;
    /// # Ok::<(), pget::Error>(())
    /// ```
    pub fn blocking(&self) -> Result<Object, Error> {
        let builder = Self {
            #[cfg(feature = "http")]
            on_process_runtime: true,
            ..self.clone()
        };
        Object::new(ObjectSource::at(builder)?)
    }
}

/// One object and how to read it, for threads that may block. Any number of threads may read it at
/// once. Clones are the same object.
///
/// The reads run on the process's runtime, and share its connections with all other blocking reads
/// of the process. A forked child may go on to use an object from before the fork.
///
/// # Examples
/// ```no_run
/// let object = pget::builder("s3://bucket/key").blocking()?;
/// let stats = object.get_file("key".as_ref())?;
/// println!("{} bytes", stats.delivered);
/// # Ok::<(), pget::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Object {
    source: Arc<ObjectSource>,
}

impl Object {
    fn new(source: Arc<ObjectSource>) -> Result<Self, Error> {
        if let Some(threads) = source.settings().threads {
            runtime::use_threads(threads);
        }
        Ok(Self { source })
    }

    /// Returns the object that `source` reads, as [`crate::Object::from_source`] does.
    ///
    /// # Errors
    /// As [`crate::Object::from_source`].
    ///
    /// # Examples
    /// ```no_run
    /// # fn example(source: std::sync::Arc<dyn pget::RangeSource>) -> Result<(), pget::Error> {
    /// let object = pget::blocking::Object::from_source(source, pget::Settings::default())?;
    /// object.get_file("copy.bin".as_ref())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_source(source: Arc<dyn RangeSource>, settings: Settings) -> Result<Self, Error> {
        Self::new(ObjectSource::of(source, settings)?)
    }

    /// Returns the same object for reads on the process's [`runtime`].
    #[doc(hidden)]
    #[must_use]
    pub fn asynchronous(&self) -> crate::Object {
        crate::Object::new(Arc::clone(&self.source))
    }

    /// Begins to read in order, and waits for the first reply, so that an error of the credentials
    /// or the object is found here.
    ///
    /// Dropping the reader cancels the read. To end a wait from another thread, use a
    /// [cancel handle](crate::Builder::cancel) or [`BlockingReader::monitor`].
    ///
    /// # Errors
    /// Errors of the first request; [`Resources`](ErrorKind::Resources) if the process has no
    /// descriptors left.
    ///
    /// # Panics
    /// On a thread of an asynchronous runtime.
    ///
    /// # Examples
    /// ```no_run
    /// let object = pget::builder("ais://shards/train-000.tar").blocking()?;
    /// let mut reader = object.reader()?;
    /// while let Some(lease) = reader.next_lease()? {
    ///     println!("{} bytes at {}", lease.len(), lease.offset());
    /// }
    /// # Ok::<(), pget::Error>(())
    /// ```
    pub fn reader(&self) -> Result<BlockingReader, Error> {
        self.source.blocking_reader()
    }

    /// Returns size and revision without reading. A failed request is retried as ranges are.
    ///
    /// # Errors
    /// Errors of the last request.
    ///
    /// # Panics
    /// On a thread of an asynchronous runtime.
    ///
    /// # Examples
    /// ```no_run
    /// let info = pget::builder("s3://bucket/key").blocking()?.stat()?;
    /// println!("{:?} bytes, {}", info.size, info.revision);
    /// # Ok::<(), pget::Error>(())
    /// ```
    pub fn stat(&self) -> Result<ObjectInfo, Error> {
        let runtime = runtime::handle()?;
        let source = Arc::clone(&self.source);
        // On a worker: a write to a closed socket raises SIGPIPE, which is the caller's to have on
        // its own thread.
        let asked = runtime.spawn(async move { source.stat().await });
        block_on(runtime, asked).unwrap_or_else(|cause| {
            let message = "the request's task has ended";
            Err(Error::with_cause(ErrorKind::Internal, "", message, cause))
        })
    }

    /// Reads into `buffer`, each range straight to its place; returns the number of bytes read.
    ///
    /// When it returns, nothing writes to `buffer` any more. After an error the content of the
    /// buffer is unspecified.
    ///
    /// # Errors
    /// As [`reader`](Self::reader), and errors of later requests;
    /// [`BufferTooSmall`](ErrorKind::BufferTooSmall) with the [needed size](Error::needed), if it
    /// is known: then nothing was written.
    ///
    /// # Panics
    /// On a thread of an asynchronous runtime.
    ///
    /// # Examples
    /// ```no_run
    /// let object = pget::builder("s3://bucket/key").length(4096).blocking()?;
    /// let mut head = [0; 4096];
    /// let length = object.read_into(&mut head)?;
    /// # Ok::<(), pget::Error>(())
    /// ```
    pub fn read_into(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        let runtime = runtime::handle()?;
        self.source.download()?.read_into_on(runtime, buffer)
    }

    /// Reads many ranges of one revision, each into its own buffer. `each` is called on this thread
    /// as a range is complete, with its index in the list and its bytes.
    ///
    /// Ranges are in bytes of the object, in any order; they may touch, overlap and be the same.
    /// Near ones are fetched [together](crate::Builder::gap).
    ///
    /// # Errors
    /// As [`read_into`](Self::read_into); [`Range`](ErrorKind::Range) names the range that reaches
    /// beyond the object. [`BufferTooSmall`](ErrorKind::BufferTooSmall) and
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) (a range that ends before it begins, an
    /// offset or a length that is set) are found before anything is sent.
    ///
    /// # Panics
    /// On a thread of an asynchronous runtime, and if `each` panics.
    ///
    /// # Examples
    /// ```no_run
    /// # let index: Vec<std::ops::Range<u64>> = Vec::new();
    /// let length = |range: &std::ops::Range<u64>| (range.end - range.start) as usize;
    /// let mut tensors: Vec<Vec<u8>> = index.iter().map(|range| vec![0; length(range)]).collect();
    /// let buffers = tensors.iter_mut().map(Vec::as_mut_slice);
    /// let mut ranges: Vec<_> = index.iter().cloned().zip(buffers).collect();
    /// let weights = pget::builder("s3://models/weights.safetensors").blocking()?;
    /// weights.read_ranges(&mut ranges, |tensor, bytes| {
    ///     println!("tensor {tensor} has its {} bytes", bytes.len());
    /// })?;
    /// # Ok::<(), pget::Error>(())
    /// ```
    pub fn read_ranges(
        &self,
        ranges: &mut [(Range<u64>, &mut [u8])],
        each: impl FnMut(usize, &mut [u8]),
    ) -> Result<Stats, Error> {
        let runtime = runtime::handle()?;
        self.source.download()?.read_ranges_on(runtime, ranges, each)
    }

    /// Reads to `destination`, each range at its place as it arrives. Of the result, `delivered` is
    /// the number of bytes placed.
    ///
    /// When it returns, nothing is written to `destination` any more.
    ///
    /// # Errors
    /// As [`reader`](Self::reader), errors of later requests, and errors of the destination.
    ///
    /// # Panics
    /// On a thread of an asynchronous runtime.
    ///
    /// # Examples
    /// ```no_run
    /// # use std::sync::Arc;
    /// # fn example(disk: Arc<dyn pget::Destination>) -> Result<(), pget::Error> {
    /// let object = pget::builder("s3://bucket/key").blocking()?;
    /// println!("{} bytes", object.read_to(disk)?.delivered);
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_to(&self, destination: Arc<dyn Destination>) -> Result<Stats, Error> {
        let runtime = runtime::handle()?;
        self.source.download()?.read_to_on(runtime, destination)
    }

    /// Reads only `extents` of the object to `destination`: the part of it that is missing there.
    ///
    /// Extents are in bytes of the object, in any order; bytes beyond the object's end are left
    /// out. Without any, nothing is sent, and the destination is not called.
    ///
    /// # Errors
    /// As [`read_to`](Self::read_to); [`InvalidArgument`](ErrorKind::InvalidArgument) if an extent
    /// ends before it begins, or an offset or a length is set.
    ///
    /// # Panics
    /// On a thread of an asynchronous runtime.
    ///
    /// # Examples
    /// ```no_run
    /// # use std::sync::Arc;
    /// # fn example(disk: Arc<dyn pget::Destination>) -> Result<(), pget::Error> {
    /// let object = pget::builder("s3://bucket/key").blocking()?;
    /// object.read_extents_to(&[0..4096, 1 << 20..2 << 20], disk)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_extents_to(
        &self,
        extents: &[Range<u64>],
        destination: Arc<dyn Destination>,
    ) -> Result<Stats, Error> {
        let runtime = runtime::handle()?;
        let download = self.source.download()?;
        download.read_extents_to_on(runtime, extents, destination)
    }

    /// Reads into the file at `path`, as [`crate::Object::get_file`] does.
    ///
    /// # Errors
    /// As [`crate::Object::get_file`].
    ///
    /// # Panics
    /// On a thread of an asynchronous runtime.
    ///
    /// # Examples
    /// ```no_run
    /// let archive = pget::builder("s3://bucket/archive.tar").resume(true).blocking()?;
    /// let stats = archive.get_file("archive.tar".as_ref())?;
    /// println!("{} bytes were missing", stats.delivered);
    /// # Ok::<(), pget::Error>(())
    /// ```
    pub fn get_file(&self, path: &Path) -> Result<Stats, Error> {
        file::get_blocking(&self.source, path)
    }
}

#[cfg(all(feature = "shm", target_os = "linux", not(pget_portable)))]
impl Object {
    /// Reads into shared memory, in the background on the process's runtime. Returns when the first
    /// reply has stated the size and the segment is made.
    ///
    /// [Progress](crate::Builder::progress) is reported on a thread of the runtime.
    ///
    /// # Errors
    /// As [`crate::Object::get_shared`]; [`Resources`](ErrorKind::Resources) if the runtime has no
    /// thread to go on with.
    ///
    /// # Panics
    /// On a thread of an asynchronous runtime.
    ///
    /// # Examples
    /// ```no_run
    /// let object = pget::builder("s3://bucket/key").blocking()?;
    /// let mut download = object.get_shared(pget::Placement::Anonymous)?;
    /// println!("other processes attach to {}", download.buffer().name());
    /// download.ended()?;
    /// # Ok::<(), pget::Error>(())
    /// ```
    pub fn get_shared(&self, placement: crate::Placement) -> Result<SharedDownload, Error> {
        crate::shared::get_blocking(&self.source, placement)
    }

    /// Writes the object into `ring` as its next one; returns when the process that reads the ring
    /// has taken all of it.
    ///
    /// The [cancel handle](crate::Builder::cancel) ends waits for that process, too, and replaces
    /// the function of [`stop_when`](crate::shm::RingWriter::stop_when).
    ///
    /// # Errors
    /// Errors of the read. The reader of the ring gets them, too, if the ring has begun with the
    /// object (it has not if the object is not [found](ErrorKind::NotFound), for example).
    /// [`Destination`](ErrorKind::Destination) if that reader has gone or died.
    ///
    /// # Panics
    /// On a thread of an asynchronous runtime.
    ///
    /// # Examples
    /// ```no_run
    /// let mut ring = pget::shm::RingWriter::create(Some("samples"), 8 << 20)?;
    /// for url in ["s3://bucket/a", "s3://bucket/b"] {
    ///     pget::builder(url).blocking()?.put_into_ring(&mut ring)?;
    /// }
    /// # Ok::<(), pget::Error>(())
    /// ```
    pub fn put_into_ring(&self, ring: &mut crate::shm::RingWriter) -> Result<Stats, Error> {
        crate::shared::put_into_ring(&self.source, ring)
    }
}

/// The process's runtime, for bindings to other languages, which wait in their own way.
///
/// # Errors
/// [`Resources`](ErrorKind::Resources) if the runtime cannot have a thread.
#[doc(hidden)]
pub fn runtime() -> Result<&'static Handle, Error> {
    runtime::handle_with_threads()
}
