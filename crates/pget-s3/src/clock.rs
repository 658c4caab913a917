//! A server's clock that is not this machine's: how far it is off, and S3 signatures for its time.
//!
//! `object_store` signs with this machine's time and takes no other; `rusty-s3` takes one. It gets `object_store`'s credentials and URL, so that endpoint, style and encoding of
//! the key are the same (a test compares the two signatures), and is asked only once a server has refused this machine's time.
//!
//! Invariants: pure; an offset is at most [`Offset::LIMIT`]; no credential is kept or named. Called by [`sign`](crate::sign), [`urls`](crate::urls) and [`refusal`](crate::refusal).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, header};
use jiff::{SignedDuration, Timestamp};
use object_store::aws::AwsCredential;
use url::Url;

/// How far a server's clock is ahead of this machine's (negative: behind), in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offset(i64);

impl Offset {
    /// A day: a wrong time zone, or a date that is off by one. Whoever answers could say any time, and would be sent a signature that counts at that time; this is the
    /// most that it can reach into the future.
    pub(crate) const LIMIT: i64 = 24 * 60 * 60;
    /// Offsets so many seconds apart are the same: an answer takes its time, and no server is as strict as that.
    const ALIKE: u64 = 30;

    /// By the `Date` of an answer that has just come (RFC 9110, section 6.6.1); `None` without one, and beyond the limit.
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

    /// Now, by the server's clock.
    fn now(self) -> Option<Timestamp> {
        Timestamp::now()
            .checked_add(SignedDuration::from_secs(self.0))
            .ok()
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

/// What is signed for.
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a http::Method,
    /// With the path as it will be sent, without a query, of `http` or `https`.
    pub(crate) url: Url,
    pub(crate) version: Option<&'a str>,
    pub(crate) region: &'a str,
    pub(crate) payer: bool,
    /// To be sent along as they are.
    pub(crate) headers: &'a HeaderMap,
}

/// The URL, signed for the server's time as `object_store` would (SigV4, "Authenticating requests: using query parameters" of the Amazon S3 API reference). `None`: there is no such time, or a header is no text.
pub(crate) fn presign(
    ask: Ask<'_>,
    credential: &AwsCredential,
    lifetime: Duration,
    offset: Offset,
) -> Option<Url> {
    let method = if *ask.method == http::Method::HEAD {
        rusty_s3::Method::Head
    } else {
        rusty_s3::Method::Get
    };
    // Both are to be sorted by name.
    let version = ask.version.map(|version| ("versionId", version));
    let payer = ask.payer.then_some(("x-amz-request-payer", "requester"));
    let query = version.into_iter().chain(payer);
    let mut headers = Vec::with_capacity(ask.headers.len());
    for (name, value) in ask.headers {
        headers.push((name.as_str(), value.to_str().ok()?));
    }
    headers.sort_unstable();
    Some(rusty_s3::signing::sign(
        &offset.now()?,
        method,
        ask.url,
        &credential.key_id,
        &credential.secret_key,
        credential.token.as_deref(),
        ask.region,
        lifetime.as_secs(),
        query,
        headers.into_iter(),
    ))
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
