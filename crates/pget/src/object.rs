//! One object, ready to be read on tokio runtimes.
//!
//! [`Builder`] names the object, and [`Object`] reads it on the caller's runtime.

use std::{ops::Range, path::Path, sync::Arc};

use pget_core::{Destination, Error, ObjectInfo, RangeSource, Ranges, Reader, Stats};

use crate::{Builder, Settings, file, source::ObjectSource};

impl Builder {
    /// Checks address and settings, and returns the object, to be read on tokio runtimes. Sends
    /// nothing.
    ///
    /// The files that the settings name are read now.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an unusable address, setting,
    /// property or header, [`Unsupported`](crate::ErrorKind::Unsupported) if the transport is not
    /// built in, and errors of the transport.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example() -> Result<(), pget::Error> {
    /// let weights = pget::builder("s3://models/weights.safetensors").object()?;
    /// println!("{:?} bytes", weights.stat().await?.size);
    /// # Ok(())
    /// # }
    /// ```
    pub fn object(&self) -> Result<Object, Error> {
        Ok(Object::new(ObjectSource::at(self.clone())?))
    }
}

/// One object and how to read it. Any number of tasks may read it, at the same time or one after
/// the other; each read is one revision or an error. Clones are the same object.
///
/// All reads share connections, credentials, and what was learned of the servers. An object belongs
/// to the first tokio runtime that reads it, as its idle connections do.
///
/// Dropping the future of an action, or a reader, cancels that read and no other.
///
/// # Examples
/// ```no_run
/// # async fn example() -> Result<(), pget::Error> {
/// let object = pget::builder("s3://bucket/checkpoint").chunk_size(8 << 20).object()?;
/// let mut reader = object.reader().await?;
/// while let Some(lease) = reader.next().await? {
///     println!("{} bytes at {}", lease.len(), lease.offset());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Object {
    source: Arc<ObjectSource>,
}

impl Object {
    /// Returns the object that `source` reads. Sends nothing.
    ///
    /// The settings' `properties` and `headers` have no meaning here and must be empty.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an unusable setting.
    ///
    /// # Examples
    /// ```no_run
    /// # use std::sync::Arc;
    /// # async fn example(source: Arc<dyn pget::RangeSource>) -> Result<(), pget::Error> {
    /// let object = pget::Object::from_source(source, pget::Settings::default())?;
    /// object.get_file("copy.bin".as_ref()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_source(source: Arc<dyn RangeSource>, settings: Settings) -> Result<Self, Error> {
        Ok(Self {
            source: ObjectSource::of(source, settings)?,
        })
    }

    pub(crate) const fn new(source: Arc<ObjectSource>) -> Self {
        Self { source }
    }

    /// Returns the object's address for messages, without credentials or signatures.
    ///
    /// # Examples
    /// ```
    /// let object = pget::builder("https://user:secret@example.com/key").object()?;
    /// assert_eq!(object.name(), "https://example.com/key");
    /// # Ok::<(), pget::Error>(())
    /// ```
    #[must_use]
    pub fn name(&self) -> String {
        match self.source.opened() {
            Ok(opened) => opened.source.name(),
            Err(error) => error.object().to_owned(),
        }
    }

    /// Returns the transport's source of the object, for a [`Download`](crate::Download) of one's
    /// own.
    ///
    /// # Errors
    /// In a forked child, as [`Builder::object`].
    pub fn source(&self) -> Result<Arc<dyn RangeSource>, Error> {
        Ok(Arc::clone(&self.source.opened()?.source))
    }

    /// Begins to read in order, and waits for the first reply, so that an error of the credentials
    /// or the object is found here.
    ///
    /// # Errors
    /// Errors of the first request.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    ///
    /// # Cancel safety
    /// Dropping the future or the reader cancels the read.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example() -> Result<(), pget::Error> {
    /// let object = pget::builder("https://example.com/archive.tar").object()?;
    /// let mut reader = object.reader().await?;
    /// let copied = reader.copy_to(&mut tokio::io::sink()).await?;
    /// assert_eq!(Some(copied), reader.total());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn reader(&self) -> Result<Reader, Error> {
        self.source.reader().await
    }

    /// Returns size and revision without reading. A failed request is retried as ranges are.
    ///
    /// # Errors
    /// Errors of the last request.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the request.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example() -> Result<(), pget::Error> {
    /// let info = pget::builder("s3://bucket/key").object()?.stat().await?;
    /// println!("{:?} bytes, {}", info.size, info.revision);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn stat(&self) -> Result<ObjectInfo, Error> {
        self.source.stat().await
    }

    /// Reads into `buffer`, each range straight to its place; returns the number of bytes
    /// read, and the buffer. The buffer is returned except if its own code panics.
    ///
    /// After an error the content of the buffer is unspecified.
    ///
    /// # Errors
    /// As [`reader`](Self::reader), and errors of later requests;
    /// [`BufferTooSmall`](crate::ErrorKind::BufferTooSmall) with the [needed size](Error::needed),
    /// if it is known: then nothing was written.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the read. The buffer is freed when the last writer has released
    /// it.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example() -> Result<(), pget::Error> {
    /// let object = pget::builder("s3://bucket/key").offset(1 << 20).length(4096).object()?;
    /// let (result, buffer) = object.read_into(vec![0; 4096]).await;
    /// println!("{} bytes of {:?}", result?, buffer.map(|buffer| buffer.len()));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_into<B: AsMut<[u8]> + Send + 'static>(
        &self,
        buffer: B,
    ) -> (Result<usize, Error>, Option<B>) {
        match self.source.download() {
            Ok(download) => download.read_into(buffer).await,
            Err(error) => (Err(error), Some(buffer)),
        }
    }

    /// Begins to read many ranges of one revision, each into its own buffer; buffers come back one
    /// by one as they are complete, by [`Ranges::next`].
    ///
    /// Ranges are in bytes of the object, in any order; they may touch, overlap and be the same.
    /// Near ones are fetched [together](Builder::gap).
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if a range ends before it begins or
    /// an offset or a length is set, [`BufferTooSmall`](crate::ErrorKind::BufferTooSmall). Errors
    /// of requests are returned by [`Ranges::next`], which names the range that reaches beyond the
    /// object as [`Range`](crate::ErrorKind::Range).
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    ///
    /// # Cancel safety
    /// Dropping the result cancels the read.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example() -> Result<(), pget::Error> {
    /// let weights = pget::builder("s3://models/weights.safetensors").object()?;
    /// let wanted = vec![(0..8, vec![0; 8]), (4096..8192, vec![0; 4096])];
    /// let mut ranges = weights.read_ranges(wanted)?;
    /// while let Some((index, bytes)) = ranges.next().await? {
    ///     println!("range {index} has its {} bytes", bytes.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_ranges<B: AsMut<[u8]> + Send + 'static>(
        &self,
        ranges: Vec<(Range<u64>, B)>,
    ) -> Result<Ranges<B>, Error> {
        self.source.download()?.read_ranges(ranges)
    }

    /// Reads to `destination`, each range at its place as it arrives. Of the result,
    /// `delivered` is the number of bytes placed.
    ///
    /// When it has returned, nothing is written to `destination` any more.
    ///
    /// # Errors
    /// As [`reader`](Self::reader), errors of later requests, and errors of the destination.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the read, and does not wait: calls of the destination that have
    /// begun go on to their end.
    ///
    /// # Examples
    /// ```no_run
    /// # use std::sync::Arc;
    /// # async fn example(disk: Arc<dyn pget::Destination>) -> Result<(), pget::Error> {
    /// let object = pget::builder("s3://bucket/key").object()?;
    /// let stats = object.read_to(disk).await?;
    /// println!("{} bytes in {} requests", stats.delivered, stats.requests);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_to(&self, destination: Arc<dyn Destination>) -> Result<Stats, Error> {
        self.source.download()?.read_to(destination).await
    }

    /// Reads only `extents` of the object to `destination`: the part of it that is missing there.
    ///
    /// Extents are in bytes of the object, in any order; bytes beyond the object's end are left
    /// out. Without any, nothing is sent, and the destination is not called.
    ///
    /// # Errors
    /// As [`read_to`](Self::read_to); [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if an
    /// extent ends before it begins, or an offset or a length is set.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    ///
    /// # Cancel safety
    /// As [`read_to`](Self::read_to).
    ///
    /// # Examples
    /// ```no_run
    /// # use std::sync::Arc;
    /// # async fn example(disk: Arc<dyn pget::Destination>) -> Result<(), pget::Error> {
    /// let object = pget::builder("s3://bucket/key").object()?;
    /// object.read_extents_to(&[0..4096, 1 << 20..2 << 20], disk).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_extents_to(
        &self,
        extents: &[Range<u64>],
        destination: Arc<dyn Destination>,
    ) -> Result<Stats, Error> {
        self.source
            .download()?
            .read_extents_to(extents, destination)
            .await
    }

    /// Reads into the file at `path`. Each range is written at its place in `PATH.pget-part`,
    /// which gets the name when it is complete and replaces the file that has it. Of a symbolic
    /// link, the link is replaced.
    ///
    /// A device or a pipe is written to in order (a reader that opens a pipe with `O_NONBLOCK` may
    /// find it without a writer until the first bytes). So is a file that is open already
    /// (`/dev/stdout`, `/dev/fd/N`), from its current position; it is never truncated. A relative
    /// path starts at the folder that the process is in at the call.
    ///
    /// A new file has the mode that the process's umask leaves. A file that is replaced passes on
    /// its mode, owner, group and access list to the new one, as far as that is allowed. A file
    /// that cannot be replaced (a mount point, a sticky folder) is overwritten when the part is
    /// complete. If the file system refuses a call that is not needed, the read does without it:
    /// see [`warnings`](Builder::warnings).
    ///
    /// Received bytes are recorded in `PATH.pget-journal` from time to time, for a later
    /// [`resume`](Builder::resume). After a failure, part and journal stay if a later read can
    /// continue them (not if the object has changed or its checksum is wrong), and the message says
    /// so. With `resume` they stay, except after a wrong checksum. A part that is complete stays,
    /// too. `delivered` of the result counts the bytes of this read.
    ///
    /// # Errors
    /// As [`reader`](Self::reader), and errors of later requests;
    /// [`Destination`](crate::ErrorKind::Destination) if the file cannot be written, another
    /// process is writing it (where a file system has no locks: if a part is there), its path ends
    /// as that of a part or a journal does, or its part was removed or replaced during the read.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the read. The part is removed with the last write to it.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example() -> Result<(), pget::Error> {
    /// let archive = pget::builder("s3://bucket/archive.tar").resume(true).object()?;
    /// let stats = archive.get_file("archive.tar".as_ref()).await?;
    /// println!("{} bytes were missing", stats.delivered);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_file(&self, path: &Path) -> Result<Stats, Error> {
        file::get(&self.source, path).await
    }

    /// Reads into shared memory, in the background on the caller's tokio runtime. Returns when the
    /// first reply has stated the size and the segment is made.
    ///
    /// Wait for bytes by the [buffer](crate::SharedDownload::buffer), and for the end by
    /// [`ended`](crate::SharedDownload::ended). [Progress](Builder::progress) is reported on a
    /// thread of the runtime.
    ///
    /// # Errors
    /// As [`reader`](Self::reader); [`Destination`](crate::ErrorKind::Destination) if there is no
    /// room or the name is taken; [`Unsupported`](crate::ErrorKind::Unsupported) if the server does
    /// not state the size. A buffer to be reused is closed then.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    ///
    /// # Cancel safety
    /// Dropping the future or the result cancels the read, and closes the buffer.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example() -> Result<(), pget::Error> {
    /// let object = pget::builder("s3://bucket/key").object()?;
    /// let mut download = object.get_shared(pget::Placement::Anonymous).await?;
    /// println!("other processes attach to {}", download.buffer().name());
    /// download.ended().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(all(feature = "shm", target_os = "linux", not(pget_portable)))]
    pub async fn get_shared(&self, placement: crate::Placement) -> Result<crate::SharedDownload, Error> {
        crate::shared::get(&self.source, placement).await
    }
}
