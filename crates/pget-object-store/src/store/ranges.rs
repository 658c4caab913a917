//! Several ranges of one object: handed to the wrapped store if all are small, else read together
//! from one revision.
//!
//! If the object is known, the ranges are read from the known revision without a first request, and
//! again with one if the object is another revision by now.

use std::{ops::Range, sync::Arc, time::Instant};

use bytes::Bytes;
use pget_core::{Error, ErrorKind, Options, Ranges};
use tokio::runtime::Handle;

use super::super::object_store::{
    GetOptions, GetRange, GetResultPayload, ObjectMeta, ObjectStore, Result, path::Path,
};
use super::{
    PgetStore, failure,
    get::head_of,
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
    let together = together(ranges, store.settings.options.gap);
    // The wrapped store would read what lies together by one request as well.
    let are_large = together
        .iter()
        .any(|(_, wanted)| *wanted > store.settings.threshold);
    // The meaning of an empty range differs between stores.
    if !are_large || ranges.iter().any(Range::is_empty) {
        return inner.get_ranges(location, ranges).await;
    }
    if let Some(meta) = store.known.find(location)
        && ranges.iter().all(|range| range.start < meta.size)
        && let Some(buffers) = buffers(ranges, meta.size)
    {
        match read_from(store, location, &meta, None, buffers).await {
            Err(error) if failure::is_of_another_revision(&error) => store.known.forget(location),
            result => return result,
        }
    }
    let Some((first, _)) = together.into_iter().next() else {
        return inner.get_ranges(location, ranges).await;
    };
    let options = GetOptions {
        range: Some(GetRange::Bounded(head_of(&first, store.settings.first_chunk()))),
        ..GetOptions::default()
    };
    let asked = Instant::now();
    let result = inner.get_opts(location, options).await?;
    let took = asked.elapsed();
    store.note(location, &result.meta);
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
    let probe = Probe {
        body,
        range: result.range,
        meta: result.meta.clone(),
        took,
    };
    read_from(store, location, &result.meta, Some(probe), buffers).await
}

/// Reads all `buffers` from the revision that `meta` describes.
async fn read_from<T: ObjectStore>(
    store: &PgetStore<T>,
    location: &Path,
    meta: &ObjectMeta,
    probe: Option<Probe>,
    buffers: Vec<(Range<u64>, Vec<u8>)>,
) -> Result<Vec<Bytes>> {
    let mut source = Source::new(store, location, &GetOptions::default(), meta);
    if let Some(probe) = probe {
        source = source.with_probe(probe);
    }
    let options = store.settings.reading(source.pin(), None);
    let runtime = store.settings.runtime.clone();
    read(location, Arc::new(source), options, runtime, buffers).await
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

/// Returns what is read together of `ranges` that are at most `gap` apart, and how many bytes of it
/// are wanted.
fn together(ranges: &[Range<u64>], gap: u64) -> Vec<(Range<u64>, u64)> {
    let mut sorted: Vec<_> = ranges.iter().filter(|range| !range.is_empty()).collect();
    sorted.sort_unstable_by_key(|range| range.start);
    let mut together: Vec<(Range<u64>, u64)> = Vec::new();
    for range in sorted {
        match together.last_mut() {
            Some((last, wanted)) if range.start <= last.end.saturating_add(gap) => {
                *wanted += range.end.saturating_sub(range.start.max(last.end));
                last.end = last.end.max(range.end);
            }
            _ => together.push((range.clone(), range.end - range.start)),
        }
    }
    together
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
