//! A custom transport: reads the pieces of a file as a single object.
//!
//! `split -d -b SIZE FILE PREFIX` has written the numbered pieces.
//! `crates/pget/tests/custom_source.rs` tests this example.
//!
//! ```sh
//! split -d -a 3 -b 16M snapshot.tar /tmp/piece.
//! cargo run --release -p libpget --example custom_source -- /tmp/piece. > snapshot.tar
//! ```

use std::{env, error::Error, fs, io, os::unix::fs::FileExt, os::unix::fs::MetadataExt, sync::Arc};

use async_trait::async_trait;
use pget::{ChunkWriter, ErrorKind, ObjectInfo, RangeRequest, RangeSource, Reply, SourceError};

/// The files `PREFIX000`, `PREFIX001`, … in this order.
#[derive(Debug)]
pub(crate) struct SplitFile(pub(crate) String);

#[async_trait]
impl RangeSource for SplitFile {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        let (mut info, mut size, mut version) = (ObjectInfo::default(), 0, String::new());
        for number in 0.. {
            let Ok(piece) = fs::metadata(format!("{}{number:03}", self.0)) else {
                break;
            };
            size += piece.len();
            let (seconds, nanos) = (piece.mtime(), piece.mtime_nsec());
            version += &format!("{}/{}/{seconds}.{nanos} ", piece.ino(), piece.len());
        }
        if version.is_empty() {
            return Err(SourceError::fatal(ErrorKind::NotFound, "there is no first piece"));
        }
        info.size = Some(size);
        info.revision.version = Some(version);
        Ok(info)
    }

    async fn read(&self, request: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        let info = self.head().await?;
        let total = info.size.unwrap_or_default();
        if request.start >= total {
            let message = format!("the pieces have {total} bytes");
            return Err(SourceError::fatal(ErrorKind::Range, message));
        }
        let (mut at, end) = (request.start, request.end.unwrap_or(total).min(total));
        // The writer compares the reply with the request and with earlier replies.
        chunk.begin(Reply {
            start: at,
            length: Some(end - at),
            total: Some(total),
            revision: info.revision.clone(),
            ..Reply::default()
        })?;
        let failed =
            |error| SourceError::retryable(ErrorKind::Unavailable, "cannot read a piece").with_cause(error);
        let (mut buffer, mut first) = (vec![0; 64 << 10], 0);
        for number in 0.. {
            let piece = fs::File::open(format!("{}{number:03}", self.0)).map_err(failed)?;
            let next = first + piece.metadata().map_err(failed)?.len();
            while at < next.min(end) {
                let count = piece.read_at(&mut buffer, at - first).map_err(failed)?;
                if count == 0 || self.head().await?.revision != info.revision {
                    let message = "a piece was replaced or cut while it was read";
                    return Err(SourceError::fatal(ErrorKind::ObjectChanged, message));
                }
                let wanted = count.min(usize::try_from(end - at).unwrap_or(count));
                // The call waits for memory. It returns the bytes that the download does not need,
                // if any.
                if !chunk.put_wanted(&buffer[..wanted]).await?.is_empty() {
                    return Ok(());
                }
                at += wanted as u64;
            }
            if at == end {
                break;
            }
            first = next;
        }
        Ok(())
    }

    fn name(&self) -> String {
        format!("{}…", self.0)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let prefix = env::args().nth(1).ok_or("usage: custom_source PREFIX")?;
    let object = pget::Download::new(Arc::new(SplitFile(prefix)), pget::Options::default())?;
    let mut reader = object.reader();
    while let Some(lease) = reader.next().await? {
        io::Write::write_all(&mut io::stdout(), &lease)?;
    }
    Ok(())
}
