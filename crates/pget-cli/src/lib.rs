//! The `pget` program: `get` of objects, `cat` and `stat` of one object, and `shm`, one object for
//! all processes of a host.
//!
//! Exit status: 0 done, 1 other failure, 2 usage, 3 not found, 4 permission denied, 5 object
//! changed, 6 timed out or unavailable after retries, 7 unusable response, 8
//! destination failed, 9 verification is required and cannot be done. An error is one line on
//! standard error. 141: the reader of standard output has closed it, which is not reported.

mod args;
mod cat;
mod get;
mod manual;
mod many;
mod options;
mod output;
mod report;
mod shm;
mod signals;
mod stat;
mod status;
mod streams;
mod usage;

use std::ffi::OsString;

use args::{Arguments, Command, Shm};
use clap::{CommandFactory as _, FromArgMatches as _};
use nix::sys::signal::{SigSet, Signal};
use status::status;

/// Runs the program with `arguments`, the first of which is its name, and returns its exit status.
///
/// It is a whole program: it sets up logging and signals of the process, and expects to be all that
/// runs there.
pub fn main<A: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = A>) -> u8 {
    streams::open();
    let arguments = match parse(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return usage::tell(&error),
    };
    writes_fail_at_the_limit();
    report::log(arguments.verbose);
    match run(&arguments.command) {
        Ok(status) => status,
        // As `cat`, which SIGPIPE ends: `pget cat … | head` is not a failure to report.
        Err(error) if writes_to_standard_output(&arguments.command) && output::is_closed(&error) => CLOSED,
        Err(error) => {
            report::line(&format!("pget: {}", error.to_line()));
            status(&error)
        }
    }
}

/// Runs a command.
fn run(command: &Command) -> Result<u8, pget::Error> {
    if writes_to_standard_output(command) {
        streams::check_output()?;
    }
    match command {
        Command::Get(get) => fetch(get),
        Command::Cat(cat) => cat::run(cat).map(|()| 0),
        Command::Stat(stat) => stat::run(stat).map(|()| 0),
        Command::Shm(shm) => shm::run(shm).map(|()| 0),
        Command::Completions { shell } => manual::completions(*shell).map(|()| 0),
        Command::ManPages { folder } => manual::pages(folder).map(|()| 0),
    }
}

/// The output of `pget --version`: the version, and the facts of the build.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("PGET_COMMIT"),
    "\ntarget: ",
    env!("PGET_TARGET"),
    " (",
    env!("PGET_PROFILE"),
    ")\ncompiler: ",
    env!("PGET_COMPILER"),
    "\ntransports: ais, az, file, gs, http, https, s3",
);

fn parse<A: Into<OsString> + Clone>(
    arguments: impl IntoIterator<Item = A>,
) -> clap::error::Result<Arguments> {
    let command = Arguments::command().long_version(VERSION);
    Arguments::from_arg_matches(&command.try_get_matches_from(arguments)?)
}

/// The status that a shell reports of a program that SIGPIPE has ended.
const CLOSED: u8 = 128 + 13;

fn writes_to_standard_output(command: &Command) -> bool {
    match command {
        Command::Get(get) => get::is_to_standard_output(get),
        Command::Cat(cat) => cat.shared_ring.is_none(),
        Command::Stat(_) | Command::Shm(Shm::Ls | Shm::Clean) | Command::Completions { .. } => true,
        Command::Shm(Shm::Get(_)) | Command::ManPages { .. } => false,
    }
}

/// A file that reaches the limit on its size (`ulimit -f`) is an error of the write, as a full disk
/// is; at its default, the signal would end the program.
fn writes_fail_at_the_limit() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGXFSZ);
    if let Err(error) = set.thread_block() {
        tracing::warn!(%error, "cannot block SIGXFSZ");
    }
}

/// Fetches one object, or several.
fn fetch(get: &args::Get) -> Result<u8, pget::Error> {
    match (&get.input_file, &*get.addresses) {
        (None, [address]) => get::run(get, address).map(|()| 0),
        _ => many::run(get),
    }
}
