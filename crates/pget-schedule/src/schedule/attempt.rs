//! Opens chunks and starts attempts at them.

use std::time::Duration;

use super::{Phase, Schedule};
use crate::{
    Attempt,
    control::Measured,
    open_chunk::{ChunkState, OpenChunk},
    track::Track,
};

impl Schedule {
    /// Opens the next chunk. Returns its index.
    pub(super) fn open_next(&mut self) -> usize {
        self.memory = false;
        let chunk = self.cursor + self.open_chunks.len() as u64;
        let position = self.plan.range(chunk).map_or(u64::MAX, |range| range.start);
        self.open_chunks.push_back(OpenChunk::new(position));
        self.open_chunks.len() - 1
    }

    /// Starts an attempt at the chunk of `index`.
    pub(super) fn attempt(&mut self, index: usize, now: Duration, opens: bool) -> Attempt {
        let id = self.next_id;
        self.next_id += 1;
        self.in_flight += 1;
        let chunk = self.cursor + index as u64;
        let range = self.plan.range(chunk).unwrap_or(u64::MAX..u64::MAX);
        let one_stream = self.is_stream() || (self.phase == Phase::Probe && self.streams_by_choice());
        if self.in_flight > 1 {
            self.open_chunks
                .iter_mut()
                .for_each(|open_chunk| open_chunk.alone = false);
        }
        self.throttle.launched(now);
        let in_flight = self.in_flight;
        let measured = self
            .control
            .as_mut()
            .map_or_else(Measured::default, |control| control.launched(now, in_flight));
        let open_chunk = &mut self.open_chunks[index];
        if let ChunkState::Waiting(at) = open_chunk.state {
            let waited = now.saturating_sub(at);
            open_chunk.failing_since = open_chunk.failing_since.map(|since| since + waited);
            open_chunk.fenced_since = open_chunk.fenced_since.map(|since| since + waited);
        }
        open_chunk.quiet_since = None;
        (open_chunk.begun, open_chunk.proved, open_chunk.alone) = (false, false, self.in_flight == 1);
        (open_chunk.answered_at, open_chunk.silent) = (None, false);
        open_chunk.state = ChunkState::InFlight(id);
        open_chunk.track = Track::new(now, open_chunk.position);
        open_chunk.measured = measured;
        // A connection that was far slower than the others is left alone.
        let fresh = std::mem::take(&mut open_chunk.fresh) | self.stragglers.renews(id);
        Attempt {
            id,
            chunk,
            chunk_start: range.start,
            chunk_end: range.end,
            start: open_chunk.position,
            end: if one_stream {
                self.plan.end()
            } else {
                Some(range.end)
            },
            fruitless: open_chunk.fruitless,
            at_cursor: index == 0,
            opens,
            fresh,
        }
    }
}
