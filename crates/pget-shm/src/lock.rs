//! Who lives and who looks: open-file-description locks on bytes of the companion (fcntl_locking(2)).
//!
//! They belong to the open file and not to a process or thread, so any thread may take and drop one, and no other descriptor of the process that is closed takes it along, as it
//! would a lock by `F_SETLK`. The kernel drops them with the last descriptor, however the process ended. `F_OFD_GETLK` asks without disturbing anyone.

use std::{io, os::fd::AsFd};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};

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

/// Takes it alone, if nobody has it.
pub(crate) fn alone(file: impl AsFd, byte: Byte) -> io::Result<bool> {
    set(file, byte, libc::F_WRLCK)
}

/// Takes it together with others; waits while somebody has it alone.
pub(crate) fn together(file: impl AsFd, byte: Byte) -> io::Result<()> {
    let wanted = words(byte, libc::F_RDLCK);
    loop {
        match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLKW(&wanted)) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
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
