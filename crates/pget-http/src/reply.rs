//! The header checks of every answer: from an HTTP head to the [`Reply`] that the core holds
//! against the request and the pinned revision.
//!
//! Pure. A splice is stopped in two places: what contradicts itself on the wire is refused here,
//! what does not fit the request or the pin is refused by
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

/// ETag and Last-Modified of an answer. An empty ETag, as some servers send it, does not count, and
/// neither does one beyond ASCII (`obs-text`, RFC 9110 section 8.8.3): as text, two of them might
/// be equal that are not.
#[must_use]
pub fn revision_from_headers(headers: &HeaderMap) -> Revision {
    let text = |name: HeaderName| {
        let value = std::str::from_utf8(once(headers.get(name)?.as_bytes())).ok()?;
        let is_told = value.is_ascii() && !value.is_empty() && value != "\"\"";
        is_told.then(|| value.to_owned())
    };
    Revision {
        etag: text(header::ETAG),
        last_modified: text(header::LAST_MODIFIED),
        ..Revision::default()
    }
}

/// What the answer says of the range that `request` asks for; the caller adds what its own headers
/// state (version, checksum, chunk hint).
///
/// # Errors
/// - [`Protocol`](ErrorKind::Protocol) for an answer that contradicts itself: a 206 without a sound
///   `Content-Range`, with another `Content-Length`, in parts; a body that was coded on the way;
///   headers with several values that must have one;
/// - [`Range`](ErrorKind::Range) for a 416, unless it says that the object ends where the request
///   starts: that is an empty reply;
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
        // A body that its Content-Range says is a part is not the whole object, whatever the status
        // (AIStore before 4.1 answers ranges so).
        StatusCode::OK if headers.contains_key(header::CONTENT_RANGE) => partial(request, headers),
        StatusCode::OK => {
            let length = content_length(headers)?;
            refuse_coded(headers, length)?;
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
        StatusCode::PARTIAL_CONTENT => partial(request, headers),
        StatusCode::RANGE_NOT_SATISFIABLE => unsatisfied(request, headers),
        status => Err(error_for_status(status, retry_after(headers), "")),
    }
}

fn partial(request: &RangeRequest, headers: &HeaderMap) -> Result<Reply, SourceError> {
    if let Some(kind) = single(headers, &header::CONTENT_TYPE)? {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("multipart/byteranges") {
            return Err(protocol("asked for one range, the answer is in parts"));
        }
    }
    let value = single(headers, &header::CONTENT_RANGE)?
        .ok_or_else(|| protocol("an answer 206 without Content-Range"))?;
    let parsed = ContentRange::parse(value.as_bytes()).map_err(|cause| {
        resized(request, value)
            .unwrap_or_else(|| protocol("invalid Content-Range header in the response").with_cause(cause))
    })?;
    let ContentRange::Part { start, last, total } = parsed else {
        return Err(protocol("an answer whose Content-Range covers nothing"));
    };
    refuse_coded(headers, total)?;
    // `parse` vouches for start <= last < u64::MAX.
    let length = last - start + 1;
    if let Some(stated) = content_length(headers)?
        && stated != length
    {
        let message =
            format!("the answer's Content-Length is {stated}, its Content-Range covers {length} bytes");
        // A body that lacks bytes may be a proxy's bad moment; one that has too many is a server
        // that counts wrongly.
        return Err(if stated < length {
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

/// A Content-Range that no range fits, because its total is not the size that is known: the object
/// shrank.
fn resized(request: &RangeRequest, content_range: &str) -> Option<SourceError> {
    let known = request.pinned.as_ref()?.size?;
    let total = ContentRange::total(content_range.as_bytes())?;
    (total < known).then(|| {
        SourceError::fatal(
            ErrorKind::ObjectChanged,
            format!("its size was {known} bytes and is now {total}"),
        )
    })
}

fn unsatisfied(request: &RangeRequest, headers: &HeaderMap) -> Result<Reply, SourceError> {
    let total = match single(headers, &header::CONTENT_RANGE)? {
        None => None,
        Some(value) => match ContentRange::parse(value.as_bytes()) {
            Ok(ContentRange::Unsatisfied { total }) => Some(total),
            _ => return Err(protocol("invalid Content-Range header in a response 416")),
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

/// The codings of a body, in lower case and joined by commas; `None` if it has none. Words
/// for no coding, and words that are not codings but put there by mistake, do not count.
pub(crate) fn coding(headers: &HeaderMap) -> Option<String> {
    let mut codings = Vec::new();
    for value in headers.get_all(header::CONTENT_ENCODING) {
        for coding in String::from_utf8_lossy(value.as_bytes()).split(',') {
            let coding = coding.trim().to_ascii_lowercase();
            if !is_no_coding(&coding) {
                codings.push(coding);
            }
        }
    }
    (!codings.is_empty()).then(|| codings.join(","))
}

/// `identity` is what RFC 9110 calls it; `none`, `binary` and names of characters' encodings are
/// what uploading programs make of it; `aws-chunked` is of the upload.
fn is_no_coding(coding: &str) -> bool {
    matches!(
        coding,
        "" | "identity" | "none" | "null" | "raw" | "binary" | "8bit" | "7bit" | "aws-chunked" | "ascii"
    ) || ["utf", "iso-8859", "us-ascii", "windows-125"]
        .iter()
        .any(|begin| coding.starts_with(begin))
}

/// Identities of objects that some stores send beside ETag and date, or in their place.
const VERSIONS: [&str; 5] = [
    "ais-version",
    "ais-checksum-value",
    "x-amz-version-id",
    "x-goog-generation",
    "x-ms-version-id",
];

/// Refuses a body that may have been coded on the way, although `Accept-Encoding: identity` was
/// sent: then its bytes and offsets are not the object's.
///
/// An object that is *stored* with a coding is read as stored. Such a reply knows its length
/// before it is sent, and names an identity: a server that codes on the fly knows no length, or
/// weakens the ETag. Whether later replies are coded in the same way is for [`Codings`].
///
/// [`Codings`]: crate::Codings
fn refuse_coded(headers: &HeaderMap, length: Option<u64>) -> Result<(), SourceError> {
    let Some(coding) = coding(headers) else {
        return Ok(());
    };
    let revision = revision_from_headers(headers);
    // A tag beyond ASCII does not identify the object, and may still be a weak one.
    let looks_weak = |tag: &HeaderValue| {
        let tag = tag.as_bytes().trim_ascii_start();
        tag.starts_with(b"W/") || tag.starts_with(b"w/")
    };
    let is_weak = headers.get_all(header::ETAG).iter().any(looks_weak);
    let is_told = revision.is_identity() || VERSIONS.iter().any(|name| headers.contains_key(*name));
    let says = if length.is_none() {
        "has no length"
    } else if is_weak || !is_told {
        "has no strong identity"
    } else {
        return Ok(());
    };
    Err(protocol(format!(
        "the body is coded ({coding}) although identity was asked for, and {says}, as if it was \
         coded on the way"
    )))
}

/// The text of a header that has one value, however often it is repeated.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, SourceError> {
    match single_bytes(headers, name)?.map(std::str::from_utf8) {
        None => Ok(None),
        Some(Ok(text)) if text.is_ascii() => Ok(Some(text)),
        Some(_) => Err(protocol(format!("the answer's {name} is not ASCII"))),
    }
}

/// As [`single`], of any bytes.
fn single_bytes<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, SourceError> {
    let mut values = headers.get_all(name).iter().map(|value| once(value.as_bytes()));
    let value = values.next();
    if values.any(|other| Some(other) != value) {
        return Err(protocol(format!(
            "the answer has several {name} headers that differ"
        )));
    }
    Ok(value)
}

/// A value without the white space around it, and once if it is a list of equal ones: a proxy may
/// join headers that are there twice (RFC 9110 section 5.3).
pub(crate) fn once(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    let commas = (0..value.len()).filter(|&at| value[at] == b',');
    for at in commas {
        let (first, rest) = (value[..at].trim_ascii_end(), &value[at..]);
        let mut rest = rest;
        while let [b',', more @ ..] = rest {
            match more.trim_ascii_start().strip_prefix(first) {
                Some(more) if !first.is_empty() => rest = more.trim_ascii_start(),
                _ => break,
            }
        }
        if rest.is_empty() {
            return first;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_116_equal_values_are_one() {
        for (value, expected) in [
            ("\"a\"", "\"a\""),
            (" \"a\"\t", "\"a\""),
            ("\"a\", \"a\"", "\"a\""),
            ("\"a\",\"a\" ,  \"a\"", "\"a\""),
            ("\"a\", \"b\"", "\"a\", \"b\""),
            ("\"a\", \"a\", \"b\"", "\"a\", \"a\", \"b\""),
            ("bytes 0-9/10, bytes 0-9/10", "bytes 0-9/10"),
            ("bytes 0-9/10, bytes 0-9/100", "bytes 0-9/10, bytes 0-9/100"),
            (",", ","),
            ("a,", "a,"),
            (",a", ",a"),
            (
                "Tue, 01 Sep 2026 00:00:00 GMT, Tue, 01 Sep 2026 00:00:00 GMT",
                "Tue, 01 Sep 2026 00:00:00 GMT",
            ),
            ("Tue, 01 Sep 2026 00:00:00 GMT", "Tue, 01 Sep 2026 00:00:00 GMT"),
        ] {
            let seen = once(value.as_bytes());
            assert_eq!(String::from_utf8_lossy(seen), expected, "{value}");
        }
    }

    #[test]
    fn case_115_codings_are_told_from_words_that_are_none() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            coding(&headers)
        };
        for none in [
            "",
            "identity",
            "Identity",
            "UTF-8",
            "none",
            "binary",
            "aws-chunked",
            "identity, utf8",
        ] {
            assert_eq!(of(&[none]), None, "{none}");
        }
        assert_eq!(of(&["GZIP"]).as_deref(), Some("gzip"));
        assert_eq!(of(&["identity, gzip", "br"]).as_deref(), Some("gzip,br"));
        assert_eq!(of(&["aws-chunked,zstd"]).as_deref(), Some("zstd"));
    }
}
