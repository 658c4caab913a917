//! The journal that an earlier download left beside a part: it is read, and compared with the part.
//!
//! Invariant: nothing counts that does not speak of the very file that is claimed, or that another
//! user has written: who makes others believe that all has landed has them take holes for bytes.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use nix::fcntl::OFlag;
use pget_core::{Error, ErrorKind};

use super::{Journal, SLOT};
use crate::{
    descriptor::above_stdio,
    failure::destination,
    part::lock::{LockedPart, check_is_ours},
};

/// The journal that speaks of the claimed file, if there is one to go on from.
///
/// A journal that speaks of another file is adopted with `adopt`: the caller makes sure that all
/// bytes are verified before the file gets its name.
///
/// # Errors
/// If there is a journal, and bytes that it may speak of, and it does not fit them. To start over
/// would destroy them.
pub(crate) fn earlier(
    locked: &LockedPart,
    path: &Path,
    adopt: bool,
) -> Result<Option<(Journal, File, u64)>, Error> {
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
    let length = locked.file.metadata().map_err(failed)?.len();
    if length == 0 {
        return Ok(None);
    }
    let part = locked.path.display();
    let refused = |message: String| {
        let message = format!("{message}; read without resume to start over");
        Err(Error::new(ErrorKind::Destination, "", message))
    };
    let Some((journal, sequence)) = Journal::read(&bytes[..filled]) else {
        if Journal::is_garbled(&bytes[..filled]) {
            return refused(format!(
                "{} is garbled, so nothing shows what the {length} bytes of {part} are",
                path.display()
            ));
        }
        // There never was a whole entry: nothing is known to have landed.
        return Ok(None);
    };
    if journal.landed.is_empty() {
        return Ok(None);
    }
    let is_another = journal.inode != locked.inode
        || matches!((journal.born, locked.born), (Some(was), Some(is)) if was != is);
    if journal.landed.end().saturating_sub(journal.asked.offset) > length {
        return refused(format!(
            "{part} has only {length} bytes, fewer than {} says that it has",
            path.display()
        ));
    }
    if is_another && !adopt {
        return refused(format!(
            "{part} is not the file that {} speaks of (a copy, or restored), so its bytes cannot be \
             trusted; a read that requires verification (--verify require) can go on with it",
            path.display()
        ));
    }
    // An adopted one goes on to speak of the other file: it is as little known in the next read.
    Ok(Some((journal, file, sequence)))
}

/// Opens a journal for the user alone: it says what they read.
pub(crate) fn open(path: &Path, new: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(new)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)
        .and_then(above_stdio)
}
