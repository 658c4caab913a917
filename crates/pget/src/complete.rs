//! Whether a file that is there is the object already, so that a read with `resume` need not fetch
//! it again.
//!
//! Nothing records the revision of a complete file, and its time and length prove nothing. The
//! object's published checksum does: it is asked for, and compared with the file's bytes. An object
//! without one is fetched again.
//!
//! Invariant: a file that is not the object, or that cannot be read, is never reported as complete.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use pget_core::{
    Cancel, Error, ErrorKind, ObjectInfo, Published, Stats, Verification, Verify,
    verify::{Digest, Hasher},
};
use pget_file::Names;

use crate::source::ObjectSource;

/// Bytes of the file that are read at once.
const PIECE: usize = 1 << 20;

/// Returns whether `target` may be the whole object, so that it is worth a request to find out.
pub(crate) fn may_be_complete(object: &ObjectSource, target: &Path, names: &Names) -> bool {
    let settings = object.settings();
    let options = &settings.options;
    settings.file.resume
        && options.verify != Verify::Off
        && options.pin.is_none()
        && (options.offset, options.length) == (0, None)
        && fs::symlink_metadata(target).is_ok_and(|found| found.is_file())
        && [&names.part, &names.journal]
            .into_iter()
            .all(|name| fs::symlink_metadata(name).is_err())
}

/// Compares `target` with what is known of the object. If it is the object, it is synced if that is
/// wanted, and the counters of a read that delivered nothing are returned.
///
/// # Errors
/// [`Cancelled`](ErrorKind::Cancelled).
pub(crate) fn compared(
    object: &ObjectSource,
    target: &Path,
    info: &ObjectInfo,
) -> Result<Option<Stats>, Error> {
    let settings = object.settings();
    let (Some(size), Some(Published::Whole(digest))) = (info.size, info.checksum) else {
        tracing::debug!("a complete file is fetched again: the source publishes no checksum");
        return Ok(None);
    };
    let is_same = match has(target, size, &digest, settings.options.cancel.as_ref()) {
        Ok(is_same) => is_same,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            return Err(Error::new(
                ErrorKind::Cancelled,
                object.opened()?.source.name(),
                "",
            ));
        }
        Err(error) => {
            tracing::debug!(%error, "a file that cannot be read is fetched again");
            false
        }
    };
    if !is_same || (settings.file.sync && File::open(target).and_then(|file| file.sync_all()).is_err()) {
        return Ok(None);
    }
    let mut stats = Stats::default();
    stats.verification = Verification::Verified(digest.algorithm());
    Ok(Some(stats))
}

/// Whether the file has this size and this checksum.
///
/// # Errors
/// Those of the system; `Interrupted` if the read is cancelled.
fn has(path: &Path, size: u64, digest: &Digest, cancel: Option<&Cancel>) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() != size {
        return Ok(false);
    }
    let (mut hasher, mut buffer) = (Hasher::new(digest.algorithm()), vec![0; PIECE]);
    let mut read = 0;
    loop {
        if cancel.is_some_and(Cancel::is_triggered) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
        read += count as u64;
    }
    Ok(read == size && hasher.finish() == *digest)
}
