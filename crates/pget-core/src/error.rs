//! Errors: one kind per outcome that a caller can act on, with what was being read and the cause.
//!
//! [`SourceError`] is what a transport says of one attempt, with whether another attempt may help;
//! [`Error`] is what the caller of a download gets. Neither ever holds a credential: transports
//! redact addresses before they name them.

mod kind;
mod source;

use std::{fmt, ops::Range, sync::Arc, time::Duration};

use pget_schedule::Limit;

pub use kind::{BoxError, ErrorKind};
pub use source::{Retry, SourceError};

/// Why a download failed: its [`kind`](Self::kind), the object, the range where it happened, the
/// cause, and how often it was tried.
///
/// Cloning is cheap; every call after the first failure returns the same error.
///
/// # Examples
/// ```
/// use pget_core::{Error, ErrorKind};
/// let error = Error::new(ErrorKind::NotFound, "s3://bucket/key", "the server answers 404");
/// match error.kind() {
///     ErrorKind::NotFound => println!("{} does not exist", error.object()),
///     _ => println!("{}", error.to_line()),
/// }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    object: String,
    range: Option<Range<u64>>,
    attempts: u32,
    message: String,
    needed: Option<u64>,
    cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
    /// Advice to the caller, at the end of the message.
    advice: String,
}

impl Error {
    /// An error about `object` (its redacted address; empty while there is no address).
    pub fn new(kind: ErrorKind, object: impl Into<String>, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            object: object.into(),
            range: None,
            attempts: 0,
            message: message.into(),
            needed: None,
            cause: None,
            advice: String::new(),
        }))
    }

    /// Creates an error with a cause.
    pub fn with_cause(
        kind: ErrorKind,
        object: impl Into<String>,
        message: impl Into<String>,
        cause: impl Into<BoxError>,
    ) -> Self {
        Self(Arc::new(Inner {
            kind,
            object: object.into(),
            range: None,
            attempts: 0,
            message: message.into(),
            needed: None,
            cause: Some(Arc::from(cause.into())),
            advice: String::new(),
        }))
    }

    /// Creates an error from that of a source outside a ranged read (`head`, opening).
    pub fn from_source(object: impl Into<String>, error: SourceError) -> Self {
        Self::from_attempt(object.into(), None, Limit::Final, error, None)
    }

    /// The error of a read that `limit` ended, after this `error` of the server at `endpoint`.
    pub(crate) fn from_attempt(
        object: String,
        range: Option<Range<u64>>,
        limit: Limit,
        error: SourceError,
        endpoint: Option<&str>,
    ) -> Self {
        let SourceError {
            kind,
            retry: _,
            message,
            needed,
            cause,
            status: _,
            no_answer: _,
        } = error;
        // An address of a bucket does not show which server was asked.
        let host = endpoint.and_then(|endpoint| endpoint.split("://").nth(1)?.rsplit_once(':'));
        let is_new = host.is_some_and(|(host, _)| !object.contains(host) && !message.contains(host));
        let from = endpoint
            .filter(|_| is_new)
            .map(|endpoint| format!(" from {endpoint}"));
        let from = from.unwrap_or_default();
        let (attempts, message) = match limit {
            Limit::Final => (1, message),
            // The caller wanted it so: there is nothing to explain.
            Limit::Retries { attempts } if attempts <= 1 => (1, message),
            Limit::Retries { attempts } => (
                attempts,
                format!(
                    "gave up after {attempts} attempts without progress (retries); last{from}: {message}"
                ),
            ),
            Limit::Wrong { attempts } => (
                attempts,
                format!("{attempts} wrong answers in a row; last{from}: {message}"),
            ),
            Limit::Refused { attempts } => (
                attempts,
                format!("refused {attempts} times in a row; last{from}: {message}"),
            ),
            Limit::RetryTimeout { waited, attempts, .. } => (
                attempts,
                format!(
                    "gave up after {} without progress (retry_timeout), {attempts} attempts; last{from}: {message}",
                    in_words(waited)
                ),
            ),
        };
        Self(Arc::new(Inner {
            kind,
            object,
            range,
            attempts,
            message,
            needed,
            cause: cause.map(Arc::from),
            advice: String::new(),
        }))
    }

    /// Adds what the caller can do, which ends the message. A second advice takes the place of the
    /// first.
    #[must_use]
    pub fn with_advice(self, advice: impl Into<String>) -> Self {
        let Inner {
            kind,
            ref object,
            ref range,
            attempts,
            ref message,
            needed,
            ref cause,
            ..
        } = *self.0;
        Self(Arc::new(Inner {
            kind,
            object: object.clone(),
            range: range.clone(),
            attempts,
            message: message.clone(),
            needed,
            cause: cause.clone(),
            advice: advice.into(),
        }))
    }

    /// Returns the kind of the failure, by which the caller can decide what to do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The object's address, redacted.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.0.object
    }

    /// The range of the failed request, where there was one; an end of `u64::MAX` means "to the
    /// object's end".
    #[must_use]
    pub fn range(&self) -> Option<Range<u64>> {
        self.0.range.clone()
    }

    /// How many attempts have failed in a row (0 if the error is not of a request).
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// With [`BufferTooSmall`](ErrorKind::BufferTooSmall): how many bytes the buffer must have, if
    /// that is known.
    #[must_use]
    pub fn needed(&self) -> Option<u64> {
        self.0.needed
    }

    /// Returns the message with every cause after it, on one line and without control characters,
    /// for a terminal or a log.
    #[must_use]
    pub fn to_line(&self) -> String {
        let mut line = self.head();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let text = error.to_string();
            // Many libraries repeat their cause in their own text.
            if !line.contains(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            cause = error.source();
        }
        self.advise(&mut line);
        line.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.head();
        self.advise(&mut text);
        f.write_str(&text)
    }
}

impl Error {
    fn advise(&self, text: &mut String) {
        if !self.0.advice.is_empty() {
            text.push_str("; ");
            text.push_str(&self.0.advice);
        }
    }

    /// The message without causes and advice.
    fn head(&self) -> String {
        Head(self).to_string()
    }
}

struct Head<'a>(&'a Error);

impl fmt::Display for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            kind,
            object,
            range,
            message,
            ..
        } = &*self.0.0;
        if !object.is_empty() {
            write!(f, "reading {object}")?;
            match range {
                Some(range) if range.end == u64::MAX => write!(f, " from byte {}", range.start)?,
                Some(range) => write!(f, " bytes {}..{}", range.start, range.end)?,
                None => {}
            }
            f.write_str(": ")?;
        }
        write!(f, "{kind}")?;
        if !message.is_empty() {
            write!(f, ": {message}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            kind,
            object,
            range,
            attempts,
            message,
            needed: _,
            cause,
            advice,
        } = &*self.0;
        f.debug_struct("Error")
            .field("kind", kind)
            .field("object", object)
            .field("range", range)
            .field("attempts", attempts)
            .field("message", message)
            .field("cause", cause)
            .field("advice", advice)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as _)
    }
}

/// Whole seconds, or tenths of a second below ten.
pub(crate) fn in_words(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} s", time.as_secs())
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            ErrorKind::InvalidArgument | ErrorKind::Range | ErrorKind::BufferTooSmall => Io::InvalidInput,
            ErrorKind::Unsupported | ErrorKind::Unverifiable => Io::Unsupported,
            ErrorKind::NotFound => Io::NotFound,
            ErrorKind::PermissionDenied => Io::PermissionDenied,
            ErrorKind::Timeout => Io::TimedOut,
            ErrorKind::Protocol | ErrorKind::Checksum => Io::InvalidData,
            _ => Io::Other,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use std::{error::Error as _, io};

    use super::*;

    #[test]
    fn a_read_that_gave_up_names_the_server_that_its_address_does_not_show() {
        let limits = [
            Limit::Retries { attempts: 3 },
            Limit::Wrong { attempts: 3 },
            Limit::Refused { attempts: 4 },
            Limit::RetryTimeout {
                waited: Duration::from_secs(120),
                attempts: 44,
                position: None,
            },
        ];
        for limit in limits {
            let line = |object: &str, message: &str| {
                let error = SourceError::retryable(ErrorKind::Unavailable, message);
                let endpoint = Some("http://10.0.0.1:9000");
                Error::from_attempt(object.into(), None, limit, error, endpoint).to_line()
            };
            let text = line("s3://bucket/key", "HTTP status 503");
            assert!(
                text.ends_with("; last from http://10.0.0.1:9000: HTTP status 503"),
                "{text}"
            );
            for (object, message) in [
                ("http://10.0.0.1:9000/o", "503"),
                ("s3://b/k", "10.0.0.1:9000 refused"),
            ] {
                let text = line(object, message);
                assert!(text.ends_with(&format!("; last: {message}")), "{text}");
            }
        }
    }

    #[test]
    fn advice_ends_the_message_and_changes_nothing_else() {
        let cause = io::Error::from(io::ErrorKind::StorageFull);
        let error = Error::with_cause(ErrorKind::Destination, "http://h/o", "x cannot be written", cause);
        let plain = error.to_line();
        let advised = error.with_advice("first").with_advice("free some space");
        assert_eq!(advised.to_line(), format!("{plain}; free some space"));
        assert!(advised.to_string().ends_with("; free some space"), "{advised}");
        assert_eq!(
            (advised.kind(), advised.object()),
            (ErrorKind::Destination, "http://h/o")
        );
        let cause = advised
            .source()
            .and_then(|cause| cause.downcast_ref::<io::Error>());
        assert_eq!(cause.map(io::Error::kind), Some(io::ErrorKind::StorageFull));
    }
}
