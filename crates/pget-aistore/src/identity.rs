//! What identifies an object's content, and checksums of ranges.
//!
//! A native 206 has no ETag and no Last-Modified, but `Ais-Version` and the whole object's checksum. A version alone is not enough: delete and put
//! restart it at 1. In a bucket with `checksum.enable_read_range` the checksum of a 206 is that *range's*, under the same header: it vouches for the range's bytes but
//! not for whose they are (after delete and put, version, size and the checksums of ranges are all in order), so HEAD is asked whether the object is still the same.
//!
//! Where a bucket keeps no checksums (`checksum.type=none`), version and size are all there is: a delete and put of the same size passes unnoticed.

use http::HeaderMap;
use pget_core::{Checksum, ErrorKind, Revision, SourceError};

/// The revision as the headers of a HEAD or GET state it.
pub(crate) fn revision(headers: &HeaderMap) -> Revision {
    let text = |name: &str| {
        headers
            .get(name)?
            .to_str()
            .ok()
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
    };
    let checksum = match (text("ais-checksum-type"), text("ais-checksum-value")) {
        (Some(algorithm), Some(value)) if algorithm != "none" => Some(Checksum {
            algorithm: algorithm.to_ascii_lowercase(),
            value,
        }),
        _ => None,
    };
    Revision {
        etag: text("etag"),
        version: text("ais-version"),
        checksum,
        last_modified: text("last-modified"),
    }
}

/// The running checksum of a range.
pub(crate) enum RangeHash {
    /// `xxhash` and `xxhash2` are both XXH64 with seed 0, written as 16 hex digits.
    Xxhash(xxhash_rust::xxh64::Xxh64),
    Crc32c(u32),
    Digest(Box<dyn sha2::digest::DynDigest + Send>),
}

impl RangeHash {
    /// For an algorithm by AIStore's name; `None` if it is not known.
    pub(crate) fn new(algorithm: &str) -> Option<Self> {
        Some(match algorithm {
            "xxhash" | "xxhash2" => Self::Xxhash(xxhash_rust::xxh64::Xxh64::new(0)),
            "crc32c" => Self::Crc32c(0),
            "md5" => Self::Digest(Box::new(md5::Md5::default())),
            "sha256" => Self::Digest(Box::new(sha2::Sha256::default())),
            "sha512" => Self::Digest(Box::new(sha2::Sha512::default())),
            _ => return None,
        })
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Xxhash(state) => state.update(bytes),
            Self::Crc32c(state) => *state = crc32c::crc32c_append(*state, bytes),
            Self::Digest(state) => state.update(bytes),
        }
    }

    /// As AIStore writes it.
    pub(crate) fn finish(self) -> String {
        match self {
            Self::Xxhash(state) => format!("{:016x}", state.digest()),
            Self::Crc32c(state) => format!("{state:08x}"),
            Self::Digest(state) => state
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        }
    }
}

/// The checksum that a reply states where `known` has another one of the same algorithm.
pub(crate) fn differing(known: &Revision, reply: &Revision) -> Option<Checksum> {
    let known = known.checksum.as_ref()?;
    reply
        .checksum
        .as_ref()
        .filter(|stated| stated.algorithm == known.algorithm && stated.value != known.value)
        .cloned()
}

/// What a reply with the checksum of its range stands for, once HEAD has said that the object is `known`. Its version stays, to be compared.
pub(crate) fn vouched(known: &Revision, reply: Revision) -> Revision {
    Revision {
        version: reply.version.or_else(|| known.version.clone()),
        ..known.clone()
    }
}

/// Not the bytes that the server read.
pub(crate) fn damaged(stated: &Checksum) -> SourceError {
    SourceError::retryable(
        ErrorKind::Checksum,
        format!(
            "the range does not have the {} that the server states, {}",
            stated.algorithm, stated.value
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_written_as_aistore_writes_them() {
        let sum = |algorithm: &str, bytes: &[u8]| {
            let mut hash = RangeHash::new(algorithm).expect("known");
            hash.update(bytes);
            hash.finish()
        };
        // The object `small` and the empty object of a live cluster.
        assert_eq!(sum("xxhash2", &b"0123456789".repeat(10)), "f80e7b96315afffa");
        assert_eq!(sum("xxhash", b""), "ef46db3751d8e999");
        assert_eq!(sum("crc32c", b"123456789"), "e3069283");
        assert_eq!(sum("md5", b""), "d41d8cd98f00b204e9800998ecf8427e");
        assert!(sum("sha256", b"").starts_with("e3b0c442"));
        assert!(sum("sha512", b"").starts_with("cf83e135"));
        assert!(RangeHash::new("none").is_none());
    }
}
