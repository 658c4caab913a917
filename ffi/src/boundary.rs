//! The way in and out of every function that can fail: panics, errors, and foreign pointers.
//!
//! Invariants: [`call`] is the outermost frame of a function, so that no panic passes it;
//! [`Out`], `text::required` and `text::optional` are the only ways to foreign memory besides
//! buffers.

use std::{
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::NonNull,
};

use pget_rs::{Error, ErrorKind};

use crate::{
    error::{self, pget_error},
    guard::panic_message,
    status::{pget_status, pget_status_code},
    text::invalid,
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

    /// Returns the place of a result that the caller may not want, or `None` for null.
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
        // SAFETY: the caller of `new` says that it may be written while this lives.
        unsafe { self.place.write(value) };
    }
}
