//! What the server has been asked, what it has done, and the routes it does it by.
//!
//! One mutex, held for a few instructions and never across a write; every change is announced to those who wait.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::request::{Asked, Request};
use super::{Fault, Route};

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `GET`, `HEAD` or what else it was.
    pub method: String,
    /// Path with query.
    pub target: String,
    /// All headers, in order, names as written.
    pub headers: Vec<(String, String)>,
    /// The range, when one (and only one, well formed) was asked.
    pub asked: Option<Asked>,
    /// Which connection it came on, counted from 0 over the server's life.
    pub connection: u64,
    /// Whether that connection had carried a request before.
    pub reused: bool,
    /// The rule that met it, if any, by its place in the route.
    pub rule: Option<usize>,
}

impl Seen {
    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// What the server carries and has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections open now.
    pub open: u64,
    /// The most that were open at once.
    pub peak_open: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Requests being answered now.
    pub in_flight: u64,
    /// The most that were being answered at once.
    pub peak_in_flight: u64,
    /// Requests that arrived.
    pub requests: u64,
    /// Body bytes handed to the kernel (or just being so), framing not counted.
    pub body_bytes: u64,
}

/// What is to be done about a request.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) route: Arc<Route>,
    /// The rule that meets the request.
    rule: Option<usize>,
    /// How many requests the rule had met before.
    pub(super) met_before: u64,
    /// The counters of the route as it was when the request arrived, so that a new route starts from none.
    served: Arc<[AtomicU64]>,
}

impl Plan {
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.rule.map(|rule| &self.route.rules[rule].fault)
    }
}

#[derive(Debug, Default)]
struct Entry {
    serving: Option<Serving>,
    requests: Vec<Seen>,
}

#[derive(Debug)]
struct Serving {
    route: Arc<Route>,
    gets: u64,
    /// Per rule: the requests that it was chosen for.
    met: Vec<u64>,
    /// Per rule: the faults put on the wire.
    served: Arc<[AtomicU64]>,
}

/// The server's memory.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    state: Mutex<State>,
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<String, Entry>,
    load: Load,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave a half-made change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changes.send_replace(());
        result
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(super) fn set_route(&self, path: &str, route: Route) {
        self.change(|state| {
            let serving = Serving {
                gets: 0,
                met: vec![0; route.rules.len()],
                served: route.rules.iter().map(|_| AtomicU64::new(0)).collect(),
                route: Arc::new(route),
            };
            state.entries.entry(path.to_owned()).or_default().serving = Some(serving);
        });
    }

    pub(super) fn served(&self, path: &str) -> Vec<u64> {
        let state = self.lock();
        let serving = state.entries.get(path).and_then(|entry| entry.serving.as_ref());
        serving
            .map(|serving| serving.served.iter().map(read).collect())
            .unwrap_or_default()
    }

    pub(super) fn requests(&self, path: &str) -> Vec<Seen> {
        self.lock()
            .entries
            .get(path)
            .map(|entry| entry.requests.clone())
            .unwrap_or_default()
    }

    pub(super) fn load(&self) -> Load {
        self.lock().load
    }

    /// A connection was accepted; its number.
    pub(super) fn opened(&self) -> u64 {
        self.change(|state| {
            let load = &mut state.load;
            load.open += 1;
            load.peak_open = load.peak_open.max(load.open);
            load.connections += 1;
            load.connections - 1
        })
    }

    pub(super) fn closed(&self) {
        self.change(|state| state.load.open -= 1);
    }

    /// Note a request and decide about it; `None` without a route.
    pub(super) fn arrived(&self, request: &Request, connection: u64) -> Option<Plan> {
        self.change(|state| {
            let load = &mut state.load;
            load.requests += 1;
            load.in_flight += 1;
            load.peak_in_flight = load.peak_in_flight.max(load.in_flight);
            let entry = state.entries.entry(request.path().to_owned()).or_default();
            let plan = entry
                .serving
                .as_mut()
                .map(|serving| serving.plan(request, connection));
            entry.requests.push(Seen {
                method: request.method.clone(),
                target: request.target.clone(),
                headers: request.headers.clone(),
                asked: request.asked,
                connection,
                reused: request.reused,
                rule: plan.as_ref().and_then(|plan| plan.rule),
            });
            plan
        })
    }

    pub(super) fn answered(&self) {
        self.change(|state| state.load.in_flight -= 1);
    }

    /// The plan's fault goes on the wire.
    pub(super) fn fault_served(&self, plan: &Plan) {
        if let Some(rule) = plan.rule {
            // Only a count: nothing else is published by it.
            plan.served[rule].fetch_add(1, Ordering::Relaxed);
            self.changes.send_replace(());
        }
    }

    /// It did not get there after all.
    pub(super) fn fault_lost(&self, plan: &Plan) {
        if let Some(rule) = plan.rule {
            plan.served[rule].fetch_sub(1, Ordering::Relaxed);
            self.changes.send_replace(());
        }
    }

    pub(super) fn sent(&self, body_bytes: u64) {
        self.change(|state| state.load.body_bytes += body_bytes);
    }
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

impl Serving {
    fn plan(&mut self, request: &Request, connection: u64) -> Plan {
        if request.method == "GET" {
            self.gets += 1;
        }
        let rule = self.route.rules.iter().enumerate().position(|(index, rule)| {
            let before = self.served[..index].iter().map(read).sum();
            self.met[index] < rule.times && rule.when.holds(request, connection, self.gets, before)
        });
        let met_before = rule.map_or(0, |rule| self.met[rule]);
        if let Some(rule) = rule {
            self.met[rule] += 1;
        }
        Plan {
            route: Arc::clone(&self.route),
            rule,
            met_before,
            served: Arc::clone(&self.served),
        }
    }
}
