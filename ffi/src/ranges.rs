//! Many ranges of one object at once, each into its own buffer.

use std::ffi::{c_char, c_void};

use pget_rs::Error;

use crate::{
    boundary::{self, OK},
    error::pget_error,
    get::bytes_mut,
    options::{object, pget_options},
    status::pget_status,
    text::{self, invalid},
};

/// A range of an object, and where its bytes go.
#[repr(C)]
#[derive(Debug)]
pub struct pget_range {
    /// Offset in the object of the first byte.
    pub offset: u64,
    /// Bytes in the range, and in the buffer.
    pub length: u64,
    /// Where they go; lent for the call. May be null if length is 0.
    pub buffer: *mut c_void,
}

/// Reports that all bytes of the range with this place in the list are in its buffer, which from
/// then on may be read and written.
///
/// It runs on the thread that called parallel_get_ranges, one at a time, once for each range, in
/// the order in which they are complete. It must return (no longjmp, no exception) and must not
/// fork; to stop the call, trigger its cancel handle.
pub type pget_range_fn = Option<unsafe extern "C" fn(context: *mut c_void, index: usize)>;

/// Reads count ranges of one revision of the object at url, each straight into its own buffer. Near
/// ranges are fetched together (pget_options_set_gap). Ranges may touch, overlap and be the same,
/// in any order; their buffers must not overlap.
///
/// each may be null; else it is called for every range that is complete, with context as it is. The
/// buffers are lent for the call: when it returns, however it went, nothing writes to them any
/// more. After an error, the buffers of ranges that each was called for are right, the others'
/// content is unspecified. url, options and error are as for parallel_get, but that options must
/// not have a range of their own.
///
/// Waits; any thread. Errors: those of parallel_get, PGET_ERR_RANGE if a range goes beyond the
/// object, _INVALID_ARGUMENT also for null ranges (unless count is 0), a null buffer, and buffers
/// that overlap. Since ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parallel_get_ranges(
    url: *const c_char,
    options: *const pget_options,
    ranges: *const pget_range,
    count: usize,
    each: pget_range_fn,
    context: *mut c_void,
    error: *mut *mut pget_error,
) -> pget_status {
    let body = || {
        // SAFETY: null or a text, says the header.
        let url = unsafe { text::required(url, "url")? };
        // SAFETY: null or `count` ranges whose buffers are lent for the call.
        let mut ranges = unsafe { lent(ranges, count)? };
        object(url, options)?.read_ranges(&mut ranges, |index, _| {
            if let Some(each) = each {
                // SAFETY: the caller gave a function that may be called so, with its context.
                unsafe { each(context, index) };
            }
        })?;
        Ok(OK)
    };
    // SAFETY: null or writable, says the header.
    unsafe { boundary::call(error, body) }
}

type Lent<'a> = Vec<(std::ops::Range<u64>, &'a mut [u8])>;

/// The caller's ranges and buffers.
///
/// # Safety
/// `ranges` is null or points to `count` ranges, each with a buffer of its length that no other
/// code uses while the result lives.
unsafe fn lent<'a>(ranges: *const pget_range, count: usize) -> Result<Lent<'a>, Error> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if ranges.is_null() {
        return Err(invalid("the ranges are null"));
    }
    let most = isize::MAX.unsigned_abs() / size_of::<pget_range>();
    if count > most || !ranges.is_aligned() {
        return Err(invalid("the ranges are no array of pget_range"));
    }
    // SAFETY: not null, aligned, not too long, and the caller's word for the rest.
    let ranges = unsafe { std::slice::from_raw_parts(ranges, count) };
    refuse_overlap(ranges)?;
    ranges
        .iter()
        .enumerate()
        .map(|(index, range)| {
            let in_range = |error: Error| invalid(format!("range {index}: {error}"));
            let end = range.offset.checked_add(range.length);
            let end = end.ok_or_else(|| invalid(format!("range {index} goes beyond what can be counted")))?;
            let length = usize::try_from(range.length)
                .map_err(|_| invalid(format!("range {index} is more than memory can have")))?;
            // SAFETY: the caller lends these bytes for the call, and no two of the buffers overlap.
            let buffer = unsafe { bytes_mut(range.buffer, length).map_err(in_range)? };
            Ok((range.offset..end, buffer))
        })
        .collect()
}

/// Two writers must never own one byte.
fn refuse_overlap(ranges: &[pget_range]) -> Result<(), Error> {
    let mut places: Vec<(u128, u128, usize)> = ranges
        .iter()
        .enumerate()
        .filter(|(_, range)| range.length > 0)
        .map(|(index, range)| {
            let start = range.buffer.addr() as u128;
            (start, start + u128::from(range.length), index)
        })
        .collect();
    places.sort_unstable();
    match places.windows(2).find(|two| two[1].0 < two[0].1) {
        Some(two) => Err(invalid(format!(
            "the buffers of ranges {} and {} overlap",
            two[0].2, two[1].2
        ))),
        None => Ok(()),
    }
}
