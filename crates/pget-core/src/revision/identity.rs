//! The identity of an object's content, and the rule by which a later reply is compared with the
//! first.
//!
//! Pure: no I/O. Called by the download when a reply begins, and by sources that compare on their
//! own.
//!
//! The rule (RFC 9110 section 8.8 for validators): two replies are of one revision if every
//! identity that both state is equal, and at least one *strong* identity is stated by both: a
//! strong ETag, a version together with a checksum, a version alone where the source vouches for
//! it, a checksum, or a generation. Failing those, Last-Modified together with the size (which the
//! caller compares) will do; a weak ETag never does by itself, as it stays equal over changed
//! bytes.

use std::fmt;

use crate::Published;

/// A checksum of the whole object, as the server publishes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Checksum {
    /// The algorithm by the server's name for it, lower case: `xxhash2`, `crc32c`, `md5`, …
    pub algorithm: String,
    /// The value as the server writes it.
    pub value: String,
}

/// The identity of an object's content. Every part is optional.
///
/// # Examples
/// ```
/// use pget_core::{Match, Revision};
/// let mut before = Revision::default();
/// before.etag = Some("\"a\"".into());
/// let mut after = before.clone();
/// assert_eq!(before.compare(&after), Match::Same);
/// after.etag = Some("\"b\"".into());
/// assert!(matches!(before.compare(&after), Match::Changed(_)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Revision {
    /// The ETag with its quotes, and with `W/` if it is weak.
    pub etag: Option<String>,
    /// A version: AIStore's `Ais-Version`, S3's `x-amz-version-id`, GCS's generation, a file's
    /// device, inode and change time.
    pub version: Option<String>,
    /// The published checksum of the whole object.
    pub checksum: Option<Checksum>,
    /// `Last-Modified`, as sent.
    pub last_modified: Option<String>,
}

/// How a later reply's revision stands to the pinned one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// The same content.
    Same,
    /// Other content; the text says which identity differs.
    Changed(String),
    /// Nothing comparable was said, so the reply cannot be trusted.
    Untold,
}

impl Revision {
    /// Whether there is anything to hold a later reply against.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.strong_etag().is_some()
            || self.version.is_some()
            || self.checksum.is_some()
            || self.last_modified.is_some()
    }

    /// The ETag, if it is a strong one.
    #[must_use]
    pub fn strong_etag(&self) -> Option<&str> {
        self.etag
            .as_deref()
            .filter(|etag| !etag.starts_with("W/") && !etag.starts_with("w/"))
    }

    /// Adds what `later` states and this does not.
    pub(crate) fn learn(&mut self, later: &Self) {
        fn fill<T: Clone>(known: &mut Option<T>, told: &Option<T>) {
            if known.is_none() {
                known.clone_from(told);
            }
        }
        fill(&mut self.etag, &later.etag);
        fill(&mut self.version, &later.version);
        fill(&mut self.checksum, &later.checksum);
        fill(&mut self.last_modified, &later.last_modified);
    }

    /// Holds a later reply against this, the pinned revision. The size is compared by the caller.
    #[must_use]
    pub fn compare(&self, later: &Self) -> Match {
        let mut strong = false;
        let mut weak = false;
        if let (Some(pinned), Some(now)) = (&self.etag, &later.etag) {
            if normal_etag(pinned) != normal_etag(now) {
                return Match::Changed(format!("ETag was {pinned}, is {now}"));
            }
            strong |= self.strong_etag().is_some();
        }
        if let (Some(pinned), Some(now)) = (&self.version, &later.version) {
            if pinned != now {
                return Match::Changed(format!("version was {pinned}, is {now}"));
            }
            strong = true;
        }
        if let (Some(pinned), Some(now)) = (&self.checksum, &later.checksum)
            && pinned.algorithm == now.algorithm
        {
            if pinned.value != now.value {
                return Match::Changed(format!(
                    "{} was {}, is {}",
                    pinned.algorithm, pinned.value, now.value
                ));
            }
            strong = true;
        }
        if let (Some(pinned), Some(now)) = (&self.last_modified, &later.last_modified) {
            // With an equal strong identity, replicas may well disagree on the second of the write.
            if pinned != now && !strong {
                return Match::Changed(format!("Last-Modified was {pinned}, is {now}"));
            }
            weak = true;
        }
        // Last-Modified only serves when the pin has nothing stronger: a reply that drops the
        // pinned ETag is not to be trusted.
        let pin_is_strong = self.strong_etag().is_some() || self.version.is_some() || self.checksum.is_some();
        if strong || (weak && !pin_is_strong) {
            Match::Same
        } else {
            Match::Untold
        }
    }
}

/// RFC 9110 wants quotes; some servers leave them out on some replies.
fn normal_etag(etag: &str) -> (bool, &str) {
    let etag = etag.trim();
    let (weak, rest) = match etag.strip_prefix("W/").or_else(|| etag.strip_prefix("w/")) {
        Some(rest) => (true, rest),
        None => (false, etag),
    };
    (
        weak,
        rest.strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .unwrap_or(rest),
    )
}

impl fmt::Display for Revision {
    /// The strongest identity, for people: `etag "…"`, `version 3`, …; `unknown` when there is
    /// none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(etag) = self.strong_etag() {
            write!(f, "etag {etag}")
        } else if let Some(version) = &self.version {
            match &self.checksum {
                Some(sum) => write!(f, "version {version}, {} {}", sum.algorithm, sum.value),
                None => write!(f, "version {version}"),
            }
        } else if let Some(sum) = &self.checksum {
            write!(f, "{} {}", sum.algorithm, sum.value)
        } else if let Some(time) = &self.last_modified {
            write!(f, "last modified {time}")
        } else {
            f.write_str("unknown")
        }
    }
}

/// Facts about an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Size in bytes; `None` when the server does not say before the end.
    pub size: Option<u64>,
    /// The identity of the content.
    pub revision: Revision,
    /// The range length that suits the source (its own chunks), in bytes, already capped by the
    /// source.
    pub chunk_hint: Option<u64>,
    /// Whether the source serves ranges; `None` when that is not known without trying.
    pub ranges: Option<bool>,
    /// The checksum of the whole object, if that is published.
    pub checksum: Option<Published>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etag(value: &str) -> Revision {
        Revision {
            etag: Some(value.into()),
            ..Revision::default()
        }
    }

    #[test]
    fn equal_strong_etags_are_the_same_with_or_without_quotes() {
        assert_eq!(etag("\"a\"").compare(&etag("\"a\"")), Match::Same);
        assert_eq!(etag("\"a\"").compare(&etag("a")), Match::Same);
        assert!(matches!(etag("\"a\"").compare(&etag("\"A\"")), Match::Changed(_)));
    }

    #[test]
    fn a_weak_etag_is_no_identity_but_a_differing_one_is_a_change() {
        assert!(!etag("W/\"a\"").is_identity());
        assert_eq!(etag("W/\"a\"").compare(&etag("W/\"a\"")), Match::Untold);
        assert!(matches!(
            etag("W/\"a\"").compare(&etag("W/\"b\"")),
            Match::Changed(_)
        ));
        assert!(matches!(
            etag("\"a\"").compare(&etag("W/\"a\"")),
            Match::Changed(_)
        ));
        let dated = |tag: &str| Revision {
            last_modified: Some("now".into()),
            ..etag(tag)
        };
        assert_eq!(dated("W/\"a\"").compare(&dated("W/\"a\"")), Match::Same);
    }

    #[test]
    fn a_reply_without_the_pinned_identity_is_untold() {
        let pinned = Revision {
            last_modified: Some("now".into()),
            ..etag("\"a\"")
        };
        let later = Revision {
            last_modified: Some("now".into()),
            ..Revision::default()
        };
        assert_eq!(pinned.compare(&later), Match::Untold);
        assert_eq!(pinned.compare(&Revision::default()), Match::Untold);
    }

    #[test]
    fn version_alone_does_not_hide_another_checksum() {
        let with = |value: &str| Revision {
            version: Some("1".into()),
            checksum: Some(Checksum {
                algorithm: "xxhash2".into(),
                value: value.into(),
            }),
            ..Revision::default()
        };
        assert_eq!(with("aa").compare(&with("aa")), Match::Same);
        assert!(matches!(with("aa").compare(&with("bb")), Match::Changed(_)));
    }
}
