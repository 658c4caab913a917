//! Looks at the attempts in flight: which have brought bytes, and which one is to be fenced.

use std::time::Duration;

use super::{Phase, Schedule, earlier};
use crate::{
    Flow,
    health::{LEAST_SILENCE, PROGRESS},
    open_chunk::{ChunkState, OpenChunk},
    straggler::{FAR, LEAST_SIBLINGS, MARGIN, Norm, SETUP, SHARE, median, time},
    track::{Track, rate},
};

/// At most so many fences of one chunk. More would say that it is not the connection.
const MOST_OF_A_CHUNK: u32 = 6;
/// An attempt without an answer is fenced by comparison only so often for one chunk.
const MOST_UNANSWERED: u32 = 2;

impl Schedule {
    /// Fences so far.
    #[must_use]
    pub const fn fences(&self) -> u64 {
        self.stragglers.fences
    }

    /// When to [look](Self::look) next; `None`: not before another event.
    #[must_use]
    pub fn look_at(&self) -> Option<Duration> {
        earlier(self.straggler_at(), self.control_at())
    }

    fn straggler_at(&self) -> Option<Duration> {
        let compares = self.phase == Phase::Parallel && self.settings.concurrency > 1;
        let over = self.phase == Phase::Over;
        let matters =
            !over && self.in_flight > 0 && (compares || self.some_range_fails || !self.health.is_well());
        matters.then(|| {
            let next = self.stragglers.looked + self.stragglers.step;
            self.last_look_at().map_or(next, |last| next.min(last))
        })
    }

    /// Looks at what the attempts in flight have brought by `now`, each as `flow` reports it.
    /// Returns the attempt to be fenced, if there is one.
    ///
    /// The driver ends that attempt and reports it by [`fenced`](Self::fenced), or by
    /// [`ended`](Self::ended) if the attempt came to its end by itself. Before it is
    /// [time](Self::look_at), nothing is looked at.
    pub fn look(&mut self, now: Duration, flow: impl Fn(u64) -> Option<Flow>) -> Option<u64> {
        self.control(now, &flow);
        if self.straggler_at().is_none_or(|at| at > now) {
            return None;
        }
        self.stragglers.looked = now;
        self.see(now, flow);
        let index = if self.health.is_in_trouble() {
            let index = self.silent_probe(now)?;
            self.open_chunks[index].silent = true;
            index
        } else if let Some(since) = self.silent_since(now) {
            self.health.sink(now, since, &mut self.backoff);
            self.throttle.outage(now);
            return None;
        } else {
            self.straggler(now)?
        };
        let open_chunk = &mut self.open_chunks[index];
        let ChunkState::InFlight(id) = open_chunk.state else {
            return None;
        };
        open_chunk.fencing = true;
        Some(id)
    }

    /// Notes what the attempts in flight have brought.
    fn see(&mut self, now: Duration, flow: impl Fn(u64) -> Option<Flow>) {
        let (mut flows, mut accepted, mut proved) = (false, false, Vec::new());
        let round = self.stragglers.usual_answer().unwrap_or_default();
        for open_chunk in &mut self.open_chunks {
            let ChunkState::InFlight(id) = open_chunk.state else {
                continue;
            };
            let Some(flow) = flow(id) else { continue };
            let (moved, more) = open_chunk.track.saw(now, flow, round);
            open_chunk.begun |= flow.bytes > 0;
            flows |= moved;
            if more {
                accepted = true;
                self.wrong_passes |= open_chunk.progressed();
            }
            if !open_chunk.proved && flow.position.saturating_sub(open_chunk.position) >= PROGRESS {
                open_chunk.proved = true;
                proved.push(id);
            }
            if open_chunk.begun && open_chunk.answered_at.is_none() {
                open_chunk.answered_at = Some(now);
                self.stragglers.answered(now);
                self.stragglers.pays(open_chunk, now, true);
            }
        }
        if accepted {
            self.health.progressed(now);
        }
        if flows {
            self.health.flows();
        }
        for id in proved {
            self.succeeded(Some(now), self.is_oldest(id));
        }
    }

    /// The attempt that is far slower than the others, or silent.
    fn straggler(&mut self, now: Duration) -> Option<usize> {
        // While the server wants a pause or fewer requests, the rest could not be asked for at
        // once. A consumer that has something to take is not waiting.
        if !self.may_fence()
            || self.phase != Phase::Parallel
            || self.settings.concurrency == 1
            || self.paused_until > now
            || self.consumer_has_all()
        {
            return None;
        }
        let near = match self.next_to_open() {
            Some(_) => self.settings.concurrency as usize,
            None => usize::MAX,
        };
        let near = self.open_chunks.len().min(near);
        let may_ask = self.in_flight <= self.throttle.permits();
        let norm = self.norm().filter(|_| may_ask);
        let slow = norm.and_then(|norm| {
            let index = (0..near).find(|&index| self.is_straggler(index, now, &norm))?;
            let track = &self.open_chunks[index].track;
            let rest = match track.rate(self.stragglers.long_enough()) {
                Some(rate) if track.first.is_some() => time(
                    self.chunk_end(self.cursor + index as u64) - track.received(),
                    rate,
                ),
                _ => now - track.launched,
            };
            Some((index, rest))
        });
        let silent = || {
            let index = (0..near).find(|&index| self.is_connection_silent(index, now))?;
            Some((index, now - self.open_chunks[index].track.launched))
        };
        let (index, owed) = slow.or_else(silent)?;
        let open_chunk = &mut self.open_chunks[index];
        open_chunk.fences += 1;
        open_chunk.owed = Some(owed);
        open_chunk.silent = !open_chunk.begun;
        open_chunk.owed_for_silence = open_chunk.silent;
        self.stragglers.fences += 1;
        if open_chunk.silent
            && let ChunkState::InFlight(id) = open_chunk.state
        {
            // Others may just have ended, and their permits be free: all are served but those that
            // hang.
            let hangs = |&other: &usize| {
                let OpenChunk {
                    state, begun, track, ..
                } = &self.open_chunks[other];
                let waited = now.saturating_sub(track.launched);
                matches!(state, ChunkState::InFlight(_))
                    && !begun
                    && (other == index || waited >= LEAST_SILENCE)
            };
            let hung = (0..self.open_chunks.len()).filter(hangs).count();
            let permits = self.level().min(self.throttle.permits());
            let served = permits.saturating_sub(u32::try_from(hung).unwrap_or(u32::MAX));
            self.throttle.unanswered(now, id, self.next_id, served);
        }
        Some(index)
    }

    /// The attempt that was to be fenced has let go of its slot, whose watermark is at `position`.
    pub fn fenced(&mut self, id: u64, now: Duration, position: u64) {
        self.in_flight -= 1;
        let Some(index) = self
            .open_chunks
            .iter()
            .position(|open_chunk| open_chunk.state == ChunkState::InFlight(id))
        else {
            return;
        };
        let end = self.chunk_end(self.cursor + index as u64);
        let progress = position.saturating_sub(self.open_chunks[index].position);
        self.note_end(index, now, progress);
        let set_up = self.stragglers.set_up();
        let open_chunk = &mut self.open_chunks[index];
        let quiet_since = if position > open_chunk.position {
            self.wrong_passes |= open_chunk.progressed();
            self.health.progressed(now);
            now
        } else {
            let launched = open_chunk.track.launched;
            open_chunk.fenced_since.get_or_insert(launched);
            launched
        };
        open_chunk.position = position;
        open_chunk.fencing = false;
        // A silent one is asked for over a connection that is served, if there is one.
        let silent = std::mem::take(&mut open_chunk.silent);
        // In trouble, connections that were kept may all be dead: each second time, a fresh one is
        // tried.
        open_chunk.silences += u32::from(silent);
        // A fresh connection starts slowly. One that was used last is as fast for a short rest, and
        // faster as a rule: it is tried first.
        let owed = open_chunk.owed.unwrap_or(Duration::MAX);
        open_chunk.fresh = !silent && open_chunk.fences > 1 && owed >= set_up
            || self.health.is_in_trouble() && open_chunk.silences.is_multiple_of(2);
        open_chunk.state = ChunkState::Waiting(now);
        if position >= end {
            open_chunk.state = ChunkState::Filled;
            open_chunk.failing_since = None;
        } else if silent && self.health.is_in_trouble() {
            // It counts as a failure, as its deadline would.
            let quiet_since = open_chunk.fails(quiet_since);
            self.some_range_fails = true;
            self.health.failed(id, quiet_since, now, &mut self.backoff);
            self.health.probe_now(now);
        }
    }

    /// Whether all of the chunk at the cursor is there to be taken.
    fn consumer_has_all(&self) -> bool {
        self.open_chunks.front().is_some_and(|open_chunk| {
            open_chunk.state == ChunkState::Filled || open_chunk.track.position >= self.chunk_end(self.cursor)
        })
    }

    /// Whether the attempt at the cursor takes far longer than complete chunks did.
    pub(super) fn cursor_lags(&self, now: Duration) -> bool {
        let Some(open_chunk) = self.open_chunks.front() else {
            return false;
        };
        let running = now.saturating_sub(open_chunk.track.launched);
        matches!(open_chunk.state, ChunkState::InFlight(_))
            && self
                .stragglers
                .usual
                .is_some_and(|usual| running > usual.took * 2)
    }

    const fn may_fence(&self) -> bool {
        self.stragglers.fences.saturating_sub(self.stragglers.paid * 2) < self.next_id.div_ceil(SHARE) + 1
    }

    fn norm(&self) -> Option<Norm> {
        let stragglers = &self.stragglers;
        let long_enough = stragglers.long_enough();
        let tracks = self
            .open_chunks
            .iter()
            .filter(|open_chunk| matches!(open_chunk.state, ChunkState::InFlight(_)))
            .map(|open_chunk| &open_chunk.track);
        let mut rates: Vec<u64> = tracks
            .clone()
            .filter_map(|track| track.rate(long_enough))
            .collect();
        let wanted = (self.settings.concurrency as usize).max(LEAST_SIBLINGS + 1);
        let complete = stragglers.complete.iter().rev();
        rates.extend(
            complete
                .clone()
                .take(wanted.saturating_sub(rates.len()))
                .map(|pace| rate(pace.bytes, pace.took)),
        );
        if rates.len() <= LEAST_SIBLINGS {
            return None;
        }
        let firsts = tracks.filter_map(|track| Some(track.first? - track.launched));
        let firsts = firsts.chain(complete.map(|pace| pace.first)).collect();
        Some(Norm {
            rate: median(rates).filter(|&rate| rate > 0)?,
            first: median(firsts).unwrap_or_default(),
        })
    }

    fn is_straggler(&self, index: usize, now: Duration, norm: &Norm) -> bool {
        let open_chunk = &self.open_chunks[index];
        let track = &open_chunk.track;
        let chunk = self.cursor + index as u64;
        let Some(range) = self.plan.range(chunk) else {
            return false;
        };
        let candidate = matches!(open_chunk.state, ChunkState::InFlight(_))
            && !open_chunk.fencing
            && open_chunk.fences < MOST_OF_A_CHUNK;
        if !candidate || track.position >= range.end || track.count == 0 {
            return false;
        }
        let long_enough = self.stragglers.long_enough();
        let whole = norm.first + time(range.end - range.start, norm.rate);
        if track.first.is_none() {
            return open_chunk.fences < MOST_UNANSWERED
                && now - track.launched >= long_enough + norm.first + whole;
        }
        // From the third on, each fence of a chunk must promise twice as much as the one before.
        let margin = MARGIN << open_chunk.fences.saturating_sub(1);
        // While others wait for the cursor, one more request for its rest costs nothing.
        if index == 0 && self.is_window_full() {
            return self.is_worth_asking_again(range.end, track, norm, margin);
        }
        let Some(rate) = track.rate(long_enough) else {
            return false;
        };
        let rest = time(range.end.saturating_sub(track.received()), rate);
        rate.saturating_mul(FAR) <= norm.rate && !track.speeds_up() && rest >= whole * margin + SETUP
    }

    /// Whether the rest of a chunk up to `end` takes at least `margin` times as long as another
    /// request would take for it.
    fn is_worth_asking_again(&self, end: u64, track: &Track, norm: &Norm, margin: u32) -> bool {
        let Some(usual) = self.stragglers.usual else {
            return false;
        };
        let Some(rate) = track.rate(self.stragglers.step * 2) else {
            return false;
        };
        let left = end.saturating_sub(track.received());
        let again = norm.first + time(left, usual.body_rate);
        time(left, rate) >= again * margin + SETUP && !track.speeds_up()
    }
}
