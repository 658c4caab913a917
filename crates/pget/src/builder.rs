//! A read of one object, set up step by step: where from, how, and with which credentials.

use std::{fmt, sync::Arc, time::Duration};

use pget_core::{Budget, Cancel, ObjectInfo, Options, Progress, Verify};

use crate::Settings;

/// Names one object and how to read it. Made by [`builder`](crate::builder); sends nothing.
#[derive(Clone)]
#[must_use]
pub struct Builder {
    pub(crate) address: String,
    pub(crate) settings: Settings,
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
            settings: Settings::default(),
            #[cfg(feature = "http")]
            client: None,
            #[cfg(feature = "http")]
            on_process_runtime: false,
        }
    }

    /// Replaces everything that was set so far by `settings`.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the bytes per range, 1 to 1 GiB. Default: the source's hint, else found by measuring.
    pub const fn chunk_size(mut self, bytes: u64) -> Self {
        self.settings.options.chunk_size = Some(bytes);
        self
    }

    /// Sets the most requests in flight, 1 to 1,024; with 1, the object is read as one stream.
    /// Default: found by measuring.
    pub const fn concurrency(mut self, requests: u32) -> Self {
        self.settings.options.concurrency = Some(requests);
        self
    }

    /// Sets how many chunks may be fetched or being fetched and not yet consumed, 1 to 65,536.
    ///
    /// Default: half as many again as requests in flight, and up to three times as many while one
    /// of them lags, within the budget.
    pub const fn window(mut self, chunks: u32) -> Self {
        self.settings.options.window = Some(chunks);
        self
    }

    /// Sets the offset of the first byte; at the object's end there is nothing to read, and beyond
    /// it is an error. Default: 0.
    pub const fn offset(mut self, bytes: u64) -> Self {
        self.settings.options.offset = bytes;
        self
    }

    /// Sets how many bytes to read, cut at the object's end. Default: to the end.
    pub const fn length(mut self, bytes: u64) -> Self {
        self.settings.options.length = Some(bytes);
        self
    }

    /// Sets whether the bytes are compared with the checksum that the source publishes. Default:
    /// [`Auto`](Verify::Auto).
    ///
    /// [`Stats::verification`](crate::Stats::verification) is the outcome.
    pub const fn verify(mut self, verify: Verify) -> Self {
        self.settings.options.verify = verify;
        self
    }

    /// Sets how many bytes may lie between two ranges that are fetched by one request. Default: 1
    /// MiB.
    ///
    /// The bytes between them are discarded. With 0, only adjacent ranges are fetched together.
    pub const fn gap(mut self, bytes: u64) -> Self {
        self.settings.options.gap = bytes;
        self
    }

    /// Sets the revision that the object must have. Default: the one of the first reply.
    ///
    /// An earlier [`stat`](crate::Object::stat) or read reported it. If the object has another, the
    /// first reply is [`ObjectChanged`](crate::ErrorKind::ObjectChanged).
    pub fn pin(mut self, info: ObjectInfo) -> Self {
        self.settings.options.pin = Some(info);
        self
    }

    /// Sets how many failed attempts without progress, in a row, a range may have, 0 to 1,000; with
    /// 0, the first failure ends the read. Default: no limit but
    /// [`retry_timeout`](Self::retry_timeout).
    pub const fn retries(mut self, retries: u32) -> Self {
        self.settings.options.retries = Some(retries);
        self
    }

    /// Sets how long the read goes on trying without receiving a byte, since its first failure in a
    /// row; more than 0, at most a day. Default: 120 s.
    pub const fn retry_timeout(mut self, timeout: Duration) -> Self {
        self.settings.options.retry_timeout = timeout;
        self
    }

    /// Sets the time to a connection, name look-up and TLS included; more than 0, at most a day.
    /// Default: 5 s.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.options.deadlines.connect = timeout;
        self
    }

    /// Sets the time from the start of a request to its reply's header; more than 0, at most a day.
    /// Default: 30 s.
    pub const fn first_byte_timeout(mut self, timeout: Duration) -> Self {
        self.settings.options.deadlines.first_byte = timeout;
        self
    }

    /// Sets the time without progress in a body; more than 0, at most a day. Default: 20 s.
    ///
    /// It does not run while the consumer is the bottleneck.
    pub const fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.settings.options.deadlines.stall = timeout;
        self
    }

    /// Sets how many bytes the buffers of this read may hold, at least 1 MiB, instead of sharing
    /// the process's budget. Default: that budget, a quarter of the memory and at most 1 GiB.
    ///
    /// Less than 1 MiB, also 0, is 1 MiB. A chunk at the cursor is read even if it is larger.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.settings.options.budget = Budget::new(bytes, Options::MAX_CONCURRENCY as usize);
        self
    }

    /// Reads within `budget`, shared with other downloads.
    pub fn budget(mut self, budget: Arc<Budget>) -> Self {
        self.settings.options.budget = budget;
        self
    }

    /// Sets a function that is called with the state of the read. Default: none.
    ///
    /// It is called on the consumer's thread whenever bytes are delivered to it. While bytes go
    /// straight to their destination, it is called ten times a second on the thread that waits for
    /// them; in the asynchronous form, wherever the read is polled. If it panics, the read is
    /// cancelled.
    pub fn progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.settings.options.progress = Some(Arc::new(progress));
        self
    }

    /// Sets a handle that ends this read, and any other with the same handle, when it is triggered.
    /// Default: none.
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.settings.options.cancel = Some(cancel);
        self
    }

    /// Sets a setting of the transport by its name, as `ais.endpoint` or `aws.region`; it takes
    /// precedence over the environment.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.properties.insert(key.into(), value.into());
        self
    }

    /// Adds a header to each request of an `http` or `https` address; it is never sent to another
    /// origin.
    ///
    /// Headers that the client writes itself (`Host`, `Range`, …) are refused.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the threads of the process's runtime, 1 to 1,024. Default: the environment variable
    /// `PGET_THREADS`, else as many as there are processors, at most 8.
    ///
    /// The first blocking call of the process starts the runtime. From then on this has no effect.
    pub const fn threads(mut self, threads: u32) -> Self {
        self.settings.threads = Some(threads);
        self
    }

    /// Uses the connections of `client`. Default: asynchronous calls have a client of their own,
    /// blocking ones share one.
    #[cfg(feature = "http")]
    pub fn client(mut self, client: pget_http::Client) -> Self {
        self.client = Some(client);
        self
    }

    /// Sets whether a read into a file resumes an earlier one of the same address and range.
    /// Default: no.
    ///
    /// If the object still has the same revision, the read fetches only the missing bytes. If an
    /// earlier read left nothing, the file is read from its start.
    ///
    /// The read fails with [`ObjectChanged`](crate::ErrorKind::ObjectChanged) if the object has
    /// changed since, or is not the [pinned](Self::pin) one. It fails with
    /// [`Destination`](crate::ErrorKind::Destination) if the part
    ///
    /// - is of another address, endpoint or range,
    /// - is another user's,
    /// - is a copy, except if verification is [required](Verify::Require), or
    /// - is cut or garbled.
    ///
    /// In both cases the part stays, and a read without this option starts over. An address with a
    /// new signature is the same address.
    ///
    /// After a failure, all landed bytes are kept. After a cancel, the bytes in the last entry of
    /// the journal are kept. After a wrong checksum, nothing is kept.
    pub const fn resume(mut self, resume: bool) -> Self {
        self.settings.file.resume = resume;
        self
    }

    /// Sets whether a read into a file waits until the file's bytes and its name are on the disk.
    /// Default: no.
    ///
    /// The file is synced (`fsync`) before it is renamed, and its folder after that. The file then
    /// outlives a crash of the machine.
    ///
    /// By default, the system writes in its own time, which is about half a minute. After a crash
    /// of the machine within that time, the file may be missing, or have its length and zeros in
    /// place of bytes. A crash of the process alone cannot do that.
    ///
    /// If only the folder cannot be synced, the read fails with
    /// [`Destination`](crate::ErrorKind::Destination), and the file is complete.
    pub const fn sync(mut self, sync: bool) -> Self {
        self.settings.file.sync = sync;
        self
    }

    /// Sets how often a read into a file syncs landed bytes (`fdatasync`) and records them in the
    /// journal, 10 ms to a day. Default: 2 s.
    ///
    /// A read that is killed loses the bytes that landed after the last entry. A read that takes
    /// less time than the interval never syncs.
    pub const fn journal_interval(mut self, interval: Duration) -> Self {
        self.settings.file.journal_interval = interval;
        self
    }

    /// Sets a list that collects what a read into a file could not do and did without. Default:
    /// none; they are events of `tracing` alone.
    pub fn warnings(mut self, warnings: crate::Warnings) -> Self {
        self.settings.file.warnings = warnings;
        self
    }
}

impl fmt::Debug for Builder {
    /// Without header and property values, which may be credentials, and without the address, which
    /// may hold one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
