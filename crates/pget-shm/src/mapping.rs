//! Mappings of segments, and their memory.
//!
//! Invariants: a mapping lies within its file when it is made; memfds are sealed so that it stays
//! so. What is below an object's watermark is never written again while a mapping that shows it
//! lives (the locks of the companion see to that, and for the creator's children, which have none,
//! [`Since`](crate::descriptors::Since)), so it may be lent as a slice; all else of a segment is
//! touched through atomics or `pwrite`.

#![allow(
    unsafe_code,
    reason = "maps files that other processes write to; the argument is at the head of the module"
)]

use std::{
    fmt, io,
    marker::PhantomData,
    ops::{Deref, Range},
    os::fd::AsFd,
    ptr::NonNull,
};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// `length` bytes of a file from its start on, shared with all who map it.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: an address range of the process; it is no thread's own.
unsafe impl Send for Mapping {}
// SAFETY: as above; access goes through the methods, which say what they ask of their caller.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// For reading only.
    pub(crate) fn readable(file: impl AsFd, length: usize) -> io::Result<Self> {
        Self::new(file, length, ProtFlags::READ)
    }

    pub(crate) fn writable(file: impl AsFd, length: usize) -> io::Result<Self> {
        Self::new(file, length, ProtFlags::READ | ProtFlags::WRITE)
    }

    fn new(file: impl AsFd, length: usize, access: ProtFlags) -> io::Result<Self> {
        if length == 0 {
            return Ok(Self {
                start: NonNull::dangling(),
                length,
            });
        }
        // SAFETY: at an address of the kernel's choice, so nothing that is there is replaced.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                access,
                MapFlags::SHARED,
                file.as_fd(),
                0,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::Other)?;
        Ok(Self { start, length })
    }

    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    pub(crate) const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The bytes of `range`.
    ///
    /// # Safety
    /// They are in the file, and nothing writes to them while the result lives.
    ///
    /// # Panics
    /// If the mapping has not that many.
    pub(crate) unsafe fn bytes(&self, range: Range<usize>) -> &[u8] {
        assert!(
            range.start <= range.end && range.end <= self.length,
            "bytes {range:?} of a mapping of {}",
            self.length
        );
        // SAFETY: within the mapping, as just checked.
        let start = unsafe { self.start.add(range.start) };
        // SAFETY: mapped, as just checked; the rest is the caller's word.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), range.len()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.length == 0 {
            return;
        }
        // SAFETY: mapped by `new`, and what borrows from it has ended.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapping({} bytes)", self.length)
    }
}

/// Marks types that may be laid over memory of other processes.
///
/// # Safety
/// Made of atomics only, without padding, so that any bytes are a value, and that others change
/// them is no data race.
pub(crate) unsafe trait OfAtomics {}

/// A mapping whose first bytes are a `T`.
#[derive(Debug)]
pub(crate) struct Mapped<T> {
    mapping: Mapping,
    _of: PhantomData<T>,
}

impl<T: OfAtomics> Mapped<T> {
    /// # Errors
    /// `InvalidData` if it is too short.
    pub(crate) fn new(mapping: Mapping) -> io::Result<Self> {
        // Mappings begin at a page, which suits all types.
        const { assert!(align_of::<T>() <= 4096) };
        if mapping.len() < size_of::<T>() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self {
            mapping,
            _of: PhantomData,
        })
    }
}

impl<T: OfAtomics> Deref for Mapped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mapping is long enough and aligned, says `new`; any bytes are a `T`, says
        // `OfAtomics`.
        unsafe { self.mapping.start().cast().as_ref() }
    }
}
