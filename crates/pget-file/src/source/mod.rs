//! Reads a file by positional reads on tokio's blocking threads, straight into the slot.
//!
//! Invariants: the blocking closure owns the [`ChunkWriter`], so that a dropped read keeps its
//! memory until the closure has noticed; no byte is published before the file was seen unchanged
//! after the read that brought it; one source holds one open file, so that what takes over its name
//! (rename) is never read by it; the file that lost its name is reported as changed, because its
//! inode's time changes with that.
//!
//! A file's identity is its device, inode, size, and the times of its last change of content and of
//! attributes. Their resolution is the file system's: a write of the same size within one tick of
//! the kernel's clock (up to 10 ms, before Linux 6.13) of another may go unseen. And a writer
//! through a memory map: on tmpfs its writes change no time at all, elsewhere only the first one to
//! a page since that was last written back does, so what it writes in between cannot be noticed. A
//! file that is mapped for writing is to be read when its writer is done.
//!
//! What is not a plain file with a size (a FIFO, a terminal, a device, most files below `/proc`) is
//! read as one stream from its beginning; what comes before the offset is read and dropped. A FIFO
//! is waited for until a writer opens it: there the download's first-byte deadline does not help,
//! as the stream has begun, but the stall deadline does, and dropping the reader ends the wait at
//! once. Devices that block although they were opened with `O_NONBLOCK` keep a thread until they
//! give something.

mod blocking;
mod identity;
mod plain;
mod stream;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use pget_core::{ChunkWriter, ObjectInfo, RangeRequest, RangeSource, SourceError};

use blocking::spawn_blocking;
use plain::Plain;

/// A file as a source of ranges.
pub struct FileSource {
    path: Arc<PathBuf>,
    /// The open file, once the first read has opened it.
    plain: Arc<Mutex<Option<Arc<Plain>>>>,
}

impl FileSource {
    /// Makes a source of the file at `path`. Does not touch it yet: the first read reports what is
    /// wrong with it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: Arc::new(path.into()),
            plain: Arc::default(),
        }
    }

    /// The open file, or `None` if it can only be read as a stream. On a blocking thread.
    async fn plain(&self) -> Result<Option<Arc<Plain>>, SourceError> {
        let (path, plain) = (Arc::clone(&self.path), Arc::clone(&self.plain));
        spawn_blocking(move || {
            let mut plain = plain.lock().unwrap_or_else(PoisonError::into_inner);
            if plain.is_none() {
                *plain = Plain::open(&path)?.map(Arc::new);
            }
            Ok(plain.clone())
        })
        .await
    }
}

#[async_trait]
impl RangeSource for FileSource {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        let Some(plain) = self.plain().await? else {
            return Ok(ObjectInfo {
                ranges: Some(false),
                ..ObjectInfo::default()
            });
        };
        let identity = spawn_blocking(move || plain.identity()).await?;
        Ok(ObjectInfo {
            size: Some(identity.size()),
            revision: identity.revision(),
            chunk_hint: None,
            checksum: None,
            ranges: Some(true),
        })
    }

    async fn read(&self, request: &RangeRequest, chunk: ChunkWriter) -> Result<(), SourceError> {
        match self.plain().await? {
            Some(plain) => plain::read(plain, request, chunk).await,
            None => stream::read(Arc::clone(&self.path), chunk).await,
        }
    }

    fn name(&self) -> String {
        pget_core::redact::name(&self.path.to_string_lossy())
    }
}

impl fmt::Debug for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSource")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}
