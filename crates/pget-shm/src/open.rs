//! Opening what another process has made: by its POSIX name, or by the path of its descriptor.
//! Called by who attaches.
//!
//! Invariant: what is opened is this user's, and a file that was reached by no link but the
//! kernel's own.

use std::{fs::File, io, path::Path};

use pget_core::{Error, ErrorKind};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, SealFlags, fcntl_get_seals, fstat, openat, readlink, statat},
    io::Errno,
    process::geteuid,
};

use crate::{
    descriptors::no_standard_stream,
    folder::{open_companion, open_folder, open_own},
    layout::COMPANION,
    name::Posix,
    segment::MEMFD,
};

/// What is to be done with it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    Read,
    /// The reader of a ring writes, too: what it took.
    Both,
}

impl Access {
    const fn flags(self) -> OFlags {
        match self {
            Self::Read => OFlags::RDONLY,
            Self::Both => OFlags::RDWR,
        }
    }
}

/// Companion and data of the segment that another process names so.
///
/// # Errors
/// As [`SharedBuffer::attach`](crate::SharedBuffer::attach).
pub(crate) fn open_segment(name: &str, access: Access) -> Result<(File, File), Error> {
    let opened = if name.starts_with("/proc/") {
        open_descriptors(name, access.flags())
    } else {
        open_names(&Posix::new(name)?, access.flags())
    };
    opened.map_err(|cause| cannot_attach(name, cause))
}

pub(crate) fn cannot_attach(name: &str, cause: io::Error) -> Error {
    let kind = match cause.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        io::ErrorKind::InvalidData => ErrorKind::InvalidArgument,
        io::ErrorKind::TimedOut => ErrorKind::Timeout,
        _ => ErrorKind::Unavailable,
    };
    let message = format!("cannot attach to the shared memory {name}");
    Error::with_cause(kind, "", message, cause)
}

pub(crate) fn not_ours(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

/// Companion and data by the POSIX name.
fn open_names(posix: &Posix, access: OFlags) -> io::Result<(File, File)> {
    let folder = open_folder()?;
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    let companion = match open_companion(&folder, posix, access)? {
        Some(companion) => companion,
        None if statat(&folder, posix.data(), AtFlags::SYMLINK_NOFOLLOW).is_err() => return Err(missing()),
        // Both may have had their names given in between, the companion first.
        None => open_companion(&folder, posix, access)?.ok_or_else(|| not_ours("it was not made by pget"))?,
    };
    let data = open_own(&folder, posix.data(), access)?;
    Ok((companion, data.ok_or_else(missing)?))
}

/// Companion and data by the descriptor's path, `/proc/PID/fd/N`.
fn open_descriptors(name: &str, access: OFlags) -> io::Result<(File, File)> {
    let path = Path::new(name);
    let target = match readlink(path, Vec::new()) {
        Err(Errno::INVAL) => return Err(not_ours("it is no descriptor")),
        other => other?,
    };
    // "/memfd:pget-M (deleted)", as proc_pid_fd(5) has it.
    let number = target
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix("/memfd:")?.strip_prefix(MEMFD))
        .and_then(|text| text.split(' ').next()?.parse::<u32>().ok());
    let Some(number) = number else {
        return Err(not_ours("it was not made by pget"));
    };
    let data = open_memfd(path, access)?;
    let companion = open_memfd(&path.with_file_name(number.to_string()), access)?;
    if fstat(&companion)?.st_size != COMPANION as i64 {
        return Err(not_ours("what stands beside it was not made by pget"));
    }
    Ok((companion, data))
}

fn open_memfd(path: &Path, access: OFlags) -> io::Result<File> {
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = no_standard_stream(openat(CWD, path, flags, Mode::empty())?)?;
    if fstat(&file)?.st_uid != geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it belongs to another user",
        ));
    }
    let seals = fcntl_get_seals(&file).unwrap_or(SealFlags::empty());
    if !seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL) {
        return Err(not_ours("it could be cut"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::RingWriter;

    /// Who attaches while the names are given finds nothing yet, or all of it.
    #[test]
    fn names_that_are_just_given_are_missing_or_there() {
        for number in 0..2_000 {
            let name = format!("/pget-open-{}-{number}", std::process::id());
            let opens = || loop {
                match open_segment(&name, Access::Read) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    opened => return opened.map(drop),
                }
            };
            thread::scope(|scope| {
                let opened = scope.spawn(opens);
                let _ring = RingWriter::create(Some(&name), 1).expect("it is made");
                opened.join().expect("no panic").expect("it is pget's");
            });
        }
    }
}
