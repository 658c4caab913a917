//! The header checks of every answer: from an HTTP head to the [`Reply`] that the core holds against the request and the pinned revision.
//!
//! Pure. A splice is stopped in two places: what contradicts itself on the wire is refused here, what does not fit the request or the pin is refused by
//! [`ChunkWriter::begin`](pget_core::ChunkWriter::begin).

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pget_core::{ErrorKind, RangeRequest, Reply, Revision, SourceError};

use crate::{
    checksum::google_checksum,
    client::Response,
    content_range::ContentRange,
    head::{content_length, protocol},
    status::{error_for_status, retry_after},
};

/// ETag and Last-Modified of an answer. An empty ETag, as some servers send it, is none, and so is one beyond ASCII (`obs-text`, RFC 9110 section 8.8.3): as text, two
/// of them might be equal that are not.
#[must_use]
pub fn revision_from_headers(headers: &HeaderMap) -> Revision {
    let text = |name: HeaderName| {
        let value = headers.get(name)?.to_str().ok()?.trim();
        (!value.is_empty() && value != "\"\"").then(|| value.to_owned())
    };
    Revision {
        etag: text(header::ETAG),
        last_modified: text(header::LAST_MODIFIED),
        ..Revision::default()
    }
}

/// What the answer says of the range that `request` asks for; the caller adds what its own headers tell (version, checksum, chunk hint).
///
/// # Errors
/// - [`Protocol`](ErrorKind::Protocol) for an answer that contradicts itself: a 206 without a sound `Content-Range`, with another `Content-Length`, in parts; a
///   coded body; headers that must be single but are not;
/// - [`Range`](ErrorKind::Range) for a 416, unless it says that the object ends where the request starts: that is an empty reply;
/// - for other statuses, as [`error_for_status`].
pub fn reply_from_response(request: &RangeRequest, response: &Response) -> Result<Reply, SourceError> {
    reply_from_parts(request, response.status, &response.headers)
}

/// As [`reply_from_response`], from a status and headers.
///
/// # Errors
/// As there.
pub fn reply_from_parts(
    request: &RangeRequest,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<Reply, SourceError> {
    match status {
        // A body that its Content-Range says is a part is not the whole object, whatever the status (AIStore before 4.1 answers ranges so).
        StatusCode::OK if headers.contains_key(header::CONTENT_RANGE) => partial(headers),
        StatusCode::OK => {
            refuse_coded(headers)?;
            let length = content_length(headers)?;
            Ok(Reply {
                start: 0,
                length,
                total: length,
                whole: true,
                revision: revision(headers)?,
                chunk_hint: None,
                checksum: google_checksum(headers),
            })
        }
        StatusCode::PARTIAL_CONTENT => partial(headers),
        StatusCode::RANGE_NOT_SATISFIABLE => unsatisfied(request, headers),
        status => Err(error_for_status(status, retry_after(headers), "")),
    }
}

fn partial(headers: &HeaderMap) -> Result<Reply, SourceError> {
    refuse_coded(headers)?;
    if let Some(kind) = single(headers, &header::CONTENT_TYPE)? {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("multipart/byteranges") {
            return Err(protocol("asked for one range, the answer is in parts"));
        }
    }
    let value = single(headers, &header::CONTENT_RANGE)?
        .ok_or_else(|| protocol("an answer 206 without Content-Range"))?;
    let parsed = ContentRange::parse(value.as_bytes())
        .map_err(|cause| protocol("the answer's Content-Range makes no sense").with_cause(cause))?;
    let ContentRange::Part { start, last, total } = parsed else {
        return Err(protocol("an answer whose Content-Range covers nothing"));
    };
    // `parse` vouches for start <= last < u64::MAX.
    let length = last - start + 1;
    if let Some(told) = content_length(headers)?
        && told != length
    {
        let message =
            format!("the answer's Content-Length is {told}, its Content-Range covers {length} bytes");
        // A body that lacks bytes may be a proxy's bad moment; one that has too many is a server that counts wrongly.
        return Err(if told < length {
            SourceError::retryable(ErrorKind::Protocol, message)
        } else {
            protocol(message)
        });
    }
    Ok(Reply {
        start,
        length: Some(length),
        total,
        whole: false,
        revision: revision(headers)?,
        chunk_hint: None,
        checksum: google_checksum(headers),
    })
}

fn unsatisfied(request: &RangeRequest, headers: &HeaderMap) -> Result<Reply, SourceError> {
    let total = match single(headers, &header::CONTENT_RANGE)? {
        None => None,
        Some(value) => match ContentRange::parse(value.as_bytes()) {
            Ok(ContentRange::Unsatisfied { total }) => Some(total),
            _ => return Err(protocol("an answer 416 whose Content-Range makes no sense")),
        },
    };
    match total {
        Some(total) if total == request.start => Ok(Reply {
            start: total,
            length: Some(0),
            total: Some(total),
            whole: false,
            revision: revision(headers)?,
            chunk_hint: None,
            checksum: google_checksum(headers),
        }),
        Some(total) => Err(SourceError::fatal(
            ErrorKind::Range,
            format!(
                "the server has {total} bytes and refuses a range from byte {}",
                request.start
            ),
        )),
        None => Err(error_for_status(StatusCode::RANGE_NOT_SATISFIABLE, None, "")),
    }
}

fn revision(headers: &HeaderMap) -> Result<Revision, SourceError> {
    single_bytes(headers, &header::ETAG)?;
    single(headers, &header::LAST_MODIFIED)?;
    Ok(revision_from_headers(headers))
}

fn refuse_coded(headers: &HeaderMap) -> Result<(), SourceError> {
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let identity = value
            .to_str()
            .is_ok_and(|text| text.is_empty() || text.trim().eq_ignore_ascii_case("identity"));
        if !identity {
            return Err(protocol(
                "the answer's body is coded (Content-Encoding) although identity was asked for",
            ));
        }
    }
    Ok(())
}

/// The text of a header that must not be there twice.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, SourceError> {
    match single_bytes(headers, name)?.map(HeaderValue::to_str) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(protocol(format!("the answer's {name} is not ASCII"))),
    }
}

/// As [`single`], of any bytes.
fn single_bytes<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, SourceError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(protocol(format!("the answer has several {name} headers")));
    }
    Ok(value)
}
