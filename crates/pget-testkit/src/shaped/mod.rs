//! A server of one object of any size, or of the files of a folder, that behaves like a network.
//!
//! It imitates rates, latency, limits and bad connections. [`Network`] describes the network,
//! [`Shaped`] serves over it, and [`Counters`] reports the clients' activity. One thread runs an
//! epoll loop. Bodies are sent with `sendfile` from a short repeated content, or from the files.
//!
//! Invariants:
//! - The last byte of a body never leaves before the latency and the rates allow it.
//! - The server makes up for a delay of its thread of at most 5 ms. The client loses the rest of a
//!   longer delay.
//! - Requests under `/-/` are neither shaped nor counted. They are `stats`, `reset`,
//!   `set?KEY=VALUE` and `preset?NAME`.

mod connection;
mod content;
mod control;
mod network;
mod pace;
mod reply;
mod request;
mod server;
mod shared;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use rustls::ServerConfig;

use content::Objects;
pub use content::fill;
pub use network::{Change, Network, Odd, PRESETS, Unknown, size, time};
pub use shared::Counters;
use shared::{Shared, lock, reset};

/// A running server; it stops on drop.
#[derive(Debug)]
pub struct Shaped {
    address: SocketAddr,
    tls: bool,
    shared: Arc<Mutex<Shared>>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Shaped {
    /// Starts a server of `network` on a free port of the loopback interface.
    ///
    /// # Errors
    /// If the socket, the content or the thread cannot be made.
    pub fn start(network: Network) -> io::Result<Self> {
        Self::listen(network, "127.0.0.1:0", None)
    }

    /// Starts a server of `network` at `address`. With a TLS configuration, it serves HTTPS.
    ///
    /// # Errors
    /// If the socket, the content or the thread cannot be made.
    pub fn listen(network: Network, address: &str, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        Self::serve(network, address, tls, Objects::sizes()?)
    }

    /// Starts a server of the files of `folder` on a free port of the loopback interface.
    ///
    /// An object's name is that of a file. The files must not change while the server runs.
    ///
    /// # Errors
    /// If the folder, a file, the socket or the thread cannot be used.
    pub fn files(network: Network, folder: &Path) -> io::Result<Self> {
        Self::serve(network, "127.0.0.1:0", None, Objects::files(folder)?)
    }

    fn serve(
        network: Network,
        address: &str,
        tls: Option<Arc<ServerConfig>>,
        objects: Objects,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Mutex::new(Shared {
            network,
            counters: Counters::default(),
            stops: false,
            resets: false,
        }));
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let is_tls = tls.is_some();
        let server = server::Server::new(listener, tls, objects, Arc::clone(&shared), Arc::clone(&wake))?;
        let thread = std::thread::Builder::new()
            .name("shaped".into())
            .spawn(move || server.run())?;
        Ok(Self {
            address,
            tls: is_tls,
            shared,
            wake,
            thread: Some(thread),
        })
    }

    /// Returns the address at which the server listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of an object of `size` bytes.
    #[must_use]
    pub fn url(&self, size: u64) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}/{size}", self.address)
    }

    /// Returns the counters.
    #[must_use]
    pub fn counters(&self) -> Counters {
        lock(&self.shared).counters
    }

    /// Replaces the network from now on, and restarts the clock of its changes.
    pub fn set(&self, network: Network) {
        let mut shared = lock(&self.shared);
        shared.network = network;
        shared.resets = true;
    }

    /// Sets the counters to zero, except for requests in flight.
    pub fn reset(&self) {
        reset(&mut lock(&self.shared));
    }
}

impl Drop for Shaped {
    fn drop(&mut self) {
        lock(&self.shared).stops = true;
        // Fails only if the counter overflows.
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes()).ok();
        if let Some(thread) = self.thread.take() {
            // The thread has already printed its panic.
            thread.join().ok();
        }
    }
}
