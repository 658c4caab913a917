//! The content of every shaped object: a pattern that repeats every 513 pages.
//!
//! No power of two is a multiple of the period. A chunk at a wrong offset therefore differs,
//! although the server keeps only 2 MiB.

use std::io;

use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::content::Pattern;

/// Length of the content's period in bytes: 513 pages.
pub(super) const PERIOD: u64 = 513 * 4096;

const PATTERN: Pattern = Pattern::new(14);

/// Writes the bytes from `offset` on into `out`.
pub fn fill(offset: u64, out: &mut [u8]) {
    let mut offset = offset % PERIOD;
    let mut rest = out;
    while !rest.is_empty() {
        let room = usize::try_from(PERIOD - offset).unwrap_or(rest.len());
        let (piece, after) = rest.split_at_mut(room.min(rest.len()));
        PATTERN.fill(offset, piece);
        rest = after;
        offset = 0;
    }
}

/// One period, as a file for `sendfile` and as memory for TLS.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) file: OwnedFd,
    pub(super) memory: Vec<u8>,
}

impl Content {
    pub(super) fn new() -> io::Result<Self> {
        let mut memory = vec![0; usize::try_from(PERIOD).map_err(io::Error::other)?];
        PATTERN.fill(0, &mut memory);
        let file = memfd_create("shaped", MemfdFlags::CLOEXEC)?;
        let mut rest = memory.as_slice();
        while !rest.is_empty() {
            let written = rustix::io::write(&file, rest)?;
            rest = &rest[written..];
        }
        Ok(Self { file, memory })
    }
}
