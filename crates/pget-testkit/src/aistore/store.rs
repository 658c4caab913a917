//! The objects: their revisions, targets, presence in the cluster, and locks.
//!
//! Invariants:
//! - A [`Stored`] never changes. An answer that holds one sends a single revision, even if the name
//!   is overwritten during the answer.
//! - Versions of a name count from 1. After a delete, they begin at 1 again.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};

use super::bucket::Bucket;
use super::checksum::Checksum;
use super::object::{Object, Pull};

/// Largest object that is hashed. That takes some seconds.
const HASH_LIMIT: u64 = 8 << 30;

/// Properties of a bucket that change its answers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BucketOptions {
    /// `checksum.type`. The default is `xxhash2`.
    pub checksum: String,
    /// `checksum.enable_read_range`: whether a 206 carries the checksum of its range instead of the
    /// object's.
    pub read_range_checksum: bool,
}

impl Default for BucketOptions {
    fn default() -> Self {
        Self {
            checksum: "xxhash2".into(),
            read_range_checksum: false,
        }
    }
}

impl BucketOptions {
    /// Changes the type of checksum: `xxhash`, `xxhash2`, `crc32c`, `md5`, `sha256`, `sha512` or
    /// `none`.
    #[must_use]
    pub fn checksum(mut self, kind: &str) -> Self {
        self.checksum = kind.into();
        self
    }

    /// Enables checksums of ranges.
    #[must_use]
    pub const fn read_range_checksum(mut self) -> Self {
        self.read_range_checksum = true;
        self
    }
}

/// One revision of an object.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) object: Object,
    pub(super) version: u64,
    pub(super) checksum: Option<Checksum>,
    pub(super) range_checksums: bool,
    pub(super) checksum_kind: String,
    pub(super) etag: Option<String>,
    pub(super) modified: SystemTime,
    /// Access time in nanoseconds since 1970.
    pub(super) accessed: u128,
}

/// A name in a bucket. It exists as long as something is stored under it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) target: usize,
    pub(super) stored: Arc<Stored>,
    pub(super) lock: Lock,
    cold: Option<Arc<Arrival>>,
}

impl Slot {
    pub(super) fn is_present(&self) -> bool {
        self.cold.is_none()
    }
}

/// The arrival of a remote object in the cluster.
#[derive(Debug)]
struct Arrival {
    pull: Pull,
    begun: Mutex<bool>,
    done: watch::Sender<bool>,
}

#[derive(Debug)]
struct BucketState {
    options: BucketOptions,
    slots: BTreeMap<String, Slot>,
}

/// All buckets of the cluster.
#[derive(Debug)]
pub(super) struct Store {
    targets: Vec<u64>,
    buckets: Mutex<BTreeMap<Bucket, BucketState>>,
    stamp: AtomicU64,
}

impl Store {
    /// Creates a store. `targets` are the digests of the targets' ids.
    pub(super) fn new(targets: Vec<u64>) -> Self {
        Self {
            targets,
            buckets: Mutex::default(),
            stamp: AtomicU64::new(0),
        }
    }

    /// Creates a bucket. Returns false if it already exists.
    pub(super) fn create(&self, bucket: Bucket, options: BucketOptions) -> bool {
        let mut buckets = self.lock();
        if buckets.contains_key(&bucket) {
            return false;
        }
        let slots = BTreeMap::new();
        buckets.insert(bucket, BucketState { options, slots });
        true
    }

    pub(super) fn destroy(&self, bucket: &Bucket) -> bool {
        self.lock().remove(bucket).is_some()
    }

    pub(super) fn options(&self, bucket: &Bucket) -> Option<BucketOptions> {
        self.lock().get(bucket).map(|state| state.options.clone())
    }

    /// Stores an object as the next revision of its name. Returns false if the bucket does not
    /// exist.
    ///
    /// The call does not wait for readers.
    pub(super) fn put(&self, bucket: &Bucket, name: &str, object: Object) -> bool {
        let Some(options) = self.options(bucket) else {
            return false;
        };
        // Hash without the lock, because hashing may take long.
        let checksum = match &object.stated {
            Some(stated) => Some(stated.clone()),
            None => {
                let size = object.size();
                let hashed = size <= HASH_LIMIT || options.checksum == "none";
                assert!(hashed, "{size} bytes take too long to hash: state a checksum");
                object.hash(&options.checksum, 0, size)
            }
        };
        let cold = object.pull.map(|pull| {
            assert!(!bucket.is_ais(), "an object of an ais bucket is never cold");
            let (begun, done) = (Mutex::new(false), watch::Sender::new(false));
            Arc::new(Arrival { pull, begun, done })
        });
        let modified = SystemTime::now();
        let since = modified
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let stamp = self.stamp.fetch_add(1, Ordering::Relaxed);
        let mut buckets = self.lock();
        let Some(state) = buckets.get_mut(bucket) else {
            return false;
        };
        let earlier = state.slots.remove(name);
        let version = earlier.as_ref().map_or(0, |slot| slot.stored.version) + 1;
        let etag = checksum.as_ref().map(|checksum| {
            format!(
                "\"v{version}-{}-{:x}{stamp:04x}\"",
                checksum.value,
                since.as_micros()
            )
        });
        let stored = Arc::new(Stored {
            object,
            version,
            checksum,
            range_checksums: options.read_range_checksum,
            checksum_kind: options.checksum,
            etag,
            modified,
            accessed: since.as_nanos(),
        });
        let slot = match earlier {
            Some(slot) => Slot { stored, cold, ..slot },
            None => Slot {
                target: bucket.owner(name, &self.targets),
                stored,
                lock: Lock::default(),
                cold,
            },
        };
        state.slots.insert(name.into(), slot);
        true
    }

    pub(super) fn delete(&self, bucket: &Bucket, name: &str) -> bool {
        self.lock()
            .get_mut(bucket)
            .is_some_and(|state| state.slots.remove(name).is_some())
    }

    /// Returns the first `most` objects whose names begin with `prefix` and come after `after`.
    ///
    /// Returns `None` if the bucket does not exist.
    pub(super) fn list(
        &self,
        bucket: &Bucket,
        prefix: &str,
        after: &str,
        most: usize,
    ) -> Option<Vec<(String, Arc<Stored>)>> {
        let buckets = self.lock();
        let slots = &buckets.get(bucket)?.slots;
        let from = slots.range::<str, _>((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
        let found = from.filter(|(name, _)| name.starts_with(prefix));
        let found = found.map(|(name, slot)| (name.clone(), Arc::clone(&slot.stored)));
        Some(found.take(most).collect())
    }

    /// Returns whether the name is a folder of a target's file system: objects are below it.
    pub(super) fn is_folder(&self, bucket: &Bucket, name: &str) -> bool {
        let below = self.list(bucket, &format!("{name}/"), name, 1);
        below.is_some_and(|found| !found.is_empty())
    }

    /// Calls `look` with a name's slot. Returns `None` if nothing is stored there.
    pub(super) fn with<T>(
        &self,
        bucket: &Bucket,
        name: &str,
        look: impl FnOnce(&mut Slot) -> T,
    ) -> Option<T> {
        self.lock().get_mut(bucket)?.slots.get_mut(name).map(look)
    }

    /// Returns the index of the target that has the object, or that would receive it.
    pub(super) fn target_of(&self, bucket: &Bucket, name: &str) -> usize {
        self.with(bucket, name, |slot| slot.target)
            .unwrap_or_else(|| bucket.owner(name, &self.targets))
    }

    pub(super) fn relocate(&self, bucket: &Bucket, name: &str) -> bool {
        let count = self.targets.len();
        self.with(bucket, name, |slot| slot.target = (slot.target + 1) % count)
            .is_some()
    }

    /// Pulls a cold object into the cluster and waits until it has arrived.
    ///
    /// The first caller begins the pull and waits until it is done. Other callers wait `limit`.
    /// Returns false if that was not enough.
    pub(super) async fn arrive(self: &Arc<Self>, bucket: &Bucket, name: &str, limit: Duration) -> bool {
        let Some(arrival) = self.with(bucket, name, |slot| slot.cold.clone()).flatten() else {
            return true;
        };
        let mut done = arrival.done.subscribe();
        // The sender lives in `arrival`, so this wait cannot fail.
        let all = async { done.wait_for(|done| *done).await.is_ok() };
        if std::mem::replace(&mut *guard(&arrival.begun), true) {
            return tokio::time::timeout(limit, all).await.unwrap_or(false);
        }
        if let Pull::After(delay) = arrival.pull {
            let (store, bucket, name) = (Arc::clone(self), bucket.clone(), name.to_owned());
            // The pull continues when the client that began it closes, as in a real target.
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                store.arrived(&bucket, &name);
            });
        }
        all.await
    }

    /// Returns true for the first request that streams a cold object during its arrival.
    pub(super) fn begin_stream(&self, bucket: &Bucket, name: &str) -> bool {
        let arrival = self.with(bucket, name, |slot| slot.cold.clone()).flatten();
        arrival.is_some_and(|arrival| !std::mem::replace(&mut *guard(&arrival.begun), true))
    }

    /// Records that the object has arrived in the cluster.
    pub(super) fn arrived(&self, bucket: &Bucket, name: &str) {
        if let Some(arrival) = self.with(bucket, name, |slot| slot.cold.take()).flatten() {
            arrival.done.send_replace(true);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Bucket, BucketState>> {
        guard(&self.buckets)
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An object's lock: many readers or one writer. A reader holds it until its answer ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Lock(Arc<LockState>);

#[derive(Debug, Default)]
struct LockState {
    readers: Mutex<usize>,
    freed: Notify,
}

/// A reader's hold on an object.
#[derive(Debug)]
pub(super) struct ReadLock(Arc<LockState>);

impl Lock {
    pub(super) fn read(&self) -> ReadLock {
        *guard(&self.0.readers) += 1;
        ReadLock(Arc::clone(&self.0))
    }

    /// Waits until the last reader has gone.
    ///
    /// The stand-in's writes take no time. A writer therefore needs no hold on the lock.
    pub(super) fn unread(&self) -> impl Future<Output = ()> + Send + use<> {
        let state = Arc::clone(&self.0);
        async move {
            loop {
                let mut freed = std::pin::pin!(state.freed.notified());
                freed.as_mut().enable();
                if *guard(&state.readers) == 0 {
                    return;
                }
                freed.await;
            }
        }
    }
}

impl ReadLock {
    /// Never releases the lock, like a target that panics in the middle of an answer.
    pub(super) fn wedge(self) {
        std::mem::forget(self);
    }
}

impl Drop for ReadLock {
    fn drop(&mut self) {
        *guard(&self.0.readers) -= 1;
        self.0.freed.notify_waiters();
    }
}
