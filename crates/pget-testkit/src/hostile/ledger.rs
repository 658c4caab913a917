//! The server's routes, and records of the requests that it has received and answered.
//!
//! One mutex guards the records. It is held for a few instructions and never across a write. Every
//! change wakes the tasks that wait for one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::request::{Asked, Request};
use super::{Fault, Route};

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `GET`, `HEAD` or another method.
    pub method: String,
    /// Path with query.
    pub target: String,
    /// All headers, in order, names as written.
    pub headers: Vec<(String, String)>,
    /// The requested range, if there is exactly one and it is well formed.
    pub asked: Option<Asked>,
    /// The number of its connection, counted from 0 over the server's life.
    pub connection: u64,
    /// Whether that connection had carried an earlier request.
    pub reused: bool,
    /// The index in the route of the rule that applied, if any.
    pub rule: Option<usize>,
}

impl Seen {
    /// Returns the first header of this name, in upper or lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// The server's load: current, highest and total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections open now.
    pub open: u64,
    /// The largest number of connections that were open at the same time.
    pub peak_open: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Requests being answered now.
    pub in_flight: u64,
    /// The largest number of requests that were being answered at the same time.
    pub peak_in_flight: u64,
    /// Requests that arrived.
    pub requests: u64,
    /// Body bytes passed, or just being passed, to the kernel. Framing does not count.
    pub body_bytes: u64,
}

/// The server's decision about a request.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) route: Arc<Route>,
    /// The index of the rule that applies to the request.
    rule: Option<usize>,
    /// Number of earlier requests that the rule applied to.
    pub(super) met_before: u64,
    /// The counters of the route at the request's arrival, so that a new route starts from zero.
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
    /// For each rule: the number of requests that it was chosen for.
    met: Vec<u64>,
    /// For each rule: the number of faults put on the wire.
    served: Arc<[AtomicU64]>,
}

/// The server's records.
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
        // A panic cannot leave an incomplete change: no holder of the lock stops half-way.
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

    /// Records an accepted connection, and returns its number.
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

    /// Records a request and decides about it. Returns `None` if the path has no route.
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

    /// Counts the plan's fault, which goes on the wire now.
    pub(super) fn fault_served(&self, plan: &Plan) {
        if let Some(rule) = plan.rule {
            // `Relaxed` is enough: the counter publishes no other data.
            plan.served[rule].fetch_add(1, Ordering::Relaxed);
            self.changes.send_replace(());
        }
    }

    /// Takes the count back, because the fault did not go on the wire.
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
