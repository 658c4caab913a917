//! The value of `Content-Range` (RFC 9110 section 14.4).
//!
//! Pure. Invariant: a parsed value has `start <= last`, and `last < total` where the total is
//! stated, so that no arithmetic on it can overflow.

use std::{fmt, ops::Range};

/// What a `Content-Range` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "the two forms of RFC 9110")]
pub enum ContentRange {
    /// `bytes 0-99/1000` or `bytes 0-99/*`.
    Part {
        /// Offset of the first byte.
        start: u64,
        /// Offset of the last byte, inclusive as on the wire.
        last: u64,
        /// The object's size; `None` for `*`.
        total: Option<u64>,
    },
    /// `bytes */1000`, of an answer 416.
    Unsatisfied {
        /// The object's size.
        total: u64,
    },
}

/// Not the value of a `Content-Range` in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadContentRange;

impl fmt::Display for BadContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a byte range")
    }
}

impl std::error::Error for BadContentRange {}

impl ContentRange {
    /// Reads a header value.
    ///
    /// The form is that of RFC 9110, except that old servers leave the unit out, or put `:` or `=`
    /// after it, and that white space around the range does not count.
    ///
    /// # Errors
    /// If it is of another form, or describes no possible range (reversed, beyond the total, an
    /// end that cannot be counted).
    pub fn parse(value: &[u8]) -> Result<Self, BadContentRange> {
        let text = std::str::from_utf8(value).map_err(|_| BadContentRange)?;
        let rest = without_unit(text.trim_matches([' ', '\t']))?;
        let (range, total) = rest.split_once('/').ok_or(BadContentRange)?;
        if range == "*" {
            return Ok(Self::Unsatisfied {
                total: number(total)?,
            });
        }
        let (start, last) = range.split_once('-').ok_or(BadContentRange)?;
        let (start, last) = (number(start)?, number(last)?);
        let total = if total == "*" { None } else { Some(number(total)?) };
        // An end of u64::MAX has no offset after it.
        let fits = start <= last && last < u64::MAX && total.is_none_or(|total| last < total);
        if fits {
            Ok(Self::Part { start, last, total })
        } else {
            Err(BadContentRange)
        }
    }

    /// Returns the total that a header value states, also if no range fits it.
    pub(crate) fn total(value: &[u8]) -> Option<u64> {
        let (_, total) = std::str::from_utf8(value).ok()?.rsplit_once('/')?;
        number(total.trim_matches([' ', '\t'])).ok()
    }

    /// The bytes it covers, end exclusive; `None` for an unsatisfied one.
    #[must_use]
    pub const fn range(&self) -> Option<Range<u64>> {
        match *self {
            // `last < u64::MAX` by `parse`; saturating, as the fields are public.
            Self::Part { start, last, .. } => Some(start..last.saturating_add(1)),
            Self::Unsatisfied { .. } => None,
        }
    }
}

/// What follows the unit, which must be bytes if there is one.
fn without_unit(text: &str) -> Result<&str, BadContentRange> {
    let end = text.find(|letter: char| !letter.is_ascii_alphabetic());
    let (unit, rest) = text.split_at(end.unwrap_or(text.len()));
    let range = rest.trim_start_matches([' ', '\t', ':', '=']);
    let is_apart = range.len() < rest.len();
    if unit.is_empty() && !is_apart || unit.eq_ignore_ascii_case("bytes") && is_apart {
        Ok(range)
    } else {
        Err(BadContentRange)
    }
}

/// Digits only: `u64::from_str` would take a sign.
pub(crate) fn number(digits: &str) -> Result<u64, BadContentRange> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadContentRange);
    }
    digits.parse().map_err(|_| BadContentRange)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_the_rfc() {
        let part = |start, last, total| Ok(ContentRange::Part { start, last, total });
        assert_eq!(ContentRange::parse(b"bytes 0-0/1"), part(0, 0, Some(1)));
        assert_eq!(ContentRange::parse(b"Bytes 5-9/*"), part(5, 9, None));
        let most = format!("bytes 0-{}/{}", u64::MAX - 1, u64::MAX);
        assert_eq!(
            ContentRange::parse(most.as_bytes()),
            part(0, u64::MAX - 1, Some(u64::MAX))
        );
        assert_eq!(
            ContentRange::parse(b"bytes */0"),
            Ok(ContentRange::Unsatisfied { total: 0 })
        );
    }

    #[test]
    fn case_116_forms_of_old_servers() {
        for value in [
            "5-9/10",
            "bytes  5-9/10",
            " bytes 5-9/10\t",
            "BYTES\t5-9/10",
            "bytes: 5-9/10",
            "bytes:5-9/10",
            "bytes=5-9/10",
        ] {
            let (start, last, total) = (5, 9, Some(10));
            let part = ContentRange::Part { start, last, total };
            assert_eq!(ContentRange::parse(value.as_bytes()), Ok(part), "{value:?}");
        }
        let unsatisfied = Ok(ContentRange::Unsatisfied { total: 7 });
        assert_eq!(ContentRange::parse(b"*/7"), unsatisfied);
    }

    #[test]
    fn case_10_impossible_values_are_refused_without_panic() {
        let max = u64::MAX;
        let bad = [
            String::new(),
            "bytes".into(),
            "bytes ".into(),
            "bytes 0-9".into(),
            "bytes 0-9/".into(),
            "bytes 0-/10".into(),
            "bytes -9/10".into(),
            "bytes -5--1/10".into(),
            "bytes +0-+9/+10".into(),
            "bytes 9-0/10".into(),
            "bytes 0-10/10".into(),
            "bytes 0-9/-1".into(),
            "bytes 0 - 9/10".into(),
            "bytes 0-9 /10".into(),
            "bytes 0-9/1 0".into(),
            "bytes0-9/10".into(),
            "=0-9/10".into(),
            "byte 0-9/10".into(),
            "bytes 0-9/10, bytes 0-9/10".into(),
            "bytes 0-9/10/10".into(),
            "items 0-9/10".into(),
            "bytes */*".into(),
            "bytes */-1".into(),
            "bytes 0x0-0x9/0x10".into(),
            format!("bytes {max}-{max}/*"),
            format!("bytes 0-{max}/*"),
            format!("bytes {max}-{max}/{max}"),
            format!("bytes 0-{max}/{max}"),
            "bytes 0-9/18446744073709551616".into(),
            format!("bytes 0-{}/*", "9".repeat(30)),
            format!("bytes {}-9/*", "0".repeat(60_000) + "a"),
            "bytes \u{664}-9/10".into(),
        ];
        for value in bad {
            assert_eq!(
                ContentRange::parse(value.as_bytes()),
                Err(BadContentRange),
                "{value:.60}"
            );
        }
        assert_eq!(ContentRange::parse(b"bytes \xff-9/10"), Err(BadContentRange));
    }
}
