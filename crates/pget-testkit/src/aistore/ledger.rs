//! What the cluster has seen and done, for tests to check that they met what they meant to meet.
//!
//! Invariant: a request is counted when it arrives, and its exchange is in the ledger before the first byte of the answer
//! is sent, so once a client has an answer the ledger has it too. Every change wakes those who wait for one.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::fault::Node;

/// One request and how it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exchange {
    /// Where it arrived.
    pub node: Node,
    /// The connection that it came on; unique in the cluster.
    pub connection: u64,
    /// `GET`, `HEAD`, …
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// Headers as sent, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The answer's status; 0 when there was none.
    pub status: u16,
}

impl Exchange {
    /// The value of a header, by its lower-case name.
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
    /// Requests by node and method, counted when they arrive.
    pub requests: BTreeMap<(Node, String), u64>,
    /// Answers by node and status (0: none), counted when they begin.
    pub answers: BTreeMap<(Node, u16), u64>,
    /// Connections accepted, by node.
    pub connections: BTreeMap<Node, u64>,
    /// Connections open now, by node.
    pub open: BTreeMap<Node, u64>,
    /// Object requests that the proxy redirected to a target.
    pub redirects: u64,
    /// Ranges that targets began to send (206, and the ranged 200 of old servers).
    pub ranges: u64,
    /// Requests at targets that carried an `Authorization`: a client must not send it there.
    pub tokens_at_targets: u64,
    /// Faults that happened, by `Fault::name`.
    pub faults: BTreeMap<&'static str, u64>,
    /// Requests that a rate limit refused.
    pub throttled: u64,
    /// Requests with `latest-ver=true` that a target asked its backend for.
    pub latest_checks: u64,
    /// Bytes of objects that were handed to sockets.
    pub body_bytes: u64,
}

impl Counts {
    /// Requests at the targets together, of this method.
    pub fn at_targets(&self, method: &str) -> u64 {
        let all = self.requests.iter();
        all.filter(|((node, m), _)| *node != Node::Proxy && m == method)
            .map(|(_, n)| n)
            .sum()
    }

    /// Requests at the proxy, of this method.
    pub fn at_proxy(&self, method: &str) -> u64 {
        self.requests
            .get(&(Node::Proxy, method.into()))
            .copied()
            .unwrap_or(0)
    }

    /// Connections that are open now at this node.
    pub fn open_at(&self, node: Node) -> u64 {
        self.open.get(&node).copied().unwrap_or(0)
    }

    /// Connections that are open now at all nodes.
    pub fn all_open(&self) -> u64 {
        self.open.values().sum()
    }

    /// How often the fault of this name happened.
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

    /// Wait until the totals satisfy `condition`. Cancel safe; has no deadline of its own.
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
