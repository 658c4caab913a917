//! What a status other than success means, and how long the server asks to be left alone.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};
use pget_core::{ErrorKind, SourceError};

use crate::content_range::number;

/// A `Retry-After` beyond this is taken for this long: a server may not park a client for days.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// The error that a status stands for. `message` says what the server did, without any credential; the status is added to it.
///
/// 404 and 410 are [`NotFound`](ErrorKind::NotFound), 401 and 403 [`PermissionDenied`](ErrorKind::PermissionDenied), 412
/// [`ObjectChanged`](ErrorKind::ObjectChanged), 416 [`Range`](ErrorKind::Range); 429 and 503 ask for fewer requests; 408, 409 (AIStore: busy), 500, 502 and 504 may be tried
/// again. Everything else (3xx that are not followed, 1xx, other 4xx and 5xx) is an answer that makes no sense here: [`Protocol`](ErrorKind::Protocol), not
/// tried again.
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
    match status.as_u16() {
        404 | 410 => SourceError::refused(ErrorKind::NotFound, message),
        401 | 403 => SourceError::refused(ErrorKind::PermissionDenied, message),
        412 => SourceError::fatal(ErrorKind::ObjectChanged, message),
        416 => SourceError::fatal(ErrorKind::Range, message),
        429 | 503 => SourceError::throttled(message, retry_after),
        408 | 409 | 500 | 502 | 504 => SourceError::retryable(ErrorKind::Unavailable, message),
        _ => SourceError::fatal(ErrorKind::Protocol, message),
    }
}

/// The pause that `Retry-After` asks for, in seconds or until an HTTP date, at most [`LONGEST_RETRY_AFTER`]; `None` if there is none or it makes no sense.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    retry_after_at(headers, SystemTime::now())
}

fn retry_after_at(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than can be counted are still a long time.
        number(text).map_or(LONGEST_RETRY_AFTER, Duration::from_secs)
    } else {
        let until = httpdate::parse_http_date(text).ok()?;
        until.duration_since(now).unwrap_or(Duration::ZERO)
    };
    Some(pause.min(LONGEST_RETRY_AFTER))
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
    fn every_status_has_its_kind() {
        let seen = |code: u16| {
            let status = StatusCode::from_u16(code).expect("a status");
            let error = error_for_status(status, Some(Duration::from_secs(1)), "m");
            (error.kind(), error.retry())
        };
        for (codes, kind, retry) in [
            (&[404, 410][..], ErrorKind::NotFound, Retry::Refused),
            (&[401, 403], ErrorKind::PermissionDenied, Retry::Refused),
            (&[412], ErrorKind::ObjectChanged, Retry::Never),
            (&[416], ErrorKind::Range, Retry::Never),
            (
                &[429, 503],
                ErrorKind::Unavailable,
                Retry::Throttled(Some(Duration::from_secs(1))),
            ),
            (&[408, 409, 500, 502, 504], ErrorKind::Unavailable, Retry::Backoff),
            (
                &[300, 301, 304, 305, 307, 400, 405, 451, 501, 505],
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
