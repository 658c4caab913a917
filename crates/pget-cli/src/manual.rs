//! Completions for shells and manual pages, from the definitions that `--help` prints.

use std::{fs, path::Path};

use clap::CommandFactory as _;
use clap_complete::Shell;
use pget::{Error, ErrorKind};

use crate::{args::Arguments, output};

/// Prints the completions for `shell` on standard output.
pub(crate) fn completions(shell: Shell) -> Result<(), Error> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "pget", &mut text);
    output::print_all(&text)
}

/// Writes a page for the program and for each of its commands into `folder`, which is made if it is
/// missing.
pub(crate) fn pages(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), folder))
        .map_err(|cause| {
            let folder = folder.to_string_lossy();
            Error::with_cause(
                ErrorKind::Destination,
                folder,
                "the manual cannot be written",
                cause,
            )
        })
}
