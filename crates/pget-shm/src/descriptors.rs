//! Descriptors: those that a forked child must not keep, and numbers that none may have.
//!
//! A forked child must not keep a creator's or a ring's reader's: a child's copy would hold the
//! lock of its dead parent, and all would wait for the dead. The child closes it as it begins
//! ([`ClosedInChild`]); a child made by a bare `clone` closes it at its first use of the library,
//! and one that calls exec or is made by `posix_spawn` loses it in any case. Until then it holds a
//! copy: so what must be free at once is unlocked before it is closed ([`Since`]).

#![allow(unsafe_code, reason = "registers a handler for fork")]

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, AtomicU64, Ordering, fence},
};

use nix::libc;
use pget_core::fork::{ClosedInChild, Own};
use rustix::io::fcntl_dupfd_cloexec;

/// Forks so far, of this process and those that it was forked from.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// # Errors
/// If the handlers cannot be registered.
fn register() -> io::Result<()> {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    if REGISTERED.load(Ordering::Acquire) {
        return Ok(());
    }
    // Two threads may both register: each fork then counts twice, which is as good. No lock, as a
    // child may begin while it is held. SAFETY: a handler that does what is allowed around a fork,
    // and stays loaded: it is part of the program, or of a library that unregisters its handlers
    // when it is unloaded.
    match unsafe { libc::pthread_atfork(Some(before), None, None) } {
        0 => {
            REGISTERED.store(true, Ordering::Release);
            Ok(())
        }
        status => Err(io::Error::from_raw_os_error(status)),
    }
}

extern "C" fn before() {
    FORKS.fetch_add(1, Ordering::SeqCst);
}

/// The file of `descriptor`, whose number is not one of a standard stream. In a host that has
/// closed one of those, the file would get its number, and what the host prints.
///
/// # Errors
/// If there is no other number.
pub(crate) fn no_standard_stream(descriptor: OwnedFd) -> io::Result<File> {
    const FIRST: i32 = 3;
    if descriptor.as_raw_fd() >= FIRST {
        return Ok(descriptor.into());
    }
    Ok(fcntl_dupfd_cloexec(&descriptor, FIRST)?.into())
}

/// A moment, to ask later whether the process has forked since. A child that lives on shares the
/// locks of its parent's open files: to unlock one would take it from the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since(u64);

impl Since {
    /// # Errors
    /// If the handlers cannot be registered.
    pub(crate) fn now() -> io::Result<Self> {
        register()?;
        Ok(Self(FORKS.load(Ordering::Relaxed)))
    }

    pub(crate) fn is_unforked(self) -> bool {
        // After what the caller did before: a fork that did not see that is counted.
        fence(Ordering::SeqCst);
        FORKS.load(Ordering::Relaxed) == self.0
    }
}

/// A descriptor that this process owns, and its forked children do not get.
#[derive(Debug)]
pub(crate) struct OwnOnly {
    /// Dropped first.
    _closed: ClosedInChild,
    descriptor: Own<OwnedFd>,
}

impl OwnOnly {
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self {
            _closed: ClosedInChild::new(descriptor.as_raw_fd()),
            descriptor: Own::new(descriptor),
        }
    }

    /// The descriptor; `None` in a forked child.
    pub(crate) fn get(&self) -> Option<BorrowedFd<'_>> {
        (!Own::is_forked(&self.descriptor)).then(|| self.descriptor.as_fd())
    }

    pub(crate) fn number(&self) -> Option<i32> {
        self.get().map(|descriptor| descriptor.as_raw_fd())
    }
}
