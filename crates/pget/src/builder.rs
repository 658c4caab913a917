//! A read of one object, set up step by step: where from, how, and with which credentials.

use std::{collections::BTreeMap, fmt, ops::Range, path::Path, sync::Arc, time::Duration};

use pget_core::{
    Budget, Cancel, Destination, Download, Error, ErrorKind, ObjectInfo, Options, Progress, RangeSource,
    Ranges, Reader, Stats, Verify,
};

use crate::{Address, blocking, connect, file};

/// How to read one object. Made by [`builder`](crate::builder); nothing is sent before one of the opening calls.
#[derive(Clone)]
#[must_use]
pub struct Builder {
    pub(crate) address: String,
    pub(crate) options: Options,
    pub(crate) properties: BTreeMap<String, String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) file: file::Settings,
    pub(crate) warnings: file::Warnings,
    #[cfg(feature = "http")]
    pub(crate) client: Option<pget_http::Client>,
    /// The read runs on the process's runtime, whose connections outlive it.
    #[cfg(feature = "http")]
    pub(crate) on_process_runtime: bool,
}

impl Builder {
    pub(crate) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            options: Options::default(),
            properties: BTreeMap::new(),
            headers: Vec::new(),
            file: file::Settings {
                resume: false,
                sync: false,
                journal_interval: Duration::from_secs(2),
            },
            warnings: file::Warnings::new(),
            #[cfg(feature = "http")]
            client: None,
            #[cfg(feature = "http")]
            on_process_runtime: false,
        }
    }

    /// Sets the bytes per range, 1 to 1 GiB. Default: the source's hint, else found by measuring.
    pub const fn chunk_size(mut self, bytes: u64) -> Self {
        self.options.chunk_size = Some(bytes);
        self
    }

    /// Sets the most requests in flight, 1 to 1,024. Default: found by measuring.
    ///
    /// With 1 the object is read as one stream.
    pub const fn concurrency(mut self, requests: u32) -> Self {
        self.options.concurrency = Some(requests);
        self
    }

    /// Chunks fetched or being fetched but not consumed at the most, 1 to 65,536.
    ///
    /// Default: half as many again as requests in flight, and up to three times as many while one of
    /// them lags, within the budget.
    pub const fn window(mut self, chunks: u32) -> Self {
        self.options.window = Some(chunks);
        self
    }

    /// Offset of the first byte wanted. At the object's end there is nothing to read; behind it is an error.
    pub const fn offset(mut self, bytes: u64) -> Self {
        self.options.offset = bytes;
        self
    }

    /// Bytes wanted, cut at the object's end. Default: to the end.
    pub const fn length(mut self, bytes: u64) -> Self {
        self.options.length = Some(bytes);
        self
    }

    /// Whether the bytes are held against the checksum that the source publishes; default [`Auto`](Verify::Auto). [`Stats::verification`] tells what came of it.
    pub const fn verify(mut self, verify: Verify) -> Self {
        self.options.verify = verify;
        self
    }

    /// Of ranges that are read together: bytes between two up to which they are fetched as one, and thrown away; default 1 MiB. 0: only those that touch.
    pub const fn gap(mut self, bytes: u64) -> Self {
        self.options.gap = bytes;
        self
    }

    /// The revision that the object must have, as an earlier [`stat`](Self::stat) or read told it; another is [`ObjectChanged`](ErrorKind::ObjectChanged) with the first reply.
    pub fn pin(mut self, info: ObjectInfo) -> Self {
        self.options.pin = Some(info);
        self
    }

    /// Failed attempts without progress, in a row, that a range may have, 0 to 1,000; with 0, the
    /// first failure ends the read. Default: no limit but [`retry_timeout`](Self::retry_timeout).
    pub const fn retries(mut self, retries: u32) -> Self {
        self.options.retries = Some(retries);
        self
    }

    /// How long the read goes on trying without receiving a byte, since its first failure in a row;
    /// more than 0, at most a day; default 120 s.
    pub const fn retry_timeout(mut self, timeout: Duration) -> Self {
        self.options.retry_timeout = timeout;
        self
    }

    /// To a connection, name look-up and TLS included; more than 0, at most a day; default 5 s.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.deadlines.connect = timeout;
        self
    }

    /// From the start of a request to its reply's header; more than 0, at most a day; default 30 s.
    pub const fn first_byte_timeout(mut self, timeout: Duration) -> Self {
        self.options.deadlines.first_byte = timeout;
        self
    }

    /// Without progress in a body; more than 0, at most a day; default 20 s.
    pub const fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.options.deadlines.stall = timeout;
        self
    }

    /// Reads within a budget of its own of that many bytes (less than 1 MiB, also 0, is 1 MiB), in place of the process's. A chunk at the cursor is read even if it is larger.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.options.budget = Budget::new(bytes, Options::MAX_CONCURRENCY as usize);
        self
    }

    /// Reads within `budget`, shared with other downloads.
    pub fn budget(mut self, budget: Arc<Budget>) -> Self {
        self.options.budget = budget;
        self
    }

    /// Called on the consumer's thread whenever bytes are given to it; while bytes go straight to their destination, ten times a second on the thread that waits for that (of the
    /// asynchronous form: wherever it is polled). If it panics, the read is cancelled.
    pub fn progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.options.progress = Some(Arc::new(progress));
        self
    }

    /// Ends the read, and any other with the same handle, when it is triggered.
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.options.cancel = Some(cancel);
        self
    }

    /// A setting of the transport by its name (`ais.endpoint`, `aws.region`, …); goes before the environment.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(key.into(), value.into());
        self
    }

    /// A header sent with each request to the address's origin, for `http` and `https`. Never sent to another origin. Those that the client writes itself (`Host`, `Range`, …) are
    /// refused.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Uses the connections of `client`. Default: asynchronous calls have a client of their own, blocking ones share one.
    #[cfg(feature = "http")]
    pub fn client(mut self, client: pget_http::Client) -> Self {
        self.client = Some(client);
        self
    }

    /// The source behind the address, for a [`Download`] of one's own.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for an unusable address or property, [`Unsupported`](ErrorKind::Unsupported) if its transport is
    /// not built in, or what the transport says.
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

    /// Reads straight into `buffer`, each chunk at its place, from a thread that may block; gives the number of bytes. When it returns, nothing writes to `buffer` any
    /// more. After an error the buffer's content is unspecified.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`BufferTooSmall`](ErrorKind::BufferTooSmall) with the [needed size](Error::needed), if it is known: then nothing was written.
    pub fn read_into_blocking(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        blocking::with_download(self, |download, runtime| download.read_into_on(runtime, buffer))
    }

    /// The same into a buffer that is given and comes back, on the caller's tokio runtime. Dropping the future cancels, and frees the buffer when the last writer has let go of it.
    ///
    /// # Errors
    /// As [`read_into_blocking`](Self::read_into_blocking). The buffer is lost only if its own code panics.
    pub async fn read_into<B: AsMut<[u8]> + Send + 'static>(
        &self,
        buffer: B,
    ) -> (Result<usize, Error>, Option<B>) {
        match self.download() {
            Ok(download) => download.read_into(buffer).await,
            Err(error) => (Err(error), Some(buffer)),
        }
    }

    /// Reads to `destination` from a thread that may block, each chunk at its place as it arrives; gives what was done, `delivered` being the number of bytes placed. When it returns,
    /// well or not, nothing gets to `destination` any more.
    ///
    /// # Errors
    /// As [`open`](Self::open), or what the destination says.
    pub fn read_to_blocking(&self, destination: Arc<dyn Destination>) -> Result<Stats, Error> {
        blocking::with_download(self, |download, runtime| {
            download.read_to_on(runtime, destination)
        })
    }

    /// The same on the caller's tokio runtime. Dropping the future cancels and waits for nobody.
    ///
    /// # Errors
    /// As [`read_to_blocking`](Self::read_to_blocking).
    pub async fn read_to(&self, destination: Arc<dyn Destination>) -> Result<Stats, Error> {
        self.download()?.read_to(destination).await
    }

    /// Reads into shared memory, in the background on the caller's tokio runtime. Returns when the first reply has told how long the object is and the segment is made; wait for bytes by the
    /// [buffer](crate::SharedDownload::buffer), for the end by [`ended`](crate::SharedDownload::ended). [Progress](Self::progress) is told on a thread of the runtime.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Destination`](ErrorKind::Destination) if there is no room or the name is taken; [`Unsupported`](ErrorKind::Unsupported) if the server does not tell
    /// the size. A buffer to be reused is closed then.
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

    /// Reads all of it into shared memory, from a thread that may block; [progress](Self::progress) is told on that thread. Others may attach to a segment with a name meanwhile.
    ///
    /// # Errors
    /// As [`get_shared`](Self::get_shared), or what ended the download; nothing is left then.
    #[cfg(feature = "shm")]
    pub fn fill_shared_blocking(&self, placement: crate::Placement) -> Result<crate::SharedBuffer, Error> {
        crate::shared::fill_blocking(self, placement)
    }

    /// Puts the object into `ring` as its next one, from a thread that may block; returns when the process that reads the ring has taken all of it. The [cancel handle](Self::cancel) ends
    /// waits for that process, too (in the place of what [`stop_when`](crate::shm::RingWriter::stop_when) was given).
    ///
    /// # Errors
    /// What ended the download; the reader of the ring is told, too, if the ring has begun with the object (it has not when it is not [found](ErrorKind::NotFound), say); [`Destination`](ErrorKind::Destination) if the
    /// reader has gone or died.
    #[cfg(feature = "shm")]
    pub fn put_into_ring_blocking(&self, ring: &mut crate::shm::RingWriter) -> Result<Stats, Error> {
        crate::shared::put_into_ring(self, self.options.cancel.as_ref(), ring)
    }

    /// Reads only `extents` of the object to `destination`, from a thread that may block: what is missing of it. As [`Download::read_extents_to`].
    ///
    /// # Errors
    /// As [`read_to_blocking`](Self::read_to_blocking); [`InvalidArgument`](ErrorKind::InvalidArgument) if an offset or a length is set.
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

    /// Reads many ranges of one revision of the object, each into its own buffer, from a thread that may block. Ranges may touch, overlap and be the same, in any order; near ones are
    /// fetched [together](Self::gap). `each` is called on this thread as a range is complete, with its place in the list and its bytes.
    ///
    /// ```no_run
    /// # let index: Vec<std::ops::Range<u64>> = Vec::new();
    /// let mut tensors: Vec<Vec<u8>> = index.iter().map(|range| vec![0; (range.end - range.start) as usize]).collect();
    /// let mut ranges: Vec<_> = index.iter().cloned().zip(tensors.iter_mut().map(Vec::as_mut_slice)).collect();
    /// pget::builder("s3://models/weights.safetensors").read_ranges_blocking(&mut ranges, |tensor, bytes| {
    ///     println!("tensor {tensor} has its {} bytes", bytes.len());
    /// })?;
    /// # Ok::<(), pget::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Range`](ErrorKind::Range) if a range goes beyond the object, telling which; [`BufferTooSmall`](ErrorKind::BufferTooSmall) and
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) (a range that ends before it begins, an offset or a length besides) before anything is sent.
    pub fn read_ranges_blocking(
        &self,
        ranges: &mut [(Range<u64>, &mut [u8])],
        each: impl FnMut(usize, &mut [u8]),
    ) -> Result<Stats, Error> {
        blocking::with_download(self, |download, runtime| {
            download.read_ranges_on(runtime, ranges, each)
        })
    }

    /// The same with buffers that are given, and come back one by one as they are complete, on the caller's tokio runtime.
    ///
    /// # Errors
    /// As [`source`](Self::source), and of the ranges what can be told before anything is sent.
    pub fn read_ranges<B: AsMut<[u8]> + Send + 'static>(
        &self,
        ranges: Vec<(Range<u64>, B)>,
    ) -> Result<Ranges<B>, Error> {
        self.download()?.read_ranges(ranges)
    }

    /// Of a read into a file: goes on with what an earlier one of the same address and range has left, if the object still has the same revision, and reads only what is missing.
    /// With nothing to go on from, it starts from nothing.
    ///
    /// The read then fails with [`ObjectChanged`](ErrorKind::ObjectChanged) if the object has changed since, or is not what is [pinned](Self::pin), and with
    /// [`Destination`](ErrorKind::Destination) if what is there is of another address, endpoint or range, another user's, a copy (except if verification is [required](Verify::Require)), cut or garbled; either way what is there stays, and a read without this starts over. An
    /// address that was signed anew is the same address. After a failure all that has landed is kept (after a cancel, what was written down last; after a wrong checksum, nothing).
    pub const fn resume(mut self, resume: bool) -> Self {
        self.file.resume = resume;
        self
    }

    /// Of a read into a file: the file's bytes and its name are on the disk (`fsync` of the file before it is renamed, and of its folder after) when the read succeeds, so that
    /// they outlive a crash of the machine. Default: the system writes them in its own time, and after a crash within that time (about half a minute) the file may be missing, or
    /// have its length and zeros in the place of bytes. No crash of the process alone can do that. If only the folder cannot be synced, the read fails with
    /// [`Destination`](ErrorKind::Destination) and the file is there, complete.
    pub const fn sync(mut self, sync: bool) -> Self {
        self.file.sync = sync;
        self
    }

    /// Of a read into a file: how often what has landed is synced (`fdatasync`) and written down in the journal; default 2 s, at least 10 ms. A read that is killed loses what has landed
    /// since; one that takes less time never syncs.
    pub const fn journal_interval(mut self, interval: Duration) -> Self {
        self.file.journal_interval = interval;
        self
    }

    /// Collects in `warnings` what a read into a file could not do and did without. Default: they are
    /// events of `tracing` alone.
    pub fn warnings(mut self, warnings: crate::Warnings) -> Self {
        self.warnings = warnings;
        self
    }

    /// Reads into the file at `path`, from a thread that may block. Each range is written at its place in `PATH.pget-part`, which gets the name when it is complete, in place of what
    /// has it (of a symbolic link, the link is replaced). A device or a pipe is written to in order (a reader that opens a pipe with `O_NONBLOCK` may find it without a writer until the first bytes), and so is what
    /// is open already (`/dev/stdout`, `/dev/fd/N` and their like), from where it stands; nothing of it is cut.
    /// A relative path is taken from the folder that the process is in at the call.
    ///
    /// A new file has the mode that the process's umask leaves. A file that is replaced gives its
    /// mode, owner, group and access list to the new one, as far as that is allowed. A file that
    /// cannot be replaced (a mount point, a sticky folder) is overwritten when the part is complete.
    /// What the file system refuses and is not needed is done without: see
    /// [`warnings`](Self::warnings).
    ///
    /// What has landed is written down in `PATH.pget-journal` from time to time, for a later
    /// [`resume`](Self::resume). After a failure, part and journal stay if a later read can go on
    /// with them (not if the object has changed or its checksum is wrong), and the message says so;
    /// with `resume` they stay, except after a wrong checksum. A part that is complete stays, too.
    /// `delivered` of the result counts what this read brought.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Destination`](ErrorKind::Destination) if the file cannot be written, another process is writing it (where a file system has no locks: if a part is there), its path ends as a part's or a journal's does, or its part was
    /// removed or replaced meanwhile.
    pub fn get_file_blocking(&self, path: &Path) -> Result<Stats, Error> {
        file::get_blocking(self, path)
    }

    /// The same on the caller's tokio runtime, whose threads write to the file. Dropping the future cancels; what is there of the file then goes with the last write to it.
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

    pub(crate) fn unsupported(feature: &str) -> Error {
        Error::new(
            ErrorKind::Unsupported,
            "",
            format!("this build has no {feature} (cargo feature {feature:?})"),
        )
    }
}

impl fmt::Debug for Builder {
    /// Without header and property values, which may be credentials, and without the address, which may hold one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("options", &self.options)
            .field("properties", &self.properties.keys())
            .field(
                "headers",
                &self.headers.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            )
            .finish_non_exhaustive()
    }
}
