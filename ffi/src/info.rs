//! Facts about an object, and counters of a download.
//!
//! Both structures grow at their end, by their size field.

use std::{ffi::c_char, time::Duration};

use pget_rs::{ObjectInfo, Options, Stats, Verification, verify::Algorithm};

use crate::{
    boundary::{self, OK},
    error::pget_error,
    options::{pget_options, settings},
    status::pget_status,
    text::{self, invalid},
};

/// Bytes of pget_info's revision, its ending zero included.
pub const PGET_REVISION_SIZE: usize = 256;

/// Facts about an object. Before a call, set struct_size to sizeof(pget_info).
///
/// The call fills no more than that, zeroes the fields that it does not know, and sets struct_size
/// to the size that it filled. A value above 65536 is taken for a size that was not set.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pget_info {
    /// sizeof(pget_info).
    pub struct_size: usize,
    /// Size of the object in bytes; UINT64_MAX if the server does not say.
    pub size: u64,
    /// Offset in the object of the first byte that is read.
    pub offset: u64,
    /// Bytes to be read in all, from offset on; UINT64_MAX if that is not known.
    pub length: u64,
    /// Bytes in a range.
    pub chunk_size: u64,
    /// The identity of the object's content, for people: "etag ...", "version ...", or "unknown";
    /// cut if it is longer. Ends with a zero.
    pub revision: [c_char; PGET_REVISION_SIZE],
}

/// The counters of a download. Before a call, set struct_size to sizeof(pget_stats); the call fills
/// no more than that, zeroes what it does not know, and sets struct_size to what it filled.
/// More than 65536 is taken for a size that was not set.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pget_stats {
    /// sizeof(pget_stats).
    pub struct_size: usize,
    /// Bytes given to the caller.
    pub delivered: u64,
    /// Bytes received.
    pub received: u64,
    /// Requests begun.
    pub requests: u64,
    /// Requests among these for bytes that had been requested before.
    pub retries: u64,
    /// Bytes of memory that hold received data now.
    pub buffered: u64,
    /// The most of it at any time.
    pub peak_buffered: u64,
    /// 1 if the object is read as one plain stream, else 0.
    pub one_stream: u32,
    /// The result of the comparison of the bytes with the checksum of the whole object that the
    /// server publishes: one of the values of pget_verification_code.
    pub verification: u32,
    /// Requests that were far slower than the others and gave way to one over a fresh connection.
    pub fences: u64,
    /// Requests that were given up because nothing came for as long as a deadline allows.
    pub stalls: u64,
    /// Nanoseconds in which more could have been asked for, but what the caller had not taken
    /// filled the window.
    pub window_full: u64,
    /// Nanoseconds that the caller waited for bytes, in order.
    pub consumer_wait: u64,
    /// The checksum's algorithm, if verification is about one: "crc32c", "xxh64", ...; else empty.
    /// Ends with a zero.
    pub checksum: [c_char; PGET_ALGORITHM_SIZE],
    /// Bytes per range now: as set, as the server asks, or as measuring found.
    pub chunk_size: u64,
    /// Requests that should be in flight now: as set, or as measuring found.
    pub concurrency: u32,
    /// Always 0.
    pub reserved: u32,
}

/// Bytes of pget_stats's checksum, its ending zero included.
pub const PGET_ALGORITHM_SIZE: usize = 16;

/// The result of a download's verification. Later versions may add values.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum pget_verification_code {
    /// No answer has arrived yet.
    PGET_VERIFICATION_UNKNOWN = 0,
    /// Under way.
    PGET_VERIFICATION_PENDING = 1,
    /// All bytes came and have the published checksum.
    PGET_VERIFICATION_VERIFIED = 2,
    /// All bytes came and do not have it.
    PGET_VERIFICATION_MISMATCH = 3,
    /// Not wanted.
    PGET_VERIFICATION_OFF = 4,
    /// A part of the object was asked for, and checksums are of the whole.
    PGET_VERIFICATION_PART = 5,
    /// The server publishes none that is known here.
    PGET_VERIFICATION_UNPUBLISHED = 6,
    /// The published one is composite: of the checksums of the parts that the object was put in.
    PGET_VERIFICATION_COMPOSITE = 7,
    /// The bytes came in another order, and could not be read back.
    PGET_VERIFICATION_UNREADABLE = 8,
}

impl pget_verification_code {
    fn of(verification: Verification) -> Self {
        match verification {
            Verification::Pending(_) => Self::PGET_VERIFICATION_PENDING,
            Verification::Verified(_) => Self::PGET_VERIFICATION_VERIFIED,
            Verification::Mismatch(_) => Self::PGET_VERIFICATION_MISMATCH,
            Verification::Off => Self::PGET_VERIFICATION_OFF,
            Verification::Part => Self::PGET_VERIFICATION_PART,
            Verification::Unpublished => Self::PGET_VERIFICATION_UNPUBLISHED,
            Verification::Composite(_) => Self::PGET_VERIFICATION_COMPOSITE,
            Verification::Unreadable(_) => Self::PGET_VERIFICATION_UNREADABLE,
            // It may grow; what has no number yet is nothing to rely on.
            _ => Self::PGET_VERIFICATION_UNKNOWN,
        }
    }
}

/// A structure that callers may have in another size.
///
/// # Safety
/// `repr(C)`, its first field is its size as a `usize`, and all of its bytes are initialised (it
/// has no padding).
pub(crate) unsafe trait Growing: Copy {
    /// The size it had in ABI 1, which no caller's may be below.
    const LEAST: usize;
}

// SAFETY: a `usize` first; then fields that leave no gap, as the assertion says.
unsafe impl Growing for pget_info {
    const LEAST: usize = size_of::<Self>();
}
const _: () = assert!(size_of::<pget_info>() == size_of::<usize>() + 4 * 8 + PGET_REVISION_SIZE);

// SAFETY: a `usize` first; then fields that leave no gap, as the assertion says.
unsafe impl Growing for pget_stats {
    const LEAST: usize = std::mem::offset_of!(Self, fences);
}
const _: () = assert!(size_of::<pget_stats>() == size_of::<usize>() + 11 * 8 + 4 * 4 + PGET_ALGORITHM_SIZE);

/// A caller's structure, of the size that it says.
pub(crate) struct Structure<T> {
    place: *mut T,
    size: usize,
}

/// No structure will ever have more bytes. A size that was never set is more likely to be noticed
/// by this than to be believed, and as many bytes zeroed.
const MOST: usize = 64 << 10;

impl<T: Growing> Structure<T> {
    /// # Safety
    /// `place` is null or points to a structure whose first field states its size, and that may be
    /// written until the result is gone.
    pub(crate) unsafe fn new(place: *mut T, name: &str) -> Result<Self, pget_rs::Error> {
        if place.is_null() {
            return Err(invalid(format!("the pointer for the {name} is null")));
        }
        // SAFETY: not null, and its first field is its size, says the caller.
        let size = unsafe { place.cast::<usize>().read() };
        if size < T::LEAST {
            return Err(invalid(format!(
                "struct_size of the {name} is {size}, at least {} is needed",
                T::LEAST
            )));
        }
        if size > MOST {
            return Err(invalid(format!(
                "struct_size of the {name} is {size}, which no structure has: it was not set"
            )));
        }
        Ok(Self { place, size })
    }

    /// Fills it; `value` has its own size in its first field.
    pub(crate) fn put(&self, value: T) {
        let filled = self.size.min(size_of::<T>());
        let to = self.place.cast::<u8>();
        // SAFETY: the structure has `size` bytes, says its first field; `filled` is no more than
        // that, nor than `value` has.
        unsafe { std::ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), to, filled) };
        // SAFETY: `filled` is no more than the structure has.
        let rest = unsafe { to.add(filled) };
        // SAFETY: the bytes from `filled` to `size` belong to the structure.
        unsafe { rest.write_bytes(0, self.size - filled) };
        // SAFETY: as in `new`.
        unsafe { self.place.cast::<usize>().write(filled) };
    }
}

/// Returns how much is read of an object of that size.
fn length_of(options: &Options, size: Option<u64>) -> Option<u64> {
    let rest = size.map(|size| size.saturating_sub(options.offset));
    match (rest, options.length) {
        (Some(rest), Some(length)) => Some(rest.min(length)),
        (rest, _) => rest,
    }
}

impl pget_info {
    pub(crate) fn new(info: &ObjectInfo, options: &Options, length: Option<u64>) -> Self {
        let text = info.revision.to_string();
        // Cut between characters, and before anything that could not be in a C text.
        let mut end = text.find('\0').unwrap_or(text.len()).min(PGET_REVISION_SIZE - 1);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let revision = self::text(&text[..end]);
        Self {
            struct_size: size_of::<Self>(),
            size: info.size.unwrap_or(u64::MAX),
            offset: options.offset,
            length: length.unwrap_or(u64::MAX),
            chunk_size: options
                .chunk_size
                .or(info.chunk_hint)
                .unwrap_or(Options::DEFAULT_CHUNK_SIZE),
            revision,
        }
    }
}

impl pget_stats {
    pub(crate) fn new(stats: &Stats) -> Self {
        Self {
            struct_size: size_of::<Self>(),
            delivered: stats.delivered,
            received: stats.received,
            requests: stats.requests,
            retries: stats.retries,
            buffered: stats.buffered,
            peak_buffered: stats.peak_buffered,
            one_stream: stats.one_stream.into(),
            verification: pget_verification_code::of(stats.verification) as u32,
            fences: stats.fences,
            stalls: stats.stalls,
            window_full: nanoseconds(stats.window_full),
            consumer_wait: nanoseconds(stats.consumer_wait),
            chunk_size: stats.chunk_size,
            concurrency: stats.concurrency,
            reserved: 0,
            checksum: text(stats.verification.algorithm().map_or("", Algorithm::name)),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A short text as a C text, cut to its place.
fn text<const SIZE: usize>(text: &str) -> [c_char; SIZE] {
    let mut place = [0; SIZE];
    for (to, from) in place.iter_mut().take(SIZE - 1).zip(text.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
    place
}

/// Stores size and revision of an object in info, without reading it. info->length is what a read
/// with these options would give.
///
/// info is the caller's and filled only if the call succeeds; error may be null, else it is set to
/// null or to an error that the caller frees. Waits; any thread. Errors: those of pget_open. Since
/// ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pget_stat(
    url: *const c_char,
    options: *const pget_options,
    info: *mut pget_info,
    error: *mut *mut pget_error,
) -> pget_status {
    let body = || {
        // SAFETY: null or as the header says, until this function returns.
        let info = unsafe { Structure::new(info, "info")? };
        // SAFETY: null or a text, says the header.
        let url = unsafe { text::required(url, "url")? };
        let settings = settings(options)?;
        let object = pget_rs::builder(url).settings(settings.clone()).blocking()?;
        let stated = object.stat()?;
        let length = length_of(&settings.options, stated.size);
        info.put(pget_info::new(&stated, &settings.options, length));
        Ok(OK)
    };
    // SAFETY: null or writable, says the header.
    unsafe { boundary::call(error, body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_structure_of_another_size_is_filled_as_far_as_both_know_it() {
        #[repr(C)]
        struct Later {
            first: pget_stats,
            added: u64,
        }
        let stats = pget_stats::new(&Stats::default());
        let mut later = Later {
            first: pget_stats {
                struct_size: size_of::<Later>(),
                delivered: 9,
                ..stats
            },
            added: 7,
        };
        // SAFETY: it says its size, and lives.
        let place = unsafe { Structure::<pget_stats>::new((&raw mut later).cast(), "stats") };
        place.expect("large enough").put(stats);
        assert_eq!(
            (later.first.struct_size, later.first.delivered, later.added),
            (size_of::<pget_stats>(), 0, 0)
        );
        later.first.struct_size = pget_stats::LEAST - 1;
        // SAFETY: as above.
        assert!(unsafe { Structure::<pget_stats>::new((&raw mut later).cast(), "stats") }.is_err());
    }

    #[test]
    fn a_size_that_no_structure_has_is_refused() {
        let mut stats = pget_stats::new(&Stats::default());
        for (size, is_taken) in [(MOST, true), (MOST + 1, false), (usize::MAX, false)] {
            stats.struct_size = size;
            // SAFETY: it lives, and nothing is put into it.
            let made = unsafe { Structure::<pget_stats>::new(&raw mut stats, "stats") };
            assert_eq!(made.is_ok(), is_taken, "{size}");
        }
        assert_eq!(stats.struct_size, usize::MAX, "left as it was");
    }

    #[test]
    fn a_long_revision_is_cut_between_characters() {
        let info = ObjectInfo {
            revision: pget_rs::Revision {
                etag: Some("é".repeat(200)),
                ..pget_rs::Revision::default()
            },
            ..ObjectInfo::default()
        };
        let told = pget_info::new(&info, &Options::default(), None);
        let bytes: Vec<u8> = told.revision.iter().map(|c| c.to_ne_bytes()[0]).collect();
        let text = std::str::from_utf8(&bytes)
            .expect("whole characters")
            .trim_end_matches('\0');
        assert!(
            text.starts_with("etag é") && text.len() >= PGET_REVISION_SIZE - 2,
            "{text}"
        );
    }
}
