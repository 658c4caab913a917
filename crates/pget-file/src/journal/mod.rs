//! The journal of a part: whose bytes it holds, and which of them. Pure: bytes in, bytes out.
//!
//! It is a file of two slots of [`SLOT`] bytes, written in turn, so that the one before stays whole
//! while the other is written. A slot is a line `pget-journal VERSION SEQUENCE LENGTH SHA256` and
//! LENGTH bytes of JSON; the digest covers the rest of the line, too. Of the whole slots, the one
//! with the highest sequence counts; either is true, as bytes that have landed stay. Anything else
//! (garbled, cut short, of another version) counts as no journal.
//!
//! It holds no credential: the object by its name for messages, and its address as a digest,
//! without user, password and signature.

pub(crate) mod extents;
#[cfg(any(test, fuzzing))]
#[path = "../../../../fuzz/oracles/journal.rs"]
pub(crate) mod oracle;
pub(crate) mod reader;
pub(crate) mod writer;

use std::ops::Range;

use pget_core::{Checksum, Match, ObjectInfo, Revision};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use extents::Extents;

/// Bytes of a slot: room for [`MOST_EXTENTS`] and long identities.
pub(crate) const SLOT: usize = 256 << 10;
/// The most ranges that are written down, the longest. There are about as many as chunks are under
/// way at once.
const MOST_EXTENTS: usize = 4096;
const MAGIC: &str = "pget-journal";
const VERSION: u32 = 2;
/// A head line is shorter.
const LONGEST_HEAD: usize = 160;

/// What a part holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Journal {
    /// The part's inode number: a journal speaks of one file.
    pub(crate) inode: u64,
    /// When the part was made, in nanoseconds since 1970, where the file system keeps that: another
    /// file may get the number of one that was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) born: Option<u64>,
    /// What was asked for.
    pub(crate) asked: Asked,
    /// The object's size.
    pub(crate) size: u64,
    /// The identity of its content.
    pub(crate) revision: Identity,
    /// What has landed, in offsets of the object, and was synced.
    pub(crate) landed: Extents,
}

/// What a download was asked for; a part is continued only for the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The object's name for messages, redacted.
    pub object: String,
    /// The fingerprint of its address.
    pub address: String,
    /// The first byte wanted.
    pub offset: u64,
    /// Bytes wanted; `None`: to the end.
    pub length: Option<u64>,
}

/// [`Revision`], as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    etag: Option<String>,
    version: Option<String>,
    checksum: Option<(String, String)>,
    last_modified: Option<String>,
}

impl Journal {
    /// The range of the object that the whole part will hold.
    pub(crate) fn range(&self) -> Range<u64> {
        let end = self.asked.length.map_or(self.size, |length| {
            self.asked.offset.saturating_add(length).min(self.size)
        });
        self.asked.offset..end.max(self.asked.offset)
    }

    /// The revision that every reply must be of, which is also what the caller has `pinned`.
    ///
    /// # Errors
    /// How the two differ; or that they say nothing that can be compared.
    pub(crate) fn pinned_with(&self, pinned: Option<ObjectInfo>) -> Result<ObjectInfo, String> {
        let revision: Revision = self.revision.clone().into();
        let Some(pinned) = pinned else {
            return Ok(ObjectInfo {
                size: Some(self.size),
                revision,
                ..ObjectInfo::default()
            });
        };
        match pinned.revision.compare(&revision) {
            Match::Same => {}
            Match::Changed(how) => return Err(how),
            Match::Untold => return Err(format!("it is of {revision}, and pinned is {}", pinned.revision)),
        }
        if let Some(size) = pinned.size.filter(|size| *size != self.size) {
            return Err(format!("size was {size}, is {}", self.size));
        }
        // Replies must not differ from either.
        Ok(ObjectInfo {
            size: Some(self.size),
            revision: Revision {
                etag: revision.etag.or(pinned.revision.etag),
                version: revision.version.or(pinned.revision.version),
                checksum: revision.checksum.or(pinned.revision.checksum),
                last_modified: revision.last_modified.or(pinned.revision.last_modified),
            },
            ..pinned
        })
    }

    /// The bytes of slot `sequence % 2`; `None` if they do not fit in one.
    pub(crate) fn slot(&self, sequence: u64) -> Option<Vec<u8>> {
        let bounded = Self {
            landed: self.landed.clone().at_most(MOST_EXTENTS),
            ..self.clone()
        };
        let body = serde_json::to_vec(&bounded).ok()?;
        let head = format!("{MAGIC} {VERSION} {sequence} {}", body.len());
        let mut bytes = format!("{head} {}\n", checksum(&head, &body)).into_bytes();
        bytes.extend_from_slice(&body);
        (bytes.len() <= SLOT).then_some(bytes)
    }

    /// The journal and its sequence, from a file's bytes.
    pub(crate) fn read(bytes: &[u8]) -> Option<(Self, u64)> {
        let slots = bytes.chunks(SLOT).take(2);
        slots
            .filter_map(Self::read_slot)
            .max_by_key(|(_, sequence)| *sequence)
    }

    /// Whether the file's bytes, from which [`read`](Self::read) got nothing, have held an entry:
    /// the second entry is written only after the first one was whole. A crash leaves one of them.
    pub(crate) fn is_garbled(bytes: &[u8]) -> bool {
        let second = &bytes[..bytes.len().min(SLOT)];
        second.iter().any(|byte| *byte != 0)
    }

    fn read_slot(bytes: &[u8]) -> Option<(Self, u64)> {
        let line = bytes.iter().take(LONGEST_HEAD).position(|byte| *byte == b'\n')?;
        let (head, digest) = str::from_utf8(&bytes[..line]).ok()?.rsplit_once(' ')?;
        let mut words = head.split(' ');
        if words.next() != Some(MAGIC) || words.next() != Some(&VERSION.to_string()) {
            return None;
        }
        let sequence = words.next()?.parse().ok()?;
        let length: usize = words.next()?.parse().ok()?;
        let body = bytes[line + 1..].get(..length)?;
        if words.next().is_some() || checksum(head, body) != digest {
            return None;
        }
        let journal: Self = serde_json::from_slice(body).ok()?;
        journal.is_sound().then_some((journal, sequence))
    }

    fn is_sound(&self) -> bool {
        self.asked.offset <= self.size && self.landed.is_within(&self.range())
    }
}

impl From<Identity> for Revision {
    fn from(identity: Identity) -> Self {
        Self {
            etag: identity.etag,
            version: identity.version,
            checksum: identity
                .checksum
                .map(|(algorithm, value)| Checksum { algorithm, value }),
            last_modified: identity.last_modified,
        }
    }
}

impl From<&Revision> for Identity {
    fn from(revision: &Revision) -> Self {
        let revision = revision.clone();
        Self {
            etag: revision.etag,
            version: revision.version,
            checksum: revision.checksum.map(|sum| (sum.algorithm, sum.value)),
            last_modified: revision.last_modified,
        }
    }
}

fn checksum(head: &str, body: &[u8]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(head);
    hasher.update("\n");
    hasher.update(body);
    hex::encode(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(ranges: &[(u64, u64)]) -> Journal {
        let mut landed = Extents::default();
        for (start, end) in ranges {
            landed.insert(*start..*end);
        }
        Journal {
            inode: 42,
            born: Some(1_700_000_000_000_000_000),
            asked: Asked {
                object: "http://host/o".into(),
                address: "d".repeat(64),
                offset: 10,
                length: None,
            },
            size: 1 << 40,
            revision: Identity::from(&Revision {
                etag: Some("\"a\"".into()),
                checksum: Some(Checksum {
                    algorithm: "md5".into(),
                    value: "b".into(),
                }),
                ..Revision::default()
            }),
            landed,
        }
    }

    /// A file with these journals as its sequences 1, 2, ….
    fn file(journals: &[Journal]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (sequence, journal) in (1..).zip(journals) {
            let slot = journal.slot(sequence).expect("it fits");
            let at = if sequence % 2 == 0 { 0 } else { SLOT };
            bytes.resize(bytes.len().max(at + slot.len()), 0);
            bytes[at..at + slot.len()].copy_from_slice(&slot);
        }
        bytes
    }

    #[test]
    fn the_latest_of_two_slots_counts() {
        let all = [
            journal(&[(10, 20)]),
            journal(&[(10, 30)]),
            journal(&[(10, 30), (50, 60)]),
        ];
        for count in 1..=all.len() {
            let read = Journal::read(&file(&all[..count]));
            assert_eq!(read, Some((all[count - 1].clone(), count as u64)));
        }
        assert_eq!(Journal::read(b""), None);
        let revision: Revision = all[0].revision.clone().into();
        assert_eq!(Identity::from(&revision), all[0].revision);
        assert_eq!(all[0].pinned_with(None).map(|info| info.size), Ok(Some(1 << 40)));
    }

    #[test]
    fn whatever_byte_is_garbled_only_what_was_true_is_read() {
        let (older, newer) = (journal(&[(10, 20)]), journal(&[(10, 30)]));
        let good = file(&[older.clone(), newer.clone()]);
        let newest = newer.slot(2).expect("it fits").len();
        for flip in [0x01, 0x20, 0xff] {
            for at in (0..newest).chain(SLOT..good.len()) {
                let mut bytes = good.clone();
                bytes[at] ^= flip;
                let expected = if at < SLOT {
                    (older.clone(), 1)
                } else {
                    (newer.clone(), 2)
                };
                assert_eq!(Journal::read(&bytes), Some(expected), "{flip:#x} at {at}");
                let alone = &bytes[..bytes.len().min(newest)];
                let kept = (at >= SLOT).then(|| (newer.clone(), 2));
                assert_eq!(Journal::read(alone), kept, "{flip:#x} at {at}");
            }
        }
        // Cut anywhere, too.
        for length in 0..newest {
            assert_eq!(Journal::read(&good[..length]), None, "{length}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_no_journal() {
        let sound = journal(&[(10, 20)]);
        let outside = journal(&[(5, 20)]);
        let beyond = Journal {
            size: 15,
            ..sound.clone()
        };
        for wrong in [outside, beyond] {
            assert_eq!(Journal::read(&wrong.slot(1).expect("it fits")), None);
        }
        let text = String::from_utf8(sound.slot(1).expect("it fits")).expect("text");
        let (head, body) = text.split_once('\n').expect("two lines");
        let with = |version: u32, body: &str| {
            let head = format!("{MAGIC} {version} 1 {}", body.len());
            format!("{head} {}\n{body}", checksum(&head, body.as_bytes()))
        };
        assert_eq!(with(2, body), text, "{head}");
        assert!(Journal::read(with(2, body).as_bytes()).is_some());
        for other in [1, 3] {
            assert_eq!(Journal::read(with(other, body).as_bytes()), None, "{other}");
        }
        for wrong in [
            "[[10,10]]",
            "[[20,10]]",
            "[[10,20],[15,30]]",
            "[[10,20],[20,30]]",
            "[[-1,3]]",
        ] {
            let body = body.replace("[[10,20]]", wrong);
            assert_eq!(Journal::read(with(2, &body).as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn its_size_is_bounded() {
        let ranges: Vec<_> = (0..20_000_u64)
            .map(|at| (10 + at * 1_000_000_000, 20 + at * 1_000_000_000))
            .collect();
        let many = Journal {
            size: u64::MAX,
            ..journal(&ranges)
        };
        let (read, _) = Journal::read(&many.slot(7).expect("it fits")).expect("a journal");
        assert_eq!(read.landed.total(), 10 * MOST_EXTENTS as u64);
        let mut endless = journal(&[]);
        endless.asked.object = "x".repeat(SLOT);
        assert_eq!(endless.slot(1), None);
    }

    #[test]
    fn the_range_is_cut_at_the_end() {
        let mut journal = journal(&[]);
        journal.size = 100;
        assert_eq!(journal.range(), 10..100);
        journal.asked.length = Some(5);
        assert_eq!(journal.range(), 10..15);
        journal.asked.length = Some(u64::MAX);
        assert_eq!(journal.range(), 10..100);
    }

    #[test]
    fn the_callers_pin_must_be_the_journals_and_both_are_held_to() {
        let journal = journal(&[]);
        let pin = |etag: Option<&str>, version: Option<&str>, size| ObjectInfo {
            size,
            revision: Revision {
                etag: etag.map(str::to_owned),
                version: version.map(str::to_owned),
                ..Revision::default()
            },
            ..ObjectInfo::default()
        };
        let both = journal.pinned_with(Some(pin(Some("\"a\""), Some("3"), None)));
        let both = both.expect("the same");
        assert_eq!(both.size, Some(1 << 40));
        let Revision {
            etag,
            version,
            checksum,
            ..
        } = both.revision;
        assert_eq!((etag.as_deref(), version.as_deref()), (Some("\"a\""), Some("3")));
        assert!(checksum.is_some(), "the journal's");
        for (other, says) in [
            (pin(Some("\"b\""), None, None), "ETag was \"b\", is \"a\""),
            (pin(Some("\"a\""), None, Some(5)), "size was 5"),
            (pin(None, Some("3"), None), "pinned is version 3"),
        ] {
            let refused = journal.pinned_with(Some(other)).expect_err(says);
            assert!(refused.contains(says), "{refused}");
        }
    }
}
