//! Which range length suits a chunked object. Pure; called by the source.
//!
//! HEAD reports the number of an object's chunks and the size of the largest (`Ais-Chunks-Count`,
//! `Ais-Chunks-Max-Chunk-Size`). Chunks may be uneven; only if count == ⌈size / largest⌉ do ranges
//! of that length align with them.

/// Chunks can be 1 GiB and more. A range longer than this would hold too much memory, fall out of
/// the processor's cache, and leave the other connections idle while the last ones, or a
/// straggler's, are waited for (docs/benchmarks.md, "The end of a download"); the parts of a chunk
/// still lie within it.
pub(crate) const LARGEST: u64 = 16 << 20;

/// Ranges shorter than this cost more requests than alignment saves.
const SMALLEST: u64 = 4 << 20;

/// The range length for an object of `size` bytes in `count` chunks, the largest of `largest`
/// bytes; `None` if none aligns.
pub(crate) fn range_length(size: u64, count: u64, largest: u64) -> Option<u64> {
    if largest == 0 || count != size.div_ceil(largest) {
        return None;
    }
    if largest < SMALLEST {
        return Some(largest * SMALLEST.div_ceil(largest));
    }
    // The smallest number of equal parts that are short enough, if the chunk divides so; not looked
    // for any further than that is likely.
    let parts = largest.div_ceil(LARGEST);
    let part = (parts..=parts * 4)
        .take(1024)
        .find(|parts| largest.is_multiple_of(*parts))
        .map(|parts| largest / parts);
    Some(part.unwrap_or(LARGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn even_chunks_set_the_range_length() {
        assert_eq!(range_length(96 * MIB, 8, 12 * MIB), Some(12 * MIB));
        assert_eq!(
            range_length(90 * MIB, 8, 12 * MIB),
            Some(12 * MIB),
            "the last may be shorter"
        );
    }

    #[test]
    fn uneven_chunks_do_not() {
        assert_eq!(range_length(10 * MIB, 4, 4 * MIB), None);
        assert_eq!(range_length(10, 1, 0), None);
    }

    #[test]
    fn the_length_is_capped_and_still_aligns() {
        assert_eq!(range_length(4096 * MIB, 4, 1024 * MIB), Some(16 * MIB));
        assert_eq!(range_length(256 * MIB, 8, 32 * MIB), Some(16 * MIB));
        assert_eq!(range_length(300 * MIB, 3, 100 * MIB), Some(25 * MIB / 2));
        assert_eq!(range_length(10 * MIB, 10, MIB), Some(4 * MIB));
        assert_eq!(range_length(10 * MIB, 1, 1 << 40), Some(16 * MIB));
    }

    #[test]
    fn absurd_chunks_cost_no_time() {
        assert_eq!(range_length(u64::MAX, 1, u64::MAX), Some(LARGEST));
        assert_eq!(range_length(u64::MAX, u64::MAX, 1), Some(SMALLEST));
        assert_eq!(range_length(0, 0, 1), Some(SMALLEST));
    }
}
