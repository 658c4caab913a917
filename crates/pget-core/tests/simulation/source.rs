//! The simulated network: a source in the process whose reads go as the seed says, and that notes what it did.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use fastrand::Rng;
use pget_core::{
    BufMut, ChunkWriter, ErrorKind, ObjectInfo, RangeRequest, RangeSource, Reply, Revision, SourceError,
};
use pget_testkit::content::Pattern;
use tokio::time::sleep;

use super::scene::{Counts, Scene};

/// How one read goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Right,
    Reset(u64),
    Short(u64),
    Silent,
    Stalls(u64),
    Slow,
    Shifted,
    OtherTotal,
    OtherRevision,
    Anonymous,
    Ignored,
    Long,
    Clipped(u64),
    Throttled(Option<Duration>),
    Refused,
    /// It blocks and cannot be stopped, for so long.
    Blocks(Duration),
}

/// What was met, from which follows what may come of the download.
#[derive(Debug, Default)]
pub(crate) struct Met {
    pub(crate) reads: u64,
    /// Faults that another attempt mends.
    pub(crate) soft: u64,
    pub(crate) soft_kinds: Vec<ErrorKind>,
    /// Faults that may end the download.
    pub(crate) hard_kinds: Vec<ErrorKind>,
    pub(crate) blocked: bool,
    pub(crate) slow: bool,
    pub(crate) counts: Counts,
}

impl Met {
    fn soft(&mut self, kind: ErrorKind) {
        self.soft += 1;
        self.soft_kinds.push(kind);
    }
}

#[derive(Debug)]
pub(crate) struct Network {
    scene: Scene,
    rng: Mutex<Rng>,
    met: Mutex<Met>,
}

impl Network {
    pub(crate) fn new(scene: Scene) -> Self {
        Self {
            rng: Mutex::new(Rng::with_seed(scene.seed ^ 0x5eed)),
            met: Mutex::default(),
            scene,
        }
    }

    pub(crate) fn met(&self) -> MutexGuard<'_, Met> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fate(&self, length: u64) -> Fate {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let rng = &mut *rng;
        let some = |rng: &mut Rng| rng.u64(0..length.clamp(1, 50_000));
        if rng.u32(0..1000) < self.scene.stragglers {
            return match rng.u32(0..5) {
                0 => Fate::Silent,
                1 => Fate::Stalls(some(rng)),
                2 => Fate::Blocks(Duration::from_millis(rng.u64(0..4_000))),
                _ => Fate::Slow,
            };
        }
        if rng.u32(0..1000) >= self.scene.faults {
            return Fate::Right;
        }
        match rng.u32(0..40) {
            0..10 => Fate::Reset(some(rng)),
            10..16 => Fate::Short(some(rng)),
            16 => Fate::Silent,
            17 => Fate::Stalls(some(rng)),
            18 => Fate::Blocks(Duration::from_millis(rng.u64(0..60_000))),
            19..21 => Fate::Shifted,
            21..23 => Fate::OtherTotal,
            23..25 => Fate::OtherRevision,
            25..28 => Fate::Anonymous,
            28..31 => Fate::Ignored,
            31 => Fate::Long,
            32..36 => Fate::Clipped(some(rng)),
            36 => Fate::Throttled(None),
            37..39 => Fate::Throttled(Some(Duration::from_millis(rng.u64(0..50_000)))),
            _ => Fate::Refused,
        }
    }

    fn pause(&self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_micros(rng.u64(0..=micros))
    }
}

/// A reply and what follows it.
struct Answer {
    reply: Reply,
    pattern: Pattern,
    at: u64,
    end: u64,
    /// It ends like this after so many bytes.
    stop: Option<(u64, Stop)>,
    slow: bool,
    withhold: bool,
    canary: bool,
}

#[derive(Clone, Copy)]
enum Stop {
    Fails,
    Ends,
    Stalls,
}

impl Answer {
    async fn give(mut self, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        chunk.begin(self.reply.clone())?;
        if self.withhold && chunk.withhold().is_err() {
            self.withhold = false;
        }
        let mut left = self.stop.map_or(u64::MAX, |(after, _)| after);
        while self.at < self.end && left > 0 {
            if !chunk.ready().await? {
                break;
            }
            let mut piece = (self.end - self.at).min(left).min(chunk.remaining_mut() as u64);
            if self.slow {
                piece = piece.min((self.end - self.reply.start).div_ceil(100).max(1));
                sleep(Duration::from_millis(100)).await;
            }
            let mut bytes = self
                .pattern
                .bytes(self.at, usize::try_from(piece).unwrap_or(usize::MAX));
            if self.canary
                && let Some(byte) = bytes.last_mut()
            {
                *byte ^= 1;
            }
            chunk.put_slice(&bytes);
            (self.at, left) = (self.at + piece, left - piece);
        }
        match self.stop {
            Some((_, stop)) if left == 0 => match stop {
                Stop::Fails => return Err(SourceError::retryable(ErrorKind::Unavailable, "reset")),
                Stop::Stalls => std::future::pending().await,
                Stop::Ends => {}
            },
            _ => {}
        }
        chunk.release();
        Ok(())
    }
}

#[async_trait]
impl RangeSource for Network {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        Ok(ObjectInfo {
            size: Some(self.scene.size),
            ..ObjectInfo::default()
        })
    }

    async fn read(&self, request: &RangeRequest, chunk: ChunkWriter) -> Result<(), SourceError> {
        let scene = &self.scene;
        let number = {
            let mut met = self.met();
            met.reads += 1;
            met.reads - 1
        };
        let latency = self.pause(Duration::from_millis(2));
        sleep(latency).await;
        let mut fate = self.fate(request.end.unwrap_or(scene.size).saturating_sub(request.start));
        let mut other = false;
        {
            let mut met = self.met();
            if scene.deleted_at.is_some_and(|at| number >= at) {
                met.counts.deletions += 1;
                met.hard_kinds
                    .extend([ErrorKind::NotFound, ErrorKind::ObjectChanged]);
                return Err(SourceError::fatal(ErrorKind::NotFound, "gone"));
            }
            if scene.replaced_at.is_some_and(|at| number >= at) {
                met.counts.replacements += 1;
                met.hard_kinds.push(ErrorKind::ObjectChanged);
                other = true;
            }
            // What would be believed, as nothing is known yet, is told only later; a stream has no end to go beyond.
            let early = matches!(fate, Fate::OtherTotal | Fate::Long) && request.pinned.is_none();
            let endless = matches!(fate, Fate::Long | Fate::Clipped(_)) && request.end.is_none();
            if early || endless || (fate == Fate::Anonymous && !scene.identity) {
                fate = Fate::Right;
            }
        }
        self.meet(fate, request);
        if let Fate::OtherRevision = fate {
            other = !other;
        }
        match fate {
            Fate::Silent => std::future::pending().await,
            Fate::Refused => return Err(SourceError::fatal(ErrorKind::PermissionDenied, "refused")),
            Fate::Throttled(after) => return Err(SourceError::throttled("slow down", after)),
            _ => {}
        }
        let answer = self.answer(fate, request, other)?;
        if let Fate::Blocks(time) = fate {
            // What has begun cannot be stopped: it is not this future that holds the writer.
            let blocking = tokio::spawn(async move {
                sleep(time).await;
                answer.give(chunk).await
            });
            return blocking
                .await
                .unwrap_or_else(|_| Err(SourceError::fatal(ErrorKind::Internal, "lost")));
        }
        answer.give(chunk).await
    }

    fn name(&self) -> String {
        String::new()
    }
}

impl Network {
    /// Notes what is about to happen.
    fn meet(&self, fate: Fate, request: &RangeRequest) {
        let mut met = self.met();
        let met = &mut *met;
        let counts = &mut met.counts;
        match fate {
            Fate::Right => {}
            Fate::Reset(_) => {
                counts.resets += 1;
                met.soft(ErrorKind::Unavailable);
            }
            Fate::Short(_) => {
                counts.short_bodies += 1;
                met.soft(ErrorKind::Protocol);
            }
            Fate::Silent => {
                counts.silences += 1;
                met.soft(ErrorKind::Timeout);
            }
            Fate::Stalls(_) => {
                counts.stalls += 1;
                met.soft(ErrorKind::Timeout);
            }
            Fate::Slow => {
                counts.slow_bodies += 1;
                met.slow = true;
                // A long one brings too little within a deadline.
                met.soft(ErrorKind::Timeout);
            }
            Fate::Blocks(_) => {
                counts.blocking_writers += 1;
                met.blocked = true;
                met.soft(ErrorKind::Timeout);
            }
            Fate::Shifted => {
                counts.shifted_ranges += 1;
                met.hard_kinds.push(ErrorKind::Protocol);
            }
            Fate::OtherTotal => {
                counts.other_totals += 1;
                met.hard_kinds.push(ErrorKind::ObjectChanged);
            }
            Fate::OtherRevision => {
                counts.other_revisions += 1;
                met.hard_kinds.push(ErrorKind::ObjectChanged);
            }
            Fate::Anonymous => {
                counts.lost_identities += 1;
                met.soft(ErrorKind::Protocol);
            }
            Fate::Ignored if request.pinned.is_none() => counts.ignored_at_first += 1,
            Fate::Ignored => {
                counts.ignored_later += 1;
                met.soft(ErrorKind::Protocol);
            }
            Fate::Long => {
                counts.long_bodies += 1;
                met.hard_kinds
                    .extend([ErrorKind::Protocol, ErrorKind::ObjectChanged]);
            }
            Fate::Clipped(_) => {
                counts.clipped_bodies += 1;
                met.soft(ErrorKind::Protocol);
            }
            Fate::Throttled(_) => {
                counts.throttles += 1;
                met.soft(ErrorKind::Unavailable);
            }
            Fate::Refused => {
                counts.refusals += 1;
                met.hard_kinds.push(ErrorKind::PermissionDenied);
            }
        }
    }

    fn answer(&self, fate: Fate, request: &RangeRequest, other: bool) -> Result<Answer, SourceError> {
        let scene = &self.scene;
        let size = if other { scene.other_size() } else { scene.size };
        let whole = !scene.ranges || fate == Fate::Ignored;
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
        if whole && !scene.tells_size {
            total = None;
        }
        let tag = if other { "\"b\"" } else { "\"a\"" };
        let identified = scene.identity && fate != Fate::Anonymous;
        let length = (total.is_some() || !whole).then_some(end - start);
        let body = end - start;
        let stop = match fate {
            Fate::Reset(after) => Some((after.min(body), Stop::Fails)),
            // Of a body without a length, the end is the end.
            Fate::Short(after) if length.is_some() => Some((after.min(body.saturating_sub(1)), Stop::Ends)),
            Fate::Stalls(after) => Some((after.min(body), Stop::Stalls)),
            _ => None,
        };
        let mut met = self.met();
        met.counts.hints += u64::from(scene.hint.is_some());
        met.counts.no_identity += u64::from(!scene.identity);
        met.counts.unknown_sizes += u64::from(total.is_none());
        met.counts.withheld_bodies += u64::from(scene.withholds);
        drop(met);
        Ok(Answer {
            reply: Reply {
                start,
                length,
                total,
                whole,
                revision: Revision {
                    etag: identified.then(|| tag.to_owned()),
                    ..Revision::default()
                },
                chunk_hint: scene.hint,
                ..Reply::default()
            },
            pattern: pattern(scene.seed, other),
            at: start,
            end,
            stop,
            slow: fate == Fate::Slow,
            withhold: scene.withholds,
            canary: scene.canary,
        })
    }
}

/// The bytes of the object, or of the one that replaces it.
pub(crate) const fn pattern(seed: u64, other: bool) -> Pattern {
    Pattern::new(seed.wrapping_mul(2).wrapping_add(other as u64))
}
