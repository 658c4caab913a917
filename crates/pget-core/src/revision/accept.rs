//! Whether a reply answers its request: the header checks of every reply, before a byte of its body
//! counts.
//!
//! Pure. Called with each reply by the download and by [`Collector`](crate::Collector); the one
//! place where a splice of two revisions is stopped.
//!
//! A reply is compared with the first one, which is the pin, and with what any other has stated
//! ([`learn`]): a cache may drop an ETag on the first reply and show two on later ones. What only a
//! later reply stated need not be repeated, as the pin's identity must.

use super::{Match, ObjectInfo, Revision};
use crate::{ErrorKind, RangeRequest, Reply, SourceError};

/// The meaning of an acceptable reply for its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Bytes before the wanted range in the body.
    pub(crate) skip: u64,
    /// Where in the object the body ends, if it said.
    pub(crate) body_end: Option<u64>,
    /// The object's size, if it said.
    pub(crate) total: Option<u64>,
    /// The body is the whole object although a part was asked for.
    pub(crate) whole: bool,
}

/// Holds `reply` against `request` and against what is `pinned`.
pub(crate) fn accept(
    request: &RangeRequest,
    pinned: Option<&ObjectInfo>,
    reply: &Reply,
) -> Result<Answer, SourceError> {
    let (body_end, total) = stated(reply)?;
    if let Some(pinned) = pinned {
        hold_against(pinned, &reply.revision, None)?;
        same_checksum(pinned, reply)?;
        // Check this before the size: a body as long as the range does not prove another object.
        // A stream of a source that never served a range goes on as it began.
        let is_all = request.start == 0 && request.end == body_end;
        if reply.whole && request.end.is_some() && !is_all && pinned.ranges != Some(false) {
            return Err(SourceError::retryable(
                ErrorKind::Protocol,
                "the server ignored the range although it served ranges before",
            ));
        }
        hold_against(pinned, &reply.revision, total)?;
    }
    let total = known_size(request, pinned, body_end, total)?;
    if reply.whole {
        return accept_whole(request, reply, body_end, total);
    }
    accept_part(request, pinned, reply, body_end)?;
    Ok(Answer {
        skip: 0,
        body_end,
        total,
        whole: false,
    })
}

/// Where the body ends and how long the object is, as far as `reply` states both.
fn stated(reply: &Reply) -> Result<(Option<u64>, Option<u64>), SourceError> {
    let body_end = match reply.length {
        Some(length) => Some(
            reply
                .start
                .checked_add(length)
                .ok_or_else(|| protocol(format!("a body of {length} bytes at {} cannot be", reply.start)))?,
        ),
        None => None,
    };
    // The whole object is as long as its body.
    let total = reply.total.or_else(|| body_end.filter(|_| reply.whole));
    if let (Some(end), Some(total)) = (body_end, total)
        && end > total
    {
        return Err(protocol(format!(
            "the body goes to byte {end} of an object of {total} bytes"
        )));
    }
    Ok((body_end, total))
}

/// The object's size by this reply or an earlier one, if it allows for the body and the request.
///
/// A size that is known stays known, whether this reply states it or not: a body that only ends
/// with its connection must not end before it.
fn known_size(
    request: &RangeRequest,
    pinned: Option<&ObjectInfo>,
    body_end: Option<u64>,
    total: Option<u64>,
) -> Result<Option<u64>, SourceError> {
    let known = pinned.and_then(|pinned| pinned.size);
    if let (None, Some(end), Some(was)) = (total, body_end, known)
        && end > was
    {
        return Err(SourceError::fatal(
            ErrorKind::ObjectChanged,
            format!("its size was {was} bytes, and a body goes to byte {end}"),
        ));
    }
    let total = total.or(known);
    if let Some(total) = total
        && request.start > total
    {
        return Err(SourceError::fatal(
            ErrorKind::Range,
            format!(
                "it starts at byte {} of an object of {total} bytes",
                request.start
            ),
        ));
    }
    Ok(total)
}

/// Whether a part of the object is the one that was asked for, or its beginning.
fn accept_part(
    request: &RangeRequest,
    pinned: Option<&ObjectInfo>,
    reply: &Reply,
    body_end: Option<u64>,
) -> Result<(), SourceError> {
    if reply.start != request.start {
        return Err(protocol(format!(
            "asked for bytes from {}, the answer starts at {}",
            request.start, reply.start
        )));
    }
    if let (Some(wanted), Some(end)) = (request.end, body_end)
        && end > wanted
    {
        return Err(protocol(format!(
            "asked for bytes to {wanted}, the answer goes to {end}"
        )));
    }
    if pinned.is_none() && reply.total.is_none() {
        return Err(protocol(
            "the first response does not state the object's size".into(),
        ));
    }
    // An answer without any byte would be asked for again and again; the only one is at the
    // object's end.
    if reply.length == Some(0) && reply.total.is_none_or(|total| request.start < total) {
        return Err(protocol(format!(
            "asked for bytes from {}, the answer has none",
            request.start
        )));
    }
    Ok(())
}

fn protocol(text: String) -> SourceError {
    SourceError::fatal(ErrorKind::Protocol, text)
}

/// Whether `revision`, and `size` if it is stated, are those of `pinned`.
pub(crate) fn hold_against(
    pinned: &ObjectInfo,
    revision: &Revision,
    size: Option<u64>,
) -> Result<(), SourceError> {
    if !same_revision(pinned, revision)? && pinned.revision.is_identity() {
        return Err(SourceError::retryable(
            ErrorKind::Protocol,
            format!("the reply does not say whether it is still {}", pinned.revision),
        ));
    }
    same_size(pinned, size)
}

/// Compares an accepted reply with `known`, which earlier replies stated, and adds what it states.
pub(crate) fn learn(known: &mut ObjectInfo, reply: &Reply, total: Option<u64>) -> Result<(), SourceError> {
    same_revision(known, &reply.revision)?;
    same_checksum(known, reply)?;
    same_size(known, total)?;
    known.revision.learn(&reply.revision);
    known.checksum = known.checksum.or(reply.checksum);
    known.size = known.size.or(total);
    Ok(())
}

/// Whether `revision` says that it is the known one; `false` if it does not say.
fn same_revision(told: &ObjectInfo, revision: &Revision) -> Result<bool, SourceError> {
    match told.revision.compare(revision) {
        Match::Changed(how) => Err(SourceError::fatal(ErrorKind::ObjectChanged, how)),
        told => Ok(told == Match::Same),
    }
}

fn same_checksum(told: &ObjectInfo, reply: &Reply) -> Result<(), SourceError> {
    match (&told.checksum, &reply.checksum) {
        (Some(was), Some(is)) if was.contradicts(is) => Err(SourceError::fatal(
            ErrorKind::ObjectChanged,
            "its published checksum is another one now",
        )),
        _ => Ok(()),
    }
}

fn same_size(told: &ObjectInfo, size: Option<u64>) -> Result<(), SourceError> {
    match (told.size, size) {
        (Some(was), Some(is)) if was != is => Err(SourceError::fatal(
            ErrorKind::ObjectChanged,
            format!("its size was {was} bytes, is {is}"),
        )),
        _ => Ok(()),
    }
}

/// A reply that ignored the range serves as the stream of everything when it is the first, or when
/// one stream was asked for; later, among other ranges, only if the range was the whole object
/// anyway.
fn accept_whole(
    request: &RangeRequest,
    reply: &Reply,
    body_end: Option<u64>,
    total: Option<u64>,
) -> Result<Answer, SourceError> {
    if reply.start != 0 {
        return Err(SourceError::fatal(
            ErrorKind::Internal,
            "the source calls a part of the object the whole",
        ));
    }
    Ok(Answer {
        skip: request.start,
        body_end,
        total,
        whole: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etag(tag: &str) -> Revision {
        Revision {
            etag: Some(tag.into()),
            ..Revision::default()
        }
    }

    fn reply(start: u64, length: u64, total: u64) -> Reply {
        Reply {
            start,
            length: Some(length),
            total: Some(total),
            whole: false,
            revision: etag("\"a\""),
            chunk_hint: None,
            checksum: None,
        }
    }

    fn pin(total: u64) -> ObjectInfo {
        ObjectInfo {
            size: Some(total),
            revision: etag("\"a\""),
            ..ObjectInfo::default()
        }
    }

    fn kind(result: Result<Answer, SourceError>) -> ErrorKind {
        result.expect_err("must be refused").kind()
    }

    #[test]
    fn an_exact_answer_and_a_clipped_one_are_accepted() {
        let request = RangeRequest::new(10, Some(20));
        for length in [1, 5, 10] {
            let answer = accept(&request, Some(&pin(100)), &reply(10, length, 100)).expect("fits");
            assert_eq!(
                answer,
                Answer {
                    skip: 0,
                    body_end: Some(10 + length),
                    total: Some(100),
                    whole: false
                }
            );
        }
    }

    #[test]
    fn every_misfit_is_refused() {
        let request = RangeRequest::new(10, Some(20));
        let pin = pin(100);
        assert_eq!(
            kind(accept(&request, Some(&pin), &reply(11, 10, 100))),
            ErrorKind::Protocol
        );
        assert_eq!(
            kind(accept(&request, Some(&pin), &reply(9, 10, 100))),
            ErrorKind::Protocol
        );
        assert_eq!(
            kind(accept(&request, Some(&pin), &reply(10, 11, 100))),
            ErrorKind::Protocol
        );
        assert_eq!(
            kind(accept(&request, Some(&pin), &reply(10, 0, 100))),
            ErrorKind::Protocol
        );
        assert_eq!(
            kind(accept(&request, Some(&pin), &reply(10, u64::MAX, 100))),
            ErrorKind::Protocol
        );
        assert_eq!(
            kind(accept(&request, Some(&pin), &reply(10, 10, 15))),
            ErrorKind::Protocol
        );
        assert_eq!(
            kind(accept(&request, Some(&pin), &reply(10, 10, 101))),
            ErrorKind::ObjectChanged
        );
        let other = Reply {
            revision: etag("\"b\""),
            ..reply(10, 10, 100)
        };
        assert_eq!(
            kind(accept(&request, Some(&pin), &other)),
            ErrorKind::ObjectChanged
        );
        let silent = Reply {
            revision: Revision::default(),
            ..reply(10, 10, 100)
        };
        assert_eq!(kind(accept(&request, Some(&pin), &silent)), ErrorKind::Protocol);
        let sizeless = Reply {
            total: None,
            ..reply(10, 10, 100)
        };
        assert!(
            accept(&request, Some(&pin), &sizeless).is_ok(),
            "the size is pinned already"
        );
        assert_eq!(kind(accept(&request, None, &sizeless)), ErrorKind::Protocol);
    }

    #[test]
    fn a_whole_body_is_a_stream_at_first_and_a_fault_later() {
        let whole = Reply {
            whole: true,
            ..reply(0, 100, 100)
        };
        let first = accept(&RangeRequest::new(10, Some(20)), None, &whole).expect("the stream");
        assert_eq!(
            first,
            Answer {
                skip: 10,
                body_end: Some(100),
                total: Some(100),
                whole: true
            }
        );
        assert_eq!(
            kind(accept(&RangeRequest::new(0, Some(20)), Some(&pin(100)), &whole)),
            ErrorKind::Protocol
        );
        assert!(accept(&RangeRequest::new(0, Some(100)), Some(&pin(100)), &whole).is_ok());
        assert!(
            accept(&RangeRequest::new(30, None), Some(&pin(100)), &whole).is_ok(),
            "a stream resumes by skipping"
        );
        let sizeless = Reply {
            total: None,
            length: Some(99),
            ..whole.clone()
        };
        assert_eq!(
            kind(accept(&RangeRequest::new(30, None), Some(&pin(100)), &sizeless)),
            ErrorKind::ObjectChanged,
            "the length of the whole is the object's size"
        );
        assert_eq!(
            kind(accept(&RangeRequest::new(101, None), None, &whole)),
            ErrorKind::Range
        );
    }

    #[test]
    fn what_a_later_reply_told_is_held_against_too_but_need_not_be_told_again() {
        let date = |etag: Option<&str>| Reply {
            revision: Revision {
                etag: etag.map(Into::into),
                last_modified: Some("Sun, 06 Nov 1994 08:49:37 GMT".into()),
                ..Revision::default()
            },
            total: None,
            ..reply(0, 10, 100)
        };
        let mut told = ObjectInfo::default();
        for (etag, size, changed) in [
            (None, None, false),
            (Some("\"a\""), None, false),
            (None, Some(100), false),
            (Some("\"a\""), None, false),
            (Some("\"b\""), None, true),
            (None, Some(101), true),
            (Some("W/\"a\""), None, true),
        ] {
            let learned = learn(&mut told, &date(etag), size);
            assert_eq!(
                learned.map_err(|error| error.kind()),
                if changed {
                    Err(ErrorKind::ObjectChanged)
                } else {
                    Ok(())
                },
                "{etag:?} {size:?}"
            );
        }
    }
}
