//! Makes bytes and names outlive a crash of the machine, as far as the file system can do that.

use std::{fs::File, io, path::Path};

use pget_core::Error;

use crate::{
    failure::destination, journal::writer::JournalWriter, names::folder_of, refusal::is_refusal,
    system::sync_file_system, warnings::Warnings,
};

/// Syncs a part, by its journal's writer if it has one. Returns the refusal of a file system that
/// does not know how.
pub(super) fn sync_file(file: &File, writer: Option<&JournalWriter>) -> io::Result<Option<io::Error>> {
    let synced = match writer {
        Some(writer) => writer.sync_all(),
        None => file.sync_all(),
    };
    match synced {
        Err(error) if is_refusal(&error) => {}
        result => return result.map(|()| None),
    }
    // Each of them does what was asked for.
    match file.sync_data().or_else(|_| Ok(sync_file_system(file)?)) {
        Err(error) if is_refusal(&error) => Ok(Some(error)),
        result => result.map(|()| None),
    }
}

/// Makes what was done to the names in the folder of `path` outlive a crash of the machine.
pub(super) fn sync_folder(path: &Path, file: &File, warnings: &Warnings) -> Result<(), Error> {
    let folder = folder_of(path);
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    let refused = match synced {
        Ok(()) => return Ok(()),
        Err(error) if is_refusal(&error) => error,
        Err(cause) => return Err(destination(folder, "cannot be synced", cause)),
    };
    // The folder cannot be read, or not be synced alone.
    match sync_file_system(file) {
        Ok(()) => Ok(()),
        Err(errno) if is_refusal(&errno.into()) => {
            warnings.push(format!("{} cannot be synced ({refused})", folder.display()));
            Ok(())
        }
        Err(errno) => Err(destination(folder, "cannot be synced", errno.into())),
    }
}
