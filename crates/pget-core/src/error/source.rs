//! A transport's error of one attempt, and whether another attempt may help.

use std::{fmt, time::Duration};

use super::kind::{BoxError, ErrorKind};

/// Whether another attempt at the same range may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// No: the answer will be the same.
    Never,
    /// The server refused this request by its status (403, 404, 400, …). The refusal is final if it
    /// is repeated while no other request of the download is in flight; until then it may have been
    /// meant for one request too many.
    Refused,
    /// Yes, after a backoff.
    Backoff,
    /// Yes, and the server asks to be left alone for this long first (`Retry-After`); fewer
    /// requests are kept in flight from here.
    Throttled(Option<Duration>),
}

/// Why one attempt of a [`RangeSource`](crate::RangeSource) failed, and whether another one may
/// help.
///
/// # Examples
/// ```
/// use pget_core::{ErrorKind, Retry, SourceError};
/// fn failed(status: u16) -> SourceError {
///     match status {
///         404 => SourceError::fatal(ErrorKind::NotFound, "there is no such object"),
///         429 => SourceError::throttled("too many requests", None),
///         _ => SourceError::retryable(ErrorKind::Unavailable, "the server failed"),
///     }
/// }
/// assert_eq!(failed(404).retry(), Retry::Never);
/// assert_eq!(failed(503).retry(), Retry::Backoff);
/// ```
#[derive(Debug)]
pub struct SourceError {
    pub(super) kind: ErrorKind,
    pub(super) retry: Retry,
    pub(super) message: String,
    pub(super) needed: Option<u64>,
    pub(super) cause: Option<BoxError>,
    pub(super) status: Option<u16>,
    pub(super) no_answer: bool,
}

impl SourceError {
    /// Makes a failure that another attempt would not repair. The message says what failed, without
    /// naming credentials.
    pub fn fatal(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            retry: Retry::Never,
            message: message.into(),
            needed: None,
            cause: None,
            status: None,
            no_answer: false,
        }
    }

    /// The server refused this request by its status, for a reason that it reports as final.
    /// See [`Retry::Refused`].
    pub fn refused(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            retry: Retry::Refused,
            message: message.into(),
            needed: None,
            cause: None,
            status: None,
            no_answer: false,
        }
    }

    /// Makes a failure that another attempt may repair.
    pub fn retryable(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            retry: Retry::Backoff,
            message: message.into(),
            needed: None,
            cause: None,
            status: None,
            no_answer: false,
        }
    }

    /// The server asks for fewer requests, perhaps with a pause (`Retry-After`).
    pub fn throttled(message: impl Into<String>, after: Option<Duration>) -> Self {
        Self {
            kind: ErrorKind::Unavailable,
            retry: Retry::Throttled(after),
            message: message.into(),
            needed: None,
            cause: None,
            status: None,
            no_answer: false,
        }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<BoxError>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds the HTTP status, for reports of what a download waits for.
    #[must_use]
    pub const fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Marks a reply that is not in the protocol of the request: a server, or a proxy before it,
    /// may be starting. It is final for an object that was never served, and passes for another.
    #[must_use]
    pub const fn with_no_answer(mut self) -> Self {
        self.no_answer = true;
        self
    }

    pub(crate) const fn is_no_answer(&self) -> bool {
        self.no_answer
    }

    /// The HTTP status, if the failure is one.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        self.status
    }

    #[must_use]
    pub(crate) const fn with_needed(mut self, bytes: u64) -> Self {
        self.needed = Some(bytes);
        self
    }

    /// Returns the kind of the failure.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether another attempt may help.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        self.retry
    }

    /// The same failure, seen as another kind (a 404 in the middle of a read is a deleted object).
    #[must_use]
    pub(crate) fn reclassified(mut self, kind: ErrorKind, retry: Retry, prefix: &str) -> Self {
        self.kind = kind;
        self.retry = retry;
        self.message.insert_str(0, prefix);
        self
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)
    }
}

impl std::error::Error for SourceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}
