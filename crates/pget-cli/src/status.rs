//! The exit status that an error stands for.

use pget::{Error, ErrorKind};

/// Returns the exit status of an error. Of several errors, the one with the highest status counts.
pub(crate) fn status(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::InvalidArgument => 2,
        ErrorKind::NotFound => 3,
        ErrorKind::PermissionDenied => 4,
        ErrorKind::ObjectChanged => 5,
        ErrorKind::Timeout | ErrorKind::Unavailable => 6,
        ErrorKind::Protocol | ErrorKind::Checksum => 7,
        ErrorKind::Destination | ErrorKind::BufferTooSmall => 8,
        ErrorKind::Unverifiable => 9,
        _ => 1,
    }
}
