//! Names to addresses: look-ups shared and kept for a few seconds, answers spread over all connections, failing addresses last.
//!
//! Invariant: one look-up of a name at a time; the others wait for it.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long an answer serves. The system gives no time to live; this spares the look-ups of a burst of connections and still follows a service that moves.
const KEPT: Duration = Duration::from_secs(5);

/// Names kept at the most; beyond that, outdated ones are forgotten.
const MOST_NAMES: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Resolver {
    names: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Answer>>>>,
}

#[derive(Debug, Default)]
struct Answer {
    addresses: Vec<IpAddr>,
    at: Option<Instant>,
    /// Where the next caller's list begins.
    turn: usize,
}

impl Answer {
    fn is_fresh(&self) -> bool {
        self.at.is_some_and(|at| at.elapsed() < KEPT)
    }
}

impl Resolver {
    /// Addresses to try for `host`, in order; every call starts at the next one.
    pub(crate) async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = literal.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let entry = self.entry(host);
        let mut answer = entry.lock().await;
        if !answer.is_fresh() {
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in tokio::net::lookup_host((host, port)).await? {
                if !addresses.contains(&address.ip()) {
                    addresses.push(address.ip());
                }
            }
            if addresses.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "the name has no addresses",
                ));
            }
            answer.addresses = interleaved(addresses);
            answer.at = Some(Instant::now());
            answer.turn = 0;
        }
        let count = answer.addresses.len();
        let first = answer.turn % count;
        answer.turn = first + 1;
        let in_turn = answer.addresses.iter().cycle().skip(first).take(count);
        Ok(in_turn.map(|&ip| SocketAddr::new(ip, port)).collect())
    }

    /// `ip` did not let us in: it is tried last from here on.
    pub(crate) async fn failed(&self, host: &str, ip: IpAddr) {
        let entry = self.entry(host);
        let mut answer = entry.lock().await;
        if let Some(index) = answer.addresses.iter().position(|&known| known == ip) {
            answer.addresses.remove(index);
            answer.addresses.push(ip);
            // Those that work are at the front; begin there.
            answer.turn = 0;
        }
    }

    fn entry(&self, host: &str) -> Arc<tokio::sync::Mutex<Answer>> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= MOST_NAMES && !names.contains_key(host) {
            names.retain(|_, answer| answer.try_lock().is_ok_and(|answer| answer.is_fresh()));
        }
        Arc::clone(names.entry(host.to_owned()).or_default())
    }
}

/// The two families in turn, beginning with that of the system's first choice (RFC 8305 section 4).
fn interleaved(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
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
    use super::*;

    impl Resolver {
        /// One that has just looked up `host`.
        pub(crate) fn knowing(host: &str, addresses: &[IpAddr]) -> Self {
            let answer = Answer {
                addresses: addresses.to_vec(),
                at: Some(Instant::now()),
                turn: 0,
            };
            let entry = Arc::new(tokio::sync::Mutex::new(answer));
            Self {
                names: Mutex::new(HashMap::from([(host.to_owned(), entry)])),
            }
        }
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
        resolver
            .failed("h", "10.0.0.1".parse().expect("an address"))
            .await;
        let addresses = resolver.addresses("h", 80).await.expect("it is kept");
        assert_eq!(addresses[2].ip().to_string(), "10.0.0.1");
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
        let mixed = interleaved(["::1", "::2", "::3", "10.0.0.1"].map(parse).to_vec());
        assert_eq!(mixed, ["::1", "10.0.0.1", "::2", "::3"].map(parse));
    }
}
