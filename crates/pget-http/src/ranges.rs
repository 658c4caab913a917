//! Whether ranges are served, and what is asked for in their place and in that of HEAD.

use std::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use futures_util::future::{Either, select};
use http::StatusCode;
use pget_core::{ErrorKind, RangeRequest, Retry, SourceError};
use tokio::time::timeout;

use crate::status::error_for_status;

/// How long HEAD may take before a byte is asked for beside it.
const HEAD_WITHIN: Duration = Duration::from_secs(1);

/// How long a download's first range may go without an answer before everything is asked for beside
/// it.
pub(crate) const RANGE_WITHIN: Duration = Duration::from_secs(5);

/// After so many failures that would pass, a plain GET is tried beside the range, and again after
/// as many.
const FAILS_AFTER: u32 = 2;

const SERVED: u8 = 1;
const REFUSED: u8 = 2;
const ALL_REFUSED: u8 = 3;

/// Whether an object's server serves ranges, as far as its source has learned.
#[derive(Debug, Default)]
pub struct Ranges(AtomicU8);

impl Ranges {
    /// A range was served.
    pub fn served(&self) {
        self.0.store(SERVED, Ordering::Relaxed);
    }

    /// A plain GET was served where a range was refused.
    pub fn refused(&self) {
        self.0.store(REFUSED, Ordering::Relaxed);
    }

    /// A plain GET was refused as a range was.
    pub fn all_refused(&self) {
        self.0.store(ALL_REFUSED, Ordering::Relaxed);
    }

    /// Whether to ask for everything in place of a range. Each download tries a range once.
    #[must_use]
    pub fn are_refused(&self, request: &RangeRequest) -> bool {
        request.pinned.is_some() && self.0.load(Ordering::Relaxed) == REFUSED
    }

    /// Whether this failure of `request`, a download's first, may be of its range alone, although
    /// it would pass: some servers fail at ranges. A plain GET is worth a try now and then.
    pub(crate) fn may_fail(&self, request: &RangeRequest, error: &SourceError) -> bool {
        let known = self.0.load(Ordering::Relaxed);
        let is_turn = request.attempt >= FAILS_AFTER && request.attempt.is_multiple_of(FAILS_AFTER);
        let passes = matches!(error.retry(), Retry::Backoff | Retry::Throttled(None))
            && error.kind() == ErrorKind::Unavailable;
        request.pinned.is_none() && known != SERVED && is_turn && passes
    }

    /// Whether `request`, a download's first, may have no answer because it asks for a range.
    pub(crate) fn may_be_silent(&self, request: &RangeRequest) -> bool {
        request.pinned.is_none() && self.0.load(Ordering::Relaxed) != SERVED
    }

    /// Whether this answer to `request`, a download's first, may be about its range alone, so that
    /// a plain GET of the object is worth a try.
    #[must_use]
    pub fn may_be_refused(&self, request: &RangeRequest, status: StatusCode) -> bool {
        let known = self.0.load(Ordering::Relaxed);
        let is_known = known == SERVED || known == ALL_REFUSED && request.attempt > 0;
        if request.pinned.is_some() || is_known {
            return false;
        }
        match status.as_u16() {
            // About the asker.
            401 | 407 => false,
            // From the first byte on, a range is only empty if the object is.
            416 => request.start == 0,
            400..=599 => matches!(
                error_for_status(status, None, "").retry(),
                Retry::Refused | Retry::Never
            ),
            _ => false,
        }
    }
}

/// Waits for what `head` finds out about an object by HEAD; if it fails, finds out nothing (`None`)
/// or is late, for what `byte` finds out by a GET of one byte.
///
/// Some servers and gateways refuse HEAD in any way that there is, or never answer it. A GET of one
/// byte says as much, and says why where there is nothing.
///
/// # Errors
/// As `byte`.
pub async fn head_or_byte<T>(
    head: impl Future<Output = Result<Option<T>, SourceError>>,
    byte: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, SourceError> {
    let mut head = pin!(head);
    let mut byte = pin!(byte);
    match timeout(HEAD_WITHIN, &mut head).await {
        Ok(Ok(Some(found))) => return Ok(found),
        Ok(Ok(None)) => return byte.await,
        Ok(Err(error)) => {
            tracing::debug!(%error, "HEAD is refused; asking for a byte");
            return byte.await;
        }
        Err(_) => {}
    }
    match select(head, &mut byte).await {
        Either::Left((Ok(Some(found)), _)) | Either::Right((Ok(found), _)) => Ok(found),
        Either::Left(_) => byte.await,
        Either::Right((Err(error), head)) => match head.await {
            Ok(Some(found)) => Ok(found),
            Ok(None) | Err(_) => Err(error),
        },
    }
}
