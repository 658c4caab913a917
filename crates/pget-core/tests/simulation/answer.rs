//! A reply and its body. Its sleeps are on the simulated clock: they are how fast the network is.

use std::time::Duration;

use pget_core::{BufMut, ChunkWriter, ErrorKind, RangeRequest, Reply, Revision, SourceError};
use pget_testkit::content::Pattern;
use tokio::{sync::oneshot, time::sleep};

use super::{Network, fate::Fate, met::Writing};

/// A reply and what follows it.
pub(super) struct Answer {
    pub(super) reply: Reply,
    pattern: Pattern,
    at: u64,
    end: u64,
    /// It ends like this after so many bytes.
    stop: Option<(u64, Stop)>,
    slow: bool,
    withhold: bool,
    canary: bool,
    /// From here on, nothing is right.
    garbage_from: u64,
    /// This byte is another one.
    flipped: u64,
    /// Why the reply must be refused.
    pub(super) misfit: Option<&'static str>,
    /// Closed when the read is given up, for one that lingers.
    pub(super) given_up: Option<oneshot::Receiver<()>>,
    /// And how long after that it goes on.
    pub(super) late: Duration,
}

#[derive(Clone, Copy)]
enum Stop {
    Fails,
    Ends,
    Stalls,
    /// Until it is given up.
    Lingers,
}

impl Answer {
    pub(super) async fn give(
        mut self,
        mut writing: Option<Writing>,
        mut chunk: ChunkWriter,
    ) -> Result<(), SourceError> {
        if self.withhold {
            if chunk.withhold().is_err() {
                self.withhold = false;
            } else if matches!(self.stop, Some((_, Stop::Fails))) {
                // Nothing of it is ever released.
                self.garbage_from = 0;
            }
        }
        let mut left = self.stop.map_or(u64::MAX, |(after, _)| after);
        self.put(&mut left, &mut chunk).await?;
        match self.stop {
            Some((_, stop)) if left == 0 => match stop {
                Stop::Fails => return Err(SourceError::retryable(ErrorKind::Unavailable, "reset")),
                Stop::Stalls => std::future::pending().await,
                Stop::Ends => {}
                Stop::Lingers => {
                    if let Some(given_up) = self.given_up.take() {
                        // It is dropped, never sent.
                        given_up.await.ok();
                        if let Some(writing) = &mut writing {
                            // No more than what it has at hand: the next chunk of a stream is another attempt's.
                            let room = chunk.position() + chunk.remaining_mut() as u64;
                            writing.keeps(chunk.position()..room);
                        }
                        sleep(self.late).await;
                    }
                    left = u64::MAX;
                    self.put(&mut left, &mut chunk).await?;
                }
            },
            _ => {}
        }
        if self.reply.total.is_none() && self.stop.is_none() {
            // That there is no more is told after the last byte.
            sleep(Duration::from_millis(1)).await;
        }
        chunk.release();
        Ok(())
    }

    /// Puts what is left of the body, or of as many bytes as are `left`.
    async fn put(&mut self, left: &mut u64, chunk: &mut ChunkWriter) -> Result<(), SourceError> {
        while self.at < self.end && *left > 0 {
            if !chunk.ready().await? {
                break;
            }
            let mut piece = (self.end - self.at).min(*left).min(chunk.remaining_mut() as u64);
            if self.slow {
                piece = piece.min((self.end - self.reply.start).div_ceil(100).max(1));
                sleep(Duration::from_millis(100)).await;
            }
            let mut bytes = self
                .pattern
                .bytes(self.at, usize::try_from(piece).unwrap_or(usize::MAX));
            let last = self.at + piece - 1;
            for (at, byte) in (self.at..).zip(&mut bytes) {
                if at >= self.garbage_from || at == self.flipped || self.canary && at == last {
                    *byte ^= 1;
                }
            }
            chunk.put_slice(&bytes);
            (self.at, *left) = (self.at + piece, *left - piece);
        }
        Ok(())
    }
}

impl Network {
    pub(super) fn answer(
        &self,
        fate: Fate,
        request: &RangeRequest,
        other: bool,
    ) -> Result<Answer, SourceError> {
        let scene = &self.scene;
        let size = if other { scene.other_size() } else { scene.size };
        let forgets = scene.forgets_size && request.pinned.is_some();
        let whole = !scene.ranges || fate == Fate::Ignored || scene.forgets_size && !forgets;
        if !whole && request.start >= size {
            return Err(SourceError::fatal(ErrorKind::Range, "behind the end"));
        }
        let wanted = request.end.unwrap_or(u64::MAX).min(size);
        let (mut start, mut end) = if whole { (0, size) } else { (request.start, wanted) };
        let mut total = Some(size);
        match fate {
            Fate::Shifted if !whole && start + 1 < size => (start, end) = (start + 1, (end + 1).min(size)),
            Fate::Long if !whole => (end, total) = (end + 5, Some(size.max(end + 5))),
            Fate::Clipped(bytes) if !whole => end = end.min(start + bytes + 1),
            Fate::OtherTotal => total = Some(size + 1),
            _ => {}
        }
        if forgets && !whole {
            end = start + (end - start).div_ceil(2);
        }
        let mut told = end;
        match fate {
            Fate::Empty if !whole => (told, end) = (start, start),
            Fate::Overlong(bytes) if !whole => told = end.min(start + bytes + 1),
            Fate::Beyond if !whole && end > start + 1 => total = Some(end - 1),
            _ => {}
        }
        if whole && !scene.tells_size || forgets {
            total = None;
        }
        let tag = if other { "\"b\"" } else { "\"a\"" };
        let identified = scene.identity && fate != Fate::Anonymous;
        let shows_etag = identified && !(scene.tells_etag_late && request.pinned.is_none());
        let length = (total.is_some() || !whole).then_some(told - start);
        let body = end - start;
        let stop = match fate {
            // It looks like the end.
            Fate::Reset(after) if forgets && whole => Some((after.min(body), Stop::Ends)),
            Fate::Reset(after) => Some((after.min(body), Stop::Fails)),
            // Of a body without a length, the end is the end.
            Fate::Short(after) if length.is_some() => Some((after.min(body.saturating_sub(1)), Stop::Ends)),
            Fate::Stalls(after) => Some((after.min(body), Stop::Stalls)),
            Fate::Lingers(after) => Some((after.min(body), Stop::Lingers)),
            _ => None,
        };
        let mut met = self.met();
        met.counts.hints += u64::from(scene.hint.is_some());
        met.counts.no_identity += u64::from(!scene.identity);
        met.counts.unknown_sizes += u64::from(total.is_none());
        met.counts.withheld_bodies += u64::from(scene.withholds);
        met.counts.garbled_withheld += u64::from(scene.withholds && matches!(stop, Some((_, Stop::Fails))));
        met.counts.published += u64::from(scene.published);
        met.counts.required += u64::from(scene.require);
        if scene.forgets_size {
            met.counts.ignored_at_first += u64::from(scene.ranges && !forgets);
            met.soft(ErrorKind::Protocol);
        }
        drop(met);
        let reply = Reply {
            start,
            length,
            total,
            whole,
            revision: Revision {
                etag: shows_etag.then(|| tag.to_owned()),
                version: (identified && scene.tells_etag_late).then(|| "1".to_owned()),
                ..Revision::default()
            },
            chunk_hint: scene.hint,
            checksum: self.checksums[usize::from(other != (fate == Fate::OtherChecksum))],
        };
        Ok(Answer {
            misfit: misfit(request, &reply),
            given_up: None,
            late: Duration::ZERO,
            reply,
            pattern: pattern(scene.seed, other),
            at: start,
            end,
            stop,
            slow: fate == Fate::Slow,
            withhold: scene.withholds,
            canary: scene.canary,
            garbage_from: if told < end { told } else { u64::MAX },
            flipped: match fate {
                Fate::Flipped(after) => start + after,
                _ => u64::MAX,
            },
        })
    }
}

/// Why `reply` does not answer `request`: the header checks, said once more.
fn misfit(request: &RangeRequest, reply: &Reply) -> Option<&'static str> {
    let end = reply.length.map(|length| reply.start + length);
    let is_part = !reply.whole;
    if is_part && reply.start != request.start {
        return Some("a range from elsewhere was accepted");
    }
    if is_part && request.end.is_some_and(|wanted| end > Some(wanted)) {
        return Some("a range that goes too far was accepted");
    }
    if is_part && end == Some(request.start) {
        return Some("a range without a byte was accepted");
    }
    if reply.total.is_some_and(|total| end > Some(total)) {
        return Some("a body that goes beyond the object was accepted");
    }
    let pinned = request.pinned.as_ref()?;
    if pinned.revision.etag.is_some() && pinned.revision.etag != reply.revision.etag {
        return Some("another revision, or none, was accepted");
    }
    if pinned.size.is_some() && reply.total.is_some() && pinned.size != reply.total {
        return Some("another size was accepted");
    }
    if pinned.checksum.is_some() && pinned.checksum != reply.checksum {
        return Some("another checksum was accepted");
    }
    let is_all = request.start == 0 && request.end == end;
    if reply.whole && request.end.is_some() && !is_all && pinned.ranges == Some(true) {
        return Some("a whole object was accepted for a range");
    }
    None
}

/// The bytes of the object, or of the one that replaces it.
pub(crate) const fn pattern(seed: u64, other: bool) -> Pattern {
    Pattern::new(seed.wrapping_mul(2).wrapping_add(other as u64))
}
