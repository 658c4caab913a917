//! Cancelling from outside: one handle may end many downloads, from any thread, before, during and after them.

use std::{
    fmt,
    sync::{Arc, PoisonError, Weak},
};

use tokio::sync::Notify;

use super::shared::Shared;
use crate::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

/// Ends every download that was given it, and those begun later, once it is [triggered](Self::trigger). Clones are the same handle.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Default)]
struct Inner {
    triggered: AtomicBool,
    notify: Notify,
    downloads: Mutex<Vec<Weak<Shared>>>,
}

impl Cancel {
    /// A handle that is not triggered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the downloads with [`Cancelled`](crate::ErrorKind::Cancelled), also calls that wait now. Again it does nothing.
    pub fn trigger(&self) {
        self.0.triggered.store(true, Ordering::SeqCst);
        let downloads = std::mem::take(&mut *self.0.downloads.lock().unwrap_or_else(PoisonError::into_inner));
        for download in downloads.iter().filter_map(Weak::upgrade) {
            download.cancel();
        }
        self.0.notify.notify_waiters();
    }

    /// Whether it was triggered.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.0.triggered.load(Ordering::SeqCst)
    }

    /// Waits until it is triggered.
    pub async fn triggered(&self) {
        // Enabled before the look, so that no notice falls between.
        let mut notified = std::pin::pin!(self.0.notify.notified());
        notified.as_mut().enable();
        if !self.is_triggered() {
            notified.await;
        }
    }

    pub(super) fn watch(&self, download: &Arc<Shared>) {
        let mut downloads = self.0.downloads.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: a trigger that has taken the list is seen, a later one will find this download in it.
        if self.is_triggered() {
            drop(downloads);
            download.cancel();
            return;
        }
        downloads.retain(|download| download.strong_count() > 0);
        downloads.push(Arc::downgrade(download));
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel")
            .field("triggered", &self.is_triggered())
            .finish_non_exhaustive()
    }
}
