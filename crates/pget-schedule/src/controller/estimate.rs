//! What is measured in a period: latency, the rate of a body, and what a level brings.

use std::time::Duration;

use super::{
    Controller, GOODPUT, Mark, SHORTEST, Seen, Stage,
    figures::{Met, bytes, per_second},
};

impl Controller {
    /// Chooses the chunk size more often than the level.
    pub(super) fn adapt_chunk(&mut self, now: Duration, seen: &Seen, rest: u64) {
        let rising = matches!(self.stage, Stage::Rising { .. });
        let Some(mark) = self.chunk_mark else {
            self.chunk_mark = Some(Mark { at: now, seen: *seen });
            return;
        };
        let cycle = Duration::from_secs_f64((self.latency * 1.5 + self.body_time()).min(2.0));
        let cycle = cycle.clamp(SHORTEST * 2, GOODPUT * 2 + self.first);
        if now < mark.at + cycle || seen.bytes == mark.seen.bytes {
            return;
        }
        self.learn(&mark.seen, seen);
        self.goodput = per_second(seen.bytes - mark.seen.bytes, now - mark.at);
        let answers = (seen.answers - mark.seen.answers) + (seen.first_answers - mark.seen.first_answers);
        let answers = per_second(answers.into(), now - mark.at);
        self.chunk_mark = Some(Mark { at: now, seen: *seen });
        if !self.asks_for_more(now, answers, rest) && !rising && !self.rises_again(now) {
            self.choose_chunk(rest, self.rate());
        }
    }

    /// Seconds that a body of a chunk takes.
    pub(super) fn body_time(&self) -> f64 {
        let time = bytes(self.chunk_size) / self.body;
        if time.is_finite() { time.min(2.0) } else { 0.0 }
    }

    /// How long is measured before a judgement.
    pub(super) fn period(&self) -> Duration {
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
    pub(super) fn learn(&mut self, before: &Seen, seen: &Seen) -> bool {
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
            self.fastest = self.fastest.max(self.body);
            return true;
        }
        false
    }

    /// What the level brings per second: of bodies as fast as in the period, with no permit idle.
    pub(super) fn rate(&self) -> f64 {
        let met = Met {
            level: self.effective,
            body: self.body,
            latency: self.latency,
        };
        met.rate(bytes(self.chunk_size))
    }
}
