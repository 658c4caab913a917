//! Space is reserved before it is needed, so that a full device is an error while a call can
//! still report it, and never SIGBUS in a reader.
//!
//! The first piece is reserved at once, the rest by a thread, as gigabytes take seconds and who
//! begins a download must not wait for them. A `pwrite` that overtakes the thread takes its own
//! space, or fails.

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
    /// Reserves the first piece after the first `backed` bytes, which have their space, and has a
    /// thread do the rest.
    ///
    /// # Errors
    /// What `fallocate` says, `StorageFull` if there is less space than that in all, `OutOfMemory`
    /// if there is less memory, of the machine or of a control group.
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
        let taken = file.metadata().map(|meta| blocks_of(&meta) * 512)?;
        // The kernel's own mount, where memfds are, has no limit and says 0 blocks.
        let free = (device.f_blocks > 0).then(|| device.f_bavail.saturating_mul(device.f_frsize));
        check(length, taken, free, pget_core::system_memory::free())?;
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
            // The next object of the file may be shorter, and the thread of the one before not have
            // heard yet that it is to stop.
            match fallocate(&*self.file, FallocateFlags::KEEP_SIZE, start, length) {
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

/// Whether `length` bytes are to be had, of which the file has `taken`: from its device, which has
/// that many free if it has a limit, and from memory, if it is known how much that has.
fn check(length: u64, taken: u64, device: Option<u64>, memory: Option<u64>) -> Result<(), Errno> {
    let lacks = |free: u64| free.saturating_add(taken) < length;
    if device.is_some_and(lacks) {
        return Err(Errno::NOSPC);
    }
    // To reserve it would end some process, and maybe this one.
    if memory.is_some_and(lacks) {
        return Err(Errno::NOMEM);
    }
    Ok(())
}

fn blocks_of(meta: &std::fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    meta.blocks()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_cut_meanwhile_stays_so() {
        let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC);
        let file = Arc::new(File::from(file.expect("a file")));
        file.set_len(3 * PIECE).expect("a length");
        let reserve = Reserve {
            file: Arc::clone(&file),
            length: 3 * PIECE,
            stop: AtomicBool::new(false),
            failed: OnceLock::new(),
        };
        // Its next object is shorter, and the thread of the one before is between its look at
        // `stop` and its call.
        file.set_len(4096).expect("cut");
        reserve.piece(0).expect("room");
        assert_eq!(file.metadata().expect("a file").len(), 4096);
    }

    /// A control group that gets above its limit loses a process by it, wherever the pages are.
    #[test]
    fn more_than_memory_has_is_refused_on_a_device_and_without() {
        for device in [None, Some(1000)] {
            assert_eq!(check(100, 0, device, Some(100)), Ok(()));
            assert_eq!(check(100, 0, device, Some(99)), Err(Errno::NOMEM));
            assert_eq!(check(100, 1, device, Some(99)), Ok(()));
            assert_eq!(check(100, 0, device, None), Ok(()));
        }
        assert_eq!(check(100, 0, Some(99), Some(1000)), Err(Errno::NOSPC));
        assert_eq!(check(100, 1, Some(99), None), Ok(()));
    }
}
