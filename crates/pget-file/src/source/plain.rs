//! Files with a size: positional reads of any range, checked against the file's identity piece by
//! piece. Called by `FileSource`.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use pget_core::{BufMut, ChunkWriter, ErrorKind, RangeRequest, Reply, SourceError};
use rustix::{fs::OFlags, io::Errno};

use super::{
    blocking::{failed, spawn_blocking},
    identity::Identity,
};

/// Bytes read at a time: from here on larger reads cost no less, and a dropped read is noticed
/// within one of them.
const PIECE: usize = 1 << 20;

/// How a path is opened: without waiting for the other side of a FIFO or a device, and never making
/// a terminal this process's.
pub(crate) const fn open_flags() -> i32 {
    // The flags are bits of an `int`.
    OFlags::NONBLOCK
        .union(OFlags::NOCTTY)
        .union(OFlags::CLOEXEC)
        .bits()
        .cast_signed()
}

/// An open file that has a size.
#[derive(Debug)]
pub(crate) struct Plain(File);

impl Plain {
    /// Opens `path`; `None` if it is not a file with a size, and then leaves it alone: opening a
    /// FIFO only to close it would break its writer.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, SourceError> {
        let kind = std::fs::metadata(path).map_err(|error| failed("find the file", error))?;
        if kind.is_dir() {
            return Err(SourceError::fatal(
                ErrorKind::InvalidArgument,
                "it is a directory",
            ));
        }
        if !kind.is_file() {
            return Ok(None);
        }
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(open_flags())
            .open(path)
            .map_err(|error| failed("open the file", error))?;
        let kind = file
            .metadata()
            .map_err(|error| failed("examine the file", error))?;
        if !kind.is_file() {
            return Err(SourceError::fatal(
                ErrorKind::ObjectChanged,
                "it was replaced by something else while it was opened",
            ));
        }
        // Files made by the kernel as they are read say that they are empty.
        if kind.len() == 0 && !matches!(file.read_at(&mut [0], 0), Ok(0)) {
            return Ok(None);
        }
        Ok(Some(Self(file)))
    }

    pub(crate) fn identity(&self) -> Result<Identity, SourceError> {
        Identity::of(&self.0).map_err(|error| failed("examine the file", error))
    }

    /// Puts the next piece, if the file is still what it was.
    fn put_piece(&self, chunk: &mut ChunkWriter, was: &Identity) -> Result<(), SourceError> {
        let offset = chunk.position();
        // An interrupted read brings nothing, and is no error.
        let result = chunk.put_with(PIECE, |room| {
            let count = rustix::io::pread(&self.0, room, offset)
                .map_err(|error| (error != Errno::INTR).then(|| failed("read the file", error)))?;
            let is = self.identity()?;
            if is != *was {
                return Err(Some(changed(was, &is)));
            }
            if count == 0 {
                let message = format!("it ends at byte {offset}, and says that it has {}", was.size());
                return Err(Some(SourceError::fatal(ErrorKind::Protocol, message)));
            }
            Ok(count)
        });
        match result {
            Ok(_) | Err(None) => Ok(()),
            Err(Some(error)) => Err(error),
        }
    }
}

fn changed(was: &Identity, is: &Identity) -> SourceError {
    let message = if was.size() == is.size() {
        "the file was written to while it was being read".to_owned()
    } else {
        format!("its size was {} bytes, is {}", was.size(), is.size())
    };
    SourceError::fatal(ErrorKind::ObjectChanged, message)
}

/// Stops the blocking thread when its caller waits no more.
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads the request's range.
pub(crate) async fn read(
    plain: Arc<Plain>,
    request: &RangeRequest,
    mut chunk: ChunkWriter,
) -> Result<(), SourceError> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let _cancel = Cancel(Arc::clone(&cancelled));
    let (start, wanted) = (request.start, request.end.unwrap_or(u64::MAX));
    let file = Arc::clone(&plain);
    let was;
    (chunk, was) = spawn_blocking(move || {
        let was = file.identity()?;
        let size = was.size();
        let Some(length) = wanted.min(size).checked_sub(start) else {
            let message = format!("it starts at byte {start} of a file of {size} bytes");
            return Err(SourceError::fatal(ErrorKind::Range, message));
        };
        chunk.begin(Reply {
            start,
            length: Some(length),
            total: Some(size),
            whole: false,
            revision: was.revision(),
            chunk_hint: None,
            checksum: None,
        })?;
        Ok((chunk, was))
    })
    .await?;
    while chunk.ready().await? {
        let (file, cancelled) = (Arc::clone(&plain), Arc::clone(&cancelled));
        chunk = spawn_blocking(move || {
            while chunk.remaining_mut() > 0 && !cancelled.load(Ordering::Relaxed) {
                file.put_piece(&mut chunk, &was)?;
            }
            Ok(chunk)
        })
        .await?;
    }
    Ok(())
}
