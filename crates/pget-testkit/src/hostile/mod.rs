//! The misbehaving HTTP/1.1 server.
//!
//! It writes to raw sockets. It can therefore send everything that a broken server, proxy or
//! network would. A server has routes. A [`Route`] serves one object correctly: 200, 206, 416, 412,
//! HEAD, keep-alive. Its rules are the exceptions: each rule joins a [`When`] (which requests) with
//! a [`Fault`] (what goes wrong).
//!
//! Invariants:
//! - A fault is counted just before the system call that puts it on the wire. If the call fails,
//!   the count is taken back. [`Hostile::served`] therefore proves that a test met the fault, and a
//!   client that has met it finds it counted.
//! - Object bytes are those of [`Pattern`](crate::content::Pattern), computed during the send.
//! - The server runs on a thread and a clock of its own. Tests may block, pause time, or use no
//!   runtime.
//! - Drop closes every socket and joins the thread.
//!
//! ```
//! use pget_testkit::hostile::{Fault, Hostile, Object, Route, When};
//!
//! let server = Hostile::start()?;
//! let route = Route::new(Object::new(7, 1 << 30));
//! let url = server.route("/a", route.fault(When::Later, Fault::Reset { after: 1000 }));
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

/// A running server that misbehaves. All methods may be called from any thread.
#[derive(Debug)]
pub struct Hostile {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    /// Dropping it stops the server.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Hostile {
    /// Starts a server without routes on a free loopback port.
    ///
    /// Every path is 404 until [`route`](Self::route) adds it.
    ///
    /// # Errors
    /// If no socket, runtime or thread can be created.
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
                        // The sender is dropped and never used.
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

    /// Serves `route` under `path`, which begins with a slash, and returns its URL.
    ///
    /// A new route replaces an earlier one of the path, even while a client reads the object. Its
    /// rules and the GETs of [`When`] are counted from 0. [`requests`](Self::requests) keeps the
    /// earlier requests.
    pub fn route(&self, path: &str, route: Route) -> String {
        self.ledger.set_route(path, route);
        self.url(path)
    }

    /// Returns `http://127.0.0.1:PORT` with `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the address at which the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the number of faults that all rules of `path` put on the wire.
    pub fn served(&self, path: &str) -> u64 {
        self.ledger.served(path).iter().sum()
    }

    /// Returns the number of faults that each rule of `path` put on the wire, in the order of the
    /// rules.
    pub fn served_by_rule(&self, path: &str) -> Vec<u64> {
        self.ledger.served(path)
    }

    /// Returns the requests for `path` in the order of their arrival, even if it has no route.
    pub fn requests(&self, path: &str) -> Vec<Seen> {
        self.ledger.requests(path)
    }

    /// Returns the counts of connections, requests in flight and bytes.
    pub fn load(&self) -> Load {
        self.ledger.load()
    }

    /// Waits until `done` returns true. It is called again after every change of a counter.
    ///
    /// The wait has no deadline of its own.
    pub async fn wait_until(&self, mut done: impl FnMut(&Self) -> bool) {
        let mut changes = self.ledger.changes();
        // The sender lives in the ledger, which `self` owns.
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
