//! A plain object at an `http://` or `https://` address.

use std::{fmt, pin::pin, sync::Arc};

use async_trait::async_trait;
use futures_util::future::{Either, select};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pget_core::{
    ChunkWriter, Error, ErrorKind, ObjectInfo, RangeRequest, RangeSource, Reply, Retry, SourceError,
};
use tokio::time::timeout;
use url::Url;

use crate::{
    checksum::google_checksum,
    client::{Client, Response},
    conditions::{refused_unasked, refused_without_condition},
    courtesy,
    head::content_length,
    learned::{Codings, Learned},
    ranges::{RANGE_WITHIN, head_or_byte},
    reply::{reply_from_response, revision_from_headers},
    request::{ByteRange, RequestHead, range_of, redacted},
    status::{error_for_status, retry_after},
};

/// Of an error's body, read so that the connection can be used again.
const ERROR_BODY: u64 = 16 * 1024;

/// One object of a web server.
///
/// Clones share what was learned of its servers: where its address redirects, and whether ranges
/// are served.
#[derive(Clone)]
pub struct HttpSource {
    client: Client,
    url: Url,
    exact_path: Option<String>,
    headers: HeaderMap,
    name: String,
    learned: Arc<Learned>,
}

impl HttpSource {
    /// The object at `url`. A user and password in it are sent as basic authorization, `headers`
    /// with every request to its origin. The path is sent as written: dot segments are kept, what
    /// may not stand in a path is percent-encoded.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if it is no such address, or holds control
    /// characters.
    pub fn new(client: Client, url: &str, headers: HeaderMap) -> Result<Self, Error> {
        let refused = |message: &str| Error::new(ErrorKind::InvalidArgument, "", message);
        if url.chars().any(char::is_control) {
            return Err(refused("the address has control characters"));
        }
        let parsed = Url::parse(url)
            .map_err(|cause| Error::with_cause(ErrorKind::InvalidArgument, "", "invalid URL", cause))?;
        crate::pool::Origin::of(&parsed).map_err(|error| Error::from_source(redacted(&parsed), error))?;
        let rest =
            behind_scheme(url, &parsed).ok_or_else(|| refused("the address is not SCHEME://HOST/PATH"))?;
        let source = Self {
            client,
            exact_path: exact_path(rest, &parsed),
            name: redacted(&parsed),
            url: parsed,
            headers,
            learned: Arc::default(),
        };
        // Everything else that cannot be sent is reported now.
        let mut trial = source.request(None, HeaderMap::new());
        trial
            .move_userinfo()
            .and_then(|()| trial.encode(&HeaderValue::from_static("trial")))
            .map_err(|error| Error::from_source(source.name.clone(), error))?;
        Ok(source)
    }

    fn request(&self, range: Option<ByteRange>, more: HeaderMap) -> RequestHead {
        let mut head = RequestHead::get(self.url.clone());
        head.exact_path.clone_from(&self.exact_path);
        head.headers.clone_from(&self.headers);
        head.headers.extend(more);
        head.range = range;
        head
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn first_request(&self) -> RequestHead {
        self.request(ByteRange::new(0, Some(1)), HeaderMap::new())
    }

    /// What HEAD says; `None` if it leaves the size out.
    async fn ask_head(&self) -> Result<Option<ObjectInfo>, SourceError> {
        let mut head = self.request(None, HeaderMap::new());
        head.method = crate::Method::Head;
        let response = self.learned.fetch(&self.client, &head, 0).await?;
        if response.status != StatusCode::OK {
            let after = retry_after(&response.headers);
            let error = error_for_status(response.status, after, "");
            response.body.drain_small(0).await;
            return Err(error);
        }
        let Some(size) = content_length(&response.headers)? else {
            return Ok(None);
        };
        let info = ObjectInfo {
            size: Some(size),
            revision: revision_from_headers(&response.headers),
            chunk_hint: None,
            checksum: google_checksum(&response.headers),
            ranges: accepts_ranges(&response),
        };
        response.body.drain_small(0).await;
        Ok(Some(info))
    }

    /// What the answer to a GET of the first byte says.
    async fn probe(&self) -> Result<ObjectInfo, SourceError> {
        let (reply, response) = self.get(&RangeRequest::new(0, Some(1))).await?;
        if !reply.whole {
            response.body.drain_small(1).await;
        }
        Ok(ObjectInfo {
            size: reply.total,
            revision: reply.revision,
            chunk_hint: None,
            checksum: reply.checksum,
            ranges: Some(!reply.whole),
        })
    }

    /// Asks for the range, or for everything where ranges are refused and a plain GET is not.
    async fn get(&self, request: &RangeRequest) -> Result<(Reply, Response), SourceError> {
        let range = range_of(request)?;
        let range = range.filter(|_| !self.learned.ranges.are_refused(request));
        let mut more = HeaderMap::new();
        let condition = condition(request).filter(|_| !self.learned.conditions.are_refused());
        let is_conditional = condition.is_some();
        if let Some(condition) = condition {
            more.insert(header::IF_MATCH, condition);
        }
        let mut head = self.request(range, more);
        head.connection = request.into();
        let ranges = &self.learned.ranges;
        let answer = match self.first_answer(&head, request).await {
            Ok((response, _)) if is_conditional && response.status == StatusCode::PRECONDITION_FAILED => {
                response.body.drain_small(ERROR_BODY).await;
                head.headers.remove(header::IF_MATCH);
                self.without_condition(&head, request).await
            }
            answer => answer,
        };
        let (error, is_refusal) = match answer {
            Ok((response, is_plain)) => {
                let error = match reply_from_response(request, &response) {
                    Ok(reply) => {
                        if response.status == StatusCode::PARTIAL_CONTENT {
                            ranges.served();
                        } else if is_plain && reply.whole {
                            ranges.refused();
                        }
                        return Ok((reply, response));
                    }
                    Err(error) => error,
                };
                let (status, by) = (response.status, response.url.clone());
                response.body.drain_small(ERROR_BODY).await;
                let error = self.learned.explain(error, request, None, &by);
                (error, ranges.may_be_refused(request, status))
            }
            Err(error) => (error, false),
        };
        if range.is_none() || !is_refusal && !ranges.may_fail(request, &error) {
            return Err(error);
        }
        tracing::debug!(object = %self.name, %error, "the range is refused; asking for everything");
        head.range = None;
        let response = self.learned.fetch(&self.client, &head, request.attempt).await?;
        match reply_from_response(request, &response) {
            Ok(reply) => {
                if reply.whole {
                    self.learned.ranges.refused();
                }
                Ok((reply, response))
            }
            Err(error) => {
                if matches!(error.retry(), Retry::Refused | Retry::Never) {
                    self.learned.ranges.all_refused();
                }
                response.body.drain_small(ERROR_BODY).await;
                Err(refused_unasked(error, request, &self.headers))
            }
        }
    }

    /// Sends `head` once more, from which a condition was taken that the server has refused. Only
    /// the reply's identity shows whether the object has changed, or whether the server refuses
    /// conditions.
    async fn without_condition(
        &self,
        head: &RequestHead,
        request: &RangeRequest,
    ) -> Result<(Response, bool), SourceError> {
        tracing::debug!(object = %self.name, "If-Match is refused; asking without it");
        let response = self.learned.fetch(&self.client, head, request.attempt).await?;
        if response.status == StatusCode::PRECONDITION_FAILED {
            response.body.drain_small(ERROR_BODY).await;
            return Err(refused_without_condition());
        }
        let revision = revision_from_headers(&response.headers);
        self.learned.conditions.compared(request, &revision);
        Ok((response, false))
    }

    /// Waits for the answer to `head`. If that is the download's first range and has no answer for
    /// long, also for the answer to a plain GET: some servers never answer where a range is asked
    /// for. Returns whether the plain one came first.
    async fn first_answer(
        &self,
        head: &RequestHead,
        request: &RangeRequest,
    ) -> Result<(Response, bool), SourceError> {
        let mut ranged = pin!(self.learned.fetch(&self.client, head, request.attempt));
        if head.range.is_none() || !self.learned.ranges.may_be_silent(request) {
            return Ok((ranged.await?, false));
        }
        if let Ok(answer) = timeout(RANGE_WITHIN, &mut ranged).await {
            return Ok((answer?, false));
        }
        tracing::debug!(object = %self.name, "the range has no answer; asking for everything beside it");
        let whole = RequestHead {
            range: None,
            ..head.clone()
        };
        let plain = pin!(self.learned.fetch(&self.client, &whole, request.attempt));
        match select(ranged, plain).await {
            Either::Left((answer, _)) => Ok((answer?, false)),
            Either::Right((Ok(response), _)) if response.status == StatusCode::OK => Ok((response, true)),
            Either::Right((_, ranged)) => Ok((ranged.await?, false)),
        }
    }

    /// Passes the reply on, if it fits what was learned from those before it.
    fn begin(
        &self,
        request: &RangeRequest,
        reply: Reply,
        response: &Response,
        chunk: &mut ChunkWriter,
    ) -> Result<(), SourceError> {
        self.learned.hold_coding(request, response)?;
        chunk.begin(reply.clone()).map_err(|error| {
            let error = self.learned.explain(error, request, Some(&reply), &response.url);
            Codings::explain(error, request, &reply, &response.headers)
        })?;
        self.learned.served(request, &response.url);
        Ok(())
    }
}

/// Host, path and query as written; `None` where the parser does not take the host for what is
/// written before the first slash, but what stands after more slashes, or before a backslash.
/// Another path would be sent than the one that is named, and a password might be in it.
fn behind_scheme<'a>(url: &'a str, parsed: &Url) -> Option<&'a str> {
    let (scheme, rest) = url.trim_start().split_once("://")?;
    let host = rest.find(['/', '?', '#']).map_or(rest, |end| &rest[..end]);
    (scheme.eq_ignore_ascii_case(parsed.scheme()) && !host.is_empty() && !host.contains('\\')).then_some(rest)
}

/// Path and query of an address as written, if a parsed address would not keep them.
fn exact_path(behind_scheme: &str, parsed: &Url) -> Option<String> {
    let path = &behind_scheme[behind_scheme.find(['/', '?', '#'])?..];
    let path = path.split_once('#').map_or(path, |(path, _)| path);
    if !path.starts_with('/') {
        return None;
    }
    let written = percent_encoding::utf8_percent_encode(path, NOT_IN_A_PATH).to_string();
    let kept = match parsed.query() {
        Some(query) => format!("{}?{query}", parsed.path()),
        None => parsed.path().to_owned(),
    };
    (written != kept).then_some(written)
}

/// What must be encoded to be sent at all; everything else goes as it is, also `%`.
const NOT_IN_A_PATH: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'`')
    .add(b'{')
    .add(b'}');

#[async_trait]
impl RangeSource for HttpSource {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        head_or_byte(Box::pin(self.ask_head()), Box::pin(self.probe())).await
    }

    async fn read(&self, request: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        let (reply, mut response) = self.get(request).await?;
        if reply.whole && reply.length.is_none() && wants_all(request) {
            response.body.must_end_with_object();
        }
        self.begin(request, reply, &response, &mut chunk)?;
        if response.status == StatusCode::RANGE_NOT_SATISFIABLE {
            response.body.drain_small(ERROR_BODY).await;
            return Ok(());
        }
        response.body.read_into(&mut chunk).await
    }

    fn most_requests(&self) -> u32 {
        courtesy::most_requests(&self.url)
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn endpoint(&self) -> Option<String> {
        let host = self.url.host_str()?;
        let port = self.url.port_or_known_default()?;
        Some(format!("{}://{host}:{port}", self.url.scheme()))
    }
}

impl fmt::Debug for HttpSource {
    /// Without user, password, query values and header values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSource")
            .field("name", &self.name)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// The pinned ETag as a condition, if it is a strong one in its proper form: many servers answer
/// 412 to anything else.
fn condition(request: &RangeRequest) -> Option<HeaderValue> {
    let etag = request.pinned.as_ref()?.revision.strong_etag()?;
    let quoted = etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"');
    HeaderValue::from_str(etag).ok().filter(|_| quoted)
}

/// Whether the request goes to the object's end, which an earlier reply reported.
fn wants_all(request: &RangeRequest) -> bool {
    let size = request.pinned.as_ref().and_then(|pinned| pinned.size);
    size.is_some_and(|size| request.end.is_none_or(|end| end >= size))
}

fn accepts_ranges(response: &Response) -> Option<bool> {
    let value = response.headers.get(header::ACCEPT_RANGES)?.to_str().ok()?;
    match value.trim() {
        "bytes" => Some(true),
        "none" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent must be what is named.
    #[test]
    fn an_address_that_is_read_in_two_ways_is_refused() {
        let client = Client::new(&crate::ClientOptions::default()).expect("a client");
        let made = |url: &str| HttpSource::new(client.clone(), url, HeaderMap::new());
        for url in [
            "http:///u:hunter2@h/a/b",
            "http:////h/a",
            "http://\\h/a",
            "http://h\\a/b",
            "http:/\\h/a",
            "http:\\\\h/a",
            "http:/h/a",
            "http:h/a?next=http://elsewhere/b",
        ] {
            let error = made(url).map(|source| source.name).expect_err(url);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}");
            assert!(!error.to_line().contains("hunter2"), "{}", error.to_line());
        }
        for (url, path) in [
            ("http://h/a\\b", "/a\\b"),
            ("HTTP://h/a//../b", "/a//../b"),
            (" http://u:p@h/a?x=http://z/y", "/a?x=http://z/y"),
            ("http://h", "/"),
        ] {
            let head = made(url).expect(url).first_request();
            let sent = head.exact_path.unwrap_or_else(|| match head.url.query() {
                Some(query) => format!("{}?{query}", head.url.path()),
                None => head.url.path().to_owned(),
            });
            assert_eq!(sent, path, "{url}");
        }
    }
}
