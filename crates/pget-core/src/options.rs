//! The options of a download, their defaults and their limits.

use std::{fmt, sync::Arc, time::Duration};

use pget_schedule::{Bounds, Controller, Settings, Wanted};

use crate::{Budget, Cancel, Error, ErrorKind, ObjectInfo, Stats, Verify};

/// Bytes that the open chunks of a download may have together, unless more is under way in the
/// network.
const MEMORY: u64 = 128 << 20;

/// How long to wait for what; each more than 0 and at most a day. All are no-progress deadlines: a
/// slow but steady transfer of any size meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deadlines {
    /// To a connection, name look-up and TLS included; kept by the transports.
    pub connect: Duration,
    /// From the start of a request to its reply's header, connecting included. Unless it is more
    /// than its default, it is never longer than
    /// [`retry_timeout`](crate::Options::retry_timeout).
    pub first_byte: Duration,
    /// Without progress in a body: fewer than 4 KiB received in this time. It stops while the
    /// consumer is what we wait for. Unless it is more than its default, it is never longer than
    /// half of [`retry_timeout`](crate::Options::retry_timeout).
    pub stall: Duration,
}

impl Default for Deadlines {
    /// 5 s, 30 s, 20 s.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(30),
            stall: Duration::from_secs(20),
        }
    }
}

impl Deadlines {
    /// Returns the deadlines of a download with this patience. A deadline that was not raised above
    /// its default ends no later than patience does, and a stall in half of that time, so that
    /// another attempt can follow it.
    pub(crate) fn within(self, retry_timeout: Duration) -> Self {
        let default = Self::default();
        let cut = |deadline: Duration, default, most| {
            if deadline > default {
                deadline
            } else {
                deadline.min(most)
            }
        };
        Self {
            connect: self.connect,
            first_byte: cut(self.first_byte, default.first_byte, retry_timeout),
            stall: cut(self.stall, default.stall, retry_timeout / 2),
        }
    }
}

/// Where a download stands.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes to be delivered in all, once that is known.
    pub total: Option<u64>,
    /// The counters.
    pub stats: Stats,
}

/// The function that reports progress to the caller.
pub(crate) type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// How to read. Start from [`Options::default`] and set what differs.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// let mut options = pget_core::Options::default();
/// options.chunk_size = Some(8 << 20);
/// options.concurrency = Some(16);
/// options.deadlines.stall = Duration::from_secs(10);
/// options.check()?;
/// # Ok::<(), pget_core::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// Bytes per range, 1 to 1 GiB; `None`: the source's hint, else what measuring finds, 256 KiB
    /// to 16 MiB.
    pub chunk_size: Option<u64>,
    /// The most requests in flight, 1 to 1,024; `None`: what measuring finds, at most
    /// [`most_requests`](crate::RangeSource::most_requests) of the source. With 1, the object is
    /// read as one stream.
    pub concurrency: Option<u32>,
    /// How many chunks may be fetched or being fetched and not yet consumed, 1 to 65,536; `None`:
    /// half as many again as requests in flight, and up to three times as many while one of them
    /// lags, within the budget.
    pub window: Option<u32>,
    /// Offset of the first byte wanted. At the object's end there is nothing to read; beyond it is
    /// an error.
    pub offset: u64,
    /// Bytes wanted; `None`: to the end. Cut at the object's end.
    pub length: Option<u64>,
    /// With ranges that are read together: bytes between two of them up to which they are fetched
    /// as one, and what is between them is thrown away. A request costs about as much as this many
    /// bytes. 0: only those that touch.
    pub gap: u64,
    /// The revision that the object must have; another is
    /// [`ObjectChanged`](crate::ErrorKind::ObjectChanged) with the first reply. For reads that go
    /// on with what an earlier one began. It must have an [identity](crate::Revision::is_identity).
    pub pin: Option<ObjectInfo>,
    /// Failed attempts without progress, in a row, that a range may have before the download fails,
    /// 0 to 1,000; `None`: time alone decides (`retry_timeout`). With 0, the first failure is the
    /// end.
    pub retries: Option<u32>,
    /// How long a download goes on trying without an accepted byte; more than 0 and at most a day.
    /// The clock of each range runs while the range is tried. No clock runs while the consumer is
    /// waited for. A deadline that is longer is waited for besides.
    pub retry_timeout: Duration,
    /// How long to wait for what.
    pub deadlines: Deadlines,
    /// Whether the bytes are compared with the checksum that the source publishes. With
    /// [`Require`](Verify::Require), `offset` and `length` must not be set, and many ranges into
    /// buffers are refused, even if all of them are empty.
    pub verify: Verify,
    /// Limits of the memory and the requests of this and other downloads together.
    pub budget: Arc<Budget>,
    /// Called on the consumer's thread whenever bytes are given to it; while bytes go straight to
    /// their destination, ten times a second on the thread that waits for that (of the asynchronous
    /// form: wherever it is polled). If it panics, the download is cancelled.
    pub progress: Option<ProgressFn>,
    /// Ends the download when it is triggered, from any thread.
    pub cancel: Option<Cancel>,
    /// For the jitter of backoffs, so that a test's download goes the same way again; `None`: a
    /// random one.
    #[doc(hidden)]
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            chunk_size: None,
            concurrency: None,
            window: None,
            offset: 0,
            length: None,
            gap: 1 << 20,
            pin: None,
            retries: None,
            retry_timeout: Self::DEFAULT_RETRY_TIMEOUT,
            deadlines: Deadlines::default(),
            verify: Verify::default(),
            budget: Arc::clone(Budget::process()),
            progress: None,
            cancel: None,
            seed: None,
        }
    }
}

impl Options {
    /// Bytes per slot of an object that is read as one stream, if the caller does not say.
    pub const DEFAULT_CHUNK_SIZE: u64 = 8 << 20;
    /// Bytes of the first request if the caller sets neither chunk size nor concurrency.
    pub const FIRST_CHUNK_SIZE: u64 = Controller::FIRST_CHUNK;
    /// How long a download goes on trying without progress when the caller does not say.
    pub const DEFAULT_RETRY_TIMEOUT: Duration = Duration::from_secs(120);
    /// The largest chunk.
    pub const MAX_CHUNK_SIZE: u64 = 1 << 30;
    /// The most requests in flight.
    pub const MAX_CONCURRENCY: u32 = 1024;
    /// The largest window.
    pub const MAX_WINDOW: u32 = 65_536;
    /// The most retries.
    pub const MAX_RETRIES: u32 = 1000;

    /// Compares every option with its bounds.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument); the message names the option and its
    /// bounds.
    ///
    /// # Examples
    /// ```
    /// let mut options = pget_core::Options::default();
    /// options.window = Some(0);
    /// let error = options.check().unwrap_err();
    /// assert!(error.to_line().contains("window must be 1 to 65536, not 0"));
    /// ```
    pub fn check(&self) -> Result<(), Error> {
        self.check_for(String::new)
    }

    /// As [`check`](Self::check), for an error that names the object.
    #[doc(hidden)]
    pub fn check_for(&self, object: impl FnOnce() -> String) -> Result<(), Error> {
        self.fault()
            .map_err(|message| Error::new(ErrorKind::InvalidArgument, object(), message))
    }

    fn fault(&self) -> Result<(), String> {
        let within = |name: &str, value: u64, most: u64| {
            if (1..=most).contains(&value) {
                Ok(())
            } else {
                Err(format!("{name} must be 1 to {most}, not {value}"))
            }
        };
        if let Some(size) = self.chunk_size {
            within("chunk_size", size, Self::MAX_CHUNK_SIZE)?;
        }
        if let Some(requests) = self.concurrency {
            within("concurrency", requests.into(), Self::MAX_CONCURRENCY.into())?;
        }
        if let Some(window) = self.window {
            within("window", window.into(), Self::MAX_WINDOW.into())?;
        }
        if let Some(retries) = self.retries
            && retries > Self::MAX_RETRIES
        {
            return Err(format!(
                "retries must be 0 to {}, not {retries}",
                Self::MAX_RETRIES
            ));
        }
        let Deadlines {
            connect,
            first_byte,
            stall,
        } = self.deadlines;
        for (name, value) in [
            ("connect_timeout", connect),
            ("first_byte_timeout", first_byte),
            ("stall_timeout", stall),
            ("retry_timeout", self.retry_timeout),
        ] {
            let most = Duration::from_secs(86_400);
            if value.is_zero() || value > most {
                return Err(format!(
                    "{name} must be more than 0 and at most {most:?}, not {value:?}"
                ));
            }
        }
        if self.pin.as_ref().is_some_and(|pin| !pin.revision.is_identity()) {
            return Err(
                "the pinned revision has no identity: pin one with an entity tag, a version or a checksum"
                    .into(),
            );
        }
        if self.verify == Verify::Require && (self.offset > 0 || self.length.is_some()) {
            return Err(
                "verify=require is for whole objects: checksums are, so offset and length must not be set"
                    .into(),
            );
        }
        if self.offset == u64::MAX {
            // Not even one byte could be asked for, and so nothing found out about the object.
            return Err(format!("offset must be below {}", u64::MAX));
        }
        if self
            .length
            .is_some_and(|length| self.offset.checked_add(length).is_none())
        {
            return Err(format!(
                "offset {} and length {:?} go beyond what can be counted",
                self.offset, self.length
            ));
        }
        Ok(())
    }

    /// The schedule's settings for a source that takes `most` requests at once.
    pub(crate) fn settings(&self, seed: u64, most: u32) -> Settings {
        let concurrency = self
            .concurrency
            .unwrap_or_else(|| most.clamp(1, Self::MAX_CONCURRENCY));
        let limit = self.budget.limit();
        let measures = (self.concurrency.is_none() || self.chunk_size.is_none()) && concurrency > 1;
        let control = measures.then(|| Bounds {
            most: concurrency,
            level: self.concurrency,
            chunk_size: self.chunk_size,
            memory: MEMORY.min(limit / 2),
            most_memory: limit / 2,
        });
        let first = if measures {
            Controller::FIRST_CHUNK
        } else {
            Self::DEFAULT_CHUNK_SIZE
        };
        let chunk_size = self.chunk_size.unwrap_or(first);
        let affordable = u32::try_from(limit / chunk_size).unwrap_or(u32::MAX).max(1);
        Settings {
            wanted: match self.length {
                None => Wanted::from(self.offset..),
                Some(length) => Wanted::from(self.offset..self.offset.saturating_add(length)),
            },
            chunk_size,
            follow_hint: self.chunk_size.is_none(),
            concurrency,
            window: self
                .window
                .unwrap_or_else(|| concurrency.saturating_mul(3).min(affordable)),
            window_follows: self.window.is_none(),
            control,
            retries: self.retries,
            retry_timeout: self.retry_timeout,
            seed,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("chunk_size", &self.chunk_size)
            .field("concurrency", &self.concurrency)
            .field("window", &self.window)
            .field("offset", &self.offset)
            .field("length", &self.length)
            .field("gap", &self.gap)
            .field("pin", &self.pin)
            .field("retries", &self.retries)
            .field("retry_timeout", &self.retry_timeout)
            .field("deadlines", &self.deadlines)
            .field("verify", &self.verify)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}
