//! Where the consumer of a download is, and who waits for it to get further.

use tokio::sync::Notify;

use crate::sync::atomic::{AtomicU64, Ordering};

/// The chunk that the consumer is at.
///
/// `SeqCst`: the reader moves the cursor before it looks at a slot's watermark, and a writer
/// publishes the watermark before it looks at the cursor. One of the two sees the other's store
/// (see `Slot::publish`).
pub(crate) struct Cursor {
    chunk: AtomicU64,
    moved: Notify,
}

impl Cursor {
    pub(crate) fn new() -> Self {
        Self {
            chunk: AtomicU64::new(0),
            moved: Notify::new(),
        }
    }

    pub(crate) fn chunk(&self) -> u64 {
        self.chunk.load(Ordering::SeqCst)
    }

    pub(crate) fn move_to(&self, chunk: u64) {
        self.chunk.store(chunk, Ordering::SeqCst);
    }

    /// Wakes those who wait for it, after it has moved.
    pub(crate) fn notify(&self) {
        self.moved.notify_waiters();
    }

    /// Waits until the consumer is at `chunk`.
    pub(crate) async fn reaches(&self, chunk: u64) {
        loop {
            // Enabled before the look, so that no move falls between.
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.chunk() >= chunk {
                return;
            }
            moved.await;
        }
    }
}
