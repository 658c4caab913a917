//! A server of one object of any size that behaves like a network: rates, latency, limits, bad connections.
//!
//! [`Network`] describes the network, [`Shaped`] serves over it, and [`Counters`] reports what clients did.
//! One thread runs an epoll loop; bodies leave by `sendfile` from a short repeated content.
//!
//! Invariants:
//! - The last byte of a body never leaves before the latency and the rates allow it.
//! - A delay of the server's thread is made up for up to 5 ms; a longer one is lost to the client.
//! - Requests under `/-/` (`stats`, `reset`, `set?KEY=VALUE`, `preset?NAME`) are neither shaped nor counted.

mod connection;
mod content;
mod control;
mod network;
mod pace;
mod request;
mod server;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use rustls::ServerConfig;

pub use content::fill;
pub use network::{Change, Network, Odd, PRESETS, Unknown, size, time};

/// What clients did since the start or the last reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Requests that arrived, refused ones included.
    pub requests: u64,
    /// Requests answered with 503.
    pub refused: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Bytes of bodies sent.
    pub bytes: u64,
    /// Requests being answered now.
    pub in_flight: u32,
    /// The most requests that were being answered at any time.
    pub most_in_flight: u32,
}

/// What the server's thread and its handle share.
#[derive(Debug)]
struct Shared {
    network: Network,
    counters: Counters,
    stops: bool,
    /// The clock of changes begins anew.
    resets: bool,
}

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

    /// Starts a server of `network` at `address`, over TLS if there is a configuration for that.
    ///
    /// # Errors
    /// If the socket, the content or the thread cannot be made.
    pub fn listen(network: Network, address: &str, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
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
        let server = server::Server::new(listener, tls, Arc::clone(&shared), Arc::clone(&wake))?;
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

    /// Returns the address that it listens at.
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

    /// Returns what clients did so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        lock(&self.shared).counters
    }

    /// Changes the network from now on and starts the clock of its changes.
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
            // Its panic has been printed.
            thread.join().ok();
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reset(shared: &mut Shared) {
    let in_flight = shared.counters.in_flight;
    shared.counters = Counters {
        in_flight,
        most_in_flight: in_flight,
        ..Counters::default()
    };
    shared.resets = true;
}
