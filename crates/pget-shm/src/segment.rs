//! What the creator has of a segment: both files, the lock that says that it lives, and the names
//! to take away.
//!
//! Invariants: a companion is complete and locked before it has a name; the data gets its name last
//! and loses it first, so who finds a name finds both; a name is only removed if it stands for this
//! segment's own file.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{FileExt, MetadataExt},
    },
    process,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use pget_core::{Error, ErrorKind};
use rustix::{
    fs::{
        FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fchmod, fcntl_add_seals,
        memfd_create, openat,
    },
    io::Errno,
    process::{Resource, getrlimit},
};

use crate::{
    descriptors::{OwnOnly, Since, no_standard_stream},
    folder::{give_name, open_folder, take_name},
    layout::{COMPANION, Companion, FILLING, Kind},
    lender::Lender,
    lock::{self, Byte},
    mapping::{Mapped, Mapping},
    name::Posix,
    ring::MARKS,
    sweep::sweep,
};

/// What a memfd is named before the number of its companion's descriptor.
pub(crate) const MEMFD: &str = "pget-";

const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

#[derive(Debug)]
pub(crate) struct Segment {
    name: String,
    posix: Option<Posix>,
    data: Arc<File>,
    companion: Mapped<Companion>,
    /// The companion's descriptor, with the lock.
    alive: OwnOnly,
    /// Before it was made: children that were forked since may read what it shows.
    since: Since,
    /// Held while the filling is ended, so that one end is reported.
    ending: Mutex<()>,
    unlinked: AtomicBool,
    /// So many bytes from the start on have their pages: an object filled them.
    backed: AtomicU64,
    lender: Lender,
}

impl Segment {
    /// A new segment, whose data is still a hole (except for a ring's marks): anonymous, or with a
    /// name that must be free.
    ///
    /// # Errors
    /// [`Destination`](ErrorKind::Destination), with what the system says.
    pub(crate) fn create(
        posix: Option<&Posix>,
        kind: Kind,
        length: u64,
        revision: &str,
    ) -> Result<Self, Error> {
        match posix {
            Some(posix) => Self::named(posix, kind, length, revision),
            None => Self::anonymous(kind, length, revision),
        }
    }

    fn anonymous(kind: Kind, length: u64, revision: &str) -> Result<Self, Error> {
        let failed = |cause: io::Error| cannot_make("anonymous shared memory", cause);
        let made = |since| {
            let companion = memfd("pget-companion", COMPANION as u64)?;
            let data = memfd(&format!("{MEMFD}{}", companion.as_raw_fd()), length)?;
            let name = format!("/proc/{}/fd/{}", process::id(), data.as_raw_fd());
            Self::of_files(since, name, None, companion, data, (kind, length, revision))
        };
        Self::between_forks(made).map_err(failed)
    }

    fn named(posix: &Posix, kind: Kind, length: u64, revision: &str) -> Result<Self, Error> {
        let failed = |cause: io::Error| {
            let what = format!("shared memory {}", posix.data());
            cannot_make(&what, cause)
        };
        sweep()?;
        let made = |folder: &OwnedFd, since| {
            let file = |length: u64| {
                let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
                let file = no_standard_stream(openat(folder, ".", flags, PRIVATE)?)?;
                fchmod(&file, PRIVATE)?;
                set_length(&file, length)?;
                io::Result::Ok(file)
            };
            let (companion, data) = (file(COMPANION as u64)?, file(length)?);
            let name = posix.data().to_owned();
            Self::of_files(
                since,
                name,
                Some(posix.clone()),
                companion,
                data,
                (kind, length, revision),
            )
        };
        let made = || {
            let folder = open_folder()?;
            let segment = Self::between_forks(|since| made(&folder, since))?;
            if let Some(companion) = segment.alive.get() {
                give_name(companion, &folder, &posix.companion())?;
            }
            // If that fails, dropping the segment takes the companion's name away again.
            give_name(&*segment.data, &folder, posix.data())?;
            Ok(segment)
        };
        made().map_err(failed)
    }

    /// Returns what `make` makes without a fork in between: a child that came before the
    /// companion's descriptor was registered has a copy of it, which would hold the lock of a dead
    /// parent.
    fn between_forks(make: impl Fn(Since) -> io::Result<Self>) -> io::Result<Self> {
        loop {
            let since = Since::now()?;
            let segment = make(since)?;
            if since.is_unforked() {
                return Ok(segment);
            }
        }
    }

    fn of_files(
        since: Since,
        name: String,
        posix: Option<Posix>,
        companion: File,
        data: File,
        (kind, length, revision): (Kind, u64, &str),
    ) -> io::Result<Self> {
        // A page that a full device cannot give is an error here, and SIGBUS at the first write.
        fallocate(&companion, FallocateFlags::empty(), 0, COMPANION as u64)?;
        if kind == Kind::Ring {
            // Who attaches writes its marks at once, and may do so as soon as there is a name.
            fallocate(&data, FallocateFlags::KEEP_SIZE, 0, MARKS)?;
        }
        let page = Mapped::<Companion>::new(Mapping::writable(&companion, COMPANION)?)?;
        let alive = OwnOnly::new(OwnedFd::from(companion));
        let segment = Self {
            name,
            posix,
            data: Arc::new(data),
            companion: page,
            alive,
            since,
            ending: Mutex::new(()),
            unlinked: AtomicBool::new(false),
            backed: AtomicU64::new(0),
            lender: Lender::default(),
        };
        if let Some(companion) = segment.alive.get() {
            lock::alone(companion, Byte::Alive)?;
        }
        let inode = segment.data.metadata()?.ino();
        let length = match kind {
            Kind::Object => length,
            // Its stream's is known at the end.
            Kind::Ring => u64::MAX,
        };
        segment.companion.begin(kind, length, inode, revision);
        Ok(segment)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn posix(&self) -> Option<&Posix> {
        self.posix.as_ref()
    }

    /// Writes to the data at `offset`.
    ///
    /// # Errors
    /// What the system says; `FileTooLarge` beyond the limit on files, which may have been lowered
    /// since the data got its length.
    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        check_limit(offset + bytes.len() as u64)?;
        self.data.write_all_at(bytes, offset)
    }

    pub(crate) const fn data(&self) -> &Arc<File> {
        &self.data
    }

    pub(crate) fn companion(&self) -> &Companion {
        &self.companion
    }

    /// Whether this process is the one that made it, and no child that was forked from it.
    pub(crate) fn is_own(&self) -> bool {
        self.alive.number().is_some()
    }

    /// Whether another process holds that lock.
    pub(crate) fn has(&self, byte: Byte) -> bool {
        // One that cannot be asked is not known to be dead.
        self.alive
            .get()
            .is_some_and(|companion| lock::is_held(companion, byte).unwrap_or(true))
    }

    /// So many bytes from the start on have their pages.
    pub(crate) fn backed(&self) -> u64 {
        self.backed.load(Ordering::Relaxed)
    }

    /// An object has filled the first `length` bytes.
    pub(crate) fn back(&self, length: u64) {
        self.backed.fetch_max(length, Ordering::Relaxed);
    }

    pub(crate) const fn lender(&self) -> &Lender {
        &self.lender
    }

    /// Makes it the segment of another object, if no process looks at it or may still write to it
    /// (no reader, no child that was forked since it was made), and there is room.
    ///
    /// # Errors
    /// What the system says. It is then as it was, or has failed as a whole.
    pub(crate) fn begin_anew(&self, length: u64, revision: &str) -> io::Result<bool> {
        let Some(companion) = self.alive.get() else {
            return Ok(false);
        };
        // Where the length stays, bytes are put beyond the limit.
        check_limit(length)?;
        // A forked child may go on reading what it has of the object before, and has no lock.
        if !self.since.is_unforked() || self.lender.is_lent() || !lock::alone(companion, Byte::Looked)? {
            return Ok(false);
        }
        let fits = match &self.posix {
            Some(_) => self.data.set_len(length).map(|()| {
                // What was cut off has no pages any more.
                self.backed.fetch_min(length, Ordering::Relaxed);
                true
            }),
            // Sealed at its first length.
            None => self.data.metadata().map(|meta| length <= meta.len()),
        };
        if matches!(fits, Ok(true)) {
            let inode = self.companion.inode();
            self.companion.begin(Kind::Object, length, inode, revision);
        }
        lock::release(companion, Byte::Looked)?;
        fits
    }

    /// Reports to attached processes that it cannot be filled, and why; returns the error.
    pub(crate) fn fail(&self, error: Error) -> Error {
        self.end(|companion| companion.fail(error.kind(), &error.to_line()));
        error
    }

    /// Ends the filling; the first end stays.
    pub(crate) fn end(&self, how: impl FnOnce(&Companion)) {
        let _one = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        if self.companion.state() == FILLING {
            how(&self.companion);
        }
    }

    /// Lets no other process attach, and removes the names. Attached processes keep what they have.
    pub(crate) fn unlink(&self) {
        // In a forked child, the segment is the parent's.
        let Some(companion) = self.alive.get() else {
            return;
        };
        self.companion.close();
        let Some(posix) = &self.posix else { return };
        if self.unlinked.swap(true, Ordering::AcqRel) {
            return;
        }
        let taken = || {
            let folder = open_folder()?;
            take_name(&*self.data, &folder, posix.data())?;
            take_name(companion, &folder, &posix.companion())
        };
        if let Err(error) = taken() {
            tracing::debug!(name = self.name, %error, "a name of shared memory stays");
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.unlink();
    }
}

pub(crate) fn cannot_make(what: &str, cause: io::Error) -> Error {
    let message = if cause.kind() == io::ErrorKind::AlreadyExists {
        format!("{what} cannot be made: the name is taken")
    } else {
        format!("{what} cannot be made")
    };
    Error::with_cause(ErrorKind::Destination, "", message, cause)
}

/// # Errors
/// `FileTooLarge` if files of this process may not have as many bytes (`ulimit -f`): to make or
/// write one so raises SIGXFSZ, which is not to happen in a host's process.
fn check_limit(length: u64) -> io::Result<()> {
    match getrlimit(Resource::Fsize).current {
        Some(limit) if length > limit => Err(Errno::FBIG.into()),
        _ => Ok(()),
    }
}

fn set_length(file: &File, length: u64) -> io::Result<()> {
    check_limit(length)?;
    file.set_len(length)
}

/// An anonymous file that keeps its length.
fn memfd(name: &str, length: u64) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3 do not know that flag; later ones may demand it.
        Err(Errno::INVAL) => memfd_create(name, flags),
        other => other,
    }?;
    let file = no_standard_stream(file)?;
    fchmod(&file, PRIVATE)?;
    set_length(&file, length)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use nix::{
        sys::{
            signal::{Signal, kill},
            wait::waitpid,
        },
        unistd::{ForkResult, alarm, fork, pause},
    };

    use rustix::fs::{AtFlags, statat};

    use super::*;

    #[test]
    fn a_child_that_came_before_the_handler_knew_does_not_hold_the_lock() {
        let early = Cell::new(None);
        let segment = Segment::between_forks(|since| {
            let companion = memfd("pget-test", COMPANION as u64)?;
            if early.get().is_none() {
                #[allow(unsafe_code, reason = "forks")]
                // SAFETY: the child waits for its end, and does nothing else.
                match unsafe { fork() }? {
                    ForkResult::Child => {
                        alarm::set(60);
                        loop {
                            pause();
                        }
                    }
                    ForkResult::Parent { child } => early.set(Some(child)),
                }
            }
            let of = (Kind::Object, 10, "");
            Segment::of_files(since, String::new(), None, companion, memfd("pget-test", 10)?, of)
        });
        let segment = segment.expect("a segment");
        let path = format!("/proc/self/fd/{}", segment.alive.number().expect("its own"));
        let other = File::options()
            .read(true)
            .write(true)
            .open(path)
            .expect("opened again");
        assert!(lock::is_held(&other, Byte::Alive).expect("asked"));
        drop(segment);
        assert!(!lock::is_held(&other, Byte::Alive).expect("asked"));
        let child = early.get().expect("a child");
        kill(child, Signal::SIGKILL).expect("it was there");
        waitpid(child, None).expect("its end");
    }

    #[test]
    fn a_ring_has_its_marks_before_it_has_a_name() {
        let folder = open_folder().expect("a folder");
        let made = Segment::create(None, Kind::Ring, 1 << 20, "").expect("a segment");
        // What names it comes after that for both sorts.
        assert_eq!(made.data.metadata().expect("a file").blocks() * 512, MARKS);
        let data = memfd("pget-test", 1 << 20).expect("a file");
        let companion = memfd("pget-test", COMPANION as u64).expect("a file");
        let posix = Posix::new(&format!("pget-shm-marks-{}", process::id())).expect("a name");
        let of = (Kind::Ring, 1 << 20, "");
        let since = Since::now().expect("handlers");
        let segment = Segment::of_files(since, posix.data().to_owned(), Some(posix), companion, data, of);
        let segment = segment.expect("a segment");
        assert_eq!(segment.data.metadata().expect("a file").blocks() * 512, MARKS);
        assert!(statat(&folder, segment.name(), AtFlags::SYMLINK_NOFOLLOW).is_err());
    }
}
