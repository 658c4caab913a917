//! What identifies an object's content, and checksums of ranges.
//!
//! A native 206 has no ETag and no Last-Modified, but `Ais-Version` and the whole object's
//! checksum. A version alone is not enough: delete and put restart it at 1. In a bucket with
//! `checksum.enable_read_range` the checksum of a 206 is that *range's*, under the same header: it
//! vouches for the range's bytes but not for whose they are (after delete and put, version, size
//! and the checksums of ranges are all in order), so HEAD is asked whether the object is still the
//! same.
//!
//! Where a bucket keeps no checksums (`checksum.type=none`), version and size are all there is: a
//! delete and put of the same size passes unnoticed.

use http::HeaderMap;
use pget_core::{
    Checksum, ErrorKind, Published, Revision, SourceError,
    verify::{Algorithm, Digest},
};

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

/// The checksum that a revision states, if it is one that can be computed: `xxhash` and `xxhash2`
/// are both XXH64 with seed 0; all are written in hexadecimal digits.
pub(crate) fn digest(stated: &Checksum) -> Option<Digest> {
    let algorithm = match stated.algorithm.as_str() {
        "xxhash" | "xxhash2" => Algorithm::Xxh64,
        "crc32c" => Algorithm::Crc32c,
        "md5" => Algorithm::Md5,
        "sha256" => Algorithm::Sha256,
        "sha512" => Algorithm::Sha512,
        _ => return None,
    };
    Digest::from_hex(algorithm, &stated.value)
}

/// The same of the whole object, for the download to verify.
pub(crate) fn published(revision: &Revision) -> Option<Published> {
    digest(revision.checksum.as_ref()?).map(Published::Whole)
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

/// What a reply with the checksum of its range stands for, once HEAD has said that the object is
/// `known`. Its version stays, to be compared.
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
    use pget_core::verify::Hasher;

    use super::*;

    #[test]
    fn stated_checksums_are_read() {
        let digest = |algorithm: &str, value: &str| {
            digest(&Checksum {
                algorithm: algorithm.into(),
                value: value.into(),
            })
        };
        // The object `small` and the empty object of a live cluster.
        for (algorithm, value, bytes) in [
            ("xxhash2", "f80e7b96315afffa", &b"0123456789".repeat(10)[..]),
            ("xxhash", "ef46db3751d8e999", b""),
            ("crc32c", "e3069283", b"123456789"),
            ("md5", "d41d8cd98f00b204e9800998ecf8427e", b""),
        ] {
            let stated = digest(algorithm, value).expect("known");
            let mut hasher = Hasher::new(stated.algorithm());
            hasher.update(bytes);
            assert_eq!(hasher.finish(), stated);
        }
        assert!(digest("sha256", &"0".repeat(64)).is_some());
        assert!(digest("sha512", &"0".repeat(128)).is_some());
        for (algorithm, value) in [("none", ""), ("xxhash2", "f80e"), ("crc32c", "no digits")] {
            assert_eq!(digest(algorithm, value), None);
        }
    }
}
