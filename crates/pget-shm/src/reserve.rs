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
        let taken = file.metadata().map(|meta| blocks_of(&meta) * 512)?;
        let lacks = |free: u64| free.saturating_add(taken) < length;
        // The kernel's own mount, where memfds are, has no limit and says 0 blocks.
        if device.f_blocks > 0 {
            if lacks(device.f_bavail.saturating_mul(device.f_frsize)) {
                return Err(Errno::NOSPC.into());
            }
        } else if free_memory().is_some_and(lacks) {
            // To reserve it would end some process, and maybe this one.
            return Err(Errno::NOMEM.into());
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
            // The next object of the file may be shorter, and the thread of the one before not have heard yet that it is to stop.
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

/// Bytes that the machine can still give, page cache and swap included, as far as it says so (proc_meminfo(5)).
fn free_memory() -> Option<u64> {
    free_of(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn free_of(table: &str) -> Option<u64> {
    let kibibytes = |name: &str| {
        let rest = table.lines().find_map(|line| line.strip_prefix(name))?;
        rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    let swap = kibibytes("SwapFree:").unwrap_or_default();
    kibibytes("MemAvailable:")?.checked_add(swap)?.checked_mul(1024)
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
        // Its next object is shorter, and the thread of the one before is between its look at `stop` and its call.
        file.set_len(4096).expect("cut");
        reserve.piece(0).expect("room");
        assert_eq!(file.metadata().expect("a file").len(), 4096);
    }

    #[test]
    fn what_the_machine_can_give() {
        let table = "MemTotal:       4 kB\nMemAvailable:   1000 kB\nSwapTotal: 9 kB\nSwapFree:  24 kB\n";
        assert_eq!(free_of(table), Some(1024 * 1024));
        assert_eq!(free_of("MemAvailable: 3 kB"), Some(3 * 1024));
        assert_eq!(free_of("SwapFree: 3 kB"), None);
        assert_eq!(free_of("MemAvailable: much"), None);
        assert!(free_memory().is_none_or(|free| free > 0));
    }
}
