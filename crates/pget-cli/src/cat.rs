//! `pget cat`: an object to standard output, in order.

use std::{fs::File, os::fd::AsFd};

use nix::fcntl::{FcntlArg, fcntl};
use pget::{Error, ErrorKind};

use crate::{args::Cat, report::Report};

/// A pipe of this many bytes saves most of the switches between its two ends; more needs a privilege.
const PIPE_SIZE: i32 = 1 << 20;

pub(crate) fn run(cat: &Cat) -> Result<(), Error> {
    let (report, builder) = Report::begin(&cat.show, cat.read.apply(cat.object.builder()));
    let written = || {
        // Not `std::io::Stdout`, which searches all that it is given for the last newline.
        let output = std::io::stdout().as_fd().try_clone_to_owned().map_err(|cause| {
            Error::with_cause(ErrorKind::Destination, "", "standard output is closed", cause)
        })?;
        // A pipe that stays small, and what is no pipe, work too.
        if let Err(error) = fcntl(&output, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE)) {
            tracing::trace!(%error, "standard output is no pipe, or one that cannot grow");
        }
        let mut reader = builder.open_blocking()?;
        reader.write_to(&mut File::from(output))?;
        Ok(reader.stats())
    };
    match written() {
        Ok(stats) => {
            report.end(&stats);
            Ok(())
        }
        Err(error) => {
            report.abandon();
            Err(error)
        }
    }
}
