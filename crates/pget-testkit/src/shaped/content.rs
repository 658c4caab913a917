//! The objects of a shaped server: a pattern of any size, or the files of a folder.
//!
//! The pattern repeats every 513 pages. No power of two is a multiple of the period. A chunk at a
//! wrong offset therefore differs, although the server keeps only 2 MiB.

use std::{collections::HashMap, fs::File, io, os::unix::fs::FileExt as _, path::Path, sync::Arc};

use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, memfd_create};

use super::size;
use crate::content::Pattern;

/// Length of the content's period in bytes: 513 pages.
const PERIOD: u64 = 513 * 4096;

const PATTERN: Pattern = Pattern::new(14);

/// Writes the bytes from `offset` on into `out`.
pub fn fill(offset: u64, out: &mut [u8]) {
    let mut offset = offset % PERIOD;
    let mut rest = out;
    while !rest.is_empty() {
        let room = usize::try_from(PERIOD - offset).unwrap_or(rest.len());
        let (piece, after) = rest.split_at_mut(room.min(rest.len()));
        PATTERN.fill(offset, piece);
        rest = after;
        offset = 0;
    }
}

/// The bytes of an object, as a file for `sendfile` and as memory for TLS.
#[derive(Debug)]
pub(super) enum Content {
    /// One period of the pattern.
    Pattern { file: OwnedFd, memory: Vec<u8> },
    /// A file that does not change.
    File { file: File, size: u64 },
}

impl Content {
    fn pattern() -> io::Result<Self> {
        let mut memory = vec![0; usize::try_from(PERIOD).map_err(io::Error::other)?];
        PATTERN.fill(0, &mut memory);
        let file = memfd_create("shaped", MemfdFlags::CLOEXEC)?;
        let mut rest = memory.as_slice();
        while !rest.is_empty() {
            let written = rustix::io::write(&file, rest)?;
            rest = &rest[written..];
        }
        Ok(Self::Pattern { file, memory })
    }

    /// Returns where the object's byte `offset` is stored, and how many bytes of the object follow
    /// it there.
    pub(super) const fn place(&self, offset: u64) -> (u64, u64) {
        match self {
            Self::Pattern { .. } => (offset % PERIOD, PERIOD - offset % PERIOD),
            Self::File { size, .. } => (offset, size.saturating_sub(offset)),
        }
    }

    /// Returns the file that stores the bytes.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        match self {
            Self::Pattern { file, .. } => file.as_fd(),
            Self::File { file, .. } => file.as_fd(),
        }
    }

    /// Passes `length` stored bytes from `at` on to `write`.
    pub(super) fn with(
        &self,
        at: u64,
        length: usize,
        write: impl FnOnce(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match self {
            Self::Pattern { memory, .. } => {
                let from = usize::try_from(at).map_err(io::Error::other)?;
                write(&memory[from..from + length])
            }
            Self::File { file, .. } => {
                let mut piece = vec![0; length];
                file.read_exact_at(&mut piece, at)?;
                write(&piece)
            }
        }
    }
}

/// The objects of a server.
#[derive(Debug)]
pub(super) enum Objects {
    /// The pattern; an object's name is its size.
    Sizes(Arc<Content>),
    /// The files of a folder, by name.
    Files(HashMap<String, Arc<Content>>),
}

impl Objects {
    /// Returns the objects of any size.
    pub(super) fn sizes() -> io::Result<Self> {
        Ok(Self::Sizes(Arc::new(Content::pattern()?)))
    }

    /// Opens the files of `folder`.
    pub(super) fn files(folder: &Path) -> io::Result<Self> {
        let mut files = HashMap::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_file() {
                let (file, size) = (File::open(entry.path())?, meta.len());
                let name = entry.file_name().to_string_lossy().into_owned();
                files.insert(name, Arc::new(Content::File { file, size }));
            }
        }
        Ok(Self::Files(files))
    }

    /// Returns the size and the content of the object of this name.
    pub(super) fn find(&self, name: &str) -> Option<(u64, &Arc<Content>)> {
        match self {
            Self::Sizes(pattern) => size(name).map(|size| (size, pattern)),
            Self::Files(files) => {
                let content = files.get(name)?;
                Some((content.place(0).1, content))
            }
        }
    }
}
