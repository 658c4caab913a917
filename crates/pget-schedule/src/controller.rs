//! How many requests at once, and how long each: found by measuring. Pure; a part of `Schedule`.
//!
//! The *level* is the number of requests in flight that the controller wants. It acts in this
//! order:
//! 1. The first answer's latency chooses the first level ([`begin`](Controller::begin)).
//! 2. *Rising*: as soon as all requests of a level have been answered, the next level is tried,
//!    while what the level before brought is judged. The judgement compares what one body brings
//!    while it flows, times the level, with the best so far; a step must bring [`WORTH`] of what
//!    its connections promise. A doubt is looked at twice more.
//! 3. *Trying less*: if the network is full, fewer connections do as well. Their number follows
//!    from what one connection brought at best; the lower level is kept if it brings [`ENOUGH`] of
//!    the goodput.
//! 4. *Steady*: the goodput is watched. More is tried after pauses that double with each failure,
//!    and at once when the goodput has changed for good.
//!
//! The chunk size is what keeps a connection busy for [`BUSY`] latencies, within what the memory
//! and the rest of the object allow.
//!
//! Invariants: the level is within 1 and the bound; nothing is judged while the consumer, the
//! memory or the end of the object keeps requests from being sent; on a network that does not
//! change the number of tries is logarithmic in time.

mod chunk;
mod estimate;
mod figures;
mod judge;

use std::time::Duration;

use figures::{Met, per_second, whole};

/// A step up must bring this share of what its connections promise.
const WORTH: f64 = 0.4;
/// A step that brings this share of its promise says that the network is far from full.
const FULLY: f64 = 0.8;
/// A lower level must bring this share of the goodput.
const ENOUGH: f64 = 0.95;
/// The level that brought most is returned to when this one brings a smaller share of that.
const LEAST_RATIO: f64 = 0.85;
/// Bodies that flow at this share of the fastest rate say that there is room for more of them.
const HUNGRY: f64 = 0.9;
/// The goodput has changed when it differs by this share.
const CHANGED: f64 = 0.25;
/// A rise multiplies the level by this.
const STEP: f64 = 1.5;
/// What has grown by this factor in a period may grow further.
const GROWS: f64 = 1.2;
/// Nearer servers are past a slow start before anything is judged.
const STEPS_SLOWLY: Duration = Duration::from_millis(4);
/// Bodies were seen to flow for this share of a period, at least.
const RIPE: f64 = 0.3;
/// Doubts in a row that end the rise.
const DOUBTS: u32 = 3;
/// A body lasts for this many latencies.
const BUSY: f64 = 10.0;
/// Answers that take this many times as long as the fastest do not ask for longer chunks still.
const DEAR: f64 = 4.0;
/// Bytes per second that are more than a process takes. Where bodies flow faster together, as from
/// a server on the same machine, the processor is the limit: more of them only take more memory.
const PLENTY: f64 = 4e9;
/// A body flows no faster than this many times a connection's share of all that comes, as far as
/// the length of chunks goes. Without a limit, chunks on a loopback grew to 7 MiB.
const BURST: f64 = 2.0;
/// A chunk may be this share of what is left for its connection.
const TAIL: f64 = 0.1;
/// Open chunks may have so many times the bytes that are under way in the network.
const UNDER_WAY: f64 = 3.75;
/// Answers that take this many times as long as the fastest were waiting for their turn. The first
/// one over a connection takes twice as long.
const QUEUED: f64 = 3.0;
/// This share of the level was in flight, unless something else held requests back.
const BUSY_LEVEL: f64 = 0.75;
/// Levels that the first latency may choose.
const FEWEST: u32 = 8;
/// Fewer are not tried.
const FLOOR: u32 = 4;
const MANY: u32 = 64;
/// More connections than computed, for what the computation does not know.
const SPARE: f64 = 1.15;
/// No period that is measured is shorter than this.
const SHORTEST: Duration = Duration::from_millis(20);
/// A goodput is measured for this long at least.
const GOODPUT: Duration = Duration::from_millis(100);
/// The pause before the first try of more, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Answers that have not come after this many times the usual latency are not waited for.
const LATE: u32 = 4;

const MIB: u64 = 1 << 20;
/// Chunks are at least this long, unless that takes long.
const LEAST_CHUNK: u64 = MIB;
const LARGEST_CHUNK: u64 = 16 * MIB;
/// The shortest chunk at all, and its granularity below [`LEAST_CHUNK`].
const PIECE: u64 = 256 << 10;
/// A chunk of the least size should not take longer than this, or than [`LATE`] latencies.
const LONG: Duration = Duration::from_millis(100);
/// A chunk that takes no longer than these seconds may stay as long as it is.
const KEPT: f64 = 0.25;

/// Within what the controller chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The most requests in flight.
    pub most: u32,
    /// The level that was set.
    pub level: Option<u32>,
    /// The chunk size that was set, or that the source asks for.
    pub chunk_size: Option<u64>,
    /// Bytes that open chunks may have together.
    pub memory: u64,
    /// The same where more than that is under way in the network.
    pub most_memory: u64,
}

/// Sums over all attempts since the download began; the difference of two describes a period.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// Bytes of bodies.
    pub bytes: u64,
    /// For how long bodies flowed, summed over the attempts.
    pub flowing: Duration,
    /// Answers over connections that were in use before, and how long they took, summed.
    pub answers: u32,
    pub answering: Duration,
    /// Answers over new connections, and how long they took with the set-up, summed.
    pub first_answers: u32,
    pub first_answering: Duration,
}

/// How things stand when the controller looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Now {
    /// Requests in flight.
    pub in_flight: u32,
    /// The most that the server takes, as far as refusals show.
    pub limit: Option<u32>,
    /// A slow request at the cursor keeps others from being sent.
    pub blocked: bool,
    /// When the oldest request in flight that has no answer was sent.
    pub oldest_unanswered: Option<Duration>,
    /// The consumer, the memory or the object's end keeps requests from being sent.
    pub held: bool,
    /// Bytes that have not been asked for.
    pub rest: u64,
}

/// What a download found out about a host, for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Requests in flight.
    pub level: u32,
    /// Bytes in a chunk.
    pub chunk_size: u64,
}

/// What the controller chose, and what it rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Requests in flight.
    pub level: u32,
    /// Bytes in a chunk.
    pub chunk_size: u64,
    /// The reason, in words.
    pub why: &'static str,
    /// Seconds from a request to its answer.
    pub latency: f64,
    /// Bytes per second of one body while it flows.
    pub body: f64,
}

/// What a level brought.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Brought {
    level: u32,
    /// Bytes per second in all.
    rate: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Mark {
    at: Duration,
    seen: Seen,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// Nothing has been answered.
    First,
    /// More and more are tried. `measured` is the level whose period runs, `last` the rate of the
    /// period before.
    Rising {
        best: Option<Met>,
        last: f64,
        measured: u32,
        doubts: u32,
    },
    /// A lower level is tried against what a higher one brought.
    Less { of: Brought },
    /// The level is kept.
    Steady { brings: Option<f64>, changes: u32 },
    /// A higher level is tried against what a lower one brought.
    More { of: Brought },
}

/// The controller of one download.
#[derive(Clone, Debug)]
pub struct Controller {
    bounds: Bounds,
    level: u32,
    /// What of the level the server takes.
    effective: u32,
    chunk_size: u64,
    stage: Stage,
    /// When the level was set, and when as many requests were in flight.
    set_at: Duration,
    full_at: Option<Duration>,
    /// All that were in flight then have been answered.
    complete: bool,
    /// The beginning of the period that is measured.
    mark: Option<Mark>,
    chunk_mark: Option<Mark>,
    /// To an answer over a connection in use, in seconds: now, and at the least.
    latency: f64,
    nearest: f64,
    /// The first answer's latency, with the connection's set-up.
    first: Duration,
    /// Bytes per second: of a body now, and of the fastest body so far.
    body: f64,
    fastest: f64,
    /// Bytes per second of all bodies in the last period.
    goodput: f64,
    /// Levels below this did not bring enough.
    floor: u32,
    /// What the network brought when it was full.
    best: Option<Brought>,
    pause: Duration,
    try_at: Duration,
    changes: u32,
    memory: u64,
    /// The level is what the server takes.
    capped: bool,
    /// The level is what the server answers, which more requests do not change.
    rationed: bool,
    /// Chunks whose sizes are to differ.
    to_spread: u32,
    /// Something else than the network holds requests back in this period.
    void: bool,
}

impl Controller {
    /// The chunk size before anything is measured.
    pub const FIRST_CHUNK: u64 = MIB;

    /// Returns a controller that knows nothing of the network.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            level: bounds.level.unwrap_or(FEWEST).min(bounds.most).max(1),
            effective: 1,
            chunk_size: bounds.chunk_size.unwrap_or(Self::FIRST_CHUNK),
            bounds,
            stage: Stage::First,
            set_at: Duration::ZERO,
            full_at: None,
            complete: false,
            mark: None,
            chunk_mark: None,
            latency: 0.0,
            nearest: f64::MAX,
            first: Duration::ZERO,
            body: 0.0,
            fastest: 0.0,
            goodput: 0.0,
            floor: FLOOR,
            best: None,
            pause: FIRST_PAUSE,
            try_at: Duration::ZERO,
            changes: 0,
            memory: bounds.memory,
            capped: false,
            rationed: false,
            to_spread: 0,
            void: false,
        }
    }

    /// Requests that should be in flight.
    #[must_use]
    pub const fn level(&self) -> u32 {
        self.level
    }

    /// Bytes that chunks should have.
    #[must_use]
    pub const fn chunk_size(&self) -> u64 {
        self.chunk_size
    }

    /// Bytes that open chunks may have together.
    #[must_use]
    pub const fn memory(&self) -> u64 {
        self.memory
    }

    /// Bytes that the chunk of this number should have, which is opened next.
    ///
    /// After the level has come down, the sizes of some chunks differ by up to half. Requests that
    /// share a full network evenly and began together would otherwise end together, and leave it
    /// idle together, for good.
    pub fn next_chunk(&mut self, number: u64) -> u64 {
        if self.to_spread == 0 || self.bounds.chunk_size.is_some() {
            return self.chunk_size;
        }
        self.to_spread -= 1;
        // The golden section spreads any number of them evenly.
        let part = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        let size = self.chunk_size / 2 + self.chunk_size * part / 256;
        (size / PIECE * PIECE).max(PIECE)
    }

    /// Returns what is chosen now, and why.
    #[must_use]
    pub const fn choice(&self) -> Choice {
        let why = match self.stage {
            Stage::First => "nothing is measured yet",
            Stage::Rising { doubts: 0, .. } => "more requests bring more",
            Stage::Rising { .. } => "the last step brought little",
            Stage::Less { .. } => "fewer requests may bring as much",
            Stage::More { .. } => "more requests may bring more",
            Stage::Steady { .. } if self.capped => "the server refuses more",
            Stage::Steady { .. } if self.rationed => "the server answers no faster",
            Stage::Steady { .. } if self.level >= self.bounds.most => "more are not allowed",
            Stage::Steady { .. } => "more brought no more",
        };
        Choice {
            level: self.level,
            chunk_size: self.chunk_size,
            why,
            latency: self.latency,
            body: self.body,
        }
    }

    /// How often the level was changed.
    #[must_use]
    pub const fn changes(&self) -> u32 {
        self.changes
    }

    /// Returns what the next download from this host can start from, once the level has settled.
    #[must_use]
    pub const fn found(&self) -> Option<Found> {
        let measures = self.bounds.level.is_none() && self.bounds.chunk_size.is_none();
        match self.stage {
            Stage::Steady { .. } | Stage::More { .. } if measures => Some(Found {
                level: self.level,
                chunk_size: self.chunk_size,
            }),
            _ => None,
        }
    }

    /// Starts from what an earlier download found.
    pub fn start_from(&mut self, found: Found) {
        if self.stage != Stage::First {
            return;
        }
        if self.bounds.level.is_none() {
            self.level = found.level.clamp(1, self.bounds.most);
        }
        if self.bounds.chunk_size.is_none() {
            self.chunk_size = found.chunk_size.clamp(PIECE, LARGEST_CHUNK);
        }
        self.stage = Stage::Steady {
            brings: None,
            changes: 0,
        };
    }

    /// The source asks for chunks of this size.
    pub const fn hint(&mut self, chunk_size: u64) {
        self.bounds.chunk_size = Some(chunk_size);
        self.chunk_size = chunk_size;
    }

    /// The first answer came at `now`, after `took` with the set-up of its connection.
    pub fn begin(&mut self, now: Duration, took: Duration) {
        if !self.first.is_zero() {
            return;
        }
        self.first = took.max(Duration::from_micros(1));
        self.latency = took.as_secs_f64() / 2.0;
        self.nearest = self.latency;
        self.try_at = now + self.pause();
        if self.stage != Stage::First {
            return;
        }
        // Ten milliseconds ask for 12, a hundred for 40: with the distance grows what is worth
        // having under way.
        let level = 4.0 * (took.as_secs_f64() * 1000.0).sqrt();
        self.stage = Stage::Rising {
            best: None,
            last: 0.0,
            measured: 1,
            doubts: 0,
        };
        self.set_level(now, whole(level).clamp(FEWEST, MANY));
    }

    /// A body of `bytes` flowed for `took`.
    pub fn body(&mut self, bytes: u64, took: Duration) {
        // Bytes that were waiting for this process come at once, and say nothing of the network.
        let least = if self.fastest > 0.0 {
            SHORTEST
        } else {
            Duration::from_micros(100)
        };
        if bytes >= PIECE && took >= least {
            self.fastest = self.fastest.max(per_second(bytes, took));
        }
    }

    /// Returns when the next look is due.
    #[must_use]
    pub fn look_at(&self, looked: Duration) -> Duration {
        let step = match self.stage {
            Stage::Steady { .. } => SHORTEST.max(self.first / 2).max(GOODPUT / 2),
            _ => (SHORTEST / 2).max(self.first / 8),
        };
        looked + step
    }

    /// Looks at what came by `now`.
    pub(super) fn look(&mut self, now: Duration, seen: Seen, state: Now) {
        if self.stage == Stage::First {
            return;
        }
        // What comes while something else holds requests back says nothing of the level.
        self.void |= state.held;
        self.follow(state.limit, now);
        let Some(full_at) = self.full(now, &state) else {
            return;
        };
        if self.complete {
            self.measure(now, seen, &state);
        } else {
            self.await_answers(now, full_at, seen, &state);
        }
    }

    /// Keeps the level that requests may have below what refusals have shown.
    fn follow(&mut self, limit: Option<u32>, now: Duration) {
        // Where refusals show what the server takes, the level is not what matters.
        let capped = limit.is_some_and(|limit| limit <= self.level);
        if capped != self.capped {
            self.capped = capped;
            self.settle(now, self.level, None);
        }
        self.effective = limit.map_or(self.level, |limit| limit.min(self.level)).max(1);
    }

    /// Returns since when as many requests as the level are in flight, if they are.
    fn full(&mut self, now: Duration, state: &Now) -> Option<Duration> {
        if self.full_at.is_none() {
            let full = match self.stage {
                Stage::Less { .. } => state.in_flight <= self.effective,
                _ => state.in_flight >= self.effective,
            };
            if full || state.held || state.blocked {
                self.full_at = Some(now);
            }
        }
        self.full_at
    }

    /// Completes the level when all requests that were in flight at `full_at` have been answered,
    /// or are late.
    fn await_answers(&mut self, now: Duration, full_at: Duration, seen: Seen, state: &Now) {
        let late = full_at + self.first.max(SHORTEST) * LATE;
        if state.oldest_unanswered.is_some_and(|sent| sent <= full_at) && now < late {
            return;
        }
        if let Stage::Rising {
            measured, doubts: 0, ..
        } = self.stage
            && let Some(mark) = self.mark
            && measured < self.level
        {
            if now < mark.at + SHORTEST {
                return;
            }
            self.complete = true;
            return self.judge_rise(now, &mark, seen, state.rest);
        }
        self.complete = true;
        // What was on its way before says little of a new level.
        self.void |= matches!(self.stage, Stage::Less { .. } | Stage::More { .. });
        if !matches!(self.stage, Stage::Rising { .. }) || self.mark.is_none() {
            self.mark = Some(Mark { at: now, seen });
        }
        if let Stage::Rising {
            best,
            last,
            doubts: 0,
            ..
        } = self.stage
        {
            // The next level is on its way while this one is measured.
            self.stage = Stage::Rising {
                best,
                last,
                measured: self.level,
                doubts: 0,
            };
            let mark = Mark { at: now, seen };
            self.step(now, STEP);
            self.mark = Some(mark);
        }
    }

    /// Measures a complete level, and judges it when it was measured for long enough.
    fn measure(&mut self, now: Duration, seen: Seen, state: &Now) {
        let Some(mark) = self.mark else {
            self.mark = Some(Mark { at: now, seen });
            return;
        };
        self.adapt_chunk(now, &seen, state.rest);
        if now < mark.at + self.period() {
            return;
        }
        if matches!(self.stage, Stage::Rising { .. }) {
            return self.judge_rise(now, &mark, seen, state.rest);
        }
        let bytes = seen.bytes - mark.seen.bytes;
        self.learn(&mark.seen, &seen);
        if bytes == 0 && now < mark.at + self.period() * LATE {
            return;
        }
        let goodput = per_second(bytes, now - mark.at);
        self.mark = Some(Mark { at: now, seen });
        if !std::mem::replace(&mut self.void, state.held) {
            self.judge(now, goodput);
        }
    }
}
