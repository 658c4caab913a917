//! Named shared memory: the functions are there, so that programs which ask for them link, and say that this build cannot.

use std::ffi::c_char;

use front::{Error, ErrorKind};

use crate::{
    border::{self, Out},
    error::pget_error,
    options::pget_options,
    status::pget_status,
};

/// An object in named shared memory. In this version no function gives one.
#[derive(Debug)]
pub struct pget_shared {
    _opaque: (),
}

/// What both functions that would give one do.
///
/// # Safety
/// Both pointers are null or may be written.
unsafe fn refuse(shared: *mut *mut pget_shared, error: *mut *mut pget_error) -> pget_status {
    let body = || {
        // SAFETY: null or writable until this function returns, says the caller.
        unsafe { Out::new(shared, std::ptr::null_mut(), "shared memory")? };
        Err(Error::new(
            ErrorKind::Unsupported,
            "",
            "this version has no named shared memory",
        ))
    };
    // SAFETY: null or writable, says the caller.
    unsafe { border::call(error, body) }
}

/// Reads the object at url straight into new shared memory of that name. In this version it always
/// fails with PGET_ERR_UNSUPPORTED, and sets shared to null.
///
/// error may be null, else it is set to an error that the caller frees. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parallel_get_shared(
    url: *const c_char,
    options: *const pget_options,
    name: *const c_char,
    shared: *mut *mut pget_shared,
    error: *mut *mut pget_error,
) -> pget_status {
    let _ = (url, options, name);
    // SAFETY: null or writable, says the header.
    unsafe { refuse(shared, error) }
}

/// Attaches to shared memory that parallel_get_shared of another process has made. In this version
/// it always fails with PGET_ERR_UNSUPPORTED, and sets shared to null.
///
/// error may be null, else it is set to an error that the caller frees. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pget_shared_open(
    name: *const c_char,
    shared: *mut *mut pget_shared,
    error: *mut *mut pget_error,
) -> pget_status {
    let _ = name;
    // SAFETY: null or writable, says the header.
    unsafe { refuse(shared, error) }
}

/// The object's bytes; null if shared is null or closed. They belong to it and are valid until it
/// is closed. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_shared_data(shared: *const pget_shared) -> *const u8 {
    let _ = shared;
    std::ptr::null()
}

/// The object's size in bytes; 0 if shared is null or closed. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_shared_length(shared: *const pget_shared) -> usize {
    let _ = shared;
    0
}

/// The name of the shared memory; null if shared is null or closed. The text belongs to it and is
/// valid until it is closed. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_shared_name(shared: *const pget_shared) -> *const c_char {
    let _ = shared;
    std::ptr::null()
}

/// Detaches; if this process made the shared memory, its name goes too. Does nothing if shared is
/// null or closed. Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_shared_close(shared: *mut pget_shared) {
    let _ = shared;
}
