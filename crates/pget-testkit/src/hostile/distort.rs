//! Turns the correct reply into the one that a fault demands.

use super::fault::Fault;
use super::ledger::Plan;
use super::object::Object;
use super::reply::{Cut, Framing, Part, Reply, Shows, Span, content_range, object_headers, span};
use super::request::Request;
use crate::content::Pattern;

/// Returns the planned reply to `request`.
///
/// Some faults cannot occur in some replies: the body of an error cannot be cut short, for example.
/// Such a fault leaves the reply unchanged and is not counted.
pub(super) fn reply(plan: &Plan, request: &Request) -> Reply {
    let object = match plan.fault() {
        Some(Fault::Revision(object)) => object,
        _ => &plan.route.object,
    };
    let lies_about_identity = matches!(plan.fault(), Some(Fault::Etag(_) | Fault::EtagCycle(_)));
    let right = Reply::right(&plan.route, object, request, !lies_about_identity);
    match plan.fault() {
        Some(fault) => Distortion {
            plan,
            request,
            object,
        }
        .apply(fault, right),
        None => right,
    }
}

struct Distortion<'a> {
    plan: &'a Plan,
    request: &'a Request,
    object: &'a Object,
}

impl Distortion<'_> {
    fn apply(&self, fault: &Fault, reply: Reply) -> Reply {
        let data = matches!(reply.status, 200 | 206);
        match fault {
            Fault::RangeIgnored
            | Fault::WrongOk
            | Fault::Shifted { .. }
            | Fault::Clipped { .. }
            | Fault::Extended { .. }
            | Fault::NoContentRange
            | Fault::ContentRange(_)
            | Fault::Multipart => self.range(fault, reply),
            Fault::ContentEncoding(_)
            | Fault::Etag(_)
            | Fault::EtagCycle(_)
            | Fault::Headers(_)
            | Fault::Revision(_)
            | Fault::Interim { .. } => self.head(fault, reply),
            Fault::HeadLength(_) if self.request.method == "HEAD" => self.head(fault, reply),
            Fault::HeadLength(_) => reply,
            Fault::Answer {
                status,
                headers,
                body,
            } => {
                let body = if body.is_empty() {
                    Vec::new()
                } else {
                    vec![Part::Bytes(body.clone())]
                };
                let mut answer = Reply::new(*status, headers.clone(), body);
                answer.shows = Shows::InHead;
                answer
            }
            Fault::RedirectChain { hops } => self.redirect(*hops, reply),
            Fault::StallBeforeHead => instead(reply, &[], Cut::Stall),
            Fault::Empty => instead(reply, &[], Cut::Fin),
            Fault::ResetBeforeHead => instead(reply, &[], Cut::Reset),
            Fault::CloseOnReuse if self.request.reused => instead(reply, &[], Cut::Fin),
            Fault::CloseOnReuse => reply,
            Fault::Raw(bytes) => instead(reply, bytes, Cut::Fin),
            Fault::CloseAfter => Reply {
                closes: true,
                shows: Shows::AtEnd,
                ..reply
            },
            Fault::DripHead { every } => Reply {
                endless_head: Some(*every),
                shows: Shows::InHead,
                ..reply
            },
            Fault::Delay(delay) => Reply {
                delay: *delay,
                shows: Shows::InHead,
                ..reply
            },
            _ if data => self.body(fault, reply),
            _ => reply,
        }
    }

    /// Returns the byte range of the correct reply, if that is a 206.
    fn part(&self) -> Option<(u64, u64)> {
        match span(self.request.asked, self.object.size) {
            Span::Part { start, end } => Some((start, end)),
            Span::Whole | Span::Outside => None,
        }
    }

    fn range(&self, fault: &Fault, reply: Reply) -> Reply {
        let total = self.object.size;
        let (Some((start, end)), 206) = (self.part(), reply.status) else {
            return reply;
        };
        let labelled = |start, end| {
            let mut headers = object_headers(self.object);
            headers.push(("Content-Range".into(), content_range(start, end, total)));
            Reply::of(206, self.object, start, end, headers)
        };
        let mut reply = match fault {
            Fault::RangeIgnored => Reply::of(200, self.object, 0, total, object_headers(self.object)),
            Fault::WrongOk => Reply::of(200, self.object, 0, end - start, object_headers(self.object)),
            Fault::Shifted { by } => {
                let length = end - start;
                let start = start.saturating_add(*by).min(total - length);
                labelled(start, start + length)
            }
            Fault::Clipped { length } => labelled(start, end.min(start.saturating_add((*length).max(1)))),
            Fault::Extended { by } => labelled(start, end.saturating_add(*by)),
            Fault::NoContentRange => {
                let mut reply = reply;
                reply.remove("content-range");
                reply
            }
            Fault::ContentRange(values) => {
                let mut reply = reply;
                reply.remove("content-range");
                for value in values {
                    let value = value
                        .replace("{start}", &start.to_string())
                        .replace("{end}", &(end - 1).to_string())
                        .replace("{total}", &total.to_string());
                    reply.headers.push(("Content-Range".into(), value));
                }
                reply
            }
            _ => self.multipart(start, end),
        };
        let unchanged = match fault {
            Fault::Shifted { .. } => reply
                .headers
                .contains(&("Content-Range".into(), content_range(start, end, total))),
            Fault::Clipped { length } => *length >= end - start,
            _ => false,
        };
        reply.shows = if unchanged { Shows::Never } else { Shows::InHead };
        reply
    }

    fn multipart(&self, start: u64, end: u64) -> Reply {
        let label = content_range(start, end, self.object.size);
        let before =
            format!("--pget\r\nContent-Type: application/octet-stream\r\nContent-Range: {label}\r\n\r\n");
        let body = vec![
            Part::Bytes(before.into_bytes()),
            Part::Object {
                pattern: self.object.pattern,
                start,
                length: end - start,
            },
            Part::Bytes(b"\r\n--pget--\r\n".to_vec()),
        ];
        let mut reply = Reply::new(206, object_headers(self.object), body);
        reply.set("Content-Type", "multipart/byteranges; boundary=pget".into());
        reply
    }

    fn head(&self, fault: &Fault, mut reply: Reply) -> Reply {
        match fault {
            Fault::ContentEncoding(coding) => reply.set("Content-Encoding", coding.clone()),
            Fault::Etag(None) => reply.remove("etag"),
            Fault::Etag(Some(etag)) => reply.set("ETag", etag.clone()),
            Fault::EtagCycle(etags) => {
                let turn = usize::try_from(self.plan.met_before).unwrap_or_default();
                if let Some(etag) = turn.checked_rem(etags.len()).map(|turn| &etags[turn]) {
                    reply.set("ETag", etag.clone());
                }
            }
            Fault::HeadLength(length) => reply.framing = Framing::Length(length.to_string()),
            Fault::Headers(headers) => reply.headers.extend(headers.iter().cloned()),
            Fault::Interim { status, count } => {
                reply.preface = (format!("HTTP/1.1 {status} Interim\r\n\r\n").into_bytes(), *count);
            }
            // `Revision` has already chosen the object.
            _ => {}
        }
        reply.shows = Shows::InHead;
        reply
    }

    /// The query counts the hops, so the server keeps no state per client.
    fn redirect(&self, hops: u32, reply: Reply) -> Reply {
        let made = self.request.query_number("hop").unwrap_or_default();
        if made >= hops {
            return reply;
        }
        let location = format!("{}?hop={}", self.request.path(), made.saturating_add(1));
        let mut reply = Reply::new(302, vec![("Location".into(), location)], Vec::new());
        reply.shows = Shows::InHead;
        reply
    }

    fn body(&self, fault: &Fault, mut reply: Reply) -> Reply {
        let chunked = || Framing::Chunked {
            extension: String::new(),
            trailers: Vec::new(),
        };
        let length = reply.length();
        reply.shows = Shows::AtEnd;
        match fault {
            Fault::WrongBytes => {
                replace_pattern(&mut reply.body, Pattern::new(!self.object.pattern.seed));
                reply.shows = Shows::InBody;
            }
            Fault::ShortLength { by } => {
                resize(&mut reply.body, length.saturating_sub(*by));
                reply.framing = Framing::Length(reply.length().to_string());
                reply.shows = Shows::InHead;
            }
            Fault::ShortChunked { by } => {
                resize(&mut reply.body, length.saturating_sub(*by));
                reply.framing = chunked();
            }
            Fault::ShortClosed { by } => {
                resize(&mut reply.body, length.saturating_sub(*by));
                reply.framing = Framing::Close;
                reply.closes = true;
            }
            Fault::Reset { after } => reply.cut = Some((*after, Cut::Reset)),
            Fault::Fin { after } => reply.cut = Some((*after, Cut::Fin)),
            Fault::Stall { after } => reply.cut = Some((*after, Cut::Stall)),
            Fault::LongLength { by } => {
                resize(&mut reply.body, length.saturating_add(*by));
                reply.framing = Framing::Length(reply.length().to_string());
                reply.shows = Shows::InHead;
            }
            Fault::LongChunked { by } => {
                resize(&mut reply.body, length.saturating_add(*by));
                reply.framing = chunked();
                // The excess has a chunk of its own, which the server writes before the end of the
                // body.
                reply.shows = Shows::InLastPiece;
            }
            Fault::Excess { by } => reply.excess = *by,
            Fault::Drip {
                bytes,
                every,
                chunked: as_chunks,
            } => {
                (reply.piece, reply.pause, reply.shows) = ((*bytes).max(1), *every, Shows::InBody);
                if *as_chunks {
                    reply.framing = chunked();
                }
            }
            Fault::Chunked {
                bytes,
                extension,
                trailers,
            } => {
                reply.piece = (*bytes).max(1);
                reply.framing = Framing::Chunked {
                    extension: extension.clone(),
                    trailers: trailers.clone(),
                };
                reply.shows = Shows::InHead;
            }
            Fault::ContentLength(text) => {
                reply.framing = Framing::Length(text.clone());
                (reply.closes, reply.shows) = (true, Shows::InHead);
            }
            Fault::Pace { bytes_per_second } => {
                let rate = (*bytes_per_second).max(1);
                // Twenty pieces per second are smooth enough for every deadline in the tests.
                reply.piece =
                    usize::try_from(rate / 20).map_or(reply.piece, |piece| piece.clamp(1, reply.piece));
                (reply.bytes_per_second, reply.shows) = (Some(rate), Shows::InBody);
            }
            other => unreachable!("{other:?} is not a fault of the body"),
        }
        // A cut past the end, or in an empty body, would not be a fault.
        if reply.cut.is_some_and(|(after, _)| after >= length) {
            (reply.cut, reply.shows) = (None, Shows::Never);
        }
        reply
    }
}

fn instead(mut reply: Reply, bytes: &[u8], end: Cut) -> Reply {
    reply.instead = Some((bytes.to_vec(), end));
    reply.shows = Shows::AtEnd;
    reply
}

fn replace_pattern(body: &mut [Part], other: Pattern) {
    for part in body {
        if let Part::Object { pattern, .. } = part {
            *pattern = other;
        }
    }
}

/// Changes the length of a body with a single part. Pattern bytes continue past the object's end.
fn resize(body: &mut [Part], to: u64) {
    if let [Part::Object { length, .. }] = body {
        *length = to;
    }
}
