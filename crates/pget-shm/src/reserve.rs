//! Space is reserved before it is needed, so that a full device is an error while there is still someone to tell it to, and never SIGBUS to who reads.
//!
//! The first piece is reserved at once, the rest by a thread, as gigabytes take seconds and who begins a download must not wait for them. A `pwrite` that overtakes the thread
//! takes its own space, or fails.

use std::{
    fs::File,
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{FallocateFlags, fallocate, fstatvfs},
    io::Errno,
};

/// Reserved by one call: it cannot be interrupted, and holds the file's lock.
const PIECE: u64 = 16 << 20;

/// The space of one filling.
#[derive(Debug)]
pub(crate) struct Reserve {
    file: Arc<File>,
    length: u64,
    stop: AtomicBool,
    failed: OnceLock<io::Error>,
}

impl Reserve {
    /// Reserves the first piece behind the first `backed` bytes, which have their space, and has a thread do the rest.
    ///
    /// # Errors
    /// What `fallocate` says, or `StorageFull` if there is less space than that in all.
    pub(crate) fn begin(file: &Arc<File>, backed: u64, length: u64) -> io::Result<Arc<Self>> {
        let reserve = Arc::new(Self {
            file: Arc::clone(file),
            length,
            stop: AtomicBool::new(false),
            failed: OnceLock::new(),
        });
        if backed >= length {
            return Ok(reserve);
        }
        let device = fstatvfs(file)?;
        // The kernel's own mount, where memfds are, has no limit and says 0 blocks.
        if device.f_blocks > 0 {
            let taken = file.metadata().map(|meta| blocks_of(&meta) * 512)?;
            let free = device.f_bavail.saturating_mul(device.f_frsize);
            if free.saturating_add(taken) < length {
                return Err(Errno::NOSPC.into());
            }
        }
        reserve.piece(backed)?;
        let start = backed.saturating_add(PIECE);
        if length > start {
            let rest = Arc::clone(&reserve);
            let thread = std::thread::Builder::new().name("pget-reserve".into());
            // Without the thread a full device is met later, by a `pwrite`.
            if let Err(error) = thread.spawn(move || rest.rest(start)) {
                tracing::debug!(%error, "no thread to reserve shared memory");
            }
        }
        Ok(reserve)
    }

    fn rest(&self, mut start: u64) {
        while start < self.length && !self.stop.load(Ordering::Relaxed) {
            if let Err(error) = self.piece(start) {
                // It is the only one that sets it.
                self.failed.set(error).ok();
                return;
            }
            start += PIECE;
        }
    }

    fn piece(&self, start: u64) -> io::Result<()> {
        let length = PIECE.min(self.length.saturating_sub(start));
        if length == 0 {
            return Ok(());
        }
        loop {
            match fallocate(&*self.file, FallocateFlags::empty(), start, length) {
                Err(Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Why there is no space, if that is known by now.
    pub(crate) fn failure(&self) -> Option<&io::Error> {
        self.failed.get()
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn blocks_of(meta: &std::fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    meta.blocks()
}
