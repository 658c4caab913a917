//! Reads the heads of requests from a connection.

use std::io;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// Longest accepted head in bytes. A longer one ends the connection.
const HEAD_LIMIT: usize = 1 << 18;

/// The range that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// From `start` to `end` (exclusive), or to the object's end.
    From {
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: Option<u64>,
    },
    /// The last bytes of the object, this many.
    Last(u64),
}

/// A request's head.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Path with query.
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) asked: Option<Asked>,
    pub(super) reused: bool,
    pub(super) closes: bool,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Returns the number under `name` in the query.
    pub(super) fn query_number(&self, name: &str) -> Option<u32> {
        let (_, query) = self.target.split_once('?')?;
        let value = query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
        value.parse().ok()
    }
}

/// Reads one request after another from a connection.
#[derive(Debug, Default)]
pub(super) struct Requests {
    buffer: Vec<u8>,
    served: bool,
}

impl Requests {
    /// Returns the next request.
    ///
    /// Returns `None` if the client has closed, or has sent something other than a request.
    pub(super) async fn next(&mut self, stream: &mut TcpStream) -> io::Result<Option<Request>> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                let request = parse(&head, self.served);
                self.served = true;
                return Ok(request);
            }
            if self.buffer.len() > HEAD_LIMIT || stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

fn parse(head: &[u8], reused: bool) -> Option<Request> {
    let mut fields = vec![httparse::EMPTY_HEADER; 256];
    let mut parsed = httparse::Request::new(&mut fields);
    parsed.parse(head).ok()?.is_complete().then_some(())?;
    let mut request = Request {
        method: parsed.method?.to_owned(),
        target: parsed.path?.to_owned(),
        headers: parsed
            .headers
            .iter()
            .map(|field| {
                (
                    field.name.to_owned(),
                    String::from_utf8_lossy(field.value).into_owned(),
                )
            })
            .collect(),
        asked: None,
        reused,
        closes: false,
    };
    request.asked = request.header("range").and_then(parse_range);
    request.closes = request
        .header("connection")
        .is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Some(request)
}

/// Parses one range (RFC 9110, section 14.1.2). Anything else is ignored, as that section allows.
fn parse_range(value: &str) -> Option<Asked> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        return Some(Asked::Last(last.parse().ok()?));
    }
    let start: u64 = first.parse().ok()?;
    if last.is_empty() {
        return Some(Asked::From { start, end: None });
    }
    let last: u64 = last.parse().ok()?;
    (last >= start).then(|| Asked::From {
        start,
        end: last.checked_add(1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let from = |start, end| Some(Asked::From { start, end });
        assert_eq!(parse_range("bytes=0-0"), from(0, Some(1)));
        assert_eq!(parse_range("bytes=5-"), from(5, None));
        assert_eq!(parse_range("bytes=0-18446744073709551615"), from(0, None));
        assert_eq!(parse_range("bytes=-7"), Some(Asked::Last(7)));
        for ignored in [
            "bytes=5-2",
            "bytes=",
            "bytes=-",
            "bytes=1-2,4-5",
            "items=1-2",
            "bytes=a-b",
        ] {
            assert_eq!(parse_range(ignored), None, "{ignored}");
        }
    }
}
