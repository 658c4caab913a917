//! Records of the cluster's requests and answers, so that tests can prove what happened.
//!
//! Invariants:
//! - A request is counted when it arrives.
//! - An exchange is recorded before the first byte of its answer is sent. When a client has an
//!   answer, the record contains it.
//! - Every change wakes the tasks that wait for one.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::fault::Node;

/// One request and how it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exchange {
    /// The node at which it arrived.
    pub node: Node,
    /// The number of its connection, unique in the cluster.
    pub connection: u64,
    /// The method: `GET`, `HEAD` and so on.
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// Headers as sent, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The status of the answer, or 0 if there was no answer.
    pub status: u16,
}

impl Exchange {
    /// Returns the value of a header by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Totals since the cluster started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Requests by node and method, counted at their arrival.
    pub requests: BTreeMap<(Node, String), u64>,
    /// Answers by node and status (0 for no answer), counted at their beginning.
    pub answers: BTreeMap<(Node, u16), u64>,
    /// Connections accepted, by node.
    pub connections: BTreeMap<Node, u64>,
    /// Connections open now, by node.
    pub open: BTreeMap<Node, u64>,
    /// Object requests that the proxy redirected to a target.
    pub redirects: u64,
    /// Ranges that targets began to send (206, and the ranged 200 of old servers).
    pub ranges: u64,
    /// Requests at targets with an `Authorization` header. A client must not send one there.
    pub tokens_at_targets: u64,
    /// Faults that occurred, by `Fault::name`.
    pub faults: BTreeMap<&'static str, u64>,
    /// Requests that a rate limit refused.
    pub throttled: u64,
    /// Requests with `latest-ver=true` for which a target asked its backend.
    pub latest_checks: u64,
    /// Bytes of objects written to sockets.
    pub body_bytes: u64,
}

impl Counts {
    /// Returns the number of requests with this method at all targets together.
    pub fn at_targets(&self, method: &str) -> u64 {
        let all = self.requests.iter();
        all.filter(|((node, m), _)| *node != Node::Proxy && m == method)
            .map(|(_, n)| n)
            .sum()
    }

    /// Returns the number of requests with this method at the proxy.
    pub fn at_proxy(&self, method: &str) -> u64 {
        self.requests
            .get(&(Node::Proxy, method.into()))
            .copied()
            .unwrap_or(0)
    }

    /// Returns the number of open connections at this node.
    pub fn open_at(&self, node: Node) -> u64 {
        self.open.get(&node).copied().unwrap_or(0)
    }

    /// Returns the number of open connections at all nodes.
    pub fn all_open(&self) -> u64 {
        self.open.values().sum()
    }

    /// Returns the number of times that the fault of this name occurred.
    pub fn fault(&self, name: &str) -> u64 {
        self.faults.get(name).copied().unwrap_or(0)
    }
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    state: Mutex<(Counts, Vec<Exchange>)>,
    changed: Notify,
}

impl Ledger {
    pub(super) fn counts(&self) -> Counts {
        self.lock().0.clone()
    }

    pub(super) fn exchanges(&self) -> Vec<Exchange> {
        self.lock().1.clone()
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.lock().0);
        self.changed.notify_waiters();
    }

    pub(super) fn fault(&self, name: &'static str) {
        self.count(|counts| *counts.faults.entry(name).or_default() += 1);
    }

    pub(super) fn exchange(&self, exchange: Exchange) {
        let node = exchange.node;
        let mut state = self.lock();
        let counts = &mut state.0;
        *counts.answers.entry((node, exchange.status)).or_default() += 1;
        if node != Node::Proxy && exchange.header("authorization").is_some() {
            counts.tokens_at_targets += 1;
        }
        state.1.push(exchange);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until the totals satisfy `condition`.
    ///
    /// The wait is cancel safe, and has no deadline of its own.
    pub(super) async fn until(&self, condition: impl Fn(&Counts) -> bool) -> Counts {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let counts = self.counts();
            if condition(&counts) {
                return counts;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Counts, Vec<Exchange>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
