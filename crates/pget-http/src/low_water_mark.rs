//! When to let the kernel gather data before it wakes us (`SO_RCVLOWAT`), so that one wake-up and
//! one receive move a large piece.
//!
//! [`LowWaterMark`] keeps the mark of one socket and the rate of its bytes. How long bytes may be
//! held back depends on whether the consumer is at them ([`Demand`]).
//!
//! Invariants:
//! - a mark is never above what is sure to come, so the tail of a body is not held back;
//! - near the consumer, it is 1 until the rate is known, and then what comes in [`NEAR`];
//! - a wait with a raised mark that takes longer than its patience lowers the mark to 1, which
//!   signals data that is already there (Linux).

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

/// Bytes worth gathering: receives get cheaper up to about this size.
const MOST: u32 = 1024 * 1024;
/// Bytes that are gathered of what no reader waits for, at any rate.
const FAR_PIECE: u32 = 256 * 1024;
/// Fewer bytes are not worth a mark.
const LEAST: u32 = 4096;
/// Near the consumer, about so much time of data is gathered.
const NEAR: Duration = Duration::from_millis(5);
/// The rate is that of the bytes of at least this time, over as many bodies as that takes: a body
/// of 1 MiB may last 4 ms.
const SPAN: Duration = Duration::from_millis(10);

/// Who waits for the next bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// The consumer is at them, or may be.
    Near,
    /// No reader waits yet: other bytes come before them.
    Far,
}

impl Demand {
    /// The longest that a raised mark may hold data back.
    pub(crate) const fn patience(self) -> Duration {
        match self {
            Self::Near => Duration::from_millis(10),
            Self::Far => Duration::from_millis(100),
        }
    }
}

#[derive(Debug)]
pub(crate) struct LowWaterMark {
    /// What the socket is set to.
    mark: u32,
    /// Bytes in [`NEAR`]; 0 if that is not known.
    rate: u32,
    /// The last bytes of this body; `None` before the first of them.
    last: Option<Instant>,
    /// What came since the rate was computed, and in how long: from the first bytes of each body.
    bytes: u64,
    time: Duration,
}

impl LowWaterMark {
    pub(crate) fn new() -> Self {
        Self {
            mark: 1,
            rate: 0,
            last: None,
            bytes: 0,
            time: Duration::ZERO,
        }
    }

    /// The time to the next bytes is not the connection's: a request is sent.
    pub(crate) fn pause(&mut self) {
        self.last = None;
    }

    /// `count` bytes were received at `now`.
    pub(crate) fn received(&mut self, now: Instant, count: usize) {
        // The first bytes of a body came in a time that is not known.
        let Some(last) = self.last.replace(now) else {
            return;
        };
        self.bytes += count as u64;
        self.time += now.saturating_duration_since(last);
        if self.time >= SPAN {
            let near = u128::from(self.bytes) * NEAR.as_nanos() / self.time.as_nanos();
            self.rate = u32::try_from(near).unwrap_or(u32::MAX);
            self.begin();
        }
    }

    /// A wait took too long. What it gathered comes next, and not in the time that follows.
    pub(crate) const fn slow(&mut self) {
        self.rate = 0;
        self.last = None;
        self.begin();
    }

    const fn begin(&mut self) {
        (self.bytes, self.time) = (0, Duration::ZERO);
    }

    /// Whether data may be held back now.
    pub(crate) const fn is_raised(&self) -> bool {
        self.mark > 1
    }

    /// Sets the mark for a wait in which at least `expected` more bytes are sure to come.
    pub(crate) fn aim(&mut self, socket: &TcpStream, demand: Demand, expected: u64) -> io::Result<()> {
        let want = match demand {
            Demand::Near => self.rate,
            Demand::Far => self.rate.max(FAR_PIECE),
        };
        let sure = u32::try_from(expected).unwrap_or(u32::MAX);
        let mark = want.min(MOST).min(sure);
        self.set(socket, if mark < LEAST { 1 } else { mark })
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

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 250_000_000;

    /// Receives bodies of `length` bytes in records at [`RATE`], with a pause of 20 ms before each.
    fn receive(mark: &mut LowWaterMark, now: &mut Instant, bodies: u32, length: u32) {
        const RECORD: u32 = 16 << 10;
        for _ in 0..bodies {
            mark.pause();
            *now += Duration::from_millis(20);
            for _ in 0..length / RECORD {
                *now += Duration::from_secs(1) * RECORD / RATE;
                mark.received(*now, RECORD as usize);
            }
        }
    }

    #[test]
    fn the_rate_is_found_over_bodies_that_are_shorter_than_its_span() {
        let near = |rate: u32| rate / 200;
        for (bodies, length) in [(1, 64 << 20), (4, 1 << 20), (20, 256 << 10)] {
            let (mut mark, mut now) = (LowWaterMark::new(), Instant::now());
            assert_eq!(mark.rate, 0);
            receive(&mut mark, &mut now, bodies, length);
            let expected = near(RATE);
            assert!(
                mark.rate.abs_diff(expected) < expected / 50,
                "{bodies} x {length}: {} in place of {expected}",
                mark.rate
            );
        }
    }

    #[test]
    fn a_wait_that_took_too_long_forgets_the_rate() {
        let (mut mark, mut now) = (LowWaterMark::new(), Instant::now());
        receive(&mut mark, &mut now, 8, 1 << 20);
        assert!(mark.rate > 0);
        now += Duration::from_millis(10);
        mark.slow();
        assert_eq!(mark.rate, 0);
        // What the wait gathered does not count.
        mark.received(now, 10 << 20);
        for _ in 0..700 {
            now += Duration::from_secs(1) * 4096 / RATE;
            mark.received(now, 4096);
        }
        assert!(mark.rate.abs_diff(RATE / 200) < RATE / 200 / 50, "{}", mark.rate);
    }
}
