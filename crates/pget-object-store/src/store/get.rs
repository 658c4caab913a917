//! One object, or one range of it: what is passed on, and what is split.

use std::{ops::Range, sync::Arc, time::Instant};

use futures_util::StreamExt as _;

use super::super::object_store::{
    GetOptions, GetRange, GetResult, GetResultPayload, ObjectStore, Result, path::Path,
};
use super::{
    PgetStore, failure,
    source::{Probe, Source, has_identity},
    stream::Parallel,
};

/// Reads what `options` ask for.
pub(super) async fn get<T: ObjectStore>(
    store: &PgetStore<T>,
    location: &Path,
    options: GetOptions,
) -> Result<GetResult> {
    let inner = &store.inner;
    // A version that was asked for may not be the latest.
    let is_latest = options.version.is_none();
    if options.head || !may_be_large(options.range.as_ref(), store.settings.threshold) {
        let result = inner.get_opts(location, options).await?;
        if is_latest {
            store.note(location, &result.meta);
        }
        return Ok(result);
    }
    let first = store.settings.first_chunk();
    let beginning = |from: u64| Some(GetRange::Bounded(from..from.saturating_add(first)));
    let (range, is_callers) = match &options.range {
        None => (beginning(0), false),
        Some(GetRange::Offset(from)) => (beginning(*from), false),
        Some(GetRange::Bounded(range)) => (Some(GetRange::Bounded(head_of(range, first))), true),
        // The answer says where it begins, so nothing shorter can be asked for.
        Some(GetRange::Suffix(bytes)) => (Some(GetRange::Suffix(*bytes)), true),
    };
    let probe = GetOptions {
        range,
        ..options.clone()
    };
    let asked = Instant::now();
    let mut result = match inner.get_opts(location, probe).await {
        Ok(result) => result,
        // An empty object has no range, and some servers serve none at all.
        Err(error) if !is_callers && failure::may_be_about_the_range(&error) => {
            return inner.get_opts(location, options).await;
        }
        Err(error) => return Err(error),
    };
    let took = asked.elapsed();
    if is_latest {
        store.note(location, &result.meta);
    }
    let size = result.meta.size;
    let wanted = options
        .range
        .as_ref()
        .map_or(Ok(0..size), |range| range.as_range(size));
    // The store serves a range that it should have refused.
    let Ok(wanted) = wanted else {
        return inner.get_opts(location, options).await;
    };
    let is_split = result.range != wanted
        || matches!(options.range, Some(GetRange::Suffix(_))) && is_large(&wanted, store.settings.threshold);
    if !is_split {
        return Ok(result);
    }
    let answers = result.range.start == wanted.start && !result.range.is_empty();
    let nothing = GetResultPayload::Stream(futures_util::stream::empty().boxed());
    let body = match std::mem::replace(&mut result.payload, nothing) {
        GetResultPayload::Stream(body) if answers && has_identity(&result.meta) => body,
        GetResultPayload::Stream(body) => {
            drop(body);
            return inner.get_opts(location, options).await;
        }
        #[allow(
            unreachable_patterns,
            reason = "only object_store with the feature `fs` has files"
        )]
        file => {
            // An open file stays the same file.
            result.payload = file;
            result.range = wanted;
            return Ok(result);
        }
    };
    let source = Source::new(store, location, &options, &result.meta).with_probe(Probe {
        body,
        range: result.range,
        meta: result.meta.clone(),
        took,
    });
    let download = store.settings.reading(source.pin(), Some(&wanted));
    let stream = Parallel::new(
        location,
        Arc::new(source),
        download,
        store.settings.runtime.clone(),
    );
    result.payload = GetResultPayload::Stream(stream.boxed());
    result.range = wanted;
    Ok(result)
}

/// Whether a read of `range` may bring more than `threshold` bytes.
fn may_be_large(range: Option<&GetRange>, threshold: u64) -> bool {
    match range {
        None | Some(GetRange::Offset(_)) => true,
        Some(GetRange::Bounded(range)) => is_large(range, threshold),
        Some(GetRange::Suffix(bytes)) => *bytes > threshold,
    }
}

/// Whether `range`, if it is one, has more than `threshold` bytes.
pub(super) fn is_large(range: &Range<u64>, threshold: u64) -> bool {
    range
        .end
        .checked_sub(range.start)
        .is_some_and(|length| length > threshold)
}

/// Returns the first `most` bytes of `range`.
pub(super) fn head_of(range: &Range<u64>, most: u64) -> Range<u64> {
    range.start..range.end.min(range.start.saturating_add(most))
}
