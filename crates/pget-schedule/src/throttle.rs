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
//! 4. If a level does not help, and a status refuses, the rate may be limited: requests are paced
//!    at what was served since the level was found. A server may serve many at once before it
//!    limits the rate, so steps up that were served are taken back one by one when refusals come.
//! 5. If refusals come as often as before in spite of all that, they have another cause (a share of
//!    requests fails). Permits and pace come back, and the next refusals change nothing.
//!
//! Invariants: permits are never 0 and never above the concurrency; nothing here ends a download.

mod level;
mod pace;
mod raise;
mod trial;

use std::time::Duration;

use level::Level;
use pace::Pace;
use raise::FIRST_RAISE;
use trial::Trial;

use super::Found;

/// A pace whose interval is shorter is dropped: it would limit nothing.
const FASTEST: Duration = Duration::from_millis(1);
/// An outage that lasts longer is no limit on the rate, or one that needs no pace: it serves in
/// bursts.
const SHORT: Duration = Duration::from_secs(5);
/// Episodes further apart than this say nothing of a pace.
const APART: Duration = Duration::from_secs(60);

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
    /// When the level was found or cut last, and the requests served since.
    measured: Option<(Duration, u32)>,
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
            measured: None,
            pending: None,
            launched_at: Duration::ZERO,
            level_trial: Trial::of_level(),
            pace_trial: Trial::of_pace(),
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
        self.pace = learned.interval.map(Pace::new);
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

    /// Whether the rate of requests is limited.
    pub(super) const fn is_paced(&self) -> bool {
        self.pace.is_some()
    }

    pub(super) fn launched(&mut self, now: Duration) {
        self.launched_at = now;
        if let Some(pace) = &self.pace {
            self.next_at = now + pace.now();
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

    /// Attempt `id` had no answer for long, while `served` permits do not hang.
    pub(super) fn unanswered(&mut self, now: Duration, id: u64, next: u64, served: u32) {
        let is_new = self.episode.is_none() && id >= self.unanswered_before;
        if !is_new {
            return;
        }
        self.unanswered_before = next;
        self.refused(now, id, 0, served, false);
        self.decided(now, 0);
    }

    /// When an attempt without an answer is waited for no longer.
    pub(super) fn decided_at(&self) -> Option<Duration> {
        self.episode.map(|episode| episode.began + super::health::UNSURE)
    }

    /// All that were in flight when the episode began are decided but `silent` ones, and some were
    /// served.
    pub(super) fn decided(&mut self, now: Duration, silent: u32) {
        let Some(episode) = self.episode.take() else {
            return;
        };
        let had_level = self.level.is_some();
        if self.take_step_back() {
            return;
        }
        self.evaluate(now, episode.by_status);
        if episode.ignored || had_level && self.level.is_none() {
            return;
        }
        if let Some(pace) = self.pace.filter(|_| episode.by_status) {
            self.pace = Some(pace.slower(Duration::ZERO));
            return;
        }
        let permits = episode.left.saturating_sub(silent).clamp(1, self.permits());
        let level = self
            .level
            .map_or_else(|| Level::new(permits), |level| level.cut(permits));
        self.level = (permits < self.most).then_some(level);
        self.measured = Some((now, 0));
    }

    /// Takes back the step up that a refusal came of, of the level or of the pace. Returns whether
    /// it came of one.
    fn take_step_back(&mut self) -> bool {
        let level = self.level.as_mut().is_some_and(Level::is_raise_refused);
        let pace = self.pace.as_mut().is_some_and(|pace| pace.raise.refused());
        let mut is_known = level | pace;
        if let Some(pace) = self.pace.filter(|pace| !is_known && pace.steps > 0) {
            self.pace = Some(pace.step_back());
            is_known = true;
        }
        if is_known {
            (self.run, self.refused) = (0, 0);
        }
        is_known
    }

    /// Nothing is served any more: the episode, if there is one, says nothing of a level.
    pub(super) fn outage(&mut self, now: Duration) {
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
        if self.take_step_back() {
            return;
        }
        self.evaluate(now, true);
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
            self.pending = Some(measured + measured / 20);
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
            self.start_pace(interval);
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
        if let Some((_, served)) = &mut self.measured {
            *served += 1;
        }
        if let Some(pace) = &mut self.pace {
            pace.served();
            if pace.interval < FASTEST {
                self.pace = None;
            }
        }
    }

    fn start_pace(&mut self, interval: Duration) {
        let pace = self
            .pace
            .map_or_else(|| Pace::new(interval), |pace| pace.slower(interval));
        self.next_at = self.launched_at + pace.interval;
        self.pace = Some(pace);
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
    ///
    /// A level that does not help where a status refuses may be a limit on the rate: requests are
    /// then paced at what was served since the level was found. A pace that does not help either
    /// is refuted in turn.
    fn evaluate(&mut self, now: Duration, by_status: bool) {
        let refused = std::mem::take(&mut self.refused).max(1);
        let between = std::mem::take(&mut self.run) / refused;
        if self.level_trial.is_refuted(between, self.level.is_some()) {
            self.level = None;
            let measured = self.measured.take().filter(|&(_, served)| served > 0);
            if let Some((since, served)) = measured
                && by_status
                && self.pace.is_none()
                && !self.pace_trial.is_off()
            {
                let took = now.saturating_sub(since) / served;
                self.start_pace(took + took / 20);
                return;
            }
        }
        if self.pace_trial.is_refuted(between, self.pace.is_some()) {
            self.pace = None;
            self.next_at = Duration::ZERO;
        }
    }
}
