//! What a transport under test provides.

use std::sync::Arc;

use async_trait::async_trait;
use pget_core::RangeSource;

use crate::content::Pattern;

/// A place where objects can be put, and how the transport under test reads them.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// Makes `size` bytes of `pattern` the content of object `name`, in place of what it was, and gives a source that reads that object.
    async fn put(&self, name: &str, pattern: Pattern, size: u64) -> Arc<dyn RangeSource>;

    /// A source of an object that does not exist.
    async fn missing(&self) -> Arc<dyn RangeSource>;

    /// Whether two contents of the same size that are put at once after another differ in their identity. Not with servers that only know seconds and size.
    fn tells_same_size(&self) -> bool {
        true
    }

    /// Bytes in a chunk for whole reads. Larger where a request is dear.
    fn chunk_size(&self) -> u64 {
        64 << 10
    }
}
