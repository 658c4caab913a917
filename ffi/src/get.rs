//! The calls that read all of it: into a callback, into memory, into a file.

use std::{
    ffi::{c_char, c_int, c_void},
    path::Path,
    slice,
};

use pget_rs::{Error, ErrorKind};

use crate::{
    boundary::{self, OK, Out},
    error::pget_error,
    options::{object, pget_options},
    status::pget_status,
    text::{self, invalid},
};

/// Takes bytes of the object: length of them (at least 1), from offset in the object on. Calls come
/// in order and without a gap. Returns 0 to go on; anything else stops the download.
///
/// It runs on the thread that called parallel_get, one at a time. The data is valid until it
/// returns. It must return (no longjmp, no exception). It may call anything of this library, and
/// may fork: if it returns in the child, the call fails there with PGET_ERR_FORKED.
pub type pget_write_fn =
    Option<unsafe extern "C" fn(context: *mut c_void, data: *const u8, length: usize, offset: u64) -> c_int>;

/// Reads the object at url and passes it to write, in order. Several ranges are fetched at the same
/// time; what is held is bounded by the window.
///
/// url is a text as in "ais://bucket/object", "s3://bucket/key", "gs://bucket/key",
/// "az://container/key", "https://host/path", "file:///path" or a path. options may be null.
/// context is handed to write as it is. error may be null, else it is set to null or to an error
/// that the caller frees.
///
/// Waits until all is written or it fails; any thread. If write returned something other than 0,
/// that is PGET_ERR_DESTINATION. What write got before an error is the right beginning of the
/// object.
///
/// Errors: PGET_ERR_INVALID_ARGUMENT (null url or write, unusable url, option, property or handle),
/// _UNSUPPORTED, _NOT_FOUND, _PERMISSION_DENIED, _OBJECT_CHANGED, _RANGE, _TIMEOUT, _UNAVAILABLE,
/// _PROTOCOL, _CHECKSUM, _DESTINATION, _CANCELLED, _FORKED, _INTERNAL. Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parallel_get(
    url: *const c_char,
    options: *const pget_options,
    write: pget_write_fn,
    context: *mut c_void,
    error: *mut *mut pget_error,
) -> pget_status {
    let body = || {
        // SAFETY: null or a text, says the header.
        let url = unsafe { text::required(url, "url")? };
        let write = write.ok_or_else(|| invalid("the write function is null"))?;
        let mut reader = object(url, options)?.reader()?;
        while let Some(lease) = reader.next_lease()? {
            // SAFETY: the caller gave a function that may be called so, with its context; the lease
            // holds the data until it has returned.
            let answer = unsafe { write(context, lease.as_ptr(), lease.len(), lease.offset()) };
            if answer != 0 {
                let message = format!("the write function stopped it with {answer}");
                return Err(Error::new(ErrorKind::Destination, "", message));
            }
        }
        Ok(OK)
    };
    // SAFETY: null or writable, says the header.
    unsafe { boundary::call(error, body) }
}

/// Reads the object at url straight into buffer: each range is received where it belongs, without a
/// copy.
///
/// buffer has capacity bytes and is lent for the call: when the function returns, however it went,
/// nothing writes to it any more. It need not be initialised; it may be null if capacity is 0.
/// length is set to the bytes read; with PGET_ERR_BUFFER_TOO_SMALL, to the bytes that are needed if
/// that is known (pget_error_needed returns it), and nothing has been written then; if it is not,
/// and with any other error, to 0, and the buffer's content is unspecified. url, options and error
/// are as for parallel_get.
///
/// Waits; any thread. Errors: those of parallel_get but _DESTINATION, _INVALID_ARGUMENT also for a
/// null length, and PGET_ERR_BUFFER_TOO_SMALL. Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parallel_get_into(
    url: *const c_char,
    options: *const pget_options,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut pget_error,
) -> pget_status {
    let body = || {
        // SAFETY: null or writable until this function returns, says the header.
        let length = unsafe { Out::new(length, 0, "length")? };
        // SAFETY: null or a text, says the header.
        let url = unsafe { text::required(url, "url")? };
        // SAFETY: the caller lends these bytes for the call.
        let buffer = unsafe { bytes_mut(buffer, capacity)? };
        match object(url, options)?.read_into(buffer) {
            Ok(count) => {
                length.put(count);
                Ok(OK)
            }
            Err(error) => {
                if let Some(needed) = error.needed() {
                    length.put(usize::try_from(needed).unwrap_or(usize::MAX));
                }
                Err(error)
            }
        }
    };
    // SAFETY: null or writable, says the header.
    unsafe { boundary::call(error, body) }
}

/// Reads the object at url into the file path, which appears under that name only when it is
/// complete (until then it is path.pget-part). What was there before is replaced.
///
/// length is set to the bytes that this call read (less than the file has, if it went on with an
/// earlier one: pget_options_set_resume), or to 0 if it fails; then what was there before stays. A
/// part is beside it only if it is complete, or with path.pget-journal, to go on from; the error's
/// message says so. (With pget_options_set_sync, a folder or file that cannot be synced is an error
/// after the file is there, complete.) A file that is replaced passes on its mode, owner, group and
/// access list to the new one where allowed. A file that cannot be replaced (a mount point, a
/// sticky folder) is overwritten when the part is complete. A path that is a device or a pipe is
/// written to in order, and so is what is open already (/dev/stdout, /dev/fd/N and their like),
/// from where it stands; nothing of it is cut. A pipe or socket whose reader goes away raises
/// SIGPIPE as any write to it does, and a pipe whose reader opens it with O_NONBLOCK may be found
/// without a writer until the first bytes. A relative path is taken from the folder that the
/// process is in at the call. url, options and error are as for parallel_get; path is UTF-8.
///
/// Waits; any thread. Errors: those of parallel_get, PGET_ERR_DESTINATION when the file cannot be
/// written, its path ends as a part's or a journal's does (.pget-part, .pget-journal), its part is
/// being written by another process (where a file system has no locks: is there), or was removed or
/// replaced during the read, _INVALID_ARGUMENT also for a null path or length. Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parallel_get_file(
    url: *const c_char,
    options: *const pget_options,
    path: *const c_char,
    length: *mut u64,
    error: *mut *mut pget_error,
) -> pget_status {
    let body = || {
        // SAFETY: null or writable until this function returns, says the header.
        let length = unsafe { Out::new(length, 0, "length")? };
        // SAFETY: null or a text, says the header.
        let url = unsafe { text::required(url, "url")? };
        // SAFETY: as above.
        let path = unsafe { text::required(path, "path")? };
        let stats = object(url, options)?.get_file(Path::new(path))?;
        length.put(stats.delivered);
        Ok(OK)
    };
    // SAFETY: null or writable, says the header.
    unsafe { boundary::call(error, body) }
}

/// Foreign memory to be written.
///
/// # Safety
/// `pointer` is null or has `capacity` bytes that no other code uses while the result lives.
pub(crate) unsafe fn bytes_mut<'a>(pointer: *mut c_void, capacity: usize) -> Result<&'a mut [u8], Error> {
    if capacity == 0 {
        return Ok(&mut []);
    }
    if pointer.is_null() {
        return Err(invalid("the buffer is null"));
    }
    if isize::try_from(capacity).is_err() {
        return Err(invalid("the capacity is more than memory can have"));
    }
    // SAFETY: not null, not too long, and the caller's word for the rest. The bytes may not be
    // initialised; they are only written.
    Ok(unsafe { slice::from_raw_parts_mut(pointer.cast(), capacity) })
}
