//! The simulated network: a source in the process whose reads go as the seed says, and that notes what it did.

mod answer;
mod fate;
mod met;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use fastrand::Rng;
use pget_core::{ChunkWriter, ErrorKind, ObjectInfo, Published, RangeRequest, RangeSource, SourceError};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::scene::{Away, Scene, Way, Weather};
use answer::Answer;
pub(crate) use answer::pattern;
use fate::Fate;
pub(crate) use met::Met;
use met::Writing;

#[derive(Debug)]
pub(crate) struct Network {
    scene: Scene,
    rng: Mutex<Rng>,
    met: Arc<Mutex<Met>>,
    checksums: [Option<Published>; 2],
    began: Instant,
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
            began: Instant::now(),
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

    fn pause(&self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_micros(rng.u64(0..=micros))
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
                *met.fresh.entry(end).or_default() += 1;
                // A chunk is fenced six times for being slow, from the second on over a fresh
                // connection. Besides, one request in twenty, and two, is sent over a fresh one
                // because one of those in use was far slower.
                let renewed: u64 = met.fresh.values().map(|fresh| fresh.saturating_sub(5)).sum();
                // A probe without an answer makes room for the next, as long as the trouble lasts.
                if renewed > met.reads / 20 + 2 && !met.silent {
                    met.wrong = Some("chunks that are fenced more than six times");
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
            // Without a checksum of an earlier reply, this one is the first.
            let is_first = request
                .pinned
                .as_ref()
                .is_none_or(|pinned| pinned.checksum.is_none());
            let later = fate == Fate::OtherChecksum && (is_first || !scene.published);
            // What nothing can notice must not happen.
            let unseen = matches!(fate, Fate::Flipped(_)) && !scene.is_verifiable();
            // Later, it is just another total.
            let late = fate == Fate::Beyond && request.pinned.is_some();
            if early || endless || later || late || unseen || (fate == Fate::Anonymous && !scene.identity) {
                fate = Fate::Right;
            }
        }
        let weather = self.weather();
        if weather == Some(Away::Stalls) {
            fate = Fate::Stalls(0);
        } else if let Some(away) = weather {
            match self.answer_when_away(away) {
                Some(error) => return Err(error),
                None => std::future::pending().await,
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
            // Before the download has noticed its end, or while another attempt is waited for.
            if self.pause(Duration::from_millis(1)) > Duration::from_micros(500) {
                answer.late = self.pause(Duration::from_millis(60));
            }
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
    /// Whether the request meets what many meet now.
    fn weather(&self) -> Option<Away> {
        let now = self.began.elapsed();
        let chance = self
            .rng
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .u32(0..1000);
        let mut met = self.met();
        let met = &mut *met;
        let (away, count) = match self.scene.weather {
            Weather::Fair => return None,
            Weather::Outage { from, lasts, away } if (from..from + lasts).contains(&now) => {
                met.in_outage.push(now);
                let count = match away {
                    Away::Refuses => &mut met.counts.outages_that_refuse,
                    Away::Throttles(_) => &mut met.counts.outages_that_throttle,
                    Away::Silent | Away::Stalls => &mut met.counts.outages_in_silence,
                    Away::Forbids => &mut met.counts.outages_that_forbid,
                };
                (away, count)
            }
            Weather::Rate(rate) => {
                let second = Duration::from_secs(1);
                met.served.retain(|&at| at + second > now);
                if met.served.len() < rate as usize {
                    met.served.push(now);
                    return None;
                }
                (Away::Throttles(None), &mut met.counts.above_the_rate)
            }
            Weather::AtOnce(most, away) if met.active > most as usize => {
                (away, &mut met.counts.too_many_at_once)
            }
            Weather::Share(share, away) if chance < share => (away, &mut met.counts.shares),
            Weather::Outage { .. } | Weather::AtOnce(..) | Weather::Share(..) => return None,
        };
        *count += 1;
        Some(away)
    }

    /// `None`: it has no answer.
    fn answer_when_away(&self, away: Away) -> Option<SourceError> {
        let mut met = self.met();
        match away {
            Away::Refuses => {
                met.soft(ErrorKind::Unavailable);
                Some(SourceError::retryable(ErrorKind::Unavailable, "refused"))
            }
            Away::Throttles(after) => {
                met.soft(ErrorKind::Unavailable);
                Some(SourceError::throttled("slow down", after))
            }
            Away::Silent | Away::Stalls => {
                met.soft(ErrorKind::Timeout);
                met.silent = true;
                None
            }
            Away::Forbids => {
                // It is believed if nothing else is in flight, and was not all the time.
                met.soft += 1;
                met.forbidden += 1;
                met.hard_kinds.push(ErrorKind::PermissionDenied);
                Some(SourceError::refused(ErrorKind::PermissionDenied, "forbidden"))
            }
        }
    }

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
}
