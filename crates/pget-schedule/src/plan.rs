//! Where chunks lie. Pure arithmetic; called by `Schedule`.

use std::ops::Range;

use super::Wanted;

/// The cut of one or several extents of an object into chunks.
///
/// Boundaries are at multiples of the chunk size in the *object*, so that ranges align with what
/// the server stores; the first chunk of an extent is therefore shorter when its start is no
/// multiple, and the first of all has its own length when the source's hint came with the first
/// reply. No chunk spans the gap between two extents.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What was asked for.
    wanted: Wanted,
    start: u64,
    /// The end of what is wanted, as far as it is known.
    end: Option<u64>,
    /// Whether `end` is the real end: the caller's wish may lie after the object's.
    end_is_known: bool,
    first_chunk_size: u64,
    first_end: u64,
    chunk_size: u64,
    /// The chunk size before the first of `cuts`.
    base_size: u64,
    /// Where in the object other chunk sizes begin, ascending.
    cuts: Vec<(u64, u64)>,
    /// What follows the first chunk.
    rest: Vec<Extent>,
}

/// Bytes that are cut into chunks of equal size, from a number on.
#[derive(Clone, Debug)]
struct Extent {
    range: Range<u64>,
    /// The number of its first chunk.
    number: u64,
    chunk_size: u64,
}

impl Extent {
    fn chunks(&self) -> u64 {
        let boundary = boundary_after(self.range.start, self.chunk_size);
        1 + self.range.end.saturating_sub(boundary).div_ceil(self.chunk_size)
    }
}

impl Plan {
    /// `wanted` in chunks of `chunk_size` bytes (at least 1).
    #[must_use]
    pub fn new(wanted: Wanted, chunk_size: u64) -> Self {
        let chunk_size = chunk_size.max(1);
        let (start, end) = (wanted.start(), wanted.end());
        let mut plan = Self {
            start,
            end,
            end_is_known: end == Some(start),
            first_chunk_size: chunk_size,
            first_end: 0,
            chunk_size,
            base_size: chunk_size,
            cuts: Vec::new(),
            rest: Vec::new(),
            wanted,
        };
        plan.number(end.unwrap_or(u64::MAX));
        plan
    }

    /// Numbers the chunks of what lies before `end`.
    fn number(&mut self, end: u64) {
        let first = self
            .wanted
            .ranges()
            .first()
            .map_or(self.start, |extent| extent.end);
        self.first_end =
            boundary_after(self.start, self.first_chunk_size).min(first.min(end).max(self.start));
        let mut number = 1;
        self.rest.clear();
        for extent in self.wanted.ranges() {
            let mut start = extent.start.max(self.first_end);
            let end = extent.end.min(end);
            while start < end {
                let cut = self.cuts.partition_point(|&(at, _)| at <= start);
                let chunk_size = cut
                    .checked_sub(1)
                    .map_or(self.base_size, |last| self.cuts[last].1);
                let until = self.cuts.get(cut).map_or(end, |&(at, _)| at.min(end));
                let extent = Extent {
                    range: start..until,
                    number,
                    chunk_size,
                };
                number = number.saturating_add(extent.chunks());
                self.rest.push(extent);
                start = until;
            }
        }
    }

    /// Offset of the first byte wanted.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// The end of what is wanted, as far as is known: the caller's wish, cut to the object's end
    /// once that is known.
    #[must_use]
    pub const fn end(&self) -> Option<u64> {
        self.end
    }

    /// The end of what there is to read, once the object's end is known.
    #[must_use]
    pub const fn known_end(&self) -> Option<u64> {
        if self.end_is_known { self.end } else { None }
    }

    /// Whether there are gaps between the bytes wanted.
    #[must_use]
    pub const fn has_gaps(&self) -> bool {
        self.wanted.has_gaps()
    }

    /// How many bytes there are to read, without the gaps, once the object's end is known.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        let rest = self
            .rest
            .iter()
            .map(|extent| extent.range.end - extent.range.start);
        self.end_is_known
            .then(|| self.first_end - self.start + rest.sum::<u64>())
    }

    /// Bytes in a chunk that is opened next, except for the first and the last of an extent.
    #[must_use]
    pub const fn chunk_size(&self) -> u64 {
        self.chunk_size
    }

    /// The object ends at `total`.
    pub fn ends_at(&mut self, total: u64) {
        let end = self.end.unwrap_or(u64::MAX).min(total).max(self.start);
        if self.end_is_known && self.end == Some(end) {
            return;
        }
        self.end_is_known = true;
        self.number(end);
        // It may lie in a gap.
        self.end = Some(self.rest.last().map_or(self.first_end, |extent| extent.range.end));
    }

    /// Nothing is known of the object's end: what is read may be another revision.
    pub fn forget_end(&mut self) {
        *self = Self::new(self.wanted.clone(), self.first_chunk_size);
        self.end = self.end.filter(|end| *end < u64::MAX);
    }

    /// Chunks after the first are `size` bytes long.
    pub fn chunk_size_from_second(&mut self, size: u64) {
        self.chunk_size = size.max(1);
        self.base_size = self.chunk_size;
        self.cuts.clear();
        self.number(self.end.unwrap_or(u64::MAX));
    }

    /// Chunks from the number `index` on are `size` bytes long.
    ///
    /// The first of them is shorter if that aligns the others. Chunks before `index` stay as they
    /// are.
    pub fn chunk_size_from(&mut self, index: u64, size: u64) {
        let Some(range) = self.range(index) else {
            return;
        };
        self.chunk_size = size.max(1);
        self.cuts.retain(|&(at, _)| at < range.start);
        self.cuts.push((range.start, self.chunk_size));
        self.number(self.end.unwrap_or(u64::MAX));
    }

    /// Bytes from chunk `index` on, once the end is known.
    #[must_use]
    pub fn bytes_from(&self, index: u64) -> u64 {
        let Some(end) = self.known_end() else {
            return u64::MAX;
        };
        let Some(range) = self.range(index) else {
            return 0;
        };
        let after = self.rest.iter().filter(|extent| extent.range.start >= range.end);
        let after: u64 = after.map(|extent| extent.range.end - extent.range.start).sum();
        let within = self
            .rest
            .iter()
            .find(|extent| extent.range.contains(&range.start));
        after
            + within
                .map_or(end, |extent| extent.range.end)
                .saturating_sub(range.start)
    }

    /// How many chunks there are, once the end is known.
    #[must_use]
    pub fn chunks(&self) -> Option<u64> {
        let end = self.known_end()?;
        if end == self.start {
            return Some(0);
        }
        Some(
            self.rest
                .last()
                .map_or(1, |extent| extent.number + extent.chunks()),
        )
    }

    /// The bytes of chunk `index`; `None` if it lies after the end, or after what can be counted.
    #[must_use]
    pub fn range(&self, index: u64) -> Option<Range<u64>> {
        if index == 0 {
            return (self.start < self.first_end).then_some(self.start..self.first_end);
        }
        let behind = self.rest.partition_point(|extent| extent.number <= index);
        let extent = &self.rest[behind.checked_sub(1)?];
        let Range { start, end } = extent.range;
        let boundary = boundary_after(start, extent.chunk_size);
        let (from, to) = match index - extent.number {
            0 => (start, boundary),
            behind => {
                let from = (behind - 1)
                    .checked_mul(extent.chunk_size)?
                    .checked_add(boundary)?;
                (from, from.saturating_add(extent.chunk_size))
            }
        };
        (from < end).then(|| from..to.min(end))
    }
}

fn boundary_after(offset: u64, size: u64) -> u64 {
    (offset / size + 1).saturating_mul(size)
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
        let mut plan = Plan::new(Wanted::from(5..), 10);
        plan.ends_at(34);
        assert_eq!(ranges(&plan), [5..10, 10..20, 20..30, 30..34]);
        assert_eq!(plan.range(4), None);
    }

    #[test]
    fn a_hint_changes_all_but_the_first() {
        let mut plan = Plan::new(Wanted::from(0..), 8);
        plan.ends_at(100);
        plan.chunk_size_from_second(32);
        assert_eq!(ranges(&plan), [0..8, 8..32, 32..64, 64..96, 96..100]);
    }

    #[test]
    fn edges() {
        for (total, count) in [(0, 0), (1, 1), (9, 1), (10, 1), (11, 2), (20, 2), (21, 3)] {
            let mut plan = Plan::new(Wanted::from(0..), 10);
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
        let mut wished = Plan::new(Wanted::from(3..1000), 10);
        assert_eq!(wished.chunks(), None, "the wish may lie after the object's end");
        wished.ends_at(12);
        assert_eq!(ranges(&wished), [3..10, 10..12]);
    }

    #[test]
    fn the_end_of_the_number_line_does_not_overflow() {
        let mut plan = Plan::new(Wanted::from(u64::MAX - 5..), 1 << 40);
        plan.ends_at(u64::MAX);
        assert_eq!(
            (plan.chunks(), plan.range(0)),
            (Some(1), Some(u64::MAX - 5..u64::MAX))
        );
        assert_eq!(Plan::new(Wanted::from(0..), u64::MAX).range(7), None);
    }

    #[test]
    fn extents_are_cut_each_for_itself() {
        let wanted = vec![95..130, 7..8, 12..12, 40..50, 20..40];
        let mut plan = Plan::new(Wanted::of(wanted), 10);
        assert_eq!((plan.start(), plan.end(), plan.has_gaps()), (7, Some(130), true));
        assert_eq!((plan.chunks(), plan.bytes()), (None, None));
        plan.ends_at(1000);
        let all = [
            7..8,
            20..30,
            30..40,
            40..50,
            95..100,
            100..110,
            110..120,
            120..130,
        ];
        assert_eq!(ranges(&plan), all);
        assert_eq!(plan.range(8), None);
        assert_eq!(plan.bytes(), Some(1 + 30 + 35));
        for (total, end, count) in [
            (0, 7, 0),
            (8, 8, 1),
            (15, 8, 1),
            (45, 45, 4),
            (60, 50, 4),
            (96, 96, 5),
        ] {
            let mut plan = Plan::new(Wanted::of(vec![7..8, 20..50, 95..130]), 10);
            plan.ends_at(total);
            assert_eq!(
                (plan.known_end(), plan.chunks()),
                (Some(end), Some(count)),
                "{total}"
            );
            assert_eq!(ranges(&plan).len() as u64, count);
            plan.forget_end();
            assert_eq!((plan.end(), plan.chunks()), (Some(130), None));
        }
    }

    #[test]
    fn a_hint_changes_all_extents() {
        let mut plan = Plan::new(Wanted::of(vec![3..30, 50..90]), 8);
        plan.ends_at(1000);
        plan.chunk_size_from_second(20);
        assert_eq!(ranges(&plan), [3..8, 8..20, 20..30, 50..60, 60..80, 80..90]);
    }

    #[test]
    fn nothing_wanted_is_nothing_to_do() {
        for nothing in [Vec::new(), vec![5..5, 9..9]] {
            let plan = Plan::new(Wanted::of(nothing), 10);
            assert_eq!((plan.chunks(), plan.bytes()), (Some(0), Some(0)));
        }
    }

    #[test]
    fn the_chunk_size_changes_from_any_chunk_on() {
        let mut plan = Plan::new(Wanted::of(vec![3..47, 50..90]), 8);
        plan.ends_at(1000);
        plan.chunk_size_from(2, 20);
        assert_eq!(
            ranges(&plan),
            [3..8, 8..16, 16..20, 20..40, 40..47, 50..60, 60..80, 80..90]
        );
        assert_eq!(
            (plan.chunk_size(), plan.bytes(), plan.chunks()),
            (20, Some(84), Some(8))
        );
        assert_eq!(
            (plan.bytes_from(4), plan.bytes_from(7), plan.bytes_from(8)),
            (47, 10, 0)
        );
        plan.chunk_size_from(6, 7);
        let after = [60..63, 63..70, 70..77, 77..84, 84..90];
        assert_eq!(ranges(&plan)[..6], [3..8, 8..16, 16..20, 20..40, 40..47, 50..60]);
        assert_eq!(ranges(&plan)[6..], after);
        // What was cut stays so when the end turns out to be nearer.
        plan.ends_at(65);
        assert_eq!(ranges(&plan)[6..], [60..63, 63..65]);
        // Nothing is left to cut.
        plan.chunk_size_from(99, 1);
        assert_eq!(plan.chunk_size(), 7);
    }

    #[test]
    fn random_changes_of_the_chunk_size_lose_no_byte() {
        let mut random = 14_u64;
        let mut next = |most: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % most
        };
        for _ in 0..2000 {
            let total = next(5000);
            let mut plan = Plan::new(Wanted::from(next(100)..), 1 + next(300));
            plan.ends_at(total);
            let mut index = 0;
            let mut at = plan.start();
            while let Some(range) = plan.range(index) {
                assert_eq!(range.start, at);
                assert!(range.start < range.end);
                at = range.end;
                index += 1;
                if next(3) == 0 {
                    plan.chunk_size_from(index, 1 + next(300));
                }
                let left = total.saturating_sub(at);
                assert_eq!(plan.bytes_from(index), left);
            }
            assert_eq!(at, total.max(plan.start()));
            assert_eq!(plan.chunks(), Some(index));
        }
    }

    #[test]
    fn ten_thousand_extents_are_found_fast() {
        let extents: Vec<_> = (0..10_000).map(|i| i * 100..i * 100 + 10).collect();
        let mut plan = Plan::new(Wanted::of(extents.clone()), 1 << 20);
        plan.ends_at(u64::MAX);
        assert_eq!(plan.chunks(), Some(10_000));
        assert_eq!(ranges(&plan), extents);
    }
}
