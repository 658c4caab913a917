//! Readers: pull, in order, without a copy.
//!
//! Invariants: a view given by `next` is held in the state until the next call or until the reader
//! is closed and no call uses it; one thread at a time is in the state; cancel and close never wait
//! for it.

use std::{
    ffi::{c_char, c_void},
    sync::{
        Mutex, MutexGuard, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
};

use pget_rs::{BlockingReader, Error, ErrorKind, Lease, Monitor, ObjectInfo, Options};

use crate::{
    boundary::{self, END, OK, Out},
    error::pget_error,
    get::bytes_mut,
    guard,
    handle::Registry,
    info::{Structure, pget_info, pget_stats},
    options::{pget_options, settings},
    status::pget_status,
    text::{self, invalid},
};

/// Reads one object in order, as far as the caller asks. Used by one thread at a time: a second one
/// gets PGET_ERR_INVALID_ARGUMENT. Only pget_reader_cancel, pget_reader_close, pget_reader_info and
/// pget_reader_stats may be called during that call.
#[derive(Debug)]
pub struct pget_reader {
    _opaque: (),
}

struct Handle {
    monitor: Monitor,
    info: ObjectInfo,
    options: Options,
    closed: AtomicBool,
    state: Mutex<State>,
}

struct State {
    reader: BlockingReader,
    /// The lease that `next` lent, or that `read` has begun.
    lease: Option<Lease>,
    /// How much of it was given.
    given: usize,
}

static READERS: Registry<Handle> = Registry::new(4, "reader");

impl Handle {
    fn enter(&self) -> Result<MutexGuard<'_, State>, Error> {
        match self.state.try_lock() {
            Ok(state) => Ok(state),
            Err(TryLockError::WouldBlock) => Err(invalid("the reader is busy: another call uses it")),
            Err(TryLockError::Poisoned(_)) => Err(Error::new(
                ErrorKind::Internal,
                "",
                "an earlier call on the reader met a defect",
            )),
        }
    }

    /// Whether the lease that was just taken may still be given out.
    fn still_open(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Cancelled, "", "the reader was closed"));
        }
        Ok(())
    }
}

impl State {
    /// Returns the rest of the current lease, otherwise a new lease, or `None` at the end.
    fn rest(&mut self) -> Result<Option<&[u8]>, Error> {
        if self.lease.as_ref().is_none_or(|lease| self.given == lease.len()) {
            // Its memory can be used again at once.
            self.lease = None;
            self.given = 0;
            self.lease = self.reader.next_lease()?;
        }
        Ok(self.lease.as_ref().map(|lease| &lease[self.given..]))
    }
}

/// Opens the object at url for reading, and waits for the first reply, so that a wrong address,
/// missing credentials or a missing object are found here.
///
/// reader is set to a reader that the caller closes with pget_reader_close, or to null if it fails.
/// url, options and error are as for parallel_get; options may be freed at once.
///
/// Any thread. Errors: those of parallel_get but _DESTINATION, _INVALID_ARGUMENT also for a null
/// reader. Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pget_open(
    url: *const c_char,
    options: *const pget_options,
    reader: *mut *mut pget_reader,
    error: *mut *mut pget_error,
) -> pget_status {
    let body = || {
        // SAFETY: null or writable until this function returns, says the header.
        let out = unsafe { Out::new(reader, std::ptr::null_mut(), "reader")? };
        // SAFETY: null or a text, says the header.
        let url = unsafe { text::required(url, "url")? };
        let settings = settings(options)?;
        let reader = pget_rs::builder(url)
            .settings(settings.clone())
            .blocking()?
            .reader()?;
        out.put(READERS.insert(Handle {
            monitor: reader.monitor(),
            info: reader.info()?,
            options: settings.options,
            closed: AtomicBool::new(false),
            state: Mutex::new(State {
                reader,
                lease: None,
                given: 0,
            }),
        }));
        Ok(OK)
    };
    // SAFETY: null or writable, says the header.
    unsafe { boundary::call(error, body) }
}

/// Stores what the first reply said of the object. Does not wait.
///
/// info is the caller's. error may be null, else it is set to null or to an error that the caller
/// frees. Any thread, also while another one uses the reader. Errors: PGET_ERR_INVALID_ARGUMENT (no
/// reader, null info, its struct_size too small or large), _FORKED, _INTERNAL. Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pget_reader_info(
    reader: *mut pget_reader,
    info: *mut pget_info,
    error: *mut *mut pget_error,
) -> pget_status {
    let body = || {
        // SAFETY: null or as the header says, until this function returns.
        let out = unsafe { Structure::new(info, "info")? };
        let handle = READERS.get(reader)?;
        out.put(pget_info::new(
            &handle.info,
            &handle.options,
            handle.monitor.total(),
        ));
        Ok(OK)
    };
    // SAFETY: null or writable, says the header.
    unsafe { boundary::call(error, body) }
}

/// Stores the counters of the download. Does not wait.
///
/// stats is the caller's. error may be null, else it is set to null or to an error that the caller
/// frees. Any thread, also while another one uses the reader. Errors: PGET_ERR_INVALID_ARGUMENT (no
/// reader, null stats, its struct_size too small or large), _FORKED, _INTERNAL. Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pget_reader_stats(
    reader: *mut pget_reader,
    stats: *mut pget_stats,
    error: *mut *mut pget_error,
) -> pget_status {
    let body = || {
        // SAFETY: null or as the header says, until this function returns.
        let out = unsafe { Structure::new(stats, "stats")? };
        out.put(pget_stats::new(&READERS.get(reader)?.monitor.stats()));
        Ok(OK)
    };
    // SAFETY: null or writable, says the header.
    unsafe { boundary::call(error, body) }
}

/// Waits for the next bytes of the object and shows them where they were received, without a copy.
///
/// PGET_OK: data and length (at least 1) describe a view that belongs to the reader and is valid
/// until the next pget_reader_next, pget_reader_read or pget_reader_close on it; it is not to be
/// written to. PGET_END: all has been given, data is null and length 0. Else an error, which every
/// later call returns again; data is null and length 0. error may be null, else it is set to null
/// or to an error that the caller frees.
///
/// Any thread, one at a time. Errors: those of parallel_get but _DESTINATION;
/// PGET_ERR_INVALID_ARGUMENT for no reader, one that another call uses, or a null data or length;
/// PGET_ERR_CANCELLED after pget_reader_cancel, or if another thread closes the reader during the
/// call. Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pget_reader_next(
    reader: *mut pget_reader,
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
        let mut state = handle.enter()?;
        let Some(view) = state.rest()? else {
            return Ok(END);
        };
        handle.still_open()?;
        let (start, count) = (view.as_ptr(), view.len());
        state.given += count;
        data.put(start);
        length.put(count);
        Ok(OK)
    };
    // SAFETY: null or writable, says the header.
    unsafe { boundary::call(error, body) }
}

/// Waits for bytes of the object and copies up to capacity of them to buffer: as many as there are,
/// like read(2).
///
/// buffer is lent for the call; it may be null if capacity is 0. PGET_OK: length (at least 1,
/// unless capacity is 0) bytes were copied. PGET_END: all has been given, length is 0. Else an
/// error, as with pget_reader_next; length is 0. May be mixed with pget_reader_next. error may be
/// null, else it is set to null or to an error that the caller frees.
///
/// Any thread, one at a time. Errors: those of pget_reader_next. Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pget_reader_read(
    reader: *mut pget_reader,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut pget_error,
) -> pget_status {
    let body = || {
        // SAFETY: null or writable until this function returns, says the header.
        let length = unsafe { Out::new(length, 0, "length")? };
        // SAFETY: the caller lends these bytes for the call.
        let buffer = unsafe { bytes_mut(buffer, capacity)? };
        let handle = READERS.get(reader)?;
        let mut state = handle.enter()?;
        if buffer.is_empty() {
            return Ok(OK);
        }
        let Some(view) = state.rest()? else {
            return Ok(END);
        };
        let count = view.len().min(buffer.len());
        buffer[..count].copy_from_slice(&view[..count]);
        state.given += count;
        length.put(count);
        Ok(OK)
    };
    // SAFETY: null or writable, says the header.
    unsafe { boundary::call(error, body) }
}

/// Stops the download of a reader, which still is to be closed: a call that waits, and every later
/// one, gets PGET_ERR_CANCELLED. It does not wait for that. Does nothing the second time, at the
/// end, or if reader is null or closed.
///
/// Any thread, also from within callbacks; not from a signal handler. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_reader_cancel(reader: *mut pget_reader) {
    guard::quietly((), || {
        if let Ok(handle) = READERS.get(reader) {
            handle.monitor.cancel();
        }
    });
}

/// Closes a reader: stops its download if it runs, and frees all it has; the last view is gone. A
/// call of another thread that waits on the reader gets PGET_ERR_CANCELLED; close does not wait for
/// it. Does nothing if reader is null or was closed before, and in a child that
/// was forked since it was opened.
///
/// Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_reader_close(reader: *mut pget_reader) {
    guard::quietly((), || {
        if let Some(handle) = READERS.remove(reader) {
            handle.closed.store(true, Ordering::SeqCst);
            handle.monitor.cancel();
        }
    });
}
