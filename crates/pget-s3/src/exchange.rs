//! One signed request and its answer: the head that is sent, and what the answer states.
//!
//! Invariant: an answer 200 that is an error document is never taken for the object.

use std::fmt;

use http::{HeaderValue, StatusCode, header};
use pget_core::{ChunkWriter, ErrorKind, RangeRequest, Reply, SourceError};
use pget_http::{ByteRange, Method, RedirectPolicy, RequestHead, Response, reply_from_parts};
use url::Url;

use crate::{errors::Document, session::SignedRequest};

/// Returns the head of a signed request.
pub(crate) fn request(
    method: Method,
    range: Option<ByteRange>,
    pin: Option<&str>,
    signed: &SignedRequest,
) -> Result<RequestHead, SourceError> {
    let mut head = RequestHead::get(signed.parts.url.clone());
    head.method = method;
    head.range = range;
    head.headers = signed.parts.headers.clone();
    // A signature is for one host: a redirect takes another one.
    head.follow = RedirectPolicy::No;
    if let Some(etag) = pin {
        let etag = HeaderValue::from_str(etag)
            .map_err(|_| SourceError::fatal(ErrorKind::Protocol, "the server's ETag cannot be sent back"))?;
        head.headers.insert(header::IF_MATCH, etag);
    }
    Ok(head)
}

/// Returns what an answer states.
///
/// The stores keep `Content-Encoding` as a property that an object was put
/// with: its bytes and ranges are those that were put. Something that codes on the way does not
/// know how long the body will be.
pub(crate) fn reply_of(request: &RangeRequest, response: &Response) -> Result<Reply, SourceError> {
    let mut headers = response.headers.clone();
    if headers.contains_key(header::CONTENT_LENGTH) {
        headers.remove(header::CONTENT_ENCODING);
    }
    reply_from_parts(request, response.status, &headers)
}

/// Whether an answer may be an error: S3 is known to answer 200 with an error document; objects
/// come with an ETag.
pub(crate) fn may_be_an_error(response: &Response, reply: &Reply) -> bool {
    let kind = response
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    response.status == StatusCode::OK
        && reply.revision.etag.is_none()
        && kind.is_some_and(|kind| kind.starts_with("application/xml") || kind.starts_with("text/xml"))
        && reply.length.is_none_or(|length| length <= Document::LIMIT as u64)
}

/// Reads the body of an answer that [may be an error](may_be_an_error), and puts it if it is the
/// object.
pub(crate) async fn examine(
    response: Response,
    mut reply: Reply,
    mut chunk: ChunkWriter,
) -> Result<(), SourceError> {
    let status = response.status;
    // One byte more, to see whether that is all of it.
    let body = response.body.bytes(Document::LIMIT + 1).await?;
    let document = Document::parse(&body);
    if body.len() > Document::LIMIT {
        return Err(SourceError::retryable(
            ErrorKind::Protocol,
            "an answer 200 without an ETag and a length",
        ));
    }
    if !document.code.is_empty() {
        return Err(document.failure(status, None));
    }
    reply.length = Some(body.len() as u64);
    chunk.begin(reply)?;
    if chunk.put_wanted(&body).await?.is_empty() {
        return Ok(());
    }
    let text = "the answer continues after the end of the range";
    Err(SourceError::fatal(ErrorKind::Protocol, text))
}

/// What an exchange has tried once already.
#[derive(Default)]
pub(crate) struct Again {
    pub(crate) renewed: bool,
    pub(crate) moved: bool,
    pub(crate) corrected: bool,
    pub(crate) followed: u32,
    pub(crate) to: Option<Url>,
}

impl fmt::Debug for Again {
    /// Without the address of a redirect, whose query may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Again")
            .field("renewed", &self.renewed)
            .field("moved", &self.moved)
            .field("corrected", &self.corrected)
            .field("followed", &self.followed)
            .finish_non_exhaustive()
    }
}
