//! What the micro-benchmarks (`benches/micro`) measure and the crate does not export. In no other
//! build.

use crate::head::HeadScanner;

/// Parses the head at the front of `received`. Returns its length, or `None` if it is incomplete or
/// invalid.
#[must_use]
pub fn head(received: &[u8]) -> Option<usize> {
    let scanned = HeadScanner::default().scan(received).ok()?;
    scanned.map(|(_, length)| length)
}
