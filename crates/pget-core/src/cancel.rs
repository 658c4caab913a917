//! Cancelling from outside: one handle may end many downloads, from any thread, before, during and
//! after them.

use std::{
    fmt,
    sync::{Arc, PoisonError, Weak},
};

use tokio::sync::Notify;

use crate::{
    engine::state::Engine,
    fork::PerProcess,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

/// Ends every download that was given it, and those begun later, once it is
/// [triggered](Self::trigger). Clones are the same handle.
///
/// Any thread may trigger it, not a signal handler. A forked child has a copy, which ends the
/// downloads of the child alone.
///
/// # Examples
/// ```
/// let cancel = pget_core::Cancel::new();
/// let mut options = pget_core::Options::default();
/// options.cancel = Some(cancel.clone());
/// std::thread::spawn(move || cancel.trigger()).join().unwrap();
/// assert!(options.cancel.unwrap().is_triggered());
/// ```
#[derive(Clone, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Default)]
struct Inner {
    triggered: AtomicBool,
    /// The parties in this process that are notified of the cancel.
    hearers: PerProcess<Hearers>,
}

#[derive(Default)]
struct Hearers {
    notify: Notify,
    downloads: Mutex<Vec<Weak<Engine>>>,
}

impl Cancel {
    /// A handle that is not triggered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn hearers(&self) -> &Hearers {
        self.0.hearers.get_or_init(Hearers::default)
    }

    /// Ends the downloads with [`Cancelled`](crate::ErrorKind::Cancelled), also calls that wait
    /// now. Again it does nothing.
    pub fn trigger(&self) {
        self.0.triggered.store(true, Ordering::SeqCst);
        let hearers = self.hearers();
        let downloads =
            std::mem::take(&mut *hearers.downloads.lock().unwrap_or_else(PoisonError::into_inner));
        for download in downloads.iter().filter_map(Weak::upgrade) {
            download.cancel();
        }
        hearers.notify.notify_waiters();
    }

    /// Whether it was triggered.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.0.triggered.load(Ordering::SeqCst)
    }

    /// Waits until it is triggered.
    pub async fn triggered(&self) {
        // Enabled before the look, so that no notice falls between.
        let mut notified = std::pin::pin!(self.hearers().notify.notified());
        notified.as_mut().enable();
        if !self.is_triggered() {
            notified.await;
        }
    }

    pub(crate) fn watch(&self, download: &Arc<Engine>) {
        let mut downloads = self
            .hearers()
            .downloads
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Under the lock: a trigger that has taken the list is seen, a later one will find this
        // download in it.
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

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use std::{sync::Arc, time::Duration};

    use async_trait::async_trait;
    use pget_testkit::forked::in_child;

    use super::*;
    use crate::{
        ChunkWriter, Download, ErrorKind, ObjectInfo, Options, RangeRequest, RangeSource, SourceError,
    };

    #[derive(Debug)]
    struct Never;

    #[async_trait]
    impl RangeSource for Never {
        async fn head(&self) -> Result<ObjectInfo, SourceError> {
            std::future::pending().await
        }

        async fn read(&self, _: &RangeRequest, _: ChunkWriter) -> Result<(), SourceError> {
            std::future::pending().await
        }

        fn name(&self) -> String {
            "never".into()
        }
    }

    /// The locks of a handle and of a download are held as the child begins, by threads that it
    /// does not have.
    #[test]
    fn a_child_of_a_process_whose_downloads_are_locked_does_not_wait() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let cancel = Cancel::new();
        let options = Options {
            cancel: Some(cancel.clone()),
            ..Options::default()
        };
        let download = Download::new(Arc::new(Never), options.clone()).expect("right");
        let mut reader = Some(download.blocking_reader_on(runtime.handle()));
        let monitor = reader.as_ref().expect("made").monitor();
        let downloads = cancel.hearers().downloads.lock().expect("not poisoned");
        let engine = downloads[0].upgrade().expect("it runs");
        let state = engine.state();
        in_child(Duration::from_secs(30), || {
            monitor.cancel();
            assert_eq!(monitor.stats(), crate::Stats::default());
            let reader = reader.take().expect("a copy");
            let error = reader.info().expect_err("the parent's");
            assert_eq!(error.kind(), ErrorKind::Forked);
            drop(reader);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime");
            let own = Download::new(Arc::new(Never), options.clone()).expect("right");
            let own = own.reader_on(runtime.handle());
            cancel.trigger();
            let error = runtime.block_on(own.info()).expect_err("triggered");
            assert_eq!(error.kind(), ErrorKind::Cancelled);
        });
        drop((state, downloads));
        assert!(!cancel.is_triggered());
    }
}
