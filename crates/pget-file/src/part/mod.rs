//! The part that a file grows in: the destination of its download, and what becomes of it.
//!
//! Invariants: the final name only ever gets a part that is complete, and is this download's own; a
//! part stays only with a journal that speaks of it, or complete, and a journal that is of
//! no use goes before the part is written to; what others have put under the names of part and
//! journal since is theirs.
//!
//! A call that is a convenience (a sync, a reservation, a lock, a journal) may be refused: then the
//! download does without it and warns. A failure that may have lost bytes ends the download.

pub(crate) mod lock;
pub(crate) mod space;

use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    unistd::{close, syncfs},
};
use pget_core::{Destination, Error, ErrorKind, Keeps, ObjectInfo, Options, Transfer};

use crate::{
    failure::destination,
    journal::{
        Asked, Identity, Journal, SLOT,
        reader::{earlier, open},
        writer::Keeper,
    },
    names::{Names, folder_of},
    refusal::is_refusal,
    replace::{Standing, publish},
    settings::Settings,
    warnings::Warnings,
};
use lock::{Claim, is_named};
use space::size_limit;

/// Bytes of each of a journal's slots that are reserved, so that a full disk still takes an entry.
const RESERVED: i64 = 64 << 10;
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

/// What a failed download has left.
enum Left {
    Nothing,
    /// As it was found.
    Untouched,
    /// Bytes that another read can go on with, of so many.
    Some(u64, u64),
    /// All that was wanted.
    Complete,
}

/// A file that grows beside its name: the destination of a download.
#[derive(Debug)]
pub struct Part {
    claim: Claim,
    /// Takes the place of one that could not be emptied.
    renewed: OnceLock<Claim>,
    /// What is replaced.
    standing: Option<Standing>,
    /// A copy of the descriptor, for the last close: there may be no other descriptor then.
    closing: Mutex<Option<File>>,
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
        let claim = Claim::take(&names.part, mode).map_err(|error| with_a_way(error, target))?;
        let earlier = if settings.resume && claim.existed && !in_order {
            earlier(&claim, &names.journal, is_verified)?
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
        if claim.existed
            && let Some(standing) = &standing
        {
            standing.narrow(&claim.file, &names.part)?;
        }
        Ok(Self {
            closing: Mutex::new(claim.file.try_clone().ok()),
            claim,
            renewed: OnceLock::new(),
            standing,
            journal: names.journal,
            own_journal: OnceLock::new(),
            asked,
            settings,
            earlier,
            limit: size_limit(),
            has_begun: AtomicBool::new(false),
            keeper: OnceLock::new(),
            is_complete: AtomicBool::new(false),
            is_settled: AtomicBool::new(false),
            in_order,
            appended: AtomicU64::new(0),
            needs_order: AtomicBool::new(false),
        })
    }

    fn claim(&self) -> &Claim {
        self.renewed.get().unwrap_or(&self.claim)
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
    pub fn finish(&self, target: &Path) -> Result<(), Error> {
        let failed = |what: &str| {
            let path = self.claim().path.clone();
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
        let unsynced = if self.settings.sync {
            self.sync_all().map_err(failed("cannot be synced"))?
        } else {
            None
        };
        self.is_complete.store(true, Ordering::Relaxed);
        self.check_named()?;
        // It may be another one by now.
        let standing = Standing::of(target)?;
        if let Some(standing) = &standing {
            let dressed = standing.dress(&self.claim().file, target, &self.settings.warnings);
            dressed.map_err(failed("cannot be looked at"))?;
        }
        let (path, sync) = (&self.claim().path, self.settings.sync);
        let secure = || {
            if let Some(keeper) = self.keeper.get() {
                keeper.last();
            }
        };
        let file = &self.claim().file;
        publish(path, file, target, sync, &self.settings.warnings, secure).inspect_err(|_| {
            Standing::undress(&self.claim().file);
        })?;
        self.is_settled.store(true, Ordering::Relaxed);
        // If that fails: it speaks of no part, so the next download removes it.
        self.remove_own_journal();
        self.unlock();
        if self.settings.sync {
            sync_folder(target, &self.claim().file, &self.settings.warnings)?;
        }
        unsynced.map_or(Ok(()), |cause| {
            let what = "is complete, and its file system refuses to sync it";
            Err(destination(target, what, cause))
        })
    }

    /// Syncs the part. Returns the refusal of a file system that does not know how.
    fn sync_all(&self) -> io::Result<Option<io::Error>> {
        let file = &self.claim().file;
        let synced = match self.keeper.get() {
            Some(keeper) => keeper.sync_all(),
            None => file.sync_all(),
        };
        match synced {
            Err(error) if is_refusal(&error) => {}
            result => return result.map(|()| None),
        }
        // Each of them does what was asked for.
        match file.sync_data().or_else(|_| Ok(syncfs(file)?)) {
            Err(error) if is_refusal(&error) => Ok(Some(error)),
            result => result.map(|()| None),
        }
    }

    /// File systems over a network may write at a close, and report only then that they could not;
    /// the part itself is closed when it has its name, which is too late.
    fn flush(&self) -> io::Result<()> {
        let file = &self.claim().file;
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
                if let Some(keeper) = self.keeper.get() {
                    keeper.distrust();
                }
                Err(errno.into())
            }
        }
    }

    /// The download has failed: decides whether the part stays for another time, and says what the
    /// caller can do.
    pub fn fail(&self, error: Error) -> Error {
        let left = self.leave(error.kind());
        let part = self.claim().path.display();
        match left {
            // The caller that cancels knows.
            _ if error.kind() == ErrorKind::Cancelled => error,
            Left::Some(bytes, of) if error.kind() != ErrorKind::ObjectChanged => error.with_advice(format!(
                "{bytes} of {of} bytes stay in {part}: read with resume to go on (pget get --resume)"
            )),
            Left::Complete if self.keeper.get().is_none() => {
                error.with_advice(format!("all bytes are in {part}, which stays: rename it"))
            }
            Left::Complete => error.with_advice(format!(
                "all bytes are in {part}, which stays: rename it, or read with resume (pget get --resume)"
            )),
            Left::Nothing if error.kind() == ErrorKind::Destination && self.has_landed() => {
                error.with_advice("what was fetched could not be secured, and is removed")
            }
            Left::Nothing | Left::Untouched | Left::Some(..) => self.advise(error),
        }
    }

    /// Whether this download has brought anything.
    fn has_landed(&self) -> bool {
        self.appended.load(Ordering::Relaxed) > 0
            || self.keeper.get().is_some_and(|keeper| keeper.has_landed())
    }

    /// Nothing is written any more, and the part is not complete: removes it, or leaves it with its
    /// journal, and in either case to others. Does nothing the second time.
    fn leave(&self, why: ErrorKind) -> Left {
        if self.is_settled.swap(true, Ordering::Relaxed) {
            return Left::Untouched;
        }
        let is_complete = self.is_complete.load(Ordering::Relaxed);
        let left = match self.keeper.get() {
            // Another part, in order, takes its place.
            _ if self.needs_order() => {
                if let Some(keeper) = self.keeper.get() {
                    keeper.stop();
                }
                Left::Nothing
            }
            None if is_complete => Left::Complete,
            // What was there before, and was not written to, is another time's.
            None if self.claim.existed && !self.has_begun.load(Ordering::Relaxed) => Left::Untouched,
            None if let Some((journal, ..)) = &self.earlier => {
                let whole = journal.range();
                Left::Some(journal.landed.total(), whole.end - whole.start)
            }
            None => Left::Nothing,
            Some(keeper) => {
                keeper.stop();
                self.left_with(keeper, why, is_complete)
            }
        };
        let is_there = self.claim().is_still_named();
        let stays = !matches!(left, Left::Nothing);
        // A journal without its part is of no use either.
        if !(stays && is_there) {
            self.remove_own_journal();
            if is_there && let Err(error) = fs::remove_file(&self.claim().path) {
                tracing::debug!(%error, part = %self.claim().path.display(), "stays, and cannot be gone on from");
            }
        }
        // A thread that still writes an entry keeps the lock until it has.
        if self.keeper.get().is_none_or(|keeper| keeper.is_at_rest()) {
            self.unlock();
        }
        if is_there { left } else { Left::Nothing }
    }

    /// What stays of a part that has a keeper, which is stopped.
    fn left_with(&self, keeper: &Keeper, why: ErrorKind, is_complete: bool) -> Left {
        // What is there is known to be wrong: nothing may go on from it. (That it cannot be
        // verified is reported before anything begins.)
        let is_wrong = why == ErrorKind::Checksum;
        let is_of_use = self.settings.resume || why != ErrorKind::ObjectChanged;
        // Who cancels does not want to wait for a disk.
        if !is_wrong
            && is_of_use
            && why != ErrorKind::Cancelled
            && (self.settings.resume || why == ErrorKind::Destination || keeper.has_journal())
        {
            keeper.last();
        }
        if is_complete && !is_wrong {
            Left::Complete
        } else if !is_wrong && is_of_use && keeper.has_journal() {
            let (bytes, of) = keeper.written_down();
            Left::Some(bytes, of)
        } else {
            Left::Nothing
        }
    }

    /// Not left to the last owner of this, who may be a task that ends a little later.
    fn unlock(&self) {
        if let Err(error) = self.claim().file.unlock() {
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
        if self.claim().is_still_named() {
            return Ok(());
        }
        let message = format!(
            "{} was removed or replaced during the read",
            self.claim().path.display()
        );
        Err(Error::new(ErrorKind::Destination, "", message))
    }

    /// Empties the part. The journal goes first, for good: it must not speak of what is written
    /// from here on.
    fn start_over(&self) -> Result<(), Error> {
        self.check_named()?;
        self.garble_journal()?;
        if self.remove_journal()? {
            sync_folder(&self.claim.path, &self.claim.file, &self.settings.warnings)?;
        }
        if !self.claim.existed {
            return Ok(());
        }
        match self.claim.file.set_len(0) {
            // Then a new one, under the same name.
            Err(error) if is_refusal(&error) => self.renew(),
            emptied => emptied.map_err(|cause| destination(&self.claim.path, "cannot be emptied", cause)),
        }
    }

    fn renew(&self) -> Result<(), Error> {
        let path = &self.claim.path;
        fs::remove_file(path).map_err(|cause| destination(path, "cannot be emptied", cause))?;
        let claim = Claim::take(path, Standing::mode_of_part(self.standing.as_ref()))?;
        self.renewed.get_or_init(|| claim);
        Ok(())
    }

    /// Makes an earlier journal unreadable before it is removed, as the removal may not be on the
    /// disk when the machine crashes: not every folder can be synced.
    fn garble_journal(&self) -> Result<(), Error> {
        let Ok(journal) = open(&self.journal, false) else {
            return Ok(());
        };
        let garbled = journal.set_len(0).and_then(|()| journal.sync_data());
        if let Err(error) = garbled {
            tracing::debug!(%error, journal = %self.journal.display(), "is removed without being emptied");
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

    /// A keeper for what is to land; `None` where there would be nothing to know the object by, or
    /// where no journal can be kept.
    fn keep(&self, object: &ObjectInfo) -> Option<Arc<Keeper>> {
        match self.journal_of(object) {
            Ok(keeper) => keeper,
            Err(error) => {
                self.settings.warnings.push(format!(
                    "{} cannot be kept ({error}): the download goes on, and cannot be resumed from here if it is interrupted",
                    self.journal.display()
                ));
                None
            }
        }
    }

    fn journal_of(&self, object: &ObjectInfo) -> io::Result<Option<Arc<Keeper>>> {
        let (journal, file, sequence) = match (&self.earlier, object.size) {
            (Some((journal, file, sequence)), _) => (journal.clone(), file.try_clone()?, *sequence),
            // Not where the journal itself might be too long for the process.
            (None, Some(size)) if object.revision.is_identity() && self.limit >= 2 * SLOT as u64 => {
                if !self.claim().is_locked {
                    return Err(io::Error::other("the file system has no locks"));
                }
                let file = open(&self.journal, true)?;
                let journal = Journal {
                    inode: self.claim().inode,
                    born: self.claim().born,
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
        let meta = file.metadata()?;
        self.own_journal.get_or_init(|| (meta.dev(), meta.ino()));
        let part = Arc::clone(&self.claim().file);
        let warnings = self.settings.warnings.clone();
        let keeper = Keeper::new(part, self.journal.clone(), file, journal, sequence, warnings);
        keeper
            .start(self.settings.journal_interval)
            .inspect_err(|_| self.remove_own_journal_that_is_new(sequence))?;
        Ok(Some(keeper))
    }

    fn remove_own_journal_that_is_new(&self, sequence: u64) {
        if sequence == 0 {
            self.remove_own_journal();
        }
    }

    /// Remembers that the file system takes bytes in order only.
    fn refuse_disorder(&self, cause: io::Error) -> Error {
        self.needs_order.store(true, Ordering::Relaxed);
        let what = "takes bytes in order only (--concurrency 1)";
        destination(&self.claim().path, what, cause)
    }

    /// Puts `bytes` after those that are there. For a part whose bytes come in order.
    pub fn append(&self, bytes: &[u8]) -> Result<(), Error> {
        let at = self.appended.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.put(self.asked.offset + at, bytes)
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
            let file = &self.claim().file;
            let no_room = |cause| destination(&self.claim().path, "has no room", cause);
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
            && let Some(keeper) = self.keep(object)
        {
            // `begin` is called once.
            self.keeper.get_or_init(|| keeper);
        }
        Ok(Transfer::Put)
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        if let Some(keeper) = self.keeper.get() {
            self.check(keeper)?;
        }
        let failed = |cause| destination(&self.claim().path, "cannot be written", cause);
        let at = offset - self.asked.offset;
        if at + bytes.len() as u64 > self.limit {
            return Err(failed(Errno::EFBIG.into()));
        }
        self.claim().file.write_all_at(bytes, at).map_err(|cause| {
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
            .claim()
            .file
            .read_exact_at(buffer, offset - self.asked.offset);
        read.map_err(|cause| destination(&self.claim().path, "cannot be read back", cause))
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
        // A future that was dropped reports no outcome: its download was cancelled.
        self.leave(ErrorKind::Cancelled);
    }
}

/// Keeps room for an entry in each of a journal's slots, as far as that is possible.
fn reserve_entries(journal: &File) {
    let second = i64::try_from(SLOT).unwrap_or_default();
    for at in [0, second] {
        if let Err(error) = fallocate(journal, FallocateFlags::FALLOC_FL_KEEP_SIZE, at, RESERVED) {
            tracing::trace!(%error, "no room is kept for a journal's entry");
        }
    }
}

/// Adds another way to write `target` to the error of a part that its folder does not take.
fn with_a_way(error: Error, target: &Path) -> Error {
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<io::Error>());
    let is_refused = cause.is_some_and(is_refusal);
    if is_refused && fs::symlink_metadata(target).is_ok_and(|meta| meta.is_file()) {
        return error.with_advice("pget cat URL > FILE overwrites a file where its folder takes no other");
    }
    error
}

/// Makes what was done to the names in a folder outlive a crash of the machine, as far as its file
/// system can do that.
fn sync_folder(path: &Path, file: &File, warnings: &Warnings) -> Result<(), Error> {
    let folder = folder_of(path);
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    let refused = match synced {
        Ok(()) => return Ok(()),
        Err(error) if is_refusal(&error) => error,
        Err(cause) => return Err(destination(folder, "cannot be synced", cause)),
    };
    // The folder cannot be read, or not be synced alone.
    match syncfs(file) {
        Ok(()) => Ok(()),
        Err(errno) if is_refusal(&errno.into()) => {
            warnings.push(format!("{} cannot be synced ({refused})", folder.display()));
            Ok(())
        }
        Err(errno) => Err(destination(folder, "cannot be synced", errno.into())),
    }
}

#[cfg(test)]
mod tests;
