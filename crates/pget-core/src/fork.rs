//! Fork: everything that belongs to one process, and what its forked children do with their copy of
//! it.
//!
//! A forked child has one thread. The other threads of its parent do not exist there, and the locks
//! that they held stay locked. Therefore each process has a [`Generation`] of its own:
//!
//! - [`PerProcess`] holds what a process makes for itself (a runtime, a pool, a registry). The
//!   first use in a child makes a new value. The parent's value is leaked, and none of its locks is
//!   touched.
//! - [`Own`] holds a part of an object that only the process that made it may use or drop.
//! - [`ClosedInChild`] names a descriptor that every child closes as soon as it begins.
//!
//! A child is recognised by a handler of `pthread_atfork`, which works also if the child has its
//! parent's process number (a new PID namespace), and by its process number, which works also after
//! a bare `clone`.
//!
//! Except the gate, nothing in this module waits for another thread: a child may begin while any
//! function here is half done.

#![allow(
    unsafe_code,
    reason = "registers a handler for fork, closes descriptors in it, and publishes values without a lock"
)]

use std::{
    fmt,
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
    os::fd::RawFd,
    ptr::null_mut,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering},
};

use crate::{Error, ErrorKind};

mod apart;
mod gate;

pub use apart::apart_from_forks;

/// The process's generation: its depth in the tree of forks, then its process number; 0 before the
/// first use.
static STAMP: AtomicU64 = AtomicU64::new(0);

static REGISTERED: AtomicBool = AtomicBool::new(false);

/// The descriptors that children close. Places are never freed, so a pointer to one stays valid.
static FIRST: AtomicPtr<Place> = AtomicPtr::new(null_mut());

/// Bits of a stamp, and of a place, below the depth.
const LOW: u32 = 32;

/// A process in a tree of forks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Generation(u64);

impl Generation {
    /// Returns the generation of this process. It waits for nothing, and costs about as much as
    /// `getpid`.
    #[must_use]
    pub fn current() -> Self {
        let stamp = STAMP.load(Ordering::Acquire);
        if stamp & u64::from(u32::MAX) == process_number() {
            return Self(stamp);
        }
        Self::begin()
    }

    /// Whether this process was forked since from the one that this generation stands for.
    #[must_use]
    pub fn is_past(self) -> bool {
        self != Self::current()
    }

    /// Returns [`Forked`](ErrorKind::Forked) if the generation [is past](Self::is_past).
    ///
    /// # Errors
    /// In a forked child; `what` names what was used.
    pub fn check(self, what: &str) -> Result<(), Error> {
        if self.is_past() {
            return Err(forked(what));
        }
        Ok(())
    }

    /// The first use in the process, or in a child that the handler did not see.
    #[cold]
    fn begin() -> Self {
        // Two threads may both register: the depth then grows by two in a child, which is as good.
        if !REGISTERED.load(Ordering::Acquire) {
            // SAFETY: the handler for the child does only what a child may do. All three stay
            // loaded: they are part of the program, or of a library that unregisters its handlers
            // when it is unloaded.
            let result =
                unsafe { libc::pthread_atfork(Some(gate::prepare), Some(gate::in_parent), Some(in_child)) };
            if result == 0 {
                REGISTERED.store(true, Ordering::Release);
            }
        }
        loop {
            let stamp = STAMP.load(Ordering::Acquire);
            if stamp & u64::from(u32::MAX) == process_number() {
                return Self(stamp);
            }
            if stamp != 0 {
                close_inherited(stamp);
            }
            let next = next(stamp);
            if STAMP
                .compare_exchange(stamp, next, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
            {
                return Self(next);
            }
        }
    }
}

/// Returns the error of an object from before a fork that is used in the child.
pub fn forked(what: &str) -> Error {
    let message = format!("{what} belongs to the process that this one was forked from; make a new one here");
    Error::new(ErrorKind::Forked, "", message)
}

fn process_number() -> u64 {
    // SAFETY: has no preconditions.
    u64::from(unsafe { libc::getpid() }.cast_unsigned())
}

const fn depth(stamp: u64) -> u64 {
    stamp >> LOW
}

/// The stamp of this process, as a child of the process with the stamp `parent`.
fn next(parent: u64) -> u64 {
    (depth(parent).wrapping_add(1) << LOW) | process_number()
}

/// Runs in each child of a process that has used the library, before `fork` returns there. It takes
/// no lock and allocates nothing.
extern "C" fn in_child() {
    gate::in_child();
    let parent = STAMP.load(Ordering::Acquire);
    close_inherited(parent);
    STAMP.store(next(parent), Ordering::Release);
}

/// Closes the copies of what the parent, whose stamp is `parent`, had registered.
fn close_inherited(parent: u64) {
    for place in places() {
        let held = place.load(Ordering::Acquire);
        if held == FREE || depth(held) != depth(parent) {
            continue;
        }
        if place
            .compare_exchange(held, FREE, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            // SAFETY: this child's copy. Its owner is from before the fork and does not touch it
            // any more.
            unsafe { libc::close(descriptor(held)) };
        }
    }
}

/// A value that each process makes for itself, at its first use there.
pub struct PerProcess<T> {
    current: AtomicPtr<Entry<T>>,
    _is_no_ones: PhantomData<*const T>,
}

struct Entry<T> {
    generation: Generation,
    value: T,
}

// SAFETY: as for `OnceLock`: any thread may make the value, use it by reference, and drop it.
unsafe impl<T: Send + Sync> Sync for PerProcess<T> {}
// SAFETY: it owns its value.
unsafe impl<T: Send> Send for PerProcess<T> {}

impl<T> PerProcess<T> {
    /// Returns a place without a value.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            current: AtomicPtr::new(null_mut()),
            _is_no_ones: PhantomData,
        }
    }

    /// Returns the value of this process; at the first use, `make` makes it. Two threads that
    /// come at the same time may both make one, of which one is kept.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        match self.get_or_try_init(|| Ok::<T, std::convert::Infallible>(make())) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// Returns the value of this process, as [`get_or_init`](Self::get_or_init).
    ///
    /// # Errors
    /// What `make` returns.
    pub fn get_or_try_init<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        let now = Generation::current();
        self.keep_or_init(|entry| entry.generation == now, now, make)
    }

    /// Returns the value; a child keeps its parent's. For values that hold no lock, thread or
    /// descriptor.
    pub fn inherit_or_init(&self, make: impl FnOnce() -> T) -> &T {
        let make = || Ok::<T, std::convert::Infallible>(make());
        match self.keep_or_init(|_| true, Generation::current(), make) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    fn keep_or_init<E>(
        &self,
        is_usable: impl Fn(&Entry<T>) -> bool,
        generation: Generation,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        let mut before = self.current.load(Ordering::Acquire);
        // SAFETY: null or an entry, which is freed only with the whole.
        if let Some(entry) = unsafe { before.as_ref() }
            && is_usable(entry)
        {
            return Ok(&entry.value);
        }
        let value = make()?;
        let mine = Box::into_raw(Box::new(Entry { generation, value }));
        loop {
            // An entry that is replaced is from before a fork: it is leaked.
            match self
                .current
                .compare_exchange(before, mine, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    // SAFETY: published, and freed only with the whole.
                    return Ok(unsafe { &(*mine).value });
                }
                Err(now) => {
                    // SAFETY: null or an entry, which is freed only with the whole.
                    if let Some(entry) = unsafe { now.as_ref() }
                        && is_usable(entry)
                    {
                        // SAFETY: made above, and no other thread has seen it.
                        drop(unsafe { Box::from_raw(mine) });
                        return Ok(&entry.value);
                    }
                    before = now;
                }
            }
        }
    }
}

impl<T> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        let entry = *self.current.get_mut();
        // SAFETY: null or an entry, to which no reference exists any more.
        if unsafe { entry.as_ref() }.is_some_and(|entry| !entry.generation.is_past()) {
            // SAFETY: made by `Box::into_raw`, and given up here only.
            drop(unsafe { Box::from_raw(entry) });
        }
    }
}

impl<T> fmt::Debug for PerProcess<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PerProcess")
    }
}

/// A value that only the process that made it drops; a forked child leaks its copy.
#[derive(Debug)]
pub struct Own<T> {
    generation: Generation,
    value: ManuallyDrop<T>,
}

impl<T> Own<T> {
    /// Takes the value for this process.
    pub fn new(value: T) -> Self {
        Self {
            generation: Generation::current(),
            value: ManuallyDrop::new(value),
        }
    }

    /// Returns the generation that made the value.
    #[must_use]
    pub const fn generation(this: &Self) -> Generation {
        this.generation
    }

    /// Whether this is a child that was forked since, which must not use the value.
    #[must_use]
    pub fn is_forked(this: &Self) -> bool {
        this.generation.is_past()
    }
}

impl<T> Deref for Own<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Own<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: Clone> Clone for Own<T> {
    fn clone(&self) -> Self {
        Self {
            generation: self.generation,
            value: self.value.clone(),
        }
    }
}

impl<T> Drop for Own<T> {
    fn drop(&mut self) {
        if !Self::is_forked(self) {
            // SAFETY: dropped here only, where its owner ends.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}

struct Place {
    held: AtomicU64,
    next: *mut Self,
}

/// A place that holds no descriptor.
const FREE: u64 = u64::MAX;

/// The descriptor in a place that is not free.
fn descriptor(held: u64) -> RawFd {
    #[allow(clippy::cast_possible_truncation, reason = "the low half is the number")]
    let low = held as u32;
    low.cast_signed()
}

/// Names a descriptor that children close as soon as they begin: a socket, which would else stay
/// open for as long as the child lives after the parent has closed it, or a file whose lock the
/// child would keep.
///
/// It does not own the descriptor. Drop it before the descriptor is closed: a fork in between
/// leaves a copy open in the child; in the other order, the child could close a file that got the
/// same number.
#[derive(Debug)]
pub struct ClosedInChild {
    place: &'static AtomicU64,
    held: u64,
}

impl ClosedInChild {
    /// Registers `descriptor`.
    #[must_use]
    pub fn new(descriptor: RawFd) -> Self {
        let Generation(stamp) = Generation::current();
        let held = (depth(stamp) << LOW) | u64::from(descriptor.cast_unsigned());
        for place in places() {
            if place.load(Ordering::Relaxed) == FREE
                && place
                    .compare_exchange(FREE, held, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            {
                return Self { place, held };
            }
        }
        let place = Box::into_raw(Box::new(Place {
            held: AtomicU64::new(held),
            next: null_mut(),
        }));
        let mut first = FIRST.load(Ordering::Acquire);
        loop {
            // SAFETY: no other thread knows of the place yet.
            unsafe { (*place).next = first };
            match FIRST.compare_exchange(first, place, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => first = now,
            }
        }
        // SAFETY: places are never freed.
        let place = unsafe { &*place };
        Self {
            place: &place.held,
            held,
        }
    }
}

impl Drop for ClosedInChild {
    fn drop(&mut self) {
        // In a child the place is free, or holds what the child registered.
        self.place
            .compare_exchange(self.held, FREE, Ordering::AcqRel, Ordering::Relaxed)
            .ok();
    }
}

fn places() -> impl Iterator<Item = &'static AtomicU64> {
    let mut next = FIRST.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: null or a place, which is never freed.
        let place = unsafe { next.as_ref() }?;
        next = place.next;
        Some(&place.held)
    })
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use std::{fs::File, os::fd::AsRawFd, thread, time::Duration};

    use pget_testkit::forked::in_child;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(30);

    #[test]
    fn a_value_is_made_once_in_each_process() {
        let (place, inherited) = (PerProcess::new(), PerProcess::new());
        let made = |number: u32| {
            (
                *place.get_or_init(|| number),
                *inherited.inherit_or_init(|| number),
            )
        };
        assert_eq!((made(1), made(2)), ((1, 1), (1, 1)));
        in_child(WITHIN, || {
            assert_eq!((made(3), made(4)), ((3, 1), (3, 1)));
            in_child(WITHIN, || assert_eq!(made(5), (5, 1)));
            assert_eq!(made(6), (3, 1));
        });
        assert_eq!(made(7), (1, 1));
        assert_eq!(place.get_or_try_init(|| Err(())), Ok(&1));
    }

    #[test]
    fn threads_that_come_at_once_get_one_value() {
        for _ in 0..200 {
            let place = PerProcess::new();
            let got: Vec<usize> = thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|number| {
                        let place = &place;
                        scope.spawn(move || *place.get_or_init(|| Box::new(number)).as_ref())
                    })
                    .collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().expect("a value"))
                    .collect()
            });
            assert!(got.iter().all(|value| value == &got[0]), "{got:?}");
        }
    }

    #[test]
    fn only_the_process_that_made_it_drops_a_value() {
        struct Tells<'a>(&'a AtomicBool);
        impl Drop for Tells<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let dropped = AtomicBool::new(false);
        let (own, place) = (Own::new(Tells(&dropped)), PerProcess::new());
        place.get_or_init(|| Tells(&dropped));
        in_child(WITHIN, || {
            assert!(Own::is_forked(&own));
            drop((own, place));
            assert!(!dropped.load(Ordering::Relaxed));
        });
        drop(Own::new(Tells(&dropped)));
        assert!(dropped.load(Ordering::Relaxed));
    }

    #[test]
    fn a_child_closes_what_was_registered_and_nothing_else() {
        let open = |name: &str| File::open(format!("/proc/self/{name}")).expect("a file");
        let (kept, given, let_go) = (open("stat"), open("stat"), open("stat"));
        let registered = ClosedInChild::new(given.as_raw_fd());
        drop(ClosedInChild::new(let_go.as_raw_fd()));
        in_child(WITHIN, || {
            // SAFETY: only asks.
            let is_open = |file: &File| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFD) } >= 0;
            assert_eq!([&kept, &given, &let_go].map(is_open), [true, false, true]);
            // The number is given again. What is left of the parent's registration does not concern
            // it.
            let own = open("stat");
            // SAFETY: both are descriptors of this process.
            let number = unsafe { libc::dup2(own.as_raw_fd(), given.as_raw_fd()) };
            assert_eq!(number, given.as_raw_fd());
            // It may have got the number by itself.
            if own.as_raw_fd() == number {
                std::mem::forget(own);
            }
            let own = given;
            drop(registered);
            let registered = ClosedInChild::new(own.as_raw_fd());
            in_child(WITHIN, || assert!(!is_open(&own)));
            drop(registered);
            in_child(WITHIN, || assert!(is_open(&own)));
        });
    }

    #[test]
    fn a_child_that_no_handler_saw_is_told_by_its_number() {
        let generation = Generation::current();
        // SAFETY: a process as by `fork`, except for the handlers; it only asks, and ends.
        let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if child == 0 {
            let code = i32::from(!generation.is_past());
            // SAFETY: has no preconditions.
            unsafe { libc::_exit(code) };
        }
        let child = i32::try_from(child).expect("a process");
        let mut status = 0;
        // SAFETY: the child was made here, and the status is a place for one.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
        assert!(!generation.is_past());
    }
}
