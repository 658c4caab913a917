//! Distinguishes a system call that a file system does not know, or does not permit, from one that
//! lost bytes.
//!
//! Invariant: an error that may stand for lost bytes (EIO, ENOSPC, EDQUOT, ESTALE, …) is never
//! taken for a refusal. The list names the refusals, because no list of losses would be complete.

use std::io;

use nix::errno::Errno;

/// Whether a call for convenience (a sync, a reservation, a lock) was refused as such: what was
/// written before is as good as before.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    let number = error.raw_os_error().map(Errno::from_raw);
    number.is_some_and(|number| {
        matches!(
            number,
            // The file system does not know it.
            Errno::EINVAL
                | Errno::ENOSYS
                | Errno::EOPNOTSUPP
                | Errno::ENOTTY
                | Errno::ESPIPE
                | Errno::EXDEV
                // It, or a sandbox, does not permit it.
                | Errno::EPERM
                | Errno::EACCES
                | Errno::EROFS
                // Folders of some network file systems.
                | Errno::EBADF
                | Errno::EISDIR
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_119_a_loss_is_never_taken_for_a_refusal() {
        let is = |errno: Errno| is_refusal(&io::Error::from(errno));
        for refused in [Errno::EINVAL, Errno::ENOSYS, Errno::EOPNOTSUPP, Errno::EPERM] {
            assert!(is(refused), "{refused}");
        }
        for lost in [
            Errno::EIO,
            Errno::ENOSPC,
            Errno::EDQUOT,
            Errno::EFBIG,
            Errno::ESTALE,
            Errno::ENXIO,
            Errno::ENOMEM,
            Errno::ETIMEDOUT,
            Errno::ENOTCONN,
        ] {
            assert!(!is(lost), "{lost}");
        }
        assert!(!is_refusal(&io::ErrorKind::Other.into()));
    }
}
