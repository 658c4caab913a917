//! An attempt's end in the light of what is known of the object: what its source calls "not found"
//! or "no such range" means that the object changed if bytes of it were there before.
//!
//! Called by the driver with each attempt; asks the source for the size when a refused range leaves
//! it open.

use std::time::Duration;

use tokio::{task::JoinError, time::timeout};

use super::state::Engine;
use crate::{Deadlines, Error, ErrorKind, RangeRequest, RangeSource, Retry, SourceError, memory::Pulse};

/// How often the object is looked at again when a reply was of another revision, and for how long.
const LOOKS: u32 = 2;
const LOOK: Duration = Duration::from_secs(2);

/// Sees an attempt's end in the light of what is known of the object.
pub(crate) async fn classify(
    source: &dyn RangeSource,
    engine: &Engine,
    request: &RangeRequest,
    pulse: &Pulse,
    deadlines: Deadlines,
    result: Result<(), SourceError>,
) -> Result<(), SourceError> {
    let error = match result {
        Ok(()) if pulse.skips() => return Err(ended_before(request, engine)),
        Ok(()) if pulse.has_begun() => return Ok(()),
        Ok(()) => {
            return Err(SourceError::fatal(
                ErrorKind::Internal,
                "the source ended a read that it had not begun",
            ));
        }
        Err(error) => error,
    };
    match (error.kind(), engine.is_begun()) {
        // The object was served before: its server or what stands before it is being restarted.
        (ErrorKind::Protocol, true) if error.is_no_answer() => {
            Err(error.reclassified(ErrorKind::Unavailable, Retry::Backoff, ""))
        }
        // It is believed as any refusal is: when nothing else was in flight.
        (ErrorKind::NotFound, true) => {
            let retry = error.retry();
            Err(error.reclassified(ErrorKind::ObjectChanged, retry, "deleted while being read: "))
        }
        (ErrorKind::Range, true) if !engine.may_end_before(request.start) => Err(error.reclassified(
            ErrorKind::ObjectChanged,
            Retry::Never,
            "it became shorter while being read: ",
        )),
        // A server that refuses the first range need not state the size (416 without
        // Content-Range).
        (ErrorKind::Range, _) => match timeout(deadlines.first_byte, source.head()).await {
            Ok(Ok(info)) if info.size == Some(request.start) => engine.nothing_to_read(info),
            Ok(Ok(info)) if !engine.is_pin_kept(&info) => Err(error.reclassified(
                ErrorKind::ObjectChanged,
                Retry::Never,
                "it is not the pinned revision: ",
            )),
            Ok(Ok(info)) => match info.size {
                Some(size) if size > request.start => Err(SourceError::fatal(
                    ErrorKind::Protocol,
                    format!(
                        "the server refuses a range from byte {} of an object of {size} bytes",
                        request.start
                    ),
                )
                .with_cause(error)),
                Some(size) => Err(SourceError::fatal(
                    ErrorKind::Range,
                    format!("it starts at byte {} of an object of {size} bytes", request.start),
                )
                .with_cause(error)),
                None => Err(error),
            },
            Ok(Err(_)) | Err(_) => Err(error),
        },
        _ => Err(error),
    }
}

/// Adds to the error of a download whose object changed that replicas disagree, if they do: if the
/// revision that the download began with is still served beside another one.
pub(crate) async fn explained(
    source: &dyn RangeSource,
    engine: &Engine,
    deadlines: Deadlines,
    error: Error,
) -> Error {
    if error.kind() != ErrorKind::ObjectChanged || !engine.is_begun() {
        return error;
    }
    for _ in 0..LOOKS {
        let head = timeout(deadlines.first_byte.min(LOOK), source.head());
        let Ok(Ok(info)) = head.await else {
            return error;
        };
        if info.revision.is_identity() && engine.is_pin_kept(&info) {
            return error.with_advice(
                "replies of different revisions alternate: replicas or mirrors disagree \
                 (--concurrency 1, or one server by its own address, may help)",
            );
        }
    }
    error
}

/// A body that ignored the range ended before the range's first byte.
fn ended_before(request: &RangeRequest, engine: &Engine) -> SourceError {
    if engine.may_end_before(request.start) {
        let message = format!("the object ends before byte {}", request.start);
        SourceError::fatal(ErrorKind::Range, message)
    } else {
        let message = format!(
            "the body ended before byte {}, where it was to go on",
            request.start
        );
        SourceError::retryable(ErrorKind::Protocol, message)
    }
}

/// A task that panicked.
pub(crate) fn panicked(error: JoinError) -> SourceError {
    SourceError::fatal(ErrorKind::Internal, "the source panicked").with_cause(error)
}
