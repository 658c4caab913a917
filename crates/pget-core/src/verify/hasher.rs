//! Checksums as computations, all by maintained crates: CRCs with the machine's instructions, the
//! others as their authors wrote them.

use std::fmt;

use sha2::digest::DynDigest;

use super::{Algorithm, Digest};

/// The running checksum of bytes in their order.
pub struct Hasher {
    algorithm: Algorithm,
    state: State,
}

enum State {
    Xxh64(xxhash_rust::xxh64::Xxh64),
    Crc(Box<crc_fast::Digest>),
    Other(Box<dyn DynDigest + Send + Sync>),
}

impl Hasher {
    /// Of no bytes.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        use crc_fast::CrcAlgorithm;
        let crc = |algorithm| State::Crc(Box::new(crc_fast::Digest::new(algorithm)));
        let state = match algorithm {
            Algorithm::Xxh64 => State::Xxh64(xxhash_rust::xxh64::Xxh64::new(0)),
            Algorithm::Crc32 => crc(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32c => crc(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64Nvme => crc(CrcAlgorithm::Crc64Nvme),
            Algorithm::Md5 => State::Other(Box::new(md5::Md5::default())),
            Algorithm::Sha1 => State::Other(Box::new(sha1::Sha1::default())),
            Algorithm::Sha256 => State::Other(Box::new(sha2::Sha256::default())),
            Algorithm::Sha512 => State::Other(Box::new(sha2::Sha512::default())),
        };
        Self { algorithm, state }
    }

    /// Goes on with `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Xxh64(state) => state.update(bytes),
            State::Crc(state) => state.update(bytes),
            State::Other(state) => state.update(bytes),
        }
    }

    /// Goes on with the bytes that `next` has seen, if the algorithm is
    /// [combinable](Algorithm::is_combinable) and the same; else `false`, and nothing is done.
    pub fn append(&mut self, next: &Self) -> bool {
        match (&mut self.state, &next.state) {
            (State::Crc(state), State::Crc(next_state)) if self.algorithm == next.algorithm => {
                state.combine(next_state);
                true
            }
            _ => false,
        }
    }

    /// The checksum of the bytes so far.
    #[must_use]
    pub fn finish(self) -> Digest {
        let algorithm = self.algorithm;
        let digest = match self.state {
            State::Xxh64(state) => Digest::from_bytes(algorithm, &state.digest().to_be_bytes()),
            State::Crc(state) => {
                let value = state.finalize().to_be_bytes();
                Digest::from_bytes(algorithm, &value[value.len() - algorithm.size()..])
            }
            State::Other(state) => Digest::from_bytes(algorithm, &state.finalize()),
        };
        digest.expect("an algorithm makes as many bytes as its values have")
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({})", self.algorithm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(algorithm: Algorithm, bytes: &[u8]) -> String {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish().to_hex()
    }

    /// Of nothing, and of `123456789`: check values of the CRC catalogue
    /// (reveng.sourceforge.io/crc-catalogue), of the algorithms' standards, and of `xxhsum -H64`.
    const KNOWN: [(Algorithm, &str, &str); 8] = [
        (Algorithm::Xxh64, "ef46db3751d8e999", "8cb841db40e6ae83"),
        (Algorithm::Crc32, "00000000", "cbf43926"),
        (Algorithm::Crc32c, "00000000", "e3069283"),
        (Algorithm::Crc64Nvme, "0000000000000000", "ae8b14860a799888"),
        (
            Algorithm::Md5,
            "d41d8cd98f00b204e9800998ecf8427e",
            "25f9e794323b453885f5181f1b624d0b",
        ),
        (
            Algorithm::Sha1,
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
        ),
        (
            Algorithm::Sha256,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
        ),
        (
            Algorithm::Sha512,
            "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
            "d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274ad27fcd5811b313d681f7e55ec02d73d499c95455b6b5bb503acf574fba8ffe85",
        ),
    ];

    #[test]
    fn every_algorithm_gives_its_known_answers() {
        for (algorithm, empty, digits) in KNOWN {
            assert_eq!(sum(algorithm, b""), empty, "{algorithm}");
            assert_eq!(sum(algorithm, b"123456789"), digits, "{algorithm}");
        }
        assert!(
            Algorithm::ALL
                .iter()
                .all(|all| KNOWN.iter().any(|(known, ..)| known == all))
        );
        // The object `small` of a live AIStore cluster.
        assert_eq!(
            sum(Algorithm::Xxh64, &b"0123456789".repeat(10)),
            "f80e7b96315afffa"
        );
    }

    #[test]
    fn pieces_of_any_size_give_the_same() {
        let bytes: Vec<u8> = (0..100_000_u32)
            .map(|at| (at.wrapping_mul(at) >> 7).to_le_bytes()[0])
            .collect();
        let mut random = fastrand::Rng::with_seed(7);
        for algorithm in Algorithm::ALL {
            let mut hasher = Hasher::new(algorithm);
            let mut combined = Hasher::new(algorithm);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(random.usize(1..5000).min(rest.len()));
                hasher.update(piece);
                let mut part = Hasher::new(algorithm);
                part.update(piece);
                assert_eq!(combined.append(&part), algorithm.is_combinable());
                rest = behind;
            }
            let whole = sum(algorithm, &bytes);
            assert_eq!(hasher.finish().to_hex(), whole, "{algorithm}");
            if algorithm.is_combinable() {
                assert_eq!(combined.finish().to_hex(), whole, "{algorithm}");
            }
        }
    }
}
