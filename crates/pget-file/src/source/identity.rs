//! The identity of a file's content. Pure, except for the `fstat`.

use std::{fs::File, io, os::unix::fs::MetadataExt};

use pget_core::Revision;

/// A file's identity at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// Of the inode; it cannot be set back as `modified` can.
    changed: (i64, i64),
}

impl Identity {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let data = file.metadata()?;
        Ok(Self {
            device: data.dev(),
            inode: data.ino(),
            size: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn revision(&self) -> Revision {
        let Self {
            device,
            inode,
            size,
            modified,
            changed,
        } = self;
        let version = format!(
            "{device:x}-{inode:x}-{size:x}-{}.{:09}-{}.{:09}",
            modified.0, modified.1, changed.0, changed.1
        );
        Revision {
            version: Some(version),
            ..Revision::default()
        }
    }
}
