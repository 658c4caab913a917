//! The part that a file grows in: the destination of its download, and what becomes of it.
//!
//! Invariants: the final name only ever gets a part that is complete, and is this download's own; a part is left behind only with a journal that speaks of it, and a journal that is of no
//! use goes before the part is written to; what others have put under the names of part and journal meanwhile is theirs. Made, and told the outcome, by the front of this folder.

use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{errno::Errno, unistd::close};
use pget_core::{Destination, Error, ErrorKind, Keeps, ObjectInfo, Options, Place};

use super::{
    claim::{Claim, is_named},
    destination,
    journal::{Asked, Identity, Journal, SLOT},
    keeper::Keeper,
    left::{earlier, open},
    room::{self, size_limit},
    target::folder_of,
};

/// How a file is to be got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Go on with what an earlier download of the same left.
    pub(crate) resume: bool,
    /// Sync file and folder before success is told.
    pub(crate) sync: bool,
    /// How often what has landed is synced and written down.
    pub(crate) journal_interval: Duration,
}

#[derive(Debug)]
pub(super) struct Part {
    claim: Claim,
    journal: PathBuf,
    /// Device and inode number of the journal that is written to.
    own_journal: OnceLock<(u64, u64)>,
    asked: Asked,
    settings: Settings,
    /// What an earlier download has left to go on from, its journal's file and sequence.
    earlier: Option<(Journal, File, u64)>,
    /// No file of this process may be longer.
    limit: u64,
    has_begun: AtomicBool,
    keeper: OnceLock<Arc<Keeper>>,
    /// It has its final name, or is to stay for another time.
    is_settled: AtomicBool,
}

impl Part {
    /// The part at `path`, locked. With `resume`, its journal says what is there; without, or if there is none, all is read anew, and the first reply has what is there removed.
    ///
    /// # Errors
    /// If it cannot be made, another is at it, or it is of another object or range.
    pub(super) fn take(
        path: &Path,
        journal: PathBuf,
        asked: Asked,
        settings: Settings,
    ) -> Result<Self, Error> {
        let claim = Claim::take(path)?;
        let earlier = if settings.resume && claim.existed {
            earlier(&claim, &journal)?
        } else {
            None
        };
        if let Some((found, ..)) = &earlier
            && (&found.asked.address, found.asked.offset, found.asked.length)
                != (&asked.address, asked.offset, asked.length)
        {
            let message = format!(
                "{} is of {}, {}; read without resume to start over",
                path.display(),
                if found.asked.address == asked.address {
                    "another range"
                } else {
                    "another address or endpoint"
                },
                found.asked.object
            );
            return Err(Error::new(ErrorKind::Destination, "", message));
        }
        Ok(Self {
            claim,
            journal,
            own_journal: OnceLock::new(),
            asked,
            settings,
            earlier,
            limit: size_limit(),
            has_begun: AtomicBool::new(false),
            keeper: OnceLock::new(),
            is_settled: AtomicBool::new(false),
        })
    }

    /// Has the download read only what is missing, and only of the same revision: gives what is missing, if there is something to go on from. Where nothing is, it is the last byte:
    /// its reply tells whether the object is still that.
    ///
    /// # Errors
    /// If what is there is not known to be of the revision that the caller has pinned.
    pub(super) fn restrict(&self, options: &mut Options) -> Result<Option<Vec<Range<u64>>>, Error> {
        let Some((journal, ..)) = self.earlier.as_ref() else {
            return Ok(None);
        };
        let pin = journal.pinned_with(options.pin.take()).map_err(|how| {
            let message = format!(
                "{} holds bytes of another revision than the pinned one ({how}); read without resume to start over",
                self.claim.path.display()
            );
            Error::new(ErrorKind::ObjectChanged, self.asked.object.clone(), message)
        })?;
        options.pin = Some(pin);
        (options.offset, options.length) = (0, None);
        let whole = journal.range();
        let missing = journal.landed.missing(whole.clone());
        Ok(Some(if missing.is_empty() {
            std::iter::once(whole.end.saturating_sub(1)..whole.end).collect()
        } else {
            missing
        }))
    }

    /// All has landed: the part becomes the file at `target`.
    pub(super) fn finish(&self, target: &Path) -> Result<(), Error> {
        let failed = |what: &str| {
            let path = self.claim.path.clone();
            let what = what.to_owned();
            move |cause| destination(&path, &what, cause)
        };
        if !self.has_begun.load(Ordering::Relaxed) {
            // Nothing was asked for, and so nothing of the object was learnt.
            self.start_over()?;
        }
        if let Some(keeper) = self.keeper.get() {
            keeper.stop();
            self.check(keeper)?;
        }
        self.flush().map_err(failed("cannot be written"))?;
        if self.settings.sync {
            let synced = match self.keeper.get() {
                Some(keeper) => keeper.sync_all(),
                None => self.claim.file.sync_all(),
            };
            synced.map_err(failed("cannot be synced"))?;
        }
        self.check_named()?;
        fs::rename(&self.claim.path, target)
            .map_err(|cause| destination(target, "cannot be renamed into", cause))?;
        self.is_settled.store(true, Ordering::Relaxed);
        // If that fails: it speaks of no part, so the next download removes it.
        self.remove_own_journal();
        self.unlock();
        if self.settings.sync {
            sync_folder(target)?;
        }
        Ok(())
    }

    /// File systems over a network may write at a close, and tell only then that they could not; the part itself is closed when it has its name, and nobody would hear.
    fn flush(&self) -> io::Result<()> {
        let copy = self.claim.file.try_clone()?;
        close(copy).map_err(|errno| {
            if let Some(keeper) = self.keeper.get() {
                keeper.distrust();
            }
            errno.into()
        })
    }

    /// The download has failed: decides whether the part stays for another time, and says what the caller can do.
    pub(super) fn fail(&self, error: Error) -> Error {
        self.leave(error.kind());
        self.advise(error)
    }

    /// Nothing is written any more, and the part is not complete: removes it, or leaves it with its journal, and in either case to others. Does nothing the second time.
    fn leave(&self, why: ErrorKind) {
        if self.is_settled.swap(true, Ordering::Relaxed) {
            return;
        }
        let stays = match self.keeper.get() {
            // What was there before, and was not written to, is another time's.
            None => self.earlier.is_some() || (self.claim.existed && !self.has_begun.load(Ordering::Relaxed)),
            Some(keeper) => {
                keeper.stop();
                // What is there is known to be wrong: nothing may go on from it. (That it cannot be verified is told before anything begins.)
                let is_wrong = why == ErrorKind::Checksum;
                // Who cancels does not want to wait for a disk.
                if self.settings.resume && !is_wrong && why != ErrorKind::Cancelled {
                    keeper.last();
                }
                let mends = !matches!(why, ErrorKind::ObjectChanged | ErrorKind::Destination);
                !is_wrong && (self.settings.resume || mends) && keeper.has_journal()
            }
        };
        let is_there = self.claim.is_still_named();
        // A journal without its part is of no use either.
        if !(stays && is_there) {
            self.remove_own_journal();
            if is_there && let Err(error) = fs::remove_file(&self.claim.path) {
                tracing::debug!(%error, part = %self.claim.path.display(), "stays, and cannot be gone on from");
            }
        }
        // A thread that still writes an entry keeps the lock until it has.
        if self.keeper.get().is_none_or(|keeper| keeper.is_at_rest()) {
            self.unlock();
        }
    }

    /// Not left to the last owner of this, who may be a task that ends a little later.
    fn unlock(&self) {
        if let Err(error) = self.claim.file.unlock() {
            tracing::debug!(%error, "a part stays locked until it is closed");
        }
    }

    fn advise(&self, error: Error) -> Error {
        if self.earlier.is_none() || error.kind() != ErrorKind::ObjectChanged {
            return error;
        }
        let message = format!(
            "{} holds bytes of the revision before; read without resume to start over",
            self.claim.path.display()
        );
        Error::with_cause(
            ErrorKind::ObjectChanged,
            error.object().to_owned(),
            message,
            error,
        )
    }

    /// # Errors
    /// If another file has the part's name, or none has: what is there is not this download's.
    fn check_named(&self) -> Result<(), Error> {
        if self.claim.is_still_named() {
            return Ok(());
        }
        let message = format!("{} was removed or replaced meanwhile", self.claim.path.display());
        Err(Error::new(ErrorKind::Destination, "", message))
    }

    /// Empties the part. The journal goes first, for good: it must not speak of what is written from here on.
    fn start_over(&self) -> Result<(), Error> {
        self.check_named()?;
        if self.remove_journal()? {
            sync_folder(&self.claim.path)?;
        }
        if self.claim.existed {
            let emptied = self.claim.file.set_len(0);
            emptied.map_err(|cause| destination(&self.claim.path, "cannot be emptied", cause))?;
        }
        Ok(())
    }

    /// Whether there was one.
    fn remove_journal(&self) -> Result<bool, Error> {
        match fs::remove_file(&self.journal) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(cause) => Err(destination(&self.journal, "cannot be removed", cause)),
        }
    }

    /// Not another one's: once the part has lost its name, the next download may have begun.
    fn remove_own_journal(&self) {
        let own = self.own_journal.get();
        if own.is_some_and(|own| is_named(&self.journal, *own))
            && let Err(error) = self.remove_journal()
        {
            tracing::debug!(error = error.to_line(), "a journal stays, and is of no use");
        }
    }

    /// A keeper for what is to land; `None` where there would be nothing to know the object by.
    fn keep(&self, object: &ObjectInfo) -> Result<Option<Arc<Keeper>>, Error> {
        let failed = |cause| destination(&self.journal, "cannot be created", cause);
        let (journal, file, sequence) = match (&self.earlier, object.size) {
            (Some((journal, file, sequence)), _) => {
                (journal.clone(), file.try_clone().map_err(failed)?, *sequence)
            }
            // Not where the journal itself might be too long for the process.
            (None, Some(size)) if object.revision.is_identity() && self.limit >= 2 * SLOT as u64 => {
                let file = open(&self.journal, true).map_err(failed)?;
                let journal = Journal {
                    inode: self.claim.inode,
                    asked: self.asked.clone(),
                    size,
                    revision: Identity::from(&object.revision),
                    landed: Default::default(),
                };
                (journal, file, 0)
            }
            _ => return Ok(None),
        };
        let meta = file.metadata().map_err(failed)?;
        self.own_journal.get_or_init(|| (meta.dev(), meta.ino()));
        let part = Arc::clone(&self.claim.file);
        let keeper = Keeper::new(part, self.journal.clone(), file, journal, sequence);
        keeper
            .start(self.settings.journal_interval)
            .map_err(|cause| destination(&self.journal, "cannot be kept: no thread", cause))?;
        Ok(Some(keeper))
    }

    fn check(&self, keeper: &Keeper) -> Result<(), Error> {
        if !keeper.has_failed() {
            return Ok(());
        }
        let cause = keeper.failure().unwrap_or_else(|| io::ErrorKind::Other.into());
        Err(destination(&self.claim.path, "cannot be synced", cause))
    }
}

impl Destination for Part {
    fn begin(&self, object: &ObjectInfo, start: u64, end: Option<u64>) -> Result<Place, Error> {
        if self.earlier.is_none() {
            self.start_over()?;
        }
        self.has_begun.store(true, Ordering::Relaxed);
        let whole = match &self.earlier {
            Some((journal, ..)) => Some(journal.range()),
            None => end.map(|end| start..end),
        };
        if let Some(whole) = whole {
            let length = whole.end.saturating_sub(whole.start);
            room::reserve(&self.claim.file, length, self.limit)
                .map_err(|cause| destination(&self.claim.path, "has no room", cause))?;
        }
        if let Some(keeper) = self.keep(object)? {
            // `begin` is called once.
            self.keeper.get_or_init(|| keeper);
        }
        Ok(Place::Put)
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        if let Some(keeper) = self.keeper.get() {
            self.check(keeper)?;
        }
        let failed = |cause| destination(&self.claim.path, "cannot be written", cause);
        let at = offset - self.asked.offset;
        if at + bytes.len() as u64 > self.limit {
            return Err(failed(Errno::EFBIG.into()));
        }
        self.claim.file.write_all_at(bytes, at).map_err(failed)
    }

    fn keeps(&self) -> Keeps {
        let is_whole = (self.asked.offset, self.asked.length) == (0, None);
        if self.earlier.is_some() && is_whole {
            Keeps::Object
        } else {
            Keeps::Landed
        }
    }

    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let read = self.claim.file.read_exact_at(buffer, offset - self.asked.offset);
        read.map_err(|cause| destination(&self.claim.path, "cannot be read back", cause))
    }

    fn landed(&self, range: Range<u64>) -> Result<(), Error> {
        if let Some(keeper) = self.keeper.get() {
            keeper.landed(range);
        }
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // A future that was dropped tells no outcome: its download was cancelled.
        self.leave(ErrorKind::Cancelled);
    }
}

/// Makes what was done to the names in a folder outlive a crash of the machine.
fn sync_folder(path: &Path) -> Result<(), Error> {
    let folder = folder_of(path);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|cause| destination(folder, "cannot be synced", cause))
}

#[cfg(test)]
mod tests;
