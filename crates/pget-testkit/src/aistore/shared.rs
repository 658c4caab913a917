//! The state that all nodes of a cluster share, and the options of a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use xxhash_rust::xxh64::xxh64;

use super::bucket::Bucket;
use super::fault::{Node, Rules};
use super::ledger::Ledger;
use super::store::Store;
use super::upload::Uploads;

/// Number of targets in a cluster.
const TARGETS: usize = 2;

/// The proxy's limit of object requests, for each bucket and method.
///
/// It is a bucket of tokens, which are refilled.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    /// Number of requests that may come at once.
    pub burst: u32,
    /// Requests per second after that.
    pub per_second: u32,
}

/// The options of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The bearer token that the proxy requires (`auth.client_auth_required`).
    ///
    /// Targets then refuse requests that were not redirected.
    pub token: Option<String>,
    /// Whether redirects are signed, and targets require a signature
    /// (`auth.intra_cluster.request_auth`).
    ///
    /// AIStore 5.0 requires only the marks of a redirect as yet. This option follows its source,
    /// not a recording.
    pub signing: bool,
    /// The proxy's limit of object requests.
    pub rate_limit: Option<RateLimit>,
    /// A connection without a request for this long is closed.
    pub idle_close: Duration,
    /// Whether a ranged request is answered by 200 with `Content-Range`, as by servers before 4.1.
    pub before_4_1: bool,
    /// Whether every redirect has its query decoded, sorted and encoded again.
    ///
    /// Without it, that happens only where a real proxy does so.
    pub reencode_queries: bool,
    /// Number of addresses per target (127.0.0.1, 127.0.0.2, …). The proxy uses them in turn.
    pub interfaces: u8,
    /// Time that a GET waits while another one pulls its cold object (`timeout.cold_get_conflict`).
    ///
    /// After it, the answer is 409.
    pub cold_get_conflict: Duration,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            token: None,
            signing: false,
            rate_limit: None,
            idle_close: Duration::from_secs(30),
            before_4_1: false,
            reencode_queries: false,
            interfaces: 1,
            cold_get_conflict: Duration::from_secs(60),
        }
    }
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) printed: String,
    pub(super) addresses: Vec<SocketAddr>,
}

#[derive(Debug)]
pub(super) struct Control {
    pub(super) token: Option<String>,
    pub(super) denied: BTreeSet<String>,
    /// Remaining tokens of the rate limit, and the time of that count.
    allowed: BTreeMap<(Bucket, String), (f64, Instant)>,
}

/// The state that all nodes share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: ClusterOptions,
    pub(super) store: Arc<Store>,
    pub(super) uploads: Uploads,
    pub(super) ledger: Ledger,
    members: Vec<Member>,
    rules: Mutex<Rules>,
    control: Mutex<Control>,
    pub(super) starting: AtomicBool,
    connections: AtomicU64,
    nonce: AtomicU64,
    turn: AtomicU64,
}

impl Shared {
    pub(super) fn new(options: ClusterOptions, members: Vec<Member>, digests: Vec<u64>) -> Self {
        Self {
            control: Mutex::new(Control {
                token: options.token.clone(),
                denied: BTreeSet::new(),
                allowed: BTreeMap::new(),
            }),
            options,
            store: Arc::new(Store::new(digests)),
            uploads: Uploads::default(),
            ledger: Ledger::default(),
            members,
            rules: Mutex::default(),
            starting: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            nonce: AtomicU64::new(1),
            turn: AtomicU64::new(0),
        }
    }

    fn member(&self, node: Node) -> &Member {
        match node {
            Node::Proxy => &self.members[0],
            Node::Target(index) => &self.members[1 + index],
        }
    }

    pub(super) fn targets(&self) -> usize {
        TARGETS
    }

    pub(super) fn id(&self, node: Node) -> &str {
        &self.member(node).id
    }

    /// Returns the node as messages name it: `t[target1-8080]`.
    pub(super) fn printed(&self, node: Node) -> &str {
        &self.member(node).printed
    }

    pub(super) fn addresses(&self, node: Node) -> &[SocketAddr] {
        &self.member(node).addresses
    }

    /// Returns the address that the next redirect to this target names.
    pub(super) fn address_of(&self, target: usize) -> SocketAddr {
        let addresses = self.addresses(Node::Target(target));
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        // The index is less than the number of addresses.
        let index = usize::try_from(turn % addresses.len() as u64).unwrap_or_default();
        addresses[index]
    }

    pub(super) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn next_nonce(&self) -> u64 {
        self.nonce.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns a signature that ties a redirect to its path.
    ///
    /// It contains no secret, because tests do not forge signatures.
    pub(super) fn signature(&self, path: &str, nonce: &str) -> String {
        let digest = xxh64(format!("{path} {nonce}").as_bytes(), 0);
        // The signature is as long as a real one. It contains characters that must not be changed
        // on the way.
        format!("{digest:016x}-_{digest:016x}{digest:016x}{digest:016x}{digest:016x}0123")
    }

    pub(super) fn rules(&self) -> MutexGuard<'_, Rules> {
        guard(&self.rules)
    }

    pub(super) fn required_token(&self) -> Option<String> {
        self.control().token.clone()
    }

    pub(super) fn is_denied(&self, token: &str) -> bool {
        self.control().denied.contains(token)
    }

    pub(super) fn is_starting(&self) -> bool {
        self.starting.load(Ordering::Relaxed)
    }

    /// Takes a token of the rate limit. Returns false if this bucket and method have none left.
    pub(super) fn take_turn(&self, bucket: &Bucket, method: &str) -> bool {
        let Some(limit) = self.options.rate_limit else {
            return true;
        };
        let now = Instant::now();
        let burst = f64::from(limit.burst);
        let mut control = self.control();
        let key = (bucket.clone(), method.to_owned());
        let (left, since) = control.allowed.entry(key).or_insert((burst, now));
        let filled = now.duration_since(*since).as_secs_f64() * f64::from(limit.per_second);
        *left = (*left + filled).min(burst);
        *since = now;
        let pass = *left >= 1.0;
        if pass {
            *left -= 1.0;
        }
        pass
    }

    pub(super) fn control(&self) -> MutexGuard<'_, Control> {
        guard(&self.control)
    }
}

pub(super) fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
