//! Standard input, output and error, of which the caller may have closed any.
//!
//! Rust opens `/dev/null` in the place of a closed one before `main`, so that no other file takes
//! its number. Bytes for a closed standard output would be lost in silence, so [`check_output`]
//! refuses it. A constructor of the program looks before Rust does.

#![allow(unsafe_code, reason = "each block says why it is sound")]

use std::{
    fs::OpenOptions,
    io,
    os::fd::{AsFd, AsRawFd},
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
};
use pget::{Error, ErrorKind};

/// Whether standard output was closed when the program began.
static OUTPUT_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

// SAFETY: `look` has the signature of a constructor on Linux, and calls nothing but `fcntl`, which
// needs neither Rust's nor C's runtime.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    // SAFETY: F_GETFD has no argument, and changes nothing, whether the descriptor is open or not.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    OUTPUT_WAS_CLOSED.store(flags == -1, Ordering::Relaxed);
}

/// Opens `/dev/null` in the place of each stream that is closed.
///
/// A Rust program has done so at its start, and Python has not.
pub(crate) fn open() {
    while let Ok(file) = OpenOptions::new().read(true).write(true).open("/dev/null") {
        if file.as_raw_fd() > libc::STDERR_FILENO {
            break;
        }
        // The descriptor stays open for as long as the process runs.
        std::mem::forget(file);
    }
}

/// Checks that standard output can be written.
///
/// # Errors
/// [`Destination`](ErrorKind::Destination) if it is closed, or open for reading only.
pub(crate) fn check_output() -> Result<(), Error> {
    let refused = |message: &str| {
        let advice = "; redirect standard output to a file or a pipe, or name a file with -o";
        Err(Error::new(
            ErrorKind::Destination,
            "",
            format!("{message}{advice}"),
        ))
    };
    if OUTPUT_WAS_CLOSED.load(Ordering::Relaxed) {
        return refused("standard output is closed");
    }
    let flags = fcntl(io::stdout().as_fd(), FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
    match flags {
        Ok(flags) if flags & OFlag::O_ACCMODE == OFlag::O_RDONLY => {
            refused("standard output is open for reading only")
        }
        _ => Ok(()),
    }
}
