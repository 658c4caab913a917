//! What to ask for: method, address, range, headers; and its bytes on the wire.
//!
//! Invariant: a [`ByteRange`] is never empty or reversed and there is at most one, so that
//! `bytes=`, `bytes=5-2` and lists cannot be written.

use std::{fmt, net::SocketAddr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::percent_decode_str;
use pget_core::{ErrorKind, RangeRequest, SourceError};
use url::Url;

/// How to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "reading needs no other")]
pub enum Method {
    /// For the body.
    #[default]
    Get,
    /// For the headers alone.
    Head,
    /// Sends [`RequestHead::content`] to a service that issues credentials.
    Post,
    /// Asks a metadata service for a session, or stores an object.
    Put,
    /// Removes an object.
    Delete,
    /// A DELETE that has content, as uploads by parts to AIStore are aborted with.
    DeleteWithContent,
    /// A GET that has content, as lists of AIStore are asked for.
    GetWithContent,
}

impl Method {
    /// As on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get | Self::GetWithContent => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete | Self::DeleteWithContent => "DELETE",
        }
    }

    pub(crate) const fn has_content(self) -> bool {
        matches!(
            self,
            Self::Post | Self::Put | Self::DeleteWithContent | Self::GetWithContent
        )
    }
}

/// One range for the `Range` header; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    start: u64,
    last: Option<u64>,
}

impl ByteRange {
    /// From `start` to `end` (exclusive; `None`: to the object's end); `None` if that is empty or
    /// reversed.
    #[must_use]
    pub fn new(start: u64, end: Option<u64>) -> Option<Self> {
        match end {
            Some(end) if end <= start => None,
            end => Some(Self {
                start,
                last: end.map(|end| end - 1),
            }),
        }
    }
}

/// The range to send for `request`; `None`: it is for the whole object, for which none is sent.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) if the range is empty or reversed, which no
/// header can say: without one, all of the object would come.
pub fn range_of(request: &RangeRequest) -> Result<Option<ByteRange>, SourceError> {
    if request.is_whole() {
        return Ok(None);
    }
    match ByteRange::new(request.start, request.end) {
        None => Err(invalid("an empty range cannot be asked for")),
        range => Ok(range),
    }
}

impl fmt::Display for ByteRange {
    /// The value of a `Range` header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last {
            Some(last) => write!(f, "bytes={}-{last}", self.start),
            None => write!(f, "bytes={}-", self.start),
        }
    }
}

/// What to do about a redirect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "there is no third way")]
pub enum RedirectPolicy {
    /// Follow 301, 302, 303, 307 and 308, at most ten in a row, never from https to http; headers
    /// that are not plainly harmless stay with the first origin.
    #[default]
    Yes,
    /// Give the redirect to the caller: see [`Response::location`](crate::Response::location).
    No,
}

/// Over which connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a kept one or a fresh one")]
pub enum ConnectionPolicy {
    /// One that was kept, else a fresh one.
    #[default]
    Any,
    /// A fresh one, and not to the address `avoid` if the host has another. (Through a proxy, over
    /// a connection of the proxy's pool.)
    Fresh {
        /// Where the connection led that was too slow.
        avoid: Option<SocketAddr>,
    },
}

impl From<&RangeRequest> for ConnectionPolicy {
    /// What a download wants for an attempt.
    fn from(request: &RangeRequest) -> Self {
        if request.fresh {
            Self::Fresh { avoid: request.avoid }
        } else {
            Self::Any
        }
    }
}

/// One request.
#[derive(Clone)]
#[non_exhaustive]
pub struct RequestHead {
    /// How to ask.
    pub method: Method,
    /// Where. A user and password in it are sent as basic authorization; a fragment is not sent.
    pub url: Url,
    /// Path and query to be sent in place of those of `url`, byte for byte: for keys with dot
    /// segments, which a URL would resolve.
    pub exact_path: Option<String>,
    /// Sent as they are, except those that [are the client's own](is_reserved_header), which are
    /// ignored here.
    pub headers: HeaderMap,
    /// The part wanted; `None`: everything.
    pub range: Option<ByteRange>,
    /// What to do about a redirect.
    pub follow: RedirectPolicy,
    /// Over which connection.
    pub connection: ConnectionPolicy,
    /// The host was named by a server, not by the caller: it is not looked for at link-local
    /// addresses, where the metadata services of clouds live. Set it for an address from
    /// [`Response::location`](crate::Response::location) whose host is another.
    pub from_server: bool,
    /// Bytes to send with `Post`, `Put`, `DeleteWithContent` and `GetWithContent`. The request may
    /// reach the server twice if a kept connection turns out closed. So it must have the same
    /// effect both times, or go over a [fresh](ConnectionPolicy::Fresh) one.
    pub content: Bytes,
    /// Never through a proxy: for metadata services, which answer this machine only.
    pub direct: bool,
}

impl RequestHead {
    /// A GET of all of `url`.
    #[must_use]
    pub fn get(url: Url) -> Self {
        Self {
            method: Method::Get,
            url,
            exact_path: None,
            headers: HeaderMap::new(),
            range: None,
            follow: RedirectPolicy::Yes,
            connection: ConnectionPolicy::Any,
            from_server: false,
            content: Bytes::new(),
            direct: false,
        }
    }

    /// A HEAD of `url`.
    #[must_use]
    pub fn head(url: Url) -> Self {
        Self {
            method: Method::Head,
            ..Self::get(url)
        }
    }

    /// Moves the user and password of the URL into a header, where the rules for headers hold for
    /// them.
    pub(crate) fn move_userinfo(&mut self) -> Result<(), SourceError> {
        if let Some(value) = basic_authorization(&self.url)? {
            // An explicit header is the more deliberate of the two.
            if !self.headers.contains_key(header::AUTHORIZATION) {
                self.headers.insert(header::AUTHORIZATION, value);
            }
        }
        strip_userinfo(&mut self.url);
        Ok(())
    }

    /// Path and query as sent.
    pub(crate) fn path(&self) -> Result<String, SourceError> {
        if let Some(path) = &self.exact_path {
            let sound =
                path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
            return if sound {
                Ok(path.clone())
            } else {
                Err(invalid("a path must begin with a slash and be percent-encoded"))
            };
        }
        Ok(match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        })
    }

    /// The request's bytes. No header value can hold CR, LF or NUL (`HeaderValue` has none), nor
    /// can a URL.
    pub(crate) fn encode(&self, user_agent: &HeaderValue) -> Result<Vec<u8>, SourceError> {
        let path = self.path()?;
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(path.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        let mut put = |name: &str, value: &[u8]| {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        };
        put("Host", authority(&self.url)?.as_bytes());
        if let Some(range) = &self.range {
            put("Range", range.to_string().as_bytes());
        }
        // A coded body has other bytes at other offsets than the object.
        put("Accept-Encoding", b"identity");
        if !self.headers.contains_key(header::ACCEPT) {
            put("Accept", b"*/*");
        }
        if !self.headers.contains_key(header::USER_AGENT) {
            put("User-Agent", user_agent.as_bytes());
        }
        if self.method.has_content() {
            put("Content-Length", self.content.len().to_string().as_bytes());
        }
        for (name, value) in &self.headers {
            if !is_reserved_header(name) {
                put(name.as_str(), value.as_bytes());
            }
        }
        out.extend_from_slice(b"\r\n");
        if self.method.has_content() {
            out.extend_from_slice(&self.content);
        }
        Ok(out)
    }
}

impl fmt::Debug for RequestHead {
    /// Without query values, user, password and header values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method)
            .field("url", &redacted(&self.url))
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("range", &self.range)
            .field("follow", &self.follow)
            .finish_non_exhaustive()
    }
}

/// Headers that the client writes itself, or whose presence would change how the request is read:
/// it ignores them in a [`RequestHead`], so a caller's own should be refused before.
#[must_use]
pub fn is_reserved_header(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::HOST
            | header::RANGE
            | header::CONNECTION
            | header::ACCEPT_ENCODING
            | header::CONTENT_LENGTH
            | header::TRANSFER_ENCODING
            | header::TE
            | header::UPGRADE
            | header::EXPECT
    )
}

/// Host and port as in a `Host` header.
pub(crate) fn authority(url: &Url) -> Result<String, SourceError> {
    let host = url.host_str().ok_or_else(|| invalid("the address has no host"))?;
    Ok(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

fn basic_authorization(url: &Url) -> Result<Option<HeaderValue>, SourceError> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(url.password().unwrap_or_default()));
    if pair.iter().any(u8::is_ascii_control) {
        return Err(invalid("the address's user or password has control characters"));
    }
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(&pair)))
        .map_err(|_| invalid("the address's user or password cannot be sent"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

pub(crate) fn strip_userinfo(url: &mut Url) {
    // Both only refuse addresses without a host, which have no user either.
    url.set_username("").ok();
    url.set_password(None).ok();
}

pub(crate) fn invalid(message: impl Into<String>) -> SourceError {
    SourceError::fatal(ErrorKind::InvalidArgument, message)
}

/// The address for messages: without user and password, and with the values of its query
/// (signatures, tokens) left out.
#[must_use]
pub fn redacted(url: &Url) -> String {
    let mut text = format!("{}://", url.scheme());
    text.push_str(url.host_str().unwrap_or_default());
    if let Some(port) = url.port() {
        text.push_str(&format!(":{port}"));
    }
    // Parameters of the path may be tokens, as in `/x;token=…`.
    text.push_str(&pget_core::redact::name(url.path()));
    if let Some(query) = url.query() {
        text.push('?');
        text.push_str(&redacted_query(query));
    }
    text
}

fn redacted_query(query: &str) -> String {
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        // A bare word may be a token as well, and end in `=` as base64 does.
        Some((key, value)) if !key.is_empty() && !value.trim_matches('=').is_empty() => format!("{key}=***"),
        Some(_) => "***".to_owned(),
        None if pair.is_empty() => String::new(),
        None => "***".to_owned(),
    });
    pairs.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(head: &RequestHead) -> Vec<String> {
        let bytes = head
            .encode(&HeaderValue::from_static("agent"))
            .expect("it can be written");
        let text = String::from_utf8(bytes).expect("it is ASCII");
        assert!(text.ends_with("\r\n\r\n"));
        text.split("\r\n").map(str::to_owned).collect()
    }

    #[test]
    fn case_17_no_empty_reversed_or_multiple_range_can_be_written() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..200_000_u64 {
            let shift = u32::try_from(round % 64).unwrap_or_default();
            let (start, end) = (next() >> shift, next() >> (next() % 64));
            let end = (round % 5 != 0).then_some(end);
            let Some(range) = ByteRange::new(start, end) else {
                assert!(end.is_some_and(|end| end <= start));
                continue;
            };
            let text = range.to_string();
            let (first, last) = text
                .strip_prefix("bytes=")
                .and_then(|rest| rest.split_once('-'))
                .expect("bytes=A-B");
            assert_eq!(first.parse(), Ok(start));
            match end {
                None => assert_eq!(last, ""),
                Some(end) => {
                    assert_eq!(last.parse(), Ok(end - 1));
                    assert!(end > start);
                }
            }
        }
    }

    #[test]
    fn the_clients_own_headers_cannot_be_overridden() {
        let mut head = RequestHead::get(Url::parse("http://h:81/a?b#c").expect("an address"));
        head.range = ByteRange::new(5, Some(10));
        for name in [
            "host",
            "range",
            "transfer-encoding",
            "content-length",
            "connection",
        ] {
            head.headers
                .insert(HeaderName::from_static(name), HeaderValue::from_static("evil"));
        }
        head.headers.insert("x-own", HeaderValue::from_static("1"));
        let lines = lines(&head);
        assert_eq!(lines[0], "GET /a?b HTTP/1.1");
        assert!(!lines.iter().any(|line| line.contains("evil")));
        for line in ["Host: h:81", "Range: bytes=5-9", "x-own: 1", "User-Agent: agent"] {
            assert!(lines.iter().any(|found| found == line), "{line} in {lines:?}");
        }
    }

    #[test]
    fn userinfo_becomes_a_header_and_shows_nowhere() {
        let url = Url::parse("http://us%20er:p%40ss@h/a?sig=SECRET&flag&x").expect("an address");
        let mut head = RequestHead::get(url);
        head.move_userinfo().expect("it can be sent");
        let expected = format!("authorization: Basic {}", BASE64_STANDARD.encode("us er:p@ss"));
        assert!(lines(&head).contains(&expected));
        let shown = format!("{head:?}");
        assert!(
            !shown.contains("SECRET") && !shown.contains("p%40ss") && !shown.contains("flag"),
            "{shown}"
        );
        let mut bad = RequestHead::get(Url::parse("http://a%0d%0ab@h/").expect("an address"));
        assert!(bad.move_userinfo().is_err());
    }

    #[test]
    fn what_may_be_secret_in_a_query_is_not_told() {
        for (query, told) in [
            ("list&prefix=a%2Fb&X-Sig=c==", "***&prefix=***&X-Sig=***"),
            ("c2VjcmV0dG9rZW4=", "***"),
            ("c2VjcmV0dG9rZQ==", "***"),
            ("=c2VjcmV0", "***"),
            ("a=&&", "***&&"),
        ] {
            assert_eq!(redacted_query(query), told, "{query}");
        }
    }

    #[test]
    fn content_goes_with_the_methods_that_have_some() {
        let mut head = RequestHead::get(Url::parse("http://h/").expect("an address"));
        head.content = Bytes::from_static(b"a=b");
        for (method, content) in [
            (Method::Get, None),
            (Method::Head, None),
            (Method::Post, Some("a=b")),
            (Method::Put, Some("a=b")),
            (Method::Delete, None),
            (Method::DeleteWithContent, Some("a=b")),
            (Method::GetWithContent, Some("a=b")),
        ] {
            head.method = method;
            let bytes = head
                .encode(&HeaderValue::from_static("agent"))
                .expect("it can be written");
            let text = String::from_utf8(bytes).expect("it is ASCII");
            let (lines, body) = text.split_once("\r\n\r\n").expect("a head");
            assert_eq!(body, content.unwrap_or_default());
            assert_eq!(lines.contains("Content-Length: 3"), content.is_some());
        }
        assert!(!format!("{head:?}").contains("a=b"), "{head:?}");
    }

    #[test]
    fn an_exact_path_is_sent_as_it_is_or_not_at_all() {
        let mut head = RequestHead::get(Url::parse("http://h/").expect("an address"));
        head.exact_path = Some("/b/../up//%2e/./dot?x=%41+".into());
        assert_eq!(lines(&head)[0], "GET /b/../up//%2e/./dot?x=%41+ HTTP/1.1");
        for bad in ["relative", "/a b", "/a\r\nb", "/\u{e9}", "/a\0", "/a#b"] {
            head.exact_path = Some(bad.into());
            assert!(
                head.encode(&HeaderValue::from_static("agent")).is_err(),
                "{bad:?}"
            );
        }
    }
}
