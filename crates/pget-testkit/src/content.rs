//! The content of test objects: each byte is computed from its offset.
//!
//! A server can therefore serve an object of any size, and a test can check it, without keeping it.
//!
//! Invariants:
//! - An object is a sequence of 64-bit little-endian words. Word `i` is a bijection of `i` that
//!   depends on the seed.
//! - No two words of one object are equal. Data at a wrong offset therefore differs from the right
//!   data in practically every word.
//! - Two seeds are two revisions of an object.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Bytes of a word.
const WORD: u64 = 8;
/// Step between words: the odd constant of splitmix64. It spreads neighbouring indices over all 64
/// bits.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// An endless test object: the byte at each `u64` offset is a function of the seed and the offset.
///
/// A `Pattern` is cheap to copy and can be used from any thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// Chooses the object. Another seed is another revision of it.
    pub seed: u64,
}

impl Pattern {
    /// Returns the object of this seed.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Returns the byte at `offset`.
    pub const fn byte(&self, offset: u64) -> u8 {
        self.word(offset / WORD)[(offset % WORD) as usize]
    }

    /// Writes the bytes from `offset` on into `out`. Offsets past `u64::MAX` wrap to 0.
    pub fn fill(&self, offset: u64, out: &mut [u8]) {
        let (head, rest) = out.split_at_mut(head_length(offset, out.len()));
        self.fill_bytes(offset, head);
        let offset = offset.wrapping_add(head.len() as u64);
        let mut index = offset / WORD;
        let (words, tail) = rest.as_chunks_mut::<8>();
        let whole = (words.len() as u64).wrapping_mul(WORD);
        for word in words {
            *word = self.word(index);
            index = index.wrapping_add(1);
        }
        self.fill_bytes(offset.wrapping_add(whole), tail);
    }

    /// Returns `length` bytes from `offset` on.
    pub fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        self.fill(offset, &mut out);
        out
    }

    /// Compares `data` with the object's bytes at `offset`.
    ///
    /// # Errors
    /// Returns the object offset of the first wrong byte.
    pub fn check(&self, offset: u64, data: &[u8]) -> Result<(), u64> {
        let mut expected = [0; 4096];
        let mut at = offset;
        for piece in data.chunks(expected.len()) {
            let expected = &mut expected[..piece.len()];
            self.fill(at, expected);
            if let Some(wrong) = (expected != piece)
                .then(|| expected.iter().zip(piece).position(|(e, p)| e != p))
                .flatten()
            {
                return Err(at.wrapping_add(wrong as u64));
            }
            at = at.wrapping_add(piece.len() as u64);
        }
        Ok(())
    }

    /// Returns the SHA-256 of the first `length` bytes, in lower-case hex.
    pub fn sha256(&self, length: u64) -> String {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        let mut at = 0;
        while at < length {
            let piece = usize::try_from(length - at).map_or(buffer.len(), |rest| rest.min(buffer.len()));
            self.fill(at, &mut buffer[..piece]);
            hasher.update(&buffer[..piece]);
            at += piece as u64;
        }
        hex(&hasher.finalize())
    }

    /// Returns the word at `index`.
    ///
    /// Each step (addition, xor of a shift, multiplication by an odd number) can be undone. The
    /// function is therefore a bijection of `index`.
    #[inline]
    const fn word(&self, index: u64) -> [u8; 8] {
        let seed = self.seed.wrapping_add(1).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let mut z = seed.wrapping_add(index.wrapping_mul(STEP));
        z = (z ^ (z >> 32)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ (z >> 29)).to_le_bytes()
    }

    fn fill_bytes(&self, offset: u64, out: &mut [u8]) {
        let mut at = offset;
        for byte in out {
            *byte = self.byte(at);
            at = at.wrapping_add(1);
        }
    }
}

/// Returns the SHA-256 of `data`, in lower-case hex.
pub fn sha256(data: &[u8]) -> String {
    hex(&Sha256::digest(data))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// Returns the number of bytes before the next word boundary, at most `length`.
fn head_length(offset: u64, length: usize) -> usize {
    let head = (WORD - offset % WORD) % WORD;
    // `head` is below 8.
    usize::try_from(head).map_or(length, |head| head.min(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERN: Pattern = Pattern::new(7);

    #[test]
    fn fill_is_byte_at_every_alignment() {
        for offset in (0..17).chain((1 << 40) - 9..(1 << 40) + 9) {
            for length in 0..40 {
                let filled = PATTERN.bytes(offset, length);
                let expected: Vec<u8> = (offset..).take(length).map(|at| PATTERN.byte(at)).collect();
                assert_eq!(filled, expected, "offset {offset}, length {length}");
            }
        }
    }

    #[test]
    fn the_highest_offsets_exist() {
        let out = PATTERN.bytes(u64::MAX - 15, 16);
        assert_eq!(out[15], PATTERN.byte(u64::MAX));
        assert_eq!(PATTERN.check(u64::MAX - 15, &out), Ok(()));
    }

    #[test]
    fn a_shift_of_any_power_of_two_is_noticed_at_once() {
        for offset in [0, 1, 4096, 1 << 33] {
            let data = PATTERN.bytes(offset, 1024);
            for shift in 0..=40 {
                let wrong = PATTERN.check(offset + (1 << shift), &data);
                let first = wrong.expect_err("shifted data must differ");
                assert!(
                    first < offset + (1 << shift) + 8,
                    "shift 2^{shift} noticed only at {first}"
                );
            }
        }
    }

    #[test]
    fn no_word_repeats() {
        let mut words: Vec<[u8; 8]> = (0..1 << 16).map(|index| PATTERN.word(index)).collect();
        words.sort_unstable();
        assert!(words.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn check_names_the_first_wrong_offset() {
        let mut data = PATTERN.bytes(5, 10_000);
        assert_eq!(PATTERN.check(5, &data), Ok(()));
        data[9_000] ^= 1;
        data[7_777] ^= 0x80;
        assert_eq!(PATTERN.check(5, &data), Err(5 + 7_777));
    }

    #[test]
    fn seeds_differ() {
        assert!(Pattern::new(8).check(0, &PATTERN.bytes(0, 8)).is_err());
        assert!(
            Pattern::new(u64::MAX)
                .check(0, &Pattern::new(0).bytes(0, 8))
                .is_err()
        );
    }

    #[test]
    fn sha256_is_that_of_the_bytes() {
        assert_eq!(
            PATTERN.sha256(0),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(PATTERN.sha256(100_001), sha256(&PATTERN.bytes(0, 100_001)));
    }

    /// Measures the speed of `fill`. Run it with `--release -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement, not a check"]
    fn fill_speed() {
        let mut buffer = vec![0; 1 << 18];
        let start = std::time::Instant::now();
        for round in 0..16_384 {
            PATTERN.fill(round << 18, &mut buffer);
            std::hint::black_box(&mut buffer);
        }
        println!("{:.1} GiB/s", 4.0 / start.elapsed().as_secs_f64());
    }
}
