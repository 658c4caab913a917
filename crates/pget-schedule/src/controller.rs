//! How many requests at once, and how long each: found by measuring. Pure; a part of `Schedule`.
//!
//! The *level* is the number of requests in flight that the controller wants. It acts in this order:
//! 1. The first answer's latency chooses the first level ([`begin`](Controller::begin)).
//! 2. *Rising*: as soon as all requests of a level have been answered, the next level is tried, while what the level
//!    before brought is judged. The judgement compares what one body brings while it flows, times the level, with the
//!    best so far; a step must bring [`WORTH`] of what its connections promise. A doubt is looked at twice more.
//! 3. *Trying less*: if the network is full, fewer connections do as well. Their number follows from what one
//!    connection brought at best; the lower level is kept if it brings [`ENOUGH`] of the goodput.
//! 4. *Steady*: the goodput is watched. More is tried after pauses that double with each failure, and at once when the
//!    goodput has changed for good.
//!
//! The chunk size is what keeps a connection busy for [`BUSY`] latencies, within what the memory and the rest of the
//! object allow.
//!
//! Invariants: the level is within 1 and the bound; nothing is judged while the consumer, the memory or the end of the
//! object keeps requests from being sent; on a network that does not change the number of tries is logarithmic in time.

use std::time::Duration;

/// A step up must bring this share of what its connections promise.
const WORTH: f64 = 0.4;
/// A step that brings this share of its promise says that the network is far from full.
const FULLY: f64 = 0.8;
/// A lower level must bring this share of the goodput.
const ENOUGH: f64 = 0.96;
/// The goodput has changed when it differs by this share.
const CHANGED: f64 = 0.25;
/// Doubts in a row that end the rise.
const DOUBTS: u32 = 3;
/// A body lasts for this many latencies.
const BUSY: f64 = 10.0;
/// Answers that take this many times as long as the fastest do not ask for longer chunks still.
const DEAR: f64 = 4.0;
/// Level times chunk size may be so many times what is under way in the network.
const UNDER_WAY: f64 = 2.0;
/// Levels that the first latency may choose.
const FEWEST: u32 = 8;
const MANY: u32 = 64;
/// More connections than computed, for what the computation does not know.
const SPARE: f64 = 1.15;
/// No period that is measured is shorter than this.
const SHORTEST: Duration = Duration::from_millis(10);
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
    /// Bytes that level times chunk size may be.
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
    /// The most that the server takes, as far as refusals have told.
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

/// What a level brought.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Brought {
    level: u32,
    /// Bytes per second in all.
    rate: f64,
}

/// What each request of a level met.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Met {
    level: u32,
    /// Bytes per second of a body while it flowed.
    body: f64,
    /// Seconds to an answer.
    latency: f64,
}

impl Met {
    /// Bytes per second of the level in chunks of `chunk` bytes.
    fn rate(&self, chunk: f64) -> f64 {
        f64::from(self.level) * chunk / (self.latency + chunk / self.body.max(1.0))
    }
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
    /// More and more are tried. `measured` is the level whose period runs.
    Rising {
        best: Option<Met>,
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
    /// Levels below this did not bring enough.
    floor: u32,
    pause: Duration,
    try_at: Duration,
    changes: u32,
    memory: u64,
    /// The level is what the server takes.
    capped: bool,
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
            floor: 1,
            pause: FIRST_PAUSE,
            try_at: Duration::ZERO,
            changes: 0,
            memory: bounds.memory,
            capped: false,
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

    /// Bytes that the chunk of this number should have, which is opened next.
    ///
    /// After the level has come down, the sizes of some chunks differ by up to half. Requests that share a full
    /// network evenly and began together would otherwise end together, and leave it idle together, for good.
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
        // Ten milliseconds ask for 12, a hundred for 40: with the distance grows what is worth having under way.
        let level = 4.0 * (took.as_secs_f64() * 1000.0).sqrt();
        self.stage = Stage::Rising {
            best: None,
            measured: 1,
            doubts: 0,
        };
        self.set_level(now, whole(level).clamp(FEWEST, MANY));
    }

    /// A body of `bytes` flowed for `took`.
    pub fn body(&mut self, bytes: u64, took: Duration) {
        if bytes >= PIECE && took >= Duration::from_micros(100) {
            self.fastest = self.fastest.max(per_second(bytes, took));
        }
    }

    /// When the next [`look`](Self::look) is due.
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
        // Where refusals have told what the server takes, the level is not what matters.
        let capped = state.limit.is_some_and(|limit| limit <= self.level);
        if capped != self.capped {
            self.capped = capped;
            self.settle(now, self.level, None);
        }
        self.effective = state
            .limit
            .map_or(self.level, |limit| limit.min(self.level))
            .max(1);
        if self.full_at.is_none() {
            let full = match self.stage {
                Stage::Less { .. } => state.in_flight <= self.effective,
                _ => state.in_flight >= self.effective,
            };
            if !full && !state.held && !state.blocked {
                return;
            }
            self.full_at = Some(now);
        }
        let full_at = self.full_at.unwrap_or(now);
        // A level is complete when all that were in flight have been answered.
        let late = full_at + self.first.max(SHORTEST) * LATE;
        if !self.complete {
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
            if let Stage::Rising { best, doubts: 0, .. } = self.stage {
                // The next level is on its way while this one is measured.
                self.stage = Stage::Rising {
                    best,
                    measured: self.level,
                    doubts: 0,
                };
                let mark = Mark { at: now, seen };
                self.step(now, 1.5);
                self.mark = Some(mark);
            }
            return;
        }
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
        let goodput = if bytes == 0 { 0.0 } else { self.rate() };
        self.mark = Some(Mark { at: now, seen });
        if !std::mem::replace(&mut self.void, state.held) {
            self.judge(now, goodput);
        }
    }

    /// Chooses the chunk size more often than the level.
    fn adapt_chunk(&mut self, now: Duration, seen: &Seen, rest: u64) {
        if matches!(self.stage, Stage::Rising { .. }) {
            return;
        }
        let Some(mark) = self.chunk_mark else {
            self.chunk_mark = Some(Mark { at: now, seen: *seen });
            return;
        };
        let cycle = Duration::from_secs_f64((self.latency * 1.5 + self.body_time()).min(2.0));
        if now < mark.at + cycle.max(SHORTEST * 2) || seen.bytes == mark.seen.bytes {
            return;
        }
        self.learn(&mark.seen, seen);
        self.chunk_mark = Some(Mark { at: now, seen: *seen });
        self.choose_chunk(rest, self.rate());
    }

    /// Seconds that a body of a chunk takes.
    fn body_time(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "chunks are small")]
        let time = self.chunk_size as f64 / self.body;
        if time.is_finite() { time.min(2.0) } else { 0.0 }
    }

    /// How long is measured before a judgement.
    fn period(&self) -> Duration {
        let latency = Duration::from_secs_f64(self.latency.min(10.0));
        match self.stage {
            Stage::Rising { doubts: 0, .. } => SHORTEST.max(latency / 2),
            Stage::Rising { .. } => (SHORTEST * 2).max(latency * 2),
            _ => {
                let chunk = Duration::from_secs_f64(self.body_time());
                GOODPUT.max(latency * 4).max(chunk * 2)
            }
        }
    }

    /// Returns whether bodies flowed in the period.
    fn learn(&mut self, before: &Seen, seen: &Seen) -> bool {
        let answers = seen.answers - before.answers;
        let first_answers = seen.first_answers - before.first_answers;
        let mean = |time: Duration, count: u32| time.as_secs_f64() / f64::from(count);
        let latency = if answers > 0 {
            mean(seen.answering.saturating_sub(before.answering), answers)
        } else if first_answers > 0 {
            let time = seen.first_answering.saturating_sub(before.first_answering);
            // What it took longer than the first one is no set-up.
            self.nearest + (mean(time, first_answers) - self.first.as_secs_f64()).max(0.0)
        } else {
            self.latency
        };
        self.latency = latency;
        self.nearest = self.nearest.min(latency);
        let bytes = seen.bytes - before.bytes;
        let flowed = seen.flowing.saturating_sub(before.flowing);
        if bytes > 0 && !flowed.is_zero() {
            self.body = per_second(bytes, flowed);
            return true;
        }
        false
    }

    /// What the level brings per second: of bodies as fast as in the period, with no permit idle.
    fn rate(&self) -> f64 {
        let met = Met {
            level: self.effective,
            body: self.body,
            latency: self.latency,
        };
        #[allow(clippy::cast_precision_loss, reason = "chunks are small")]
        let chunk = self.chunk_size as f64;
        met.rate(chunk)
    }

    fn judge(&mut self, now: Duration, goodput: f64) {
        if self.bounds.level.is_some() || self.capped {
            return;
        }
        match self.stage {
            Stage::First | Stage::Rising { .. } => {}
            Stage::Less { of } => {
                if goodput >= of.rate * ENOUGH {
                    return self.try_less(
                        now,
                        Brought {
                            level: self.level,
                            rate: goodput.max(of.rate),
                        },
                    );
                }
                self.floor = self.level + 1;
                let between = (f64::from(self.level) * f64::from(of.level)).sqrt();
                self.settle(now, whole(between.ceil()).max(self.level + 1), None);
            }
            Stage::More { of } => {
                let promise = f64::from(self.level) / f64::from(of.level) - 1.0;
                if goodput >= of.rate * (1.0 + WORTH * promise) {
                    let best = Met {
                        level: self.level,
                        body: self.body,
                        latency: self.latency,
                    };
                    self.stage = Stage::Rising {
                        best: Some(best),
                        measured: self.level,
                        doubts: 0,
                    };
                    self.step(now, 1.5);
                } else {
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                    self.settle(now, of.level, Some(of.rate));
                }
            }
            Stage::Steady { brings, changes } => self.watch(now, goodput, brings, changes),
        }
    }

    /// Judges the level that was measured since `mark`.
    fn judge_rise(&mut self, now: Duration, mark: &Mark, seen: Seen, rest: u64) {
        let Stage::Rising {
            best,
            measured,
            doubts,
        } = self.stage
        else {
            return;
        };
        let flowed = self.learn(&mark.seen, &seen);
        if std::mem::replace(&mut self.void, false) {
            self.mark = Some(Mark { at: now, seen });
            return;
        }
        if !flowed && now < mark.at + self.period() * LATE + LONG {
            return;
        }
        let met = Met {
            level: measured,
            body: self.body,
            latency: self.latency,
        };
        #[allow(clippy::cast_precision_loss, reason = "chunks are small")]
        let chunk = self.chunk_size as f64;
        let first = Met {
            level: 1,
            body: self.fastest,
            latency: self.nearest,
        };
        let reference = best.or_else(|| (self.fastest > 0.0).then_some(first));
        let share = reference.map_or(1.0, |best| {
            let promise = f64::from(measured) / f64::from(best.level) - 1.0;
            if promise > 0.0 {
                (met.rate(chunk) / best.rate(chunk).max(1.0) - 1.0) / promise
            } else {
                1.0
            }
        });
        if share >= WORTH {
            self.stage = Stage::Rising {
                best: Some(met),
                measured: self.level,
                doubts: 0,
            };
            if self.level >= self.bounds.most {
                self.settle(now, self.level, None);
                return self.choose_chunk(rest, met.rate(chunk));
            }
            self.step(now, if share >= FULLY { 1.5 } else { 1.25 });
            self.mark = Some(Mark { at: now, seen });
            return;
        }
        self.mark = Some(Mark { at: now, seen });
        // Where requests are dear, longer ones bring more than more of them.
        if self.body_time() < self.latency * 2.0 {
            let was = self.chunk_size;
            self.choose_chunk(rest, met.rate(chunk));
            if self.chunk_size > was {
                self.void = true;
                self.stage = Stage::Rising {
                    best,
                    measured: self.level,
                    doubts,
                };
                return;
            }
        }
        if doubts + 1 < DOUBTS {
            self.stage = Stage::Rising {
                best,
                measured: self.level,
                doubts: doubts + 1,
            };
            return;
        }
        // The network is full: fewer may do.
        self.try_less(
            now,
            Brought {
                level: self.level,
                rate: met.rate(chunk).max(1.0),
            },
        );
    }

    /// Tries the level that is computed to suffice, or half of this one.
    fn try_less(&mut self, now: Duration, of: Brought) {
        #[allow(clippy::cast_precision_loss, reason = "chunks are small")]
        let chunk = self.chunk_size as f64;
        let computed = (of.rate / self.fastest.max(1.0) + of.rate * self.nearest / chunk) * SPARE;
        let least = self.floor.max(2);
        let target = whole(computed.ceil()).max(least);
        // Small steps are not worth a trial.
        if target + 1 + of.level / 8 > of.level {
            return self.settle(now, of.level, Some(of.rate));
        }
        self.stage = Stage::Less { of };
        self.set_level(now, target);
        self.to_spread = target * 2;
    }

    fn watch(&mut self, now: Duration, goodput: f64, brings: Option<f64>, changes: u32) {
        let Some(was) = brings else {
            self.stage = Stage::Steady {
                brings: Some(goodput),
                changes: 0,
            };
            return;
        };
        if (goodput - was).abs() > was * CHANGED {
            if changes == 0 {
                self.stage = Stage::Steady { brings, changes: 1 };
                return;
            }
            self.pause = (self.pause / 2).max(FIRST_PAUSE);
            self.try_at = now;
            self.fastest = self.body;
            self.floor = 1;
            self.stage = Stage::Steady {
                brings: Some(goodput),
                changes: 0,
            };
        } else {
            let brings = Some(was * 0.75 + goodput * 0.25);
            self.stage = Stage::Steady { brings, changes: 0 };
        }
        if now >= self.try_at && self.level < self.bounds.most && !self.capped {
            let of = Brought {
                level: self.level,
                rate: goodput,
            };
            self.stage = Stage::More { of };
            self.step(now, 1.25);
        }
    }

    fn step(&mut self, now: Duration, factor: f64) {
        let level = whole((f64::from(self.level) * factor).ceil()).max(self.level + 1);
        self.set_level(now, level);
    }

    fn set_level(&mut self, now: Duration, level: u32) {
        if self.bounds.level.is_some() {
            return;
        }
        let level = level.clamp(1, self.bounds.most);
        if level != self.level {
            self.changes += 1;
            self.level = level;
        }
        self.effective = self.level;
        self.set_at = now;
        self.full_at = None;
        self.complete = false;
        self.void = false;
        self.mark = None;
        self.chunk_mark = None;
        self.fit_chunk();
    }

    /// Keeps `level` and watches what it brings.
    fn settle(&mut self, now: Duration, level: u32, brings: Option<f64>) {
        self.stage = Stage::Steady { brings, changes: 0 };
        self.try_at = now + self.pause();
        self.set_level(now, level);
    }

    fn pause(&self) -> Duration {
        self.pause.max(self.first * 8)
    }

    fn choose_chunk(&mut self, rest: u64, rate: f64) {
        // What is under way in the network needs memory, too.
        let under_way = whole_bytes(rate * self.nearest * UNDER_WAY);
        self.memory = under_way.clamp(
            self.bounds.memory,
            self.bounds.most_memory.max(self.bounds.memory),
        );
        if self.bounds.chunk_size.is_some() || self.body <= 0.0 {
            return;
        }
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        let rest = rest as f64;
        // An answer may take long because the processor is busy, and longer chunks do not help that.
        let latency = self.latency.min(self.nearest * DEAR);
        let busy = self.body * latency * BUSY;
        // Longer chunks cost more at the end, where connections wait for the last ones.
        let even = (2.0 * rest * self.body * self.latency / f64::from(self.effective)).sqrt();
        let long = LONG.as_secs_f64().max(self.latency * f64::from(LATE));
        let least = (self.body * long).min(bytes(LEAST_CHUNK));
        // Longer chunks may be what made the answers faster, so they shrink only if one would take long.
        let kept = bytes(self.chunk_size).min(self.body * KEPT);
        let wanted = busy.max(kept).min(even).max(least);
        let wanted = whole_bytes(wanted).clamp(PIECE, LARGEST_CHUNK);
        let wanted = self.within_memory(wanted);
        // A change is worth something only if it is large.
        if wanted >= self.chunk_size + self.chunk_size / 4 || wanted <= self.chunk_size * 2 / 3 {
            self.chunk_size = wanted;
            self.changed_chunk();
        }
    }

    /// What was measured with chunks of another size says little now.
    const fn changed_chunk(&mut self) {
        self.void = true;
        if let Stage::Steady { brings, .. } = &mut self.stage {
            *brings = None;
        }
    }

    fn within_memory(&self, chunk_size: u64) -> u64 {
        let share = self.memory / u64::from(self.effective);
        let size = chunk_size.min(share.max(PIECE));
        (size / PIECE * PIECE).max(PIECE)
    }

    /// More connections leave less memory for each.
    fn fit_chunk(&mut self) {
        if self.bounds.chunk_size.is_none() {
            self.chunk_size = self.within_memory(self.chunk_size);
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rate")]
fn per_second(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64().max(1e-9)
}

#[allow(clippy::cast_precision_loss, reason = "an estimate")]
const fn bytes(bytes: u64) -> f64 {
    bytes as f64
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of floats saturate"
)]
const fn whole(value: f64) -> u32 {
    value as u32
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of floats saturate"
)]
const fn whole_bytes(value: f64) -> u64 {
    value as u64
}
