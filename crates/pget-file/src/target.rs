//! What a target's name stands for: a file to appear under it, or a device, a pipe or an open file
//! to write to.
//!
//! What the name stood for before is replaced when the file is complete, a symbolic link too (what
//! it points to stays as it is). Called by the front of this folder.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, Write},
    os::{
        fd::{AsFd, RawFd},
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
        },
    },
    path::{Path, PathBuf},
    sync::Weak,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::close,
};
use pget_core::{Cancel, Error, ErrorKind};

use crate::{
    descriptor::{above_stdio, duplicate, number},
    failure::destination,
    names::{JOURNAL, Names, PART, folder_of},
    part::space::size_limit,
};

/// What a target's name stands for.
#[derive(Debug)]
pub enum Target {
    /// A device, a pipe, or what is open already: it has no name to appear under, and is written to
    /// in order.
    Stream,
    /// A file, which grows beside its name.
    Part(Names),
}

impl Target {
    /// Returns what `target` stands for. `source` is the file that is read, if it is one.
    ///
    /// # Errors
    /// If `target` is a folder or names none of its files, has a name that is for incomplete files,
    /// or its part or journal is the file that is read.
    pub fn of(source: Option<&Path>, target: &Path) -> Result<Self, Error> {
        // Also where /dev is not mounted, as in a bare container.
        if number(target).is_some() {
            return Ok(Self::Stream);
        }
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
        let name = target.as_os_str().as_bytes();
        if name.is_empty() || name.ends_with(b"/") {
            let cause = io::ErrorKind::InvalidInput.into();
            let shown = if name.is_empty() { Path::new("''") } else { target };
            return Err(destination(shown, "names no file", cause));
        }
        if [PART, JOURNAL]
            .iter()
            .any(|suffix| name.ends_with(suffix.as_bytes()))
        {
            // The read of another file could be at it, and would empty or remove what it takes for
            // its own.
            let cause = io::ErrorKind::InvalidInput.into();
            let what = "has a name that is for files that are not complete";
            return Err(destination(target, what, cause));
        }
        let names = Names::of(target)?;
        for path in [&names.part, &names.journal] {
            if source.is_some_and(|source| is_same_file(source, path)) {
                let cause = io::ErrorKind::AlreadyExists.into();
                return Err(destination(path, "is what is to be read", cause));
            }
        }
        Ok(Self::Part(names))
    }
}

/// Returns `target` as a name that stays the same when the host changes its folder; as it is
/// where the two would differ: a folder above may be closed to this user.
pub fn absolute_target(target: &Path) -> PathBuf {
    let folder = |target: &Path| {
        let meta = fs::metadata(folder_of(target));
        meta.ok().map(|meta| (meta.dev(), meta.ino()))
    };
    match std::path::absolute(target) {
        Ok(absolute) if folder(&absolute) == folder(target) => absolute,
        _ => target.to_owned(),
    }
}

/// What a device, a pipe or an open file is written through. Fails before the limit on a file's
/// size (`ulimit -f`) is reached, which raises a signal that ends the process: standard output may
/// be a file.
///
/// What is open already is written to where it stands, and stands after the last byte then: what
/// others write may be before and after it.
///
/// A pipe is waited for, until it has a reader and whenever it is full, only as long as the
/// caller wants that: the system would wait without end.
#[derive(Debug)]
pub struct Stream {
    file: File,
    left: u64,
    wanted: Wanted,
}

/// Whether a stream is still wanted: its read is not cancelled, and its caller is there.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Ends the read.
    pub cancel: Option<Cancel>,
    /// Gone with a future that was dropped.
    pub caller: Weak<()>,
}

/// How long a wait takes no notice of a cancel, in milliseconds.
const LOOK_EVERY: u8 = 20;

impl Wanted {
    /// Returns whether nothing waits for the stream any more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.caller.strong_count() == 0 || self.cancel.as_ref().is_some_and(Cancel::is_triggered)
    }
}

impl Stream {
    /// Opens `target`, and waits for the reader of a pipe.
    ///
    /// # Errors
    /// If it cannot be opened, or is not wanted any more.
    pub fn open(target: &Path, wanted: Wanted) -> Result<Self, Error> {
        let failed = |cause| destination(target, "cannot be opened", cause);
        let file = match number(target) {
            Some(number) => of_process(target, number),
            None => of_name(target, &wanted)?,
        };
        let file = file.map_err(failed)?;
        let left = left(&file).map_err(failed)?;
        Ok(Self { file, left, wanted })
    }

    /// Waits until a full pipe has room, or no reader any more, as the next write will report.
    fn wait(&self) -> io::Result<()> {
        loop {
            if self.wanted.is_cancelled() {
                return Err(io::Error::other("cancelled"));
            }
            let room = PollFd::new(self.file.as_fd(), PollFlags::POLLOUT);
            match poll(&mut [room], PollTimeout::from(LOOK_EVERY)) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Syncs what was written.
    ///
    /// # Errors
    /// What the system reports.
    pub fn sync(&self) -> io::Result<()> {
        match self.file.sync_all() {
            // A pipe or terminal has nothing to sync.
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => Ok(()),
            result => result,
        }
    }

    /// Closes it after the last write. A file system over a network may report only now that it
    /// could not write.
    ///
    /// # Errors
    /// What the system reports.
    pub fn close(self) -> io::Result<()> {
        Ok(close(self.file)?)
    }
}

/// Opens what has a name; waits for a pipe's reader.
fn of_name(target: &Path, wanted: &Wanted) -> Result<io::Result<File>, Error> {
    let is_pipe = || fs::metadata(target).is_ok_and(|meta| meta.file_type().is_fifo());
    loop {
        let opened = open(target, is_pipe());
        // It has no reader yet, and nothing signals when it gets one.
        if !(has_no_reader(&opened) && is_pipe()) {
            return Ok(opened);
        }
        if wanted.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "", ""));
        }
        std::thread::sleep(Duration::from_millis(LOOK_EVERY.into()));
    }
}

/// What `target` names as the open descriptor `number`.
fn of_process(target: &Path, number: RawFd) -> io::Result<File> {
    let copy = duplicate(number)?;
    if !copy.metadata()?.file_type().is_fifo() {
        return Ok(copy);
    }
    // A copy shares with its owner whether a write waits. Where it cannot be opened again (it has
    // no reader any more, as the first write reports; it is another user's), the copy has to do.
    Ok(open(target, true).unwrap_or(copy))
}

fn open(target: &Path, is_pipe: bool) -> io::Result<File> {
    let mut how = OpenOptions::new();
    how.write(true);
    if is_pipe {
        how.custom_flags(OFlag::O_NONBLOCK.bits());
    }
    how.open(target).and_then(above_stdio)
}

fn has_no_reader(opened: &io::Result<File>) -> bool {
    matches!(opened, Err(error) if error.raw_os_error() == Some(nix::libc::ENXIO))
}

/// How many bytes may be written to `file` from where it stands.
fn left(mut file: &File) -> io::Result<u64> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Ok(u64::MAX);
    }
    let appends = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?).contains(OFlag::O_APPEND);
    let at = if appends {
        meta.len()
    } else {
        file.stream_position()?
    };
    Ok(size_limit().saturating_sub(at))
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        if most == 0 && !bytes.is_empty() {
            return Err(Errno::EFBIG.into());
        }
        loop {
            match self.file.write(&bytes[..most]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait()?,
                written => {
                    let written = written?;
                    self.left -= written as u64;
                    return Ok(written);
                }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Whether `path` is the very file that is to be read, which emptying it as a part would destroy.
fn is_same_file(source: &Path, path: &Path) -> bool {
    let identity = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let source = fs::metadata(source).map(identity);
    source.is_ok_and(|source| fs::symlink_metadata(path).is_ok_and(|part| identity(part) == source))
}

/// `/dev/stdout` and similar names stand for a file that is open already; to put another in
/// their place would be to lose the name.
fn is_of_process(target: &Path) -> bool {
    number(target).is_some() || target.starts_with("/dev/fd") || target.starts_with("/proc")
}
