//! Verification of bytes that pass in their order, on their way to the consumer.

use super::{Digest, Hasher};

/// Holds what has passed against the expected checksum.
#[derive(Debug)]
pub(crate) struct Passing {
    expected: Digest,
    hasher: Hasher,
}

impl Passing {
    pub(crate) fn new(expected: Digest) -> Self {
        Self {
            expected,
            hasher: Hasher::new(expected.algorithm()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// All bytes have passed.
    ///
    /// # Errors
    /// What differs, if they do not fit.
    pub(crate) fn finish(self) -> Result<(), String> {
        let found = self.hasher.finish();
        if found == self.expected {
            Ok(())
        } else {
            Err(mismatch(&self.expected, &found))
        }
    }
}

pub(super) fn mismatch(expected: &Digest, found: &Digest) -> String {
    format!(
        "its bytes have {found}, its source publishes {}",
        expected.to_hex()
    )
}
