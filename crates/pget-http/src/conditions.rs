//! Whether a server understands `If-Match`.
//!
//! A 412 means that the object has another revision, or that the server or a gateway refuses the
//! condition: it compares another form of the ETag, or refuses every condition. A request without
//! the condition shows which, because each reply is compared with the pinned revision.

use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, header};
use pget_core::{ErrorKind, Match, RangeRequest, Revision, SourceError};

/// Whether conditions are refused, as far as an object's source has learned.
#[derive(Debug, Default)]
pub struct Conditions(AtomicBool);

impl Conditions {
    /// Whether to leave `If-Match` out.
    #[must_use]
    pub fn are_refused(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// A request was refused with a condition and served without it, by this `revision`. If that is
    /// the pinned one, the server refuses conditions.
    pub fn compared(&self, request: &RangeRequest, revision: &Revision) {
        let is_same = |pinned: &Revision| pinned.compare(revision) == Match::Same;
        if request
            .pinned
            .as_deref()
            .is_some_and(|info| is_same(&info.revision))
        {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Returns the error of a request that was refused by status 412 with a condition and without.
#[must_use]
pub fn refused_without_condition() -> SourceError {
    let message = "the server answers 412 (a condition failed) with If-Match and without it, and \
                   does not show another revision";
    SourceError::fatal(ErrorKind::ObjectChanged, message).with_status(412)
}

/// Returns the error of a download's first request that was refused by status 412 although
/// neither the download nor the caller, by `headers`, has set a condition.
pub(crate) fn refused_unasked(
    error: SourceError,
    request: &RangeRequest,
    headers: &HeaderMap,
) -> SourceError {
    let is_conditional =
        headers.contains_key(header::IF_MATCH) || headers.contains_key(header::IF_UNMODIFIED_SINCE);
    if error.status() != Some(412) || request.pinned.is_some() || is_conditional {
        return error;
    }
    let message = "the server answers 412 (a condition failed) to a request without a condition";
    SourceError::refused(ErrorKind::Protocol, message).with_status(412)
}
