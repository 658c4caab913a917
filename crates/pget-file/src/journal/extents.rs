//! Which bytes of an object have landed: a set of ranges. Pure; used by the journal and its writer.
//!
//! Invariant: the ranges are in order, not empty, and neither overlap nor touch, so that there are
//! as few as can be.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A set of bytes, as ranges of offsets in the object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub(crate) struct Extents(Vec<Range<u64>>);

impl Extents {
    /// Adds `range`, whether or not some of it is in already.
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|known| known.end < range.start);
        let behind = self.0.partition_point(|known| known.start <= range.end);
        let joined = self.0[first..behind].iter().fold(range, |all, known| {
            all.start.min(known.start)..all.end.max(known.end)
        });
        self.0.splice(first..behind, [joined]);
    }

    /// Bytes in the set.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The end of the last range; 0 of none.
    pub(crate) fn end(&self) -> u64 {
        self.0.last().map_or(0, |range| range.end)
    }

    /// Whether there is nothing in it outside of `range`.
    pub(crate) fn is_within(&self, range: &Range<u64>) -> bool {
        self.0.first().is_none_or(|first| first.start >= range.start) && self.end() <= range.end
    }

    /// What of `range` is not in the set, in order.
    pub(crate) fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        for known in &self.0 {
            let gap = at..known.start.min(range.end);
            if !gap.is_empty() {
                gaps.push(gap);
            }
            at = at.max(known.end);
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// Returns these extents without the shortest ranges, so that `most` are left: what is
    /// forgotten is read again, and what is kept stays true.
    pub(crate) fn at_most(mut self, most: usize) -> Self {
        if self.0.len() > most {
            self.0.sort_by_key(|range| range.start.wrapping_sub(range.end));
            self.0.truncate(most);
            self.0.sort_by_key(|range| range.start);
        }
        self
    }
}

impl TryFrom<Vec<(u64, u64)>> for Extents {
    type Error = &'static str;

    fn try_from(pairs: Vec<(u64, u64)>) -> Result<Self, Self::Error> {
        let mut least = 0;
        for (index, (start, end)) in pairs.iter().enumerate() {
            if start >= end || (index > 0 && *start <= least) {
                return Err("ranges that are empty or not in order");
            }
            least = *end;
        }
        Ok(Self(pairs.into_iter().map(|(start, end)| start..end).collect()))
    }
}

impl From<Extents> for Vec<(u64, u64)> {
    fn from(extents: Extents) -> Self {
        extents
            .0
            .into_iter()
            .map(|range| (range.start, range.end))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ranges: &[Range<u64>]) -> Extents {
        let mut extents = Extents::default();
        for range in ranges {
            extents.insert(range.clone());
        }
        extents
    }

    #[test]
    fn agrees_with_a_bitmap_whatever_is_inserted() {
        const SIZE: usize = 64;
        // A fixed walk through the pairs of a small object: multiplication scatters them.
        for seed in 0_usize..2000 {
            let (mut extents, mut bitmap) = (Extents::default(), [false; SIZE]);
            for step in 0..seed % 12 {
                let mixed = (seed * 31 + step).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let start = (mixed >> 20) % SIZE;
                let end = start + (mixed >> 40) % (SIZE + 1 - start);
                extents.insert(start as u64..end as u64);
                bitmap[start..end].fill(true);
                let pairs: Vec<(u64, u64)> = extents.clone().into();
                assert_eq!(
                    Extents::try_from(pairs).as_ref(),
                    Ok(&extents),
                    "the invariant holds"
                );
                assert_eq!(extents.total(), bitmap.iter().filter(|set| **set).count() as u64);
                let mut missing = [false; SIZE];
                for gap in extents.missing(8..56) {
                    for at in gap {
                        missing[usize::try_from(at).expect("small")] = true;
                    }
                }
                for at in 0..SIZE {
                    assert_eq!(
                        missing[at],
                        !bitmap[at] && (8..56).contains(&at),
                        "{at} of {extents:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_shortest_are_forgotten_first() {
        let extents = of(&[0..10, 20..21, 30..50, 60..63]);
        assert_eq!(extents.clone().at_most(2), of(&[0..10, 30..50]));
        assert_eq!(extents.clone().at_most(4), extents);
        assert!(extents.at_most(0).is_empty());
    }

    #[test]
    fn ends_and_bounds() {
        let extents = of(&[5..10, 20..30]);
        assert_eq!(extents.end(), 30);
        assert!(extents.is_within(&(5..30)) && !extents.is_within(&(6..30)) && !extents.is_within(&(5..29)));
        assert!(Extents::default().is_within(&(7..7)) && Extents::default().end() == 0);
    }
}
