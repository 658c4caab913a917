//! `pget shm`: objects in shared memory for the other processes of this host.

use std::{
    io::Write,
    sync::mpsc::{Receiver, channel},
};

use nix::sys::signal::{SigSet, Signal, raise};
use pget::{Cancel, Error, ErrorKind, Placement, shm::State};

use crate::{
    args::{Shm, ShmGet},
    report::Report,
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
                say(&format!(
                    "{name}\t{available}/{length}\t{state}\t{creator}\t{}",
                    one.revision
                ))?;
            }
            Ok(())
        }
        Shm::Clean => pget::shm::sweep()?.iter().try_for_each(|name| say(name)),
    }
}

/// Reads into shared memory, tells its name as soon as others may attach, and keeps it until it is told to end.
fn get(get: &ShmGet) -> Result<(), Error> {
    let placement = match &get.name {
        Some(name) => Placement::Named(name.clone()),
        None => Placement::Anonymous,
    };
    let cancel = Cancel::new();
    // Before there are other threads, which would else be interrupted.
    let signal = signals(cancel.clone())?;
    let builder = get.read.apply(get.object.builder()).cancel(cancel);
    let (report, builder) = Report::begin(&get.show, builder);
    let result = builder.get_shared_blocking(placement).and_then(|mut download| {
        say(download.buffer().name())?;
        Ok((download.ended_blocking()?, download))
    });
    match result {
        Ok((stats, download)) => {
            report.end(&stats);
            // Those who wait for it are in `signals`; it never goes away.
            signal.recv().ok();
            drop(download);
            Ok(())
        }
        Err(error) => {
            report.abandon();
            if let (ErrorKind::Cancelled, Ok(signal)) = (error.kind(), signal.try_recv()) {
                // The names are gone; whoever waits for this program is to see what ended it.
                ended_by(signal);
            }
            Err(error)
        }
    }
}

/// Hands over SIGINT and SIGTERM, which also end the read.
fn signals(cancel: Cancel) -> Result<Receiver<Signal>, Error> {
    let failed = |cause| Error::with_cause(ErrorKind::Internal, "", "cannot wait for signals", cause);
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set.add(Signal::SIGTERM);
    set.thread_block().map_err(failed)?;
    let (tell, told) = channel();
    std::thread::spawn(move || {
        if let Ok(signal) = set.wait() {
            // Sent first, so that who finds the read cancelled finds the signal.
            tell.send(signal).ok();
            cancel.trigger();
        }
    });
    Ok(told)
}

fn ended_by(signal: Signal) {
    let mut set = SigSet::empty();
    set.add(signal);
    if raise(signal).and_then(|()| set.thread_unblock()).is_err() {
        tracing::debug!(%signal, "not ended by it");
    }
}

fn say(line: &str) -> Result<(), Error> {
    writeln!(std::io::stdout(), "{line}")
        .map_err(|cause| Error::with_cause(ErrorKind::Destination, "", "standard output", cause))
}
