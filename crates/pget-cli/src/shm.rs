//! `pget shm`: objects in shared memory for the other processes of this host.

use std::os::fd::{AsFd, BorrowedFd};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use pget::{Cancel, Error, ErrorKind, Placement, shm::State};

use crate::{
    args::{Shm, ShmGet},
    output,
    report::Report,
    signals::Signals,
};

pub(crate) fn run(shm: &Shm) -> Result<(), Error> {
    match shm {
        Shm::Get(get) => self::get(get),
        Shm::Ls => {
            for one in pget::shm::list()? {
                let state = match one.state {
                    State::Filling => "filling",
                    State::Complete => "complete",
                    _ => "failed",
                };
                let creator = if one.alive { "alive" } else { "dead" };
                let (name, available) = (one.name, one.available);
                // A ring's stream has no length before its end.
                let length = match one.length {
                    u64::MAX => "?".to_owned(),
                    length => length.to_string(),
                };
                output::print(&format!(
                    "{name}\t{available}/{length}\t{state}\t{creator}\t{}",
                    one.revision
                ))?;
            }
            Ok(())
        }
        Shm::Clean => pget::shm::sweep()?
            .iter()
            .try_for_each(|name| output::print(name)),
    }
}

/// Reads into shared memory, prints its name as soon as others may attach, and keeps it until a
/// signal ends the program.
fn get(get: &ShmGet) -> Result<(), Error> {
    let placement = match &get.name {
        Some(name) => Placement::Named(name.clone()),
        None => Placement::Anonymous,
    };
    let cancel = Cancel::new();
    // Before there are other threads, which would else be interrupted.
    let signals = Signals::cancel(&cancel)?;
    let builder = get.object.builder(Some(&get.read)).cancel(cancel.clone());
    let (report, builder) = Report::begin(&get.show, builder);
    let begun = builder.blocking().and_then(|object| object.get_shared(placement));
    let result = begun.and_then(|mut download| {
        until_writable(std::io::stdout().as_fd(), &cancel)?;
        output::print(download.buffer().name())?;
        Ok((download.ended()?, download))
    });
    match result {
        Ok((stats, download)) => {
            report.end(&stats);
            signals.wait();
            drop(download);
            Ok(())
        }
        Err(error) => {
            report.abandon();
            // The names are gone.
            signals.end(&error);
            Err(error)
        }
    }
}

/// Waits until a line can be written at once, or fails when `cancel` is triggered: a signal that is
/// waited for would not end a write to a pipe without a reader.
fn until_writable(output: BorrowedFd<'_>, cancel: &Cancel) -> Result<(), Error> {
    let failed = |cause| Error::with_cause(ErrorKind::Internal, "", "cannot wait for standard output", cause);
    let (cancelled, end) = std::io::pipe().map_err(failed)?;
    // The other end notices the close.
    let _watch = pget::blocking::when_triggered(cancel, move || drop(end))?;
    loop {
        let mut waited = [
            PollFd::new(cancelled.as_fd(), PollFlags::POLLIN),
            PollFd::new(output, PollFlags::POLLOUT),
        ];
        match poll(&mut waited, PollTimeout::NONE) {
            Ok(_) if waited[0].any().unwrap_or(true) => {
                let message = "cancelled while standard output took nothing";
                return Err(Error::new(ErrorKind::Cancelled, "", message));
            }
            // The write reports an error, too.
            Ok(_) if waited[1].any().unwrap_or(true) => return Ok(()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(cause) => return Err(failed(cause.into())),
        }
    }
}
