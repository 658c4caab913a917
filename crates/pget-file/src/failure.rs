//! The error of work on a file.

use std::{io, path::Path};

use pget_core::{Error, ErrorKind};

/// Makes the error of `path`, which `what` happened to.
#[must_use]
pub fn destination(path: &Path, what: &str, cause: io::Error) -> Error {
    let message = format!("{} {what}", path.display());
    Error::with_cause(ErrorKind::Destination, "", message, cause)
}
