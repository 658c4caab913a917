//! Names to addresses: look-ups shared and kept for a few seconds, answers spread over all
//! connections, failing and silent addresses last.
//!
//! Invariants: one look-up of a name at a time, and the others wait for it; it goes on when the
//! caller that began it has given up, and the next finds its answer. A look-up is a thread's
//! blocking call that its runtime need not drive, so that any runtime's callers can wait for it. No
//! lock is held while anything is waited for.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, ready},
};
use pget_core::{fork::apart_from_forks, threads::can_start};
use tokio::task::spawn_blocking;

/// How long an answer serves. The system reports no time to live; this spares the look-ups of a
/// burst of connections and still follows a service that moves.
const KEPT: Duration = Duration::from_secs(5);

/// A look-up this old is given up, as its thread may never get to it or never come back. The
/// system's resolver by itself stops after some tens of seconds.
const LOST: Duration = Duration::from_secs(90);

/// How long an address that failed comes after those that did not, also in later look-ups.
const FAILED_FOR: Duration = Duration::from_secs(60);

/// How long an answer serves when no later look-up succeeds: a resolver may be away for a while.
const STALE: Duration = Duration::from_secs(600);

/// The most names kept; beyond that, outdated ones are forgotten.
const MOST_NAMES: usize = 256;

/// Asks the system, blocking.
type Ask = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

pub(crate) struct Resolver {
    names: Mutex<HashMap<String, Arc<Mutex<Name>>>>,
    ask: Arc<Ask>,
}

/// What is known of a name.
#[derive(Default)]
struct Name {
    /// Those that work, and after them those that failed.
    addresses: Vec<IpAddr>,
    failed: usize,
    /// When an address failed last.
    failures: HashMap<IpAddr, Instant>,
    /// When a look-up succeeded last.
    told: Option<Instant>,
    at: Option<Instant>,
    /// Where the next caller's list begins.
    turn: usize,
    asked: Option<LookUp>,
}

/// A look-up in progress, or one that ended when no caller waited for it.
#[derive(Clone)]
struct LookUp {
    begun: Instant,
    end: Shared<BoxFuture<'static, Option<End>>>,
}

/// How a look-up ended; `None` in its place if its runtime shut down before it began.
#[derive(Clone)]
struct End {
    at: Instant,
    found: Result<Vec<IpAddr>, Arc<io::Error>>,
}

impl Name {
    fn is_fresh(&self) -> bool {
        self.at.is_some_and(|at| at.elapsed() < KEPT)
    }

    /// Takes over what a look-up has `found`, those that failed lately last.
    fn take(&mut self, found: Vec<IpAddr>, at: Instant) {
        self.failures
            .retain(|ip, failed| found.contains(ip) && failed.elapsed() < FAILED_FOR);
        let (failed, mut working): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|ip| self.failures.contains_key(ip));
        self.failed = if working.is_empty() { 0 } else { failed.len() };
        working.extend(failed);
        self.addresses = working;
        self.turn = 0;
        (self.at, self.told) = (Some(at), Some(at));
    }

    /// Whether the result of an earlier look-up may serve for another while.
    fn renew(&mut self) -> bool {
        let serves = self.told.is_some_and(|told| told.elapsed() < STALE);
        if serves {
            self.at = Some(Instant::now());
        }
        serves
    }

    /// All of them, from the next one of those that work.
    fn in_turn(&mut self, port: u16) -> Vec<SocketAddr> {
        let (working, failed) = self.addresses.split_at(self.addresses.len() - self.failed);
        let first = self.turn % working.len().max(1);
        self.turn = first + 1;
        let (before, behind) = working.split_at(first);
        let in_turn = behind.iter().chain(before).chain(failed);
        in_turn.map(|&ip| SocketAddr::new(ip, port)).collect()
    }
}

impl LookUp {
    fn is_lost(&self) -> bool {
        self.begun.elapsed() >= LOST
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::asking(|host| {
            // A child that is forked in the midst of it could not look up anything.
            let found = apart_from_forks(|| (host, 0).to_socket_addrs())?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolver {
    fn asking(ask: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Self {
            names: Mutex::default(),
            ask: Arc::new(ask),
        }
    }

    /// Addresses to try for `host`, in order; every call starts at the next one. May be dropped:
    /// the look-up is not.
    pub(crate) async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = literal.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let name = self.name(host);
        loop {
            let (look_up, is_ours) = {
                let mut name = lock(&name);
                if name.is_fresh() {
                    return Ok(name.in_turn(port));
                }
                match &name.asked {
                    Some(asked) if !asked.is_lost() => (asked.clone(), false),
                    _ => (name.asked.insert(self.look_up(host)).clone(), true),
                }
            };
            let end = look_up.end.clone().await;
            let mut name = lock(&name);
            let is_first = name
                .asked
                .as_ref()
                .is_some_and(|asked| asked.end.ptr_eq(&look_up.end));
            if is_first {
                name.asked = None;
            }
            match end {
                // It ended unheard, long ago.
                Some(end) if !is_ours && end.at.elapsed() >= KEPT => {}
                // The resolver may be restarting, and those of before still be there.
                Some(End {
                    found: Err(cause), ..
                }) if name.renew() => {
                    tracing::debug!(host, %cause, "no look-up; going on with what was found before");
                    return Ok(name.in_turn(port));
                }
                Some(End {
                    found: Err(cause), ..
                }) => {
                    // A name that was there before is missing in passing.
                    let kind = if name.told.is_none() && is_no_such_name(&cause) {
                        NO_SUCH_NAME
                    } else {
                        io::ErrorKind::Other
                    };
                    return Err(io::Error::new(kind, cause));
                }
                Some(End {
                    found: Ok(addresses),
                    at,
                }) => {
                    // Empty too, if one who waited for ours came to it before us and found it old.
                    if is_first || name.addresses.is_empty() {
                        name.take(addresses, at);
                    }
                    return Ok(name.in_turn(port));
                }
                None if is_ours => return Err(io::Error::other("the runtime shuts down")),
                None => {}
            }
        }
    }

    fn look_up(&self, host: &str) -> LookUp {
        let (ask, host) = (Arc::clone(&self.ask), host.to_owned());
        let work = move || {
            let found = ask(&host).and_then(|addresses| match interleaved(addresses) {
                none if none.is_empty() => Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "the name has no addresses",
                )),
                some => Ok(some),
            });
            End {
                at: Instant::now(),
                found: found.map_err(Arc::new),
            }
        };
        let end = if can_start() {
            spawn_blocking(work).map(Result::ok).boxed()
        } else {
            // No thread can be had to wait for it.
            ready(Some(work())).boxed()
        };
        LookUp {
            begun: Instant::now(),
            end: end.shared(),
        }
    }

    /// `ip` let us in: it is tried first again if it was not.
    pub(crate) fn answered(&self, host: &str, ip: IpAddr) {
        let name = self.name(host);
        let mut name = lock(&name);
        if name.failures.remove(&ip).is_none() {
            return;
        }
        let working = name.addresses.len() - name.failed;
        let Some(index) = name.addresses.iter().position(|&known| known == ip) else {
            return;
        };
        if index >= working {
            name.addresses.remove(index);
            name.addresses.insert(working, ip);
            name.failed -= 1;
            name.turn = working;
        }
    }

    /// `ip` did not let us in, or not soon: it is tried last for a minute.
    pub(crate) fn failed(&self, host: &str, ip: IpAddr) {
        let name = self.name(host);
        let mut name = lock(&name);
        let Some(index) = name.addresses.iter().position(|&known| known == ip) else {
            return;
        };
        let working = name.addresses.len() - name.failed;
        name.failures.insert(ip, Instant::now());
        name.addresses.remove(index);
        name.addresses.push(ip);
        if index < working {
            name.failed += 1;
            // Those that work are at the front; begin there.
            name.turn = 0;
        }
        if name.failed == name.addresses.len() {
            name.failed = 0;
        }
    }

    fn name(&self, host: &str) -> Arc<Mutex<Name>> {
        let mut names = lock(&self.names);
        if names.len() >= MOST_NAMES && !names.contains_key(host) {
            names.retain(|_, name| {
                let name = lock(name);
                name.is_fresh() || name.asked.as_ref().is_some_and(|asked| !asked.is_lost())
            });
        }
        Arc::clone(names.entry(host.to_owned()).or_default())
    }
}

/// The kind of the error for a name that does not exist and never did, as far as is known.
pub(crate) const NO_SUCH_NAME: io::ErrorKind = io::ErrorKind::NotFound;

/// Whether the resolver says that there is no such name, and not that it has no answer now. The
/// standard library keeps only the text of `gai_strerror`, of which these are glibc's, musl's and
/// the BSDs'; in another language, it counts as passing.
fn is_no_such_name(error: &io::Error) -> bool {
    let text = error.to_string();
    error.kind() == io::ErrorKind::NotFound
        || [
            "Name or service not known",
            "No address associated with hostname",
            "Name does not resolve",
            "nodename nor servname provided",
        ]
        .iter()
        .any(|known| text.contains(known))
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each once, the two families in turn, beginning with that of the system's first choice (RFC 8305
/// section 4).
fn interleaved(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let mut once = Vec::new();
    for address in addresses {
        if !once.contains(&address) {
            once.push(address);
        }
    }
    let (first, second): (Vec<_>, Vec<_>) = once
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed = Vec::new();
    loop {
        let pair = (first.next(), second.next());
        if pair == (None, None) {
            return mixed;
        }
        mixed.extend(pair.0);
        mixed.extend(pair.1);
    }
}

#[cfg(test)]
pub(crate) mod tests;
