//! What the services that issue credentials have in common: their addresses, JSON, and times.
//!
//! Pure, except that times are compared with this machine's clock.

use std::time::{Duration, SystemTime};

use http::HeaderValue;
use jiff::Timestamp;
use pget_core::{Error, ErrorKind, SourceError};
use serde_json::Value;
use url::Url;

use crate::cloud::keys::{Secret, denied, unusable};

/// Returns an endpoint of the form `http[s]://HOST[:PORT][/PATH]`, without slashes at its end.
pub(crate) fn checked(text: &str) -> Result<Url, Error> {
    let url = Url::parse(text.trim_end_matches('/')).ok();
    url.filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    })
    .ok_or_else(|| {
        let text = "the endpoint is not of the form http[s]://HOST[:PORT][/PATH]";
        Error::new(ErrorKind::InvalidArgument, "", text)
    })
}

/// Whether others can read what is sent there.
pub(crate) fn is_open(url: &Url) -> bool {
    let own = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "http" && !own
}

/// Returns a text that is there and not empty.
pub(crate) fn text<'a>(json: &'a Value, key: &str) -> Option<&'a str> {
    json.get(key)?.as_str().filter(|text| !text.is_empty())
}

/// Returns a text that a document must have.
pub(crate) fn required(json: &Value, key: &str) -> Result<String, SourceError> {
    text(json, key)
        .map(str::to_owned)
        .ok_or_else(|| unusable(format!("the credentials have no {key}")))
}

/// Returns the URL of a service that secrets are sent to.
pub(crate) fn service_url(text: &str) -> Result<Url, SourceError> {
    let url = Url::parse(text).ok().filter(|url| {
        url.username().is_empty()
            && url.password().is_none()
            && (url.scheme() == "https" || url.scheme() == "http")
    });
    url.ok_or_else(|| unusable("the URL of a service for credentials cannot be used"))
}

/// Returns the header that carries a token.
pub(crate) fn bearer(token: &Secret) -> Result<HeaderValue, SourceError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
        .map_err(|_| unusable("the token cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Returns how long it is until a time in text; nothing if that is over.
pub(crate) fn left(text: &str) -> Result<Duration, SourceError> {
    // Old caches of the AWS CLI write UTC for Z.
    let text = text.trim().replace("UTC", "Z");
    let time: Timestamp = text
        .parse()
        .map_err(|_| denied("the expiry of a credential is not a time"))?;
    let now = Timestamp::try_from(SystemTime::now())
        .map_err(|_| unusable("this machine's clock is beyond all dates"))?;
    Ok(Duration::from_millis(
        u64::try_from(time.as_millisecond() - now.as_millisecond()).unwrap_or(0),
    ))
}

/// Returns how long it is until a time in milliseconds since 1970; nothing if that is over.
pub(crate) fn until(milliseconds: i64) -> Duration {
    let now = Timestamp::now().as_millisecond();
    Duration::from_millis(u64::try_from(milliseconds.saturating_sub(now)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_the_tools_write_them() {
        for text in [
            "2099-01-01T00:00:00Z",
            "2099-01-01T00:00:00UTC",
            "2099-01-01T00:00:00+00:00",
            "2099-01-01T00:00:00.123Z",
        ] {
            assert!(left(text).expect(text) > Duration::from_secs(1 << 30), "{text}");
        }
        assert_eq!(left("2001-01-01T00:00:00Z").ok(), Some(Duration::ZERO));
        assert!(left("tomorrow").is_err());
    }
}
