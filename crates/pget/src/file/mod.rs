//! An object into a file.
//!
//! The bytes go to `FILE.pget-part` beside the file, which is renamed when it is complete: no reader ever sees a part of an object under the final name. On failure the
//! part is removed; a signal that ends the program leaves it, and the next read into that file takes it over. What the name stood for before is replaced, a symbolic link too
//! (what it points to stays as it is); a device or a pipe is written to. Called by the builder.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;
use pget_core::{Error, ErrorKind, Stats};

use crate::{Address, Builder};

/// Reads `builder`'s object into the file `target`.
pub(crate) fn get(builder: &Builder, target: &Path) -> Result<Stats, Error> {
    let mut reader = builder.open_blocking()?;
    match Target::open(builder, target)? {
        // A device or a pipe has no name to appear under.
        Target::Stream(mut file) => {
            reader.write_to(&mut file)?;
        }
        Target::Part(mut part) => {
            reader.write_to(&mut part.file)?;
            part.finish(target)?;
        }
    }
    Ok(reader.stats())
}

enum Target {
    Stream(File),
    Part(Part),
}

/// The file being written, removed again unless it is finished.
struct Part {
    file: File,
    path: PathBuf,
    finished: bool,
}

impl Target {
    fn open(builder: &Builder, target: &Path) -> Result<Self, Error> {
        let failed = |what: &Path, cause| destination(what, "cannot be created", cause);
        if let Ok(meta) = fs::metadata(target) {
            let kind = meta.file_type();
            if kind.is_dir() {
                return Err(destination(
                    target,
                    "is a folder",
                    io::Error::from(io::ErrorKind::IsADirectory),
                ));
            }
            if kind.is_char_device() || kind.is_fifo() || kind.is_block_device() || is_of_process(target) {
                let file = OpenOptions::new()
                    .write(true)
                    .open(target)
                    .map_err(|cause| failed(target, cause))?;
                return Ok(Self::Stream(file));
            }
        }
        let mut name = target.as_os_str().to_owned();
        name.push(".pget-part");
        let path = PathBuf::from(name);
        if is_read_by(builder, &path) {
            let cause = io::ErrorKind::AlreadyExists.into();
            return Err(destination(&path, "is what is to be read", cause));
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(&path)
            .map_err(|cause| failed(&path, cause))?;
        if !file.metadata().is_ok_and(|meta| meta.is_file()) {
            let cause = io::ErrorKind::AlreadyExists.into();
            return Err(destination(&path, "is in the way and no plain file", cause));
        }
        // Two at a time would mix their bytes in one part.
        if let Err(cause) = file.try_lock() {
            return Err(destination(
                &path,
                "is being written by another pget",
                io::Error::from(cause),
            ));
        }
        // Between the open and the lock, the other one may have finished: then this is no part any more, but its result.
        let still_there = fs::symlink_metadata(&path).and_then(|named| {
            let opened = file.metadata()?;
            Ok((named.dev(), named.ino()) == (opened.dev(), opened.ino()))
        });
        if !still_there.unwrap_or(false) {
            return Err(destination(
                &path,
                "was just written by another pget",
                io::ErrorKind::AlreadyExists.into(),
            ));
        }
        file.set_len(0).map_err(|cause| failed(&path, cause))?;
        Ok(Self::Part(Part {
            file,
            path,
            finished: false,
        }))
    }
}

impl Part {
    fn finish(mut self, target: &Path) -> Result<(), Error> {
        fs::rename(&self.path, target)
            .map_err(|cause| destination(target, "cannot be renamed into", cause))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.finished {
            drop(fs::remove_file(&self.path));
        }
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

fn destination(path: &Path, what: &str, cause: io::Error) -> Error {
    Error::with_cause(
        ErrorKind::Destination,
        "",
        format!("{} {what}", path.display()),
        cause,
    )
}
