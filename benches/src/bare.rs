//! A bare HTTP connection, with which the benches measure the limits.
//!
//! It is a blocking socket. Requests are text, and the caller receives the body into memory of its
//! choice.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

/// One connection to the server of one object.
#[derive(Debug)]
pub struct Bare {
    socket: TcpStream,
    host: String,
    path: String,
}

impl Bare {
    /// Connects to the host of an `http` URL.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn connect(url: &str) -> io::Result<Self> {
        let rest = url.strip_prefix("http://").and_then(|rest| rest.split_once('/'));
        let (host, path) = rest.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self {
            socket: TcpStream::connect(host)?,
            host: host.to_owned(),
            path: path.to_owned(),
        })
    }

    /// Requests a range. Returns the bytes of its body that arrived together with the head.
    ///
    /// # Errors
    /// If the head does not arrive in one piece.
    pub fn ask(&mut self, range: &Range<u64>) -> io::Result<Vec<u8>> {
        let request = format!(
            "GET /{} HTTP/1.1\r\nHost: {}\r\nRange: bytes={}-{}\r\n\r\n",
            self.path,
            self.host,
            range.start,
            range.end - 1
        );
        self.socket.write_all(request.as_bytes())?;
        let mut head = vec![0; 4096];
        let filled = self.socket.read(&mut head)?;
        head.truncate(filled);
        let end = head.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.ok_or_else(|| io::Error::other("a head in pieces"))? + 4;
        Ok(head.split_off(end))
    }

    /// Receives until `buffer` is full.
    ///
    /// # Errors
    /// If the body ends too early.
    pub fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.socket.read_exact(buffer)
    }
}

/// Runs `worker` on `connections` threads, which take ranges of `chunk` bytes in turn.
///
/// Returns the number of bytes.
///
/// # Errors
/// Returns the first error of a worker.
pub fn in_parallel(
    url: &str,
    size: u64,
    chunk: u64,
    connections: u32,
    worker: impl Fn(&mut Bare, &mut dyn Iterator<Item = Range<u64>>) -> io::Result<()> + Sync,
) -> io::Result<u64> {
    let (next, moved) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|_| {
                scope.spawn(|| -> io::Result<()> {
                    let mut ranges = std::iter::from_fn(|| {
                        let start = next.fetch_add(chunk, Ordering::Relaxed);
                        let range = start..size.min(start.saturating_add(chunk));
                        (start < size).then(|| {
                            moved.fetch_add(range.end - range.start, Ordering::Relaxed);
                            range
                        })
                    });
                    worker(&mut Bare::connect(url)?, &mut ranges)
                })
            })
            .collect();
        for thread in threads {
            thread
                .join()
                .map_err(|_| io::Error::other("a thread panicked"))??;
        }
        Ok(moved.load(Ordering::Relaxed))
    })
}
