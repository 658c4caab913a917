//! What one seed decides beforehand: the object, what happens to it, the options, the network's faults and the consumer.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use pget_core::{
    Budget, ObjectInfo, Options, Published, Revision, Verify,
    verify::{Algorithm, Hasher},
};

macro_rules! counts {
    ($($name:ident,)*) => {
        /// How often each kind of event was met.
        #[derive(Debug, Default)]
        pub(crate) struct Counts { $(pub(crate) $name: u64,)* }

        impl Counts {
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            pub(crate) fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counts! {
    resets,
    short_bodies,
    silences,
    stalls,
    slow_bodies,
    shifted_ranges,
    other_totals,
    other_revisions,
    replacements,
    deletions,
    refusals,
    lost_identities,
    ignored_at_first,
    ignored_later,
    long_bodies,
    clipped_bodies,
    empty_bodies,
    overlong_bodies,
    bodies_beyond,
    flipped_bytes,
    other_checksums,
    garbled_withheld,
    throttles,
    outages_that_refuse,
    outages_that_throttle,
    outages_in_silence,
    outages_that_forbid,
    above_the_rate,
    too_many_at_once,
    shares,
    gave_up,
    back_after_outages,
    dead_for_good,
    blocking_writers,
    lingering_writers,
    withheld_bodies,
    hints,
    published,
    required,
    no_identity,
    unknown_sizes,
    fences,
    drops,
    cancels,
    tight_budgets,
    ordered,
    read,
    into_memory,
    to_a_destination,
    into_buffers,
    completed,
    failed,
}

/// How the bytes are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Leases,
    Read,
    Memory,
    Destination,
    /// Many ranges into their buffers, which make up the object.
    Ranges,
}

/// How the consumer goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    No,
    /// It drops what it holds after so long.
    Drops(Duration),
    /// It cancels after so long, and waits for the end.
    Cancels(Duration),
}

/// Which faults there are besides stragglers and damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kinds {
    All,
    /// Connections break, which another attempt mends.
    Resets,
    /// Reads that cannot be stopped go on when they are given up.
    Lingering,
}

/// How a server is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Away {
    /// No connection, or one that is reset.
    Refuses,
    /// 503, with or without a pause.
    Throttles(Option<Duration>),
    /// No answer.
    Silent,
    /// An answer without a body.
    Stalls,
    /// 403 or 404, as when a key is revoked.
    Forbids,
}

/// What happens to many requests for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// The server is away from the first request after this time on, for so long.
    Outage {
        from: Duration,
        lasts: Duration,
        away: Away,
    },
    /// So many requests a second are served.
    Rate(u32),
    /// So many requests are served at once; the others are refused like this.
    AtOnce(u32, Away),
    /// Of 1,000 requests, so many are refused.
    Share(u32, Away),
}

impl Weather {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x3ea7);
        let ms = |millis| Duration::from_millis(millis);
        let away = match rng.u32(0..7) {
            0..2 => Away::Refuses,
            2 => Away::Throttles(None),
            3 => Away::Throttles(Some(ms(rng.u64(0..20_000)))),
            4..6 => Away::Silent,
            _ => Away::Forbids,
        };
        match rng.u32(0..20) {
            0..3 => Self::Outage {
                from: ms(rng.u64(0..60)),
                lasts: ms(match rng.u32(0..3) {
                    0 => rng.u64(1..500),
                    1 => rng.u64(500..5_000),
                    _ => rng.u64(5_000..60_000),
                }),
                away,
            },
            3 => Self::Rate(rng.u32(2..200)),
            4 => Self::AtOnce(rng.u32(1..6), away),
            5 => Self::Share(rng.u32(1..400), away),
            _ => Self::Fair,
        }
    }
}

/// One download's world.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) seed: u64,
    pub(crate) size: u64,
    pub(crate) ranges: bool,
    pub(crate) tells_size: bool,
    pub(crate) identity: bool,
    /// The first reply has a version, which its replacement has, too; the ETag, which tells them apart, comes with all later ones.
    pub(crate) tells_etag_late: bool,
    /// Replies to requests that know the revision tell no size, and their bodies may end too early, as nothing says that they do not. The first reply is the whole object, or its size and
    /// revision are the caller's to tell.
    pub(crate) forgets_size: bool,
    pub(crate) hint: Option<u64>,
    pub(crate) chunk: u64,
    pub(crate) concurrency: u32,
    pub(crate) window: u32,
    pub(crate) offset: u64,
    pub(crate) length: Option<u64>,
    pub(crate) retries: Option<u32>,
    pub(crate) retry_timeout: Duration,
    /// What happens to all requests for a time, or to all that are too many.
    pub(crate) weather: Weather,
    /// Of 1,000 reads, how many go wrong.
    pub(crate) faults: u32,
    pub(crate) kinds: Kinds,
    /// Of 40 reads of an object whose checksum is published, so many have wrong bytes or another checksum.
    pub(crate) damaged: u32,
    /// Of 1,000 reads, how many are slow, stall or are silent.
    pub(crate) stragglers: u32,
    pub(crate) withholds: bool,
    /// From this read on the object is another one.
    pub(crate) replaced_at: Option<u64>,
    pub(crate) deleted_at: Option<u64>,
    /// Bytes of the budget: many, or one MiB, which few of these chunks fill.
    pub(crate) budget: u64,
    pub(crate) connections: usize,
    pub(crate) way: Way,
    /// The most that the consumer pauses between two reads.
    pub(crate) pause: Duration,
    pub(crate) leaves: Leaves,
    /// The source publishes the object's checksum.
    pub(crate) published: bool,
    /// The caller requires that it is verified.
    pub(crate) require: bool,
    /// This chunk is slow however often it is asked for.
    pub(crate) cursed: Option<u64>,
    /// The first reply says that the object ends before the body does.
    pub(crate) beyond: bool,
    /// The source lies in a way that nothing can notice: the test must.
    pub(crate) canary: bool,
}

impl Scene {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let chunk = match rng.u32(0..10) {
            0 => rng.u64(1..10),
            1..8 => rng.u64(1..3000),
            _ => rng.u64(4000..20_000),
        };
        let size = match rng.u32(0..16) {
            0 => 0,
            1 => 1,
            2 => chunk,
            3 => chunk + 1,
            4 => chunk * rng.u64(1..8),
            5 => rng.u64(0..=chunk * 30),
            _ => rng.u64(0..=chunk * 8),
        };
        let offset = match rng.u32(0..16) {
            0 => size,
            1 => size + rng.u64(1..100),
            2..5 => rng.u64(0..=size),
            _ => 0,
        };
        let length = (rng.u32(0..4) == 0).then(|| rng.u64(0..=size + 10));
        let ms = Duration::from_millis;
        Self {
            seed,
            size,
            chunk,
            offset,
            length,
            ranges: rng.u32(0..10) > 0,
            tells_size: rng.u32(0..4) > 0,
            identity: rng.u32(0..10) > 0,
            tells_etag_late: false,
            forgets_size: false,
            hint: (rng.u32(0..24) == 0).then(|| rng.u64(1..8000)),
            concurrency: if rng.u32(0..8) == 0 { 1 } else { 1 << rng.u32(1..5) },
            window: rng.u32(1..=24),
            retries: (rng.u32(0..3) > 0).then(|| rng.u32(0..6)),
            retry_timeout: ms(rng.u64(2_000..200_000)),
            weather: Weather::new(seed),
            faults: [0, 0, 30, 100, 300][rng.usize(0..5)],
            kinds: Kinds::All,
            damaged: 1,
            stragglers: [0, 0, 40, 150][rng.usize(0..4)],
            withholds: rng.u32(0..8) == 0,
            replaced_at: (rng.u32(0..20) == 0).then(|| rng.u64(0..8)),
            deleted_at: (rng.u32(0..40) == 0).then(|| rng.u64(0..8)),
            budget: if rng.u32(0..8) == 0 { 1 } else { 1 << 30 },
            connections: if rng.u32(0..8) == 0 { rng.usize(1..4) } else { 512 },
            way: [
                Way::Leases,
                Way::Leases,
                Way::Read,
                Way::Memory,
                Way::Destination,
                Way::Ranges,
            ][rng.usize(0..6)],
            pause: [ms(0), ms(0), ms(2), ms(500)][rng.usize(0..4)],
            leaves: match rng.u32(0..24) {
                0 => Leaves::Drops(ms(rng.u64(0..40))),
                1 => Leaves::Drops(ms(rng.u64(0..30_000))),
                2 => Leaves::Cancels(ms(rng.u64(0..40))),
                _ => Leaves::No,
            },
            published: rng.u32(0..5) == 0,
            // Refused for a part before anything is sent.
            require: rng.u32(0..6) == 0 && offset == 0 && length.is_none(),
            cursed: None,
            beyond: rng.u32(0..100) == 0,
            canary: false,
        }
        .told_apart()
        .fitting()
    }

    /// The same, taken in this way as far as it can be.
    pub(crate) fn read_by(self, way: Way) -> Self {
        let is_ranges = way == Way::Ranges;
        Self {
            way,
            offset: if is_ranges { 0 } else { self.offset },
            length: if is_ranges { None } else { self.length },
            require: self.require && !is_ranges,
            ..self
        }
    }

    /// Ranges into buffers are neither verified nor read besides an offset or a length.
    fn fitting(self) -> Self {
        let fits = self.is_whole() && !self.require;
        match self.way {
            Way::Ranges if !fits => Self {
                way: Way::Leases,
                ..self
            },
            _ => self,
        }
    }

    /// Few seeds would come upon these by themselves: so many connections break that a chunk's
    /// attempts run out; the source is away for a time and nothing else is wrong; one chunk late in the object is slow each
    /// time; bytes that are placed, or that come as a stream of unknown length, are wrong, and nothing else is; a stream that cannot be stopped goes on when it is given up; only what a later
    /// reply told tells the object from the one that replaces it; and nobody, or only the caller, told how long it is.
    fn told_apart(self) -> Self {
        let kind = self.seed % 100;
        if !matches!(kind, 7..=9 | 11..=17) {
            return self;
        }
        let in_order = if self.way == Way::Read {
            Way::Read
        } else {
            Way::Leases
        };
        let special = Self {
            size: self.chunk.clamp(100, 800) * 60,
            chunk: self.chunk.clamp(100, 800),
            offset: 0,
            length: None,
            ranges: true,
            tells_size: true,
            identity: true,
            hint: None,
            retries: Some(5),
            retry_timeout: Duration::from_secs(120),
            weather: Weather::Fair,
            withholds: false,
            replaced_at: None,
            deleted_at: None,
            connections: 512,
            leaves: Leaves::No,
            beyond: false,
            stragglers: 0,
            ..self
        };
        match kind {
            7 => Self {
                concurrency: 2,
                published: false,
                require: false,
                faults: 450,
                kinds: Kinds::Resets,
                ..special
            },
            8 => Self {
                concurrency: 4,
                window: 8,
                faults: 0,
                cursed: Some(40),
                ..special
            },
            11 => Self {
                way: in_order,
                ranges: false,
                tells_size: false,
                published: true,
                damaged: 30,
                faults: 0,
                ..special
            },
            13 => Self {
                concurrency: 1,
                // Without an identity, nothing ties the late bytes to those of another attempt: the first one must be the one that is given up, before its first byte.
                faults: if self.seed % 200 == kind { 300 } else { 1000 },
                kinds: Kinds::Lingering,
                identity: self.seed % 200 == kind,
                published: false,
                require: false,
                ..special
            },
            14 => Self {
                concurrency: 4,
                window: 8,
                faults: 0,
                // The second reply at least is of the first object: of two revisions that were told apart by none, nobody can know.
                replaced_at: Some(2 + self.seed / 100 % 6),
                tells_etag_late: true,
                published: false,
                require: false,
                ..special
            },
            15 => Self {
                way: in_order,
                concurrency: 4,
                faults: 800,
                kinds: Kinds::Resets,
                // It goes on with parts of an object of unknown size, or there are only whole bodies of one whose size is pinned.
                ranges: self.seed % 200 == kind,
                tells_size: self.seed % 200 != kind,
                forgets_size: true,
                published: false,
                require: false,
                ..special
            },
            // Nothing happens but an outage, after which the download must be back soon.
            16 => Self {
                pause: Duration::ZERO,
                faults: 0,
                damaged: 1,
                published: false,
                require: false,
                retries: None,
                weather: Weather::Outage {
                    from: Duration::from_millis(self.seed / 100 % 12),
                    lasts: Duration::from_millis(20 + self.seed / 100 * 37 % 60_000),
                    away: if self.seed % 200 == kind {
                        Away::Refuses
                    } else {
                        Away::Throttles(None)
                    },
                },
                ..special
            },
            // Or one that outlasts patience.
            17 => Self {
                pause: Duration::ZERO,
                faults: 0,
                damaged: 1,
                published: false,
                require: false,
                retries: None,
                retry_timeout: self.retry_timeout,
                weather: Weather::Outage {
                    from: Duration::from_millis(self.seed / 400 % 12),
                    lasts: self.retry_timeout * 2,
                    away: match self.seed / 100 % 4 {
                        0 => Away::Refuses,
                        1 => Away::Throttles(None),
                        2 => Away::Silent,
                        _ => Away::Stalls,
                    },
                },
                ..special
            },
            _ => Self {
                way: if kind == 9 { Way::Destination } else { Way::Memory },
                published: true,
                faults: 0,
                ..special
            },
        }
    }

    /// Behind the last byte wanted of an object of `size` bytes.
    pub(crate) fn end(&self, size: u64) -> u64 {
        self.length
            .map_or(u64::MAX, |length| self.offset + length)
            .min(size)
            .max(self.offset)
    }

    pub(crate) fn options(&self, budget: &Arc<Budget>) -> Options {
        let mut options = Options::default();
        options.chunk_size = self.hint.is_none().then_some(self.chunk);
        options.concurrency = Some(self.concurrency);
        options.window = Some(self.window);
        options.offset = self.offset;
        options.length = self.length;
        options.retries = self.retries;
        options.retry_timeout = self.retry_timeout;
        options.budget = Arc::clone(budget);
        options.seed = Some(self.seed);
        if self.forgets_size && !self.ranges {
            options.pin = Some(ObjectInfo {
                size: Some(self.size),
                revision: Revision {
                    etag: Some("\"a\"".into()),
                    ..Revision::default()
                },
                ..ObjectInfo::default()
            });
        }
        if self.require {
            options.verify = Verify::Require;
        }
        options
    }

    /// What is asked for is all of the object, as a reply of any size shows.
    pub(crate) const fn is_whole(&self) -> bool {
        self.offset == 0 && self.length.is_none()
    }

    const fn algorithm(&self) -> Algorithm {
        if self.seed.is_multiple_of(4) {
            Algorithm::Xxh64
        } else {
            Algorithm::Crc32c
        }
    }

    /// The bytes can be held against the checksum, in whatever order they land: the destination gives nothing back.
    pub(crate) fn is_verifiable(&self) -> bool {
        self.published
            && self.is_whole()
            && match self.way {
                Way::Leases | Way::Read | Way::Memory => true,
                Way::Destination => self.algorithm() == Algorithm::Crc32c,
                Way::Ranges => false,
            }
    }

    /// The checksum of `bytes`, if it is published.
    pub(crate) fn checksum(&self, bytes: impl FnOnce() -> Vec<u8>) -> Option<Published> {
        self.published.then(|| {
            let mut hasher = Hasher::new(self.algorithm());
            hasher.update(&bytes());
            Published::Whole(hasher.finish())
        })
    }

    /// Chunks are no longer than this.
    pub(crate) fn longest_chunk(&self) -> u64 {
        if self.hint.is_some() {
            // The first one, of the default size, is cut to the object.
            self.size.max(self.other_size()).max(1)
        } else {
            self.chunk
        }
    }

    /// The size of the object that replaces it.
    pub(crate) fn other_size(&self) -> u64 {
        if self.seed.is_multiple_of(2) {
            self.size
        } else {
            self.size + 7
        }
    }
}
