//! What a chain of providers finds: keys, tokens and signatures, and the errors of finding none.
//!
//! Invariant: a [`Secret`] is shown by no `Debug` and wiped when it is dropped.

use std::{fmt, time::Duration};

use pget_core::{ErrorKind, SourceError};
use zeroize::Zeroizing;

/// Text that no output shows; wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Returns the text, for a request or a signature.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What signs or authorizes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// AWS: an access key, with a session's token if it is temporary.
    Aws {
        id: Secret,
        secret: Secret,
        token: Option<Secret>,
    },
    /// Google and Azure: a token, with the project that pays if it names one.
    Bearer { token: Secret, project: Option<String> },
    /// Azure: an account's key.
    Shared(Secret),
    /// Azure: a shared access signature, which is a query.
    Sas(Secret),
}

impl Keys {
    /// Returns how a request carries them, for people.
    pub(crate) const fn how(&self) -> &'static str {
        match self {
            Self::Aws { .. } | Self::Shared(_) => "signed in its headers",
            Self::Bearer { .. } => "authorized by a token in its headers",
            Self::Sas(_) => "authorized by a signature in its query",
        }
    }
}

/// A credential that a chain found.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) keys: Keys,
    /// For how long it is good, by this machine's clock; `None`: nothing says so.
    pub(crate) left: Option<Duration>,
    /// Which place it came from, for people.
    pub(crate) source: String,
}

/// An error that another attempt would meet again: a setting or a refusal.
pub(crate) fn denied(text: impl Into<String>) -> SourceError {
    SourceError::fatal(ErrorKind::PermissionDenied, text)
}

/// An error of a setting.
pub(crate) fn unusable(text: impl Into<String>) -> SourceError {
    SourceError::fatal(ErrorKind::InvalidArgument, text)
}

/// An error of a service that may answer later.
pub(crate) fn unavailable(text: impl Into<String>) -> SourceError {
    SourceError::retryable(ErrorKind::Unavailable, text)
}
