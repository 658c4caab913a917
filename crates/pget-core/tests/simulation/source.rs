//! The simulated network: a source in the process whose reads go as the seed says, and that notes what it did.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use fastrand::Rng;
use pget_core::{
    BufMut, ChunkWriter, ErrorKind, ObjectInfo, Published, RangeRequest, RangeSource, Reply, Revision,
    SourceError,
};
use pget_testkit::content::Pattern;
use tokio::{sync::oneshot, time::sleep};

use super::scene::{Counts, Kinds, Scene, Way};

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
    /// A range without a byte.
    Empty,
    /// The object is said to end before the body does.
    Beyond,
    /// As clipped, but what follows the bytes told is garbage.
    Overlong(u64),
    /// A byte of the body is another one.
    Flipped(u64),
    OtherChecksum,
    Throttled(Option<Duration>),
    Refused,
    /// It blocks and cannot be stopped, for so long.
    Blocks(Duration),
    /// It stalls after so many bytes, cannot be stopped, and brings the rest when it is given up.
    Lingers(u64),
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
    /// One that blocks for longer than a deadline.
    pub(crate) outlives: bool,
    pub(crate) slow: bool,
    /// What no read may ever see.
    pub(crate) wrong: Option<&'static str>,
    pub(crate) counts: Counts,
    /// A reply was accepted.
    begun: bool,
    active: usize,
    /// Ranges that have a writer.
    written: Vec<Range<u64>>,
    /// How often a range was asked for over a fresh connection, by its end.
    fresh: HashMap<u64, u32>,
}

/// A range that has a writer. To be dropped behind that one.
struct Writing {
    met: Arc<Mutex<Met>>,
    range: Range<u64>,
}

impl Writing {
    fn new(met: &Arc<Mutex<Met>>, request: &RangeRequest) -> Option<Self> {
        let range = request.start..request.end?;
        let mut now = met.lock().unwrap_or_else(PoisonError::into_inner);
        if now
            .written
            .iter()
            .any(|other| other.start < range.end && range.start < other.end)
        {
            now.wrong = now.wrong.or(Some("a range with two writers"));
        }
        now.written.push(range.clone());
        drop(now);
        let met = Arc::clone(met);
        Some(Self { met, range })
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = met.written.iter().position(|range| *range == self.range) {
            met.written.swap_remove(index);
        }
    }
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
    met: Arc<Mutex<Met>>,
    checksums: [Option<Published>; 2],
}

/// Counts a read for as long as it lives.
struct Active<'a>(&'a Network);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.met().active -= 1;
    }
}

impl Network {
    pub(crate) fn new(scene: Scene) -> Self {
        Self {
            rng: Mutex::new(Rng::with_seed(scene.seed ^ 0x5eed)),
            met: Arc::default(),
            checksums: [false, true].map(|other| {
                let size = if other { scene.other_size() } else { scene.size };
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                scene.checksum(|| pattern(scene.seed, other).bytes(0, size))
            }),
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
        if self.scene.published && rng.u32(0..40) < self.scene.damaged {
            return match rng.u32(0..3) {
                0 => Fate::OtherChecksum,
                _ => Fate::Flipped(some(rng)),
            };
        }
        if rng.u32(0..1000) >= self.scene.faults {
            return Fate::Right;
        }
        match self.scene.kinds {
            Kinds::All => {}
            Kinds::Resets => return Fate::Reset(some(rng)),
            // Half of them before their first byte.
            Kinds::Lingering => return Fate::Lingers(if rng.bool() { 0 } else { some(rng) }),
        }
        match rng.u32(0..45) {
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
            31..34 => Fate::Clipped(some(rng)),
            34..36 => Fate::Overlong(some(rng)),
            36..38 => Fate::Long,
            38 => Fate::Empty,
            39 => Fate::Beyond,
            40 => Fate::Throttled(None),
            // The longest one is junk.
            41..43 => Fate::Throttled(Some(if rng.bool() {
                Duration::from_millis(rng.u64(0..49_000))
            } else {
                Duration::from_secs(1_000_000_000)
            })),
            43 => Fate::Lingers(some(rng)),
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
    /// From here on, nothing is right.
    garbage_from: u64,
    /// This byte is another one.
    flipped: u64,
    /// Why the reply must be refused.
    misfit: Option<&'static str>,
    /// Closed when the read is given up, for one that lingers.
    given_up: Option<oneshot::Receiver<()>>,
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
    async fn give(mut self, _writing: Option<Writing>, mut chunk: ChunkWriter) -> Result<(), SourceError> {
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

#[async_trait]
impl RangeSource for Network {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        Ok(ObjectInfo {
            size: Some(self.scene.size),
            checksum: self.checksums[0],
            ..ObjectInfo::default()
        })
    }

    async fn read(&self, request: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        let scene = &self.scene;
        let number = {
            let mut met = self.met();
            met.reads += 1;
            met.active += 1;
            met.wrong = met.wrong.or_else(|| self.never(request, &met));
            if let (true, Some(end)) = (request.fresh, request.end) {
                let fences = met.fresh.entry(end).or_default();
                *fences += 1;
                if *fences > 2 {
                    met.wrong = Some("a chunk that is fenced more than twice");
                }
            }
            met.reads - 1
        };
        let _active = Active(self);
        let writing = Writing::new(&self.met, request);
        let latency = self.pause(Duration::from_millis(2));
        sleep(latency).await;
        let mut fate = self.fate(request.end.unwrap_or(scene.size).saturating_sub(request.start));
        if scene
            .cursed
            .is_some_and(|chunk| request.start / scene.chunk == chunk)
        {
            fate = Fate::Slow;
        }
        if scene.beyond && request.pinned.is_none() {
            fate = Fate::Beyond;
        }
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
            let endless =
                matches!(fate, Fate::Long | Fate::Clipped(_) | Fate::Overlong(_)) && request.end.is_none();
            let later = fate == Fate::OtherChecksum && (request.pinned.is_none() || !scene.published);
            // What nothing can notice must not happen.
            let unseen = matches!(fate, Fate::Flipped(_)) && !scene.is_verifiable();
            // Later, it is just another total.
            let late = fate == Fate::Beyond && request.pinned.is_some();
            if early || endless || later || late || unseen || (fate == Fate::Anonymous && !scene.identity) {
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
        let mut answer = self.answer(fate, request, other)?;
        if !matches!(fate, Fate::Blocks(_)) {
            self.begin(&answer, &mut chunk)?;
        }
        if let Fate::Blocks(time) = fate {
            // What has begun cannot be stopped: it is not this future that holds the writer.
            let reply = answer.reply.clone();
            let blocking = tokio::spawn(async move {
                sleep(time).await;
                chunk.begin(reply)?;
                answer.give(writing, chunk).await
            });
            return blocking
                .await
                .unwrap_or_else(|_| Err(SourceError::fatal(ErrorKind::Internal, "lost")));
        }
        if let Fate::Lingers(_) = fate {
            // The sender goes with this future.
            let (_given_up, receiver) = oneshot::channel();
            answer.given_up = Some(receiver);
            let lingering = tokio::spawn(answer.give(writing, chunk));
            return lingering
                .await
                .unwrap_or_else(|_| Err(SourceError::fatal(ErrorKind::Internal, "lost")));
        }
        answer.give(writing, chunk).await
    }

    fn name(&self) -> String {
        String::new()
    }
}

impl Network {
    /// Begins, and notes a reply that was to be refused, whatever may have come of it.
    fn begin(&self, answer: &Answer, chunk: &mut ChunkWriter) -> Result<(), SourceError> {
        chunk.begin(answer.reply.clone())?;
        let mut met = self.met();
        met.begun = true;
        met.wrong = met.wrong.or(answer.misfit);
        Ok(())
    }

    /// What is wrong with `request`, whatever has happened.
    fn never(&self, request: &RangeRequest, met: &Met) -> Option<&'static str> {
        let scene = &self.scene;
        // An object of unknown size is read again for memory, by another download.
        let again = scene.way == Way::Memory && !scene.tells_size;
        if request.pinned.is_none() && met.begun && !again {
            return Some("a request that does not know the revision");
        }
        if !scene.identity && request.start > scene.offset {
            return Some("a stream without an identity goes on");
        }
        if met.active > scene.concurrency as usize {
            return Some("more requests in flight than allowed");
        }
        // The one at the cursor waits for none.
        if met.active > scene.connections + 1 {
            return Some("more connections than the budget has");
        }
        None
    }

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
            Fate::Blocks(time) => {
                counts.blocking_writers += 1;
                met.blocked = true;
                // A short one is nothing that a deadline would end.
                if time > Duration::from_secs(15) {
                    met.outlives = true;
                    met.soft(ErrorKind::Timeout);
                }
            }
            Fate::Lingers(_) => {
                counts.lingering_writers += 1;
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
            Fate::Empty => {
                counts.empty_bodies += 1;
                met.hard_kinds.push(ErrorKind::Protocol);
            }
            Fate::Beyond => {
                counts.bodies_beyond += 1;
                met.hard_kinds.push(ErrorKind::Protocol);
            }
            Fate::Overlong(_) => {
                counts.overlong_bodies += 1;
                met.soft(ErrorKind::Protocol);
            }
            Fate::Flipped(_) => {
                counts.flipped_bytes += 1;
                met.hard_kinds.push(ErrorKind::Checksum);
            }
            Fate::OtherChecksum => {
                counts.other_checksums += 1;
                met.hard_kinds.push(ErrorKind::ObjectChanged);
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
        let mut told = end;
        match fate {
            Fate::Empty if !whole => (told, end) = (start, start),
            Fate::Overlong(bytes) if !whole => told = end.min(start + bytes + 1),
            Fate::Beyond if !whole && end > start + 1 => total = Some(end - 1),
            _ => {}
        }
        if whole && !scene.tells_size {
            total = None;
        }
        let tag = if other { "\"b\"" } else { "\"a\"" };
        let identified = scene.identity && fate != Fate::Anonymous;
        let length = (total.is_some() || !whole).then_some(told - start);
        let body = end - start;
        let stop = match fate {
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
        drop(met);
        let reply = Reply {
            start,
            length,
            total,
            whole,
            revision: Revision {
                etag: identified.then(|| tag.to_owned()),
                ..Revision::default()
            },
            chunk_hint: scene.hint,
            checksum: self.checksums[usize::from(other != (fate == Fate::OtherChecksum))],
        };
        Ok(Answer {
            misfit: misfit(request, &reply),
            given_up: None,
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
