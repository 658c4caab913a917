//! The expected content of a read, and a check of memory against it.

use crate::content::Pattern;

/// Bytes after the object, which a download must not touch.
const MARGIN: usize = 4096;
/// The value of every byte of the memory before a run.
const UNTOUCHED: u8 = 0xa5;

/// The expected content of a read: `size` bytes of `pattern` from `offset` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The object's content.
    pub pattern: Pattern,
    /// Offset in the object of the first byte read.
    pub offset: u64,
    /// Number of bytes read.
    pub size: u64,
}

/// Returns memory for `size` bytes, followed by the margin.
pub(super) fn blank(size: u64) -> Vec<u8> {
    let size = usize::try_from(size).expect("small");
    vec![UNTOUCHED; size + MARGIN]
}

/// Checks that each byte is the object's, and that the margin is untouched.
///
/// If the read is not complete, bytes of the object may also be untouched.
pub(super) fn memory_is_right(buffer: &[u8], expected: Expected, complete: bool) -> Result<(), String> {
    let (object, margin) = buffer.split_at(buffer.len() - MARGIN);
    if margin.iter().any(|byte| *byte != UNTOUCHED) {
        return Err("bytes were written after the object".into());
    }
    let right = expected.pattern.bytes(expected.offset, object.len());
    let wrong = (object.iter().zip(&right)).position(|(is, due)| is != due && (complete || *is != UNTOUCHED));
    wrong.map_or(Ok(()), |at| Err(format!("byte {at} of the memory is wrong")))
}
