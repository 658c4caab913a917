//! Error objects.

use std::ffi::{CString, c_char};

use pget_rs::{Error, ErrorKind};

use crate::{
    guard,
    handle::Registry,
    status::{pget_status, pget_status_code},
    text::static_text,
};

/// Why a call failed. Made by the functions that take a pget_error **, owned by the caller, freed
/// by pget_error_free.
///
/// It never changes, so any number of threads may read one at the same time.
#[derive(Debug)]
pub struct pget_error {
    _opaque: (),
}

struct Failure {
    status: pget_status_code,
    needed: Option<u64>,
    message: CString,
}

static ERRORS: Registry<Failure> = Registry::new(1, "error");

pub(crate) fn object(status: pget_status_code, error: &Error) -> *mut pget_error {
    // `to_line` has no control character, so no zero.
    let message = CString::new(error.to_line()).unwrap_or_default();
    ERRORS.insert(Failure {
        status,
        needed: error.needed(),
        message,
    })
}

/// The status of an error: what the failed call returned. PGET_ERR_INVALID_ARGUMENT if error is
/// null or freed, PGET_ERR_FORKED if it is from before a fork.
///
/// Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_error_status(error: *const pget_error) -> pget_status {
    let status = guard::quietly(pget_status_code::PGET_ERR_INVALID_ARGUMENT, || {
        ERRORS.get(error).map_or_else(
            |unknown| pget_status_code::of(unknown.kind()),
            |failure| failure.status,
        )
    });
    status.number()
}

/// Returns the error's message, one line of UTF-8: the object that was read, the failure, its
/// cause, and the number of attempts. It never contains a credential.
///
/// The text belongs to the error and is valid until that is freed; an empty text if error is null
/// or freed. Never null. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_error_message(error: *const pget_error) -> *const c_char {
    guard::quietly(static_text("\0"), || {
        // The entry keeps the text where it is until it is removed.
        ERRORS.get(error).map_or_else(
            |unknown| match unknown.kind() {
                ErrorKind::Forked => static_text("used after fork: this error is the parent's\0"),
                _ => static_text("\0"),
            },
            |failure| failure.message.as_ptr(),
        )
    })
}

/// With PGET_ERR_BUFFER_TOO_SMALL, how many bytes the buffer must have; 0 if that is not known,
/// with any other error, or if error is null or freed.
///
/// Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_error_needed(error: *const pget_error) -> u64 {
    guard::quietly(0, || {
        ERRORS
            .get(error)
            .map_or(0, |failure| failure.needed.unwrap_or_default())
    })
}

/// Frees an error and its message. Does nothing if error is null or was freed before.
///
/// Any thread, while no other one reads the message. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_error_free(error: *mut pget_error) {
    guard::quietly((), || drop(ERRORS.remove(error)));
}
