//! The objects of the stand-in's buckets: their bytes, and the way in which they are stored.
//!
//! The bytes are kept in memory or computed from their offset.
//!
//! Invariant: an [`Object`] is immutable and cheap to clone. Another object under the same name is
//! another revision. Answers that have begun continue with the revision that they began with.

use std::time::Duration;

use bytes::Bytes;

use super::checksum::{Checksum, Hasher};
use crate::content::Pattern;

/// Size in bytes of the block that [`Object::repeated`] repeats.
///
/// The block is large, so that one write sends much of it. Its size is odd, so that no two aligned
/// ranges of an object hold the same bytes.
const BLOCK: usize = (4 << 20) - 3;
/// Largest piece that is generated, or passed to the socket, at a time.
pub(super) const PIECE: usize = 256 << 10;

#[derive(Clone)]
enum Content {
    Bytes(Bytes),
    Pattern(Pattern, u64),
    Repeated(Bytes, u64),
}

/// The way in which a cold object of a remote bucket arrives in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pull {
    /// The whole object arrives this long after the first GET that needs it.
    After(Duration),
    /// The whole object arrives when the test calls `Cluster::release_pull`.
    WhenReleased,
}

/// An object to store, and the way in which it is stored.
#[derive(Clone)]
pub struct Object {
    content: Content,
    pub(super) chunks: Vec<u64>,
    pub(super) pull: Option<Pull>,
    pub(super) stated: Option<Checksum>,
    pub(super) member: Option<(String, Bytes)>,
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Object")
            .field("size", &self.size())
            .field("chunks", &self.chunks)
            .field("pull", &self.pull)
            .finish_non_exhaustive()
    }
}

impl Object {
    /// Returns an object of these bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::of(Content::Bytes(bytes.into()))
    }

    /// Returns the first `size` bytes of `Pattern::new(seed)`, computed during the send.
    pub fn pattern(seed: u64, size: u64) -> Self {
        Self::of(Content::Pattern(Pattern::new(seed), size))
    }

    /// Returns a block of about 4 MiB of `Pattern::new(seed)`, repeated up to `size` bytes.
    ///
    /// To serve it costs no computation per byte.
    pub fn repeated(seed: u64, size: u64) -> Self {
        Self::of(Content::Repeated(Pattern::new(seed).bytes(0, BLOCK).into(), size))
    }

    const fn of(content: Content) -> Self {
        Self {
            content,
            chunks: Vec::new(),
            pull: None,
            stated: None,
            member: None,
        }
    }

    /// Stores the object as chunks of these sizes in bytes, as after a multipart upload of such
    /// parts.
    ///
    /// # Panics
    /// If the sum of the sizes is not the object's size.
    #[must_use]
    pub fn with_chunks(mut self, sizes: impl Into<Vec<u64>>) -> Self {
        self.chunks = sizes.into();
        assert_eq!(
            self.chunks.iter().sum::<u64>(),
            self.size(),
            "chunks of an object"
        );
        self
    }

    /// Stores the object as chunks of `size` bytes. The last chunk may be smaller.
    #[must_use]
    pub fn with_chunk_size(self, size: u64) -> Self {
        let total = self.size();
        let chunks: Vec<u64> = (0..total.div_ceil(size))
            .map(|index| size.min(total - index * size))
            .collect();
        self.with_chunks(chunks)
    }

    /// Makes the object cold: `Ais-Present` is false until a GET has pulled it into the cluster.
    ///
    /// Only buckets of another provider than `ais` can hold a cold object.
    #[must_use]
    pub const fn cold(mut self, pull: Pull) -> Self {
        self.pull = Some(pull);
        self
    }

    /// Makes headers state this checksum instead of the computed one.
    ///
    /// It serves for objects too large to hash in a test, and for wrong checksums. `kind` is the
    /// name in the headers: `xxhash2`, `xxhash`, `crc32c`, `md5`, `sha256`, `sha512`.
    #[must_use]
    pub fn with_stated_checksum(mut self, kind: &str, value: &str) -> Self {
        self.stated = Some(Checksum {
            kind: kind.into(),
            value: value.into(),
        });
        self
    }

    /// Makes the object an archive with this member, which `archpath=name` reads.
    #[must_use]
    pub fn with_member(mut self, name: &str, bytes: impl Into<Bytes>) -> Self {
        self.member = Some((name.into(), bytes.into()));
        self
    }

    /// Returns the object's size in bytes.
    pub const fn size(&self) -> u64 {
        match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Pattern(_, size) | Content::Repeated(_, size) => *size,
        }
    }

    /// Returns `length` of the object's bytes from `offset` on, so that a test can compare them.
    ///
    /// # Panics
    /// If they are not all within the object.
    pub fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(length);
        let mut at = offset;
        while out.len() < length {
            let piece = self.piece(at, length - out.len());
            out.extend_from_slice(&piece);
            at += piece.len() as u64;
        }
        out
    }

    /// Compares `data` with the object's bytes at `offset`.
    ///
    /// # Errors
    /// Returns the offset of the first byte that is wrong, or that the object does not have.
    pub fn check(&self, offset: u64, data: &[u8]) -> Result<(), u64> {
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            if at >= self.size() {
                return Err(at);
            }
            let expected = self.piece(at, rest.len());
            let (head, tail) = rest.split_at(expected.len());
            if let Some(wrong) = head.iter().zip(&expected).position(|(a, b)| a != b) {
                return Err(at + wrong as u64);
            }
            at += head.len() as u64;
            rest = tail;
        }
        Ok(())
    }

    /// Returns the bytes from `offset` on that come in one piece, at most `length`.
    pub(super) fn piece(&self, offset: u64, length: usize) -> Bytes {
        assert!(offset < self.size(), "offset {offset} of {} bytes", self.size());
        let left = usize::try_from(self.size() - offset).unwrap_or(usize::MAX);
        let length = length.min(left);
        match &self.content {
            Content::Bytes(bytes) => {
                let start = index(offset);
                bytes.slice(start..start + length)
            }
            Content::Pattern(pattern, _) => pattern.bytes(offset, length.min(PIECE)).into(),
            Content::Repeated(block, _) => {
                let start = index(offset % block.len() as u64);
                block.slice(start..block.len().min(start + length))
            }
        }
    }

    /// Returns the checksum of `length` bytes from `offset` on.
    pub(super) fn hash(&self, kind: &str, offset: u64, length: u64) -> Option<Checksum> {
        let mut hasher = Hasher::new(kind)?;
        let mut at = offset;
        while at < offset + length {
            let wanted = usize::try_from(offset + length - at).map_or(PIECE, |rest| rest.min(PIECE));
            let piece = self.piece(at, wanted);
            hasher.update(&piece);
            at += piece.len() as u64;
        }
        Some(Checksum {
            kind: kind.into(),
            value: hasher.finish(),
        })
    }
}

/// Converts an offset into memory that exists.
fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("within memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_content_is_its_block_at_any_offset() {
        let object = Object::repeated(3, 1 << 40);
        let block = Pattern::new(3).bytes(0, BLOCK);
        let at = (1 << 39) + 12_345;
        let data = object.read(at, 2 * BLOCK);
        for (i, byte) in data.iter().enumerate() {
            let place = index((at + i as u64) % BLOCK as u64);
            assert_eq!(*byte, block[place], "byte {i}");
        }
        assert_eq!(object.check(at, &data), Ok(()));
        assert_eq!(object.check(at + 1, &data), Err(at + 1));
    }

    #[test]
    fn check_refuses_bytes_past_the_end() {
        let object = Object::pattern(1, 10);
        assert_eq!(object.check(5, &Pattern::new(1).bytes(5, 6)), Err(10));
    }

    #[test]
    fn even_chunks_end_with_the_rest() {
        assert_eq!(Object::pattern(0, 10).with_chunk_size(4).chunks, [4, 4, 2]);
        assert_eq!(Object::pattern(0, 8).with_chunk_size(4).chunks, [4, 4]);
    }
}
