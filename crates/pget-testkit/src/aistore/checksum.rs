//! The checksums that AIStore keeps with an object, by the names that its headers use.

use std::fmt::Write as _;

use sha2::{Digest, Sha256, Sha512};
use xxhash_rust::xxh64::Xxh64;

/// A checksum as the headers `Ais-Checksum-Type` and `Ais-Checksum-Value` state it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checksum {
    /// `xxhash2`, `xxhash`, `crc32c`, `md5`, `sha256` or `sha512`.
    pub(super) kind: String,
    /// Lower-case hex.
    pub(super) value: String,
}

pub(super) enum Hasher {
    Xxh64(Xxh64),
    Crc32c(u32),
    Md5(md5::Md5),
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// Returns a hasher of this type, or `None` for the type `none`.
    ///
    /// # Panics
    /// If AIStore has no such type.
    pub(super) fn new(kind: &str) -> Option<Self> {
        Some(match kind {
            // Both names are XXH64 with seed 0.
            "xxhash" | "xxhash2" => Self::Xxh64(Xxh64::new(0)),
            "crc32c" => Self::Crc32c(0),
            "md5" => Self::Md5(md5::Md5::new()),
            "sha256" => Self::Sha256(Sha256::new()),
            "sha512" => Self::Sha512(Sha512::new()),
            "none" => return None,
            other => panic!("no such checksum type: {other}"),
        })
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        match self {
            Self::Xxh64(hasher) => hasher.update(data),
            Self::Crc32c(crc) => *crc = crc32c::crc32c_append(*crc, data),
            Self::Md5(hasher) => hasher.update(data),
            Self::Sha256(hasher) => hasher.update(data),
            Self::Sha512(hasher) => hasher.update(data),
        }
    }

    pub(super) fn finish(self) -> String {
        match self {
            Self::Xxh64(hasher) => format!("{:016x}", hasher.digest()),
            Self::Crc32c(crc) => format!("{crc:08x}"),
            Self::Md5(hasher) => hex(&hasher.finalize()),
            Self::Sha256(hasher) => hex(&hasher.finalize()),
            Self::Sha512(hasher) => hex(&hasher.finalize()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        for (kind, empty, abc) in [
            ("xxhash2", "ef46db3751d8e999", "44bc2cf5ad770999"),
            ("crc32c", "00000000", "364b3fb7"),
            (
                "md5",
                "d41d8cd98f00b204e9800998ecf8427e",
                "900150983cd24fb0d6963f7d28e17f72",
            ),
        ] {
            assert_eq!(Hasher::new(kind).expect("hashes").finish(), empty, "{kind}");
            let mut hasher = Hasher::new(kind).expect("hashes");
            hasher.update(b"a");
            hasher.update(b"bc");
            assert_eq!(hasher.finish(), abc, "{kind}");
        }
    }
}
