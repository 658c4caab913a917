//! Why a server could not be started or set up.

use std::{io, net::SocketAddr};

/// Why a request to set up an S3 server failed.
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
        /// Why it failed.
        source: io::Error,
    },
    /// The request cannot be written or signed.
    #[error("{method} {path} cannot be made")]
    Request {
        /// The request's method.
        method: &'static str,
        /// The request's path and query.
        path: String,
        /// Why not.
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

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The program is not installed.
    #[error("{component} is not installed: {install}")]
    Missing {
        /// The program.
        component: &'static str,
        /// What to do about it.
        install: &'static str,
    },
    /// The program was started and did not become ready; its last words follow.
    #[error("{component} did not become ready on {address}: {log}")]
    NotReady {
        /// The program.
        component: &'static str,
        /// Where it should have listened.
        address: SocketAddr,
        /// The end of what it wrote.
        log: String,
    },
    /// The file system, a socket or the process could not be had.
    #[error("cannot {doing} for {component}")]
    Io {
        /// The program.
        component: &'static str,
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The server is up, and refused to be set up.
    #[error("cannot set up the server")]
    Setup(#[from] S3Error),
    /// The proxy is up, and did not do as it was told.
    #[error("cannot set up the proxy")]
    Proxy(#[source] io::Error),
}
