//! What a period means for the level: rise, try less, keep, or try more.

use std::time::Duration;

use super::{
    Brought, CHANGED, Controller, DOUBTS, ENOUGH, FIRST_PAUSE, FLOOR, FULLY, GROWS, HUNGRY, LATE,
    LEAST_RATIO, LONG, LONGEST_PAUSE, Mark, PLENTY, RIPE, SPARE, STEP, STEPS_SLOWLY, Seen, Stage, WORTH,
    figures::{Met, bytes, per_second, whole},
};

/// Returns which share of the growth that `measured` requests promise over `best` came true: 1 is
/// all of it.
fn share(best: &Met, measured: u32, rate: f64, chunk: f64) -> f64 {
    let promise = f64::from(measured) / f64::from(best.level) - 1.0;
    if promise > 0.0 {
        (rate / best.rate(chunk).max(1.0) - 1.0) / promise
    } else {
        1.0
    }
}

impl Controller {
    /// Judges a level that is kept or tried, which brought `goodput` bytes per second.
    pub(super) fn judge(&mut self, now: Duration, goodput: f64) {
        if self.bounds.level.is_some() || self.capped {
            return;
        }
        match self.stage {
            Stage::First | Stage::Rising { .. } => {}
            Stage::Less { of } => {
                if goodput >= of.rate * ENOUGH {
                    if self.is_hungry() {
                        // Each body flows as fast as it can, so fewer would bring less.
                        self.floor = self.level;
                        return self.settle(now, self.level, Some(goodput));
                    }
                    let rate = goodput.max(of.rate);
                    return self.try_less(
                        now,
                        Brought {
                            level: self.level,
                            rate,
                        },
                    );
                }
                self.floor = self.level + 1;
                self.settle(now, of.level, Some(of.rate));
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
                        last: goodput,
                        measured: self.level,
                        doubts: 0,
                    };
                    self.step(now, STEP);
                } else {
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                    self.settle(now, of.level, Some(of.rate));
                }
            }
            Stage::Steady { brings, changes } => self.watch(now, goodput, brings, changes),
        }
    }

    /// Judges the level that was measured since `mark`.
    pub(super) fn judge_rise(&mut self, now: Duration, mark: &Mark, seen: Seen, rest: u64) {
        let Stage::Rising {
            best,
            last,
            measured,
            doubts,
        } = self.stage
        else {
            return;
        };
        let waited = now.saturating_sub(mark.at);
        let flowing = seen.flowing.saturating_sub(mark.seen.flowing);
        // Little that was seen to flow says little.
        let ripe = flowing >= waited.mul_f64(f64::from(measured) * RIPE);
        if !ripe && waited < self.period() * LATE + LONG {
            return;
        }
        self.learn(&mark.seen, &seen);
        self.goodput = per_second(seen.bytes - mark.seen.bytes, waited);
        if std::mem::replace(&mut self.void, false) {
            self.mark = Some(Mark { at: now, seen });
            return;
        }
        let met = Met {
            level: measured,
            body: self.body,
            latency: self.latency,
        };
        self.choose_chunk(rest, met.rate(bytes(self.chunk_size)));
        self.void = false;
        let chunk = bytes(self.chunk_size);
        let rate = met.rate(chunk);
        let share = best.map_or(1.0, |best| share(&best, measured, rate, chunk));
        // Connections that start slowly bring more with time.
        let grows = self.first >= STEPS_SLOWLY && rate >= last * GROWS;
        self.mark = Some(Mark { at: now, seen });
        if self.has_plenty() {
            return self.settle(now, self.level, None);
        }
        if share >= WORTH || grows {
            return self.rise(now, met, rate, seen, if share >= FULLY { STEP } else { 1.25 });
        }
        if doubts + 1 < DOUBTS {
            self.stage = Stage::Rising {
                best,
                last: rate.max(last),
                measured: self.level,
                doubts: doubts + 1,
            };
            return;
        }
        // The network is full: fewer may do.
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        let of = Brought {
            level: self.level,
            rate: rate.max(1.0),
        };
        self.best = Some(of);
        self.try_less(now, of);
    }

    /// Goes on to the next level, which is `step` times this one, if there is one.
    fn rise(&mut self, now: Duration, met: Met, rate: f64, seen: Seen, step: f64) {
        self.stage = Stage::Rising {
            best: Some(met),
            last: rate,
            measured: self.level,
            doubts: 0,
        };
        if self.level >= self.bounds.most {
            return self.settle(now, self.level, None);
        }
        self.pause = FIRST_PAUSE;
        self.step(now, step);
        self.mark = Some(Mark { at: now, seen });
    }

    /// Tries the level that is computed to suffice, but at least half of this one.
    fn try_less(&mut self, now: Duration, of: Brought) {
        let computed = self.needed(of.rate) * SPARE;
        let half = of.level.div_ceil(2);
        let target = whole(computed.ceil()).max(self.floor).max(half);
        // Small steps are not worth a trial.
        if target + 1 + of.level / 8 > of.level {
            return self.settle(now, of.level, Some(of.rate));
        }
        self.stage = Stage::Less { of };
        self.set_level(now, target);
        self.to_spread = target * 2;
    }

    /// Requests that bring `rate` if each body flows as fast as the fastest.
    fn needed(&self, rate: f64) -> f64 {
        rate / self.fastest.max(1.0) + rate * self.nearest / bytes(self.chunk_size)
    }

    fn watch(&mut self, now: Duration, goodput: f64, brings: Option<f64>, changes: u32) {
        let Some(was) = brings else {
            self.stage = Stage::Steady {
                brings: Some(goodput),
                changes: 0,
            };
            return;
        };
        if self.returns(now, goodput, changes) {
            return;
        }
        if (goodput - was).abs() > was * CHANGED {
            if changes == 0 {
                self.stage = Stage::Steady { brings, changes: 1 };
                return;
            }
            self.pause = (self.pause / 2).max(FIRST_PAUSE);
            self.try_at = now;
            self.fastest = self.body;
            self.floor = FLOOR;
            self.rationed = false;
            self.stage = Stage::Steady {
                brings: Some(goodput),
                changes: 0,
            };
        } else {
            let brings = Some(was * 0.75 + goodput * 0.25);
            self.stage = Stage::Steady { brings, changes: 0 };
        }
        if self.level >= self.bounds.most || self.capped || self.rationed || self.has_plenty() {
            return;
        }
        if now >= self.try_at {
            let of = Brought {
                level: self.level,
                rate: goodput,
            };
            self.stage = Stage::More { of };
            self.step(now, 1.25);
        }
    }

    /// Rises at once where bodies flow as fast as one alone. Returns whether the level has changed.
    ///
    /// A bad moment may have ended the rise too early, or a lower level may be tried in vain.
    pub(super) fn rises_again(&mut self, now: Duration) -> bool {
        let may_rise = self.bounds.level.is_none() && !self.capped && self.level < self.bounds.most;
        if !may_rise || self.rationed || self.void || self.has_plenty() || !self.is_hungry() {
            return false;
        }
        match self.stage {
            Stage::Less { of } if self.rate() < of.rate * (1.0 + CHANGED) => return false,
            Stage::Less { .. } => {}
            Stage::Steady { .. } if now >= self.set_at + self.pause() / 4 => {}
            _ => return false,
        }
        let met = Met {
            level: self.level,
            body: self.body,
            latency: self.latency,
        };
        self.stage = Stage::Rising {
            best: Some(met),
            last: met.rate(bytes(self.chunk_size)),
            measured: self.level,
            doubts: 0,
        };
        self.step(now, STEP);
        true
    }

    /// Whether bodies that flow as they do now bring more than a process takes, with answers as
    /// fast as the fastest.
    pub(super) fn has_plenty(&self) -> bool {
        let met = Met {
            level: self.level,
            body: self.body,
            latency: self.nearest,
        };
        met.rate(bytes(self.chunk_size)) >= PLENTY
    }

    /// Whether bodies flow as fast as one alone, so that the network has room for more of them.
    pub(super) fn is_hungry(&self) -> bool {
        self.body >= self.fastest * HUNGRY
    }

    /// Returns to a higher level that brought much more than this one does now.
    fn returns(&mut self, now: Duration, goodput: f64, changes: u32) -> bool {
        let Some(best) = self.best else {
            return false;
        };
        if best.level <= self.level {
            // What the best level brings now is what counts.
            if changes > 0 {
                self.best = Some(Brought {
                    rate: best.rate.min(goodput.max(1.0)),
                    ..best
                });
            }
            return false;
        }
        if goodput >= best.rate * LEAST_RATIO || changes == 0 {
            return false;
        }
        self.floor = self.level + 1;
        self.rationed = false;
        self.settle(now, best.level, None);
        true
    }

    pub(super) fn step(&mut self, now: Duration, factor: f64) {
        let level = whole((f64::from(self.level) * factor).ceil()).max(self.level + 1);
        self.set_level(now, level);
    }

    pub(super) fn set_level(&mut self, now: Duration, level: u32) {
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
    pub(super) fn settle(&mut self, now: Duration, level: u32, brings: Option<f64>) {
        self.stage = Stage::Steady { brings, changes: 0 };
        self.try_at = now + self.pause();
        self.set_level(now, level);
    }

    pub(super) fn pause(&self) -> Duration {
        self.pause.max(self.first * 8)
    }
}
