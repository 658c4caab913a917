//! Room for a file, looked for before the first byte: a full disk is found early, and a file is
//! laid out in one piece.
//!
//! Called by the part, and by streams for the limit.

use std::{fs::File, io, os::unix::fs::MetadataExt};

use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit},
};

use crate::system::{Length, Space, allocate, space};

/// How often a reservation that signals interrupt begins again before the file does without.
const INTERRUPTIONS: u32 = 100;

/// The most bytes that a file of this process may have (`ulimit -f`). To write beyond it raises
/// SIGXFSZ, which is not to happen in a host's process.
pub(crate) fn size_limit() -> u64 {
    getrlimit(Resource::RLIMIT_FSIZE).map_or(u64::MAX, |(soft, _)| soft)
}

/// Makes room for `length` bytes in `file`, which may have some already. Returns whether the file
/// system could reserve them; where it cannot, the file grows as it is written.
///
/// # Errors
/// If there is not as much: nothing was taken then.
pub(crate) fn reserve(file: &File, length: u64, limit: u64) -> io::Result<bool> {
    let system = look_for(file, length, limit)?;
    if length == 0 {
        return Ok(true);
    }
    // There, to reserve is to fill: as long as writing takes, and all before the first byte is
    // received.
    if system.is_some_and(|system| system.is_memory) {
        return Ok(file.set_len(length).is_ok());
    }
    let length = i64::try_from(length).map_err(|_| Errno::EFBIG)?;
    for _ in 0..INTERRUPTIONS {
        match allocate(file, 0, length, Length::Grows) {
            Ok(()) => return Ok(true),
            Err(Errno::EINTR) => {}
            Err(errno @ (Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG | Errno::EIO)) => {
                return Err(errno.into());
            }
            // It is no more than a convenience.
            Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

/// Looks for room for `length` bytes in `file`, and reserves none. Returns what its file system
/// reports, if it does.
///
/// # Errors
/// If there is not as much.
pub(crate) fn look_for(file: &File, length: u64, limit: u64) -> io::Result<Option<Space>> {
    if length > limit {
        return Err(Errno::EFBIG.into());
    }
    // A file system that does not report what it has is written to as it is.
    let Some(system) = space(file) else {
        return Ok(None);
    };
    check(file, length, system)?;
    Ok(Some(system))
}

/// # Errors
/// If `system` has not as many bytes left as `file` still needs for `length`.
fn check(file: &File, length: u64, system: Space) -> io::Result<()> {
    // Looked at first: to reserve until nothing is left would take it from all others in that time.
    let has = file.metadata()?.blocks().saturating_mul(512);
    if system.free.is_some_and(|free| length.saturating_sub(has) > free) {
        return Err(Errno::ENOSPC.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_reserved_on_a_disk_and_not_filled_in_memory() {
        for folder in ["/dev/shm", "/var/tmp"] {
            let file = tempfile::tempfile_in(folder).expect("a file");
            let is_memory = space(&file).expect("a file system").is_memory;
            reserve(&file, 1 << 20, u64::MAX).expect("there is room");
            let meta = file.metadata().expect("a file");
            assert_eq!(meta.len(), 1 << 20);
            assert_eq!(meta.blocks() > 0, !is_memory, "{folder}");
        }
    }

    #[test]
    fn too_much_is_told_at_once_and_takes_nothing() {
        let file = tempfile::tempfile().expect("a file");
        let told = |length, limit| reserve(&file, length, limit).expect_err("too much").kind();
        assert_eq!(told(1 << 62, u64::MAX), io::ErrorKind::StorageFull);
        assert_eq!(told(1001, 1000), io::ErrorKind::FileTooLarge);
        let meta = file.metadata().expect("a file");
        assert_eq!((meta.len(), meta.blocks()), (0, 0));
        reserve(&file, 0, 0).expect("nothing needs no room");
    }
}
