//! Linux: `fallocate`, `fstatfs`, `statx`, `syncfs` and `eventfd`.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use nix::{
    fcntl::{FallocateFlags, fallocate},
    sys::statfs::{FUSE_SUPER_MAGIC, TMPFS_MAGIC, fstatfs},
    unistd::{geteuid, syncfs},
};
use rustix::{
    event::{EventfdFlags, eventfd},
    fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx},
};

use super::{Attributes, Length, Space};

/// Reserves `length` bytes of `file` from `offset` on.
///
/// Not `posix_fallocate`, which writes to each block where nothing else is supported.
pub(crate) fn allocate(file: &File, offset: i64, length: i64, size: Length) -> nix::Result<()> {
    let flags = match size {
        Length::Grows => FallocateFlags::empty(),
        Length::Stays => FallocateFlags::FALLOC_FL_KEEP_SIZE,
    };
    fallocate(file, flags, offset, length)
}

/// Returns what the file system of `file` reports, if it does.
pub(crate) fn space(file: &File) -> Option<Space> {
    let system = fstatfs(file).ok()?;
    let blocks = if geteuid().is_root() {
        system.blocks_free()
    } else {
        system.blocks_available()
    };
    let block = u64::try_from(system.block_size()).unwrap_or(1);
    // A file system that does not know its size says 0, and one in user space may say anything.
    let knows = system.blocks() > 0 && system.filesystem_type() != FUSE_SUPER_MAGIC;
    Some(Space {
        free: knows.then_some(blocks.saturating_mul(block)),
        is_memory: system.filesystem_type() == TMPFS_MAGIC,
    })
}

/// Returns the attributes of the file that `path` names; a symbolic link is not followed.
pub(crate) fn attributes(path: &Path) -> Attributes {
    let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
        .map_or(StatxAttributes::empty(), |found| found.stx_attributes);
    Attributes {
        is_immutable: found.contains(StatxAttributes::IMMUTABLE),
        is_append_only: found.contains(StatxAttributes::APPEND),
        is_mount_point: found.contains(StatxAttributes::MOUNT_ROOT),
    }
}

/// Writes back everything of the file system that `file` is in.
pub(crate) fn sync_file_system(file: &File) -> nix::Result<()> {
    syncfs(file)
}

/// Is readable once it was signalled.
pub(crate) struct Event(OwnedFd);

impl Event {
    pub(crate) fn new() -> rustix::io::Result<Self> {
        eventfd(0, EventfdFlags::CLOEXEC).map(Self)
    }

    pub(crate) fn signal(&self) {
        // It fails only when the counter is full, which is a wake-up as well.
        rustix::io::write(&self.0, &1_u64.to_ne_bytes()).ok();
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
