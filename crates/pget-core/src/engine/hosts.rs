//! What the downloads of this process have found out about servers: how many requests one serves at
//! once, or at which pace. The next download from the same endpoint starts from there.
//!
//! Invariants: at most [`MOST`] endpoints are remembered, each for [`AGE`]; nothing waits for the
//! lock, which a forked child may never get.

use std::{
    sync::{Mutex, PoisonError, TryLockError},
    time::{Duration, Instant},
};

use pget_schedule::Learned;

const MOST: usize = 64;
const AGE: Duration = Duration::from_secs(600);

struct Host {
    endpoint: String,
    learned: Learned,
    at: Instant,
}

static HOSTS: Mutex<Vec<Host>> = Mutex::new(Vec::new());

fn with_hosts<T>(act: impl FnOnce(&mut Vec<Host>) -> T) -> Option<T> {
    let mut hosts = match HOSTS.try_lock() {
        Ok(hosts) => hosts,
        Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
        Err(TryLockError::WouldBlock) => return None,
    };
    hosts.retain(|host| host.at.elapsed() < AGE);
    Some(act(&mut hosts))
}

/// Returns what is known of `endpoint`.
pub(crate) fn recall(endpoint: &str) -> Option<Learned> {
    with_hosts(|hosts| {
        let host = hosts.iter().find(|host| host.endpoint == endpoint)?;
        Some(host.learned)
    })?
}

/// Notes what a download has found out about `endpoint`, or that it has no limits.
pub(crate) fn remember(endpoint: &str, learned: Learned) {
    with_hosts(|hosts| {
        hosts.retain(|host| host.endpoint != endpoint);
        if learned == Learned::default() {
            return;
        }
        if hosts.len() >= MOST {
            hosts.remove(0);
        }
        hosts.push(Host {
            endpoint: endpoint.to_owned(),
            learned,
            at: Instant::now(),
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_remembered_until_it_is_gone() {
        let learned = Learned {
            permits: Some(4),
            interval: None,
            found: None,
        };
        remember("http://one.test:80", learned);
        assert_eq!(recall("http://one.test:80"), Some(learned));
        assert_eq!(recall("http://two.test:80"), None);
        remember("http://one.test:80", Learned::default());
        assert_eq!(recall("http://one.test:80"), None);
    }
}
