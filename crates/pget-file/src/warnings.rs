//! What a read into a file did without, for its caller to show.

use std::sync::{Arc, Mutex, PoisonError};

/// Collects what a read into a file could not do and did without: a journal that cannot be kept, a
/// file that had to be overwritten in place.
///
/// A read with warnings is still complete. The clones of one are one list.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the warnings that have come up since the last call, in their order.
    ///
    /// A warning is one sentence without a credential; the same warning comes up once.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn push(&self, text: String) {
        tracing::warn!("{text}");
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
}
