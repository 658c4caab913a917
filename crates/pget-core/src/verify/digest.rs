//! Checksums as values: which algorithm, which bytes, and how servers write them.

use std::fmt;

/// How a checksum is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// XXH64 with seed 0; AIStore calls it `xxhash` and `xxhash2`.
    Xxh64,
    /// CRC-32 of ISO 3309, as zlib has it.
    Crc32,
    /// CRC-32C (Castagnoli), RFC 3720.
    Crc32c,
    /// CRC-64 of the NVM Express specification, the default of S3.
    Crc64Nvme,
    /// MD5, RFC 1321.
    Md5,
    /// SHA-1, FIPS 180-4.
    Sha1,
    /// SHA-256, FIPS 180-4.
    Sha256,
    /// SHA-512, FIPS 180-4.
    Sha512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Xxh64,
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Md5,
        Self::Sha1,
        Self::Sha256,
        Self::Sha512,
    ];

    /// Its name, in lower case: `xxh64`, `crc32c`, `crc64nvme`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xxh64 => "xxh64",
            Self::Crc32 => "crc32",
            Self::Crc32c => "crc32c",
            Self::Crc64Nvme => "crc64nvme",
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Bytes in a value.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Xxh64 | Self::Crc64Nvme => 8,
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// Whether the checksum of a whole follows from those of its parts and their lengths.
    #[must_use]
    pub const fn is_combinable(self) -> bool {
        matches!(self, Self::Crc32 | Self::Crc32c | Self::Crc64Nvme)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A checksum: an algorithm and its value, numbers with their most significant byte first, as every
/// server writes them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    /// The value; after its size, zero.
    bytes: [u8; 64],
}

impl Digest {
    /// From the value's bytes; `None` if there are not as many as the algorithm has.
    #[must_use]
    pub fn from_bytes(algorithm: Algorithm, value: &[u8]) -> Option<Self> {
        let mut bytes = [0; 64];
        let place = bytes.get_mut(..value.len())?;
        place.copy_from_slice(value);
        (value.len() == algorithm.size()).then_some(Self { algorithm, bytes })
    }

    /// From hexadecimal digits of either case; `None` if it is no such value.
    #[must_use]
    pub fn from_hex(algorithm: Algorithm, text: &str) -> Option<Self> {
        let digit = |byte: u8| {
            char::from(byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        if text.len() != algorithm.size() * 2 {
            return None;
        }
        let value: Option<Vec<u8>> = text
            .as_bytes()
            .chunks_exact(2)
            .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
            .collect();
        Self::from_bytes(algorithm, &value?)
    }

    /// What it is a value of.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The value.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.size()]
    }

    /// The value in lower-case hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Digest {
    /// `crc32c e3069283`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm, self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_read_and_written() {
        let digest = Digest::from_hex(Algorithm::Crc32c, "E3069283").expect("a value");
        assert_eq!(digest.bytes(), [0xe3, 0x06, 0x92, 0x83]);
        assert_eq!(digest.to_string(), "crc32c e3069283");
        for wrong in ["", "e306928", "e30692830", "e306928g", "e30692é", "+3069283"] {
            assert_eq!(Digest::from_hex(Algorithm::Crc32c, wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_value_has_its_size() {
        for algorithm in Algorithm::ALL {
            let size = algorithm.size();
            assert!(Digest::from_bytes(algorithm, &vec![1; size]).is_some());
            assert!(Digest::from_bytes(algorithm, &vec![1; size - 1]).is_none());
            assert!(Digest::from_bytes(algorithm, &vec![1; size + 1]).is_none());
        }
        assert!(Digest::from_bytes(Algorithm::Sha512, &[0; 65]).is_none());
    }
}
