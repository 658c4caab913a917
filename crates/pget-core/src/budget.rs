//! The limits of all downloads of a process together: bytes of slots, and requests in flight.
//!
//! First come, first served: a waiting download is not overtaken by a smaller one. A download's
//! chunk at the cursor never waits, so that no two downloads can wait for each other, whatever
//! order their consumers are read in; the hard bound is therefore the limit plus one chunk and one
//! request for each download.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    fork::{Own, PerProcess},
    system_memory,
};

/// Bytes a permit stands for; semaphores count to `u32`.
const UNIT: u64 = 4096;

/// The most memory that is taken by default: 1 GiB.
const MOST: u64 = 1 << 30;

/// Assumed memory of the process if the system does not report it.
const UNTOLD: u64 = 2 << 30;

/// Requests in flight in a process, by default. Above this, more connections add load and no speed.
const CONNECTIONS: usize = 512;

/// A limit on buffered bytes and on requests in flight, shared by any number of downloads.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// // 256 MiB and 64 requests, for two downloads together.
/// let budget = pget_core::Budget::new(256 << 20, 64);
/// let (mut one, mut other) = (pget_core::Options::default(), pget_core::Options::default());
/// one.budget = Arc::clone(&budget);
/// other.budget = Arc::clone(&budget);
/// assert_eq!(budget.limit(), 256 << 20);
/// ```
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    most_in_flight: usize,
    /// The permits of this process. A forked child begins with all of them free, because none of
    /// its parent's downloads is its own.
    permits: PerProcess<Permits>,
}

#[derive(Debug)]
struct Permits {
    memory: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

impl Budget {
    /// A budget of `bytes` (at least one MiB is taken) and `connections` requests in flight (at
    /// least 1).
    #[must_use]
    pub fn new(bytes: u64, connections: usize) -> Arc<Self> {
        // Whole units: a limit that no number of permits makes up could never be taken by a chunk
        // as large as it.
        let limit = bytes.clamp(1 << 20, UNIT * u64::from(u32::MAX)) / UNIT * UNIT;
        Arc::new(Self {
            limit,
            most_in_flight: connections.clamp(1, Semaphore::MAX_PERMITS),
            permits: PerProcess::new(),
        })
    }

    fn permits(&self) -> &Permits {
        self.permits.get_or_init(|| {
            let units = usize::try_from(self.limit / UNIT)
                .unwrap_or(Semaphore::MAX_PERMITS)
                .min(Semaphore::MAX_PERMITS);
            Permits {
                memory: Arc::new(Semaphore::new(units)),
                connections: Arc::new(Semaphore::new(self.most_in_flight)),
            }
        })
    }

    /// A budget of so many chunks of a few bytes.
    #[cfg(all(test, feature = "model"))]
    pub(crate) fn tiny(chunks: u32, connections: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: u64::from(chunks) * UNIT,
            most_in_flight: connections,
            permits: PerProcess::new(),
        })
    }

    /// The process's budget: a quarter of the memory that the control group or the machine has, at
    /// most 1 GiB, and 512 requests.
    #[must_use]
    pub fn process() -> &'static Arc<Self> {
        static PROCESS: PerProcess<Arc<Budget>> = PerProcess::new();
        // A child keeps the limits, so that settings from before the fork and new ones share one
        // budget there.
        PROCESS.inherit_or_init(|| {
            Self::new(
                (system_memory::total().unwrap_or(UNTOLD) / 4).min(MOST),
                CONNECTIONS,
            )
        })
    }

    /// The limit on buffered bytes.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes taken of the limit now.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.limit - self.permits().memory.available_permits() as u64 * UNIT
    }

    /// Requests in flight of the limit on them now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.most_in_flight - self.permits().connections.available_permits()
    }

    /// Waits for `bytes` of memory.
    pub(crate) async fn reserve(self: Arc<Self>, bytes: u64) -> Reservation {
        let units = units(bytes.min(self.limit));
        // The semaphore is never closed.
        let memory = Arc::clone(&self.permits().memory);
        let permit = memory.acquire_many_owned(units).await.ok().map(Own::new);
        Reservation { permit }
    }

    /// `bytes` of memory if they are free now and no other waits for them; else beyond the limit if
    /// `must`.
    pub(crate) fn try_reserve(&self, bytes: u64, must: bool) -> Option<Reservation> {
        let memory = Arc::clone(&self.permits().memory);
        match memory.try_acquire_many_owned(units(bytes.min(self.limit))) {
            Ok(permit) => Some(Reservation {
                permit: Some(Own::new(permit)),
            }),
            Err(_) if must => Some(Reservation { permit: None }),
            Err(_) => None,
        }
    }

    /// Waits for leave to send a request. Who must not wait stops waiting.
    pub(crate) async fn connection(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.permits().connections).acquire_owned().await.ok()
    }
}

/// Memory taken from a [`Budget`], given back on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    /// `None`: beyond the limit, for the chunk at a cursor.
    permit: Option<Own<OwnedSemaphorePermit>>,
}

impl Reservation {
    /// Returns all but `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: u64) {
        if let Some(permit) = &mut self.permit
            && !Own::is_forked(permit)
        {
            let keep = units(bytes) as usize;
            let surplus = permit.num_permits().saturating_sub(keep);
            drop(permit.split(surplus));
        }
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiting_download_is_not_overtaken_and_the_cursor_never_waits() {
        let budget = Budget::new(1 << 20, 1);
        let all = Arc::clone(&budget).reserve(1 << 20).await;
        assert!(budget.try_reserve(1, false).is_none());
        assert!(
            budget.try_reserve(1 << 20, true).is_some(),
            "the chunk at the cursor is served beyond the limit"
        );
        let mut waiting = Box::pin(Arc::clone(&budget).reserve(1 << 20));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(all);
        assert!(
            budget.try_reserve(4096, false).is_none(),
            "memory set free belongs to who waits"
        );
        drop(waiting);
        assert!(budget.try_reserve(1 << 20, false).is_some());
    }

    #[test]
    fn a_child_begins_with_all_of_it_free() {
        let budget = Budget::new(1 << 20, 1);
        let mut taken = budget.try_reserve(1 << 20, false);
        pget_testkit::forked::in_child(std::time::Duration::from_secs(30), || {
            assert_eq!(budget.taken(), 0);
            let own = budget.try_reserve(1 << 20, false).expect("all of it");
            drop(taken.take());
            assert_eq!(budget.taken(), 1 << 20, "the parent's is not given back here");
            drop(own);
            assert_eq!(budget.taken(), 0);
        });
        assert_eq!(budget.taken(), 1 << 20);
    }

    #[test]
    fn a_chunk_as_large_as_an_odd_limit_fits() {
        let budget = Budget::new((1 << 20) + 1, 1);
        assert!(budget.try_reserve(u64::MAX, false).is_some());
    }

    #[test]
    fn shrinking_gives_back_the_rest() {
        let budget = Budget::new(1 << 20, 1);
        let mut held = budget.try_reserve(1 << 20, false).expect("all of it is free");
        held.shrink_to(10);
        assert!(budget.try_reserve((1 << 20) - 4096, false).is_some());
    }
}
