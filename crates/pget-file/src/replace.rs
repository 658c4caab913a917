//! The file that a finished one replaces: whether it can be replaced, and what of it is kept.
//!
//! [`Standing::of`] looks at it before anything is fetched. [`Standing::dress`] sets owner, access
//! list and mode of the finished part; then [`publish`] renames the part, or copies it into place
//! where a name cannot be replaced.
//!
//! Invariants:
//! - A part, and the file that it becomes, can be read only by users who could read the file
//!   before.
//! - A file is overwritten in place only after the part is complete.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Seek},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    unistd::{close, geteuid},
};
use pget_core::Error;
use rustix::fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr, lgetxattr};

use crate::{
    descriptor::above_stdio,
    failure::destination,
    names::folder_of,
    refusal::is_refusal,
    system::{Length, allocate, attributes},
    warnings::Warnings,
};

/// The name of a file's access list (acl(5)).
const ACCESS_LIST: &str = "system.posix_acl_access";
/// The most bytes of an extended attribute (xattr(7)).
const LONGEST_ATTRIBUTE: usize = 64 << 10;
const PERMISSIONS: u32 = 0o777;
const GROUP: u32 = 0o070;
/// Read and write for all, of which the process's umask leaves some.
const USUAL: u32 = 0o666;
/// What a part's owner must be able to do.
const OWNER: u32 = 0o600;

/// What has the target's name.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Of the file itself. Of a symbolic link, what it points to.
    meta: Metadata,
    is_link: bool,
    access_list: Option<Vec<u8>>,
}

impl Standing {
    /// # Errors
    /// If it can neither be replaced nor be overwritten.
    pub(crate) fn of(target: &Path) -> Result<Option<Self>, Error> {
        let failed = |cause| destination(target, "cannot be looked at", cause);
        let named = match fs::symlink_metadata(target) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(failed(cause)),
        };
        let is_link = named.is_symlink();
        check(target, &named)?;
        let meta = if is_link { fs::metadata(target) } else { Ok(named) };
        let Ok(meta) = meta else {
            // It points to nothing.
            return Ok(None);
        };
        if !meta.is_file() {
            return Ok(None);
        }
        let access_list = if is_link { None } else { access_list(target) };
        Ok(Some(Self {
            meta,
            is_link,
            access_list,
        }))
    }

    /// The mode that a new part is made with, of which the umask leaves some.
    pub(crate) fn mode_of_part(standing: Option<&Self>) -> u32 {
        match standing {
            None => USUAL,
            // The mode that is there stays with what the link points to.
            Some(Self {
                is_link: true, meta, ..
            }) => meta.mode() & USUAL | OWNER,
            Some(_) => OWNER,
        }
    }

    /// Sets the owner, access list and mode of the finished part in `file` to those of this, as far
    /// as allowed. Where something is not allowed, the part gets less, not more.
    pub(crate) fn dress(&self, file: &File, target: &Path, warnings: &Warnings) -> io::Result<()> {
        if self.is_link {
            return Ok(());
        }
        let mut mode = self.meta.mode() & PERMISSIONS;
        // The group's part of the mode goes only to users who had it as one of the others.
        let without_group = |mode: u32| mode & !(GROUP & !((mode & 0o007) << 3));
        let is = file.metadata()?;
        // First the group: the former owner of a file may not be allowed to change it any more.
        if is.gid() != self.meta.gid() && fchown(file, None, Some(self.meta.gid())).is_err() {
            let narrower = without_group(mode);
            if narrower != mode {
                mode = narrower;
                warnings.push(format!(
                    "the group of {} could not be kept, so its mode is {mode:o} now",
                    target.display()
                ));
            }
        }
        if is.uid() != self.meta.uid()
            && let Err(error) = fchown(file, Some(self.meta.uid()), None)
        {
            tracing::debug!(%error, "the file's owner is not kept");
        }
        let kept = match &self.access_list {
            Some(list) => fsetxattr(file, ACCESS_LIST, list, XattrFlags::empty()).is_ok(),
            // A new file may have one from its folder.
            None => fremovexattr(file, ACCESS_LIST).is_ok() || !has_access_list(file),
        };
        if !kept {
            mode = without_group(mode);
            warnings.push(format!(
                "the access list of {} could not be kept, so its mode is {mode:o} now",
                target.display()
            ));
        }
        // Also where it is right already: a new owner takes bits away.
        let set = file.set_permissions(fs::Permissions::from_mode(mode));
        let is = file.metadata()?.mode() & PERMISSIONS;
        if is != mode {
            let why = set.err().map_or_else(String::new, |error| format!(": {error}"));
            warnings.push(format!(
                "the mode of {} is {is:o} now and was {mode:o}{why}",
                target.display()
            ));
        }
        Ok(())
    }

    /// Takes back what [`dress`](Self::dress) has given, so that the part is this user's again.
    pub(crate) fn undress(file: &File) {
        let user = geteuid().as_raw();
        if file.metadata().is_ok_and(|meta| meta.uid() != user)
            && let Err(error) = fchown(file, Some(user), None)
        {
            tracing::debug!(%error, "the part stays another user's");
        }
    }

    /// Takes from a part that was there already what others may do with it.
    ///
    /// # Errors
    /// If others still may do what they may not do with this.
    pub(crate) fn narrow(&self, part: &File, path: &Path) -> Result<(), Error> {
        let failed = |cause| destination(path, "cannot be made as private as the file", cause);
        let allowed = if self.is_link {
            self.meta.mode() & USUAL | OWNER
        } else {
            OWNER
        };
        let mode = part.metadata().map_err(failed)?.mode() & PERMISSIONS;
        if mode & !allowed == 0 {
            return Ok(());
        }
        let set = part.set_permissions(fs::Permissions::from_mode(mode & allowed));
        let is = part.metadata().map_err(failed)?.mode();
        // A file system without modes shows the same one of all files.
        if is & PERMISSIONS & !(self.meta.mode() | OWNER) == 0 {
            return Ok(());
        }
        Err(failed(
            set.err()
                .unwrap_or_else(|| io::ErrorKind::PermissionDenied.into()),
        ))
    }
}

/// Whether the name can be given to another file, or the file be overwritten.
fn check(target: &Path, named: &Metadata) -> Result<(), Error> {
    let kind = named.file_type();
    if !(kind.is_file() || kind.is_symlink() || kind.is_socket()) {
        return Ok(());
    }
    let attributes = attributes(target);
    for (has, what) in [
        (attributes.is_immutable, "is immutable (chattr -i)"),
        (attributes.is_append_only, "can only be appended to (chattr -a)"),
    ] {
        if has {
            return Err(destination(target, what, Errno::EPERM.into()));
        }
    }
    let folder = fs::metadata(folder_of(target));
    let user = geteuid();
    let is_sticky = folder.is_ok_and(|folder| {
        const STICKY: u32 = 0o1000;
        folder.mode() & STICKY != 0 && ![folder.uid(), named.uid()].contains(&user.as_raw())
    });
    let reason = if attributes.is_mount_point {
        "is a mount point"
    } else if is_sticky && !user.is_root() {
        "is another user's in a sticky folder"
    } else {
        return Ok(());
    };
    // A link in such a folder may be another user's, and point to a file of this one.
    let opened = if kind.is_file() {
        overwritten(target).map(drop)
    } else {
        Err(Errno::ELOOP.into())
    };
    opened.map_err(|cause| {
        let what = format!("{reason}: it cannot be replaced, and cannot be overwritten");
        destination(target, &what, cause)
    })
}

/// Opens an existing file to be overwritten, as it is.
fn overwritten(target: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(target)
        .and_then(above_stdio)
}

fn access_list(target: &Path) -> Option<Vec<u8>> {
    let mut list = vec![0; LONGEST_ATTRIBUTE];
    let length = lgetxattr(target, ACCESS_LIST, &mut list[..]).ok()?;
    list.truncate(length);
    Some(list)
}

fn has_access_list(file: &File) -> bool {
    let mut list = vec![0; LONGEST_ATTRIBUTE];
    fgetxattr(file, ACCESS_LIST, &mut list[..]).is_ok()
}

/// Renames the complete part at `path`, which is open as `part`, to `target`. Where the system
/// refuses to rename it, the part is copied into place and then removed; `secure` is called before.
///
/// # Errors
/// If neither can be done. The part is as it was.
pub(crate) fn publish(
    path: &Path,
    part: &File,
    target: &Path,
    sync: bool,
    warnings: &Warnings,
    secure: impl FnOnce(),
) -> Result<(), Error> {
    let renamed = match fs::rename(path, target) {
        Ok(()) => return Ok(()),
        Err(cause) => cause,
    };
    let may_be_copied = is_refusal(&renamed)
        || [Errno::EBUSY, Errno::ETXTBSY]
            .iter()
            .any(|errno| renamed.raw_os_error() == Some(*errno as i32));
    // A folder may have taken the name since.
    if !may_be_copied || fs::symlink_metadata(target).is_ok_and(|meta| !meta.is_file()) {
        return Err(destination(target, "cannot be renamed into", renamed));
    }
    secure();
    copy(part, target, sync).map_err(|cause| {
        let what = format!("cannot be renamed into ({renamed}), and cannot be written in place");
        destination(target, &what, cause)
    })?;
    warnings.push(format!(
        "{} could not be replaced ({renamed}), so it was written in place",
        target.display()
    ));
    if let Err(error) = fs::remove_file(path) {
        warnings.push(format!("{} cannot be removed: {error}", path.display()));
    }
    Ok(())
}

fn copy(part: &File, target: &Path, sync: bool) -> io::Result<()> {
    // Not opened by its name: its mode may not let this user read it any more.
    let meta = part.metadata()?;
    let (to, is_new) = match overwritten(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut new = OpenOptions::new();
            new.write(true).create_new(true).mode(meta.mode() & PERMISSIONS);
            (new.open(target).and_then(above_stdio)?, true)
        }
        opened => (opened?, false),
    };
    let done = fill(part, to, meta.len(), sync);
    if done.is_err() && is_new {
        fs::remove_file(target).ok();
    }
    done
}

/// Overwrites `to` with the `length` bytes of `from`, in order.
fn fill(mut from: &File, to: File, length: u64, sync: bool) -> io::Result<()> {
    // A full disk is found before the first byte of what is there is lost.
    if let Ok(length @ 1..) = i64::try_from(length)
        && let Err(error @ (Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG)) =
            allocate(&to, 0, length, Length::Stays)
    {
        return Err(error.into());
    }
    let mut writer = &to;
    from.rewind()?;
    let copied = io::copy(&mut from, &mut writer)?;
    if copied != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if to.metadata()?.len() != length {
        to.set_len(length)?;
    }
    if sync {
        to.sync_all()?;
    }
    // A file system over a network may report only now that bytes were lost.
    Ok(close(to)?)
}
