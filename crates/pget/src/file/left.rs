//! What an earlier download has left beside a part: its journal's file, read and held against the part. Called by the part.
//!
//! Invariant: nothing counts that does not speak of the very file that is claimed, or that another user has written: who makes others believe that all has landed has them take holes for bytes.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use nix::fcntl::OFlag;
use pget_core::Error;

use super::{
    claim::{Claim, check_is_ours},
    descriptor::not_standard,
    destination,
    journal::{Journal, SLOT},
};

/// The journal that speaks of the claimed file, if it is whole.
pub(super) fn earlier(claim: &Claim, path: &Path) -> Result<Option<(Journal, File, u64)>, Error> {
    let failed = |cause| destination(path, "cannot be read", cause);
    let file = match open(path, false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(failed(cause)),
    };
    // Not its mode, which some file systems make up.
    check_is_ours(path, &file.metadata().map_err(failed)?, true)?;
    let mut bytes = vec![0; 2 * SLOT];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(failed(cause)),
        }
    }
    let Some((journal, sequence)) = Journal::read(&bytes[..filled]) else {
        return Ok(None);
    };
    let length = claim.file.metadata().map_err(failed)?.len();
    let speaks_of_it =
        journal.inode == claim.inode && journal.landed.end().saturating_sub(journal.asked.offset) <= length;
    Ok((speaks_of_it && !journal.landed.is_empty()).then_some((journal, file, sequence)))
}

/// For the user alone: it tells what they read.
pub(super) fn open(path: &Path, new: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(new)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)
        .and_then(not_standard)
}
