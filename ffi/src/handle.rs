//! Handles: what foreign code holds is a number in a pointer's clothes, which is looked up and
//! never followed.
//!
//! Invariants: a number is given once in a process, so that a handle which was freed is
//! distinguished from every later one; it names its kind and is no address that could be read, so
//! that foreign code which follows it stops at once. What a handle stands for lives until it is
//! removed *and* the last call that uses it has returned. A forked child has registries of its own.
//! Numbers go on there, so that a handle from before the fork is recognised by its number alone,
//! without a look at what the parent had.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use pget_rs::{
    Error, ErrorKind,
    fork::{PerProcess, forked},
};

/// Above all user addresses on 64-bit machines, and not canonical.
const BASE: usize = 0x5047 << BASE_SHIFT;

/// The highest 16 bits.
const BASE_SHIFT: u32 = usize::BITS - 16;

/// Bits below the serial number, for the kind.
const KIND_BITS: u32 = 4;

static SERIAL: AtomicUsize = AtomicUsize::new(1);

/// The first serial number of this process; lower ones are handles from before a fork.
fn first() -> usize {
    static FIRST: PerProcess<usize> = PerProcess::new();
    *FIRST.get_or_init(|| SERIAL.load(Ordering::Relaxed))
}

type Live<T> = RwLock<BTreeMap<usize, Arc<T>>>;

/// The live handles of one kind.
pub(crate) struct Registry<T> {
    kind: usize,
    name: &'static str,
    live: PerProcess<Live<T>>,
}

impl<T> Registry<T> {
    /// `kind` from 1 to 15, another for each registry.
    pub(crate) const fn new(kind: usize, name: &'static str) -> Self {
        Self {
            kind,
            name,
            live: PerProcess::new(),
        }
    }

    fn live(&self) -> &Live<T> {
        self.live.get_or_init(Live::default)
    }

    /// A new handle.
    pub(crate) fn insert<H>(&self, value: T) -> *mut H {
        first();
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let number = BASE | (serial << KIND_BITS) | self.kind;
        self.live()
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(number, Arc::new(value));
        std::ptr::without_provenance_mut(number)
    }

    /// Returns the value that the handle stands for.
    ///
    /// # Errors
    /// `Forked` for a handle from before a fork; `InvalidArgument` for null, a removed handle, or
    /// anything else.
    pub(crate) fn get<H>(&self, handle: *const H) -> Result<Arc<T>, Error> {
        self.live()
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&handle.addr())
            .cloned()
            .ok_or_else(|| self.unknown(handle.addr()))
    }

    /// Ends the handle; does nothing if it is not one.
    pub(crate) fn remove<H>(&self, handle: *mut H) -> Option<Arc<T>> {
        self.live()
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&handle.addr())
    }

    fn unknown(&self, number: usize) -> Error {
        let name = self.name;
        let is_of_kind =
            number >> BASE_SHIFT == BASE >> BASE_SHIFT && number & ((1 << KIND_BITS) - 1) == self.kind;
        if is_of_kind && (number & !BASE) >> KIND_BITS < first() {
            return forked(&format!("the {name}"));
        }
        let message = if number == 0 {
            format!("the {name} is null")
        } else if is_of_kind {
            format!("the {name} was freed or closed before")
        } else {
            format!("the {name} is no handle of this library")
        };
        Error::new(ErrorKind::InvalidArgument, "", message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_foreign_and_null_handles_are_told() {
        static NUMBERS: Registry<u32> = Registry::new(14, "number");
        let handle: *mut u8 = NUMBERS.insert(7);
        assert_eq!(*NUMBERS.get(handle).expect("live"), 7);
        assert_eq!(NUMBERS.remove(handle).as_deref(), Some(&7));
        assert_eq!(NUMBERS.remove(handle), None);
        let told = |handle: *const u8| NUMBERS.get(handle).expect_err("no handle").to_string();
        assert_eq!(
            told(handle),
            "invalid argument: the number was freed or closed before"
        );
        assert_eq!(told(std::ptr::null()), "invalid argument: the number is null");
        assert_eq!(
            told(&raw const told as *const u8),
            "invalid argument: the number is no handle of this library"
        );
        let next: *mut u8 = NUMBERS.insert(8);
        assert_ne!(next, handle);
        assert!(NUMBERS.remove(next).is_some());
    }

    #[test]
    fn a_child_of_a_process_whose_handles_are_locked_has_its_own() {
        static NUMBERS: Registry<u32> = Registry::new(15, "number");
        let before: *mut u8 = NUMBERS.insert(7);
        let held = NUMBERS.live().write().expect("not poisoned");
        pget_testkit::forked::in_child(std::time::Duration::from_secs(30), || {
            let told = |handle: *const u8| NUMBERS.get(handle).expect_err("no handle").kind();
            assert_eq!(told(before), ErrorKind::Forked);
            assert_eq!(NUMBERS.remove(before), None);
            assert_eq!(told(before), ErrorKind::Forked);
            let own: *mut u8 = NUMBERS.insert(8);
            assert_eq!(*NUMBERS.get(own).expect("live"), 8);
            assert_eq!(NUMBERS.remove(own).as_deref(), Some(&8));
            assert_eq!(told(own), ErrorKind::InvalidArgument);
            assert_eq!(told(std::ptr::null()), ErrorKind::InvalidArgument);
        });
        drop(held);
        assert_eq!(*NUMBERS.get(before).expect("live"), 7);
    }
}
