//! Options: how to read, set up by setters, used by any number of calls.

use std::{
    ffi::{c_char, c_void},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pget_rs::{Budget, Error, Options, Settings, Verify, blocking};

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
/// second in the other parallel_get functions and in pget_shared_wait; pget_shared_begin reports
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
    fn report(&self, progress: pget_rs::Progress) {
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

static OPTIONS: Registry<Mutex<Settings>> = Registry::new(3, "options handle");

/// Returns the options as they are now; the defaults for null.
pub(crate) fn settings(options: *const pget_options) -> Result<Settings, Error> {
    if options.is_null() {
        return Ok(Settings::default());
    }
    Ok(lock(&*OPTIONS.get(options)?).clone())
}

/// Returns the object at `url`, to be read with `options`.
pub(crate) fn object(url: &str, options: *const pget_options) -> Result<blocking::Object, Error> {
    pget_rs::builder(url).settings(settings(options)?).blocking()
}

fn lock(settings: &Mutex<Settings>) -> MutexGuard<'_, Settings> {
    settings.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The body of a setter. Bounds are those of [`Settings::check`], for the new value alone: which
/// values go together is checked by the call that uses them.
fn set(options: *mut pget_options, change: impl Fn(&mut Settings) -> Result<(), Error>) -> pget_status {
    // SAFETY: a null error pointer is always sound.
    unsafe {
        boundary::call(std::ptr::null_mut(), || {
            let options = OPTIONS.get(options)?;
            let mut alone = Settings::default();
            change(&mut alone)?;
            alone.check()?;
            change(&mut lock(&options))?;
            Ok(OK)
        })
    }
}

/// The value of an option for which 0 is the default.
fn unless_0<T: PartialEq + From<u8>>(value: T) -> Option<T> {
    (value != T::from(0)).then_some(value)
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

/// Sets the bytes per range, 1 to 1 GiB. The default, 0, is what the source asks for, else what
/// measuring finds.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or bytes is out of range. Any
/// thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_chunk_size(options: *mut pget_options, bytes: u64) -> pget_status {
    set(options, |settings| {
        settings.options.chunk_size = unless_0(bytes);
        Ok(())
    })
}

/// Sets the most requests in flight, 1 to 1024. The default, 0, is what measuring finds. With 1,
/// the object is read as one stream.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or requests is out of range.
/// Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_concurrency(options: *mut pget_options, requests: u32) -> pget_status {
    set(options, |settings| {
        settings.options.concurrency = unless_0(requests);
        Ok(())
    })
}

/// Sets how many ranges may be fetched or being fetched and not yet consumed, 1 to 65536. The
/// default, 0, is half as many again as requests in flight, within the memory limit.
/// parallel_get_into has no window.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or chunks is out of range. Any
/// thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_window(options: *mut pget_options, chunks: u32) -> pget_status {
    set(options, |settings| {
        settings.options.window = unless_0(chunks);
        Ok(())
    })
}

/// Sets how many bytes may lie between two ranges of parallel_get_ranges that are fetched by one
/// request. The default is 1 MiB.
///
/// The bytes between them are discarded. With 0, only adjacent ranges are fetched together.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_gap(options: *mut pget_options, bytes: u64) -> pget_status {
    set(options, |settings| {
        settings.options.gap = bytes;
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
        settings.options.offset = offset;
        settings.options.length = (length != u64::MAX).then_some(length);
        Ok(())
    })
}

/// Sets how many failed attempts without progress, in a row, a range may have before the call
/// fails, 0 to 1000. With 0, the first failure ends the call. By default, only the retry timeout
/// limits them.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or retries is out of range.
/// Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_retries(options: *mut pget_options, retries: u32) -> pget_status {
    set(options, |settings| {
        settings.options.retries = Some(retries);
        Ok(())
    })
}

/// Sets how long the call goes on trying without receiving a byte, since its first failure in a
/// row, 1 ms to a day. The default is 120 s.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or milliseconds is out of
/// range. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_retry_timeout(
    options: *mut pget_options,
    milliseconds: u64,
) -> pget_status {
    set(options, |settings| {
        settings.options.retry_timeout = Duration::from_millis(milliseconds);
        Ok(())
    })
}

/// Sets whether parallel_get_file resumes an earlier call with the same url, path and range.
///
/// If resume is not 0, the call continues with path.pget-part and path.pget-journal, and fetches
/// only the missing bytes. If an earlier call left nothing, it starts from nothing. The default is
/// 0: the call starts over.
///
/// A call that resumes fails with PGET_ERR_OBJECT_CHANGED if the object has another revision now.
/// It fails with PGET_ERR_DESTINATION if the part is of another url or range. In both cases the
/// part stays. A url with a new signature is the same url.
///
/// After a failure, all landed bytes are kept for another call. After a cancel, the bytes in the
/// last entry of the journal are kept. After a wrong checksum, nothing is kept.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_resume(options: *mut pget_options, resume: i32) -> pget_status {
    set(options, |settings| {
        settings.file.resume = resume != 0;
        Ok(())
    })
}

/// Sets whether parallel_get_file waits until the file's bytes and its name are on the disk.
///
/// If sync is not 0, the file is synced (fsync) before it gets its name, and its folder after that.
/// The default is 0: a crash of the machine soon after the call may leave no file, or one with
/// zeros in place of bytes.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_sync(options: *mut pget_options, sync: i32) -> pget_status {
    set(options, |settings| {
        settings.file.sync = sync != 0;
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
        settings.options.verify =
            Verify::from_name(word).ok_or_else(|| invalid("verify is not auto, require or off"))?;
        Ok(())
    })
}

/// Sets the time to a connection, name look-up and TLS included, 1 ms to a day. The default is 5 s.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or milliseconds is out of
/// range. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_connect_timeout(
    options: *mut pget_options,
    milliseconds: u64,
) -> pget_status {
    set(options, |settings| {
        settings.options.deadlines.connect = Duration::from_millis(milliseconds);
        Ok(())
    })
}

/// Sets the time from the start of a request to its reply's header, 1 ms to a day. The default is
/// 30 s.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or milliseconds is out of
/// range. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_first_byte_timeout(
    options: *mut pget_options,
    milliseconds: u64,
) -> pget_status {
    set(options, |settings| {
        settings.options.deadlines.first_byte = Duration::from_millis(milliseconds);
        Ok(())
    })
}

/// Sets the time without progress in a body, 1 ms to a day. The default is 20 s. It does not run
/// while the caller is the bottleneck.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or milliseconds is out of
/// range. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_stall_timeout(
    options: *mut pget_options,
    milliseconds: u64,
) -> pget_status {
    set(options, |settings| {
        settings.options.deadlines.stall = Duration::from_millis(milliseconds);
        Ok(())
    })
}

/// Sets how many bytes all calls with these options may hold together, at least 1 MiB. With the
/// default, 0, they share the process's budget, a quarter of its memory and at most 1 GiB. A range
/// larger than the limit is still read.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_memory_limit(options: *mut pget_options, bytes: u64) -> pget_status {
    set(options, |settings| {
        settings.options.budget = match bytes {
            0 => Options::default().budget,
            bytes => Budget::new(bytes, Options::MAX_CONCURRENCY as usize),
        };
        Ok(())
    })
}

/// Sets the threads of the library's one runtime, 1 to 1024. The default, 0, is the environment
/// variable PGET_THREADS, else as many as there are processors, at most 8. The first call of the
/// process that reads anything starts the runtime; from then on this has no effect.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or threads is out of range.
/// Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_options_set_threads(options: *mut pget_options, threads: u32) -> pget_status {
    set(options, |settings| {
        settings.threads = unless_0(threads);
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
        settings.properties.insert(key.to_owned(), value.to_owned());
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
/// handed to it as it is, and must be valid until every call, every reader and every shared memory
/// (pget_shared_begin) with these options has ended.
///
/// Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pget_options_set_progress(
    options: *mut pget_options,
    progress: pget_progress_fn,
    context: *mut c_void,
) -> pget_status {
    set(options, |settings| {
        settings.options.progress = progress.map(|function| {
            let call = ProgressCall { function, context };
            Arc::new(move |progress| call.report(progress)) as _
        });
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
        settings.options.cancel = cancel::given(cancel)?.as_deref().cloned();
        Ok(())
    })
}
