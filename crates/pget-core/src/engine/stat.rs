//! Requests with the patience of a ranged read: deadline, backoff and the time without an answer.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use pget_schedule::{Backoff, Limit};

use crate::{Error, ErrorKind, ObjectInfo, Options, RangeSource, Retry, SourceError};

/// Returns what is known of an object without reading it. It is asked for again as ranges are
/// (`options.retry_timeout`, `options.retries`, `options.deadlines.first_byte`).
///
/// # Errors
/// What the source reports when patience has run out, or at once if that is final;
/// [`InvalidArgument`](ErrorKind::InvalidArgument) if an option is out of its range.
pub async fn head(source: &dyn RangeSource, options: &Options) -> Result<ObjectInfo, Error> {
    options.check_for(|| source.name())?;
    let (name, endpoint) = (source.name(), || source.endpoint());
    let patient = until_answered(&name, endpoint, options, Duration::ZERO, |_| source.head());
    match &options.cancel {
        None => patient.await,
        Some(cancel) => tokio::select! {
            biased;
            () = cancel.triggered() => Err(Error::new(ErrorKind::Cancelled, source.name(), "")),
            result = patient => result,
        },
    }
}

/// Asks until there is an answer, as [`head`] does. `attempt` gets the number of its attempt, from
/// 0 on. Each may take `extra` longer than a request without content.
///
/// # Errors
/// As of [`head`].
pub async fn patiently<T, F: Future<Output = Result<T, SourceError>>>(
    name: &str,
    options: &Options,
    extra: Duration,
    attempt: impl FnMut(u32) -> F,
) -> Result<T, Error> {
    until_answered(name, || None, options, extra, attempt).await
}

async fn until_answered<T, F: Future<Output = Result<T, SourceError>>>(
    name: &str,
    endpoint: impl Fn() -> Option<String>,
    options: &Options,
    extra: Duration,
    mut attempt: impl FnMut(u32) -> F,
) -> Result<T, Error> {
    let mut backoff = Backoff::new(RandomState::new().build_hasher().finish());
    let deadline = options.deadlines.first_byte.saturating_add(extra);
    let patience = options.retry_timeout.saturating_add(extra);
    let mut failing_since = None;
    let mut attempts = 0;
    let mut last = None;
    loop {
        let left = failing_since.map_or(patience, |since: Instant| {
            patience.saturating_sub(since.elapsed())
        });
        let (began, within) = (Instant::now(), deadline.min(left));
        let error = match (timeout(within, attempt(attempts)).await, last.take()) {
            (Ok(Ok(info)), _) => return Ok(info),
            (Ok(Err(error)), _) => error,
            // Patience has ended it: the failure before shows more.
            (Err(_), Some(last)) if within < deadline => last,
            (Err(_), _) => SourceError::retryable(ErrorKind::Timeout, format!("no answer within {within:?}")),
        };
        attempts += 1;
        // Nothing has come since the first attempt began.
        let lasted = failing_since.get_or_insert(began).elapsed();
        let after = match error.retry() {
            Retry::Backoff => Duration::ZERO,
            Retry::Throttled(after) => after.unwrap_or_default(),
            Retry::Never | Retry::Refused => {
                return Err(Error::from_source(name, error));
            }
        };
        let limit = if options.retries.is_some_and(|retries| attempts > retries) {
            Some(Limit::Retries { attempts })
        } else if lasted >= patience {
            Some(Limit::RetryTimeout {
                waited: lasted,
                attempts,
                position: None,
            })
        } else {
            None
        };
        if let Some(limit) = limit {
            let endpoint = endpoint();
            let name = name.to_owned();
            return Err(Error::from_attempt(name, None, limit, error, endpoint.as_deref()));
        }
        let left = patience.saturating_sub(lasted);
        let pause = backoff.probe(lasted).max(after.min(left - left / 20)).min(left);
        tracing::debug!(object = name, %error, attempts, ?pause, "asked again after a pause");
        sleep(pause).await;
        last = Some(error);
    }
}
