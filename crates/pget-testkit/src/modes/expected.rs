//! What should be read, and a check of memory against it.

use crate::content::Pattern;

/// Bytes behind the object, which nobody may touch.
const MARGIN: usize = 4096;
/// What memory holds before a run.
const UNTOUCHED: u8 = 0xa5;

/// What should be read: `size` bytes of `pattern` from `offset` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The object's content.
    pub pattern: Pattern,
    /// The object's offset of the first byte read.
    pub offset: u64,
    /// How many bytes.
    pub size: u64,
}

/// Memory for `size` bytes, with the margin behind them.
pub(super) fn blank(size: u64) -> Vec<u8> {
    let size = usize::try_from(size).expect("small");
    vec![UNTOUCHED; size + MARGIN]
}

/// Each byte is the object's or, unless it is complete, untouched; and nothing is behind it.
pub(super) fn memory_is_right(buffer: &[u8], expected: Expected, complete: bool) -> Result<(), String> {
    let (object, margin) = buffer.split_at(buffer.len() - MARGIN);
    if margin.iter().any(|byte| *byte != UNTOUCHED) {
        return Err("bytes behind the object".into());
    }
    let right = expected.pattern.bytes(expected.offset, object.len());
    let wrong = (object.iter().zip(&right)).position(|(is, due)| is != due && (complete || *is != UNTOUCHED));
    wrong.map_or(Ok(()), |at| Err(format!("byte {at} of the memory is wrong")))
}
