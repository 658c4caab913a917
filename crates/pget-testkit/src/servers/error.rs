//! The errors of starting and setting up a server.

use std::{io, net::SocketAddr};

/// The failure of a request that sets up an S3 server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum S3Error {
    /// The connection failed.
    #[error("{method} {path}")]
    Io {
        /// The request's method.
        method: &'static str,
        /// The request's path and query.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// The request cannot be written or signed.
    #[error("{method} {path} cannot be made")]
    Request {
        /// The request's method.
        method: &'static str,
        /// The request's path and query.
        path: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server refused.
    #[error("{method} {path} was answered: {answer}")]
    Refused {
        /// The request's method.
        method: &'static str,
        /// The request's path and query.
        path: String,
        /// Status line, headers and body.
        answer: String,
    },
}

/// The failure of a server's start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The program is not installed.
    #[error("{component} is not installed: {install}")]
    Missing {
        /// The program.
        component: &'static str,
        /// The command that installs it.
        install: &'static str,
    },
    /// The program was started and did not become ready. The message contains its last output.
    #[error("{component} did not become ready on {address}: {log}")]
    NotReady {
        /// The program.
        component: &'static str,
        /// The address at which it should have listened.
        address: SocketAddr,
        /// The end of its output.
        log: String,
    },
    /// A file, a socket or a process could not be created.
    #[error("cannot {doing} for {component}")]
    Io {
        /// The program.
        component: &'static str,
        /// The action that failed.
        doing: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The server runs, and has refused a request that sets it up.
    #[error("cannot set up the server")]
    Setup(#[from] S3Error),
    /// The proxy runs, and has refused a request that sets it up.
    #[error("cannot set up the proxy")]
    Proxy(#[source] io::Error),
}
