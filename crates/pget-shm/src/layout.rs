//! The companion's page, as the table at the head of the crate has it.
//!
//! Invariants: texts are written before the word that publishes them (the state, or the name under
//! which the segment appears); what another process may have put there is checked before it is
//! believed: lengths are cut, texts need not be UTF-8, unknown numbers are errors.

#![allow(unsafe_code, reason = "marks the page as made of atomics")]

use std::{
    io,
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
};

use pget_core::ErrorKind;
use rustix::thread::futex;

use crate::mapping::OfAtomics;

const MAGIC: u64 = u64::from_ne_bytes(*b"pgetshm\0");
const VERSION: u32 = 1;

/// Bytes of the companion.
pub(crate) const COMPANION: usize = size_of::<Companion>();

const REVISION: usize = 1024;
const REASON: usize = 4096 - 64 - REVISION;

/// The kinds of errors by their numbers in the companion. New ones go to the end.
const KINDS: [ErrorKind; 17] = [
    ErrorKind::InvalidArgument,
    ErrorKind::Unsupported,
    ErrorKind::NotFound,
    ErrorKind::PermissionDenied,
    ErrorKind::ObjectChanged,
    ErrorKind::Range,
    ErrorKind::Timeout,
    ErrorKind::Unavailable,
    ErrorKind::Protocol,
    ErrorKind::Checksum,
    ErrorKind::Destination,
    ErrorKind::BufferTooSmall,
    ErrorKind::Cancelled,
    ErrorKind::Forked,
    ErrorKind::Internal,
    ErrorKind::Unverifiable,
    ErrorKind::Resources,
];

/// The state's numbers.
pub(crate) const FILLING: u32 = 1;
pub(crate) const COMPLETE: u32 = 2;
pub(crate) const FAILED: u32 = 3;

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An object, whole or arriving.
    Object = 0,
    /// A stream.
    Ring = 1,
}

#[repr(C)]
#[derive(Debug)]
pub(crate) struct Companion {
    magic: AtomicU64,
    version: AtomicU32,
    state: AtomicU32,
    length: AtomicU64,
    watermark: AtomicU64,
    notices: AtomicU32,
    failure: AtomicU32,
    inode: AtomicU64,
    revision_length: AtomicU32,
    reason_length: AtomicU32,
    kind: AtomicU32,
    closed: AtomicU32,
    revision: [AtomicU8; REVISION],
    reason: [AtomicU8; REASON],
}

const _: () = assert!(COMPANION == 4096, "a page, and so without padding");

// SAFETY: atomics only, and no padding, as the assertion says.
unsafe impl OfAtomics for Companion {}

impl Companion {
    /// Fills in a page before it is known, or while no other process may look.
    pub(crate) fn begin(&self, kind: Kind, length: u64, inode: u64, revision: &str) {
        self.version.store(VERSION, Ordering::Relaxed);
        self.length.store(length, Ordering::Relaxed);
        self.watermark.store(0, Ordering::Relaxed);
        self.failure.store(0, Ordering::Relaxed);
        self.inode.store(inode, Ordering::Relaxed);
        self.reason_length.store(0, Ordering::Relaxed);
        self.kind.store(kind as u32, Ordering::Relaxed);
        put_text(revision, &self.revision, &self.revision_length);
        self.state.store(FILLING, Ordering::Release);
        self.magic.store(MAGIC, Ordering::Release);
    }

    /// Fills in the next stream of a ring, whose reader does not look before it is notified.
    pub(crate) fn begin_next(&self, revision: &str) {
        self.failure.store(0, Ordering::Relaxed);
        self.reason_length.store(0, Ordering::Relaxed);
        put_text(revision, &self.revision, &self.revision_length);
        self.state.store(FILLING, Ordering::Release);
    }

    /// # Errors
    /// `InvalidData` if it is no companion of a segment of that kind (of any, if `None`), or one of
    /// another version.
    pub(crate) fn check(&self, kind: Option<Kind>) -> io::Result<()> {
        let invalid = |message: String| Err(io::Error::new(io::ErrorKind::InvalidData, message));
        if self.magic.load(Ordering::Acquire) != MAGIC {
            return invalid("it was not made by pget".into());
        }
        match self.version.load(Ordering::Relaxed) {
            VERSION if kind.is_some_and(|kind| kind as u32 != self.kind.load(Ordering::Relaxed)) => {
                invalid("it holds something else (a ring is no object, and an object no ring)".into())
            }
            VERSION => Ok(()),
            version => invalid(format!("its layout is version {version}, known is {VERSION}")),
        }
    }

    /// Refuses all who attach from now on.
    pub(crate) fn close(&self) {
        self.closed.store(1, Ordering::Release);
    }

    /// # Errors
    /// `NotFound` after [`close`](Self::close). The descriptors of an anonymous segment can stay
    /// open for a moment longer: the task that filled it has not ended yet.
    pub(crate) fn check_open(&self) -> io::Result<()> {
        if self.closed.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the process that made it has closed it",
        ))
    }

    pub(crate) fn length(&self) -> u64 {
        self.length.load(Ordering::Relaxed)
    }

    pub(crate) fn inode(&self) -> u64 {
        self.inode.load(Ordering::Relaxed)
    }

    /// What is written to below it happened before this call.
    pub(crate) fn watermark(&self) -> u64 {
        self.watermark.load(Ordering::Acquire)
    }

    pub(crate) fn state(&self) -> u32 {
        self.state.load(Ordering::Acquire)
    }

    pub(crate) fn revision(&self) -> String {
        text(&self.revision, &self.revision_length)
    }

    /// Why it failed; to be asked after the state.
    pub(crate) fn reason(&self) -> (ErrorKind, String) {
        let kind = usize::try_from(self.failure.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let kind = KINDS.get(kind).copied().unwrap_or(ErrorKind::Internal);
        (kind, text(&self.reason, &self.reason_length))
    }

    /// Publishes what lies below, and wakes those who wait.
    pub(crate) fn raise(&self, watermark: u64) {
        self.watermark.store(watermark, Ordering::Release);
        self.notify();
    }

    pub(crate) fn complete(&self) {
        self.state.store(COMPLETE, Ordering::Release);
        self.notify();
    }

    pub(crate) fn fail(&self, kind: ErrorKind, reason: &str) {
        let number = KINDS.iter().position(|known| *known == kind);
        let number = number.and_then(|number| u32::try_from(number).ok());
        self.failure.store(number.unwrap_or(u32::MAX), Ordering::Relaxed);
        put_text(reason, &self.reason, &self.reason_length);
        self.state.store(FAILED, Ordering::Release);
        self.notify();
    }

    /// The futex word: it has another value after the next change.
    pub(crate) const fn notices(&self) -> &AtomicU32 {
        &self.notices
    }

    /// Has all who wait look at what was changed: here, or in what asks them to stop.
    pub(crate) fn notify(&self) {
        self.notices.fetch_add(1, Ordering::Release);
        self.wake();
    }

    /// Has all who wait look again, except one that is just about to: for those who may only read.
    pub(crate) fn wake(&self) {
        // It can only fail for an invalid address.
        futex::wake(&self.notices, futex::Flags::empty(), u32::MAX >> 1).ok();
    }
}

fn put_text(from: &str, to: &[AtomicU8], length: &AtomicU32) {
    let mut end = from.len().min(to.len());
    while !from.is_char_boundary(end) {
        end -= 1;
    }
    for (to, from) in to.iter().zip(from.bytes().take(end)) {
        to.store(from, Ordering::Relaxed);
    }
    length.store(u32::try_from(end).unwrap_or_default(), Ordering::Relaxed);
}

/// A text that the maker of the segment wrote: without control characters, as it goes to terminals
/// and into lists of lines.
fn text(from: &[AtomicU8], length: &AtomicU32) -> String {
    let length = usize::try_from(length.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
    let bytes: Vec<u8> = from
        .iter()
        .take(length)
        .map(|byte| byte.load(Ordering::Relaxed))
        .collect();
    String::from_utf8_lossy(&bytes)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
