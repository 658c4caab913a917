//! Real servers as child processes, for tests that need the genuine article: nginx, versitygw (S3), gofakes3 (S3 that
//! ignores conditions), Python's `http.server` (ignores ranges), toxiproxy (a bad network before another server), and big sparse files for them to serve.
//!
//! Invariants: a server listens on a free loopback port, keeps everything it writes in its own temporary folder, is ready
//! when its `start` returns, and is gone, with its process group and folder, when its value is dropped. Nothing needs
//! privileges. A component that is not installed is [`StartError::Missing`], which names what installs it; tests go through
//! [`require`]. Starting blocks the calling thread for at most [`READY_WITHIN`]. Called by tests and benches only.

use std::fs::File;
use std::io;
use std::path::Path;

mod daemon;
mod error;
mod nginx;
mod python;
mod s3;
mod tls;
mod toxiproxy;

pub use daemon::READY_WITHIN;
pub use error::{S3Error, StartError};
pub use nginx::{Nginx, NginxOptions};
pub use python::PythonServer;
pub use s3::{Gofakes3, S3Endpoint, Versitygw, VersitygwOptions};
pub use tls::{Authority, Leaf, Validity};
pub use toxiproxy::{Toxic, Toxiproxy};

/// The started server, or `None` with a message when a component is missing and the environment has no `CI`.
///
/// # Panics
/// When a component is missing and `CI` is set, and whenever an installed server does not start.
pub fn require<T>(started: Result<T, StartError>) -> Option<T> {
    match started {
        Ok(server) => Some(server),
        Err(missing @ StartError::Missing { .. }) if std::env::var_os("CI").is_none() => {
            eprintln!("skipped: {missing}");
            None
        }
        Err(error) => panic!("{}", chain(&error)),
    }
}

/// The error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Make a file of `length` bytes that are all zero and take no space on disk.
///
/// # Errors
/// When the file exists already or the file system refuses the length.
pub fn sparse_file(path: &Path, length: u64) -> io::Result<()> {
    File::create_new(path)?.set_len(length)
}
