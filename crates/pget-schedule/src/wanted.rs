//! Which bytes of an object are wanted.

use std::ops::{Range, RangeFrom};

/// The bytes of an object that are wanted: ranges in ascending order that neither overlap nor
/// touch. The last one may be open, which is to the object's end.
///
/// None of several ranges is empty. A single one may be: it keeps the offset that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    ranges: Vec<Range<u64>>,
    is_open: bool,
}

impl Wanted {
    /// Returns all bytes of the object.
    #[must_use]
    pub fn all() -> Self {
        Self::from(0..)
    }

    /// Returns `ranges`, which may be in any order, overlap and be empty.
    #[must_use]
    pub fn of(ranges: Vec<Range<u64>>) -> Self {
        Self::joined(ranges, 0)
    }

    /// Returns `ranges` with those that are at most `gap` bytes apart as one, the bytes between
    /// them included.
    #[must_use]
    pub fn joined(mut ranges: Vec<Range<u64>>, gap: u64) -> Self {
        ranges.retain(|range| range.start < range.end);
        ranges.sort_unstable_by_key(|range| range.start);
        ranges.dedup_by(|next, last| {
            let joins = next.start <= last.end.saturating_add(gap);
            if joins {
                last.end = last.end.max(next.end);
            }
            joins
        });
        if ranges.is_empty() {
            return Self::from(0..0);
        }
        Self {
            ranges,
            is_open: false,
        }
    }

    /// Returns the ranges. The end of an open one is `u64::MAX`.
    #[must_use]
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// Returns the offset of the first byte wanted.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.ranges.first().map_or(0, |range| range.start)
    }

    /// Returns the offset after the last byte wanted; `None` if that is the object's end.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        let last = self.ranges.last().filter(|_| !self.is_open);
        last.map(|range| range.end)
    }

    /// Returns whether there are gaps between the bytes wanted.
    #[must_use]
    pub const fn has_gaps(&self) -> bool {
        self.ranges.len() > 1
    }
}

impl From<Range<u64>> for Wanted {
    fn from(range: Range<u64>) -> Self {
        Self {
            ranges: Vec::from([range]),
            is_open: false,
        }
    }
}

impl From<RangeFrom<u64>> for Wanted {
    fn from(range: RangeFrom<u64>) -> Self {
        let range = range.start..u64::MAX;
        Self {
            ranges: Vec::from([range]),
            is_open: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_ascending_and_neither_overlap_nor_touch() {
        let wanted = Wanted::of(vec![95..130, 7..8, 12..12, 40..50, 20..40, 100..110]);
        assert_eq!(wanted.ranges(), [7..8, 20..50, 95..130]);
        assert_eq!(
            (wanted.start(), wanted.end(), wanted.has_gaps()),
            (7, Some(130), true)
        );
    }

    #[test]
    fn ranges_with_small_gaps_between_them_are_one() {
        let ranges = vec![0..10, 12..20, 23..30, u64::MAX - 1..u64::MAX];
        let joined = |gap| Wanted::joined(ranges.clone(), gap).ranges().len();
        assert_eq!([0, 1, 2, 3, u64::MAX].map(joined), [4, 4, 3, 2, 1]);
    }

    #[test]
    fn only_an_open_range_has_no_end() {
        assert_eq!((Wanted::all().start(), Wanted::all().end()), (0, None));
        assert_eq!(Wanted::from(5..u64::MAX).end(), Some(u64::MAX));
        assert_eq!(
            (Wanted::from(5..5).start(), Wanted::from(5..5).end()),
            (5, Some(5))
        );
        assert_eq!(Wanted::of(vec![5..5, 9..9]), Wanted::from(0..0));
    }
}
