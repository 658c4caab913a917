//! The cluster: its nodes' sockets and tasks, and what a test says and asks.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use xxhash_rust::xxh64::xxh64;

use super::bucket::{Bucket, digest};
use super::fault::{Node, Rule, Rules};
use super::ledger::{Counts, Exchange, Ledger};
use super::object::Object;
use super::serve;
use super::store::{BucketOptions, Store};

/// Targets of a cluster.
const TARGETS: usize = 2;

/// Object requests that the proxy lets through, for each bucket and method: so many tokens, that come again.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    /// Requests that may come at once.
    pub burst: u32,
    /// Requests a second after that.
    pub per_second: u32,
}

/// How a cluster is set up.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The proxy demands this bearer token (`auth.client_auth_required`), and targets refuse what was not redirected.
    pub token: Option<String>,
    /// Redirects are signed and targets demand it (`auth.intra_cluster.request_auth`). AIStore 5.0 only demands the marks
    /// of a redirect as yet, so this goes by its source and not by a recording.
    pub signing: bool,
    /// The proxy's limit of object requests.
    pub rate_limit: Option<RateLimit>,
    /// A connection on which no request came for so long is closed.
    pub idle_close: Duration,
    /// A ranged request is answered by 200 with `Content-Range`, as by servers before 4.1.
    pub before_4_1: bool,
    /// Every redirect has its query decoded, sorted and encoded again; otherwise only where a real proxy does that.
    pub reencode_queries: bool,
    /// Addresses of each target (127.0.0.1, 127.0.0.2, …), which the proxy hands out in turn.
    pub interfaces: u8,
    /// How long a GET waits for another one's pull of its cold object before it is 409 (`timeout.cold_get_conflict`).
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

/// One proxy and two targets on loopback sockets, served by tasks of the runtime that started it.
///
/// All methods may be called from any thread. Dropping it ends all connections, answers under way included.
#[derive(Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<(Node, JoinHandle<()>)>>,
}

impl Cluster {
    /// Start a cluster, on free ports.
    ///
    /// # Panics
    /// When no loopback port can be had.
    pub async fn start(options: ClusterOptions) -> Self {
        let ids = ["proxy0-8080", "target1-8080", "target2-8080"].map(String::from);
        let mut members = Vec::new();
        let mut listeners = Vec::new();
        for (index, id) in ids.into_iter().enumerate() {
            let node = index.checked_sub(1).map_or(Node::Proxy, Node::Target);
            let count = if node == Node::Proxy {
                1
            } else {
                options.interfaces.max(1)
            };
            let mut addresses = Vec::new();
            for host in 1..=count {
                let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0));
                let listener = TcpListener::bind(address).await.expect("a free loopback port");
                addresses.push(listener.local_addr().expect("a bound socket has an address"));
                listeners.push((node, listener));
            }
            let mark = if node == Node::Proxy { 'p' } else { 't' };
            let printed = format!("{mark}[{id}]");
            members.push(Member {
                id,
                printed,
                addresses,
            });
        }
        let digests = members[1..].iter().map(|member| digest(&member.id)).collect();
        let cluster = Self {
            shared: Arc::new(Shared::new(options, members, digests)),
            tasks: Mutex::default(),
        };
        for (node, listener) in listeners {
            cluster.serve(node, listener);
        }
        cluster
    }

    /// The proxy's URL, as `AIS_ENDPOINT` takes it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.shared.addresses(Node::Proxy)[0])
    }

    /// The addresses of a node.
    pub fn addresses(&self, node: Node) -> Vec<SocketAddr> {
        self.shared.addresses(node).to_vec()
    }

    /// Create a bucket; false when it exists.
    pub fn create_bucket(&self, bucket: impl Into<Bucket>, options: BucketOptions) -> bool {
        self.shared.store.create(bucket.into(), options)
    }

    /// Store an object, as the next version of its name; the bucket is created with default options if need be. Waits for
    /// no reader: answers under way go on with the revision that they began with.
    ///
    /// Hashes the object unless its checksum is stated, which takes about 0.4 s a GiB in a release build.
    ///
    /// # Panics
    /// When the object is above 8 GiB and its checksum is neither stated nor `none`, and when it is cold in an `ais` bucket.
    pub fn put(&self, bucket: impl Into<Bucket>, name: &str, object: Object) {
        let bucket = bucket.into();
        self.shared.store.create(bucket.clone(), BucketOptions::default());
        self.shared.store.put(&bucket, name, object);
    }

    /// Delete an object; false when there is none. The next one of its name is version 1 again.
    pub fn delete(&self, bucket: impl Into<Bucket>, name: &str) -> bool {
        self.shared.store.delete(&bucket.into(), name)
    }

    /// Move an object to the other target, as a rebalance does; false when there is none.
    pub fn move_object(&self, bucket: impl Into<Bucket>, name: &str) -> bool {
        self.shared.store.relocate(&bucket.into(), name)
    }

    /// The target that has, or would get, the object.
    pub fn target_of(&self, bucket: impl Into<Bucket>, name: &str) -> usize {
        self.shared.store.target_of(&bucket.into(), name)
    }

    /// Whether the cluster holds the object; `None` when there is none.
    pub fn is_present(&self, bucket: impl Into<Bucket>, name: &str) -> Option<bool> {
        self.shared
            .store
            .with(&bucket.into(), name, |slot| slot.is_present())
    }

    /// A cold object has arrived in the cluster: those who wait for it get their answers.
    pub fn release_pull(&self, bucket: impl Into<Bucket>, name: &str) {
        self.shared.store.arrived(&bucket.into(), name);
    }

    /// Let something go wrong.
    pub fn inject(&self, rule: Rule) {
        self.shared.rules().add(rule);
    }

    /// Forget all rules that are left.
    pub fn clear_rules(&self) {
        self.shared.rules().clear();
    }

    /// From now on the proxy demands this token, or none.
    pub fn set_token(&self, token: Option<&str>) {
        self.shared.control().token = token.map(Into::into);
    }

    /// The bearer of this token may not read: 403.
    pub fn deny_token(&self, token: &str) {
        self.shared.control().denied.insert(token.into());
    }

    /// While true, every node answers 503 with an empty body.
    pub fn set_starting(&self, starting: bool) {
        self.shared.starting.store(starting, Ordering::Relaxed);
    }

    /// Take a node down: its connections end, its ports refuse. Done when that is so.
    pub async fn stop(&self, node: Node) {
        let stopped: Vec<_> = self.lock_tasks().extract_if(.., |(of, _)| *of == node).collect();
        for (_, task) in &stopped {
            task.abort();
        }
        for (_, task) in stopped {
            // Cancelled, which is what was asked for.
            task.await.ok();
        }
        self.until(|counts| counts.open_at(node) == 0).await;
    }

    /// Bring a stopped node back, on its old ports.
    ///
    /// # Errors
    /// When one of them is taken.
    pub async fn restart(&self, node: Node) -> io::Result<()> {
        for address in self.shared.addresses(node) {
            let listener = TcpListener::bind(address).await?;
            self.serve(node, listener);
        }
        Ok(())
    }

    /// Totals so far.
    pub fn counts(&self) -> Counts {
        self.shared.ledger.counts()
    }

    /// All exchanges so far, in the order of their answers.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.ledger.exchanges()
    }

    /// Wait until the totals satisfy `condition`: put it under a deadline of the test's.
    pub async fn until(&self, condition: impl Fn(&Counts) -> bool) -> Counts {
        self.shared.ledger.until(condition).await
    }

    fn serve(&self, node: Node, listener: TcpListener) {
        let task = tokio::spawn(accept(Arc::clone(&self.shared), node, listener));
        self.lock_tasks().push((node, task));
    }

    fn lock_tasks(&self) -> MutexGuard<'_, Vec<(Node, JoinHandle<()>)>> {
        guard(&self.tasks)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (_, task) in self.lock_tasks().iter() {
            task.abort();
        }
    }
}

/// Accept connections for ever. The connections' tasks end with this one.
async fn accept(shared: Arc<Shared>, node: Node, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                connections.spawn(serve::connection(
                    Arc::clone(&shared),
                    node,
                    stream,
                    peer.to_string(),
                ));
            }
            // A connection that was gone before it was accepted, or no descriptor: the next may do better.
            Err(_) => tokio::task::yield_now().await,
        }
        while connections.try_join_next().is_some() {}
    }
}

#[derive(Debug)]
struct Member {
    id: String,
    printed: String,
    addresses: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Control {
    token: Option<String>,
    denied: BTreeSet<String>,
    /// Requests that the rate limit still lets through, and when that was so.
    allowed: BTreeMap<(Bucket, String), (f64, Instant)>,
}

/// What all nodes share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: ClusterOptions,
    pub(super) store: Arc<Store>,
    pub(super) ledger: Ledger,
    members: Vec<Member>,
    rules: Mutex<Rules>,
    control: Mutex<Control>,
    starting: AtomicBool,
    connections: AtomicU64,
    nonce: AtomicU64,
    turn: AtomicU64,
}

impl Shared {
    fn new(options: ClusterOptions, members: Vec<Member>, digests: Vec<u64>) -> Self {
        Self {
            control: Mutex::new(Control {
                token: options.token.clone(),
                denied: BTreeSet::new(),
                allowed: BTreeMap::new(),
            }),
            options,
            store: Arc::new(Store::new(digests)),
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

    /// As messages name the node: `t[target1-8080]`.
    pub(super) fn printed(&self, node: Node) -> &str {
        &self.member(node).printed
    }

    pub(super) fn addresses(&self, node: Node) -> &[SocketAddr] {
        &self.member(node).addresses
    }

    /// The address that the next redirect to this target names.
    pub(super) fn address_of(&self, target: usize) -> SocketAddr {
        let addresses = self.addresses(Node::Target(target));
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        // Below the count of addresses.
        let index = usize::try_from(turn % addresses.len() as u64).unwrap_or_default();
        addresses[index]
    }

    pub(super) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn next_nonce(&self) -> u64 {
        self.nonce.fetch_add(1, Ordering::Relaxed)
    }

    /// Ties a redirect to its path. No secret: nobody here forges one.
    pub(super) fn signature(&self, path: &str, nonce: &str) -> String {
        let digest = xxh64(format!("{path} {nonce}").as_bytes(), 0);
        // As long as a real one, and with characters that must survive as they are.
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

    /// Whether the rate limit lets one more object request through: each bucket and method has its own.
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

    fn control(&self) -> MutexGuard<'_, Control> {
        guard(&self.control)
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
