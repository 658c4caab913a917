//! A part that is this process's alone: opened or made, and locked.
//!
//! Invariant: while a [`LockedPart`] lives, no other pget writes to its file. The lock is
//! `flock`'s, of the open file: it goes with the last descriptor, however the process ends. Where a
//! file system has no locks, or does not permit them, what was there before is refused. Its path is
//! the file's when it is taken, and as long as only pget touches either. Since any process may
//! remove or replace it, a rename or removal by the path is preceded by a look whether it [is still
//! that](LockedPart::is_still_named). What is left is the moment between the look and the deed.
//! Called by the part.

use std::{
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use nix::{fcntl::OFlag, unistd::geteuid};
use pget_core::Error;

use crate::{descriptor::above_stdio, failure::destination};

/// Another pget may finish between two steps of ours; so often in a row, something else is at work.
const TURNS: u32 = 100;

/// An open and locked file.
#[derive(Debug)]
pub(crate) struct LockedPart {
    pub(crate) file: Arc<File>,
    pub(crate) path: PathBuf,
    device: u64,
    pub(crate) inode: u64,
    /// When it was made, in nanoseconds since 1970, where the file system keeps that.
    pub(crate) born: Option<u64>,
    /// It was there before.
    pub(crate) existed: bool,
    /// Whether the file system has locks.
    pub(crate) is_locked: bool,
}

impl LockedPart {
    /// Opens what is at `path`, or makes it with what the process's umask leaves of `mode`. Its
    /// content is left as it is.
    pub(crate) fn take(path: &Path, mode: u32) -> Result<Self, Error> {
        for _ in 0..TURNS {
            let (file, existed) = match open(path, None) {
                Ok(file) => (file, true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => match open(path, Some(mode)) {
                    Ok(file) => (file, false),
                    // Another process has made it since.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                    Err(cause) => return Err(destination(path, "cannot be created", cause)),
                },
                Err(cause) => return Err(destination(path, "cannot be opened", cause)),
            };
            let meta = file
                .metadata()
                .map_err(|cause| destination(path, "cannot be looked at", cause))?;
            // Two at a time would mix their bytes in one part.
            let is_locked = match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => {
                    let cause = io::ErrorKind::WouldBlock.into();
                    return Err(destination(path, "is being written by another pget", cause));
                }
                // The process that made it is alone with it: no other takes what is there.
                Err(TryLockError::Error(_)) if !existed => false,
                Err(TryLockError::Error(cause)) => {
                    let what = "cannot be locked on this file system, and another pget may be writing it; remove it first";
                    return Err(destination(path, what, cause));
                }
            };
            // Between the open and the lock, the other process may have finished: then this file is
            // its result.
            if !is_named(path, (meta.dev(), meta.ino())) {
                continue;
            }
            check_is_ours(path, &meta, existed)?;
            return Ok(Self {
                file: Arc::new(file),
                path: path.to_owned(),
                device: meta.dev(),
                inode: meta.ino(),
                born: born(&meta),
                existed,
                is_locked,
            });
        }
        let cause = io::ErrorKind::AlreadyExists.into();
        Err(destination(path, "is replaced again and again", cause))
    }

    /// Whether the path still is this file's.
    pub(crate) fn is_still_named(&self) -> bool {
        is_named(&self.path, (self.device, self.inode))
    }
}

/// # Errors
/// If the file at `path`, which is open and is `meta`, is not this user's alone.
pub(crate) fn check_is_ours(path: &Path, meta: &Metadata, existed: bool) -> Result<(), Error> {
    let refused = |what: &str| Err(destination(path, what, io::ErrorKind::AlreadyExists.into()));
    if !meta.is_file() {
        return refused("is in the way and no plain file");
    }
    // What another user made stays theirs to change after we took it; what has a second name is
    // more than ours.
    if existed && meta.uid() != geteuid().as_raw() {
        return refused("belongs to another user; remove it first");
    }
    if meta.nlink() > 1 {
        return refused("is in the way and has another name, too");
    }
    Ok(())
}

fn born(meta: &Metadata) -> Option<u64> {
    let since = meta.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    // The half of all numbers lasts until the year 2262.
    i64::try_from(since.as_nanos()).ok()?.try_into().ok()
}

/// Whether `path` is the name of the file with this device and inode number, which is open, so that
/// no other one has them.
pub(crate) fn is_named(path: &Path, file: (u64, u64)) -> bool {
    fs::symlink_metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == file)
}

/// Opens it, or makes it with a mode.
fn open(path: &Path, new: Option<u32>) -> io::Result<File> {
    let mut how = OpenOptions::new();
    how.read(true)
        .write(true)
        .create_new(new.is_some())
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    if let Some(mode) = new {
        how.mode(mode);
    }
    how.open(path).and_then(above_stdio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_the_next_takes_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x");
        let first = LockedPart::take(&path, 0o666).expect("it is free");
        assert!(!first.existed);
        let refused = LockedPart::take(&path, 0o666)
            .expect_err("it is taken")
            .to_string();
        assert!(refused.contains("another pget"), "{refused}");
        // The first is done: its file has another name now, and the path is free.
        fs::rename(&path, folder.path().join("y")).expect("renamed");
        assert!(!first.is_still_named(), "there is nothing");
        let second = LockedPart::take(&path, 0o666).expect("it is free");
        assert!(!second.existed && second.inode != first.inode);
        assert!(second.is_still_named() && !first.is_still_named());
        drop((first, second));
        assert!(LockedPart::take(&path, 0o666).expect("it is free").existed);
    }

    #[test]
    fn many_that_make_and_remove_it_never_hold_one_file_together() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x");
        let (path, holders) = (&path, &std::sync::atomic::AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    let mut taken = 0;
                    for _ in 0..20_000 {
                        if let Ok(locked) = LockedPart::take(path, 0o666) {
                            use std::sync::atomic::Ordering::SeqCst;
                            assert_eq!(holders.fetch_add(1, SeqCst), 0, "alone");
                            taken += 1;
                            assert_eq!(holders.fetch_sub(1, SeqCst), 1, "alone");
                            fs::remove_file(path).expect("it is there");
                            drop(locked);
                        }
                    }
                    assert!(taken > 0);
                });
            }
        });
    }

    #[test]
    fn what_has_a_second_name_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, other) = (folder.path().join("x"), folder.path().join("other"));
        fs::write(&other, "kept").expect("a file");
        fs::hard_link(&other, &path).expect("a link");
        let refused = LockedPart::take(&path, 0o666)
            .expect_err("it is more than a part")
            .to_string();
        assert!(refused.contains("another name"), "{refused}");
        assert_eq!(fs::read(&other).expect("a file"), b"kept");
    }
}
