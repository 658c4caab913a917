//! Standard output: [`Output`] writes to it, and waits where it is non-blocking and full.
//!
//! `std::io::Stdout` is not used, because it searches all bytes for the last newline.
//! A standard output that is closed is refused before this is used; see [`crate::streams`].

use std::{
    error::Error as _,
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::close,
};
use pget::{Error, ErrorKind};

/// Bytes of a pipe that save most of the switches between its two ends. More needs a privilege.
const PIPE_SIZE: i32 = 1 << 20;

/// Milliseconds after which a wait looks again: the kernel does not wake a writer to a terminal for
/// each bit of room.
const LOOK_EVERY: u8 = 100;

/// A copy of the descriptor of standard output.
#[derive(Debug)]
pub(crate) struct Output(File);

impl Output {
    pub(crate) fn new() -> Result<Self, Error> {
        let copy = io::stdout().as_fd().try_clone_to_owned().map_err(|cause| {
            Error::with_cause(ErrorKind::Destination, "", "cannot use standard output", cause)
        })?;
        Ok(Self(File::from(copy)))
    }

    /// Enlarges a pipe. A pipe that stays small works, too, and so does what is not a pipe.
    pub(crate) fn grow_pipe(&self) {
        if let Err(error) = fcntl(&self.0, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE)) {
            tracing::trace!(%error, "standard output is not a pipe, or cannot grow");
        }
    }

    /// Closes the copy. A file system over a network may report only now that bytes were lost.
    pub(crate) fn close(self) -> Result<(), Error> {
        close(self.0).map_err(|errno| failed(errno.into()))
    }

    /// Waits until standard output takes bytes, or its reader has closed it.
    fn wait(&self) -> io::Result<()> {
        let room = PollFd::new(self.0.as_fd(), PollFlags::POLLOUT);
        match poll(&mut [room], PollTimeout::from(LOOK_EVERY)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                // Another process that shares the pipe or the socket has made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait()?,
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints one line.
pub(crate) fn print(line: &str) -> Result<(), Error> {
    print_all(format!("{line}\n").as_bytes())
}

/// Prints a text as it is.
pub(crate) fn print_all(text: &[u8]) -> Result<(), Error> {
    Output::new()?.write_all(text).map_err(failed)
}

fn failed(cause: io::Error) -> Error {
    Error::with_cause(
        ErrorKind::Destination,
        "",
        "standard output cannot be written",
        cause,
    )
}

/// Whether `error` says that the reader of a pipe or socket has closed it, as `head` does when it
/// has enough.
pub(crate) fn is_closed(error: &Error) -> bool {
    let mut cause = error.source();
    let mut is_broken = false;
    while let Some(error) = cause {
        let of_io = error.downcast_ref::<io::Error>();
        is_broken |= of_io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        cause = error.source();
    }
    error.kind() == ErrorKind::Destination && is_broken
}
