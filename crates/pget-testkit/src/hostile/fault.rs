//! The catalogue of what goes wrong. Each fault is data; `distort` turns it into a changed reply.

use std::time::Duration;

/// One kind of misbehaviour. Numbers in brackets are the cases of the project's list of faults.
///
/// Byte counts are of the body. Where a fault changes only what is said, the bytes are those of the range that was asked.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// 200 with the whole object, whatever range was asked (1, 2, 3).
    RangeIgnored,
    /// 200 without `Content-Range`, as long as the range but with the object's first bytes (2).
    WrongOk,
    /// Another range of the same length, honestly labelled; moved back where the object would end (4).
    Shifted {
        /// How many bytes later it starts.
        by: u64,
    },
    /// At most `length` bytes of the range, honestly labelled (5).
    Clipped {
        /// Bytes sent, at most; 0 means 1.
        length: u64,
    },
    /// The range and `by` bytes more, honestly labelled (6).
    Extended {
        /// Bytes more; they are pattern bytes even past the object's end.
        by: u64,
    },
    /// 206 without `Content-Range` (7).
    NoContentRange,
    /// `Content-Range` replaced, once for each value; `{start}`, `{end}` (inclusive) and `{total}` are filled in (8, 9, 10).
    ContentRange(Vec<String>),
    /// The range as a `multipart/byteranges` of one part (11).
    Multipart,
    /// `Content-Encoding` says this; the bytes are as they would be without (12).
    ContentEncoding(String),
    /// All headers right, bytes of another seed (13).
    WrongBytes,
    /// This answer instead: any status, headers and body (14–18, 30–38, 45, 51); see also [`Fault::status`].
    Answer {
        /// Status code.
        status: u16,
        /// Headers beside `Content-Length`, written as they are, line breaks included.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// `Content-Length` honest about a body that lacks its last bytes (19).
    ShortLength {
        /// Bytes left out.
        by: u64,
    },
    /// Chunked and properly ended, but the last bytes are missing (20).
    ShortChunked {
        /// Bytes left out.
        by: u64,
    },
    /// HTTP/1.0 without a length, closed before the last bytes (21).
    ShortClosed {
        /// Bytes left out.
        by: u64,
    },
    /// The connection is reset after so many bytes; what the client has not received by then may be lost (22).
    Reset {
        /// Body bytes sent.
        after: u64,
    },
    /// The connection is closed in order after so many bytes (22).
    Fin {
        /// Body bytes sent.
        after: u64,
    },
    /// `Content-Length` and body longer than the range, whose label stays right (23).
    LongLength {
        /// Bytes too many.
        by: u64,
    },
    /// A chunked body longer than the range, whose label stays right (23).
    LongChunked {
        /// Bytes too many.
        by: u64,
    },
    /// All right, but bytes follow the body on the kept-alive connection (23).
    Excess {
        /// Bytes too many.
        by: u64,
    },
    /// A few body bytes at a time, each piece after a pause; in chunks of that size if asked (24).
    Drip {
        /// Bytes in a piece, at least 1.
        bytes: usize,
        /// The pause before each.
        every: Duration,
        /// Whether each piece is a chunk of the chunked coding.
        chunked: bool,
    },
    /// A header that never ends, a byte after each pause (24).
    DripHead {
        /// The pause before each byte.
        every: Duration,
    },
    /// Nothing is answered, the connection stays open until the client closes it (25).
    StallBeforeHead,
    /// The head and so many bytes, then nothing more (25).
    Stall {
        /// Body bytes sent.
        after: u64,
    },
    /// Interim responses before the right answer (26).
    Interim {
        /// 100–199.
        status: u16,
        /// How many.
        count: u32,
    },
    /// The right answer in chunks, with an extension on every chunk and with trailers (26).
    Chunked {
        /// Bytes in a chunk, at least 1.
        bytes: usize,
        /// After the size, e.g. `;name=value`; may be empty.
        extension: String,
        /// Trailers, written as they are.
        trailers: Vec<(String, String)>,
    },
    /// The right answer with more headers, written as they are: huge ones, very many, ones with line breaks (26, 65).
    Headers(Vec<(String, String)>),
    /// Closed without an answer when the request came on a connection used before; the right answer otherwise (29).
    CloseOnReuse,
    /// The right answer, promising nothing about the connection, which is then closed (29).
    CloseAfter,
    /// No byte is answered, the connection is closed in order.
    Empty,
    /// The connection is reset without an answer.
    ResetBeforeHead,
    /// `ETag` says this, or is missing; the bytes are unchanged and conditions are not checked (40, 42, 43, 44).
    Etag(Option<String>),
    /// `ETag` says one after the other, from request to request, over and over (52).
    EtagCycle(Vec<String>),
    /// Another revision of the object: other bytes, size and `ETag` if so seeded; conditions are checked against it (41, 47).
    Revision(super::Object),
    /// HEAD claims another length (50).
    HeadLength(u64),
    /// `Content-Length` says this text; the right body follows and the connection is closed (56).
    ContentLength(String),
    /// To the same path, again and again, until so many hops are made; `u32::MAX` for ever (63).
    RedirectChain {
        /// Hops before the right answer.
        hops: u32,
    },
    /// These bytes instead of HTTP, then closed.
    Raw(Vec<u8>),
    /// No faster than this.
    Pace {
        /// Body bytes a second, at least 1.
        bytes_per_second: u64,
    },
    /// The right answer, later.
    Delay(Duration),
}

impl Fault {
    /// An answer with this status and a short text.
    pub fn status(status: u16) -> Self {
        Self::Answer {
            status,
            headers: vec![("Content-Type".into(), "text/plain".into())],
            body: format!("status {status} on purpose\n").into_bytes(),
        }
    }

    /// 429 or 503 with this `Retry-After`, which may be a number, a date or junk (30, 31).
    pub fn throttle(status: u16, retry_after: &str) -> Self {
        Self::Answer {
            status,
            headers: vec![("Retry-After".into(), retry_after.into())],
            body: b"<Error><Code>SlowDown</Code></Error>".to_vec(),
        }
    }

    /// A redirect with a body (18, 38, 62, 63).
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::Answer {
            status,
            headers: vec![("Location".into(), location.into())],
            body: b"<html>moved</html>".to_vec(),
        }
    }

    /// 416, with `Content-Range: bytes */total` if a total is given (14, 16).
    pub fn unsatisfiable(total: Option<u64>) -> Self {
        let headers = total.map(|total| ("Content-Range".into(), format!("bytes */{total}")));
        Self::Answer {
            status: 416,
            headers: headers.into_iter().collect(),
            body: Vec::new(),
        }
    }

    /// S3's 200 that carries an error document (33).
    pub fn error_document() -> Self {
        Self::Answer {
            status: 200,
            headers: vec![("Content-Type".into(), "application/xml".into())],
            body: b"<?xml version=\"1.0\"?><Error><Code>InternalError</Code></Error>".to_vec(),
        }
    }

    /// `Content-Range` replaced by this one value; see [`Fault::ContentRange`].
    pub fn content_range(value: &str) -> Self {
        Self::ContentRange(vec![value.into()])
    }

    /// So many headers more, each with a value of so many bytes.
    pub fn many_headers(count: usize, value_bytes: usize) -> Self {
        Self::Headers(
            (0..count)
                .map(|index| (format!("X-Filler-{index}"), "f".repeat(value_bytes)))
                .collect(),
        )
    }
}
