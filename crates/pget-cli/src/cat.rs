//! `pget cat`: an object to standard output, in order, or to another process through shared memory.

use std::{fs::File, os::fd::AsFd};

use nix::fcntl::{FcntlArg, fcntl};
use pget::{Builder, Error, ErrorKind, Stats, shm::RingWriter};

use crate::{args::Cat, report::Report};

/// A pipe of this many bytes saves most of the switches between its two ends; more needs a privilege.
const PIPE_SIZE: i32 = 1 << 20;

/// A ring of this many bytes stays in the processor's cache, and holds eight of the pieces that a fast sender fills at once.
const RING: usize = 8 << 20;

pub(crate) fn run(cat: &Cat) -> Result<(), Error> {
    let (report, builder) = Report::begin(&cat.show, cat.read.apply(cat.object.builder()));
    let written = || {
        if let Some(name) = &cat.shared_ring {
            return to_ring(&builder, name);
        }
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

/// Puts the object into a ring in shared memory, and waits until it was taken.
fn to_ring(builder: &Builder, name: &str) -> Result<Stats, Error> {
    let mut reader = builder.open_blocking()?;
    let mut ring = RingWriter::create(Some(name), RING)?;
    ring.put_object(&mut reader)?;
    Ok(reader.stats())
}
