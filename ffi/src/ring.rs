//! Rings in shared memory: one process puts objects, one other process reads them, in order and one
//! after another.
//!
//! Invariants: one thread at a time is in an end of a ring; a close never waits for it, and wakes
//! it if it waits. What a reader's handle points to (data, revision) lives until the next call or
//! the close, whichever comes first.

use std::{
    ffi::{CString, c_char},
    sync::{
        Mutex, MutexGuard, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use pget_rs::{
    Error, ErrorKind,
    shm::{RingReader, RingWriter, Waker},
};

use crate::{
    boundary::{self, END, OK, Out},
    cancel::{self, pget_cancel},
    error::pget_error,
    guard,
    handle::Registry,
    options::{object, pget_options},
    status::pget_status,
    text::{self, invalid},
    wait::wait,
};

/// The end of a ring in shared memory that puts objects into it. Used by one thread at a time: a
/// second one gets PGET_ERR_INVALID_ARGUMENT. Only pget_ring_name and pget_ring_close may be called
/// during a call.
#[derive(Debug)]
pub struct pget_ring {
    _opaque: (),
}

/// The end of a ring in shared memory that reads. Used by one thread at a time: a second one gets
/// PGET_ERR_INVALID_ARGUMENT. Only pget_ring_reader_close may be called during a call.
#[derive(Debug)]
pub struct pget_ring_reader {
    _opaque: (),
}

struct Writer {
    name: CString,
    ring: Mutex<RingWriter>,
}

struct Reader {
    waker: Waker,
    closed: AtomicBool,
    state: Mutex<State>,
}

struct State {
    ring: RingReader,
    revision: CString,
}

static WRITERS: Registry<Writer> = Registry::new(7, "ring");
static READERS: Registry<Reader> = Registry::new(8, "ring's reader");

fn enter<T>(state: &Mutex<T>) -> Result<MutexGuard<'_, T>, Error> {
    match state.try_lock() {
        Ok(state) => Ok(state),
        Err(TryLockError::WouldBlock) => Err(invalid("the ring is busy: another call uses it")),
        Err(TryLockError::Poisoned(_)) => {
            let message = "an earlier call on the ring met a defect";
            Err(Error::new(ErrorKind::Internal, "", message))
        }
    }
}

/// Makes a ring in shared memory, through which one other process reads objects as they arrive: of
/// at least capacity bytes, however long the objects are. The one that reads sets the pace.
///
/// name is a POSIX name ("/feed" or "feed"), which must be free, or null: in either case,
/// pget_ring_name returns the name to attach by. ring is set to a handle that the caller closes
/// with pget_ring_close, or to null if it fails; then nothing is left. error may be null, else it
/// is set to null or to an error that the caller frees.
///
/// Does not wait; any thread. Linux only. Errors: PGET_ERR_DESTINATION (no room, or the name is
/// taken), _INVALID_ARGUMENT (a name that cannot be one, null ring), _FORKED, _INTERNAL. Since ABI
/// 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pget_ring_create(
    name: *const c_char,
    capacity: usize,
    ring: *mut *mut pget_ring,
    error: *mut *mut pget_error,
) -> pget_status {
    let body = || {
        // SAFETY: null or writable until this function returns, says the header.
        let out = unsafe { Out::new(ring, std::ptr::null_mut(), "ring")? };
        // SAFETY: null or a text, says the header.
        let name = unsafe { text::optional(name, "name")? };
        let ring = RingWriter::create(name, capacity)?;
        out.put(WRITERS.insert(Writer {
            name: text::owned(ring.name()),
            ring: Mutex::new(ring),
        }));
        Ok(OK)
    };
    // SAFETY: null or writable, says the header.
    unsafe { boundary::call(error, body) }
}

/// Puts the object at url into the ring, as its next one, in order; returns when the process that
/// reads the ring has taken all of it.
///
/// url, options and error are as for parallel_get; the cancel handle of options ends waits for the
/// reader, too. What fails before the ring has begun with the object (PGET_ERR_NOT_FOUND, say) is
/// no object of the ring, and the reader hears nothing of it; of later failures it hears. After
/// either, another object may be put.
///
/// Waits, also for a reader to come; any thread. Errors: those of parallel_get, _DESTINATION also
/// if the reader has gone or died, _INVALID_ARGUMENT also if ring is null, closed or in use. Since
/// ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parallel_get_ring(
    url: *const c_char,
    options: *const pget_options,
    ring: *mut pget_ring,
    error: *mut *mut pget_error,
) -> pget_status {
    let body = || {
        // SAFETY: null or a text, says the header.
        let url = unsafe { text::required(url, "url")? };
        let handle = WRITERS.get(ring)?;
        let object = object(url, options)?;
        let mut ring = enter(&handle.ring)?;
        object.put_into_ring(&mut ring)?;
        Ok(OK)
    };
    // SAFETY: null or writable, says the header.
    unsafe { boundary::call(error, body) }
}

/// The name that the reader attaches by: the POSIX name without a slash, or "/proc/PID/fd/NUMBER";
/// null if ring is null or closed. The text belongs to ring and is valid until it is closed. Any
/// thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_ring_name(ring: *const pget_ring) -> *const c_char {
    guard::quietly(std::ptr::null(), || {
        WRITERS
            .get(ring)
            .map_or(std::ptr::null(), |writer| writer.name.as_ptr())
    })
}

/// Closes the ring: its reader hears that no more objects come. Does nothing if ring is null or
/// closed. Any thread; a parallel_get_ring that runs goes on, and the ring closes when it returns:
/// its cancel handle ends it. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_ring_close(ring: *mut pget_ring) {
    guard::quietly((), || drop(WRITERS.remove(ring)));
}

/// Attaches to the ring of that name, which this or another process of the same user has made, as
/// its one reader. name is what pget_ring_name returns there, or the POSIX name.
///
/// reader is set to a handle that the caller closes with pget_ring_reader_close, or to null if it
/// fails. error may be null, else it is set to null or to an error that the caller frees.
///
/// Does not wait; any thread. Linux only. Errors: PGET_ERR_NOT_FOUND (no such name, or not yet),
/// _PERMISSION_DENIED (another user's, open to others, or a link), _UNAVAILABLE (it has a reader,
/// or had one), _INVALID_ARGUMENT (no ring, null name or reader), _FORKED, _INTERNAL. Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pget_ring_open(
    name: *const c_char,
    reader: *mut *mut pget_ring_reader,
    error: *mut *mut pget_error,
) -> pget_status {
    let body = || {
        // SAFETY: null or writable until this function returns, says the header.
        let out = unsafe { Out::new(reader, std::ptr::null_mut(), "reader")? };
        // SAFETY: null or a text, says the header.
        let name = unsafe { text::required(name, "name")? };
        let ring = RingReader::attach(name)?;
        out.put(READERS.insert(Reader {
            waker: ring.waker(),
            closed: AtomicBool::new(false),
            state: Mutex::new(State {
                ring,
                revision: CString::default(),
            }),
        }));
        Ok(OK)
    };
    // SAFETY: null or writable, says the header.
    unsafe { boundary::call(error, body) }
}

/// Waits for the next object, also for the first; PGET_END if no more come. What is left of the one
/// before is passed over as it comes: that begins with the call, however the call ends, and
/// pget_ring_next returns no more of that object.
///
/// timeout is in milliseconds; 0 passes over what is there and does not wait, UINT64_MAX waits as
/// long as it takes. cancel may be null; else triggering it ends the wait, and nothing else. After
/// either, the call may be made again. size and revision may be null; else size is set to the
/// number of bytes that come, UINT64_MAX if that is not known, and revision to the identity of the
/// content, for people, valid until the next call of this function or the close; or to 0 and null.
///
/// error may be null, else it is set to null or to an error that the caller frees. Any thread, one
/// at a time. Errors: PGET_ERR_UNAVAILABLE if the process that puts died (noticed within half a
/// second), _DESTINATION if the ring could not be made (while this attached), _TIMEOUT, _CANCELLED
/// (within a quarter of a second; also if reader is closed during the call), _INVALID_ARGUMENT,
/// _FORKED, _INTERNAL. Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pget_ring_next_object(
    reader: *mut pget_ring_reader,
    timeout: u64,
    cancel: *const pget_cancel,
    size: *mut u64,
    revision: *mut *const c_char,
    error: *mut *mut pget_error,
) -> pget_status {
    let body = || {
        // SAFETY: null or writable until this function returns, says the header.
        let size = unsafe { Out::optional(size, 0) };
        // SAFETY: as above.
        let revision = unsafe { Out::optional(revision, std::ptr::null()) };
        let handle = READERS.get(reader)?;
        let mut state = enter(&handle.state)?;
        let object = handle.wait(timeout, cancel, |deadline, stop| {
            state.ring.next_object_unless(deadline, stop)
        })?;
        let Some(object) = object else { return Ok(END) };
        state.revision = text::owned(&object.revision);
        if let Some(out) = size {
            out.put(object.size.unwrap_or(u64::MAX));
        }
        if let Some(out) = revision {
            out.put(state.revision.as_ptr());
        }
        Ok(OK)
    };
    // SAFETY: null or writable, says the header.
    unsafe { boundary::call(error, body) }
}

/// Waits for the next bytes of the object, and lends them without a copy; PGET_END at its end,
/// which is only reported if the object is complete.
///
/// data and length are set to the bytes (at least 1), or to null and 0. They are valid until the
/// next call on reader, which returns their room to the process that puts, or its close; no code
/// may write to them. timeout (0 only looks), cancel and error are as for pget_ring_next_object;
/// after PGET_ERR_TIMEOUT or _CANCELLED the call may be made again.
///
/// Any thread, one at a time. Errors: what the download failed with, on every call until the next
/// object; those of pget_ring_next_object, _INVALID_ARGUMENT also for null data or length, before
/// the first object, or if the next object was asked for and has not come. Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pget_ring_next(
    reader: *mut pget_ring_reader,
    timeout: u64,
    cancel: *const pget_cancel,
    data: *mut *const u8,
    length: *mut usize,
    error: *mut *mut pget_error,
) -> pget_status {
    let body = || {
        // SAFETY: null or writable until this function returns, says the header.
        let data = unsafe { Out::new(data, std::ptr::null(), "data")? };
        // SAFETY: as above.
        let length = unsafe { Out::new(length, 0, "length")? };
        let handle = READERS.get(reader)?;
        let mut state = enter(&handle.state)?;
        let bytes = handle.wait(timeout, cancel, |deadline, stop| {
            let bytes = state.ring.next_bytes_unless(deadline, stop)?;
            Ok(bytes.map(|bytes| (bytes.as_ptr(), bytes.len())))
        })?;
        let Some((start, count)) = bytes else {
            return Ok(END);
        };
        data.put(start);
        length.put(count);
        Ok(OK)
    };
    // SAFETY: null or writable, says the header.
    unsafe { boundary::call(error, body) }
}

/// Lets go of the ring, which ends it: the process that puts gets PGET_ERR_DESTINATION. Does
/// nothing if reader is null or closed. Any thread, also while another one waits on it: that call
/// returns PGET_ERR_CANCELLED, and its bytes may not be used any more. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_ring_reader_close(reader: *mut pget_ring_reader) {
    guard::quietly((), || {
        if let Some(handle) = READERS.remove(reader) {
            handle.closed.store(true, Ordering::SeqCst);
            handle.waker.wake();
        }
    });
}

impl Reader {
    fn wait<T>(
        &self,
        timeout: u64,
        cancel: *const pget_cancel,
        once: impl FnMut(Option<Instant>, &dyn Fn() -> bool) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let cancel = cancel::given(cancel)?;
        let found = wait(
            timeout,
            cancel.as_deref(),
            &self.closed,
            || Some(self.waker.clone()),
            once,
        )?;
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Cancelled, "", "the ring was closed"));
        }
        Ok(found)
    }
}
