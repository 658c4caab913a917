//! Descriptors: those that a forked child must not keep, and numbers that none may have.
//!
//! A forked child must not keep a creator's or a ring's reader's: a child's copy would hold the lock of its dead parent, and all would wait for the dead.
//!
//! A handler of `pthread_atfork` closes them in the child. It may run in a child of a process with other threads, so it takes no lock and allocates nothing: the descriptors are in a
//! list of places that is only ever added to, and whose free places are used again. A child made by a bare `clone` does not come by here; one that calls exec loses them all the same, as does
//! one made by `posix_spawn`. Until it has, it holds a copy: so what must be free at once is unlocked before it is closed ([`Since`]).
//!
//! A place belongs to one [`OwnOnly`], of which a child has a copy. So what the handler closes leaves a mark that no new descriptor takes the place of: else what the child makes of
//! its own would be taken for the parent's, and the parent's for its own.

#![allow(
    unsafe_code,
    reason = "registers handlers for fork, and closes descriptors in one"
)]

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd},
    ptr::null_mut,
    sync::{
        OnceLock,
        atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering, fence},
    },
};

use nix::libc;
use rustix::io::fcntl_dupfd_cloexec;

/// A free place.
const NONE: i32 = -1;

/// The place of one that was closed in this child, and whose owner is still there.
const LOST: i32 = -2;

struct Place {
    descriptor: AtomicI32,
    next: *mut Self,
}

/// Places are never freed, so a pointer to one is good for ever.
static FIRST: AtomicPtr<Place> = AtomicPtr::new(null_mut());

/// Forks so far, of this process and those that it was forked from.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// # Errors
/// If the handlers cannot be registered.
fn register() -> io::Result<()> {
    static REGISTERED: OnceLock<i32> = OnceLock::new();
    let status = *REGISTERED.get_or_init(|| {
        // SAFETY: handlers that do what is allowed around a fork, and stay loaded: they are part of the program, or of a library that is never unloaded.
        unsafe { libc::pthread_atfork(Some(before), None, Some(in_child)) }
    });
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(status))
    }
}

extern "C" fn before() {
    FORKS.fetch_add(1, Ordering::SeqCst);
}

/// The file of `descriptor`, whose number is none of a standard stream. In a host that has closed one of those, the file would get its number, and what the host prints.
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

/// A moment, to ask later whether the process has forked since. A child that lives on shares the locks of its parent's open files: to unlock one would take it from the other.
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
        // Behind what the caller did before: a fork that did not see that is counted.
        fence(Ordering::SeqCst);
        FORKS.load(Ordering::Relaxed) == self.0
    }
}

/// A descriptor that this process owns, and its forked children do not get.
#[derive(Debug)]
pub(crate) struct OwnOnly {
    place: &'static AtomicI32,
}

impl OwnOnly {
    /// # Errors
    /// If the handlers cannot be registered.
    pub(crate) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        register()?;
        let number = descriptor.into_raw_fd();
        for place in places() {
            if place
                .compare_exchange(NONE, number, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                return Ok(Self { place });
            }
        }
        let place = Box::into_raw(Box::new(Place {
            descriptor: AtomicI32::new(number),
            next: null_mut(),
        }));
        let mut first = FIRST.load(Ordering::Acquire);
        loop {
            // SAFETY: nobody else knows of the place yet.
            unsafe { (*place).next = first };
            match FIRST.compare_exchange(first, place, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => first = now,
            }
        }
        // SAFETY: places are never freed.
        let place = unsafe { &*place };
        Ok(Self {
            place: &place.descriptor,
        })
    }

    /// The descriptor; `None` in a forked child.
    pub(crate) fn get(&self) -> Option<BorrowedFd<'_>> {
        match self.place.load(Ordering::Acquire) {
            NONE | LOST => None,
            // SAFETY: only `drop` and the handler in a child close it; the first needs this borrow to have ended, the second runs in no process that has it.
            number => Some(unsafe { BorrowedFd::borrow_raw(number) }),
        }
    }

    pub(crate) fn number(&self) -> Option<i32> {
        self.get().map(|descriptor| descriptor.as_fd().as_raw_fd())
    }
}

impl Drop for OwnOnly {
    fn drop(&mut self) {
        let number = self.place.swap(NONE, Ordering::AcqRel);
        if number != NONE && number != LOST {
            // SAFETY: taken out of its place, so nobody else closes it.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
}

fn places() -> impl Iterator<Item = &'static AtomicI32> {
    let mut next = FIRST.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: null or a place, which is never freed.
        let place = unsafe { next.as_ref() }?;
        next = place.next;
        Some(&place.descriptor)
    })
}

extern "C" fn in_child() {
    for place in places() {
        // Nobody else is there to change it: a child begins with one thread.
        let number = place.load(Ordering::Acquire);
        if number != NONE && number != LOST {
            place.store(LOST, Ordering::Release);
            // SAFETY: the child's copy, which nothing in it uses: `get` gives none from here on.
            unsafe { libc::close(number) };
        }
    }
}
