//! How far a server's clock is from this machine's.
//!
//! Signatures hold a time. A server that refuses this machine's is signed for by its own.
//!
//! Pure. Invariant: an offset is at most [`Offset::LIMIT`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, header};

/// How far a server's clock is ahead of this machine's (negative: late), in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offset(i64);

impl Offset {
    /// A day: a wrong time zone, or a date that is off by one. A server could say any time,
    /// and would be sent a signature that counts at that time; this is the most that it can reach
    /// into the future.
    pub(crate) const LIMIT: i64 = 24 * 60 * 60;
    /// Offsets so many seconds apart are the same: an answer takes its time, and no server is as
    /// strict as that.
    const ALIKE: u64 = 30;

    /// By the `Date` of an answer that has just come (RFC 9110, section 6.6.1); `None` without one,
    /// and beyond the limit.
    pub(crate) fn told(headers: &HeaderMap) -> Option<Self> {
        let date = headers.get(header::DATE)?.to_str().ok()?;
        let date = httpdate::parse_http_date(date).ok()?;
        let told = seconds(date)?.checked_sub(seconds(SystemTime::now())?)?;
        Self::new(told)
    }

    pub(crate) fn new(seconds: i64) -> Option<Self> {
        (seconds.unsigned_abs() <= Self::LIMIT.unsigned_abs()).then_some(Self(seconds))
    }

    pub(crate) fn is_like(self, other: Self) -> bool {
        self.0.abs_diff(other.0) <= Self::ALIKE
    }

    /// Whether the clocks are at most so far apart.
    pub(crate) fn is_within(self, limit: Duration) -> bool {
        self.0.unsigned_abs() <= limit.as_secs()
    }

    /// Returns the server's time at `time` of this machine's.
    pub(crate) fn apply(self, time: SystemTime) -> SystemTime {
        let seconds = Duration::from_secs(self.0.unsigned_abs());
        let moved = if self.0 < 0 {
            time.checked_sub(seconds)
        } else {
            time.checked_add(seconds)
        };
        moved.unwrap_or(time)
    }
}

/// Since 1970; negative before.
fn seconds(time: SystemTime) -> Option<i64> {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).ok(),
        Err(before) => i64::try_from(before.duration().as_secs())
            .ok()
            .map(|seconds| -seconds),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn told(date: &str) -> Option<Offset> {
        let date = HeaderValue::from_str(date).expect("a header");
        Offset::told(&[(header::DATE, date)].into_iter().collect())
    }

    fn date(ahead: i64) -> String {
        let now = seconds(SystemTime::now()).expect("a time") + ahead;
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now.unsigned_abs()))
    }

    #[test]
    fn a_date_is_believed_within_a_day() {
        for hours in [-23, -1, 0, 1, 23] {
            let seconds = hours * 3600;
            let told = told(&date(seconds)).expect("within a day");
            assert!(told.is_like(Offset(seconds)), "{told:?}");
        }
        for hours in [-25, 25, 24 * 365] {
            assert_eq!(told(&date(hours * 3600)), None, "{hours}");
        }
        assert_eq!(told("yesterday"), None);
        assert_eq!(told("Thu, 01 Jan 1970 00:00:00 GMT"), None);
        assert_eq!(Offset::told(&HeaderMap::new()), None);
        assert_eq!(Offset::new(i64::MIN), None);
        assert!(!Offset(0).is_like(Offset(-31)) && Offset(-30).is_like(Offset(0)));
    }
}
