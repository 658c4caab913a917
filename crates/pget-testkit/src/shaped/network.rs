//! The description of a network, its presets N1 to N8, and its settings as text.

use std::{fmt, time::Duration};

/// Names of the presets, in order.
pub const PRESETS: [&str; 8] = ["N1", "N2", "N3", "N4", "N5", "N6", "N7", "N8"];

/// The behaviour of an odd connection: every [`Network::every`]-th one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "the servers and benches of this workspace match on it"
)]
pub enum Odd {
    /// The connection carries this many bytes per second.
    Slow(u64),
    /// The connection carries this many bytes, then nothing more. It stays open.
    Stalled(u64),
    /// The connection's requests are never answered.
    Silent,
}

/// A setting that changes while the server runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "made by tests")]
pub struct Change {
    /// Time of the change, counted from the first request.
    pub at: Duration,
    /// The name of the setting.
    pub key: String,
    /// Its new value.
    pub value: String,
}

/// A network. An unset limit does not limit anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Network {
    /// Bytes per second of one connection.
    pub rate: Option<u64>,
    /// Bytes per second of all connections together.
    pub link: Option<u64>,
    /// Time from a request to its answer, and from a connection's start to its first request.
    pub latency: Duration,
    /// Up to this much is added to the latency of each answer.
    pub jitter: Duration,
    /// Time that the server works for a request. It works for one request after the other.
    pub per_request: Duration,
    /// Bytes of a new connection's first round trip. The number doubles in each further round trip.
    pub slow_start: Option<u64>,
    /// Requests above this many in flight are refused with 503.
    pub in_flight: Option<u32>,
    /// Requests above this many per second are refused with 503.
    pub per_second: Option<u32>,
    /// Connections above this many are closed when they are accepted.
    pub connections: Option<u32>,
    /// Seconds in `Retry-After` of a 503.
    pub retry_after: Option<u32>,
    /// One connection in this many is odd. With 0, none is.
    pub every: u64,
    /// The behaviour of the odd connections.
    pub odd: Option<Odd>,
    /// Changes that occur while the server runs.
    pub changes: Vec<Change>,
}

/// An unknown setting, or a value that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Unknown(String);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown setting {:?} (example: rate=20MB)", self.0)
    }
}

impl std::error::Error for Unknown {}

impl Network {
    /// Returns a network without limits.
    #[must_use]
    pub fn unshaped() -> Self {
        Self::default()
    }

    /// Returns the preset of this name: N1 to N8, in upper or lower case.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn preset(name: &str) -> Result<Self, Unknown> {
        let settings = match name.to_ascii_uppercase().as_str() {
            "N1" => "",
            "N2" => "latency=20ms,rate=20MB",
            "N3" => "latency=20ms,rate=90MB,link=1200MB",
            "N4" => "latency=5ms,link=100MB",
            "N5" => "latency=100ms,rate=5MB,slow-start=14600",
            "N6" => "latency=20ms,rate=20MB,in-flight=32",
            "N7" => "latency=20ms,rate=20MB,every=8,odd=slow:1MB",
            "N8" => "latency=1ms,link=1000MB",
            _ => return Err(Unknown(name.into())),
        };
        let mut network = Self::default();
        network.set_all(settings)?;
        Ok(network)
    }

    /// Applies settings of the form `KEY=VALUE`, separated by commas.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn set_all(&mut self, settings: &str) -> Result<(), Unknown> {
        for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
            let (key, value) = setting.split_once('=').ok_or_else(|| Unknown(setting.into()))?;
            self.set(key, value)?;
        }
        Ok(())
    }

    /// Applies one setting. `none` removes a limit; `at=TIME:KEY=VALUE` applies one later.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Unknown> {
        let unknown = || Unknown(format!("{key}={value}"));
        let number = |value: &str| -> Result<Option<u32>, Unknown> {
            match value {
                "none" => Ok(None),
                _ => value.parse().map(Some).map_err(|_| unknown()),
            }
        };
        let bytes = |value: &str| -> Result<Option<u64>, Unknown> {
            match value {
                "none" => Ok(None),
                _ => size(value).map(Some).ok_or_else(unknown),
            }
        };
        match key {
            "rate" => self.rate = bytes(value)?,
            "link" => self.link = bytes(value)?,
            "latency" => self.latency = time(value).ok_or_else(unknown)?,
            "jitter" => self.jitter = time(value).ok_or_else(unknown)?,
            "per-request" => self.per_request = time(value).ok_or_else(unknown)?,
            "slow-start" => self.slow_start = bytes(value)?,
            "in-flight" => self.in_flight = number(value)?,
            "per-second" => self.per_second = number(value)?,
            "connections" => self.connections = number(value)?,
            "retry-after" => self.retry_after = number(value)?,
            "every" => self.every = value.parse().map_err(|_| unknown())?,
            "odd" => {
                let (kind, amount) = value.split_once(':').unwrap_or((value, ""));
                self.odd = match kind {
                    "none" => None,
                    "slow" => Some(Odd::Slow(size(amount).ok_or_else(unknown)?)),
                    "stalled" => Some(Odd::Stalled(size(amount).ok_or_else(unknown)?)),
                    "silent" => Some(Odd::Silent),
                    _ => return Err(unknown()),
                };
            }
            "at" => {
                let (at, setting) = value.split_once(':').ok_or_else(unknown)?;
                let (key, value) = setting.split_once('=').ok_or_else(unknown)?;
                // Reject a change that could not be applied later.
                Self::default().set(key, value)?;
                self.changes.push(Change {
                    at: time(at).ok_or_else(unknown)?,
                    key: key.into(),
                    value: value.into(),
                });
                self.changes.sort_by_key(|change| change.at);
            }
            _ => return Err(unknown()),
        }
        Ok(())
    }

    /// Returns the behaviour of the connection with this number (from 0), if it is odd.
    #[must_use]
    pub fn odd(&self, number: u64) -> Option<Odd> {
        let is_odd = self.every > 0 && number % self.every == self.every / 2;
        self.odd.filter(|_| is_odd)
    }
}

/// Parses a number of bytes: `123`, `64KiB`, `20MB`, `1GiB`.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// Parses a time: `20ms`, `150us`, `2s`.
#[must_use]
pub fn time(text: &str) -> Option<Duration> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_nonsense_is_refused() {
        let mut network = Network::default();
        network
            .set_all("rate=20MB,latency=1.5ms,per-request=150us,every=8,odd=stalled:64KiB,at=2s:rate=none")
            .expect("all are known");
        assert_eq!(network.rate, Some(20_000_000));
        assert_eq!(network.latency, Duration::from_micros(1500));
        assert_eq!(network.per_request, Duration::from_micros(150));
        assert_eq!(network.odd, Some(Odd::Stalled(65_536)));
        assert_eq!(network.changes.len(), 1);
        for wrong in [
            "rate",
            "rate=x",
            "rates=1",
            "latency=5",
            "odd=slow",
            "at=2s:x=1",
            "at=1:rate=1",
        ] {
            assert!(Network::default().set_all(wrong).is_err(), "{wrong}");
        }
        for name in PRESETS {
            assert!(Network::preset(name).is_ok(), "{name}");
        }
        assert!(Network::preset("N9").is_err());
    }

    #[test]
    fn one_connection_in_k_is_odd() {
        let network = Network::preset("N7").expect("a preset");
        let odd: Vec<u64> = (0..24).filter(|&number| network.odd(number).is_some()).collect();
        assert_eq!(odd, [4, 12, 20]);
    }
}
