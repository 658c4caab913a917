//! The files of the folder of shared memory, by their names.
//!
//! Invariant: what is opened is a plain file of this user's that no other user may read, reached by
//! no link; a name is removed only if it stands for the file that is meant.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, fstat, linkat, open, openat, statat, unlinkat},
    io::Errno,
    process::geteuid,
};

use crate::{
    descriptors::no_standard_stream,
    layout::COMPANION,
    name::{FOLDER, Posix},
};

pub(crate) fn open_folder() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(open(FOLDER, flags, Mode::empty())?)
}

/// The companion of `posix`, if it is one of this user's and no other user may read it.
pub(crate) fn open_companion(folder: &OwnedFd, posix: &Posix, access: OFlags) -> io::Result<Option<File>> {
    let Some(file) = open_own(folder, &posix.companion(), access)? else {
        return Ok(None);
    };
    let stat = fstat(&file)?;
    // A page that is not there would be made by the look at it, and that is SIGBUS on a full
    // device.
    if stat.st_size != COMPANION as i64 || stat.st_blocks == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "what stands beside it was not made by pget",
        ));
    }
    Ok(Some(file))
}

/// A file of the folder: plain, this user's, private, with one name, reached by no link.
pub(crate) fn open_own(folder: impl AsFd, name: &str, access: OFlags) -> io::Result<Option<File>> {
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => no_standard_stream(file)?,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(refused("it is a symbolic link")),
        Err(error) => return Err(error.into()),
    };
    let stat = fstat(&file)?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(refused("it is no plain file"));
    }
    if stat.st_uid != geteuid().as_raw() {
        return Err(refused("it belongs to another user"));
    }
    if mode.intersects(Mode::RWXG | Mode::RWXO) {
        return Err(refused("others may read or write it"));
    }
    match stat.st_nlink {
        // Removed between the open and the look.
        0 => Ok(None),
        1 => Ok(Some(file)),
        _ => Err(refused("it has other names, too")),
    }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why.to_owned())
}

/// Names `file`, which has no name yet.
pub(crate) fn give_name(file: impl AsFd, folder: &OwnedFd, name: &str) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    Ok(linkat(CWD, path, folder, name, AtFlags::SYMLINK_FOLLOW)?)
}

/// Removes `name` if it stands for `file`.
pub(crate) fn take_name(file: impl AsFd, folder: &OwnedFd, name: &str) -> io::Result<()> {
    let own = fstat(file)?;
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(named) if (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino) => {
            Ok(unlinkat(folder, name, AtFlags::empty())?)
        }
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
