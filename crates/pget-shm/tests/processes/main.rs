//! Segments between real processes: one fills them, and others read.
//!
//! The tests include kills, forks, full devices and planted files.

mod death;
mod host;
mod names;
mod other;
mod reading;
mod reuse;
mod ring;
mod space;

/// Returns the object's byte at an offset.
pub(crate) fn byte(offset: usize) -> u8 {
    let mixed = (offset as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed.to_be_bytes()[2]
}

pub(crate) fn content(length: usize) -> Vec<u8> {
    (0..length).map(byte).collect()
}

/// Returns a sum that depends on each byte and its place (FNV-1a).
pub(crate) fn digest(bytes: &[u8], so_far: u64) -> u64 {
    bytes.iter().fold(so_far, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

pub(crate) const DIGEST: u64 = 0xcbf2_9ce4_8422_2325;

/// Returns a name in `/dev/shm` that no other test uses.
pub(crate) fn fresh_name(what: &str) -> String {
    format!("pget-test-{}-{what}", std::process::id())
}

pub(crate) fn is_there(name: &str) -> bool {
    let there = |file: String| std::fs::symlink_metadata(format!("/dev/shm/{file}")).is_ok();
    there(name.to_owned()) || there(format!("{name}.pget"))
}
