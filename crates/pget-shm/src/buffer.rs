//! The one handle that creators and those who attach have.

use std::{fmt, fs::File, io, os::unix::fs::MetadataExt, sync::Arc, time::Instant};

use pget_core::{Error, ErrorKind};

use crate::{
    fill::Filler,
    layout::{COMPANION, COMPLETE, Companion, FILLING, Kind},
    lock::{self, Byte, Looked},
    mapping::{Mapped, Mapping},
    name::Posix,
    open::{Access, cannot_attach, not_ours, open_segment},
    segment::{Segment, cannot_make},
    state::{self, State},
    wait::{self, Ended},
    waker::{Waker, Wakes},
};

/// Where an object's shared memory comes from.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Placement {
    /// New, without a name in `/dev/shm`: nothing is left of it when the last process lets go,
    /// however it ends. Others attach by [`SharedBuffer::name`].
    #[default]
    Anonymous,
    /// New, under this POSIX name (a leading slash is left away), which must be free. The creator's
    /// close takes the name away.
    Named(String),
    /// The pages of a segment that this process made and filled, under its name, where that can be:
    /// no process is attached to it, this process has not forked since it was made (a child may
    /// still read it; `posix_spawn` and `vfork` do not count, by which most programs are started),
    /// and, if it is anonymous, the object is no longer than its first one. Else a new segment of
    /// the same kind; those who are attached keep the old one. Pages that were used before cost
    /// about a third of new ones, the first time two thirds: a download receives straight into
    /// them, through a mapping that is kept from object to object.
    Reuse(SharedBuffer),
}

impl Placement {
    /// Looks, before a download has asked for anything, whether this can be a place: the name could
    /// be one, or the segment to be used again is this process's own and complete.
    ///
    /// # Errors
    /// [`InvalidArgument`](pget_core::ErrorKind::InvalidArgument) if not.
    pub fn check(&self) -> Result<(), Error> {
        match self {
            Self::Anonymous => Ok(()),
            Self::Named(name) => Posix::new(name).map(drop),
            Self::Reuse(buffer) => match buffer.not_reusable() {
                Some(why) => Err(cannot_reuse(why)),
                None => Ok(()),
            },
        }
    }
}

/// An object in shared memory, whole or arriving.
///
/// Any thread may use it; waiting blocks the thread. Dropping it is [`close`](Self::close).
pub struct SharedBuffer {
    name: String,
    open: Option<Open>,
}

struct Open {
    length: usize,
    revision: String,
    view: Mapping,
    role: Role,
}

enum Role {
    Creator(Arc<Segment>),
    Attached {
        companion: Arc<Mapped<Companion>>,
        looked: Looked,
    },
}

impl Open {
    fn companion(&self) -> &Companion {
        match &self.role {
            Role::Creator(segment) => segment.companion(),
            Role::Attached { companion, .. } => companion,
        }
    }

    fn is_alive(&self) -> bool {
        match &self.role {
            Role::Creator(segment) => segment.is_own(),
            // One that cannot be asked is not known to be dead.
            Role::Attached { looked, .. } => lock::is_held(looked.file(), Byte::Alive).unwrap_or(true),
        }
    }

    /// What is there, which is never written again.
    fn available(&self) -> usize {
        let watermark = usize::try_from(self.companion().watermark()).unwrap_or(usize::MAX);
        watermark.min(self.length)
    }
}

impl SharedBuffer {
    /// Makes a segment for `length` bytes of the content `revision` (a text for people), and what
    /// fills it.
    ///
    /// The first 16 MiB are reserved when it returns, the rest by a thread.
    ///
    /// # Errors
    /// [`Destination`](ErrorKind::Destination) if there is no room or the name is taken,
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for an unusable name, or a segment that
    /// cannot be reused as it is still being filled or not this process's.
    pub fn create(placement: Placement, length: u64, revision: &str) -> Result<(Self, Filler), Error> {
        let bytes = usize::try_from(length)
            .ok()
            .filter(|bytes| isize::try_from(*bytes).is_ok());
        let Some(bytes) = bytes else {
            let message = format!("{length} bytes are more than memory can have");
            return Err(Error::new(ErrorKind::Destination, "", message));
        };
        let (segment, view) = match placement {
            Placement::Anonymous => (Segment::create(None, Kind::Object, length, revision)?, None),
            Placement::Named(name) => (
                Segment::create(Some(&Posix::new(&name)?), Kind::Object, length, revision)?,
                None,
            ),
            Placement::Reuse(old) => {
                let (segment, view) = old.into_reusable()?;
                let kept = Arc::clone(&segment);
                let made = match segment.begin_anew(length, revision) {
                    Ok(true) => Some(Self::filled_by(segment, bytes, revision, Some(view))),
                    Ok(false) => None,
                    Err(cause) => {
                        let what = format!("shared memory {}", segment.name());
                        Some(Err(cannot_make(&what, cause)))
                    }
                };
                if !matches!(made, Some(Ok(_))) {
                    // Others may hold the segment for a moment: the download before.
                    kept.unlink();
                }
                if let Some(made) = made {
                    return made;
                }
                (
                    Segment::create(kept.posix(), Kind::Object, length, revision)?,
                    None,
                )
            }
        };
        Self::filled_by(Arc::new(segment), bytes, revision, view)
    }

    fn filled_by(
        segment: Arc<Segment>,
        length: usize,
        revision: &str,
        view: Option<Mapping>,
    ) -> Result<(Self, Filler), Error> {
        let name = segment.name().to_owned();
        let made = || {
            let view = match view.filter(|view| view.len() >= length) {
                Some(view) => view,
                None => Mapping::readable(&**segment.data(), length)?,
            };
            // Last: dropped, it would say that the filling was given up.
            io::Result::Ok((Filler::new(Arc::clone(&segment))?, view))
        };
        let (filler, view) = made()
            // It has its name by now, and maybe readers.
            .map_err(|cause| segment.fail(cannot_make(&format!("shared memory {name}"), cause)))?;
        let open = Open {
            length,
            revision: revision.to_owned(),
            view,
            role: Role::Creator(segment),
        };
        let buffer = Self {
            name,
            open: Some(open),
        };
        Ok((buffer, filler))
    }

    /// Attaches for reading, also while it is filled: `name` is what [`name`](Self::name) returns
    /// in the creating process, or the POSIX name.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if the name does not exist (yet),
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) if it is another user's, open to others,
    /// or a link, [`InvalidArgument`](ErrorKind::InvalidArgument) if it is no segment of pget's,
    /// [`Unavailable`](ErrorKind::Unavailable) if its creator died before it was filled,
    /// [`Timeout`](ErrorKind::Timeout) if its creator keeps it locked for five seconds: the creator
    /// was stopped while it made another object of the segment.
    pub fn attach(name: &str) -> Result<Self, Error> {
        let (companion, data) = open_segment(name, Access::Read)?;
        let open = Self::open_files(companion, &data).map_err(|cause| cannot_attach(name, cause))?;
        if state::state(open.companion(), || open.is_alive()) == State::Failed
            && open.companion().state() == FILLING
        {
            return Err(died(name));
        }
        Ok(Self {
            name: name
                .strip_prefix('/')
                .filter(|rest| !rest.contains('/'))
                .unwrap_or(name)
                .to_owned(),
            open: Some(open),
        })
    }

    fn open_files(file: File, data: &File) -> io::Result<Open> {
        let companion = Mapped::<Companion>::new(Mapping::readable(&file, COMPANION)?)?;
        companion.check(Some(Kind::Object))?;
        companion.check_open()?;
        // From here on the creator makes no other object of it.
        let looked = Looked::take(file)?;
        let meta = data.metadata()?;
        let length = usize::try_from(companion.length()).ok();
        let length = length.filter(|length| *length as u64 <= meta.len());
        let Some(length) = length.filter(|_| companion.inode() == meta.ino()) else {
            return Err(not_ours("its two parts do not fit each other"));
        };
        Ok(Open {
            length,
            revision: companion.revision(),
            view: Mapping::readable(data, length)?,
            role: Role::Attached {
                companion: Arc::new(companion),
                looked,
            },
        })
    }

    /// The name that other processes attach by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of the object, there or not; 0 after [`close`](Self::close).
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.length)
    }

    /// Whether the object has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is there: the object's bytes from its start up to the first that has not arrived. Never
    /// waits.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        let Some(open) = &self.open else { return &[] };
        slice(open)
    }

    /// Where the object's bytes are or will be, for programs in other languages: `len()` bytes, of
    /// which only those of [`as_slice`](Self::as_slice) may be read. Good until
    /// [`close`](Self::close).
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        match &self.open {
            Some(open) => open.view.start().as_ptr(),
            None => std::ptr::null(),
        }
    }

    /// How the filling stands.
    #[must_use]
    pub fn state(&self) -> State {
        let Some(open) = &self.open else {
            return State::Failed;
        };
        state::state(open.companion(), || open.is_alive())
    }

    /// Which content of the object it is, for people; empty after [`close`](Self::close).
    #[must_use]
    pub fn revision(&self) -> &str {
        self.open.as_ref().map_or("", |open| &open.revision)
    }

    /// Waits until the first `offset` bytes are there, and returns what is there, which may be
    /// more. For `offset` = [`len`](Self::len): until the object is known to be complete.
    ///
    /// # Errors
    /// What the download failed with, as soon as it has and the bytes are not there;
    /// [`Unavailable`](ErrorKind::Unavailable) if the creator died (noticed within half a second);
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for an offset beyond the end, or a closed
    /// buffer.
    pub fn wait_for(&self, offset: usize) -> Result<&[u8], Error> {
        self.wait_unless(offset, None, &|| false)
    }

    /// As [`wait_for`](Self::wait_for), until `deadline` at the latest.
    ///
    /// # Errors
    /// As [`wait_for`](Self::wait_for); [`Timeout`](ErrorKind::Timeout) after the deadline.
    pub fn wait_until(&self, offset: usize, deadline: Instant) -> Result<&[u8], Error> {
        self.wait_unless(offset, Some(deadline), &|| false)
    }

    /// As [`wait_for`](Self::wait_for), until `deadline` at the latest if there is one, and until
    /// `stop` says so: it is asked before each sleep, and four times a second; the code that
    /// changes what it says calls [`wake`](Self::wake) for it to be noticed: at once in the process
    /// that made it, within a quarter of a second in one that attached.
    ///
    /// # Errors
    /// As [`wait_until`](Self::wait_until); [`Cancelled`](ErrorKind::Cancelled) if it was stopped.
    pub fn wait_unless(
        &self,
        offset: usize,
        deadline: Option<Instant>,
        stop: &dyn Fn() -> bool,
    ) -> Result<&[u8], Error> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidArgument, "", message));
        let Some(open) = &self.open else {
            return invalid(format!("the shared memory {} was closed", self.name));
        };
        if offset > open.length {
            return invalid(format!("byte {offset} of an object of {} bytes", open.length));
        }
        match wait::wait(open.companion(), offset as u64, deadline, stop, || {
            open.is_alive()
        }) {
            Ok(()) => {
                let there = slice(open);
                // A process that may write to the companion may have it say that it is complete
                // with less than all.
                if there.len() < offset {
                    let message = format!("the shared memory {} contradicts itself", self.name);
                    return Err(Error::new(ErrorKind::Internal, "", message));
                }
                Ok(there)
            }
            Err(Ended::Failed) => Err(told(open.companion(), &self.name)),
            Err(Ended::Died) if matches!(&open.role, Role::Creator(segment) if !segment.is_own()) => {
                let message = format!("the shared memory {} is the parent's", self.name);
                Err(Error::new(ErrorKind::Forked, "", message))
            }
            Err(Ended::Died) => Err(died(&self.name)),
            Err(Ended::Late) => Err(Error::new(
                ErrorKind::Timeout,
                "",
                format!("waiting for byte {offset} in the shared memory {}", self.name),
            )),
            Err(Ended::Stopped) => Err(Error::new(ErrorKind::Cancelled, "", "the wait was stopped")),
            Err(Ended::System(cause)) => Err(Error::with_cause(
                ErrorKind::Internal,
                "",
                "cannot wait on shared memory",
                cause,
            )),
        }
    }

    /// Has all who wait, here and in other processes, look again whether they are to go on. From
    /// where it was attached to, one that is just about to sleep misses it, and looks again a
    /// quarter of a second later.
    pub fn wake(&self) {
        if let Some(waker) = self.waker() {
            waker.wake();
        }
    }

    /// What [wakes](Self::wake), without the buffer; `None` after [`close`](Self::close).
    #[must_use]
    pub fn waker(&self) -> Option<Waker> {
        self.open.as_ref().map(|open| {
            Waker(match &open.role {
                Role::Creator(segment) => Wakes::Segment(Arc::clone(segment)),
                Role::Attached { companion, .. } => Wakes::Companion(Arc::clone(companion)),
            })
        })
    }

    /// Lets go of it; in the creating process, its name goes, and a filling that goes on fails for
    /// all. Processes that are attached keep what they have. A second call does nothing.
    pub fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        if let Role::Creator(segment) = &open.role
            && segment.is_own()
        {
            segment.end(|companion| {
                companion.fail(ErrorKind::Cancelled, "closed by the process that filled it")
            });
            segment.unlink();
        }
    }

    pub(crate) fn not_reusable(&self) -> Option<&'static str> {
        match &self.open {
            Some(Open {
                role: Role::Creator(segment),
                ..
            }) if segment.is_own() => {
                (segment.companion().state() != COMPLETE).then_some("its object is not complete")
            }
            Some(Open {
                role: Role::Attached { .. },
                ..
            }) => Some("it was attached to, not made here"),
            Some(_) => Some("it is the parent's"),
            None => Some("it was closed"),
        }
    }

    /// The creator's part, to be used for another object.
    fn into_reusable(mut self) -> Result<(Arc<Segment>, Mapping), Error> {
        if let Some(why) = self.not_reusable() {
            return Err(cannot_reuse(why));
        }
        match self.open.take() {
            Some(Open {
                role: Role::Creator(segment),
                view,
                ..
            }) => Ok((segment, view)),
            _ => Err(cannot_reuse("it was closed")),
        }
    }
}

pub(crate) fn cannot_reuse(why: &str) -> Error {
    let message = format!("the shared memory cannot be used again: {why}");
    Error::new(ErrorKind::InvalidArgument, "", message)
}

fn slice(open: &Open) -> &[u8] {
    let available = open.available();
    #[allow(unsafe_code, reason = "lends mapped bytes that stay as they are")]
    // SAFETY: the length was compared with the file's when it was mapped; what is below the
    // watermark is never written again while the locks of the companion are held, and `open` holds
    // its, or is the creator's; then this is the creator, or was forked from it, after which the
    // creator makes no other object of the segment.
    unsafe {
        open.view.bytes(0..available)
    }
}

/// What the filling failed with.
pub(crate) fn told(companion: &Companion, name: &str) -> Error {
    let (kind, reason) = companion.reason();
    Error::new(kind, "", format!("shared memory {name}: {reason}"))
}

pub(crate) fn died(name: &str) -> Error {
    let message = format!("the process that filled the shared memory {name} is gone, and it is not complete");
    Error::new(ErrorKind::Unavailable, "", message)
}

impl Drop for SharedBuffer {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for SharedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBuffer")
            .field("name", &self.name)
            .field("length", &self.len())
            .field("available", &self.as_slice().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_there_before_the_room_hears_that_there_is_none() {
        // More than a machine has.
        const LENGTH: u64 = 1 << 42;
        let segment = Segment::create(None, Kind::Object, LENGTH, "").expect("a segment");
        let reader = SharedBuffer::attach(segment.name()).expect("attached");
        let length = usize::try_from(LENGTH).expect("a length");
        let made = SharedBuffer::filled_by(Arc::new(segment), length, "", None);
        assert_eq!(made.expect_err("no room").kind(), ErrorKind::Destination);
        let error = reader.wait_for(1).expect_err("it failed");
        assert_eq!(error.kind(), ErrorKind::Destination, "{error}");
        assert!(error.to_line().contains("cannot be made"), "{error}");
    }
}
