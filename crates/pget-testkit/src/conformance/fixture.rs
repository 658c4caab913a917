//! The interface between the suite and a transport under test.

use std::sync::Arc;

use async_trait::async_trait;
use pget_core::RangeSource;

use crate::content::Pattern;

/// A place that holds objects, and the sources that read them through the transport under test.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// Stores `size` bytes of `pattern` as object `name`, and returns a source of that object.
    ///
    /// The new content replaces an earlier one.
    async fn put(&self, name: &str, pattern: Pattern, size: u64) -> Arc<dyn RangeSource>;

    /// Returns a source of an object that does not exist.
    async fn missing(&self) -> Arc<dyn RangeSource>;

    /// Returns whether an overwrite with the same size changes the object's identity immediately.
    ///
    /// The answer is false for servers whose identity consists of the size and the time in seconds.
    fn tells_same_size(&self) -> bool {
        true
    }

    /// Returns the bytes per chunk of whole reads. It is larger for transports with costly
    /// requests.
    fn chunk_size(&self) -> u64 {
        64 << 10
    }
}
