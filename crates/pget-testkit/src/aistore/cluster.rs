//! The cluster: the sockets and tasks of its nodes, and its interface to tests.

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
/// All methods may be called from any thread. Drop ends all connections, even in the middle of an
/// answer.
#[derive(Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<(Node, JoinHandle<()>)>>,
}

impl Cluster {
    /// Starts a cluster on free ports.
    ///
    /// # Panics
    /// If no loopback port is free.
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

    /// Returns the proxy's URL, as `AIS_ENDPOINT` accepts it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.shared.addresses(Node::Proxy)[0])
    }

    /// Returns the addresses of a node.
    pub fn addresses(&self, node: Node) -> Vec<SocketAddr> {
        self.shared.addresses(node).to_vec()
    }

    /// Creates a bucket. Returns false if it exists.
    pub fn create_bucket(&self, bucket: impl Into<Bucket>, options: BucketOptions) -> bool {
        self.shared.store.create(bucket.into(), options)
    }

    /// Stores an object as the next version of its name.
    ///
    /// A missing bucket is created with default options. The call waits for no reader: answers that
    /// have begun continue with the revision that they began with.
    ///
    /// Unless the object states its checksum, the call computes it. That takes about 0.4 s per GiB
    /// in a release build.
    ///
    /// # Panics
    /// - If the object is larger than 8 GiB and its checksum is neither stated nor `none`.
    /// - If the object is cold and the bucket is an `ais` bucket.
    pub fn put(&self, bucket: impl Into<Bucket>, name: &str, object: Object) {
        let bucket = bucket.into();
        self.shared.store.create(bucket.clone(), BucketOptions::default());
        self.shared.store.put(&bucket, name, object);
    }

    /// Deletes an object. Returns false if it does not exist. The next object of its name is
    /// version 1.
    pub fn delete(&self, bucket: impl Into<Bucket>, name: &str) -> bool {
        self.shared.store.delete(&bucket.into(), name)
    }

    /// Moves an object to the other target, as a rebalance does. Returns false if it does not
    /// exist.
    pub fn move_object(&self, bucket: impl Into<Bucket>, name: &str) -> bool {
        self.shared.store.relocate(&bucket.into(), name)
    }

    /// Returns the index of the target that has the object, or that would receive it.
    pub fn target_of(&self, bucket: impl Into<Bucket>, name: &str) -> usize {
        self.shared.store.target_of(&bucket.into(), name)
    }

    /// Returns whether the cluster holds the object, or `None` if the object does not exist.
    pub fn is_present(&self, bucket: impl Into<Bucket>, name: &str) -> Option<bool> {
        self.shared
            .store
            .with(&bucket.into(), name, |slot| slot.is_present())
    }

    /// Completes the arrival of a cold object. The requests that wait for it get their answers.
    pub fn release_pull(&self, bucket: impl Into<Bucket>, name: &str) {
        self.shared.store.arrived(&bucket.into(), name);
    }

    /// Returns how many uploads by parts have begun and neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        self.shared.uploads.open()
    }

    /// Adds a rule that makes requests fail.
    pub fn inject(&self, rule: Rule) {
        self.shared.rules().add(rule);
    }

    /// Removes all remaining rules.
    pub fn clear_rules(&self) {
        self.shared.rules().clear();
    }

    /// Makes the proxy require this token, or none, from now on.
    pub fn set_token(&self, token: Option<&str>) {
        self.shared.control().token = token.map(Into::into);
    }

    /// Makes the proxy answer 403 to requests with this token.
    pub fn deny_token(&self, token: &str) {
        self.shared.control().denied.insert(token.into());
    }

    /// Sets whether every node answers 503 with an empty body.
    pub fn set_starting(&self, starting: bool) {
        self.shared.starting.store(starting, Ordering::Relaxed);
    }

    /// Stops a node, and waits until its connections have ended and its ports refuse.
    pub async fn stop(&self, node: Node) {
        let stopped: Vec<_> = self.lock_tasks().extract_if(.., |(of, _)| *of == node).collect();
        for (_, task) in &stopped {
            task.abort();
        }
        for (_, task) in stopped {
            // The task was cancelled on purpose.
            task.await.ok();
        }
        self.until(|counts| counts.open_at(node) == 0).await;
    }

    /// Restarts a stopped node on its old ports.
    ///
    /// # Errors
    /// If another process has taken one of them.
    pub async fn restart(&self, node: Node) -> io::Result<()> {
        for address in self.shared.addresses(node) {
            let listener = TcpListener::bind(address).await?;
            self.serve(node, listener);
        }
        Ok(())
    }

    /// Returns the totals so far.
    pub fn counts(&self) -> Counts {
        self.shared.ledger.counts()
    }

    /// Returns all exchanges so far, in the order of their answers.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.ledger.exchanges()
    }

    /// Waits until the totals satisfy `condition`. The caller must add a deadline.
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

/// Accepts connections until this task ends. The connections' tasks end with it.
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
            // The client has closed the connection already, or the process has no free descriptor.
            // Try again.
            Err(_) => tokio::task::yield_now().await,
        }
        while connections.try_join_next().is_some() {}
    }
}
