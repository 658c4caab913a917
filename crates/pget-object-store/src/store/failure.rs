//! Errors in both directions: what an error of the wrapped store means for a download, and which
//! error of a store a failed download is.
//!
//! Invariant: the error that a caller gets has the variant of the wrapped store's own error, if the
//! store had one. Its source is the download's error, whose last cause is that of the store.

use std::fmt;

use pget_core::{Error, ErrorKind, SourceError, redact};

use super::super::object_store::{self, path::Path};

/// Where errors come from that no wrapped store has made.
const STORE: &str = "PgetStore";

/// Returns what `error` means for the download that was `doing` something. The store's error is the
/// cause.
pub(super) fn of_store(doing: &'static str, error: object_store::Error) -> SourceError {
    meaning(doing, &error).with_cause(error)
}

/// The same; the cause is the store's text alone, as a plain line.
pub(super) fn of_store_plain(doing: &'static str, error: object_store::Error) -> SourceError {
    meaning(doing, &error).with_cause(Plain::of(&error))
}

/// The text of a store's error, without what may be a credential.
#[derive(Debug)]
pub(super) struct Plain(String);

impl Plain {
    pub(super) fn of(error: &object_store::Error) -> Self {
        Self(redact::message(&error.to_string()))
    }
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Plain {}

fn meaning(doing: &'static str, error: &object_store::Error) -> SourceError {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => SourceError::refused(ErrorKind::NotFound, doing),
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
            SourceError::refused(ErrorKind::PermissionDenied, doing)
        }
        E::Precondition { .. } | E::NotModified { .. } => SourceError::fatal(ErrorKind::ObjectChanged, doing),
        E::NotSupported { .. } | E::NotImplemented { .. } => {
            SourceError::fatal(ErrorKind::Unsupported, doing)
        }
        E::InvalidPath { .. } | E::UnknownConfigurationKey { .. } => {
            SourceError::fatal(ErrorKind::InvalidArgument, doing)
        }
        // Stores report everything else like this, from a reset connection to a 500, so another
        // attempt may help.
        _ => SourceError::retryable(ErrorKind::Unavailable, doing),
    }
}

/// Whether a store may have refused the range, and not the object.
pub(super) fn may_be_about_the_range(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    !matches!(
        error,
        E::NotFound { .. }
            | E::PermissionDenied { .. }
            | E::Unauthenticated { .. }
            | E::Precondition { .. }
            | E::NotModified { .. }
            | E::InvalidPath { .. }
            | E::UnknownConfigurationKey { .. }
    )
}

/// Whether a read failed because the object is not the revision that it was pinned to. A shorter
/// object may not have the range.
pub(super) fn is_of_another_revision(error: &object_store::Error) -> bool {
    match error {
        object_store::Error::Precondition { .. } => true,
        object_store::Error::Generic { source, .. } => source
            .downcast_ref::<Error>()
            .is_some_and(|error| error.kind() == ErrorKind::Range),
        _ => false,
    }
}

/// Returns the error of a store that `error` is.
pub(super) fn to_store(error: Error, location: &Path) -> object_store::Error {
    use object_store::Error as E;
    let path = location.to_string();
    let kind = error.kind();
    let store = match cause(&error) {
        Some(E::NotFound { .. }) => {
            return E::NotFound {
                path,
                source: error.into(),
            };
        }
        Some(E::PermissionDenied { .. }) => {
            return E::PermissionDenied {
                path,
                source: error.into(),
            };
        }
        Some(E::Unauthenticated { .. }) => {
            return E::Unauthenticated {
                path,
                source: error.into(),
            };
        }
        Some(E::Precondition { .. }) => {
            return E::Precondition {
                path,
                source: error.into(),
            };
        }
        Some(E::NotModified { .. }) => {
            return E::NotModified {
                path,
                source: error.into(),
            };
        }
        Some(E::NotSupported { .. } | E::NotImplemented { .. }) => {
            return E::NotSupported { source: error.into() };
        }
        Some(E::Generic { store, .. }) => store,
        _ => STORE,
    };
    match kind {
        // Found by comparing the answers, whatever the store thinks of them.
        ErrorKind::ObjectChanged => E::Precondition {
            path,
            source: error.into(),
        },
        ErrorKind::NotFound => E::NotFound {
            path,
            source: error.into(),
        },
        ErrorKind::PermissionDenied => E::PermissionDenied {
            path,
            source: error.into(),
        },
        ErrorKind::Unsupported => E::NotSupported { source: error.into() },
        _ => E::Generic {
            store,
            source: error.into(),
        },
    }
}

/// Returns the error of the wrapped store among the causes of `error`.
fn cause(error: &Error) -> Option<&object_store::Error> {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(of_store) = cause.downcast_ref() {
            return Some(of_store);
        }
        next = cause.source();
    }
    None
}
