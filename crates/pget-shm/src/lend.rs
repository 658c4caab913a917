//! A segment's memory in the hands of a download, which receives straight into it.
//!
//! Invariants: a segment lends its memory once at a time, and is no other object's while it is lent
//! (`begin_anew` asks); it lends only bytes that have their pages, so that no write meets a full
//! device; who has it writes only above the watermark. It is another mapping than the one that is
//! read from, so no address is both written to and lent as a slice. The mapping is kept for the
//! next object: to map pages that exist as they are touched costs as much as the receive
//! (docs/benchmarks.md).

#![allow(
    unsafe_code,
    reason = "lends a mapping as a slice to write to; the argument is at the head of the module"
)]

use std::{io, sync::Arc};

use crate::{lender::Writable, mapping::Mapping, segment::Segment};

/// The memory, back with its segment when this is dropped.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Taken on drop.
    mapping: Option<Mapping>,
    length: usize,
    segment: Arc<Segment>,
}

impl Memory {
    /// The first `length` bytes of `segment` to write to; `None` if they have not all their pages,
    /// or are lent.
    ///
    /// # Errors
    /// What `mmap` says.
    pub(crate) fn lend(segment: &Arc<Segment>, length: u64) -> io::Result<Option<Self>> {
        if length == 0 || length > segment.backed() || !segment.is_own() {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let mut writable = segment.lender().state();
        let mapping = match std::mem::take(&mut *writable) {
            Writable::Here(mapping) if mapping.len() >= length => mapping,
            Writable::Here(_) | Writable::None => Mapping::writable(&**segment.data(), length)?,
            Writable::Lent => {
                *writable = Writable::Lent;
                return Ok(None);
            }
        };
        *writable = Writable::Lent;
        Ok(Some(Self {
            mapping: Some(mapping),
            length,
            segment: Arc::clone(segment),
        }))
    }
}

impl AsMut<[u8]> for Memory {
    fn as_mut(&mut self) -> &mut [u8] {
        let Some(mapping) = &self.mapping else {
            return &mut [];
        };
        // SAFETY: mapped for writing, and at least that long, says `lend`; no other code has this
        // mapping, and what is mapped elsewhere is only read below the watermark, where nothing
        // is written any more.
        unsafe { std::slice::from_raw_parts_mut(mapping.start().as_ptr(), self.length) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let mapping = self.mapping.take();
        *self.segment.lender().state() = mapping.map_or(Writable::None, Writable::Here);
    }
}
