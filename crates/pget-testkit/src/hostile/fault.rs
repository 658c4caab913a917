//! The catalogue of faults. Each fault is data; `distort` turns it into a changed reply.

use std::time::Duration;

/// A kind of misbehaviour. Numbers in parentheses are the cases of the project's list of faults.
///
/// Byte counts refer to the body. If a fault changes only the headers, the body has the bytes of
/// the requested range.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// 200 with the whole object, whatever range was requested (1, 2, 3).
    RangeIgnored,
    /// 200 without `Content-Range`: as long as the range, but with the object's first bytes (2).
    WrongOk,
    /// Another range of the same length, correctly labelled (4).
    ///
    /// The range moves back if it would end past the object.
    Shifted {
        /// Distance in bytes from the requested start to the served one.
        by: u64,
    },
    /// At most `length` bytes of the range, correctly labelled (5).
    Clipped {
        /// Largest number of bytes sent. 0 means 1.
        length: u64,
    },
    /// The range and `by` further bytes, correctly labelled (6).
    Extended {
        /// Number of further bytes. They are pattern bytes, even past the object's end.
        by: u64,
    },
    /// 206 without `Content-Range` (7).
    NoContentRange,
    /// Replaces `Content-Range`, once per value (8, 9, 10).
    ///
    /// Each value may contain `{start}`, `{end}` (inclusive) and `{total}`, which are replaced by
    /// numbers.
    ContentRange(Vec<String>),
    /// The range as a `multipart/byteranges` of one part (11).
    Multipart,
    /// `Content-Encoding` contains this value. The bytes are not encoded (12).
    ContentEncoding(String),
    /// All headers correct, bytes of another seed (13).
    WrongBytes,
    /// This answer instead: any status, headers and body (14–18, 30–38, 45, 51).
    ///
    /// See also [`Fault::status`].
    Answer {
        /// Status code.
        status: u16,
        /// Further headers after `Content-Length`. They are written unchanged, line breaks
        /// included.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// A body without its last bytes. `Content-Length` is the length of that body (19).
    ShortLength {
        /// Number of missing bytes.
        by: u64,
    },
    /// A chunked body that ends properly, without the last bytes (20).
    ShortChunked {
        /// Number of missing bytes.
        by: u64,
    },
    /// HTTP/1.0 without a length, closed before the last bytes (21).
    ShortClosed {
        /// Number of missing bytes.
        by: u64,
    },
    /// Resets the connection after `after` bytes (22).
    ///
    /// The client may lose bytes that it has not received by then.
    Reset {
        /// Number of body bytes sent.
        after: u64,
    },
    /// Closes the connection in order after `after` bytes (22).
    Fin {
        /// Number of body bytes sent.
        after: u64,
    },
    /// `Content-Length` and body longer than the range; `Content-Range` stays correct (23).
    LongLength {
        /// Number of excess bytes.
        by: u64,
    },
    /// A chunked body longer than the range; `Content-Range` stays correct (23).
    LongChunked {
        /// Number of excess bytes.
        by: u64,
    },
    /// The correct answer, followed by further bytes on the kept-alive connection (23).
    Excess {
        /// Number of excess bytes.
        by: u64,
    },
    /// A few bytes of the body at a time, each piece after a pause (24).
    Drip {
        /// Bytes per piece, at least 1.
        bytes: usize,
        /// Pause before each piece.
        every: Duration,
        /// Whether each piece is a chunk of the chunked coding.
        chunked: bool,
    },
    /// A header that never ends, one byte after each pause (24).
    DripHead {
        /// Pause before each byte.
        every: Duration,
    },
    /// No answer. The connection stays open until the client closes it (25).
    StallBeforeHead,
    /// The head and `after` bytes, then nothing more (25).
    Stall {
        /// Number of body bytes sent.
        after: u64,
    },
    /// Interim responses before the correct answer (26).
    Interim {
        /// Status of each interim response, 100 to 199.
        status: u16,
        /// Number of interim responses.
        count: u32,
    },
    /// The correct answer in chunks, with an extension on every chunk and with trailers (26).
    Chunked {
        /// Bytes per chunk, at least 1.
        bytes: usize,
        /// Text after the size, for example `;name=value`. It may be empty.
        extension: String,
        /// Trailers, written unchanged.
        trailers: Vec<(String, String)>,
    },
    /// The correct answer with further headers, written unchanged (26, 65).
    ///
    /// They can be huge, very many, or contain line breaks.
    Headers(Vec<(String, String)>),
    /// Closes a reused connection without an answer (29).
    ///
    /// The first request of a connection gets the correct answer.
    CloseOnReuse,
    /// The correct answer, after which the connection closes without an announcement (29).
    CloseAfter,
    /// Closes the connection in order without an answer.
    Empty,
    /// Resets the connection without an answer.
    ResetBeforeHead,
    /// Replaces or removes the `ETag` (40, 42, 43, 44).
    ///
    /// The bytes are unchanged, and the server does not check conditions.
    Etag(Option<String>),
    /// Sends these `ETag`s in turn, one per request (52).
    EtagCycle(Vec<String>),
    /// Serves another revision of the object, and checks conditions against it (41, 47).
    ///
    /// Bytes, size and `ETag` are those of the other object.
    Revision(super::Object),
    /// HEAD reports this length (50).
    HeadLength(u64),
    /// `Content-Length` contains this text (56).
    ///
    /// The correct body follows, then the connection closes.
    ContentLength(String),
    /// Redirects to the same path until `hops` redirects were followed (63).
    RedirectChain {
        /// Number of redirects before the correct answer. `u32::MAX` never ends.
        hops: u32,
    },
    /// These bytes instead of HTTP, then the close.
    Raw(Vec<u8>),
    /// Limits the rate of the body.
    Pace {
        /// Body bytes per second, at least 1.
        bytes_per_second: u64,
    },
    /// The correct answer, delayed.
    Delay(Duration),
}

impl Fault {
    /// Returns an answer with this status and a short text.
    pub fn status(status: u16) -> Self {
        Self::Answer {
            status,
            headers: vec![("Content-Type".into(), "text/plain".into())],
            body: format!("status {status} on purpose\n").into_bytes(),
        }
    }

    /// Returns a 429 or 503 with this `Retry-After`: a number, a date or junk (30, 31).
    pub fn throttle(status: u16, retry_after: &str) -> Self {
        Self::Answer {
            status,
            headers: vec![("Retry-After".into(), retry_after.into())],
            body: b"<Error><Code>SlowDown</Code></Error>".to_vec(),
        }
    }

    /// Returns a redirect with a body (18, 38, 62, 63).
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::Answer {
            status,
            headers: vec![("Location".into(), location.into())],
            body: b"<html>moved</html>".to_vec(),
        }
    }

    /// Returns a 416, with `Content-Range: bytes */total` if there is a total (14, 16).
    pub fn unsatisfiable(total: Option<u64>) -> Self {
        let headers = total.map(|total| ("Content-Range".into(), format!("bytes */{total}")));
        Self::Answer {
            status: 416,
            headers: headers.into_iter().collect(),
            body: Vec::new(),
        }
    }

    /// Returns S3's 200 that carries an error document (33).
    pub fn error_document() -> Self {
        Self::Answer {
            status: 200,
            headers: vec![("Content-Type".into(), "application/xml".into())],
            body: b"<?xml version=\"1.0\"?><Error><Code>InternalError</Code></Error>".to_vec(),
        }
    }

    /// Returns a fault that replaces `Content-Range` by this value. See [`Fault::ContentRange`].
    pub fn content_range(value: &str) -> Self {
        Self::ContentRange(vec![value.into()])
    }

    /// Returns a fault that adds `count` headers, each with a value of `value_bytes` bytes.
    pub fn many_headers(count: usize, value_bytes: usize) -> Self {
        Self::Headers(
            (0..count)
                .map(|index| (format!("X-Filler-{index}"), "f".repeat(value_bytes)))
                .collect(),
        )
    }
}
