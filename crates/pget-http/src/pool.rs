//! Idle connections, by origin.
//!
//! Which one is used next decides how fast a download is: where one connection in eight is slow and
//! not all are needed at once, the slow ones end last, and would be used first if only the order
//! counted.
//!
//! Invariants: a connection is here only between two exchanges; of those that are not slow, the one
//! used last goes first (its congestion window is open, its buffers are warm); none stays longer
//! than [`IDLE`]. The task that sees to that ends with the pool.

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
/// A connection is slow if another idle one is more than this many times as fast.
const SLOWER: u64 = 2;

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
    /// A connection that was idle and is still open as far as can be seen: of those that are not
    /// slow, the one that was used last.
    pub(crate) fn take(&self, origin: &Origin) -> Option<Connection> {
        loop {
            let mut idle = {
                let mut state = self.lock();
                let idle = state.idle.get_mut(origin)?;
                let rates: Vec<_> = idle.iter().map(|idle| idle.connection.rate()).collect();
                idle.remove(next(&rates)?)
            };
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

/// Returns which connection to use next, given the rate of each, the one that was used last at the
/// end. One whose rate is not known is not slow.
fn next(rates: &[Option<u64>]) -> Option<usize> {
    let fastest = rates.iter().flatten().max().copied().unwrap_or_default();
    rates
        .iter()
        .rposition(|rate| rate.is_none_or(|rate| rate.saturating_mul(SLOWER) >= fastest))
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

#[cfg(test)]
mod tests {
    use super::next;

    #[test]
    fn the_one_used_last_is_next_unless_it_is_slow() {
        let next = |rates: &[u64]| {
            next(
                &rates
                    .iter()
                    .map(|&rate| (rate > 0).then_some(rate))
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(next(&[]), None);
        assert_eq!(next(&[0]), Some(0));
        assert_eq!(next(&[20, 20, 20]), Some(2));
        assert_eq!(next(&[20, 20, 10]), Some(2), "rates vary");
        assert_eq!(next(&[20, 20, 9]), Some(1), "it is slow");
        assert_eq!(next(&[20, 1, 1]), Some(0));
        assert_eq!(next(&[1, 1, 1]), Some(2), "all are slow");
        assert_eq!(next(&[20, 0, 1]), Some(1), "it may be fast");
        assert_eq!(next(&[u64::MAX, 1]), Some(0));
    }
}
