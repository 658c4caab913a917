//! The journal beside a part, as a file: opened, owned, made unreadable, removed.
//!
//! Invariant: [`JournalFile::remove_own`] removes no journal of another download.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use pget_core::Error;

use super::lock::is_named;
use crate::{
    failure::destination,
    journal::{SLOT, reader::open},
    system::{Length, allocate},
};

/// Bytes of each of a journal's slots that are reserved, so that a full disk still takes an entry.
const RESERVED: i64 = 64 << 10;

/// The name of a journal, and which file under that name is this download's.
#[derive(Debug)]
pub(super) struct JournalFile {
    path: PathBuf,
    /// Device and inode number of the journal that is written to.
    own: OnceLock<(u64, u64)>,
}

impl JournalFile {
    pub(super) fn new(path: PathBuf) -> Self {
        let own = OnceLock::new();
        Self { path, own }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Remembers that `file` is this download's journal.
    pub(super) fn own(&self, file: &File) -> io::Result<()> {
        let meta = file.metadata()?;
        self.own.get_or_init(|| (meta.dev(), meta.ino()));
        Ok(())
    }

    /// Makes an earlier journal unreadable before it is removed, as the removal may not be on the
    /// disk when the machine crashes: not every folder can be synced.
    pub(super) fn garble(&self) {
        let Ok(journal) = open(&self.path, false) else {
            return;
        };
        let garbled = journal.set_len(0).and_then(|()| journal.sync_data());
        if let Err(error) = garbled {
            tracing::debug!(%error, journal = %self.path.display(), "is removed without being emptied");
        }
    }

    /// Removes the journal. Returns whether there was one.
    pub(super) fn remove(&self) -> Result<bool, Error> {
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(cause) => Err(destination(&self.path, "cannot be removed", cause)),
        }
    }

    /// Removes the journal if it is this download's: once the part has lost its name, the next
    /// download may have begun.
    pub(super) fn remove_own(&self) {
        let own = self.own.get();
        if own.is_some_and(|own| is_named(&self.path, *own))
            && let Err(error) = self.remove()
        {
            tracing::debug!(error = error.to_line(), "a journal stays, and is of no use");
        }
    }
}

/// Keeps room for an entry in each of a journal's slots, as far as that is possible.
pub(super) fn reserve_entries(journal: &File) {
    let second = i64::try_from(SLOT).unwrap_or_default();
    for at in [0, second] {
        if let Err(error) = allocate(journal, at, RESERVED, Length::Stays) {
            tracing::trace!(%error, "no room is kept for a journal's entry");
        }
    }
}
