//! The calls of this crate that are Linux's alone, and what stands in for them elsewhere.
//!
//! - [`allocate`] reserves space, [`Space`] is the space that a file system has left;
//! - [`Attributes`] of a name forbid to replace it;
//! - [`sync_file_system`] writes everything back;
//! - [`Event`] wakes a thread that waits in `poll`.
//!
//! `RUSTFLAGS='--cfg pget_portable' cargo check` builds the stand-ins on Linux.

#[cfg(all(target_os = "linux", not(pget_portable)))]
mod linux;
#[cfg(not(all(target_os = "linux", not(pget_portable))))]
mod portable;

#[cfg(all(target_os = "linux", not(pget_portable)))]
pub(crate) use linux::{Event, allocate, attributes, space, sync_file_system};
#[cfg(not(all(target_os = "linux", not(pget_portable))))]
pub(crate) use portable::{Event, allocate, attributes, space, sync_file_system};

/// What [`allocate`] does to the length of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// It grows to the end of the space.
    Grows,
    /// It stays.
    Stays,
}

/// What a file system reports on itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    /// Bytes that this process may still use; `None` if the file system does not know.
    pub(crate) free: Option<u64>,
    /// Whether its files are memory, where to reserve is to fill.
    pub(crate) is_memory: bool,
}

/// Why a name cannot be given to another file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) is_immutable: bool,
    pub(crate) is_append_only: bool,
    pub(crate) is_mount_point: bool,
}
