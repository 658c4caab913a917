//! Shared memory: made by a download, attached to by name, read while it is filled.
//!
//! Invariant: what a handle points to (data, name, revision) lives until it is removed and the last
//! call that uses it has returned; a close wakes the calls that wait.

use std::{
    ffi::{CString, c_char},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use pget_rs::{Error, ErrorKind, Placement, Progress, Settings, SharedBuffer, blocking, shm::State};

use crate::{
    boundary::{self, OK, Out},
    cancel::{self, pget_cancel},
    error::pget_error,
    guard,
    handle::Registry,
    options::{pget_options, settings},
    status::pget_status,
    text,
    wait::wait,
};

/// An object in shared memory, whole or arriving, in the process that fetches it or in one that has
/// attached. Several threads may use it at once.
#[derive(Debug)]
pub struct pget_shared {
    _opaque: (),
}

/// How shared memory stands: what pget_shared_state returns.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum pget_shared_state_code {
    /// No handle, or one that was closed.
    PGET_SHARED_NONE = 0,
    /// Bytes are arriving.
    PGET_SHARED_FILLING = 1,
    /// All of the object is there.
    PGET_SHARED_COMPLETE = 2,
    /// The rest will not come: the download failed, or the process that filled it died or closed
    /// it.
    PGET_SHARED_FAILED = 3,
}

struct Handle {
    content: Content,
    reports: Option<Reports>,
    name: CString,
    revision: CString,
    closed: AtomicBool,
}

enum Content {
    Buffer(SharedBuffer),
    /// Closing it ends the download.
    Arriving(blocking::SharedDownload),
}

/// How often a wait reports the progress.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// The progress of a background download, for the threads that wait for it.
struct Reports {
    function: ProgressFn,
    /// The progress that no thread has reported yet.
    latest: Arc<Mutex<Option<Progress>>>,
}

type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

impl Reports {
    /// Takes the caller's function out of `settings`; the download stores its progress instead.
    fn of(settings: &mut Settings) -> Option<Self> {
        let function = settings.options.progress.take()?;
        let latest = Arc::new(Mutex::new(None));
        let stored = Arc::clone(&latest);
        settings.options.progress = Some(Arc::new(move |progress| *lock(&stored) = Some(progress)));
        Some(Self { function, latest })
    }

    /// Calls the caller's function if there is news. No lock is held then.
    fn report(&self) {
        let news = lock(&self.latest).take();
        if let Some(progress) = news {
            (self.function)(progress);
        }
    }
}

fn lock(latest: &Mutex<Option<Progress>>) -> MutexGuard<'_, Option<Progress>> {
    latest.lock().unwrap_or_else(PoisonError::into_inner)
}

static SHARED: Registry<Handle> = Registry::new(6, "shared memory");

impl Handle {
    fn new(content: Content, reports: Option<Reports>) -> Self {
        let buffer = content.buffer();
        let (name, revision) = (text::owned(buffer.name()), text::owned(buffer.revision()));
        Self {
            content,
            reports,
            name,
            revision,
            closed: AtomicBool::new(false),
        }
    }

    /// Waits for the first `offset` bytes until `deadline`, and reports the progress.
    fn wait_for(
        &self,
        offset: usize,
        deadline: Option<Instant>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let buffer = self.content.buffer();
        let Some(reports) = &self.reports else {
            return buffer.wait_unless(offset, deadline, stop).map(drop);
        };
        loop {
            let step = Instant::now() + REPORT_EVERY;
            let is_last = deadline.is_some_and(|deadline| deadline <= step);
            let until = if is_last { deadline } else { Some(step) };
            let result = buffer.wait_unless(offset, until, stop).map(drop);
            reports.report();
            match result {
                // A download that failed by a timeout has ended.
                Err(error)
                    if error.kind() == ErrorKind::Timeout && !is_last && buffer.state() == State::Filling => {
                }
                result => return result,
            }
        }
    }

    /// Has the calls that wait return.
    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.content.buffer().wake();
    }
}

impl Content {
    const fn buffer(&self) -> &SharedBuffer {
        match self {
            Self::Buffer(buffer) => buffer,
            Self::Arriving(download) => download.buffer(),
        }
    }
}

/// Reads the object at url straight into new shared memory. Returns as soon as the first reply has
/// stated how long the object is; the download goes on, on the library's threads. pget_shared_wait
/// waits for its bytes, and with an offset of UINT64_MAX for all of them. Closing shared ends the
/// download.
///
/// name is a POSIX name ("/dataset" or "dataset"), which must be free: while the download runs, and
/// as long as shared is open, other processes of this user attach to it by pget_shared_open, and
/// any program may map /dev/shm/dataset, which is as long as what is read. If name is null, the
/// memory has no such name: pget_shared_name returns what to attach by, and nothing is left of it
/// when the last process has detached, also after kill -9. What a killed process has left under a
/// name goes with the next shared memory that gets a name, and by "pget shm clean".
///
/// reuse may be null. Otherwise it is shared memory of this process whose object is complete, and
/// the next object is received into its pages: pages that were used before cost about a third of
/// new ones (the first time two thirds). name must be null then. reuse is closed by this call,
/// however that ends, and its bytes and texts are no longer valid. The next object gets its pages
/// and its name if no process is attached to it, if this process has not called fork since it was
/// made (a child may still read it; posix_spawn and vfork do not count) and, for memory without a
/// name, if the object is no longer than the first one. Otherwise new memory of the same kind is
/// made, and attached processes keep the old object. Programs that have mapped the memory by its
/// name without this library are not seen: reuse it when they are done.
///
/// shared is set to a handle that the caller closes with pget_shared_close, or to null if it fails;
/// then nothing is left. url, options and error are as for parallel_get. Progress is reported by
/// pget_shared_wait.
///
/// Any thread, while no other call uses reuse. Linux only. Errors: those of parallel_get,
/// _DESTINATION also if there is no room (not a signal) or the name is taken, _UNSUPPORTED also if
/// the server does not state the size, _INVALID_ARGUMENT also for a name that cannot be one, a null
/// shared, and a reuse that is in use, not complete, opened by pget_shared_open, or closed. Since
/// ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pget_shared_begin(
    url: *const c_char,
    options: *const pget_options,
    name: *const c_char,
    reuse: *mut pget_shared,
    shared: *mut *mut pget_shared,
    error: *mut *mut pget_error,
) -> pget_status {
    let body = || {
        // First: it is closed however this ends.
        let reused = (!reuse.is_null()).then(|| take(reuse));
        // SAFETY: null or writable until this function returns, says the header.
        let out = unsafe { Out::new(shared, std::ptr::null_mut(), "shared memory")? };
        // SAFETY: null or a text, says the header.
        let url = unsafe { text::required(url, "url")? };
        // SAFETY: as above.
        let name = unsafe { text::optional(name, "name")? };
        let placement = match (name, reused.transpose()?) {
            (None, None) => Placement::Anonymous,
            (Some(name), None) => Placement::Named(name.to_owned()),
            (None, Some(buffer)) => Placement::Reuse(buffer),
            (Some(_), Some(_)) => {
                return Err(text::invalid(
                    "memory that is reused keeps its name: name must be null",
                ));
            }
        };
        let mut settings = settings(options)?;
        let reports = Reports::of(&mut settings);
        let object = pget_rs::builder(url).settings(settings).blocking()?;
        let content = Content::Arriving(object.get_shared(placement)?);
        out.put(SHARED.insert(Handle::new(content, reports)));
        Ok(OK)
    };
    // SAFETY: null or writable, says the header.
    unsafe { boundary::call(error, body) }
}

/// Closes the handle, and returns what it stood for if no other call uses it.
fn take(shared: *mut pget_shared) -> Result<SharedBuffer, Error> {
    let Some(handle) = SHARED.remove(shared) else {
        // Says what is wrong with it.
        SHARED.get(shared.cast_const())?;
        return Err(text::invalid("the shared memory is closed"));
    };
    handle.close();
    match Arc::into_inner(handle).map(|handle| handle.content) {
        Some(Content::Buffer(buffer)) => Ok(buffer),
        Some(Content::Arriving(download)) => Ok(download.into_buffer()),
        None => Err(text::invalid("the shared memory is in use by another call")),
    }
}

/// Attaches to shared memory that this or another process of the same user has made, also while it
/// is being filled; for reading only. name is what pget_shared_name returns there, or the POSIX
/// name that was given.
///
/// shared is set to a handle that the caller closes with pget_shared_close, or to null if it fails.
/// error may be null, else it is set to null or to an error that the caller frees.
///
/// Waits for at most five seconds, and only while its creator makes another object of it; any
/// thread. Linux only. Errors: PGET_ERR_NOT_FOUND (no such name, or not yet), _TIMEOUT (the creator
/// has it locked, and may be stopped), _PERMISSION_DENIED (another user's, open to others, or a
/// link), _UNAVAILABLE (who filled it died before it was complete), _INVALID_ARGUMENT (not made by
/// this library, null name or shared), _FORKED, _INTERNAL. Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pget_shared_open(
    name: *const c_char,
    shared: *mut *mut pget_shared,
    error: *mut *mut pget_error,
) -> pget_status {
    let body = || {
        // SAFETY: null or writable until this function returns, says the header.
        let out = unsafe { Out::new(shared, std::ptr::null_mut(), "shared memory")? };
        // SAFETY: null or a text, says the header.
        let name = unsafe { text::required(name, "name")? };
        let buffer = SharedBuffer::attach(name)?;
        out.put(SHARED.insert(Handle::new(Content::Buffer(buffer), None)));
        Ok(OK)
    };
    // SAFETY: null or writable, says the header.
    unsafe { boundary::call(error, body) }
}

/// Waits until the first offset bytes are there; for an offset of pget_shared_length or more, until
/// the whole object is known to be there.
///
/// timeout is in milliseconds; 0 only looks, UINT64_MAX waits as long as it takes. cancel may be
/// null; else triggering it ends the wait, and nothing else. available may be null; else it is set
/// to the number of bytes that are there, from the first on, also if it fails. Bytes that are there
/// never change.
///
/// The progress function of the download's options is called on this thread about ten times a
/// second, and once at the end.
///
/// error may be null, else it is set to null or to an error that the caller frees. Any thread, also
/// several at once. Errors: what the download failed with, once it has (bytes that are there can
/// still be read); PGET_ERR_UNAVAILABLE if the process that filled it died (noticed within half a
/// second), _TIMEOUT, _CANCELLED (also if shared is closed during the call; at once where it was
/// made, within a quarter of a second where it was opened), _INVALID_ARGUMENT, _FORKED, _INTERNAL.
/// Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pget_shared_wait(
    shared: *const pget_shared,
    offset: u64,
    timeout: u64,
    cancel: *const pget_cancel,
    available: *mut usize,
    error: *mut *mut pget_error,
) -> pget_status {
    let body = || {
        // SAFETY: null or writable until this function returns, says the header.
        let available = unsafe { Out::optional(available, 0) };
        let handle = SHARED.get(shared)?;
        let cancel = cancel::given(cancel)?;
        let buffer = handle.content.buffer();
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(buffer.len());
        let outcome = wait(
            timeout,
            cancel.as_deref(),
            &handle.closed,
            || buffer.waker(),
            |deadline, stop| handle.wait_for(offset, deadline, stop),
        );
        if let Some(available) = available {
            available.put(buffer.as_slice().len());
        }
        outcome.map(|()| OK)
    };
    // SAFETY: null or writable, says the header.
    unsafe { boundary::call(error, body) }
}

/// The object's bytes; null if shared is null or closed, but not if the object has none. Only those
/// may be read that are there, as pget_shared_wait and pget_shared_available report. They belong
/// to shared and are valid until it is closed; no code may write to them. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_shared_data(shared: *const pget_shared) -> *const u8 {
    look(shared, std::ptr::null(), |handle| {
        handle.content.buffer().as_ptr()
    })
}

/// The number of bytes that are read, there or not; 0 if shared is null or closed. Any thread.
/// Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_shared_length(shared: *const pget_shared) -> usize {
    look(shared, 0, |handle| handle.content.buffer().len())
}

/// The number of bytes that are there, from the first on; 0 if shared is null or closed. Does not
/// wait; any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_shared_available(shared: *const pget_shared) -> usize {
    look(shared, 0, |handle| handle.content.buffer().as_slice().len())
}

/// How it stands: one of the values of pget_shared_state_code. Does not wait; any thread. Since ABI
/// 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_shared_state(shared: *const pget_shared) -> i32 {
    use pget_shared_state_code as Code;
    let code = look(shared, Code::PGET_SHARED_NONE, |handle| {
        match handle.content.buffer().state() {
            State::Filling => Code::PGET_SHARED_FILLING,
            State::Complete => Code::PGET_SHARED_COMPLETE,
            _ => Code::PGET_SHARED_FAILED,
        }
    });
    code as i32
}

/// The name that other processes attach by: the POSIX name without a slash, or
/// "/proc/PID/fd/NUMBER"; null if shared is null or closed. The text belongs to shared and is valid
/// until it is closed. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_shared_name(shared: *const pget_shared) -> *const c_char {
    look(shared, std::ptr::null(), |handle| handle.name.as_ptr())
}

/// The identity of the object's content, for people, as in pget_info; null if shared is null or
/// closed. The text belongs to shared and is valid until it is closed. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_shared_revision(shared: *const pget_shared) -> *const c_char {
    look(shared, std::ptr::null(), |handle| handle.revision.as_ptr())
}

/// Lets go of it. If this process made it, its name goes, and a download that still fills it ends:
/// who waits for its bytes gets PGET_ERR_CANCELLED. Processes that are attached keep what they
/// have. Does nothing if shared is null or closed.
///
/// Any thread, also while others wait on it: their calls return PGET_ERR_CANCELLED, and none may
/// use its bytes any more. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_shared_close(shared: *mut pget_shared) {
    guard::quietly((), || {
        if let Some(handle) = SHARED.remove(shared) {
            handle.close();
        }
    });
}

fn look<T>(shared: *const pget_shared, otherwise: T, body: impl FnOnce(&Handle) -> T) -> T
where
    T: Copy,
{
    guard::quietly(otherwise, || match SHARED.get(shared) {
        Ok(handle) => body(&handle),
        Err(_) => otherwise,
    })
}
