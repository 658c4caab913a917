//! A target's interpretation of the `Range` header, oddities included.
//!
//! It follows exchanges 13 to 27 of those recorded from AIStore 5.0.

use std::ops::Range;

/// The request of the header for an object of a known size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// These bytes. The range may be empty (`bytes=-0`).
    Bytes(Range<u64>),
    /// No range. A real target panics.
    Nothing,
    /// More than one range.
    Several,
    /// Only ranges past the end. The text is their list in the error message.
    Unsatisfiable(String),
    /// Not a range. The text is the reason.
    Malformed(String),
}

pub(super) fn parse(header: &str, size: u64) -> Asked {
    let Some(list) = header.strip_prefix("bytes=") else {
        return Asked::Malformed(format!("read range \"{header}\" is invalid (prefix)"));
    };
    let mut ranges = Vec::new();
    let mut past_end = false;
    for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        match one(item, header, size) {
            Ok(Some(range)) => ranges.push(range),
            Ok(None) => past_end = true,
            Err(why) => return Asked::Malformed(why),
        }
    }
    match ranges.len() {
        0 if past_end => Asked::Unsatisfiable(list.split(',').collect::<Vec<_>>().join(" ")),
        0 => Asked::Nothing,
        1 => Asked::Bytes(ranges.remove(0)),
        _ => Asked::Several,
    }
}

/// Parses one range. Returns `None` if it begins past the end.
fn one(item: &str, header: &str, size: u64) -> Result<Option<Range<u64>>, String> {
    let Some((start, end)) = item.split_once('-') else {
        return Err(format!("read range \"{header}\" is invalid (-)"));
    };
    let (start, end) = (start.trim(), end.trim());
    if start.is_empty() {
        if end.is_empty() || end.starts_with('-') {
            return Err(format!(
                "read range \"{item}\" is invalid as per RFC 7233 Section 2.1"
            ));
        }
        let Some(length) = number(end) else {
            return Err(format!(
                "read range \"{item}\" is invalid (see RFC 7233 Section 2.1)"
            ));
        };
        return Ok(Some(size - length.min(size)..size));
    }
    let Some(from) = number(start) else {
        return Err(format!("read range \"{item}\" is invalid (start)"));
    };
    if from >= size {
        return Ok(None);
    }
    if end.is_empty() {
        return Ok(Some(from..size));
    }
    match number(end) {
        Some(last) if last >= from => Ok(Some(from..last.min(size - 1) + 1)),
        _ => Err(format!("read range \"{item}\" is invalid (end)")),
    }
}

/// Parses a number. The server's numbers are signed.
fn number(text: &str) -> Option<u64> {
    text.parse::<i64>()
        .ok()
        .and_then(|number| u64::try_from(number).ok())
}

/// Returns `Content-Range` as the server prints it.
///
/// The end of an empty range is before its start, and may be −1.
pub(super) fn content_range(range: &Range<u64>, size: u64) -> String {
    let last = i128::from(range.end) - 1;
    format!("bytes {}-{last}/{size}", range.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_recorded() {
        assert_eq!(parse("bytes=0-9", 100), Asked::Bytes(0..10));
        assert_eq!(parse("bytes=90-1000", 100), Asked::Bytes(90..100));
        assert_eq!(parse("bytes=95-", 100), Asked::Bytes(95..100));
        assert_eq!(parse("bytes=-10", 100), Asked::Bytes(90..100));
        assert_eq!(parse("bytes=-1000", 100), Asked::Bytes(0..100));
        assert_eq!(
            parse("bytes=100-200", 100),
            Asked::Unsatisfiable("100-200".into())
        );
        assert_eq!(parse("bytes=", 100), Asked::Nothing);
        assert_eq!(parse("bytes=0-1,5-6", 100), Asked::Several);
        assert!(matches!(parse("bytes=9-2", 100), Asked::Malformed(_)));
        assert!(matches!(parse("items=0-1", 100), Asked::Malformed(_)));
        assert_eq!(content_range(&(100..100), 100), "bytes 100-99/100");
        assert_eq!(content_range(&(0..0), 0), "bytes 0--1/0");
    }
}
