//! What dead creators left in `/dev/shm`.
//!
//! Invariant: a segment is removed only when its creator's lock is free (no process ever takes that
//! again), by who holds the sweepers' lock, after a look that the companion's name still stands for
//! the file that is locked: of two sweepers one removes, the other waits for it, and neither
//! removes what was made under the same name since.

use std::{fs::File, io, os::fd::OwnedFd, time::Duration};

use pget_core::{Error, ErrorKind};
use rustix::fs::{AtFlags, OFlags, fstat, statat, unlinkat};

use crate::{
    folder::{open_companion, open_folder, take_name},
    layout::{COMPANION, Companion},
    lock::{self, Byte},
    mapping::{Mapped, Mapping},
    name::{FOLDER, Posix},
    state::{self, State},
};

/// A named segment of this user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// Its name, without a slash.
    pub name: String,
    /// Bytes of the object; the highest number for a ring, whose stream has no length before its
    /// end.
    pub length: u64,
    /// So many from its start on are there.
    pub available: u64,
    /// How the filling stands; failed, too, if the creator has died.
    pub state: State,
    /// Whether the creator lives. If not, the next named creation or [`sweep`] removes it.
    pub alive: bool,
    /// Which content of the object it is, for people.
    pub revision: String,
}

/// Removes the named segments of this user whose creators are dead; returns their names. Each
/// creation of a named segment does the same first. Any thread.
///
/// # Errors
/// [`Destination`](ErrorKind::Destination) if `/dev/shm` cannot be read.
pub fn sweep() -> Result<Vec<String>, Error> {
    let mut removed = Vec::new();
    each(|folder, posix, file| {
        if remove(folder, posix, file)? {
            tracing::debug!(name = posix.data(), "removed what a dead process left");
            removed.push(posix.data().to_owned());
        }
        Ok(())
    })?;
    Ok(removed)
}

/// The named segments of this user. Any thread.
///
/// # Errors
/// As [`sweep`].
pub fn list() -> Result<Vec<Listed>, Error> {
    let mut all = Vec::new();
    each(|_, posix, file| {
        let companion = companion_of(file)?;
        let alive = lock::is_held(file, Byte::Alive)?;
        all.push(Listed {
            name: posix.data().to_owned(),
            length: companion.length(),
            available: companion.watermark(),
            state: state::state(&companion, || alive),
            alive,
            revision: companion.revision(),
        });
        Ok(())
    })?;
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

/// Shows every companion to `look`. One that cannot be looked at is left alone.
fn each(mut look: impl FnMut(&OwnedFd, &Posix, &File) -> io::Result<()>) -> Result<(), Error> {
    let failed = |cause: io::Error| {
        Error::with_cause(ErrorKind::Destination, "", format!("cannot read {FOLDER}"), cause)
    };
    let folder = open_folder().map_err(failed)?;
    for entry in std::fs::read_dir(FOLDER).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(posix) = entry.file_name().to_str().and_then(Posix::of_companion) else {
            continue;
        };
        let looked = match open_companion(&folder, &posix, OFlags::RDWR) {
            Ok(Some(file)) => look(&folder, &posix, &file),
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        if let Err(error) = looked {
            tracing::trace!(name = posix.data(), %error, "left alone");
        }
    }
    Ok(())
}

fn companion_of(file: &File) -> io::Result<Mapped<Companion>> {
    let companion = Mapped::<Companion>::new(Mapping::readable(file, COMPANION)?)?;
    companion.check(None)?;
    Ok(companion)
}

/// Takes the sweepers' lock. Another one has it for a moment, or was stopped with it: then its work
/// is left to it.
fn waited_for_others(file: &File) -> io::Result<bool> {
    for _ in 0..100 {
        if lock::alone(file, Byte::Swept)? {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(false)
}

fn remove(folder: &OwnedFd, posix: &Posix, file: &File) -> io::Result<bool> {
    let companion = companion_of(file)?;
    if lock::is_held(file, Byte::Alive)? || !waited_for_others(file)? {
        return Ok(false);
    }
    let own = fstat(file)?;
    let name = posix.companion();
    match statat(folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(named) if (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino) => {}
        _ => return Ok(false),
    }
    // Another program may have made a segment of this name when the creator was killed before it
    // got to it.
    match statat(folder, posix.data(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(data) if data.st_dev == own.st_dev && data.st_ino == companion.inode() => {
            unlinkat(folder, posix.data(), AtFlags::empty())?;
        }
        _ => {}
    }
    take_name(file, folder, &name)?;
    Ok(true)
}
