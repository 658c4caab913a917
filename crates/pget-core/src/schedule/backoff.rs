//! When to try again, and whether at all. Pure; called by `Schedule`.
//!
//! Full jitter: a random part of an exponentially growing delay, which spreads the clients of a server that comes back better than equal or decorrelated
//! jitter does (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). Retries are paid from a bucket that successes refill, so that a dead
//! server is not asked again and again by all chunks at once (the AWS SDKs' "retry quota").

use std::time::Duration;

/// Delays and the retry bucket of one download.
#[derive(Clone, Debug)]
pub struct Backoff {
    random: u64,
    tokens: u32,
    most_tokens: u32,
}

impl Backoff {
    /// The longest pause before an attempt, also when a server asks for a longer one.
    pub const LONGEST: Duration = Duration::from_secs(30);
    const FIRST: Duration = Duration::from_millis(100);
    /// What a completed chunk adds to the bucket, in tenths of a retry.
    const REFILL: u32 = 1;
    /// A retry's price, in the same tenths.
    const PRICE: u32 = 10;

    /// A bucket that stands one failure of everything in flight, four times over.
    #[must_use]
    pub fn new(seed: u64, concurrency: u32) -> Self {
        let most_tokens = concurrency
            .saturating_mul(4)
            .saturating_add(16)
            .saturating_mul(Self::PRICE);
        Self {
            random: seed | 1,
            tokens: most_tokens,
            most_tokens,
        }
    }

    /// A random delay before the attempt that follows `fruitless` ones.
    pub fn delay(&mut self, fruitless: u32) -> Duration {
        let ceiling = Self::FIRST
            .saturating_mul(1 << fruitless.saturating_sub(1).min(16))
            .min(Self::LONGEST);
        let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.next() % (nanos + 1))
    }

    /// Pays for a retry; `false` when the bucket is empty.
    pub fn spend(&mut self) -> bool {
        match self.tokens.checked_sub(Self::PRICE) {
            Some(rest) => {
                self.tokens = rest;
                true
            }
            None => false,
        }
    }

    /// A chunk is complete.
    pub fn chunk_done(&mut self) {
        self.tokens = (self.tokens + Self::REFILL).min(self.most_tokens);
    }

    /// xorshift64* (S. Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016): jitter needs no better.
    fn next(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}
