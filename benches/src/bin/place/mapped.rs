//! Memory for the bare ways: anonymous, or the pages of a memfd.

#![allow(unsafe_code, reason = "maps memory of this process's own to receive into")]

use std::{fs::File, io, ptr::NonNull};

use rustix::{
    fs::{MemfdFlags, memfd_create},
    mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap},
};

/// Memory that only its owner uses.
pub(crate) struct Mapped {
    start: NonNull<u8>,
    length: usize,
}

/// Creates a file in memory of `length` bytes, without any page.
pub(crate) fn file(length: u64) -> io::Result<File> {
    let file = File::from(memfd_create("pget-bench", MemfdFlags::CLOEXEC)?);
    file.set_len(length)?;
    Ok(file)
}

impl Mapped {
    /// Maps this file, which only this process has.
    pub(crate) fn of(file: &File, length: usize) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the address.
        let start = unsafe { mmap(std::ptr::null_mut(), length, access, MapFlags::SHARED, file, 0) }?;
        Self::at(start.cast(), length)
    }

    pub(crate) fn anonymous(length: usize) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the address.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), length, access, MapFlags::PRIVATE) }?;
        Self::at(start.cast(), length)
    }

    fn at(start: *mut u8, length: usize) -> io::Result<Self> {
        let start = NonNull::new(start).ok_or(io::ErrorKind::Other)?;
        Ok(Self { start, length })
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the memory is mapped for reading and writing until this value is dropped, and
        // only this process has it.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

/// Populates the pages of `part`, which begins and ends at the edge of a page.
pub(crate) fn populate(part: &mut [u8]) -> io::Result<()> {
    // SAFETY: the call changes no byte.
    unsafe { madvise(part.as_mut_ptr().cast(), part.len(), Advice::LinuxPopulateWrite) }?;
    Ok(())
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: this value has mapped the memory, and every borrow of it has ended.
        unsafe { munmap(self.start.as_ptr().cast(), self.length) }.ok();
    }
}
