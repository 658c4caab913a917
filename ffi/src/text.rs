//! Text from foreign callers, and text that is lent to them.

use std::ffi::{CStr, CString, c_char};

use pget_rs::{Error, ErrorKind};

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
/// `pointer` is null or points to a text that ends with a zero, and that no code changes while the
/// result is used.
pub(crate) unsafe fn required<'a>(pointer: *const c_char, name: &str) -> Result<&'a str, Error> {
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
/// As [`required`].
pub(crate) unsafe fn optional<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>, Error> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: what the caller says.
    unsafe { required(pointer, name) }.map(Some)
}

/// A text to be lent to the caller; cut at a zero, which it should not have.
pub(crate) fn owned(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}
