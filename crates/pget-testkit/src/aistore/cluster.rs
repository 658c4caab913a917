//! The cluster: its nodes' sockets and tasks, and what a test says and asks.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::bucket::{Bucket, digest};
use super::fault::{Node, Rule};
use super::ledger::{Counts, Exchange};
use super::object::Object;
use super::serve;
use super::shared::{ClusterOptions, Member, Shared, guard};
use super::store::BucketOptions;

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
