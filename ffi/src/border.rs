//! The way in and out of every function: panics, errors, and foreign pointers.
//!
//! Invariants: [`call`] is the outermost frame of a function, so that no panic passes it;
//! [`Out`], [`text`] and [`optional_text`] are the only ways to foreign memory besides buffers.

use std::{
    any::Any,
    ffi::{CStr, CString, c_char},
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::NonNull,
};

use front::{Error, ErrorKind};

use crate::{
    error::{self, pget_error},
    status::{pget_status, pget_status_code},
};

pub(crate) const OK: pget_status = pget_status_code::PGET_OK.number();
pub(crate) const END: pget_status = pget_status_code::PGET_END.number();

/// Runs `body`: its status, or that of its error, which is put to `error` if that is not null.
///
/// # Safety
/// `error` is null or may be written.
pub(crate) unsafe fn call(
    error: *mut *mut pget_error,
    body: impl FnOnce() -> Result<pget_status, Error>,
) -> pget_status {
    let put = |value: *mut pget_error| {
        if !error.is_null() {
            // SAFETY: not null, so it may be written, says this function's caller.
            unsafe { error.write(value) };
        }
    };
    put(std::ptr::null_mut());
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(status)) => return status,
        Ok(Err(failure)) => failure,
        Err(payload) => Error::new(ErrorKind::Internal, "", panic_message(&*payload)),
    };
    let status = pget_status_code::of(failure.kind());
    if !error.is_null() {
        // Making the object allocates; what goes wrong there leaves the status, and no object.
        if let Ok(object) = catch_unwind(AssertUnwindSafe(|| error::object(status, &failure))) {
            put(object);
        }
    }
    status.number()
}

/// Runs `body` for a function that has no status: `otherwise` after a panic.
pub(crate) fn quietly<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("a defect: {}", text.unwrap_or("a panic without a message"))
}

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, "", message)
}

/// A static text with its ending zero.
pub(crate) fn static_text(text: &'static str) -> *const c_char {
    debug_assert!(text.ends_with('\0'), "{text:?} has no ending zero");
    text.as_ptr().cast()
}

/// A foreign text.
///
/// # Safety
/// `pointer` is null or points to a text that ends with a zero, and that nobody changes while the
/// result is used.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str, Error> {
    if pointer.is_null() {
        return Err(invalid(format!("the {name} is null")));
    }
    // SAFETY: not null, and the rest the caller says.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str()
        .map_err(|_| invalid(format!("the {name} is not UTF-8")))
}

/// A foreign text that the caller need not give; `None` for null.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn optional_text<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>, Error> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: what the caller says.
    unsafe { text(pointer, name) }.map(Some)
}

/// A text to be lent to the caller; cut at a zero, which it should not have.
pub(crate) fn c_text(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

/// A place in foreign memory for a result.
pub(crate) struct Out<'a, T> {
    place: NonNull<T>,
    _foreign: PhantomData<&'a mut T>,
}

impl<T> Out<'_, T> {
    /// The place, with `nothing` in it, which stays if the function fails.
    ///
    /// # Safety
    /// `place` is null or may be written until the result is gone.
    pub(crate) unsafe fn new(place: *mut T, nothing: T, name: &str) -> Result<Self, Error> {
        // SAFETY: what the caller says.
        let out = unsafe { Self::optional(place, nothing) };
        out.ok_or_else(|| invalid(format!("the pointer for the {name} is null")))
    }

    /// The same for a result that the caller need not want; `None` for null.
    ///
    /// # Safety
    /// As [`new`](Self::new).
    pub(crate) unsafe fn optional(place: *mut T, nothing: T) -> Option<Self> {
        let place = NonNull::new(place)?;
        // SAFETY: not null, so it may be written, says the caller.
        unsafe { place.write(nothing) };
        Some(Self {
            place,
            _foreign: PhantomData,
        })
    }

    pub(crate) fn put(&self, value: T) {
        // SAFETY: `new` was told that it may be written while this lives.
        unsafe { self.place.write(value) };
    }
}
