//! `head` with the patience of a ranged read: deadline, backoff and retries.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
};

use tokio::time::{sleep, timeout};

use crate::{Error, ErrorKind, ObjectInfo, Options, RangeSource, Retry, SourceError, schedule::Backoff};

/// What is known of an object without reading it; tried again as ranges are (`options.retries`, `options.deadlines.first_byte`).
///
/// # Errors
/// What the source says, after retries; [`InvalidArgument`](ErrorKind::InvalidArgument) if an option is out of its range.
pub async fn head(source: &dyn RangeSource, options: &Options) -> Result<ObjectInfo, Error> {
    options
        .check()
        .map_err(|message| Error::new(ErrorKind::InvalidArgument, source.name(), message))?;
    let patient = head_patiently(source, options);
    match &options.cancel {
        None => patient.await,
        Some(cancel) => tokio::select! {
            biased;
            () = cancel.triggered() => Err(Error::new(ErrorKind::Cancelled, source.name(), "")),
            result = patient => result,
        },
    }
}

async fn head_patiently(source: &dyn RangeSource, options: &Options) -> Result<ObjectInfo, Error> {
    let mut backoff = Backoff::new(RandomState::new().build_hasher().finish(), 1);
    let deadline = options.deadlines.first_byte;
    let mut tried = 0;
    loop {
        let error = match timeout(deadline, source.head()).await {
            Ok(Ok(info)) => return Ok(info),
            Ok(Err(error)) => error,
            Err(_) => SourceError::retryable(ErrorKind::Timeout, format!("no answer within {deadline:?}")),
        };
        tried += 1;
        let pause = match error.retry() {
            Retry::Backoff if tried <= options.retries => backoff.delay(tried),
            Retry::Throttled(after) if tried <= options.retries => backoff
                .delay(tried)
                .max(after.unwrap_or_default().min(Backoff::LONGEST)),
            _ => return Err(Error::from_attempt(source.name(), None, tried, error)),
        };
        sleep(pause).await;
    }
}
