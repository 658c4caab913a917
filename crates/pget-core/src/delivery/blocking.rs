//! The in-order reader for threads that may block: `std::io::Read` and `BufRead`.

use std::io::{self, BufRead, Read, Write};

use tokio::runtime::Handle;

use super::reader::{Monitor, Reader};
use crate::{Error, Lease, ObjectInfo, Stats, threads::block_on};

/// [`Reader`] for a thread that may block; not for a thread of an asynchronous runtime (it would
/// panic there, as tokio's `block_on` does).
#[derive(Debug)]
pub struct BlockingReader {
    reader: Reader,
    runtime: Handle,
}

impl BlockingReader {
    pub(crate) const fn new(reader: Reader, runtime: Handle) -> Self {
        Self { reader, runtime }
    }

    /// Returns what the first reply said of the object; waits for it.
    ///
    /// # Errors
    /// If the download fails before.
    pub fn info(&self) -> Result<ObjectInfo, Error> {
        self.reader.check_process()?;
        block_on(&self.runtime, self.reader.info())
    }

    /// As [`Reader::total`].
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.reader.total()
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.reader.stats()
    }

    /// Returns a handle that reports the counters and cancels, for other threads.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        self.reader.monitor()
    }

    /// Returns the next bytes, without a copy; `None` at the end.
    ///
    /// # Examples
    /// ```no_run
    /// # fn example(reader: &mut pget_core::BlockingReader) -> Result<(), pget_core::Error> {
    /// while let Some(lease) = reader.next_lease()? {
    ///     println!("{} bytes at {}", lease.len(), lease.offset());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What ended the download.
    pub fn next_lease(&mut self) -> Result<Option<Lease>, Error> {
        // In a child, the runtime is the parent's.
        self.reader.check_process()?;
        if self.reader.lent().is_none()
            && let Some(result) = self.reader.try_lease()
        {
            return result;
        }
        block_on(&self.runtime, self.reader.next())
    }

    /// Writes all remaining bytes to `writer`, and flushes; returns the number of bytes.
    ///
    /// # Examples
    /// ```no_run
    /// # fn example(reader: &mut pget_core::BlockingReader) -> Result<(), pget_core::Error> {
    /// let count = reader.write_to(&mut std::io::stdout())?;
    /// eprintln!("{count} bytes");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What ended the download, or [`Destination`](crate::ErrorKind::Destination) if the writer
    /// failed.
    pub fn write_to<W: Write + ?Sized>(&mut self, writer: &mut W) -> Result<u64, Error> {
        let mut written = 0;
        while let Some(lease) = self.next_lease()? {
            writer
                .write_all(&lease)
                .map_err(|cause| self.reader.destination_failed(cause))?;
            written += lease.len() as u64;
        }
        writer
            .flush()
            .map_err(|cause| self.reader.destination_failed(cause))?;
        Ok(written)
    }
}

impl BufRead for BlockingReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.check_process()?;
        if self.reader.lent().is_none() {
            let lease = self.next_lease()?;
            return Ok(self.reader.lend(lease));
        }
        Ok(self.reader.lent().map_or(&[][..], |lease| lease))
    }

    fn consume(&mut self, amount: usize) {
        self.reader.consume_lent(amount);
    }
}

impl Read for BlockingReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(buf.len());
        buf[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}
