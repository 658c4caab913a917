//! What a failed download leaves of its part, and what the caller can do with it.

use std::{fs, io, path::Path};

use pget_core::{Error, ErrorKind};

use crate::{journal::writer::JournalWriter, refusal::is_refusal};

/// What a failed download has left.
pub(super) enum Remains {
    Nothing,
    /// The part is as it was found.
    Untouched,
    /// Bytes that another read can continue with, of so many.
    Some(u64, u64),
    /// All that was wanted.
    Complete,
}

impl Remains {
    /// Decides what stays of a part that has a writer, which is stopped. `resumes`: this download
    /// continued an earlier one, or could have.
    pub(super) fn of(writer: &JournalWriter, why: ErrorKind, is_complete: bool, resumes: bool) -> Self {
        // What is there is known to be wrong: nothing may continue from it. (That it cannot be
        // verified is reported before anything begins.)
        let is_wrong = why == ErrorKind::Checksum;
        let is_of_use = resumes || why != ErrorKind::ObjectChanged;
        // A caller that cancels does not want to wait for a disk.
        if !is_wrong
            && is_of_use
            && why != ErrorKind::Cancelled
            && (resumes || why == ErrorKind::Destination || writer.has_journal())
        {
            writer.last();
        }
        if is_complete && !is_wrong {
            Self::Complete
        } else if !is_wrong && is_of_use && writer.has_journal() {
            let (bytes, of) = writer.written_down();
            Self::Some(bytes, of)
        } else {
            Self::Nothing
        }
    }

    /// Adds to `error` what can be done with the part at `path`. `has_journal`: this download had a
    /// journal; `was_resumed`: it continued an earlier one.
    pub(super) fn advise(self, error: Error, path: &Path, has_journal: bool, was_resumed: bool) -> Error {
        let part = path.display();
        match self {
            Self::Some(bytes, of) if error.kind() != ErrorKind::ObjectChanged => error.with_advice(format!(
                "{bytes} of {of} bytes stay in {part}: read with resume to go on (pget get --resume)"
            )),
            Self::Complete if !has_journal => {
                error.with_advice(format!("all bytes are in {part}, which stays: rename it"))
            }
            Self::Complete => error.with_advice(format!(
                "all bytes are in {part}, which stays: rename it, or read with resume (pget get --resume)"
            )),
            Self::Nothing | Self::Untouched | Self::Some(..) => {
                if !was_resumed || error.kind() != ErrorKind::ObjectChanged {
                    return error;
                }
                let message =
                    format!("{part} holds bytes of the revision before; read without resume to start over");
                Error::with_cause(
                    ErrorKind::ObjectChanged,
                    error.object().to_owned(),
                    message,
                    error,
                )
            }
        }
    }
}

/// Adds another way to write `target` to the error of a part that its folder does not take.
pub(super) fn with_a_way(error: Error, target: &Path) -> Error {
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<io::Error>());
    let is_refused = cause.is_some_and(is_refusal);
    if is_refused && fs::symlink_metadata(target).is_ok_and(|meta| meta.is_file()) {
        return error.with_advice("pget cat URL > FILE overwrites a file where its folder takes no other");
    }
    error
}
