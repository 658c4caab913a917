//! Keeps a part's journal true: from time to time, on a thread of its own, it syncs the part and
//! then writes down what had landed before.
//!
//! Invariants: a range is written down only after an `fdatasync` of the part that began after the
//! range had landed; and the journal is synced before anything is done that relies on it. A sync
//! that fails ends the download (the system may have dropped the bytes, and reports that only
//! once). A sync that the file system does not know, or a journal that cannot be written, ends the
//! journal. Called by the part.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::sys::signal::SigSet;

use super::{Journal, SLOT, extents::Extents};
use crate::{refusal::is_refusal, settings::Settings, warnings::Warnings};

#[derive(Debug)]
pub(crate) struct JournalWriter {
    part: Arc<File>,
    /// The journal's path, for messages.
    path: PathBuf,
    landed: Mutex<Extents>,
    slots: Mutex<Slots>,
    stopped: Mutex<bool>,
    stop: Condvar,
    /// Held during a sync: the system reports an error to one sync alone, and the other must know.
    syncing: Mutex<()>,
    has_failed: AtomicBool,
    failure: Mutex<Option<io::Error>>,
    /// The journal is written to no more.
    is_over: AtomicBool,
    warnings: Warnings,
}

#[derive(Debug)]
struct Slots {
    file: File,
    /// What was last written down, and as which.
    journal: Journal,
    sequence: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl JournalWriter {
    /// Goes on from `journal`, which `file` holds as `sequence`; 0: nothing is written yet.
    pub(crate) fn new(
        part: Arc<File>,
        path: PathBuf,
        file: File,
        journal: Journal,
        sequence: u64,
        warnings: Warnings,
    ) -> Arc<Self> {
        Arc::new(Self {
            part,
            path,
            landed: Mutex::new(journal.landed.clone()),
            slots: Mutex::new(Slots {
                file,
                journal,
                sequence,
            }),
            stopped: Mutex::new(false),
            stop: Condvar::new(),
            syncing: Mutex::new(()),
            has_failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            is_over: AtomicBool::new(false),
            warnings,
        })
    }

    /// Starts to write down what lands, at most once in `interval`, and so that at least half of
    /// the time is spent otherwise.
    pub(crate) fn start(self: &Arc<Self>, interval: Duration) -> io::Result<()> {
        let writer = Arc::clone(self);
        let interval = interval.max(Settings::MIN_JOURNAL_INTERVAL);
        let work = move || {
            // The host's signals are for its own threads.
            if let Err(error) = SigSet::all().thread_block() {
                tracing::debug!(%error, "cannot block signals in the journal's thread");
            }
            let mut pause = interval;
            while writer.sleeps(pause) {
                let began = Instant::now();
                if !writer.write_down(false) {
                    return;
                }
                pause = interval.max(began.elapsed());
            }
        };
        std::thread::Builder::new()
            .name("pget-journal".into())
            .spawn(work)?;
        Ok(())
    }

    /// These bytes of the object are in the part's file.
    pub(crate) fn landed(&self, range: std::ops::Range<u64>) {
        lock(&self.landed).insert(range);
    }

    /// Whether any byte is in the part's file.
    pub(crate) fn has_landed(&self) -> bool {
        !lock(&self.landed).is_empty()
    }

    /// Whether the part could not be synced.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Returns why the part could not be synced, once.
    pub(crate) fn failure(&self) -> Option<io::Error> {
        lock(&self.failure).take()
    }

    /// After [`stop`](Self::stop): syncs all of the part.
    ///
    /// # Errors
    /// What this sync returned, or one before it.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        let alone = lock(&self.syncing);
        if !self.has_failed() {
            let synced = self.part.sync_all();
            // A sync that the file system does not know has lost nothing.
            return synced.inspect_err(|error| {
                if !is_refusal(error) {
                    self.distrust();
                }
            });
        }
        drop(alone);
        Err(self.failure().unwrap_or_else(|| io::ErrorKind::Other.into()))
    }

    /// What was written since the last entry may be lost: no other entry will say that it is there.
    pub(crate) fn distrust(&self) {
        self.has_failed.store(true, Ordering::Relaxed);
    }

    /// Whether there is something to go on from.
    pub(crate) fn has_journal(&self) -> bool {
        lock(&self.slots).sequence > 0
    }

    /// The bytes that the journal has, and the bytes that it will have.
    pub(crate) fn written_down(&self) -> (u64, u64) {
        let slots = lock(&self.slots);
        let whole = slots.journal.range();
        (slots.journal.landed.total(), whole.end - whole.start)
    }

    /// The journal is written to no more; what it has stays true.
    fn end(&self, why: &str, error: &io::Error) {
        self.is_over.store(true, Ordering::Relaxed);
        self.warnings.push(format!(
            "{why} ({error}): the download goes on, and cannot be resumed from here if it is interrupted"
        ));
    }

    /// Ends the thread, without waiting for a sync that it is in.
    pub(crate) fn stop(&self) {
        *lock(&self.stopped) = true;
        self.stop.notify_all();
    }

    /// After [`stop`](Self::stop): whether the thread is past its last entry.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.slots.try_lock().is_ok()
    }

    /// After [`stop`](Self::stop): writes down all that has landed, on the calling thread.
    pub(crate) fn last(&self) {
        if !self.has_failed() {
            self.write_down(true);
        }
    }

    /// Sleeps; `false`: it is over.
    fn sleeps(&self, pause: Duration) -> bool {
        let stopped = lock(&self.stopped);
        let slept = self
            .stop
            .wait_timeout_while(stopped, pause, |stopped| !*stopped)
            .unwrap_or_else(PoisonError::into_inner);
        !*slept.0
    }

    /// Once stopped, only the last entry is written. `false`: there is no use in another time.
    fn write_down(&self, is_last: bool) -> bool {
        let landed = lock(&self.landed).clone();
        if self.is_over.load(Ordering::Relaxed) {
            return false;
        }
        if landed == lock(&self.slots).journal.landed {
            return true;
        }
        {
            let _alone = lock(&self.syncing);
            if let Err(error) = self.part.sync_data() {
                if is_refusal(&error) {
                    self.end("what has landed cannot be synced here", &error);
                    return false;
                }
                *lock(&self.failure) = Some(error);
                self.distrust();
                return false;
            }
        }
        let mut slots = lock(&self.slots);
        if !is_last && *lock(&self.stopped) {
            return false;
        }
        if let Err(error) = slots.write(landed) {
            self.end(&format!("{} cannot be written", self.path.display()), &error);
            return false;
        }
        true
    }
}

impl Slots {
    fn write(&mut self, landed: Extents) -> io::Result<()> {
        let sequence = self.sequence + 1;
        let journal = Journal {
            landed,
            ..self.journal.clone()
        };
        let bytes = journal.slot(sequence).ok_or(io::ErrorKind::FileTooLarge)?;
        let at = if sequence.is_multiple_of(2) {
            0
        } else {
            SLOT as u64
        };
        self.file.write_all_at(&bytes, at)?;
        self.file.sync_data()?;
        self.journal = journal;
        self.sequence = sequence;
        Ok(())
    }
}
