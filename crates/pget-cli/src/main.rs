//! The `pget` program: `get`, `cat` and `stat` of one object, and `shm`, one object for all processes of a host.
//!
//! Exit status: 0 done, 1 other failure, 2 usage, 3 not found, 4 permission denied, 5 object changed, 6 timed out or unavailable after retries,
//! 7 the server's answer makes no sense, 8 destination failed. An error is one line on standard error.

mod args;
mod cat;
mod get;
mod report;
mod shm;
mod signals;
mod stat;
mod usage;

use std::process::ExitCode;

use args::{Arguments, Command};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use pget::{Error, ErrorKind};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage::tell(&error),
    };
    writes_fail_at_the_limit();
    report::log(arguments.verbose);
    let result = match &arguments.command {
        Command::Get(get) => get::run(get),
        Command::Cat(cat) => cat::run(cat),
        Command::Stat(stat) => stat::run(stat),
        Command::Shm(shm) => shm::run(shm),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::line(&format!("pget: {}", error.to_line()));
            ExitCode::from(status(&error))
        }
    }
}

/// A file that reaches the limit on its size (`ulimit -f`) is an error of the write, as a full disk is; at its default, the signal would end the program.
fn writes_fail_at_the_limit() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGXFSZ);
    if let Err(error) = set.thread_block() {
        tracing::warn!(%error, "cannot block SIGXFSZ");
    }
}

fn status(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::InvalidArgument => 2,
        ErrorKind::NotFound => 3,
        ErrorKind::PermissionDenied => 4,
        ErrorKind::ObjectChanged => 5,
        ErrorKind::Timeout | ErrorKind::Unavailable => 6,
        ErrorKind::Protocol | ErrorKind::Checksum => 7,
        ErrorKind::Destination | ErrorKind::BufferTooSmall => 8,
        _ => 1,
    }
}
