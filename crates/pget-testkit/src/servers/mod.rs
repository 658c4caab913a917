//! Real servers as child processes, for tests that need the original programs.
//!
//! - nginx.
//! - versitygw, an S3 server.
//! - gofakes3, an S3 server that ignores conditions.
//! - Python's `http.server`, which ignores ranges.
//! - toxiproxy, a bad network before another server.
//!
//! [`sparse_file`] makes large files for them to serve. A server waits for a client that stops
//! reading only if the object is longer than [`socket_buffers`].
//!
//! Invariants:
//! - A server listens on a free loopback port, and writes only to its own temporary folder.
//! - A server is ready when its `start` returns. Drop ends its process group and removes its
//!   folder.
//! - No server needs privileges.
//! - A missing component is [`StartError::Missing`], which names the script that installs it. Tests
//!   call [`require`].
//! - A start blocks the calling thread for at most [`READY_WITHIN`].

use std::fs::{self, File};
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

/// Returns the started server.
///
/// Returns `None` and prints a message if a component is missing and the environment has no `CI`.
///
/// # Panics
/// If a component is missing and `CI` is set, or if an installed server does not start.
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

/// Returns the error and its causes on one line.
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

/// Creates a file of `length` zero bytes that takes no space on disk.
///
/// # Errors
/// If the file already exists, or if the file system rejects the length.
pub fn sparse_file(path: &Path, length: u64) -> io::Result<()> {
    File::create_new(path)?.set_len(length)
}

/// Returns the most bytes that the kernel holds of a connection, on both sides together.
///
/// It is the sum of the largest values of `tcp_rmem` and `tcp_wmem`, which differ from machine to
/// machine: 10 MiB on one, 36 MiB on another.
///
/// # Panics
/// If the system is not Linux.
#[must_use]
pub fn socket_buffers() -> u64 {
    ["rmem", "wmem"]
        .iter()
        .map(|name| {
            let text = fs::read_to_string(format!("/proc/sys/net/ipv4/tcp_{name}")).expect("Linux");
            let most = text.split_whitespace().last().expect("three numbers");
            most.parse::<u64>().expect("a number")
        })
        .sum()
}
