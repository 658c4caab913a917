//! Several ranges of one object: handed to the wrapped store if all are small, else read together
//! from one revision.

use std::{ops::Range, sync::Arc, time::Instant};

use bytes::Bytes;
use pget_core::{Error, ErrorKind, Options, Ranges};
use tokio::runtime::Handle;

use super::super::object_store::{GetOptions, GetRange, GetResultPayload, ObjectStore, Result, path::Path};
use super::{
    PgetStore, failure,
    get::{head_of, is_large},
    source::{Probe, Source, has_identity, run_on},
    stream::{Begin, begin},
};

/// Reads `ranges`; the results are in their order.
pub(super) async fn get<T: ObjectStore>(
    store: &PgetStore<T>,
    location: &Path,
    ranges: &[Range<u64>],
) -> Result<Vec<Bytes>> {
    let inner = &store.inner;
    let are_large = ranges
        .iter()
        .any(|range| is_large(range, store.settings.threshold));
    // The meaning of an empty range differs between stores.
    if !are_large || ranges.iter().any(Range::is_empty) {
        return inner.get_ranges(location, ranges).await;
    }
    let first = first_together(ranges, store.settings.options.gap);
    let options = GetOptions {
        range: Some(GetRange::Bounded(head_of(&first, store.settings.first_chunk()))),
        ..GetOptions::default()
    };
    let asked = Instant::now();
    let result = inner.get_opts(location, options).await?;
    let took = asked.elapsed();
    let size = result.meta.size;
    let answers = result.range.start == first.start && !result.range.is_empty();
    let body = match result.payload {
        GetResultPayload::Stream(body) if answers && has_identity(&result.meta) => body,
        // Files are not split.
        _ => return inner.get_ranges(location, ranges).await,
    };
    if let Some(beyond) = ranges.iter().find(|range| range.start >= size) {
        drop(body);
        // The store's own error for it.
        let options = GetOptions {
            range: Some(GetRange::Bounded(beyond.clone())),
            ..GetOptions::default()
        };
        inner.get_opts(location, options).await?;
        return inner.get_ranges(location, ranges).await;
    }
    let Some(buffers) = buffers(ranges, size) else {
        return inner.get_ranges(location, ranges).await;
    };
    let source = Source::new(store, location, &GetOptions::default(), &result.meta);
    let options = store.settings.reading(source.pin(), None);
    let probe = Probe {
        body,
        range: result.range,
        meta: result.meta,
        took,
    };
    let source = Arc::new(source.with_probe(probe));
    read(location, source, options, store.settings.runtime.clone(), buffers).await
}

/// Reads all `buffers`, which have the lengths of their ranges.
pub(super) async fn read(
    location: &Path,
    source: Arc<dyn Begin>,
    options: Options,
    runtime: Option<Handle>,
    buffers: Vec<(Range<u64>, Vec<u8>)>,
) -> Result<Vec<Bytes>> {
    let failed = |error| failure::to_store(error, location);
    let (download, runtime) = begin(source, options, runtime).map_err(failed)?;
    // It waits with timers, which the caller's runtime may not have.
    let task = async move { collect(download.read_ranges(buffers)?).await };
    match run_on(&runtime, task).await {
        Ok(read) => read.map_err(failed),
        Err(error) => {
            let message = "the read of several ranges has ended without a result";
            let error = Error::with_cause(ErrorKind::Internal, location.as_ref(), message, error);
            Err(failed(error))
        }
    }
}

/// Returns room for each of `ranges`, cut at `size`; `None` if they are longer than memory can be.
pub(super) fn buffers(ranges: &[Range<u64>], size: u64) -> Option<Vec<(Range<u64>, Vec<u8>)>> {
    let buffer = |range: &Range<u64>| {
        let range = range.start..range.end.min(size);
        let length = usize::try_from(range.end - range.start).ok()?;
        Some((range, vec![0; length]))
    };
    ranges.iter().map(buffer).collect()
}

/// Returns what is asked for first when ranges that are at most `gap` apart are read together.
fn first_together(ranges: &[Range<u64>], gap: u64) -> Range<u64> {
    let mut sorted: Vec<_> = ranges.iter().collect();
    sorted.sort_unstable_by_key(|range| range.start);
    let mut sorted = sorted.into_iter();
    let mut first = sorted.next().cloned().unwrap_or_default();
    for range in sorted {
        if range.start > first.end.saturating_add(gap) {
            break;
        }
        first.end = first.end.max(range.end);
    }
    first
}

/// Waits for all ranges, and puts them in their order.
async fn collect(mut ranges: Ranges<Vec<u8>>) -> std::result::Result<Vec<Bytes>, Error> {
    let mut complete = Vec::new();
    while let Some(range) = ranges.next().await? {
        complete.push(range);
    }
    complete.sort_unstable_by_key(|(index, _)| *index);
    Ok(complete.into_iter().map(|(_, bytes)| bytes.into()).collect())
}
