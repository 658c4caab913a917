//! How long to wait before another attempt.
//!
//! Full jitter, a random part of a growing delay, spreads the clients of a server that comes back
//! better than equal or decorrelated jitter does (M. Brooker, "Exponential Backoff And Jitter",
//! AWS Architecture Blog, 2015). How long a download goes on trying is not decided here: see
//! `health`.

use std::time::Duration;

/// Delays before attempts of one download.
#[derive(Clone, Debug)]
pub struct Backoff {
    random: u64,
}

impl Backoff {
    /// The longest delay that a client chooses by itself.
    pub const LONGEST: Duration = Duration::from_secs(10);
    const FIRST: Duration = Duration::from_millis(100);
    /// A probe waits for this part of the time that the trouble has lasted.
    const PART: u32 = 10;

    /// Delays that depend on `seed` alone.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { random: seed | 1 }
    }

    /// A random delay before the attempt that follows `fruitless` ones.
    pub fn delay(&mut self, fruitless: u32) -> Duration {
        let ceiling = Self::FIRST
            .saturating_mul(1 << fruitless.saturating_sub(1).min(16))
            .min(Self::LONGEST);
        self.up_to(ceiling)
    }

    /// A jittered tenth of the time that a source has been in trouble, from half a tenth of a
    /// second to ten seconds: a download is back within a tenth of any outage.
    pub fn probe(&mut self, lasted: Duration) -> Duration {
        let part = (lasted / Self::PART).clamp(Self::FIRST, Self::LONGEST);
        part / 2 + self.up_to(part / 2)
    }

    fn up_to(&mut self, ceiling: Duration) -> Duration {
        let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX - 1);
        Duration::from_nanos(self.next() % (nanos + 1))
    }

    /// xorshift64* (S. Vigna, "An experimental exploration of Marsaglia's xorshift generators,
    /// scrambled", 2016): jitter needs no better.
    fn next(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}
