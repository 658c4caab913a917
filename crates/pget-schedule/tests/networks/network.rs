//! A network of the simulation, and random ones.

use std::fmt;

use fastrand::Rng;

use crate::play::{float, whole};

/// Seconds and bytes per second.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    /// Bytes of the object.
    pub(crate) size: u64,
    /// To an answer, and to a connection.
    pub(crate) latency: f64,
    /// Up to this share of the latency is added to it.
    pub(crate) jitter: f64,
    /// Of one connection, and of all together.
    pub(crate) rate: f64,
    pub(crate) link: f64,
    /// Bytes that a fresh connection brings in its first round trip; 0: it is fast at once.
    pub(crate) slow_start: f64,
    /// Requests above this many in flight are refused.
    pub(crate) limit: u32,
    /// One connection in so many has this rate.
    pub(crate) odd: Option<(u64, f64)>,
    /// The server's time for a request, one after the other.
    pub(crate) cost: f64,
    /// From when on the rates are others: time, rate, link.
    pub(crate) changes: Vec<(f64, f64, f64)>,
}

/// Bytes a second that the machine itself receives.
const MACHINE: f64 = 5e9;

impl Network {
    pub(crate) const fn plain(latency: f64, rate: f64, link: f64) -> Self {
        Self {
            size: 1 << 30,
            latency,
            jitter: 0.0,
            rate,
            link,
            slow_start: 0.0,
            limit: u32::MAX,
            odd: None,
            cost: 0.0,
            changes: Vec::new(),
        }
    }

    /// Seconds that no setting of at most `most` requests in flight and `longest` bytes each beats.
    pub(crate) fn least_seconds(&self, most: u32, longest: u64) -> f64 {
        let requests = f64::from(most.min(self.limit));
        let brings = |rate: f64, link: f64| link.min(rate * requests);
        // A connection, and then an answer.
        let mut at = self.latency * 2.0;
        let mut top = brings(self.rate, self.link);
        let mut left = float(self.size);
        for &(until, rate, link) in &self.changes {
            let brought = top * (until - at).max(0.0);
            if brought >= left {
                break;
            }
            left -= brought;
            at = at.max(until);
            top = brings(rate, link);
        }
        let answers = self.latency * 2.0 + self.cost * float(self.size / longest);
        (at + left / top).max(answers)
    }

    pub(crate) fn random(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let between = |rng: &mut Rng, low: f64, high: f64| low * (high / low).powf(rng.f64());
        let one_in = |rng: &mut Rng, count: u32| rng.u32(0..count) == 0;
        let latency = between(&mut rng, 0.0002, 0.3);
        let rate = if one_in(&mut rng, 4) {
            f64::INFINITY
        } else {
            between(&mut rng, 0.5e6, 1e9)
        };
        let link = if one_in(&mut rng, 4) {
            MACHINE
        } else {
            between(&mut rng, 5e6, MACHINE)
        };
        let mut network = Self::plain(latency, rate, link);
        if one_in(&mut rng, 3) {
            network.slow_start = between(&mut rng, 14_600.0, 60_000.0);
        }
        if one_in(&mut rng, 5) {
            network.limit = rng.u32(4..100);
        }
        if one_in(&mut rng, 4) {
            network.jitter = rng.f64();
        }
        let full = link.min(rate * 128.0);
        if one_in(&mut rng, 5) {
            let slower = between(&mut rng, 0.02, 0.5);
            let usual = if rate.is_finite() { rate } else { link / 8.0 };
            network.odd = Some((rng.u64(3..23), usual * slower));
        }
        if one_in(&mut rng, 5) {
            network.cost = between(&mut rng, 1e-5, 2e-3);
        }
        let top = full.min(rate * f64::from(network.limit));
        let seconds = between(&mut rng, 0.5, 20.0);
        network.size = whole(top * seconds).clamp(16 << 20, 16 << 30);
        if one_in(&mut rng, 4) {
            for _ in 0..rng.u32(1..3) {
                let factor = between(&mut rng, 0.25, 4.0);
                let at = seconds * rng.f64();
                let change = if rng.bool() && rate.is_finite() {
                    (at, rate * factor, link)
                } else {
                    (at, rate, (link * factor).min(MACHINE))
                };
                network.changes.push(change);
            }
            network.changes.sort_by(|one, other| one.0.total_cmp(&other.0));
        }
        network
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} MiB, {:.1} ms, {:.1} MB/s a connection, link {:.0} MB/s",
            self.size >> 20,
            self.latency * 1e3,
            self.rate / 1e6,
            self.link / 1e6
        )?;
        if self.slow_start > 0.0 {
            write!(f, ", slow start from {:.0}", self.slow_start)?;
        }
        if self.limit < u32::MAX {
            write!(f, ", at most {} requests", self.limit)?;
        }
        if self.jitter > 0.0 {
            write!(f, ", jitter {:.1}", self.jitter)?;
        }
        if let Some((every, rate)) = self.odd {
            write!(f, ", one in {every} brings {:.2} MB/s", rate / 1e6)?;
        }
        if self.cost > 0.0 {
            write!(f, ", {:.2} ms a request", self.cost * 1e3)?;
        }
        for (at, rate, link) in &self.changes {
            write!(f, ", at {at:.1} s {:.1} and {:.0} MB/s", rate / 1e6, link / 1e6)?;
        }
        Ok(())
    }
}
