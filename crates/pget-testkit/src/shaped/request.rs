//! Request heads: the object and the range that a client requests.

use std::ops::Range;

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) head: bool,
    pub(super) closes: bool,
    pub(super) range: Option<String>,
    pub(super) if_match: Option<String>,
}

/// Removes a request from the front of `input`. Returns `Ok(None)` until the whole head is there.
pub(super) fn take(input: &mut Vec<u8>) -> Result<Option<Request>, httparse::Error> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = parsed.parse(input)? else {
        return Ok(None);
    };
    let mut request = Request {
        path: parsed.path.unwrap_or_default().into(),
        head: parsed.method == Some("HEAD"),
        closes: parsed.version == Some(0),
        ..Request::default()
    };
    for header in parsed.headers {
        let value = String::from_utf8_lossy(header.value).trim().to_owned();
        if header.name.eq_ignore_ascii_case("range") {
            request.range = Some(value);
        } else if header.name.eq_ignore_ascii_case("if-match") {
            request.if_match = Some(value);
        } else if header.name.eq_ignore_ascii_case("connection") {
            request.closes = value.eq_ignore_ascii_case("close");
        }
    }
    input.drain(..length);
    Ok(Some(request))
}

/// Returns the range that a `Range` header requests of an object of `size` bytes.
///
/// The result is `None` for the whole object, and `Err` if none of the range exists.
pub(super) fn range(header: Option<&str>, size: u64) -> Result<Option<Range<u64>>, ()> {
    let Some(spec) = header.and_then(|header| header.strip_prefix("bytes=")) else {
        return Ok(None);
    };
    // The standard allows a server to ignore several ranges, and a range that cannot be read.
    let Some((first, last)) = spec.split_once('-').filter(|_| !spec.contains(',')) else {
        return Ok(None);
    };
    let (first, last) = (first.trim(), last.trim());
    let range = if first.is_empty() {
        let Ok(suffix) = last.parse::<u64>() else {
            return Ok(None);
        };
        size.saturating_sub(suffix)..size
    } else {
        let Ok(start) = first.parse::<u64>() else {
            return Ok(None);
        };
        let end = if last.is_empty() {
            size
        } else {
            match last.parse::<u64>() {
                Ok(last) if last >= start => last.saturating_add(1).min(size),
                _ => return Ok(None),
            }
        };
        start..end
    };
    if range.start < range.end {
        Ok(Some(range))
    } else {
        Err(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let cases = [
            (None, Ok(None)),
            (Some("bytes=0-0"), Ok(Some(0..1))),
            (Some("bytes=5-"), Ok(Some(5..10))),
            (Some("bytes=-3"), Ok(Some(7..10))),
            (Some("bytes=8-100"), Ok(Some(8..10))),
            (Some("bytes=10-"), Err(())),
            (Some("bytes=1-2,4-5"), Ok(None)),
            (Some("lines=1-2"), Ok(None)),
        ];
        for (header, expected) in cases {
            assert_eq!(range(header, 10), expected, "{header:?}");
        }
    }

    #[test]
    fn a_head_in_pieces_waits_and_what_follows_stays() {
        let mut input = b"GET /1 HTTP/1.1\r\nRange: bytes=1-2\r\n".to_vec();
        assert_eq!(take(&mut input), Ok(None));
        input.extend(b"\r\nGET");
        let request = take(&mut input).expect("a head").expect("all of it");
        assert_eq!(request.range.as_deref(), Some("bytes=1-2"));
        assert_eq!(input, b"GET");
    }
}
