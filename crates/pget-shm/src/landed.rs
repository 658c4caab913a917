//! What has landed, and how far from the start it is without a gap.

use std::{collections::BTreeMap, ops::Range};

/// Ranges that have landed. At most as many of them follow a gap as chunks are open.
#[derive(Debug, Default)]
pub(crate) struct Landed {
    watermark: u64,
    /// Start and end of what lies after gaps; disjoint, and no two touch.
    behind: BTreeMap<u64, u64>,
}

impl Landed {
    /// Adds a range; returns the watermark if that raised it.
    pub(crate) fn add(&mut self, range: Range<u64>) -> Option<u64> {
        let Range { mut start, mut end } = range;
        if start >= end {
            return None;
        }
        if let Some((&before, &until)) = self.behind.range(..=start).next_back()
            && until >= start
        {
            start = before;
            end = end.max(until);
        }
        while let Some((&next, &until)) = self.behind.range(start..=end).next() {
            self.behind.remove(&next);
            end = end.max(until);
        }
        if start <= self.watermark {
            let raised = end > self.watermark;
            self.watermark = self.watermark.max(end);
            return raised.then_some(self.watermark);
        }
        self.behind.insert(start, end);
        None
    }

    pub(crate) const fn watermark(&self) -> u64 {
        self.watermark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_order_raises_the_watermark_to_the_first_gap() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut pieces = Vec::new();
            let mut start = 0;
            for _ in 0..40 {
                let end = start + random.u64(1..5);
                pieces.push(start..end);
                start = end;
            }
            random.shuffle(&mut pieces);
            let mut landed = Landed::default();
            let mut there = vec![false; usize::try_from(start).expect("small")];
            for piece in pieces {
                let before = landed.watermark();
                let told = landed.add(piece.clone());
                for byte in piece {
                    there[usize::try_from(byte).expect("small")] = true;
                }
                let first_gap = there.iter().position(|there| !there).unwrap_or(there.len());
                assert_eq!(landed.watermark(), first_gap as u64, "seed {seed}");
                assert_eq!(
                    told,
                    (before < landed.watermark()).then_some(landed.watermark()),
                    "seed {seed}"
                );
            }
            assert!(landed.behind.is_empty());
        }
    }

    #[test]
    fn a_range_that_grows_is_one_range() {
        let mut landed = Landed::default();
        for end in 11..20 {
            assert_eq!(landed.add(10..end), None);
        }
        assert_eq!(landed.behind.len(), 1);
        assert_eq!(landed.add(0..10), Some(19));
        assert_eq!(landed.add(19..19), None);
    }
}
