//! `Content-Range`, and the checks of an answer's headers: what the whole chain takes for good must
//! be so by a plain reading of the headers.

use std::sync::Arc;

use http::HeaderMap;
use pget_core::{Collector, ObjectInfo, RangeRequest, Revision};

use crate::{
    ContentRange,
    fuzzing::Front,
    head::HeadScanner,
    reply::{coding, once},
    reply_from_parts,
};

/// The input's bytes as a `Content-Range`, and its rest as a head that answers a request. Numbers
/// in the request come from the input's front.
pub fn content_range(input: &[u8]) {
    value(input);
    let mut front = Front(input);
    let flags = front.byte();
    let start = u64::from(front.byte());
    let end = start + 1 + u64::from(front.byte());
    let size = u64::from(front.byte()) * 2;
    if let Ok(Some((head, _))) = HeadScanner::default().scan(front.0) {
        let mut request = RangeRequest::new(start, Some(end));
        if flags & 1 != 0 {
            request.pinned = Some(Arc::new(ObjectInfo {
                size: (flags & 2 != 0).then_some(size),
                revision: Revision {
                    etag: (flags & 4 != 0).then(|| "\"a\"".into()),
                    last_modified: (flags & 8 != 0).then(|| "then".into()),
                    ..Revision::default()
                },
                ranges: Some(flags & 16 != 0),
                ..ObjectInfo::default()
            }));
        }
        answer(&request, head.status.as_u16(), &head.headers, || {
            reply_from_parts(&request, head.status, &head.headers)
        });
    }
}

/// A value is taken exactly if it is what its numbers are written as.
fn value(text: &[u8]) {
    let Ok(parsed) = ContentRange::parse(text) else {
        return;
    };
    let text = std::str::from_utf8(text).expect("it is ASCII").trim();
    // Leading zeros are numbers, too.
    let range = &text[range_at(text)..];
    let plain: Vec<&str> = range
        .split_inclusive(['-', '/'])
        .map(|part| match part.trim_start_matches('0') {
            "" | "-" | "/" if part.starts_with('0') => &part[part.rfind('0').unwrap_or(0)..],
            rest => rest,
        })
        .collect();
    let (again, covered) = match parsed {
        ContentRange::Part { start, last, total } => {
            assert!(start <= last && last < u64::MAX);
            assert!(total.is_none_or(|total| last < total));
            let total = total.map_or_else(|| "*".to_owned(), |total| total.to_string());
            (format!("{start}-{last}/{total}"), Some(start..last + 1))
        }
        ContentRange::Unsatisfied { total } => (format!("*/{total}"), None),
    };
    assert_eq!(plain.concat(), again, "{text}");
    let unit = text[..range_at(text)].trim_matches([' ', '\t', ':', '=']);
    assert!(unit.is_empty() || unit.eq_ignore_ascii_case("bytes"));
    assert_eq!(parsed.range(), covered);
}

/// Where the range begins after its unit, which may be left out.
fn range_at(text: &str) -> usize {
    text.find(|letter: char| letter.is_ascii_digit() || letter == '*')
        .expect("a range has a number")
}

/// The header checks (cases 1 to 16 of docs/reliability.md), read naively.
fn answer(
    request: &RangeRequest,
    status: u16,
    headers: &HeaderMap,
    reply: impl Fn() -> Result<pget_core::Reply, pget_core::SourceError>,
) {
    let Ok(reply) = reply() else { return };
    let collector = Collector::new(request.clone());
    let mut writer = collector.writer().expect("no other has it");
    if writer.begin(reply.clone()).is_err() {
        return;
    }
    let only = |name: &str| {
        let mut values = headers
            .get_all(name)
            .iter()
            .map(|value| std::str::from_utf8(once(value.as_bytes())).unwrap_or("\u{0}"));
        let first = values.next();
        assert!(values.all(|other| Some(other) == first), "two {name} that differ");
        first.map(str::trim)
    };
    let end = request.end.expect("it has one");
    let pinned = request.pinned.as_deref();
    let mut lengths = headers.get_all("content-length").iter().flat_map(|value| {
        let list = value.to_str().expect("digits").split(',');
        list.map(|text| text.trim().parse::<u128>().expect("digits"))
    });
    let length = lengths.next();
    assert!(lengths.all(|other| Some(other) == length), "two lengths");
    if let Some(range) = only("content-range").filter(|_| status != 416) {
        assert!(matches!(status, 200 | 206), "status {status}");
        let numbers: Vec<&str> = range[range_at(range)..].split(['-', '/']).collect();
        let first: u128 = numbers[0].parse().expect("digits");
        let last: u128 = numbers[1].parse().expect("digits");
        assert_eq!(first, u128::from(request.start), "{range}");
        assert!(last < u128::from(end) && last >= first, "{range}");
        match (numbers[2], pinned.and_then(|info| info.size)) {
            // Never as the first answer, which must state the size.
            ("*", _) => assert!(pinned.is_some(), "{range}"),
            (total, Some(size)) => assert_eq!(total.parse(), Ok(size), "{range}"),
            (total, None) => assert!(total.parse::<u64>().is_ok(), "{range}"),
        }
        assert!(length.is_none_or(|length| length == last - first + 1), "{range}");
        assert_eq!(
            (reply.start.into(), reply.length.map(Into::into)),
            (first, Some(last - first + 1))
        );
    } else if status == 416 {
        assert_eq!(reply.length, Some(0));
        assert_eq!(
            only("content-range").map(|range| range[range_at(range) + 2..].parse()),
            Some(Ok(request.start))
        );
    } else {
        // A whole body is the first answer's stream, the whole object anyway, or of a source that
        // never served ranges.
        assert_eq!(status, 200);
        assert!(reply.whole && reply.start == 0);
        let everything = request.start == 0 && length == Some(end.into());
        assert!(
            pinned.is_none_or(|info| everything || info.ranges == Some(false)),
            "all of it for a range"
        );
        let size = pinned.and_then(|info| info.size);
        assert!(
            size.is_none_or(|size| length.is_none_or(|length| length == size.into())),
            "another size"
        );
    }
    if let Some(coding) = coding(headers).filter(|_| status != 416) {
        let tag = only("etag").filter(|tag| !tag.is_empty() && *tag != "\"\"");
        let weak = tag.is_some_and(|tag| tag.starts_with("W/") || tag.starts_with("w/"));
        let told = [
            "last-modified",
            "ais-version",
            "ais-checksum-value",
            "x-amz-version-id",
        ]
        .iter()
        .chain(&["x-goog-generation", "x-ms-version-id"])
        .any(|name| headers.contains_key(*name));
        let told = told || tag.is_some();
        assert!(!weak && told && reply.total.is_some(), "coded: {coding}");
    }
    if status == 206 {
        let kind = only("content-type").unwrap_or_default().to_ascii_lowercase();
        assert!(
            kind.split(';').next().map(str::trim) != Some("multipart/byteranges"),
            "(e)"
        );
    }
    if let Some(info) = pinned {
        let (tag, date) = (only("etag"), only("last-modified"));
        match (&info.revision.etag, &info.revision.last_modified) {
            // Quotes may be left out.
            (Some(_), _) => assert!(matches!(tag, Some("\"a\"" | "a")), "(f) {tag:?}"),
            (None, Some(pin)) => assert_eq!(date, Some(pin.as_str()), "(f)"),
            (None, None) => {}
        }
    }
}
