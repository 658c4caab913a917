//! Exceptions: an error of the library as `pget.errors` defines it, with its attributes.

use pget_rs::{Error, ErrorKind};
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    sync::PyOnceLock,
};

/// The word for a kind, as `PgetError.kind` has it.
pub(crate) const fn word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidArgument => "invalid_argument",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::NotFound => "not_found",
        ErrorKind::PermissionDenied => "permission_denied",
        ErrorKind::ObjectChanged => "object_changed",
        ErrorKind::Range => "range",
        ErrorKind::Timeout => "timeout",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Protocol => "protocol",
        ErrorKind::Checksum => "checksum",
        ErrorKind::Destination => "destination",
        ErrorKind::BufferTooSmall => "buffer_too_small",
        ErrorKind::Cancelled => "cancelled",
        ErrorKind::Forked => "forked",
        ErrorKind::Resources => "resources",
        ErrorKind::Unverifiable => "unverifiable",
        // The kinds may grow; what has no word yet is still an error.
        _ => "internal",
    }
}

/// What the system said, if that is among the causes.
fn system_code(error: &Error) -> Option<i32> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(code) = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::raw_os_error)
        {
            return Some(code);
        }
        cause = error.source();
    }
    None
}

/// The exception for an error.
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if error.kind() == ErrorKind::InvalidArgument {
        return PyValueError::new_err(error.to_line());
    }
    let make = || {
        let made = MAKE.get_or_try_init(py, || {
            let module = py.import("pget.errors")?;
            PyResult::Ok(module.getattr("_make")?.unbind())
        })?;
        let range = error.range().map(|range| (range.start, range.end));
        let code = match error.kind() {
            ErrorKind::Destination => system_code(error),
            _ => None,
        };
        let attributes = (
            word(error.kind()),
            error.to_line(),
            error.object(),
            range,
            error.attempts(),
            error.needed(),
            code,
        );
        made.bind(py).call1(attributes)
    };
    match make() {
        Ok(value) => PyErr::from_value(value),
        Err(failed) => failed,
    }
}

/// The exception for an object that another thread is using.
pub(crate) fn in_use(what: &str) -> PyErr {
    PyRuntimeError::new_err(format!("the {what} is in use by another thread"))
}
