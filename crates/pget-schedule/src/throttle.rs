//! How many requests a server takes at once, and how many a second. Pure; a part of `Schedule`.
//!
//! A refusal (429, 503, another status, a reset or a close before an answer, or no answer) while
//! other attempts are served may mean that there were too many requests in flight, or too many in a
//! short time, or neither. [`Throttle`] finds out in this order:
//! 1. The first refusal begins an *episode*. Nothing is started until the attempts that were in
//!    flight then are decided: so permits come down once per round trip, and not per refusal.
//! 2. If some were served, their number is the *level* of the server. One more is tried seldom, and
//!    twice as seldom each time that it is refused.
//! 3. If none was served, that is an outage and no level (see `health`). When the second one in a
//!    row began by a refusal, requests are *paced*: at what was served between the two, and a
//!    little less. A higher pace is tried as seldom as a higher level.
//! 4. If refusals come as often as before in spite of that, they have another cause (a share of
//!    requests fails). Permits and pace come back, and the next refusals change nothing.
//!
//! Invariants: permits are never 0 and never above the concurrency; nothing here ends a download.

use std::time::Duration;

use super::Found;

/// After so many requests served at a level, one more is tried.
const FIRST_RAISE: u32 = 16;
/// A raise is never rarer than this.
const RAREST_RAISE: u32 = 4096;
/// So many cuts that did not help refute a level or a pace.
const STRIKES: u32 = 3;
/// Fewer requests served between two refusals than twice this are no success of a level or a pace.
const FEW: u32 = 4;
/// So many episodes are ignored after the first refutation; twice as many after each further one.
const FIRST_IGNORED: u32 = 32;
const MOST_IGNORED: u32 = 4096;
/// The slowest pace: a server that serves fewer requests a second is in an outage in between.
const SLOWEST: Duration = Duration::from_secs(2);
/// A pace above this is none.
const FASTEST: Duration = Duration::from_millis(1);
/// An outage that lasts longer is no limit on the rate, or one that needs no pace: it serves in
/// bursts.
const SHORT: Duration = Duration::from_secs(5);
/// Episodes further apart than this say nothing of a pace.
const APART: Duration = Duration::from_secs(60);

/// A level or a pace that was found, and when to try a higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Raise {
    served: u32,
    after: u32,
    raised: bool,
}

impl Raise {
    const fn new() -> Self {
        Self {
            served: 0,
            after: FIRST_RAISE,
            raised: false,
        }
    }

    /// One more was served. Returns whether a step up has proved itself: it was served for `enough`
    /// requests.
    fn served(&mut self, enough: u32) -> bool {
        self.served = self.served.saturating_add(1);
        if self.raised && self.served >= enough {
            self.served = 0;
            self.after = FIRST_RAISE;
            return true;
        }
        if !self.raised && self.served >= self.after {
            (self.raised, self.served) = (true, 0);
        }
        false
    }

    /// A refusal. Returns whether it came of a raise.
    fn refused(&mut self) -> bool {
        self.served = 0;
        let raised = std::mem::take(&mut self.raised);
        if raised {
            self.after = (self.after * 2).min(RAREST_RAISE);
        }
        raised
    }
}

/// A step up, and after how many requests it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    to: u32,
    after: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Level {
    permits: u32,
    raise: Raise,
    /// The step that was refused last.
    refused: Option<Step>,
    /// The step to what the last cut took away, and the requests served since.
    lost: Option<Step>,
    since_cut: u32,
}

impl Level {
    const fn new(permits: u32) -> Self {
        Self {
            permits,
            raise: Raise::new(),
            refused: None,
            lost: None,
            since_cut: 0,
        }
    }

    /// A refusal. Returns whether it came of a raise.
    fn is_raise_refused(&mut self) -> bool {
        let raised = self.raise.refused();
        if raised {
            let step = Step {
                to: self.permits + 1,
                after: self.raise.after,
            };
            match &mut self.lost {
                Some(lost) if lost.to == step.to => *lost = step,
                _ => self.refused = Some(step),
            }
        }
        raised
    }

    /// The level comes down. What it loses is tried again soon, and twice as seldom if it was lost
    /// before and did not hold for long.
    fn cut(self, permits: u32) -> Self {
        let to = permits + 1;
        let after = match self.lost {
            Some(lost) if lost.to != to || self.since_cut / 4 >= lost.after => FIRST_RAISE,
            Some(lost) => (lost.after * 2).min(RAREST_RAISE),
            None => FIRST_RAISE,
        };
        Self {
            permits,
            raise: Raise {
                after,
                ..Raise::new()
            },
            refused: self.refused,
            lost: Some(Step { to, after }),
            since_cut: 0,
        }
    }

    /// A step up has proved itself. The next one is tried as seldom as it was before.
    fn step_up(&mut self) {
        self.permits += 1;
        let next = |step: &Step| step.to == self.permits + 1;
        if let Some(step) = self.refused.filter(next).or_else(|| self.lost.filter(next)) {
            self.raise.after = step.after;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    interval: Duration,
    raise: Raise,
}

/// Whether a level, or a pace, helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trial {
    /// Requests served for one that is refused, while there is no level or pace.
    without: u32,
    strikes: u32,
    /// Episodes for which it is not tried again, and for how many after the next refutation.
    to_ignore: u32,
    ignores: u32,
}

impl Trial {
    const fn new() -> Self {
        Self {
            without: 0,
            strikes: 0,
            to_ignore: 0,
            ignores: FIRST_IGNORED,
        }
    }

    const fn is_off(&self) -> bool {
        self.to_ignore > 0
    }

    /// An episode, with so many requests served `between` two refusals.
    fn is_refuted(&mut self, between: u32, is_on: bool) -> bool {
        if !is_on {
            self.to_ignore = self.to_ignore.saturating_sub(1);
            self.without = (self.without + between).div_ceil(2);
            return false;
        }
        if between > self.without.max(FEW) * 2 {
            self.strikes = 0;
            return false;
        }
        self.is_struck_out()
    }

    /// It did not help once more. Returns whether that refutes it.
    fn is_struck_out(&mut self) -> bool {
        self.strikes += 1;
        if self.strikes < STRIKES {
            return false;
        }
        self.strikes = 0;
        self.to_ignore = self.ignores;
        self.ignores = (self.ignores * 2).min(MOST_IGNORED);
        true
    }
}

/// A round trip in which requests were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Episode {
    began: Duration,
    /// Attempts with a lower number were in flight when it began.
    before: u64,
    /// How many of them were in flight and were not refused since.
    left: u32,
    /// No level and no pace follows from it.
    ignored: bool,
    /// It began by a status, which a limit on the rate would answer with.
    by_status: bool,
}

/// What a download has found out about its server's limits.
#[derive(Clone, Debug)]
pub(super) struct Throttle {
    most: u32,
    level: Option<Level>,
    pace: Option<Pace>,
    /// Permits after an outage, doubled by each success.
    ramp: Option<u32>,
    episode: Option<Episode>,
    /// The next request is not sent before this time.
    next_at: Duration,
    /// Requests served since the last episode.
    run: u32,
    /// Refusals since the last episode.
    refused: u32,
    /// Refusals since the last request that was served.
    in_a_row: u32,
    /// The pace that follows from an outage, unless it ends at once; and the last request.
    pending: Option<Duration>,
    launched_at: Duration,
    level_trial: Trial,
    pace_trial: Trial,
    /// Requests served since the last outage by refusals, when that began, and how long it lasted.
    outage_run: u32,
    outage_began: Option<Duration>,
    outage_lasted: Duration,
    /// The last outage took away a level that had just been found.
    lost_level: bool,
    /// Attempts with a lower number were in flight when one was last found to be silent.
    unanswered_before: u64,
}

/// What one download may pass on to the next: see `hosts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// Requests that are served at once, if there is a limit.
    pub permits: Option<u32>,
    /// The time between two requests, if their rate is limited.
    pub interval: Option<Duration>,
    /// The level and the chunk size that measuring has found.
    pub found: Option<Found>,
}

impl Throttle {
    pub(super) const fn new(most: u32) -> Self {
        Self {
            most,
            level: None,
            pace: None,
            ramp: None,
            episode: None,
            next_at: Duration::ZERO,
            run: 0,
            refused: 0,
            in_a_row: 0,
            pending: None,
            launched_at: Duration::ZERO,
            level_trial: Trial::new(),
            pace_trial: Trial::new(),
            outage_run: 0,
            outage_began: None,
            outage_lasted: Duration::ZERO,
            lost_level: false,
            unanswered_before: 0,
        }
    }

    pub(super) fn start_from(&mut self, learned: Learned) {
        self.level = learned
            .permits
            .filter(|&permits| permits > 0 && permits < self.most)
            .map(Level::new);
        self.pace = learned.interval.map(|interval| Pace {
            interval: interval.min(SLOWEST),
            raise: Raise::new(),
        });
    }

    pub(super) fn learned(&self) -> Learned {
        Learned {
            permits: self.level.map(|level| level.permits),
            interval: self.pace.map(|pace| pace.interval),
            found: None,
        }
    }

    /// Attempts that may be in flight.
    pub(super) fn permits(&self) -> u32 {
        let level = self
            .level
            .map_or(self.most, |level| level.permits + u32::from(level.raise.raised));
        level.min(self.ramp.unwrap_or(self.most)).clamp(1, self.most)
    }

    /// The next request is not to be sent before this time.
    pub(super) const fn next_at(&self) -> Duration {
        self.next_at
    }

    pub(super) fn launched(&mut self, now: Duration) {
        self.launched_at = now;
        if let Some(pace) = &self.pace {
            let interval = if pace.raise.raised {
                pace.interval * 4 / 5
            } else {
                pace.interval
            };
            self.next_at = now + interval;
        }
    }

    /// Attempts with a lower number must be decided before another is started.
    pub(super) fn undecided_before(&self) -> Option<u64> {
        self.episode.map(|episode| episode.before)
    }

    /// Attempt `id` was refused, or had no answer while others were served. `next` is the number of
    /// the next attempt, and `in_flight` attempts are left.
    pub(super) fn refused(&mut self, now: Duration, id: u64, next: u64, in_flight: u32, by_status: bool) {
        self.refused = self.refused.saturating_add(1);
        self.in_a_row = self.in_a_row.saturating_add(1);
        if let Some(episode) = &mut self.episode {
            if id < episode.before {
                episode.left = episode.left.saturating_sub(1);
            }
            return;
        }
        let ignored = self.level_trial.is_off();
        self.episode = Some(Episode {
            began: now,
            before: if ignored { 0 } else { next },
            left: in_flight,
            ignored,
            by_status,
        });
    }

    /// Attempt `id` had no answer for long, while `served` others had theirs or are young.
    pub(super) fn unanswered(&mut self, now: Duration, id: u64, next: u64, served: u32) {
        let is_new = self.episode.is_none() && id >= self.unanswered_before;
        if !is_new {
            return;
        }
        self.unanswered_before = next;
        self.refused(now, id, 0, served, false);
        self.decided(0);
    }

    /// When an attempt without an answer is waited for no longer.
    pub(super) fn decided_at(&self) -> Option<Duration> {
        self.episode.map(|episode| episode.began + super::health::UNSURE)
    }

    /// All that were in flight when the episode began are decided but `silent` ones, and some were
    /// served.
    pub(super) fn decided(&mut self, silent: u32) {
        let Some(episode) = self.episode.take() else {
            return;
        };
        let had_level = self.level.is_some();
        let raised = self.level.as_mut().is_some_and(Level::is_raise_refused)
            | self.pace.as_mut().is_some_and(|pace| pace.raise.refused());
        if raised {
            (self.run, self.refused) = (0, 0);
            return;
        }
        self.evaluate();
        if episode.ignored || had_level && self.level.is_none() {
            return;
        }
        let permits = episode.left.saturating_sub(silent).clamp(1, self.permits());
        let level = self
            .level
            .map_or_else(|| Level::new(permits), |level| level.cut(permits));
        self.level = (permits < self.most).then_some(level);
    }

    /// Nothing is served any more: the episode, if there is one, says nothing of a level.
    pub(super) fn outage(&mut self) {
        // A level that was found just before was the beginning of the outage.
        let is_new = |level: Level| level.raise.after == FIRST_RAISE && level.raise.served < FIRST_RAISE;
        self.lost_level = self.level.is_some_and(is_new);
        if self.lost_level {
            self.level = None;
        }
        let served = std::mem::take(&mut self.outage_run);
        let Some(episode) = self.episode.take().filter(|episode| episode.by_status) else {
            self.outage_began = None;
            return;
        };
        let before = self.outage_began.replace(episode.began);
        let raised = self.pace.as_mut().is_some_and(|pace| pace.raise.refused());
        if raised {
            (self.run, self.refused) = (0, 0);
            return;
        }
        self.evaluate();
        if self.pace_trial.is_off() {
            return;
        }
        let took = before.map(|before| episode.began.saturating_sub(before));
        if let Some(took) = took.filter(|&took| took <= APART)
            && served > 0
            && self.outage_lasted <= SHORT
        {
            let measured = took / served;
            // A twentieth slower than what was served.
            let interval = (measured + measured / 20).min(SLOWEST);
            let interval = self.pace.map_or(interval, |pace| {
                interval.max((pace.interval + pace.interval / 4).min(SLOWEST))
            });
            self.pending = Some(interval);
        }
    }

    /// The source serves again after an outage that has lasted so long. `alone`: one request was
    /// refused, and the next one was served.
    pub(super) fn back(&mut self, lasted: Duration, alone: bool) {
        self.outage_lasted = lasted;
        let lost_level = std::mem::take(&mut self.lost_level);
        if !alone {
            self.ramp = Some(2).filter(|&ramp| ramp < self.most);
        } else if lost_level && !self.level_trial.is_off() {
            // Even the level was too much, although there was no outage: it did not help.
            self.level_trial.is_struck_out();
        }
    }

    /// Whether no more than one request was refused since one was last served.
    pub(super) const fn is_alone(&self) -> bool {
        self.in_a_row <= 1
    }

    /// Whether refusals are known to come at any level: a share of requests fails.
    pub(super) const fn is_share(&self) -> bool {
        self.level_trial.is_off()
    }

    /// An attempt has proved that it is served.
    pub(super) fn served(&mut self, in_turn: bool) {
        let in_a_row = std::mem::take(&mut self.in_a_row);
        // One refusal alone, and then none, is no limit on the rate.
        if let Some(interval) = self.pending.take()
            && (in_a_row > 1 || self.pace.is_some())
        {
            let raise = self.pace.map_or(Raise::new(), |pace| pace.raise);
            self.pace = Some(Pace { interval, raise });
            self.next_at = self.launched_at + interval;
        }
        self.run = self.run.saturating_add(1);
        self.outage_run = self.outage_run.saturating_add(1);
        if let Some(ramp) = self.ramp {
            self.ramp = Some(ramp.saturating_mul(2)).filter(|&ramp| ramp < self.most);
        }
        if let Some(level) = &mut self.level {
            level.since_cut = level.since_cut.saturating_add(1);
        }
        if let Some(level) = &mut self.level
            // A raise proves nothing while a request waits that is one too many.
            && (in_turn || !level.raise.raised)
            && level.raise.served(level.permits + 1)
        {
            level.step_up();
            if level.permits >= self.most {
                self.level = None;
            }
        }
        if let Some(pace) = &mut self.pace
            && pace.raise.served(FIRST_RAISE)
        {
            pace.interval = pace.interval * 4 / 5;
            if pace.interval < FASTEST {
                self.pace = None;
            }
        }
    }

    /// What it does next depends on, as numbers, for walks over all states.
    pub(super) fn key(&self) -> [u64; 4] {
        let level = self.level.map_or(0, |level| level.permits);
        let raised = self.level.is_some_and(|level| level.raise.raised);
        let left = self.episode.map_or(u32::MAX, |episode| episode.left);
        [self.permits().into(), level.into(), raised.into(), left.into()]
    }

    /// An episode has ended. A level or a pace under which refusals are not rarer than without is
    /// given up, and not tried again for a while.
    fn evaluate(&mut self) {
        let refused = std::mem::take(&mut self.refused).max(1);
        let between = std::mem::take(&mut self.run) / refused;
        if self.level_trial.is_refuted(between, self.level.is_some()) {
            self.level = None;
        }
        if self.pace_trial.is_refuted(between, self.pace.is_some()) {
            self.pace = None;
            self.next_at = Duration::ZERO;
        }
    }
}
