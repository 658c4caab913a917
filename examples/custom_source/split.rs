//! The source: an object that lies in numbered files. Tested by `crates/pget/tests/custom_source.rs`.

use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
};

use async_trait::async_trait;
use pget::{
    BufMut, ChunkWriter, ErrorKind, ObjectInfo, RangeRequest, RangeSource, Reply, Revision, SourceError,
};

/// The files `PREFIX000`, `PREFIX001`, … in this order.
#[derive(Debug)]
pub(crate) struct SplitFile {
    prefix: String,
}

impl SplitFile {
    /// Names the pieces. Touches none of them yet.
    pub(crate) fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    /// Looks at every piece: its path, where it begins, and what identifies all of them together.
    fn look(&self) -> Result<(Vec<(PathBuf, u64)>, ObjectInfo), SourceError> {
        let (mut pieces, mut size, mut version) = (Vec::new(), 0, String::new());
        for number in 0.. {
            let path = PathBuf::from(format!("{}{number:03}", self.prefix));
            let Ok(piece) = fs::metadata(&path) else { break };
            pieces.push((path, size));
            size += piece.len();
            let (inode, time) = (piece.ino(), piece.mtime_nsec());
            version += &format!("{inode}/{}/{}.{time} ", piece.len(), piece.mtime());
        }
        if pieces.is_empty() {
            return Err(SourceError::fatal(ErrorKind::NotFound, "there is no first piece"));
        }
        let revision = Revision {
            version: Some(version),
            ..Revision::default()
        };
        Ok((
            pieces,
            ObjectInfo {
                size: Some(size),
                revision,
                ..ObjectInfo::default()
            },
        ))
    }
}

#[async_trait]
impl RangeSource for SplitFile {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        Ok(self.look()?.1)
    }

    async fn read(&self, request: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        let (pieces, info) = self.look()?;
        let total = info.size.unwrap_or_default();
        if request.start >= total {
            let message = format!("the pieces have {total} bytes");
            return Err(SourceError::fatal(ErrorKind::Range, message));
        }
        let end = request.end.unwrap_or(total).min(total);
        // The writer compares this with the request and with what earlier replies said.
        chunk.begin(Reply {
            start: request.start,
            length: Some(end - request.start),
            total: Some(total),
            revision: info.revision.clone(),
            ..Reply::default()
        })?;
        let mut buffer = vec![0; 64 << 10];
        // `ready` waits for memory; it returns `false` when nothing more is wanted.
        while chunk.position() < end && chunk.ready().await? {
            let at = chunk.position();
            let piece = pieces.partition_point(|(_, start)| *start <= at) - 1;
            let (path, start) = &pieces[piece];
            let next = pieces.get(piece + 1).map_or(total, |(_, start)| *start).min(end);
            let most = buffer.len().min(chunk.remaining_mut());
            let most = most.min(usize::try_from(next - at).unwrap_or(most));
            let failed = |error| {
                SourceError::retryable(ErrorKind::Unavailable, "a piece cannot be read").with_cause(error)
            };
            let file = fs::File::open(path).map_err(failed)?;
            let count = file.read_at(&mut buffer[..most], at - start).map_err(failed)?;
            if count == 0 || self.look()?.1.revision != info.revision {
                let message = "a piece was replaced or cut while it was read";
                return Err(SourceError::fatal(ErrorKind::ObjectChanged, message));
            }
            chunk.put_slice(&buffer[..count]);
        }
        Ok(())
    }

    fn name(&self) -> String {
        format!("{}…", self.prefix)
    }
}
