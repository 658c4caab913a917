//! Work on a thread that may block, and the errors of system calls there.

use std::io;

use pget_core::{ErrorKind, SourceError};

/// Runs `work` where it may block. If the caller is dropped, `work` still runs to its end.
pub(crate) async fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    match pget_core::threads::may_block(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => {
            Err(SourceError::fatal(ErrorKind::Cancelled, "the runtime is shutting down").with_cause(error))
        }
    }
}

/// Converts an error of the operating system to that of a read. `doing` names the step that failed.
pub(crate) fn failed(doing: &str, error: impl Into<io::Error>) -> SourceError {
    let error = error.into();
    let kind = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        io::ErrorKind::StaleNetworkFileHandle => ErrorKind::ObjectChanged,
        _ => ErrorKind::Unavailable,
    };
    let full_table = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE]
        .iter()
        .any(|errno| Some(errno.raw_os_error()) == error.raw_os_error());
    let message = format!("cannot {doing}");
    if full_table {
        SourceError::retryable(kind, message).with_cause(error)
    } else {
        SourceError::fatal(kind, message).with_cause(error)
    }
}
