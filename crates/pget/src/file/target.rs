//! What a target's name stands for: a file to appear under it, or a device or pipe to write to.
//!
//! What the name stood for before is replaced when the file is complete, a symbolic link too (what it points to stays as it is). Called by the front of this folder.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use pget_core::Error;

use super::{destination, room::size_limit};
use crate::{Address, Builder};

#[derive(Debug)]
pub(super) enum Target {
    /// A device, a pipe, or what is open already: it has no name to appear under, and is written to in order.
    Stream,
    /// A file, which grows beside its name.
    Part(PathBuf),
}

impl Target {
    pub(super) fn of(builder: &Builder, target: &Path) -> Result<Self, Error> {
        if let Ok(meta) = fs::metadata(target) {
            let kind = meta.file_type();
            if kind.is_dir() {
                let cause = io::Error::from(io::ErrorKind::IsADirectory);
                return Err(destination(target, "is a folder", cause));
            }
            if kind.is_char_device() || kind.is_fifo() || kind.is_block_device() || is_of_process(target) {
                return Ok(Self::Stream);
            }
        }
        let path = beside(target, ".pget-part");
        for path in [&path, &beside(target, ".pget-journal")] {
            if is_read_by(builder, path) {
                let cause = io::ErrorKind::AlreadyExists.into();
                return Err(destination(path, "is what is to be read", cause));
            }
        }
        Ok(Self::Part(path))
    }
}

/// `target` with something behind its name.
pub(super) fn beside(target: &Path, suffix: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// What a device or pipe is written through. Fails before the limit on a file's size (`ulimit -f`) is reached, which raises a signal that ends the process: standard output may
/// be a file.
#[derive(Debug)]
pub(super) struct Stream {
    file: File,
    left: u64,
}

impl Stream {
    pub(super) fn open(target: &Path) -> Result<Self, Error> {
        let opened = OpenOptions::new().write(true).open(target);
        let file = opened.map_err(|cause| destination(target, "cannot be opened", cause))?;
        let is_file = file.metadata().is_ok_and(|meta| meta.is_file());
        let left = if is_file { size_limit() } else { u64::MAX };
        Ok(Self { file, left })
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        match self.file.sync_all() {
            // A pipe or terminal has nothing to sync.
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => Ok(()),
            result => result,
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        if most == 0 && !bytes.is_empty() {
            return Err(nix::errno::Errno::EFBIG.into());
        }
        let written = self.file.write(&bytes[..most])?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Whether `path` is the very file that is to be read, which emptying it as a part would destroy.
fn is_read_by(builder: &Builder, path: &Path) -> bool {
    let Ok(Address::File(source)) = Address::parse(&builder.address) else {
        return false;
    };
    let identity = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let source = fs::metadata(source).map(identity);
    source.is_ok_and(|source| fs::symlink_metadata(path).is_ok_and(|part| identity(part) == source))
}

/// `/dev/stdout` and its like name a file that is open already, of whatever kind; to put another in their place would be to lose the name.
fn is_of_process(target: &Path) -> bool {
    const NAMES: [&str; 3] = ["/dev/stdin", "/dev/stdout", "/dev/stderr"];
    target.starts_with("/dev/fd")
        || target.starts_with("/proc")
        || NAMES.iter().any(|name| target == Path::new(name))
}
