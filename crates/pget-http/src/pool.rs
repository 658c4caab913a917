//! Idle connections, by origin.
//!
//! Invariants: a connection is here only between two exchanges; the one used last goes first (its
//! congestion window is open, its buffers are warm); none stays longer than [`IDLE`]. The task that
//! sees to that ends with the pool.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use pget_core::SourceError;
use tokio::task::AbortHandle;
use url::Url;

use crate::{connection::Connection, request::invalid};

/// How long a connection may idle. Servers close theirs after some time (AIStore after 30 s), and a
/// request sent just then is lost.
const IDLE: Duration = Duration::from_secs(20);
/// Idle connections kept for one origin.
const MOST_IDLE: usize = 256;

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) tls: bool,
    /// As in the address: IPv6 in brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    pub(crate) fn of(url: &Url) -> Result<Self, SourceError> {
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            scheme => return Err(invalid(format!("{scheme}: is neither http nor https"))),
        };
        let host = url
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| invalid("the address has no host"))?;
        let port = url.port_or_known_default().filter(|&port| port != 0);
        let port = port.ok_or_else(|| invalid("the address has no usable port"))?;
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Pool {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    idle: HashMap<Origin, Vec<Idle>>,
    /// The task that comes by to close what has idled for too long.
    reaper: Option<AbortHandle>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// A connection that was idle and is still open as far as can be seen.
    pub(crate) fn take(&self, origin: &Origin) -> Option<Connection> {
        loop {
            let mut idle = self.lock().idle.get_mut(origin)?.pop()?;
            if idle.since.elapsed() < IDLE && idle.connection.is_quiet() {
                return Some(idle.connection);
            }
        }
    }

    /// Keeps a connection whose exchange has ended.
    pub(crate) fn put(self: &Arc<Self>, origin: Origin, mut connection: Connection) {
        if !connection.rest() {
            return;
        }
        let mut state = self.lock();
        let idle = state.idle.entry(origin).or_default();
        if idle.len() < MOST_IDLE {
            idle.push(Idle {
                connection,
                since: Instant::now(),
            });
        }
        // One is finished before its time if its runtime has shut down.
        if state.reaper.as_ref().is_none_or(AbortHandle::is_finished) {
            state.reaper = Some(tokio::spawn(reap(Arc::downgrade(self))).abort_handle());
        }
    }

    /// Closes what has idled for too long; whether anything is left.
    fn close_old(&self) -> bool {
        let mut old = Vec::new();
        let mut state = self.lock();
        state.idle.retain(|_, idle| {
            // The oldest are in front.
            let fresh = idle.partition_point(|idle| idle.since.elapsed() >= IDLE);
            old.extend(idle.drain(..fresh));
            !idle.is_empty()
        });
        let left = !state.idle.is_empty();
        if !left {
            state.reaper = None;
        }
        drop(state);
        left
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Pool {
    pub(crate) fn while_locked(&self, body: impl FnOnce()) {
        let _held = self.lock();
        body();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(reaper) = state.reaper.take() {
            reaper.abort();
        }
    }
}

async fn reap(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(IDLE / 4).await;
        match pool.upgrade() {
            Some(pool) if pool.close_old() => {}
            _ => break,
        }
    }
}
