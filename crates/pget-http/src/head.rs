//! The head of a reply: status line and headers by httparse, and from them how the body is framed
//! (RFC 9112 section 6).
//!
//! Pure. Invariants: a head is at most [`LONGEST_HEAD`] bytes and [`MOST_HEADERS`] headers;
//! contradictory framing is refused, never resolved.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pget_core::{ErrorKind, SourceError};

use crate::{content_range::number, request::Method};

/// The most bytes of a head, interim replies not included.
pub(crate) const LONGEST_HEAD: usize = 64 * 1024;
/// The most headers of a reply.
pub(crate) const MOST_HEADERS: usize = 256;

/// The most bytes of empty lines before the status line.
const MOST_IN_FRONT: usize = 16;

/// The head of a final or interim reply.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// HTTP/1.1, not HTTP/1.0.
    pub(crate) modern: bool,
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    Close,
}

/// Finds heads in what has been received so far, without looking at any byte twice.
#[derive(Debug, Default)]
pub(crate) struct HeadScanner {
    scanned: usize,
}

impl HeadScanner {
    /// The head at the front of `received` and its length, or `None` while it is incomplete.
    pub(crate) fn scan(&mut self, received: &[u8]) -> Result<Option<(Head, usize)>, SourceError> {
        if !could_begin_a_reply(received) {
            return Err(protocol("the answer is not HTTP/1").with_no_answer());
        }
        while let Some(end) = end_of_head(received, self.scanned) {
            self.scanned = end;
            if end > LONGEST_HEAD {
                break;
            }
            if let Some(head) = parse(&received[..end])? {
                return Ok(Some((head, end)));
            }
        }
        if received.len() >= LONGEST_HEAD {
            return Err(too_long());
        }
        // An end may begin in the last bytes.
        self.scanned = self.scanned.max(received.len().saturating_sub(2));
        Ok(None)
    }
}

/// Rubbish is recognised by its first bytes rather than when it has filled a head's room. Empty
/// lines in front are left over from an earlier body at best; each would be a head's end to look
/// after, so there may be few.
fn could_begin_a_reply(received: &[u8]) -> bool {
    let begin = received
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'))
        .unwrap_or(received.len());
    if begin > MOST_IN_FRONT {
        return false;
    }
    let text = &received[begin..];
    let magic = b"HTTP/1.";
    let common = text.len().min(magic.len());
    text[..common] == magic[..common]
}

/// The place after the first empty line at or after `from`.
fn end_of_head(received: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(feed) = received[at..].iter().position(|&byte| byte == b'\n') {
        at += feed + 1;
        match received[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

fn parse(bytes: &[u8]) -> Result<Option<Head>, SourceError> {
    let mut parsed = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut parsed);
    let mut form = httparse::ParserConfig::default();
    // Some old servers write `Name : value`.
    form.allow_spaces_after_header_name_in_responses(true);
    match form.parse_response(&mut response, bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(cause) => return Err(protocol("invalid response header").with_cause(cause)),
    }
    let status = response
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| protocol("the answer has no status"))?;
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    for header in &*response.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_bytes(header.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(protocol("invalid header line in the response"));
        };
        headers.append(name, value);
    }
    Ok(Some(Head {
        status,
        headers,
        modern: response.version == Some(1),
    }))
}

impl Head {
    /// A head that something else has received, which need not have bounded it.
    pub(crate) fn received(
        status: StatusCode,
        headers: HeaderMap,
        modern: bool,
    ) -> Result<Self, SourceError> {
        // Each with its colon, space and line end.
        let bytes: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        if bytes > LONGEST_HEAD {
            return Err(too_long());
        }
        Ok(Self {
            status,
            headers,
            modern,
        })
    }

    /// How the body ends.
    pub(crate) fn framing(&self, method: Method) -> Result<Framing, SourceError> {
        let length = content_length(&self.headers)?;
        let codings = self.headers.contains_key(header::TRANSFER_ENCODING);
        let bodiless = method == Method::Head
            || self.status == StatusCode::NO_CONTENT
            || self.status == StatusCode::NOT_MODIFIED;
        if bodiless {
            return Ok(Framing::Length(0));
        }
        if !codings {
            return Ok(length.map_or(Framing::Close, Framing::Length));
        }
        if length.is_some() {
            return Err(protocol(
                "the answer has both Content-Length and Transfer-Encoding",
            ));
        }
        let mut values = self.headers.get_all(header::TRANSFER_ENCODING).iter();
        let only = values.next().filter(|_| values.next().is_none());
        match only {
            Some(value) if self.modern && value.as_bytes().eq_ignore_ascii_case(b"chunked") => {
                Ok(Framing::Chunked)
            }
            _ => Err(protocol("the answer has a transfer coding other than chunked")),
        }
    }

    /// Whether the connection may serve another request after the body.
    pub(crate) fn keeps_alive(&self) -> bool {
        let has = |token: &str| {
            self.headers
                .get_all(header::CONNECTION)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .flat_map(|value| value.split(','))
                .any(|part| part.trim().eq_ignore_ascii_case(token))
        };
        if self.modern {
            !has("close")
        } else {
            has("keep-alive") && !has("close")
        }
    }
}

/// The `Content-Length`, if there is one; several equal ones count as one (RFC 9110 section 8.6).
///
/// # Errors
/// If there are several that differ, or it is no number: two parties that disagree on where a body
/// ends is how answers get mixed up.
pub(crate) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, SourceError> {
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let text = value.to_str().unwrap_or_default();
        for digits in text.split(',') {
            let told =
                number(digits.trim()).map_err(|_| protocol("the answer's Content-Length is no number"))?;
            if length.replace(told).is_some_and(|before| before != told) {
                return Err(protocol("the answer has several lengths (Content-Length)"));
            }
        }
    }
    Ok(length)
}

fn too_long() -> SourceError {
    protocol(format!("the answer's head is longer than {LONGEST_HEAD} bytes"))
}

pub(crate) fn protocol(message: impl Into<String>) -> SourceError {
    SourceError::fatal(ErrorKind::Protocol, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Head, SourceError> {
        let (head, length) = HeadScanner::default()
            .scan(text.as_bytes())?
            .expect("a complete head");
        assert_eq!(length, text.len());
        Ok(head)
    }

    #[test]
    fn a_head_is_found_however_it_arrives() {
        let text = b"\r\nHTTP/1.1 206 Partial Content\r\nA: b\r\nContent-Length: 3\r\n\r\nxyz";
        let mut scanner = HeadScanner::default();
        for end in 0..text.len() - 3 {
            assert!(
                scanner.scan(&text[..end]).expect("well formed").is_none(),
                "{end}"
            );
        }
        let (head, length) = scanner.scan(text).expect("well formed").expect("complete");
        assert_eq!(
            (head.status.as_u16(), length, &head.headers["a"]),
            (206, text.len() - 3, &HeaderValue::from_static("b"))
        );
        assert_eq!(head.framing(Method::Get).ok(), Some(Framing::Length(3)));
    }

    #[test]
    fn contradictory_framing_is_refused() {
        for headers in [
            "Content-Length: 3\r\nTransfer-Encoding: chunked",
            "Content-Length: 3\r\nContent-Length: 4",
            "Content-Length: 3, 4",
            "Content-Length: 3,",
            "Content-Length: 3 3",
            "Content-Length: ",
            "Content-Length: 3\r\nContent-Length: 3\r\nTransfer-Encoding: chunked",
            "Content-Length: -3",
            "Content-Length: +3",
            "Content-Length: 18446744073709551616",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        ] {
            let head = head(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n")).expect("it parses");
            assert!(head.framing(Method::Get).is_err(), "{headers}");
        }
        let old = head("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").expect("it parses");
        assert!(old.framing(Method::Get).is_err());
    }

    #[test]
    fn case_116_equal_lengths_are_one() {
        for headers in [
            "Content-Length: 3\r\nContent-Length: 3",
            "Content-Length: 3, 3",
            "Content-Length: 3 ,3,\t3\r\nContent-Length: 03",
        ] {
            let head = head(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n")).expect("it parses");
            assert_eq!(
                head.framing(Method::Get).ok(),
                Some(Framing::Length(3)),
                "{headers}"
            );
        }
    }

    #[test]
    fn case_116_spaces_before_a_colon_are_not_part_of_the_name() {
        let head = head("HTTP/1.1 200 OK\r\nX-Old : b\r\nContent-Length : 3\r\n\r\n").expect("it parses");
        assert_eq!(head.headers["x-old"], "b");
        assert_eq!(head.framing(Method::Get).ok(), Some(Framing::Length(3)));
    }

    #[test]
    fn keep_alive_is_by_version_and_token() {
        let keeps = |text: &str| head(text).expect("it parses").keeps_alive();
        assert!(keeps("HTTP/1.1 200 OK\r\n\r\n"));
        assert!(!keeps("HTTP/1.1 200 OK\r\nConnection: Upgrade, Close\r\n\r\n"));
        assert!(!keeps("HTTP/1.0 200 OK\r\n\r\n"));
        assert!(keeps("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn rubbish_and_excess_are_refused() {
        let scan = |bytes: &[u8]| HeadScanner::default().scan(bytes);
        assert!(scan(b"SSH-2.0-OpenSSH").is_err());
        assert!(scan(b"HTTP/2 200 OK\r\n\r\n").is_err());
        assert!(scan(b"HTTP/1.1 abc OK\r\n\r\n").is_err());
        assert!(scan(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n").is_err());
        assert!(scan(b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n").is_err());
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(10_000));
        assert!(scan(many.as_bytes()).is_err());
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(300));
        assert!(scan(many.as_bytes()).is_err());
        // Quadratic work, once.
        assert!(scan(&[b'\n'; LONGEST_HEAD]).is_err());
        let long = format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(LONGEST_HEAD));
        assert!(scan(long.as_bytes()).is_err());
    }
}
