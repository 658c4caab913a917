//! The misbehaving HTTP/1.1 server: raw sockets, so that it can say anything that a broken server, proxy or network would.
//!
//! A server has routes. A [`Route`] serves one object, correctly (200, 206, 416, 412, HEAD, keep-alive), except where its
//! rules say otherwise: each rule joins a [`When`] (which requests) with a [`Fault`] (what goes wrong).
//!
//! Invariants: a fault is counted when it goes on the wire (just before the system call, and taken back if that fails, so
//! that a client which has met it finds it counted), not when it was planned: [`Hostile::served`] proves that a test met it; object bytes are those of [`Pattern`](crate::content::Pattern), computed as they are sent; the
//! server runs on a thread and a clock of its own, so tests may block, pause time, or use no runtime at all; drop closes
//! every socket and joins the thread. Called by tests and benches only.
//!
//! ```
//! use pget_testkit::hostile::{Fault, Hostile, Object, Route, When};
//!
//! let server = Hostile::start()?;
//! let url = server.route("/a", Route::new(Object::new(7, 1 << 30)).fault(When::Later, Fault::Reset { after: 1000 }));
//! assert!(url.starts_with("http://127.0.0.1:"));
//! assert_eq!(server.served("/a"), 0);
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

mod connection;
mod distort;
mod fault;
mod ledger;
mod lies;
mod object;
mod reply;
mod request;
mod route;
mod wire;

pub use fault::Fault;
pub use ledger::{Load, Seen};
pub use lies::{Lie, lies};
pub use object::Object;
pub use request::Asked;
pub use route::{Route, When};

use ledger::Ledger;

/// A running misbehaving server. All methods may be called from any thread.
#[derive(Debug)]
pub struct Hostile {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    /// Dropping it stops the server.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Hostile {
    /// Start a server without routes on a free loopback port; every path is 404 until [`route`](Self::route) adds it.
    ///
    /// # Errors
    /// When no socket, runtime or thread is to be had.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let ledger = Arc::new(Ledger::default());
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&ledger);
        let thread = std::thread::Builder::new()
            .name("hostile".into())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = connection::accept(listener, shared) => {}
                        // The sender is dropped, never used.
                        _ = stopped => {}
                    }
                });
            })?;
        Ok(Self {
            address,
            ledger,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Serve `route` under `path` (which begins with a slash), in place of what was there; the URL of it.
    ///
    /// A new route in place of another changes the object while it is read. Its rules are counted from 0, as are the GETs of
    /// [`When`]; [`requests`](Self::requests) goes on.
    pub fn route(&self, path: &str, route: Route) -> String {
        self.ledger.set_route(path, route);
        self.url(path)
    }

    /// `http://127.0.0.1:PORT` with `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many faults were put on the wire for `path`, by all of its rules.
    pub fn served(&self, path: &str) -> u64 {
        self.ledger.served(path).iter().sum()
    }

    /// How many faults each rule of `path` put on the wire, in the order of the rules.
    pub fn served_by_rule(&self, path: &str) -> Vec<u64> {
        self.ledger.served(path)
    }

    /// The requests for `path`, in the order of their arrival; for a path without a route too.
    pub fn requests(&self, path: &str) -> Vec<Seen> {
        self.ledger.requests(path)
    }

    /// Connections, requests in flight, bytes: what the server carries and has carried.
    pub fn load(&self) -> Load {
        self.ledger.load()
    }

    /// Wait until `done` says so; it is asked again whenever a counter has changed. Put a deadline around it.
    pub async fn wait_until(&self, mut done: impl FnMut(&Self) -> bool) {
        let mut changes = self.ledger.changes();
        // The sender lives in the ledger, which `self` holds.
        while !done(self) && changes.changed().await.is_ok() {}
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the misbehaving server has panicked");
        }
    }
}
