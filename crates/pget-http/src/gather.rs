//! When to let the kernel gather data before it wakes us (`SO_RCVLOWAT`), so that one wake-up and one receive move a large piece.
//!
//! Invariants: slow data and the tail of a body are never held back: the mark is 1 until the connection has proved fast, is never above what is sure to come, and
//! falls back to 1 when a wait with a raised mark takes longer than [`PATIENCE`]. Lowering the mark signals data that is already there (Linux).

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

/// Bytes worth gathering: receives get cheaper up to about this size.
const GATHER: u32 = 1024 * 1024;
/// Fast is a connection whose last [`GATHER`] bytes took no longer; gathering then delays a byte by less than this.
const FAST: Duration = Duration::from_millis(20);
/// The longest that a raised mark may hold data back.
pub(crate) const PATIENCE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Gather {
    /// What the socket is set to.
    mark: u32,
    fast: bool,
    since: Instant,
    bytes: usize,
}

impl Gather {
    pub(crate) fn new() -> Self {
        Self {
            mark: 1,
            fast: false,
            since: Instant::now(),
            bytes: 0,
        }
    }

    /// `count` bytes were received.
    pub(crate) fn received(&mut self, count: usize) {
        self.bytes += count;
        if self.bytes >= GATHER as usize {
            let now = Instant::now();
            self.fast = now - self.since <= FAST;
            self.since = now;
            self.bytes = 0;
        }
    }

    /// A wait took too long.
    pub(crate) fn slow(&mut self) {
        self.fast = false;
        self.since = Instant::now();
        self.bytes = 0;
    }

    /// Whether data may be held back now.
    pub(crate) const fn is_raised(&self) -> bool {
        self.mark > 1
    }

    /// Sets the mark for a wait in which at least `expected` more bytes are sure to come, of which
    /// up to `most` are received at once.
    pub(crate) fn aim(&mut self, socket: &TcpStream, expected: u64, most: u32) -> io::Result<()> {
        let want = if self.fast {
            let most = most.min(GATHER);
            u32::try_from(expected).unwrap_or(most).clamp(1, most)
        } else {
            1
        };
        self.set(socket, want)
    }

    /// Back to waking at the first byte.
    pub(crate) fn lower(&mut self, socket: &TcpStream) -> io::Result<()> {
        self.set(socket, 1)
    }

    fn set(&mut self, socket: &TcpStream, mark: u32) -> io::Result<()> {
        if mark != self.mark {
            set_low_water_mark(socket, mark)?;
            self.mark = mark;
        }
        Ok(())
    }
}

#[cfg(target_os = "linux")]
fn set_low_water_mark(socket: &TcpStream, mark: u32) -> io::Result<()> {
    use nix::sys::socket::setsockopt;

    let mark = i32::try_from(mark).unwrap_or(i32::MAX);
    Ok(setsockopt(socket, option::ReceiveLowWaterMark, &mark)?)
}

/// Elsewhere, setting the mark does not wake who waits for less.
#[cfg(not(target_os = "linux"))]
fn set_low_water_mark(_socket: &TcpStream, _mark: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
mod option {
    #![allow(
        unsafe_code,
        reason = "nix's macro calls setsockopt; nothing here does by itself"
    )]

    /// `SO_RCVLOWAT`, which nix does not have.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct ReceiveLowWaterMark;

    nix::setsockopt_impl!(
        ReceiveLowWaterMark,
        libc::SOL_SOCKET,
        libc::SO_RCVLOWAT,
        i32,
        nix::sys::socket::sockopt::SetStruct<'_, i32>
    );
}
