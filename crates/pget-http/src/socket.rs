//! A connection's socket, which forked children close.

use std::{
    ops::{Deref, DerefMut},
    os::fd::AsRawFd as _,
};

use pget_core::fork::ClosedInChild;
use tokio::net::TcpStream;

/// A socket that forked children close: their copies would keep the connection open after this
/// process has closed it.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Dropped first.
    _closed: ClosedInChild,
    stream: TcpStream,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            _closed: ClosedInChild::new(stream.as_raw_fd()),
            stream,
        }
    }
}

impl Deref for Socket {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.stream
    }
}

impl DerefMut for Socket {
    fn deref_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}
