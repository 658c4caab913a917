//! The part that a file grows in: the destination of its download, and what becomes of it.
//!
//! Invariants: the final name only ever gets a part that is complete, and is this download's own; a
//! part stays only with a journal that speaks of it, or complete, and a journal that is of
//! no use goes before the part is written to; what others have put under the names of part and
//! journal since is theirs.
//!
//! A call that is a convenience (a sync, a reservation, a lock, a journal) may be refused: then the
//! download does without it and warns. A failure that may have lost bytes ends the download.

mod journal_file;
pub(crate) mod lock;
mod remains;
pub(crate) mod space;
mod sync;

use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use nix::{errno::Errno, unistd::close};
use pget_core::{Destination, Error, ErrorKind, Keeps, ObjectInfo, Options, Transfer};

use crate::{
    failure::destination,
    journal::{
        Asked, Identity, Journal, SLOT,
        reader::{earlier, open},
        writer::JournalWriter,
    },
    names::Names,
    refusal::is_refusal,
    replace::{Standing, publish},
    settings::Settings,
};
use journal_file::{JournalFile, reserve_entries};
use lock::LockedPart;
use remains::{Remains, with_a_way};
use space::size_limit;
use sync::{sync_file, sync_folder};

/// Objects of fewer bytes are not worth a reservation.
const WORTH_RESERVING: u64 = 8 << 20;

/// What a part is made from.
#[derive(Debug)]
pub struct Plan {
    /// Where it grows, and where its progress is recorded.
    pub names: Names,
    /// What the download was asked for.
    pub asked: Asked,
    /// How the file is written.
    pub settings: Settings,
    /// All bytes are verified before the file gets its name.
    pub is_verified: bool,
    /// The bytes come in order, by [`Part::append`].
    pub in_order: bool,
}

/// A file that grows beside its name: the destination of a download.
#[derive(Debug)]
pub struct Part {
    locked: LockedPart,
    /// Takes the place of one that could not be emptied.
    renewed: OnceLock<LockedPart>,
    /// What is replaced.
    standing: Option<Standing>,
    /// A copy of the descriptor, for the last close: there may be no other descriptor then.
    closing: Mutex<Option<File>>,
    journal: JournalFile,
    asked: Asked,
    settings: Settings,
    /// What an earlier download has left to go on from, its journal's file and sequence.
    earlier: Option<(Journal, File, u64)>,
    /// No file of this process may be longer.
    limit: u64,
    has_begun: AtomicBool,
    writer: OnceLock<Arc<JournalWriter>>,
    /// All has landed, was verified, and the system has reported no loss.
    is_complete: AtomicBool,
    /// It has its final name, or is to stay for another time.
    is_settled: AtomicBool,
    /// Bytes come by [`append`](Self::append).
    in_order: bool,
    appended: AtomicU64,
    /// The file system has refused bytes beyond the end.
    needs_order: AtomicBool,
}

impl Part {
    /// The part, locked. With `resume`, its journal says what is there; without, or without
    /// a journal, all is read again, and the first reply has what is there removed.
    ///
    /// # Errors
    /// If it cannot be made, another is at it, it is of another object or range, or `target` can
    /// neither be replaced nor be overwritten.
    pub fn take(plan: Plan, target: &Path) -> Result<Self, Error> {
        let Plan {
            names,
            asked,
            settings,
            is_verified,
            in_order,
        } = plan;
        let standing = Standing::of(target)?;
        let mode = Standing::mode_of_part(standing.as_ref());
        let locked = LockedPart::take(&names.part, mode).map_err(|error| with_a_way(error, target))?;
        let earlier = if settings.resume && locked.existed && !in_order {
            earlier(&locked, &names.journal, is_verified)?
        } else {
            None
        };
        if let Some((found, ..)) = &earlier
            && (&found.asked.address, found.asked.offset, found.asked.length)
                != (&asked.address, asked.offset, asked.length)
        {
            let message = format!(
                "{} is of {}, {}; read without resume to start over",
                names.part.display(),
                if found.asked.address == asked.address {
                    "another range"
                } else {
                    "another address or endpoint"
                },
                found.asked.object
            );
            return Err(Error::new(ErrorKind::Destination, "", message));
        }
        if locked.existed
            && let Some(standing) = &standing
        {
            standing.narrow(&locked.file, &names.part)?;
        }
        Ok(Self {
            closing: Mutex::new(locked.file.try_clone().ok()),
            locked,
            renewed: OnceLock::new(),
            standing,
            journal: JournalFile::new(names.journal),
            asked,
            settings,
            earlier,
            limit: size_limit(),
            has_begun: AtomicBool::new(false),
            writer: OnceLock::new(),
            is_complete: AtomicBool::new(false),
            is_settled: AtomicBool::new(false),
            in_order,
            appended: AtomicU64::new(0),
            needs_order: AtomicBool::new(false),
        })
    }

    fn locked(&self) -> &LockedPart {
        self.renewed.get().unwrap_or(&self.locked)
    }

    /// Whether the download has failed because the file system takes bytes in order only: then
    /// another one with `in_order` is the way.
    pub fn needs_order(&self) -> bool {
        self.needs_order.load(Ordering::Relaxed)
    }

    /// Has the download read only what is missing, and only of the same revision: returns what is
    /// missing, if there is something to continue. Where nothing is, it is the last byte: its
    /// reply shows whether the object is still that.
    ///
    /// # Errors
    /// If what is there is not known to be of the revision that the caller has pinned.
    pub fn restrict(&self, options: &mut Options) -> Result<Option<Vec<Range<u64>>>, Error> {
        let Some((journal, ..)) = self.earlier.as_ref() else {
            return Ok(None);
        };
        let pin = journal.pinned_with(options.pin.take()).map_err(|how| {
            let message = format!(
                "{} holds bytes of another revision than the pinned one ({how}); read without resume to start over",
                self.locked.path.display()
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
    pub fn finish(&self, target: &Path) -> Result<(), Error> {
        let failed = |what: &str| {
            let path = self.locked().path.clone();
            let what = what.to_owned();
            move |cause| destination(&path, &what, cause)
        };
        if !self.has_begun.load(Ordering::Relaxed) {
            // Nothing was asked for, and so nothing of the object was learnt.
            self.start_over()?;
        }
        if let Some(writer) = self.writer.get() {
            writer.stop();
            self.check(writer)?;
        }
        self.flush().map_err(failed("cannot be written"))?;
        let unsynced = if self.settings.sync {
            sync_file(&self.locked().file, self.writer.get().map(|writer| &**writer))
                .map_err(failed("cannot be synced"))?
        } else {
            None
        };
        self.is_complete.store(true, Ordering::Relaxed);
        self.check_named()?;
        // It may be another one by now.
        let standing = Standing::of(target)?;
        if let Some(standing) = &standing {
            let dressed = standing.dress(&self.locked().file, target, &self.settings.warnings);
            dressed.map_err(failed("cannot be looked at"))?;
        }
        let (path, sync) = (&self.locked().path, self.settings.sync);
        let secure = || {
            if let Some(writer) = self.writer.get() {
                writer.last();
            }
        };
        let file = &self.locked().file;
        publish(path, file, target, sync, &self.settings.warnings, secure).inspect_err(|_| {
            Standing::undress(&self.locked().file);
        })?;
        self.is_settled.store(true, Ordering::Relaxed);
        // If that fails: it speaks of no part, so the next download removes it.
        self.journal.remove_own();
        self.unlock();
        if self.settings.sync {
            sync_folder(target, &self.locked().file, &self.settings.warnings)?;
        }
        unsynced.map_or(Ok(()), |cause| {
            let what = "is complete, and its file system refuses to sync it";
            Err(destination(target, what, cause))
        })
    }

    /// File systems over a network may write at a close, and report only then that they could not;
    /// the part itself is closed when it has its name, which is too late.
    fn flush(&self) -> io::Result<()> {
        let file = &self.locked().file;
        let copy = match file.try_clone() {
            Ok(copy) => copy,
            Err(error) => {
                let spare = self.closing.lock().unwrap_or_else(PoisonError::into_inner).take();
                spare.filter(|_| self.renewed.get().is_none()).ok_or(error)?
            }
        };
        match close(copy) {
            Ok(()) => Ok(()),
            Err(errno) if is_refusal(&errno.into()) => Ok(()),
            Err(errno) => {
                if let Some(writer) = self.writer.get() {
                    writer.distrust();
                }
                Err(errno.into())
            }
        }
    }

    /// The download has failed: decides whether the part stays for another time, and says what the
    /// caller can do.
    pub fn fail(&self, error: Error) -> Error {
        let left = self.leave(error.kind());
        let path = &self.locked().path;
        match left {
            // The caller that cancels knows.
            _ if error.kind() == ErrorKind::Cancelled => error,
            Remains::Nothing if error.kind() == ErrorKind::Destination && self.has_landed() => {
                error.with_advice("what was fetched could not be secured, and is removed")
            }
            left => left.advise(error, path, self.writer.get().is_some(), self.earlier.is_some()),
        }
    }

    /// Whether this download has brought anything.
    fn has_landed(&self) -> bool {
        self.appended.load(Ordering::Relaxed) > 0
            || self.writer.get().is_some_and(|writer| writer.has_landed())
    }

    /// Nothing is written any more, and the part is not complete: removes it, or leaves it with its
    /// journal, and in either case to others. Does nothing the second time.
    fn leave(&self, why: ErrorKind) -> Remains {
        if self.is_settled.swap(true, Ordering::Relaxed) {
            return Remains::Untouched;
        }
        let is_complete = self.is_complete.load(Ordering::Relaxed);
        let left = match self.writer.get() {
            // Another part, in order, takes its place.
            _ if self.needs_order() => {
                if let Some(writer) = self.writer.get() {
                    writer.stop();
                }
                Remains::Nothing
            }
            None if is_complete => Remains::Complete,
            // What was there before, and was not written to, is another time's.
            None if self.locked.existed && !self.has_begun.load(Ordering::Relaxed) => Remains::Untouched,
            None if let Some((journal, ..)) = &self.earlier => {
                let whole = journal.range();
                Remains::Some(journal.landed.total(), whole.end - whole.start)
            }
            None => Remains::Nothing,
            Some(writer) => {
                writer.stop();
                Remains::of(writer, why, is_complete, self.settings.resume)
            }
        };
        let is_there = self.locked().is_still_named();
        let stays = !matches!(left, Remains::Nothing);
        // A journal without its part is of no use either.
        if !(stays && is_there) {
            self.journal.remove_own();
            if is_there && let Err(error) = fs::remove_file(&self.locked().path) {
                tracing::debug!(%error, part = %self.locked().path.display(), "stays, and cannot be gone on from");
            }
        }
        // A thread that still writes an entry keeps the lock until it has.
        if self.writer.get().is_none_or(|writer| writer.is_at_rest()) {
            self.unlock();
        }
        if is_there { left } else { Remains::Nothing }
    }

    /// Not left to the last owner of this, who may be a task that ends a little later.
    fn unlock(&self) {
        if let Err(error) = self.locked().file.unlock() {
            tracing::debug!(%error, "a part stays locked until it is closed");
        }
    }

    /// # Errors
    /// If another file has the part's name, or none has: what is there is not this download's.
    fn check_named(&self) -> Result<(), Error> {
        if self.locked().is_still_named() {
            return Ok(());
        }
        let message = format!(
            "{} was removed or replaced during the read",
            self.locked().path.display()
        );
        Err(Error::new(ErrorKind::Destination, "", message))
    }

    /// Empties the part. The journal goes first, for good: it must not speak of what is written
    /// from here on.
    fn start_over(&self) -> Result<(), Error> {
        self.check_named()?;
        self.journal.garble();
        if self.journal.remove()? {
            sync_folder(&self.locked.path, &self.locked.file, &self.settings.warnings)?;
        }
        if !self.locked.existed {
            return Ok(());
        }
        match self.locked.file.set_len(0) {
            // Then a new one, under the same name.
            Err(error) if is_refusal(&error) => self.renew(),
            emptied => emptied.map_err(|cause| destination(&self.locked.path, "cannot be emptied", cause)),
        }
    }

    fn renew(&self) -> Result<(), Error> {
        let path = &self.locked.path;
        fs::remove_file(path).map_err(|cause| destination(path, "cannot be emptied", cause))?;
        let locked = LockedPart::take(path, Standing::mode_of_part(self.standing.as_ref()))?;
        self.renewed.get_or_init(|| locked);
        Ok(())
    }

    /// A writer for what is to land; `None` where there would be nothing to know the object by, or
    /// where no journal can be kept.
    fn keep(&self, object: &ObjectInfo) -> Option<Arc<JournalWriter>> {
        match self.journal_of(object) {
            Ok(writer) => writer,
            Err(error) => {
                self.settings.warnings.push(format!(
                    "{} cannot be kept ({error}): the download goes on, and cannot be resumed from here if it is interrupted",
                    self.journal.path().display()
                ));
                None
            }
        }
    }

    fn journal_of(&self, object: &ObjectInfo) -> io::Result<Option<Arc<JournalWriter>>> {
        let (journal, file, sequence) = match (&self.earlier, object.size) {
            (Some((journal, file, sequence)), _) => (journal.clone(), file.try_clone()?, *sequence),
            // Not where the journal itself might be too long for the process.
            (None, Some(size)) if object.revision.is_identity() && self.limit >= 2 * SLOT as u64 => {
                if !self.locked().is_locked {
                    return Err(io::Error::other("the file system has no locks"));
                }
                let file = open(self.journal.path(), true)?;
                let journal = Journal {
                    inode: self.locked().inode,
                    born: self.locked().born,
                    asked: self.asked.clone(),
                    size,
                    revision: Identity::from(&object.revision),
                    landed: Default::default(),
                };
                let whole = journal.range();
                if whole.end - whole.start >= WORTH_RESERVING {
                    reserve_entries(&file);
                }
                (journal, file, 0)
            }
            _ => return Ok(None),
        };
        self.journal.own(&file)?;
        let part = Arc::clone(&self.locked().file);
        let warnings = self.settings.warnings.clone();
        let writer = JournalWriter::new(
            part,
            self.journal.path().to_owned(),
            file,
            journal,
            sequence,
            warnings,
        );
        writer.start(self.settings.journal_interval).inspect_err(|_| {
            // A new one is of no use.
            if sequence == 0 {
                self.journal.remove_own();
            }
        })?;
        Ok(Some(writer))
    }

    /// Remembers that the file system takes bytes in order only.
    fn refuse_disorder(&self, cause: io::Error) -> Error {
        self.needs_order.store(true, Ordering::Relaxed);
        let what = "takes bytes in order only (--concurrency 1)";
        destination(&self.locked().path, what, cause)
    }

    /// Puts `bytes` after those that are there. For a part whose bytes come in order.
    pub fn append(&self, bytes: &[u8]) -> Result<(), Error> {
        let at = self.appended.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.put(self.asked.offset + at, bytes)
    }

    fn check(&self, writer: &JournalWriter) -> Result<(), Error> {
        if !writer.has_failed() {
            return Ok(());
        }
        let cause = writer.failure().unwrap_or_else(|| io::ErrorKind::Other.into());
        Err(destination(&self.locked.path, "cannot be synced", cause))
    }
}

impl Destination for Part {
    fn begin(&self, object: &ObjectInfo, start: u64, end: Option<u64>) -> Result<Transfer, Error> {
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
            let file = &self.locked().file;
            let no_room = |cause| destination(&self.locked().path, "has no room", cause);
            if self.in_order {
                // What is reserved may count as written.
                space::look_for(file, length, self.limit).map_err(no_room)?;
            } else {
                let is_reserved = space::reserve(file, length, self.limit).map_err(no_room)?;
                // A file system that cannot even set a length takes bytes in order.
                let sets_length = || file.set_len(1).and_then(|()| file.set_len(0));
                if !is_reserved
                    && self.earlier.is_none()
                    && let Err(cause) = sets_length()
                {
                    return Err(self.refuse_disorder(cause));
                }
            }
        }
        if !self.in_order
            && let Some(writer) = self.keep(object)
        {
            // `begin` is called once.
            self.writer.get_or_init(|| writer);
        }
        Ok(Transfer::Put)
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        if let Some(writer) = self.writer.get() {
            self.check(writer)?;
        }
        let failed = |cause| destination(&self.locked().path, "cannot be written", cause);
        let at = offset - self.asked.offset;
        if at + bytes.len() as u64 > self.limit {
            return Err(failed(Errno::EFBIG.into()));
        }
        self.locked().file.write_all_at(bytes, at).map_err(|cause| {
            if self.earlier.is_none() && !self.in_order && is_refusal(&cause) {
                return self.refuse_disorder(cause);
            }
            failed(cause)
        })
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
        let read = self
            .locked()
            .file
            .read_exact_at(buffer, offset - self.asked.offset);
        read.map_err(|cause| destination(&self.locked().path, "cannot be read back", cause))
    }

    fn landed(&self, range: Range<u64>) -> Result<(), Error> {
        if let Some(writer) = self.writer.get() {
            writer.landed(range);
        }
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // A future that was dropped reports no outcome: its download was cancelled.
        self.leave(ErrorKind::Cancelled);
    }
}

#[cfg(test)]
mod tests;
