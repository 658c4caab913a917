//! Replies as data, and the correct reply to a request. `distort` changes it into a fault.

use std::time::Duration;

use super::object::Object;
use super::request::{Asked, Request};
use super::route::Route;
use crate::content::Pattern;

/// A piece of a body.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Bytes(Vec<u8>),
    Object {
        pattern: Pattern,
        start: u64,
        length: u64,
    },
}

impl Part {
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Object { length, .. } => *length,
        }
    }
}

/// The way in which the client learns where the body ends.
#[derive(Clone, Debug)]
pub(super) enum Framing {
    /// `Content-Length` with this text.
    Length(String),
    Chunked {
        extension: String,
        trailers: Vec<(String, String)>,
    },
    /// The close of the connection. The status line says HTTP/1.0.
    Close,
}

/// The event that ends a body early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Reset,
    Fin,
    Stall,
}

/// The point at which the reply's fault is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    /// The reply has no fault.
    Never,
    /// Once the head is sent.
    InHead,
    /// Once the first piece of the body is sent.
    InBody,
    /// Once the last piece of the body is sent.
    InLastPiece,
    /// Once the whole reply is sent, or the cut is made.
    AtEnd,
}

/// The complete answer to one request.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) delay: Duration,
    /// Bytes sent before the head, and how many times.
    pub(super) preface: (Vec<u8>, u32),
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) framing: Framing,
    pub(super) body: Vec<Part>,
    /// Bytes that follow the framed body.
    pub(super) excess: u64,
    /// Stops after this many body bytes, in this way.
    pub(super) cut: Option<(u64, Cut)>,
    /// Largest piece of the body per write.
    pub(super) piece: usize,
    /// Pause before each piece.
    pub(super) pause: Duration,
    pub(super) bytes_per_second: Option<u64>,
    /// Pause before each byte of a header that never ends. It replaces the rest of the reply.
    pub(super) endless_head: Option<Duration>,
    /// Bytes and end that replace all of the above.
    pub(super) instead: Option<(Vec<u8>, Cut)>,
    pub(super) closes: bool,
    pub(super) shows: Shows,
}

/// A piece this large makes the cost of a system call small in comparison.
const PIECE: usize = 1 << 18;

impl Reply {
    /// Returns a reply of this status with a body held in memory.
    pub(super) fn new(status: u16, headers: Vec<(String, String)>, body: Vec<Part>) -> Self {
        let length: u64 = body.iter().map(Part::length).sum();
        Self {
            delay: Duration::ZERO,
            preface: (Vec::new(), 0),
            status,
            headers,
            framing: Framing::Length(length.to_string()),
            body,
            excess: 0,
            cut: None,
            piece: PIECE,
            pause: Duration::ZERO,
            bytes_per_second: None,
            endless_head: None,
            instead: None,
            closes: false,
            shows: Shows::Never,
        }
    }

    /// Returns the reply of a correct server.
    pub(super) fn right(route: &Route, object: &Object, request: &Request, conditions: bool) -> Self {
        if request.method != "GET" && request.method != "HEAD" {
            return Self::new(405, vec![("Allow".into(), "GET, HEAD".into())], Vec::new());
        }
        let conditions = conditions && route.checks_conditions;
        if conditions
            && request
                .header("if-match")
                .is_some_and(|wanted| !matches(wanted, object))
        {
            return Self::new(412, object_headers(object), Vec::new());
        }
        let same = |wanted| !conditions || matches(wanted, object);
        let asked = request
            .asked
            .filter(|_| request.header("if-range").is_none_or(same));
        match span(asked, object.size) {
            Span::Whole => Self::of(200, object, 0, object.size, object_headers(object)),
            Span::Part { start, end } => {
                let mut headers = object_headers(object);
                headers.push(("Content-Range".into(), content_range(start, end, object.size)));
                Self::of(206, object, start, end, headers)
            }
            Span::Outside => {
                let range = format!("bytes */{}", object.size);
                Self::new(416, vec![("Content-Range".into(), range)], Vec::new())
            }
        }
    }

    /// Returns a reply with the bytes `start..end` of the object.
    pub(super) fn of(
        status: u16,
        object: &Object,
        start: u64,
        end: u64,
        headers: Vec<(String, String)>,
    ) -> Self {
        let body = Part::Object {
            pattern: object.pattern,
            start,
            length: end - start,
        };
        Self::new(status, headers, vec![body])
    }

    pub(super) fn length(&self) -> u64 {
        self.body.iter().map(Part::length).sum()
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
    }

    pub(super) fn set(&mut self, name: &str, value: String) {
        self.remove(name);
        self.headers.push((name.to_owned(), value));
    }
}

/// The part of an object that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    Whole,
    Part { start: u64, end: u64 },
    Outside,
}

/// Returns the part that `asked` selects in an object of `size` bytes (RFC 9110, section 14.1.2).
pub(super) fn span(asked: Option<Asked>, size: u64) -> Span {
    match asked {
        None => Span::Whole,
        Some(Asked::Last(length)) if length > 0 && size > 0 => Span::Part {
            start: size.saturating_sub(length),
            end: size,
        },
        Some(Asked::From { start, end }) if start < size => Span::Part {
            start,
            end: end.map_or(size, |end| end.min(size)),
        },
        Some(_) => Span::Outside,
    }
}

/// Returns the `Content-Range` value for `start..end` of `total`.
pub(super) fn content_range(start: u64, end: u64, total: u64) -> String {
    format!("bytes {start}-{}/{total}", end - 1)
}

/// Returns the headers that describe the object.
pub(super) fn object_headers(object: &Object) -> Vec<(String, String)> {
    let mut headers = vec![
        ("Accept-Ranges".to_owned(), "bytes".to_owned()),
        ("Content-Type".to_owned(), "application/octet-stream".to_owned()),
    ];
    headers.extend(object.etag.clone().map(|etag| ("ETag".to_owned(), etag)));
    let modified = object.last_modified.map(httpdate::fmt_http_date);
    headers.extend(modified.map(|date| ("Last-Modified".to_owned(), date)));
    headers.extend(object.headers.iter().cloned());
    headers
}

/// Compares the object's `ETag` strongly with the listed ones (RFC 9110, section 13.1.1).
fn matches(wanted: &str, object: &Object) -> bool {
    wanted.trim() == "*"
        || object.etag.as_ref().is_some_and(|etag| {
            !etag.starts_with("W/") && wanted.split(',').any(|one| one.trim() == etag.as_str())
        })
}
