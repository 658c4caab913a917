//! Where a segment comes from, and how its filling stands: what callers say and are told.

use pget_core::Error;

use crate::{
    buffer::{SharedBuffer, cannot_reuse},
    name::Posix,
};

/// Where an object's shared memory comes from.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Placement {
    /// New, without a name in `/dev/shm`: nothing is left of it when the last process lets go, however it ends. Others attach by [`SharedBuffer::name`].
    #[default]
    Anonymous,
    /// New, under this POSIX name (a leading slash is left away), which must be free. The creator's close takes the name away.
    Named(String),
    /// The pages of a segment that this process made and filled, under its name, where that can be: nobody is attached to it, this process has not forked since it was made (a
    /// child may still read it; `posix_spawn` and `vfork` do not count, by which most programs are started), and, if it is anonymous, the object is no longer than its first one. Else a new
    /// segment of the same kind; those who are attached keep the old one. Pages that were used before cost about a third of new ones, the first time two thirds: a
    /// download receives straight into them, through a mapping that is kept from object to object.
    Reuse(SharedBuffer),
}

impl Placement {
    /// Looks, before a download has asked for anything, whether this can be a place: the name could be one, or the segment to be used again is this process's own and complete.
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

/// How the filling of a segment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Bytes are arriving.
    Filling,
    /// All of the object is there.
    Complete,
    /// The rest will not come: the download failed, or the process that filled it died or closed it.
    Failed,
}
