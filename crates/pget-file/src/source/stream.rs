//! What has no size: one stream from its beginning. Called by `FileSource`.
//!
//! The thread that reads waits in `poll` for data or for the reader's end, which an event
//! descriptor signals, so that dropping a read ends it at once even if the FIFO never gets a
//! writer.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use pget_core::{BufMut, ChunkWriter, ErrorKind, Reply, Revision, SourceError};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

use super::{
    blocking::{failed, spawn_blocking},
    plain::open_flags,
};
use crate::system::Event;

/// Bytes read at a time.
const PIECE: usize = 1 << 20;

/// Wakes the blocking thread when its caller waits no more.
struct Cancel(Arc<Event>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.signal();
    }
}

/// Reads all there is.
pub(crate) async fn read(path: Arc<PathBuf>, mut chunk: ChunkWriter) -> Result<(), SourceError> {
    let event = Event::new().map_err(|error| failed("make an event descriptor", error))?;
    let event = Arc::new(event);
    let _cancel = Cancel(Arc::clone(&event));
    let file = Arc::new(spawn_blocking(move || open(&path)).await?);
    chunk.begin(Reply {
        start: 0,
        length: None,
        total: None,
        whole: true,
        revision: Revision::default(),
        chunk_hint: None,
        checksum: None,
    })?;
    let mut ended = false;
    while !ended && chunk.ready().await? {
        let (file, event) = (Arc::clone(&file), Arc::clone(&event));
        (chunk, ended) = spawn_blocking(move || {
            while chunk.remaining_mut() > 0 {
                if !is_ready(&file, &event)? {
                    break;
                }
                if put_piece(&file, &mut chunk)? == Some(0) {
                    return Ok((chunk, true));
                }
            }
            Ok((chunk, false))
        })
        .await?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, SourceError> {
    OpenOptions::new()
        .read(true)
        .custom_flags(open_flags())
        .open(path)
        .map_err(|error| {
            if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) {
                SourceError::fatal(
                    ErrorKind::InvalidArgument,
                    "it is a socket, or a device that is not there",
                )
                .with_cause(error)
            } else {
                failed("open the file", error)
            }
        })
}

/// Waits until the file can be read (`true`) or the caller waits no more (`false`).
fn is_ready(file: &File, event: &Event) -> Result<bool, SourceError> {
    loop {
        let mut waited = [
            PollFd::new(event, PollFlags::IN),
            PollFd::new(file, PollFlags::IN),
        ];
        match poll(&mut waited, None) {
            Ok(_) if waited[0].revents().contains(PollFlags::IN) => return Ok(false),
            Ok(_) if !waited[1].revents().is_empty() => return Ok(true),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(failed("wait for the file", error)),
        }
    }
}

/// Reads what is there; 0 at the end, `None` if nothing is there although it seemed so.
fn put_piece(file: &File, chunk: &mut ChunkWriter) -> Result<Option<usize>, SourceError> {
    match chunk.put_with(PIECE, |room| rustix::io::read(file, room)) {
        Ok(count) => Ok(Some(count)),
        Err(Errno::INTR | Errno::AGAIN) => Ok(None),
        Err(error) => Err(failed("read the file", error)),
    }
}
