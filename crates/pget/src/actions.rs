//! What a [`Builder`] does once it is set up: opening, reading, and getting files and shared
//! memory.

use std::{ops::Range, path::Path, sync::Arc};

use pget_core::{Destination, Download, Error, ObjectInfo, RangeSource, Ranges, Reader, Stats};

use crate::{Address, Builder, blocking, connect, file};

impl Builder {
    /// Returns the source that the address names, for a [`Download`] of one's own.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an unusable address or property,
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if its transport is not built in, or what the
    /// transport says.
    pub fn source(&self) -> Result<Arc<dyn RangeSource>, Error> {
        Ok(self.placed()?.source)
    }

    pub(crate) fn placed(&self) -> Result<connect::Placed, Error> {
        connect::source(Address::parse(&self.address)?, self)
    }

    /// Begins the download on the caller's tokio runtime and waits for the first reply.
    ///
    /// # Errors
    /// As [`source`](Self::source), or what the first request meets.
    pub async fn open(&self) -> Result<Reader, Error> {
        let reader = self.download()?.reader();
        reader.info().await?;
        Ok(reader)
    }

    /// Size and revision, without reading.
    ///
    /// # Errors
    /// As [`source`](Self::source), or what the request meets. It is tried again as ranges are.
    pub async fn stat(&self) -> Result<ObjectInfo, Error> {
        let source = self.source()?;
        pget_core::head(&*source, &self.options).await
    }

    /// As [`open`](Self::open), for a thread that may block.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_blocking(&self) -> Result<pget_core::BlockingReader, Error> {
        blocking::open_with(self)
    }

    /// Reads straight into `buffer`, each chunk at its place, from a thread that may block; returns
    /// the number of bytes. When it returns, nothing writes to `buffer` any more. After an error
    /// the buffer's content is unspecified.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`BufferTooSmall`](crate::ErrorKind::BufferTooSmall) with the
    /// [needed size](Error::needed), if it is known: then nothing was written.
    pub fn read_into_blocking(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        blocking::with_download(self, |download, runtime| download.read_into_on(runtime, buffer))
    }

    /// The same into a buffer that is given and comes back, on the caller's tokio runtime. Dropping
    /// the future cancels, and frees the buffer when the last writer has let go of it.
    ///
    /// # Errors
    /// As [`read_into_blocking`](Self::read_into_blocking). The buffer is lost only if its own code
    /// panics.
    pub async fn read_into<B: AsMut<[u8]> + Send + 'static>(
        &self,
        buffer: B,
    ) -> (Result<usize, Error>, Option<B>) {
        match self.download() {
            Ok(download) => download.read_into(buffer).await,
            Err(error) => (Err(error), Some(buffer)),
        }
    }

    /// Reads to `destination` from a thread that may block, each chunk at its place as it arrives;
    /// returns what was done, `delivered` being the number of bytes placed. When it returns, well
    /// or not, nothing gets to `destination` any more.
    ///
    /// # Errors
    /// As [`open`](Self::open), or what the destination says.
    pub fn read_to_blocking(&self, destination: Arc<dyn Destination>) -> Result<Stats, Error> {
        blocking::with_download(self, |download, runtime| {
            download.read_to_on(runtime, destination)
        })
    }

    /// Reads to `destination` on the caller's tokio runtime, as
    /// [`read_to_blocking`](Self::read_to_blocking) does. Dropping the future cancels, and does not
    /// wait.
    ///
    /// # Errors
    /// As [`read_to_blocking`](Self::read_to_blocking).
    pub async fn read_to(&self, destination: Arc<dyn Destination>) -> Result<Stats, Error> {
        self.download()?.read_to(destination).await
    }

    /// Reads into shared memory, in the background on the caller's tokio runtime. Returns when the
    /// first reply has said how long the object is and the segment is made; wait for bytes by the
    /// [buffer](crate::SharedDownload::buffer), for the end by
    /// [`ended`](crate::SharedDownload::ended). [Progress](Self::progress) is reported on a thread
    /// of the runtime.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Destination`](crate::ErrorKind::Destination) if there is no room
    /// or the name is taken; [`Unsupported`](crate::ErrorKind::Unsupported) if the server does not
    /// state the size. A buffer to be reused is closed then.
    #[cfg(feature = "shm")]
    pub async fn get_shared(&self, placement: crate::Placement) -> Result<crate::SharedDownload, Error> {
        crate::shared::get(self, placement).await
    }

    /// As [`get_shared`](Self::get_shared) on the process's runtime, from a thread that may block.
    ///
    /// # Errors
    /// As [`get_shared`](Self::get_shared).
    #[cfg(feature = "shm")]
    pub fn get_shared_blocking(&self, placement: crate::Placement) -> Result<crate::SharedDownload, Error> {
        crate::shared::get_blocking(self, placement)
    }

    /// Reads all of it into shared memory, from a thread that may block; [progress](Self::progress)
    /// is reported on that thread. Other processes may attach to a named segment from its start.
    ///
    /// # Errors
    /// As [`get_shared`](Self::get_shared), or what ended the download; nothing is left then.
    #[cfg(feature = "shm")]
    pub fn fill_shared_blocking(&self, placement: crate::Placement) -> Result<crate::SharedBuffer, Error> {
        crate::shared::fill_blocking(self, placement)
    }

    /// Puts the object into `ring` as its next one, from a thread that may block; returns when the
    /// process that reads the ring has taken all of it. The [cancel handle](Self::cancel) ends
    /// waits for that process, too (in the place of what
    /// [`stop_when`](crate::shm::RingWriter::stop_when) was given).
    ///
    /// # Errors
    /// What ended the download; the reader of the ring gets it, too, if the ring has begun with the
    /// object (it has not when it is not [found](crate::ErrorKind::NotFound), say);
    /// [`Destination`](crate::ErrorKind::Destination) if the reader has gone or died.
    #[cfg(feature = "shm")]
    pub fn put_into_ring_blocking(&self, ring: &mut crate::shm::RingWriter) -> Result<Stats, Error> {
        crate::shared::put_into_ring(self, self.options.cancel.as_ref(), ring)
    }

    /// Reads only `extents` of the object to `destination`, from a thread that may block: what is
    /// missing of it. As [`Download::read_extents_to`].
    ///
    /// # Errors
    /// As [`read_to_blocking`](Self::read_to_blocking);
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if an offset or a length is set.
    pub fn read_extents_to_blocking(
        &self,
        extents: &[Range<u64>],
        destination: Arc<dyn Destination>,
    ) -> Result<Stats, Error> {
        blocking::with_download(self, |download, runtime| {
            download.read_extents_to_on(runtime, extents, destination)
        })
    }

    /// The same on the caller's tokio runtime.
    ///
    /// # Errors
    /// As [`read_extents_to_blocking`](Self::read_extents_to_blocking).
    pub async fn read_extents_to(
        &self,
        extents: &[Range<u64>],
        destination: Arc<dyn Destination>,
    ) -> Result<Stats, Error> {
        self.download()?.read_extents_to(extents, destination).await
    }

    /// Reads many ranges of one revision of the object, each into its own buffer, from a thread
    /// that may block. Ranges may touch, overlap and be the same, in any order; near ones are
    /// fetched [together](Self::gap). `each` is called on this thread as a range is complete, with
    /// its place in the list and its bytes.
    ///
    /// ```no_run
    /// # let index: Vec<std::ops::Range<u64>> = Vec::new();
    /// let length = |range: &std::ops::Range<u64>| (range.end - range.start) as usize;
    /// let mut tensors: Vec<Vec<u8>> = index.iter().map(|range| vec![0; length(range)]).collect();
    /// let buffers = tensors.iter_mut().map(Vec::as_mut_slice);
    /// let mut ranges: Vec<_> = index.iter().cloned().zip(buffers).collect();
    /// let weights = pget::builder("s3://models/weights.safetensors");
    /// weights.read_ranges_blocking(&mut ranges, |tensor, bytes| {
    ///     println!("tensor {tensor} has its {} bytes", bytes.len());
    /// })?;
    /// # Ok::<(), pget::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Range`](crate::ErrorKind::Range) if a range goes beyond the
    /// object, telling which; [`BufferTooSmall`](crate::ErrorKind::BufferTooSmall) and
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) (a range that ends before it begins,
    /// an offset or a length besides) before anything is sent.
    pub fn read_ranges_blocking(
        &self,
        ranges: &mut [(Range<u64>, &mut [u8])],
        each: impl FnMut(usize, &mut [u8]),
    ) -> Result<Stats, Error> {
        blocking::with_download(self, |download, runtime| {
            download.read_ranges_on(runtime, ranges, each)
        })
    }

    /// The same with buffers that are given, and come back one by one as they are complete, on the
    /// caller's tokio runtime.
    ///
    /// # Errors
    /// As [`source`](Self::source), and of the ranges what is known before anything is sent.
    pub fn read_ranges<B: AsMut<[u8]> + Send + 'static>(
        &self,
        ranges: Vec<(Range<u64>, B)>,
    ) -> Result<Ranges<B>, Error> {
        self.download()?.read_ranges(ranges)
    }

    /// Reads into the file at `path`, from a thread that may block. Each range is written at its
    /// place in `PATH.pget-part`, which gets the name when it is complete, in place of what has it
    /// (of a symbolic link, the link is replaced). A device or a pipe is written to in order (a
    /// reader that opens a pipe with `O_NONBLOCK` may find it without a writer until the first
    /// bytes), and so is what is open already (`/dev/stdout`, `/dev/fd/N` and their like), from
    /// where it stands; nothing of it is cut. A relative path is taken from the folder that the
    /// process is in at the call.
    ///
    /// A new file has the mode that the process's umask leaves. A file that is replaced passes on
    /// its mode, owner, group and access list to the new one, as far as that is allowed. A file
    /// that cannot be replaced (a mount point, a sticky folder) is overwritten when the part is
    /// complete. What the file system refuses and is not needed is done without: see
    /// [`warnings`](Self::warnings).
    ///
    /// What has landed is written down in `PATH.pget-journal` from time to time, for a later
    /// [`resume`](Self::resume). After a failure, part and journal stay if a later read can go on
    /// with them (not if the object has changed or its checksum is wrong), and the message says so;
    /// with `resume` they stay, except after a wrong checksum. A part that is complete stays, too.
    /// `delivered` of the result counts what this read brought.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Destination`](crate::ErrorKind::Destination) if the file cannot
    /// be written, another process is writing it (where a file system has no locks: if a part is
    /// there), its path ends as a part's or a journal's does, or its part was removed or replaced
    /// during the read.
    pub fn get_file_blocking(&self, path: &Path) -> Result<Stats, Error> {
        file::get_blocking(self, path)
    }

    /// The same on the caller's tokio runtime, whose threads write to the file. Dropping the future
    /// cancels; what is there of the file then goes with the last write to it.
    ///
    /// # Errors
    /// As [`get_file_blocking`](Self::get_file_blocking).
    pub async fn get_file(&self, path: &Path) -> Result<Stats, Error> {
        file::get(self, path).await
    }

    /// As [`stat`](Self::stat), for a thread that may block.
    ///
    /// # Errors
    /// As [`stat`](Self::stat).
    pub fn stat_blocking(&self) -> Result<ObjectInfo, Error> {
        blocking::stat_with(self)
    }

    pub(crate) fn download(&self) -> Result<Download, Error> {
        Download::new(self.source()?, self.options.clone())
    }
}
