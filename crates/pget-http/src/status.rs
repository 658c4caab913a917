//! Maps a refusing status to its error, and reads how long the server asks to be left alone.
//!
//! Statuses are mapped by class, not by a list: servers and proxies invent new ones. Invariants:
//! - every 5xx passes, except 501 and 505, and so does a status from 600 on;
//! - every 4xx is a refusal, except those that report load, a time-out or a conflict;
//! - a pause is at most [`LONGEST_RETRY_AFTER`].

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};
use pget_core::{ErrorKind, SourceError};

use crate::content_range::number;

/// A `Retry-After` beyond this is taken for this long: a server may not park a client for days.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// A number of seconds from here on is a time since 1970, not a pause (30 years).
const EPOCH_SECONDS: u64 = 1_000_000_000;

/// A number from here on is a time since 1970 in milliseconds.
const EPOCH_MILLISECONDS: u64 = 1_000_000_000_000;

/// Returns the error that a status stands for. `message` says what the server did, without any
/// credential; the status is added to it.
///
/// | status | kind | another attempt |
/// |---|---|---|
/// | 429, 503, 509, 529 | [`Unavailable`](ErrorKind::Unavailable) | later, with fewer requests |
/// | 403 with `retry_after` | `Unavailable` | after that pause |
/// | 408, 409, 421, 425, 499, other 5xx, from 600 | `Unavailable` | after a backoff |
/// | 404, 410 | [`NotFound`](ErrorKind::NotFound) | if others are served |
/// | 401, 403, 407, 451 | [`PermissionDenied`](ErrorKind::PermissionDenied) | if others are served |
/// | other 4xx | [`Protocol`](ErrorKind::Protocol) | if others are served |
/// | 412 | [`ObjectChanged`](ErrorKind::ObjectChanged) | no |
/// | 416 | [`Range`](ErrorKind::Range) | no |
/// | 501, 505, and what does not refuse (1xx, 2xx, 3xx) | `Protocol` | no |
///
/// "If others are served" is [`Retry::Refused`](pget_core::Retry::Refused).
#[must_use]
pub fn error_for_status(
    status: StatusCode,
    retry_after: Option<Duration>,
    message: impl Into<String>,
) -> SourceError {
    let mut message: String = message.into();
    if !message.is_empty() {
        message.push_str(": ");
    }
    message.push_str(&format!("HTTP status {}", status.as_u16()));
    if let Some(reason) = status.canonical_reason() {
        message.push_str(&format!(" {reason}"));
    }
    let error = match status.as_u16() {
        // 509 and 529 are no standard: "bandwidth limit exceeded" and "overloaded".
        429 | 503 | 509 | 529 => SourceError::throttled(message, retry_after),
        // 499 is a proxy's word for a connection that it has given up.
        408 | 409 | 421 | 425 | 499 => SourceError::retryable(ErrorKind::Unavailable, message),
        // GitHub, for one, limits the rate by 403, and states when to come back.
        403 if retry_after.is_some() => SourceError::throttled(message, retry_after),
        404 | 410 => SourceError::refused(ErrorKind::NotFound, message),
        401 | 403 | 407 | 451 => SourceError::refused(ErrorKind::PermissionDenied, message),
        412 => SourceError::fatal(ErrorKind::ObjectChanged, message),
        416 => SourceError::fatal(ErrorKind::Range, message),
        400..=499 => SourceError::refused(ErrorKind::Protocol, message),
        501 | 505 => SourceError::fatal(ErrorKind::Protocol, message),
        // A status of no class is treated as a 5xx (RFC 9110 section 15).
        500.. => SourceError::retryable(ErrorKind::Unavailable, message),
        _ => SourceError::fatal(ErrorKind::Protocol, message),
    };
    error.with_status(status.as_u16())
}

/// Returns the pause that the headers of a refusal ask for, at most [`LONGEST_RETRY_AFTER`];
/// `None` if they ask for none that can be understood.
///
/// In this order: `Retry-After` (seconds or an HTTP date), `x-ms-retry-after-ms` and
/// `retry-after-ms`, `RateLimit` (draft-ietf-httpapi-ratelimit-headers, also its older form),
/// `RateLimit-Reset`, `X-RateLimit-Reset` and `X-Rate-Limit-Reset` (seconds, or a time since
/// 1970). A limit of which something is left is not what refused the request.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    retry_after_at(headers, SystemTime::now())
}

fn retry_after_at(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let pause = text(header::RETRY_AFTER.as_str())
        .and_then(|text| seconds_or_date(text, now))
        .or_else(|| {
            ["x-ms-retry-after-ms", "retry-after-ms"]
                .into_iter()
                .find_map(|name| count(text(name)?))
                .map(Duration::from_millis)
        })
        .or_else(|| rate_limit(headers))
        .or_else(|| {
            ["ratelimit", "x-ratelimit", "x-rate-limit"]
                .into_iter()
                .find_map(|name| {
                    let left = text(&format!("{name}-remaining")).and_then(count);
                    let reset = text(&format!("{name}-reset")).and_then(count)?;
                    left.is_none_or(|left| left == 0).then(|| until(reset, now))
                })
        })?;
    Some(pause.min(LONGEST_RETRY_AFTER))
}

fn seconds_or_date(text: &str, now: SystemTime) -> Option<Duration> {
    match count(text) {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => {
            let until = httpdate::parse_http_date(text).ok()?;
            Some(until.duration_since(now).unwrap_or(Duration::ZERO))
        }
    }
}

/// A number without sign; more digits than can be counted are still a long time.
fn count(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| number(text).unwrap_or(u64::MAX))
}

/// The pause of a reset that is a number of seconds or a time since 1970.
fn until(reset: u64, now: SystemTime) -> Duration {
    let at = match reset {
        EPOCH_MILLISECONDS.. => Duration::from_millis(reset),
        EPOCH_SECONDS.. => Duration::from_secs(reset),
        _ => return Duration::from_secs(reset),
    };
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    at.saturating_sub(now)
}

/// The longest reset of a limit that is used up: `"name";r=0;t=87`, or in older drafts
/// `limit=10, remaining=0, reset=87`.
fn rate_limit(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all("ratelimit").iter();
    let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    let list = values.join(",");
    let mut longest = None;
    let mut older = (None, None);
    for item in split_unquoted(&list, ',') {
        let (mut left, mut reset) = (None, None);
        for parameter in split_unquoted(item, ';') {
            let Some((key, value)) = parameter.split_once('=') else {
                continue;
            };
            let value = count(value.trim());
            match key.trim() {
                "r" => left = value,
                "t" => reset = value,
                "remaining" => older.0 = value,
                "reset" => older.1 = value,
                _ => {}
            }
        }
        if left == Some(0) {
            longest = longest.max(reset);
        }
    }
    if older.0.is_none_or(|left| left == 0) {
        longest = longest.or(older.1);
    }
    longest.map(Duration::from_secs)
}

/// The parts of `text` between separators that are not inside a quoted string.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |letter| {
        quoted ^= letter == '"';
        letter == separator && !quoted
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use pget_core::Retry;

    use super::*;

    #[test]
    fn case_31_retry_after_is_capped_and_junk_ignored() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let pause = |value: &str| {
            let value = HeaderValue::from_str(value).expect("a header value");
            retry_after_at(&HeaderMap::from_iter([(header::RETRY_AFTER, value)]), now)
        };
        assert_eq!(pause("7"), Some(Duration::from_secs(7)));
        assert_eq!(pause("1000000000"), Some(LONGEST_RETRY_AFTER));
        assert_eq!(pause("99999999999999999999999999"), Some(LONGEST_RETRY_AFTER));
        let date = |offset: u64| httpdate::fmt_http_date(now + Duration::from_secs(offset));
        assert_eq!(pause(&date(9)), Some(Duration::from_secs(9)));
        assert_eq!(pause(&date(1_000_000)), Some(LONGEST_RETRY_AFTER));
        assert_eq!(pause("Thu, 01 Jan 1970 00:00:00 GMT"), Some(Duration::ZERO));
        for junk in ["-1", "soon", "", "1.5", "0x10", "+5"] {
            assert_eq!(pause(junk), None, "{junk:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn case_114_resets_of_rate_limits_are_pauses() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let pause = |list: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in list {
                headers.append(*name, HeaderValue::from_static(value));
            }
            retry_after_at(&headers, now).map(|pause| pause.as_millis())
        };
        let ratelimit = |value| pause(&[("ratelimit", value)]);
        assert_eq!(ratelimit("\"resolvers\";r=0;t=87"), Some(87_000));
        assert_eq!(ratelimit("\"a;b,c\"; r=0 ; t=7"), Some(7_000));
        assert_eq!(
            ratelimit("\"a\";r=0;t=7, \"b\";r=0;t=9, \"c\";r=5;t=99"),
            Some(9_000)
        );
        assert_eq!(ratelimit("limit=10, remaining=0, reset=50"), Some(50_000));
        assert_eq!(ratelimit("\"a\";r=0;t=99999999999999999999999"), Some(300_000));
        for none in [
            "",
            "\"a\";r=3;t=9",
            "\"a\"",
            "limit=10, remaining=2, reset=5",
            "\"a\";r=0;t=-1",
        ] {
            assert_eq!(ratelimit(none), None, "{none}");
        }
        let two = &[("ratelimit", "\"a\";r=1;t=9"), ("ratelimit", "\"b\";r=0;t=3")];
        assert_eq!(pause(two), Some(3_000));
        for name in ["ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset"] {
            assert_eq!(pause(&[(name, "11")]), Some(11_000), "{name}");
            assert_eq!(pause(&[(name, "1700000012")]), Some(12_000), "{name}");
            assert_eq!(pause(&[(name, "1700000013500")]), Some(13_500), "{name}");
            assert_eq!(pause(&[(name, "1600000000")]), Some(0), "{name}");
        }
        let left = [("x-ratelimit-remaining", "4"), ("x-ratelimit-reset", "9")];
        assert_eq!(pause(&left), None);
        assert_eq!(pause(&[("x-ms-retry-after-ms", "1500")]), Some(1_500));
        let both = [("ratelimit", "\"a\";r=0;t=87"), ("retry-after", "2")];
        assert_eq!(pause(&both), Some(2_000), "an explicit pause goes first");
        let junk = [("retry-after", "soon"), ("ratelimit-reset", "4")];
        assert_eq!(pause(&junk), Some(4_000));
    }

    #[test]
    fn case_114_a_refusal_that_states_a_pause_is_a_limit() {
        let seen = |code: u16, pause| {
            let status = StatusCode::from_u16(code).expect("a status");
            let error = error_for_status(status, pause, "m");
            (error.kind(), error.retry())
        };
        let pause = Some(Duration::from_secs(7));
        let limited = (ErrorKind::Unavailable, Retry::Throttled(pause));
        assert_eq!(seen(403, pause), limited);
        assert_eq!(seen(403, None), (ErrorKind::PermissionDenied, Retry::Refused));
        assert_eq!(seen(401, pause), (ErrorKind::PermissionDenied, Retry::Refused));
        assert_eq!(seen(404, pause), (ErrorKind::NotFound, Retry::Refused));
    }

    #[test]
    fn case_114_every_status_has_its_kind() {
        let seen = |code: u16| {
            let status = StatusCode::from_u16(code).expect("a status");
            let pause = Some(Duration::from_secs(1)).filter(|_| code != 403);
            let error = error_for_status(status, pause, "m");
            (error.kind(), error.retry())
        };
        let throttled = Retry::Throttled(Some(Duration::from_secs(1)));
        for (codes, kind, retry) in [
            (&[404, 410][..], ErrorKind::NotFound, Retry::Refused),
            (&[401, 403, 407, 451], ErrorKind::PermissionDenied, Retry::Refused),
            (
                &[
                    400, 402, 405, 406, 411, 413, 414, 418, 422, 424, 426, 431, 444, 498,
                ],
                ErrorKind::Protocol,
                Retry::Refused,
            ),
            (&[412], ErrorKind::ObjectChanged, Retry::Never),
            (&[416], ErrorKind::Range, Retry::Never),
            (&[429, 503, 509, 529], ErrorKind::Unavailable, throttled),
            (
                &[408, 409, 421, 425, 499, 500, 502, 504, 506, 507, 508, 510, 511],
                ErrorKind::Unavailable,
                Retry::Backoff,
            ),
            (
                // A status of no class is treated as a 5xx (RFC 9110 section 15).
                &[
                    520, 521, 522, 523, 524, 525, 526, 527, 530, 561, 598, 599, 600, 999,
                ],
                ErrorKind::Unavailable,
                Retry::Backoff,
            ),
            (
                &[100, 204, 300, 301, 304, 305, 307, 501, 505],
                ErrorKind::Protocol,
                Retry::Never,
            ),
        ] {
            for &code in codes {
                assert_eq!(seen(code), (kind, retry), "{code}");
            }
        }
    }
}
