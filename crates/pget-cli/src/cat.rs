//! `pget cat`: an object to standard output, in order, or to another process through shared memory.

use std::{fs::File, os::fd::AsFd};

use nix::{
    fcntl::{FcntlArg, fcntl},
    unistd::close,
};
use pget::{Builder, Cancel, Error, ErrorKind, Stats, shm::RingWriter};

use crate::{args::Cat, report::Report, signals::Signals};

/// A pipe of this many bytes saves most of the switches between its two ends; more needs a privilege.
const PIPE_SIZE: i32 = 1 << 20;

/// A ring of this many bytes stays in the processor's cache, and holds eight of the pieces that a fast sender fills at once.
const RING: usize = 8 << 20;

pub(crate) fn run(cat: &Cat) -> Result<(), Error> {
    let builder = cat.read.apply(cat.object.builder());
    let Some(name) = &cat.shared_ring else {
        return reported(cat, builder, to_stdout);
    };
    let cancel = Cancel::new();
    // Before there are other threads, which would else be interrupted.
    let signals = Signals::cancel(&cancel)?;
    let result = reported(cat, builder.cancel(cancel.clone()), |builder| {
        to_ring(builder, name, cancel)
    });
    // The ring's name is gone.
    result.inspect_err(|error| signals.end(error))
}

fn reported(
    cat: &Cat,
    builder: Builder,
    write: impl FnOnce(&Builder) -> Result<Stats, Error>,
) -> Result<(), Error> {
    let (report, builder) = Report::begin(&cat.show, builder);
    match write(&builder) {
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

fn to_stdout(builder: &Builder) -> Result<Stats, Error> {
    // Not `std::io::Stdout`, which searches all that it is given for the last newline. One that is closed is /dev/null by now: so Rust begins every program.
    let output = std::io::stdout().as_fd().try_clone_to_owned().map_err(|cause| {
        Error::with_cause(ErrorKind::Destination, "", "cannot use standard output", cause)
    })?;
    // A pipe that stays small, and what is no pipe, work too.
    if let Err(error) = fcntl(&output, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE)) {
        tracing::trace!(%error, "standard output is no pipe, or one that cannot grow");
    }
    let mut reader = builder.open_blocking()?;
    let mut output = File::from(output);
    reader.write_to(&mut output)?;
    // A file system over a network may tell only now that bytes were lost.
    close(output).map_err(|errno| {
        let message = "standard output cannot be written";
        Error::with_cause(ErrorKind::Destination, "", message, errno)
    })?;
    Ok(reader.stats())
}

/// Puts the object into a ring in shared memory, and waits until it was taken or `cancel` is triggered.
fn to_ring(builder: &Builder, name: &str, cancel: Cancel) -> Result<Stats, Error> {
    let mut reader = builder.open_blocking()?;
    let mut ring = RingWriter::create(Some(name), RING)?;
    let waker = ring.waker();
    let _watch = pget::blocking::when_triggered(&cancel, move || waker.wake())?;
    ring.stop_when(move || cancel.is_triggered());
    ring.put_object(&mut reader)?;
    Ok(reader.stats())
}
