//! HTTP/1.1 on one connection: reads the heads of requests and writes the heads of answers.

use std::fmt::Write as _;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::store::{ReadLock, Stored};

/// Longest head of a request in bytes.
const HEAD_LIMIT: usize = 64 << 10;
/// Largest number of headers in a request.
const HEADERS: usize = 64;

/// The head of a request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Path as sent, with its escapes.
    pub(super) path: String,
    /// Query as sent, without the question mark.
    pub(super) query: String,
    pub(super) headers: Vec<(String, String)>,
    /// The peer's address.
    pub(super) peer: String,
}

impl Request {
    /// Returns a header by its lower-case name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }
}

/// The body that follows the head of an answer.
pub(super) enum Body {
    /// No body. `Content-Length` is sent only if it is among the headers.
    Bare,
    /// These bytes. `Content-Length` is added.
    Bytes(Bytes),
    /// These bytes of an object. `Content-Length` is among the headers.
    ///
    /// The lock is held until the bytes are sent.
    Content(Arc<Stored>, Range<u64>, ReadLock),
    /// Like `Content`, in HTTP chunks.
    Chunked(Arc<Stored>, Range<u64>, ReadLock),
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Body,
    /// Whether the connection closes after the answer.
    pub(super) close: bool,
}

impl Answer {
    pub(super) const fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Body::Bytes(Bytes::new()),
            close: false,
        }
    }

    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    #[must_use]
    pub(super) fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Returns the head as it is sent.
    pub(super) fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").ok();
        }
        write!(head, "Date: {}\r\n", httpdate::fmt_http_date(SystemTime::now())).ok();
        match &self.body {
            Body::Bare | Body::Content(..) => {}
            Body::Bytes(bytes) => {
                write!(head, "Content-Length: {}\r\n", bytes.len()).ok();
            }
            Body::Chunked(..) => head.push_str("Transfer-Encoding: chunked\r\n"),
        }
        if self.close {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        head
    }
}

/// A connection and its bytes that were read but not yet used.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: TcpStream,
    pub(super) peer: String,
    buffer: BytesMut,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, peer: String) -> Self {
        Self {
            stream,
            peer,
            buffer: BytesMut::with_capacity(4096),
        }
    }

    /// Reads the next request.
    ///
    /// Returns `None` at the end of the connection, and for bytes that are not HTTP.
    ///
    /// # Errors
    /// Returns the errors of the socket.
    pub(super) async fn request(&mut self) -> io::Result<Option<Request>> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS];
            let mut parsed = httparse::Request::new(&mut headers);
            match parsed.parse(&self.buffer) {
                Ok(httparse::Status::Complete(length)) => {
                    let target = parsed.path.unwrap_or_default();
                    let (path, query) = target.split_once('?').unwrap_or((target, ""));
                    let request = Request {
                        method: parsed.method.unwrap_or_default().into(),
                        path: path.into(),
                        query: query.into(),
                        headers: parsed.headers.iter().map(header).collect(),
                        peer: self.peer.clone(),
                    };
                    self.buffer.advance(length);
                    return Ok(Some(request));
                }
                Ok(httparse::Status::Partial) if self.buffer.len() < HEAD_LIMIT => {}
                Ok(httparse::Status::Partial) | Err(_) => return Ok(None),
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads the body of a request, up to `limit` bytes.
    ///
    /// Returns `None` if the body is longer, or if its length is unknown.
    ///
    /// # Errors
    /// Returns the errors of the socket, including its early end.
    pub(super) async fn body(&mut self, request: &Request, limit: usize) -> io::Result<Option<Bytes>> {
        if request.header("expect").is_some() {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        if request.header("transfer-encoding").is_some() {
            return self.chunked(limit).await;
        }
        let length = request
            .header("content-length")
            .map_or(Ok(0), str::parse::<usize>);
        let Ok(length) = length else { return Ok(None) };
        if length > limit {
            return Ok(None);
        }
        self.have(length).await?;
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    async fn chunked(&mut self, limit: usize) -> io::Result<Option<Bytes>> {
        let mut body = BytesMut::new();
        loop {
            match httparse::parse_chunk_size(&self.buffer) {
                Ok(httparse::Status::Complete((head, length))) => {
                    let Ok(length) = usize::try_from(length) else {
                        return Ok(None);
                    };
                    if body.len().saturating_add(length) > limit {
                        return Ok(None);
                    }
                    self.buffer.advance(head);
                    self.have(length + 2).await?;
                    body.extend_from_slice(&self.buffer.split_to(length));
                    self.buffer.advance(2);
                    if length == 0 {
                        return Ok(Some(body.freeze()));
                    }
                }
                Ok(httparse::Status::Partial) => self.have(self.buffer.len() + 1).await?,
                Err(_) => return Ok(None),
            }
        }
    }

    async fn have(&mut self, length: usize) -> io::Result<()> {
        while self.buffer.len() < length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Waits until the peer closes or resets the connection. Bytes that it sends until then are
    /// discarded.
    pub(super) async fn closed(&mut self) {
        let mut sink = [0; 1024];
        while self.stream.read(&mut sink).await.is_ok_and(|count| count > 0) {}
    }

    /// Makes the next close of the socket a reset.
    pub(super) fn reset_on_close(&self) {
        let zero = Some(std::time::Duration::ZERO);
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(zero).expect("SO_LINGER on an open socket");
    }
}

fn header(header: &httparse::Header<'_>) -> (String, String) {
    let value = String::from_utf8_lossy(header.value).into_owned();
    (header.name.to_ascii_lowercase(), value)
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        413 => "Request Entity Too Large",
        416 => "Requested Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unnamed",
    }
}
