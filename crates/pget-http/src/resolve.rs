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
pub(crate) mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use tokio::{runtime::Runtime, time::timeout};

    use super::*;

    impl Resolver {
        /// One that knows `host` for as long as a test may take.
        pub(crate) fn knowing(host: &str, addresses: &[IpAddr]) -> Self {
            let resolver = Self::default();
            *lock(&resolver.name(host)) = Name {
                addresses: addresses.to_vec(),
                at: Some(Instant::now() + Duration::from_secs(3600)),
                ..Name::default()
            };
            resolver
        }
    }

    /// A resolver whose look-ups wait until they get the addresses.
    pub(crate) struct Held {
        told: mpsc::Sender<Vec<IpAddr>>,
        asked: Arc<AtomicUsize>,
    }

    impl Held {
        pub(crate) fn new() -> (Self, Resolver) {
            let (told, answers) = mpsc::channel();
            let (answers, asked) = (Mutex::new(answers), Arc::<AtomicUsize>::default());
            let held = Self {
                told,
                asked: Arc::clone(&asked),
            };
            let resolver = Resolver::asking(move |_| {
                asked.fetch_add(1, Ordering::SeqCst);
                lock(&answers).recv().map_err(io::Error::other)
            });
            (held, resolver)
        }

        /// The next look-up's answer.
        pub(crate) fn tell(&self, addresses: &[IpAddr]) {
            self.told.send(addresses.to_vec()).expect("the resolver is there");
        }

        /// Look-ups begun.
        pub(crate) fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }
    }

    /// Waits for `host` as an attempt does that is given up.
    fn give_up(runtime: &Runtime, resolver: &Resolver) {
        let waiting = async { timeout(Duration::from_millis(20), resolver.addresses("h", 80)).await };
        runtime.block_on(waiting).expect_err("no answer yet");
    }

    fn runtime() -> Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().expect("a runtime")
    }

    fn ip() -> IpAddr {
        IpAddr::from([10, 0, 0, 1])
    }

    #[test]
    fn a_look_up_outlives_who_began_it_and_is_the_only_one() {
        let (held, resolver) = Held::new();
        let (first, second) = (runtime(), runtime());
        give_up(&first, &resolver);
        give_up(&second, &resolver);
        // The first is not waited for: its thread is in the look-up.
        first.shutdown_background();
        give_up(&second, &resolver);
        held.tell(&[ip()]);
        let found = second.block_on(async { resolver.addresses("h", 80).await });
        assert_eq!(found.expect("it is found"), [SocketAddr::new(ip(), 80)]);
        assert_eq!(held.asked(), 1);
    }

    #[test]
    fn a_look_up_that_cannot_end_is_begun_anew() {
        let (held, resolver) = Held::new();
        let live = runtime();
        // Of a runtime that shut down before it began.
        let gone = {
            let gone = runtime();
            gone.handle().clone()
        };
        {
            let _entered = gone.enter();
            lock(&resolver.name("h")).asked = Some(resolver.look_up("h"));
        }
        held.tell(&[ip()]);
        let found = live.block_on(async { resolver.addresses("h", 80).await });
        assert_eq!(found.expect("it is found").len(), 1);
        assert_eq!(held.asked(), 1, "not by the runtime that is gone");
        // One that never comes back.
        *lock(&resolver.name("h")) = Name {
            asked: Some(LookUp {
                begun: Instant::now()
                    .checked_sub(LOST)
                    .expect("a machine that is up so long"),
                end: std::future::pending().boxed().shared(),
            }),
            ..Name::default()
        };
        held.tell(&[ip()]);
        let found = live.block_on(async { resolver.addresses("h", 80).await });
        assert_eq!(found.expect("it is found").len(), 1);
        assert_eq!(held.asked(), 2);
    }

    #[tokio::test]
    async fn what_ended_unheard_long_ago_is_no_answer() {
        let (held, resolver) = Held::new();
        let at = Instant::now()
            .checked_sub(KEPT)
            .expect("a machine that is up so long");
        for found in [Ok(vec![]), Err(Arc::new(io::ErrorKind::NotFound.into()))] {
            let end = Some(End { at, found });
            *lock(&resolver.name("h")) = Name {
                asked: Some(LookUp {
                    begun: at,
                    end: std::future::ready(end).boxed().shared(),
                }),
                ..Name::default()
            };
            held.tell(&[ip()]);
            let found = resolver.addresses("h", 80).await;
            assert_eq!(found.expect("it is found"), [SocketAddr::new(ip(), 80)]);
        }
        assert_eq!(held.asked(), 2);
    }

    #[tokio::test]
    async fn connections_spread_over_all_addresses_and_failing_ones_come_last() {
        let known = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|text| text.parse().expect("an address"));
        let resolver = Resolver::knowing("h", &known);
        let mut firsts = Vec::new();
        for _ in 0..6 {
            let addresses = resolver.addresses("h", 80).await.expect("it is kept");
            assert_eq!(addresses.len(), 3);
            firsts.push(addresses[0].ip().to_string());
        }
        firsts.sort();
        assert_eq!(
            firsts,
            [
                "10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3", "10.0.0.3"
            ]
        );
        // The others still in turn; and in turn all three again, when none works.
        for (failed, last) in [(0, [0; 4]), (2, [2; 4])] {
            resolver.failed("h", known[failed]);
            for last in last {
                let addresses = resolver.addresses("h", 80).await.expect("it is kept");
                assert_eq!((addresses.len(), addresses[2].ip()), (3, known[last]));
            }
        }
        resolver.failed("h", known[1]);
        let mut firsts = Vec::new();
        for _ in 0..3 {
            firsts.push(resolver.addresses("h", 80).await.expect("it is kept")[0].ip());
        }
        firsts.sort();
        assert_eq!(firsts, known);
    }

    /// Answers in turn what it was given, and nothing twice.
    fn scripted(answers: Vec<io::Result<Vec<IpAddr>>>) -> Resolver {
        let answers = Mutex::new(answers.into_iter());
        Resolver::asking(move |_| lock(&answers).next().expect("an answer for each look-up"))
    }

    /// As if the answer were older than it may be.
    fn outdate(resolver: &Resolver) {
        lock(&resolver.name("h")).at = None;
    }

    fn gai(text: &str) -> io::Error {
        io::Error::other(format!("failed to lookup address information: {text}"))
    }

    const NO_NAME: &str = "Name or service not known";

    #[tokio::test]
    async fn case_58_a_name_that_never_was_is_told_from_a_resolver_that_is_away() {
        for (text, kind) in [
            (NO_NAME, NO_SUCH_NAME),
            ("No address associated with hostname", NO_SUCH_NAME),
            ("Temporary failure in name resolution", io::ErrorKind::Other),
            ("System error", io::ErrorKind::Other),
        ] {
            let resolver = scripted(vec![Err(gai(text)), Ok(vec![ip()])]);
            let error = resolver.addresses("h", 80).await.expect_err("it fails");
            assert_eq!(error.kind(), kind, "{text}");
            let found = resolver.addresses("h", 80).await.expect("it is found");
            assert_eq!(found.len(), 1);
        }
        let resolver = scripted(vec![Ok(vec![])]);
        let error = resolver.addresses("h", 80).await.expect_err("no address");
        assert_eq!(error.kind(), NO_SUCH_NAME);
    }

    #[tokio::test]
    async fn case_58_a_resolver_that_fails_later_leaves_what_it_told() {
        let resolver = scripted(vec![
            Ok(vec![ip()]),
            Err(gai("Temporary failure in name resolution")),
            Err(gai(NO_NAME)),
            Err(gai(NO_NAME)),
        ]);
        for _ in 0..3 {
            let found = resolver.addresses("h", 80).await.expect("it was found once");
            assert_eq!(found, [SocketAddr::new(ip(), 80)]);
            outdate(&resolver);
        }
        lock(&resolver.name("h")).told = Instant::now().checked_sub(STALE);
        let error = resolver.addresses("h", 80).await.expect_err("too long ago");
        assert_ne!(error.kind(), NO_SUCH_NAME, "it was there before");
    }

    #[tokio::test]
    async fn case_59_an_address_that_failed_comes_last_in_later_look_ups_too() {
        let known = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|text| text.parse().expect("an address"));
        let resolver = scripted(vec![Ok(known.to_vec()), Ok(known.to_vec()), Ok(known.to_vec())]);
        let last = async || {
            let addresses = resolver.addresses("h", 80).await.expect("they are found");
            assert_eq!(addresses.len(), 3);
            addresses[2].ip()
        };
        last().await;
        resolver.failed("h", known[0]);
        for _ in 0..4 {
            assert_eq!(last().await, known[0]);
        }
        outdate(&resolver);
        for _ in 0..4 {
            assert_eq!(last().await, known[0]);
        }
        resolver.answered("h", known[0]);
        outdate(&resolver);
        let mut lasts = Vec::new();
        for _ in 0..3 {
            lasts.push(last().await);
        }
        lasts.sort();
        assert_eq!(lasts, known);
    }

    #[tokio::test]
    async fn literals_need_no_look_up() {
        let resolver = Resolver::default();
        for (host, expected) in [("127.0.0.1", "127.0.0.1:5"), ("[::1]", "[::1]:5")] {
            let addresses = resolver.addresses(host, 5).await.expect("a literal");
            assert_eq!(addresses, [expected.parse().expect("an address")]);
        }
    }

    #[test]
    fn families_alternate() {
        let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
        let mixed = interleaved(["::1", "::2", "::1", "::3", "10.0.0.1"].map(parse).to_vec());
        assert_eq!(mixed, ["::1", "10.0.0.1", "::2", "::3"].map(parse));
    }
}
