//! Where chunks lie. Pure arithmetic; called by `Schedule`.

use std::ops::Range;

/// The cut of `start..end` into chunks.
///
/// Boundaries are at multiples of the chunk size in the *object*, so that ranges align with what the server stores; the first chunk is
/// therefore shorter when the start is no multiple, and has its own length when the source's hint came with the first reply.
#[derive(Clone, Debug)]
pub struct Plan {
    start: u64,
    /// Behind the last byte wanted, as far as it is known.
    end: Option<u64>,
    /// Whether `end` is the real end: the caller's wish may lie behind the object's.
    end_is_known: bool,
    first_end: u64,
    chunk_size: u64,
}

impl Plan {
    /// `start..end` in chunks of `chunk_size` bytes (at least 1).
    #[must_use]
    pub fn new(start: u64, end: Option<u64>, chunk_size: u64) -> Self {
        let chunk_size = chunk_size.max(1);
        let mut plan = Self {
            start,
            end,
            end_is_known: end == Some(start),
            first_end: 0,
            chunk_size,
        };
        plan.first_end = plan.boundary_after(start).min(end.unwrap_or(u64::MAX));
        plan
    }

    /// Offset of the first byte wanted.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Behind the last byte wanted, as far as is known: the caller's wish, cut to the object's end once that is told.
    #[must_use]
    pub const fn end(&self) -> Option<u64> {
        self.end
    }

    /// Behind the last byte there is to read, once the object's end is known.
    #[must_use]
    pub const fn known_end(&self) -> Option<u64> {
        if self.end_is_known { self.end } else { None }
    }

    /// Bytes in a chunk, but for the first and the last.
    #[must_use]
    pub const fn chunk_size(&self) -> u64 {
        self.chunk_size
    }

    /// The object ends at `total`.
    pub fn ends_at(&mut self, total: u64) {
        let end = self.end.unwrap_or(u64::MAX).min(total).max(self.start);
        self.end = Some(end);
        self.end_is_known = true;
        self.first_end = self.first_end.min(end);
    }

    /// Chunks behind the first are `size` bytes long.
    pub fn chunk_size_from_second(&mut self, size: u64) {
        self.chunk_size = size.max(1);
    }

    /// How many chunks there are, once the end is known.
    #[must_use]
    pub fn chunks(&self) -> Option<u64> {
        let end = self.known_end()?;
        if end == self.start {
            return Some(0);
        }
        if end <= self.first_end {
            return Some(1);
        }
        let second_end = self.boundary_after(self.first_end);
        Some(if end <= second_end {
            2
        } else {
            2 + (end - second_end).div_ceil(self.chunk_size)
        })
    }

    /// The bytes of chunk `index`; `None` if it lies behind the end, or behind what can be counted.
    #[must_use]
    pub fn range(&self, index: u64) -> Option<Range<u64>> {
        let last = self.end.unwrap_or(u64::MAX);
        let (from, to) = match index {
            0 => (self.start, self.first_end),
            1 => (self.first_end, self.boundary_after(self.first_end)),
            _ => {
                let from = (index - 2)
                    .checked_mul(self.chunk_size)?
                    .checked_add(self.boundary_after(self.first_end))?;
                (from, from.saturating_add(self.chunk_size))
            }
        };
        (from < last).then(|| from..to.min(last))
    }

    fn boundary_after(&self, offset: u64) -> u64 {
        (offset / self.chunk_size + 1).saturating_mul(self.chunk_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(plan: &Plan) -> Vec<Range<u64>> {
        (0..plan.chunks().expect("the end is known"))
            .map(|index| plan.range(index).expect("it exists"))
            .collect()
    }

    #[test]
    fn chunks_cover_the_range_and_align_with_the_object() {
        let mut plan = Plan::new(5, None, 10);
        plan.ends_at(34);
        assert_eq!(ranges(&plan), [5..10, 10..20, 20..30, 30..34]);
        assert_eq!(plan.range(4), None);
    }

    #[test]
    fn a_hint_changes_all_but_the_first() {
        let mut plan = Plan::new(0, None, 8);
        plan.ends_at(100);
        plan.chunk_size_from_second(32);
        assert_eq!(ranges(&plan), [0..8, 8..32, 32..64, 64..96, 96..100]);
    }

    #[test]
    fn edges() {
        for (total, count) in [(0, 0), (1, 1), (9, 1), (10, 1), (11, 2), (20, 2), (21, 3)] {
            let mut plan = Plan::new(0, None, 10);
            plan.ends_at(total);
            assert_eq!(plan.chunks(), Some(count), "{total} bytes");
            assert_eq!(
                ranges(&plan)
                    .iter()
                    .map(|range| range.end - range.start)
                    .sum::<u64>(),
                total
            );
        }
        let mut wished = Plan::new(3, Some(1000), 10);
        assert_eq!(wished.chunks(), None, "the wish may lie behind the object's end");
        wished.ends_at(12);
        assert_eq!(ranges(&wished), [3..10, 10..12]);
    }

    #[test]
    fn the_end_of_the_number_line_does_not_overflow() {
        let mut plan = Plan::new(u64::MAX - 5, None, 1 << 40);
        plan.ends_at(u64::MAX);
        assert_eq!(
            (plan.chunks(), plan.range(0)),
            (Some(1), Some(u64::MAX - 5..u64::MAX))
        );
        assert_eq!(Plan::new(0, None, u64::MAX).range(7), None);
    }
}
