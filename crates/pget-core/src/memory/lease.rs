//! A view of filled bytes, lent to the consumer without a copy. Made by `Slot::lease` only.

#![allow(
    unsafe_code,
    reason = "reads what the writer has published; the argument is at the head of `memory`"
)]

use std::{fmt, ops::Deref, ops::Range, sync::Arc};

use bytes::Bytes;

use super::page::Page;

/// Bytes of the object, in the memory that they were received into.
///
/// A lease may outlive the reader that gave it; its memory goes back for reuse when it is dropped.
/// What a consumer keeps is the consumer's: it does not count against the window, so that a
/// collected stream of leases cannot stop the download that feeds it.
///
/// # Examples
/// ```no_run
/// # async fn example(reader: &mut pget_core::Reader) -> Result<(), pget_core::Error> {
/// let mut kept = Vec::new();
/// while let Some(lease) = reader.next().await? {
///     // No copy: the memory stays with `kept`.
///     kept.push(lease);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Lease {
    page: Arc<Page>,
    range: Range<usize>,
    offset: u64,
}

impl Lease {
    /// `range` of `page` must lie below a watermark that the caller has loaded with `Acquire`.
    pub(super) const fn new(page: Arc<Page>, range: Range<usize>, offset: u64) -> Self {
        Self { page, range, offset }
    }

    /// Where in the object its first byte stands.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Drops the first `count` bytes from the view.
    ///
    /// # Panics
    /// If the view is shorter than that.
    pub(crate) fn advance(&mut self, count: usize) {
        assert!(
            count <= self.range.len(),
            "advance by {count} in a lease of {}",
            self.range.len()
        );
        self.range.start += count;
        self.offset += count as u64;
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `Slot::lease` made `range` from a watermark loaded with `Acquire`, and the view
        // only ever shrinks.
        unsafe { self.page.filled(self.range.clone()) }
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Lease> for Bytes {
    /// Without a copy: the `Bytes` keeps the page.
    fn from(lease: Lease) -> Self {
        Self::from_owner(lease)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({} bytes at {})", self.range.len(), self.offset)
    }
}
