//! Statuses: the numbers never change.

use std::ffi::c_char;

use pget_rs::ErrorKind;

use crate::text;

/// The result of a function: one of the values of pget_status_code. Errors are negative.
pub type pget_status = i32;

/// The values of pget_status. Numbers never change their meaning; later versions may add some, so
/// treat an unknown negative one as a failure.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum pget_status_code {
    /// Done.
    PGET_OK = 0,
    /// No bytes are left: all of them have been given; or no more objects come (rings).
    PGET_END = 1,
    /// An address, option or argument is not usable: null, a handle that is stale or of another
    /// kind, or a reader that another thread is using.
    PGET_ERR_INVALID_ARGUMENT = -1,
    /// This source, system or build cannot do it.
    PGET_ERR_UNSUPPORTED = -2,
    /// There is no such object.
    PGET_ERR_NOT_FOUND = -3,
    /// The server refuses the credentials, or their lack.
    PGET_ERR_PERMISSION_DENIED = -4,
    /// The object was replaced, changed or deleted while it was being read.
    PGET_ERR_OBJECT_CHANGED = -5,
    /// The wanted range starts beyond the object's end, or, of several ranges, one goes beyond it.
    PGET_ERR_RANGE = -6,
    /// No connection, no first byte or no progress within its time, after retries; or the time of a
    /// wait is over.
    PGET_ERR_TIMEOUT = -7,
    /// The server cannot be reached or refuses work, after retries; or the process that fills
    /// shared memory died, or a ring has or had a reader.
    PGET_ERR_UNAVAILABLE = -8,
    /// The server's response is unusable or cut short, after retries.
    PGET_ERR_PROTOCOL = -9,
    /// The bytes do not have the published checksum.
    PGET_ERR_CHECKSUM = -10,
    /// Writing to the destination failed, the write callback returned something other than 0, a
    /// name is taken, or a ring's reader has gone.
    PGET_ERR_DESTINATION = -11,
    /// The caller's buffer is too small for what is to be read.
    PGET_ERR_BUFFER_TOO_SMALL = -12,
    /// A cancel handle was triggered, or the reader was cancelled or closed.
    PGET_ERR_CANCELLED = -13,
    /// A handle from before fork was used in the child. New handles work there.
    PGET_ERR_FORKED = -14,
    /// Verification is required, and there is no published checksum that it could use.
    PGET_ERR_UNVERIFIABLE = -15,
    /// The process can have no more threads or file descriptors.
    PGET_ERR_RESOURCES = -16,
    /// A defect in the library. The handle that was used is unusable from here on; it can only be
    /// closed.
    PGET_ERR_INTERNAL = -99,
}

impl pget_status_code {
    pub(crate) fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidArgument => Self::PGET_ERR_INVALID_ARGUMENT,
            ErrorKind::Unsupported => Self::PGET_ERR_UNSUPPORTED,
            ErrorKind::NotFound => Self::PGET_ERR_NOT_FOUND,
            ErrorKind::PermissionDenied => Self::PGET_ERR_PERMISSION_DENIED,
            ErrorKind::ObjectChanged => Self::PGET_ERR_OBJECT_CHANGED,
            ErrorKind::Range => Self::PGET_ERR_RANGE,
            ErrorKind::Timeout => Self::PGET_ERR_TIMEOUT,
            ErrorKind::Unavailable => Self::PGET_ERR_UNAVAILABLE,
            ErrorKind::Protocol => Self::PGET_ERR_PROTOCOL,
            ErrorKind::Checksum => Self::PGET_ERR_CHECKSUM,
            ErrorKind::Destination => Self::PGET_ERR_DESTINATION,
            ErrorKind::BufferTooSmall => Self::PGET_ERR_BUFFER_TOO_SMALL,
            ErrorKind::Cancelled => Self::PGET_ERR_CANCELLED,
            ErrorKind::Forked => Self::PGET_ERR_FORKED,
            ErrorKind::Unverifiable => Self::PGET_ERR_UNVERIFIABLE,
            ErrorKind::Resources => Self::PGET_ERR_RESOURCES,
            // The kinds may grow; what has no number yet is still an error.
            _ => Self::PGET_ERR_INTERNAL,
        }
    }

    pub(crate) const fn number(self) -> pget_status {
        self as pget_status
    }
}

/// A few words for a status, as in "not found"; for any other number, "unknown status".
///
/// The text is static: never freed, always valid. Any thread, also after fork. Cannot fail. Since
/// ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_status_name(status: pget_status) -> *const c_char {
    text::static_text(match status {
        0 => "ok\0",
        1 => "end\0",
        -1 => "invalid argument\0",
        -2 => "not supported\0",
        -3 => "not found\0",
        -4 => "permission denied\0",
        -5 => "object changed while being read\0",
        -6 => "range not satisfiable\0",
        -7 => "timed out\0",
        -8 => "unavailable\0",
        -9 => "unusable response\0",
        -10 => "checksum mismatch\0",
        -11 => "cannot write\0",
        -12 => "buffer too small\0",
        -13 => "cancelled\0",
        -14 => "used after fork\0",
        -15 => "cannot verify\0",
        -16 => "out of resources\0",
        -99 => "internal error\0",
        _ => "unknown status\0",
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    #[test]
    fn every_kind_has_its_own_number_and_the_name_that_rust_gives_it() {
        let kinds = [
            (ErrorKind::InvalidArgument, -1),
            (ErrorKind::Unsupported, -2),
            (ErrorKind::NotFound, -3),
            (ErrorKind::PermissionDenied, -4),
            (ErrorKind::ObjectChanged, -5),
            (ErrorKind::Range, -6),
            (ErrorKind::Timeout, -7),
            (ErrorKind::Unavailable, -8),
            (ErrorKind::Protocol, -9),
            (ErrorKind::Checksum, -10),
            (ErrorKind::Destination, -11),
            (ErrorKind::BufferTooSmall, -12),
            (ErrorKind::Cancelled, -13),
            (ErrorKind::Forked, -14),
            (ErrorKind::Unverifiable, -15),
            (ErrorKind::Resources, -16),
            (ErrorKind::Internal, -99),
        ];
        for (kind, number) in kinds {
            assert_eq!(pget_status_code::of(kind).number(), number, "{kind:?}");
            // SAFETY: the text is static and ends with a zero.
            let name = unsafe { CStr::from_ptr(pget_status_name(number)) };
            assert_eq!(name.to_str(), Ok(kind.describe()));
        }
    }
}
