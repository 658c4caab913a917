//! How long a chunk is: long enough to keep its connection busy, within memory and what is left of
//! the object.

use std::time::Duration;

use super::{
    BURST, BUSY, BUSY_LEVEL, Controller, DEAR, FLOOR, KEPT, LARGEST_CHUNK, LATE, LEAST_CHUNK, LONG, PIECE,
    QUEUED, SPARE, STEP, Stage, TAIL, UNDER_WAY,
    figures::{bytes, whole, whole_bytes},
};

impl Controller {
    /// Chooses the chunk size, with `rest` bytes not yet asked for and `rate` bytes per second
    /// coming.
    pub(super) fn choose_chunk(&mut self, rest: u64, rate: f64) {
        // What is under way in the network needs memory, too. Bodies of a level that has just been
        // reached promise more than a full link brings.
        let promised = rate.max(self.body * f64::from(self.effective));
        let most = promised.min(self.goodput * STEP);
        let under_way = whole_bytes(most * self.nearest * UNDER_WAY);
        // Where the server sets the pace, a longer chunk always brings more, so memory stays flat.
        self.memory = if self.rationed {
            self.bounds.memory
        } else {
            let most = self.bounds.most_memory.max(self.bounds.memory);
            under_way.clamp(self.bounds.memory, most)
        };
        if self.bounds.chunk_size.is_some() || self.body <= 0.0 {
            return;
        }
        let rest = bytes(rest);
        // An answer may take long because the processor is busy, and longer chunks do not help
        // that.
        let latency = self.latency.min(self.nearest * DEAR);
        // Bytes that were waiting for this process come faster than the network brings them.
        let body = if self.goodput > 0.0 {
            self.body.min(self.goodput / f64::from(self.effective) * BURST)
        } else {
            self.body
        };
        let busy = body * latency * BUSY;
        // Longer chunks cost more at the end, where connections wait for the last ones.
        let share = rest / f64::from(self.effective);
        let even = (2.0 * share * self.body * self.latency).sqrt().max(share * TAIL);
        let long = LONG.as_secs_f64().max(self.latency * f64::from(LATE));
        let least = (self.body * long).min(bytes(LEAST_CHUNK));
        // Longer chunks may be what made the answers faster, so they shrink only if one would take
        // long. And a rate that still grows does not ask for shorter ones.
        let kept = match self.stage {
            Stage::Rising { .. } => bytes(self.chunk_size),
            _ => bytes(self.chunk_size).min(self.body * KEPT),
        };
        let wanted = busy.max(kept).min(even).max(least);
        let wanted = whole_bytes(wanted).clamp(PIECE, LARGEST_CHUNK);
        let wanted = self.within_memory(wanted);
        // A change is worth something only if it is large.
        if wanted >= self.chunk_size + self.chunk_size / 4 || wanted <= self.chunk_size * 2 / 3 {
            self.chunk_size = wanted;
            self.changed_chunk();
        }
    }

    /// Lengthens chunks where a server answers no faster than `answers` a second, however many
    /// requests wait for it. Returns whether it did.
    ///
    /// So many chunks a second bring most when the requests in flight, which by Little's law are
    /// their rate times the time that each takes, have all the memory. Where too few requests wait
    /// to show what the server's limit is, this does not help.
    pub(super) fn asks_for_more(&mut self, now: Duration, answers: f64, rest: u64) -> bool {
        let set = self.bounds.chunk_size.is_some() || self.bounds.level.is_some();
        let waits = self.latency > (self.body_time() / 4.0).max(self.nearest * QUEUED);
        // Where a full window holds requests back, there are few answers.
        let under_way = answers * (self.latency + self.body_time());
        let is_busy = under_way >= f64::from(self.level) * BUSY_LEVEL;
        if set || self.capped || self.void || !waits || !is_busy || !self.is_hungry() {
            return false;
        }
        // A request takes `nearest` and then `chunk / body`, so `answers * (nearest + chunk / body)
        // * chunk` is the memory.
        let half = self.nearest * self.body / 2.0;
        let square = half.mul_add(half, bytes(self.bounds.memory) * self.body / answers);
        let all = square.sqrt() - half;
        let share = bytes(rest) / f64::from(FLOOR * FLOOR);
        let chunk = whole_bytes(all.min(share)).min(LARGEST_CHUNK) / PIECE * PIECE;
        if chunk < self.chunk_size + self.chunk_size / 4 {
            return false;
        }
        let level = answers * (self.nearest + bytes(chunk) / self.body) * SPARE;
        self.rationed = true;
        self.chunk_size = chunk;
        self.settle(now, whole(level.ceil()).max(FLOOR), None);
        true
    }

    /// The server limits the rate of requests, and connections are idle: each request should bring
    /// more. `rest` bytes are not yet asked for.
    pub(crate) fn lengthen(&mut self, rest: u64) {
        if self.bounds.chunk_size.is_some() {
            return;
        }
        let most = LARGEST_CHUNK.min(self.memory / 4).min(rest / 4) / PIECE * PIECE;
        if most > self.chunk_size {
            self.chunk_size = (self.chunk_size * 2).min(most);
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
    pub(super) fn fit_chunk(&mut self) {
        if self.bounds.chunk_size.is_none() {
            self.chunk_size = self.within_memory(self.chunk_size);
        }
    }
}
