//! Other systems: nothing is reserved, attributes are unknown, and an event is a pair of sockets.

use std::{
    fs::File,
    io::Write,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
};

use nix::{errno::Errno, unistd::geteuid};
use rustix::fs::fstatvfs;

use super::{Attributes, Length, Space};

/// Reserves nothing: the file grows as it is written.
pub(crate) fn allocate(_file: &File, _offset: i64, _length: i64, _size: Length) -> nix::Result<()> {
    Err(Errno::EOPNOTSUPP)
}

/// Returns what the file system of `file` reports, if it does.
pub(crate) fn space(file: &File) -> Option<Space> {
    let system = fstatvfs(file).ok()?;
    let blocks = if geteuid().is_root() {
        system.f_bfree
    } else {
        system.f_bavail
    };
    Some(Space {
        free: (system.f_blocks > 0).then_some(blocks.saturating_mul(system.f_frsize)),
        is_memory: false,
    })
}

/// Returns no attribute. The rename reports what forbids it.
pub(crate) fn attributes(_path: &Path) -> Attributes {
    Attributes::default()
}

/// Refuses: no call writes back one file system.
pub(crate) fn sync_file_system(_file: &File) -> nix::Result<()> {
    Err(Errno::EOPNOTSUPP)
}

/// Is readable once it was signalled.
pub(crate) struct Event {
    read: UnixStream,
    write: UnixStream,
}

impl Event {
    pub(crate) fn new() -> rustix::io::Result<Self> {
        let failed =
            |error: std::io::Error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
        let (read, write) = UnixStream::pair().map_err(failed)?;
        write.set_nonblocking(true).map_err(failed)?;
        Ok(Self { read, write })
    }

    pub(crate) fn signal(&self) {
        // It fails only when the buffer is full, which is a wake-up as well.
        (&self.write).write(&[1]).ok();
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}
