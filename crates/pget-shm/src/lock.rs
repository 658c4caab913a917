//! Who lives and who looks: open-file-description locks on bytes of the companion
//! (fcntl_locking(2)).
//!
//! They belong to the open file and not to a process or thread, so any thread may take and drop
//! one, and no other descriptor of the process that is closed takes it along, as it would a lock by
//! `F_SETLK`. The kernel drops them with the last descriptor, however the process ended; a child
//! that is being started (between `vfork` and `exec`) has copies of all descriptors for a moment,
//! so who is done unlocks. `F_OFD_GETLK` asks without disturbing anyone.

use std::{
    fs::File,
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};

use crate::descriptors::Since;

/// What a lock stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Byte {
    /// Held alone by the creator, as long as it lives.
    Alive = 0,
    /// Held together by readers, and alone by a creator that makes another object of the segment.
    Looked = 1,
    /// Held alone by a sweeper while it removes.
    Swept = 2,
    /// Held alone by the reader of a ring.
    Reads = 3,
}

fn words(byte: Byte, kind: libc::c_int) -> libc::flock {
    libc::flock {
        // The kinds are 0 to 2.
        l_type: libc::c_short::try_from(kind).unwrap_or_default(),
        l_whence: 0,
        l_start: byte as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}

fn set(file: impl AsFd, byte: Byte, kind: libc::c_int) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&words(byte, kind))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes it alone, if it is free.
pub(crate) fn alone(file: impl AsFd, byte: Byte) -> io::Result<bool> {
    set(file, byte, libc::F_WRLCK)
}

/// How long a reader waits for the creator, which holds the lock for as long as it takes to cut a
/// file.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes it together with others; waits while another open file has it alone, at most for `within`.
///
/// # Errors
/// `TimedOut` after that: the holder may be stopped, and a wait in the kernel would have no end.
fn together(file: impl AsFd, byte: Byte, within: Duration) -> io::Result<()> {
    let end = Instant::now() + within;
    let mut pause = Duration::from_micros(100);
    while !set(file.as_fd(), byte, libc::F_RDLCK)? {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let message = format!("its creator has kept it locked for {within:?}, and may be stopped");
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    Ok(())
}

pub(crate) fn release(file: impl AsFd, byte: Byte) -> io::Result<()> {
    set(file, byte, libc::F_UNLCK).map(|_| ())
}

/// Whether another open file has it.
pub(crate) fn is_held(file: impl AsFd, byte: Byte) -> io::Result<bool> {
    let mut asked = words(byte, libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut asked))?;
    Ok(libc::c_int::from(asked.l_type) != libc::F_UNLCK)
}

/// A companion with the reader's lock, which goes with this.
#[derive(Debug)]
pub(crate) struct Looked {
    file: File,
    since: Since,
}

impl Looked {
    /// Takes the lock; waits while the creator makes another object of the segment.
    ///
    /// # Errors
    /// `TimedOut` after five seconds, or the system's error.
    pub(crate) fn take(file: File) -> io::Result<Self> {
        let since = Since::now()?;
        together(&file, Byte::Looked, PATIENCE)?;
        Ok(Self { file, since })
    }

    pub(crate) const fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Looked {
    fn drop(&mut self) {
        // A forked child may go on reading; then the lock goes with the last copy of the
        // descriptor.
        if self.since.is_unforked() {
            // If that fails, it goes so in any case.
            release(&self.file, Byte::Looked).ok();
        }
    }
}
