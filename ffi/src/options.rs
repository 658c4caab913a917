//! Options: how to read, set up by setters, used by any number of calls.

use std::{
    ffi::{c_char, c_void},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pget_rs::{Budget, Builder, Cancel, Error, Options, Verify};

use crate::{
    boundary::{self, OK},
    cancel::{self, pget_cancel},
    guard,
    handle::Registry,
    status::pget_status,
    text::{self, invalid},
};

/// How to read. Where a function takes options, null means the defaults; what it was given is read
/// when it begins, so later changes concern later calls.
#[derive(Debug)]
pub struct pget_options {
    _opaque: (),
}

/// Reports how a call stands: bytes delivered so far, and bytes to be delivered in all (UINT64_MAX
/// while that is not known).
///
/// It runs on the thread that called the library, one at a time for each call: as bytes are given
/// in pget_reader_next, pget_reader_read, parallel_get and parallel_get_ring, about ten times a
/// second in the other parallel_get functions; pget_shared_begin and pget_shared_begin_reuse report
/// nothing. It must return (no longjmp, no exception), must not fork, and may call nothing of this
/// library but pget_cancel_trigger and pget_reader_cancel.
pub type pget_progress_fn = Option<unsafe extern "C" fn(context: *mut c_void, delivered: u64, total: u64)>;

/// A foreign function and its context.
#[derive(Clone, Copy)]
struct ProgressCall {
    function: unsafe extern "C" fn(context: *mut c_void, delivered: u64, total: u64),
    context: *mut c_void,
}

// SAFETY: the pointer is only handed to the function, and that on the thread of the caller who said
// to, as the header promises.
unsafe impl Send for ProgressCall {}
// SAFETY: as above; nothing here changes.
unsafe impl Sync for ProgressCall {}

impl ProgressCall {
    fn tell(&self, progress: pget_rs::Progress) {
        // SAFETY: the caller gave a function that may be called so, with its context.
        unsafe {
            (self.function)(
                self.context,
                progress.stats.delivered,
                progress.total.unwrap_or(u64::MAX),
            );
        }
    }
}

#[derive(Clone, Default)]
pub(crate) struct Settings {
    pub(crate) chunk_size: Option<u64>,
    concurrency: Option<u32>,
    window: Option<u32>,
    gap: Option<u64>,
    pub(crate) offset: u64,
    length: Option<u64>,
    retries: Option<u32>,
    retry_timeout: Option<Duration>,
    connect_timeout: Option<Duration>,
    first_byte_timeout: Option<Duration>,
    stall_timeout: Option<Duration>,
    budget: Option<Arc<Budget>>,
    properties: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    progress: Option<ProgressCall>,
    cancel: Option<Cancel>,
    threads: Option<usize>,
    resume: bool,
    sync: bool,
    journal_interval: Option<Duration>,
    verify: Verify,
}

static OPTIONS: Registry<Mutex<Settings>> = Registry::new(3, "options handle");

impl Settings {
    /// As they are now; the defaults for null.
    pub(crate) fn of(options: *const pget_options) -> Result<Self, Error> {
        if options.is_null() {
            return Ok(Self::default());
        }
        Ok(lock(&*OPTIONS.get(options)?).clone())
    }

    /// How much of an object of that size is read.
    pub(crate) fn length_of(&self, size: Option<u64>) -> Option<u64> {
        let rest = size.map(|size| size.saturating_sub(self.offset));
        match (rest, self.length) {
            (Some(rest), Some(length)) => Some(rest.min(length)),
            (rest, _) => rest,
        }
    }

    /// Returns the builder of a download that outlasts the call, and so has no thread to report its
    /// progress on.
    pub(crate) fn without_progress(mut self) -> Self {
        self.progress = None;
        self
    }

    /// A builder for `url` that reads so.
    pub(crate) fn builder(&self, url: &str) -> Result<Builder, Error> {
        if let Some(threads) = self.threads {
            pget_rs::blocking::use_threads(threads)?;
        }
        let mut builder = pget_rs::builder(url).offset(self.offset);
        if let Some(bytes) = self.chunk_size {
            builder = builder.chunk_size(bytes);
        }
        if let Some(requests) = self.concurrency {
            builder = builder.concurrency(requests);
        }
        if let Some(chunks) = self.window {
            builder = builder.window(chunks);
        }
        if let Some(bytes) = self.gap {
            builder = builder.gap(bytes);
        }
        if let Some(bytes) = self.length {
            builder = builder.length(bytes);
        }
        builder = builder.resume(self.resume).sync(self.sync).verify(self.verify);
        if let Some(interval) = self.journal_interval {
            builder = builder.journal_interval(interval);
        }
        if let Some(retries) = self.retries {
            builder = builder.retries(retries);
        }
        if let Some(timeout) = self.retry_timeout {
            builder = builder.retry_timeout(timeout);
        }
        if let Some(timeout) = self.connect_timeout {
            builder = builder.connect_timeout(timeout);
        }
        if let Some(timeout) = self.first_byte_timeout {
            builder = builder.first_byte_timeout(timeout);
        }
        if let Some(timeout) = self.stall_timeout {
            builder = builder.stall_timeout(timeout);
        }
        if let Some(budget) = &self.budget {
            builder = builder.budget(Arc::clone(budget));
        }
        for (key, value) in &self.properties {
            builder = builder.property(key, value);
        }
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        if let Some(call) = self.progress {
            builder = builder.progress(move |progress| call.tell(progress));
        }
        if let Some(cancel) = &self.cancel {
            builder = builder.cancel(cancel.clone());
        }
        Ok(builder)
    }
}

fn lock(settings: &Mutex<Settings>) -> MutexGuard<'_, Settings> {
    settings.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The body of a setter.
fn set(options: *mut pget_options, change: impl FnOnce(&mut Settings) -> Result<(), Error>) -> pget_status {
    // SAFETY: a null error pointer is always sound.
    unsafe {
        boundary::call(std::ptr::null_mut(), || {
            change(&mut lock(&*OPTIONS.get(options)?))?;
            Ok(OK)
        })
    }
}

fn within(value: u32, least: u32, most: u32) -> Result<u32, Error> {
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(invalid("out of range"))
    }
}

fn timeout(milliseconds: u64) -> Result<Duration, Error> {
    /// A day.
    const MOST: u64 = 86_400_000;
    if (1..=MOST).contains(&milliseconds) {
        Ok(Duration::from_millis(milliseconds))
    } else {
        Err(invalid("out of range"))
    }
}

/// New options with the defaults, owned by the caller; freed by pget_options_free.
///
/// Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_new() -> *mut pget_options {
    guard::quietly(std::ptr::null_mut(), || OPTIONS.insert(Mutex::default()))
}

/// Frees options. Calls and readers that were given them go on. Does nothing if options is null or
/// was freed before.
///
/// Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_free(options: *mut pget_options) {
    guard::quietly((), || drop(OPTIONS.remove(options)));
}

/// Bytes per range, 1 to 1 GiB; 0, the default: what the source asks for, else found by measuring.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or bytes is out of range. Any
/// thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_chunk_size(options: *mut pget_options, bytes: u64) -> pget_status {
    set(options, |settings| {
        if bytes > Options::MAX_CHUNK_SIZE {
            return Err(invalid("out of range"));
        }
        settings.chunk_size = (bytes != 0).then_some(bytes);
        Ok(())
    })
}

/// The most requests in flight, 1 to 1024; 0, the default: found by measuring. With 1 the object is
/// read as one stream.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or requests is out of range.
/// Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_concurrency(options: *mut pget_options, requests: u32) -> pget_status {
    set(options, |settings| {
        let requests = within(requests, 0, Options::MAX_CONCURRENCY)?;
        settings.concurrency = (requests != 0).then_some(requests);
        Ok(())
    })
}

/// Sets how many ranges may be fetched or being fetched and not yet consumed, up to 65536; 0, the
/// default: half as many again as requests in flight, within the memory limit. Reading straight
/// into a buffer has no window.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or chunks is out of range. Any
/// thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_window(options: *mut pget_options, chunks: u32) -> pget_status {
    set(options, |settings| {
        let chunks = within(chunks, 0, Options::MAX_WINDOW)?;
        settings.window = (chunks != 0).then_some(chunks);
        Ok(())
    })
}

/// Of parallel_get_ranges: bytes between two ranges up to which they are fetched as one, and thrown
/// away; default 1 MiB. 0: only ranges that touch.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_gap(options: *mut pget_options, bytes: u64) -> pget_status {
    set(options, |settings| {
        settings.gap = Some(bytes);
        Ok(())
    })
}

/// Which part of the object to read: length bytes from offset on, cut at the object's end; a length
/// of UINT64_MAX means to the end. Default: all of it. An offset at the object's end reads nothing,
/// one beyond it is PGET_ERR_RANGE when reading begins.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle, offset is UINT64_MAX, or
/// offset and length together pass it. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_range(
    options: *mut pget_options,
    offset: u64,
    length: u64,
) -> pget_status {
    set(options, |settings| {
        let length = (length != u64::MAX).then_some(length);
        let is_beyond = length.is_some_and(|length| offset.checked_add(length).is_none());
        if is_beyond || offset == u64::MAX {
            return Err(invalid("out of range"));
        }
        settings.offset = offset;
        settings.length = length;
        Ok(())
    })
}

/// Failed attempts without progress, in a row, that a range may have before the call fails, 0 to
/// 1000; with 0, the first failure is the end. Default: no limit but the retry timeout.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or retries is out of range.
/// Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_retries(options: *mut pget_options, retries: u32) -> pget_status {
    set(options, |settings| {
        settings.retries = Some(within(retries, 0, Options::MAX_RETRIES)?);
        Ok(())
    })
}

/// Milliseconds for which the call goes on trying without receiving a byte, since its first failure
/// in a row, 1 to 86400000; default 120000.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or milliseconds is out of
/// range. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_retry_timeout(
    options: *mut pget_options,
    milliseconds: u64,
) -> pget_status {
    set(options, |settings| {
        settings.retry_timeout = Some(timeout(milliseconds)?);
        Ok(())
    })
}

/// Of parallel_get_file: if resume is not 0, it goes on with what an earlier call with the same
/// url, path and range has left in path.pget-part and path.pget-journal, and reads only what is
/// missing; with nothing to go on from, it starts from nothing. Default 0: starts over.
///
/// The call then fails with PGET_ERR_OBJECT_CHANGED if the object has another revision now, and
/// with PGET_ERR_DESTINATION if what is there is of another url or range; what is there stays. A
/// url that was signed again is the same. After a failure all that has landed is kept for another
/// call (after a cancel, what was written down last; after a wrong checksum, nothing).
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_resume(options: *mut pget_options, resume: i32) -> pget_status {
    set(options, |settings| {
        settings.resume = resume != 0;
        Ok(())
    })
}

/// Of parallel_get_file: if sync is not 0, the file's bytes and its name are on the disk when the
/// call succeeds (fsync of the file before it gets its name, and of its folder after). Default 0: a
/// crash of the machine soon after may leave no file, or one with zeros in the place of bytes.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_sync(options: *mut pget_options, sync: i32) -> pget_status {
    set(options, |settings| {
        settings.sync = sync != 0;
        Ok(())
    })
}

/// Of parallel_get_file: milliseconds between two times that what has landed is synced (fdatasync)
/// and written down for pget_options_set_resume, 1 to 86400000; default 2000, never below 10. A
/// call that takes less never syncs.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or milliseconds is out of
/// range. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_journal_interval(
    options: *mut pget_options,
    milliseconds: u64,
) -> pget_status {
    set(options, |settings| {
        settings.journal_interval = Some(timeout(milliseconds)?);
        Ok(())
    })
}

/// Sets whether the bytes are compared with the checksum of the whole object that the server
/// publishes:
/// "auto" (the default: if all of the object is read and there is one), "require" (or the call
/// fails with PGET_ERR_UNVERIFIABLE before the first byte; a range is PGET_ERR_INVALID_ARGUMENT) or
/// "off". Bytes that do not fit are PGET_ERR_CHECKSUM: in order before the last of them is given,
/// else at the end. pget_reader_stats reports the outcome.
///
/// verify is copied. Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or verify is
/// null or none of these words. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pget_options_set_verify(
    options: *mut pget_options,
    verify: *const c_char,
) -> pget_status {
    set(options, |settings| {
        // SAFETY: null or a text, says the header.
        let word = unsafe { text::required(verify, "verify")? };
        settings.verify =
            Verify::from_name(word).ok_or_else(|| invalid("verify is not auto, require or off"))?;
        Ok(())
    })
}

/// Milliseconds to a connection, name look-up and TLS included, 1 to 86400000; default 5000.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or milliseconds is out of
/// range. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_connect_timeout(
    options: *mut pget_options,
    milliseconds: u64,
) -> pget_status {
    set(options, |settings| {
        settings.connect_timeout = Some(timeout(milliseconds)?);
        Ok(())
    })
}

/// Milliseconds from the start of a request to its reply's header, 1 to 86400000; default 30000.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or milliseconds is out of
/// range. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_first_byte_timeout(
    options: *mut pget_options,
    milliseconds: u64,
) -> pget_status {
    set(options, |settings| {
        settings.first_byte_timeout = Some(timeout(milliseconds)?);
        Ok(())
    })
}

/// Milliseconds without progress in a body, 1 to 86400000; default 20000. It does not run while the
/// caller is what the download waits for.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or milliseconds is out of
/// range. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_stall_timeout(
    options: *mut pget_options,
    milliseconds: u64,
) -> pget_status {
    set(options, |settings| {
        settings.stall_timeout = Some(timeout(milliseconds)?);
        Ok(())
    })
}

/// Bytes that all calls with these options may hold together (at least 1 MiB is taken); 0, the
/// default: they share the process's budget, a quarter of its memory and at most 1 GiB. A range
/// larger than the limit is still read.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_memory_limit(options: *mut pget_options, bytes: u64) -> pget_status {
    set(options, |settings| {
        settings.budget = (bytes != 0).then(|| Budget::new(bytes, Options::MAX_CONCURRENCY as usize));
        Ok(())
    })
}

/// Threads of the library's one runtime, 1 to 1024; 0, the default: the environment variable
/// PGET_THREADS, else as many as there are processors, at most 8. The first call of the process
/// that reads anything starts the runtime; from then on this has no effect.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or threads is out of range.
/// Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_threads(options: *mut pget_options, threads: u32) -> pget_status {
    set(options, |settings| {
        let threads = within(threads, 0, 1024)?;
        settings.threads = (threads != 0).then_some(threads as usize);
        Ok(())
    })
}

/// A setting of the transport by its name ("ais.endpoint", "aws.region", ...), in place of an
/// earlier one of that name; goes before the environment. Both texts are copied.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or a text is null or not
/// UTF-8. What the name or value means is checked when they are used. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pget_options_set_property(
    options: *mut pget_options,
    key: *const c_char,
    value: *const c_char,
) -> pget_status {
    set(options, |settings| {
        // SAFETY: null or a text, says the header.
        let key = unsafe { text::required(key, "key")? };
        // SAFETY: as above.
        let value = unsafe { text::required(value, "value")? };
        settings.properties.retain(|(earlier, _)| earlier != key);
        settings.properties.push((key.to_owned(), value.to_owned()));
        Ok(())
    })
}

/// A header for requests of http and https addresses, beside earlier ones; never sent to another
/// origin than the address's. Both texts are copied.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or a text is null or not
/// UTF-8. What HTTP does not allow, and what pget writes itself (Host, Range, ...), is refused when
/// it is used. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pget_options_set_header(
    options: *mut pget_options,
    name: *const c_char,
    value: *const c_char,
) -> pget_status {
    set(options, |settings| {
        // SAFETY: null or a text, says the header.
        let name = unsafe { text::required(name, "name")? };
        // SAFETY: as above.
        let value = unsafe { text::required(value, "value")? };
        settings.headers.push((name.to_owned(), value.to_owned()));
        Ok(())
    })
}

/// Sets the function that progress is reported to; null, the default, reports none. The context is
/// handed to it as it is, and must be valid until every call and every reader with these options
/// has ended; background downloads (pget_shared_begin) do not use it.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pget_options_set_progress(
    options: *mut pget_options,
    progress: pget_progress_fn,
    context: *mut c_void,
) -> pget_status {
    set(options, |settings| {
        settings.progress = progress.map(|function| ProgressCall { function, context });
        Ok(())
    })
}

/// Lets a cancel handle stop the calls, readers and background downloads (pget_shared_begin) with
/// these options; null takes it off. The handle stays the caller's and may be freed before the
/// options.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or cancel neither null nor a
/// cancel handle. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_cancel(
    options: *mut pget_options,
    cancel: *const pget_cancel,
) -> pget_status {
    set(options, |settings| {
        settings.cancel = cancel::given(cancel)?.as_deref().cloned();
        Ok(())
    })
}
