//! The kinds of failures, by what the caller can do about them.

use std::fmt;

/// A cause of any type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The kind of a failure, by what the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option, address or argument is not usable as given.
    InvalidArgument,
    /// Asked for something that this source or build cannot do.
    Unsupported,
    /// The object does not exist.
    NotFound,
    /// The server refuses the credentials, or their lack.
    PermissionDenied,
    /// The object was replaced, changed or deleted while it was being read.
    ObjectChanged,
    /// The wanted range starts beyond the object's end, or, of several ranges, one goes beyond it.
    Range,
    /// No connection, no first byte or no progress within its deadline, after retries; or the
    /// deadline of a wait is over.
    Timeout,
    /// The server cannot be reached or refuses work (5xx, 429), after retries; or the process that
    /// fills shared memory died, or a ring has or had a reader.
    Unavailable,
    /// The server's response is unusable or cut short, after retries.
    Protocol,
    /// The bytes do not have the published checksum.
    Checksum,
    /// Writing to the destination failed (disk full, closed pipe), a name is taken, or a ring's
    /// reader has gone.
    Destination,
    /// The caller's buffer is too small for the object.
    BufferTooSmall,
    /// The caller cancelled.
    Cancelled,
    /// An object from before a `fork` was used in the child. New ones work there.
    Forked,
    /// Verification is required, and the source publishes no checksum that it could use.
    Unverifiable,
    /// The process can have no more threads or file descriptors.
    Resources,
    /// A defect in this library or in a source.
    Internal,
}

impl ErrorKind {
    /// A few words for messages.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid argument",
            Self::Unsupported => "not supported",
            Self::NotFound => "not found",
            Self::PermissionDenied => "permission denied",
            Self::ObjectChanged => "object changed while being read",
            Self::Range => "range not satisfiable",
            Self::Timeout => "timed out",
            Self::Unavailable => "unavailable",
            Self::Protocol => "unusable response",
            Self::Checksum => "checksum mismatch",
            Self::Destination => "cannot write",
            Self::BufferTooSmall => "buffer too small",
            Self::Cancelled => "cancelled",
            Self::Forked => "used after fork",
            Self::Unverifiable => "cannot verify",
            Self::Resources => "out of resources",
            Self::Internal => "internal error",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.describe())
    }
}
