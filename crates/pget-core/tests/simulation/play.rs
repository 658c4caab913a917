//! Plays one scene with the real driver on a paused clock.

use std::{
    future::Future,
    ops::Range,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use fastrand::Rng;
use pget_core::{
    Budget, Cancel, Destination, Download, Error, ErrorKind, ObjectInfo, Reader, Stats, Transfer,
};
use tokio::{
    io::AsyncReadExt as _,
    runtime::{Handle, Runtime},
    time::{Instant, sleep, timeout},
};

use super::{
    scene::{Counts, Leaves, Scene, Way},
    source::{Network, pattern},
    verdict::{judge, longest},
};

/// After its end, a download has given everything back within this time.
const SETTLES: Duration = Duration::from_millis(100);
/// A source that cannot be stopped blocks no longer than this.
const BLOCKS: Duration = Duration::from_secs(61);

/// A runtime whose clock goes on when nothing else does. Used for many downloads.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
}

/// Takes what is put, and notices a byte that is put twice.
#[derive(Debug, Default)]
struct Sheet {
    start: u64,
    bytes: Mutex<Vec<Option<u8>>>,
    twice: Mutex<bool>,
}

impl Destination for Sheet {
    fn begin(&self, _: &ObjectInfo, _: u64, _: Option<u64>) -> Result<Transfer, Error> {
        Ok(Transfer::Put)
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let mut sheet = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if sheet.len() < from + bytes.len() {
            sheet.resize(from + bytes.len(), None);
        }
        for (place, byte) in sheet[from..].iter_mut().zip(bytes) {
            if place.replace(*byte).is_some() {
                *self.twice.lock().unwrap_or_else(PoisonError::into_inner) = true;
            }
        }
        Ok(())
    }
}

/// What the consumer got.
pub(super) struct Taken {
    pub(super) bytes: Vec<u8>,
    pub(super) end: Result<(), Error>,
    pub(super) stats: Stats,
}

async fn in_order(scene: &Scene, mut reader: Reader, cancel: &Cancel) -> Taken {
    let mut rng = Rng::with_seed(scene.seed ^ 0xc0);
    let mut bytes = Vec::new();
    let mut buffer = vec![0; rng.usize(1..3000)];
    let end = loop {
        if scene.way == Way::Leases {
            match reader.next().await {
                Ok(Some(lease)) => bytes.extend_from_slice(&lease),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        } else {
            match reader.read(&mut buffer).await {
                Ok(0) => break Ok(()),
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(_) => {
                    break match reader.next().await {
                        Err(error) => Err(error),
                        Ok(_) => panic!("an error that does not stay"),
                    };
                }
            }
        }
        if !scene.pause.is_zero() && !cancel.is_triggered() && rng.bool() {
            let most = u64::try_from(scene.pause.as_micros()).unwrap_or(u64::MAX);
            sleep(Duration::from_micros(rng.u64(0..=most))).await;
        }
    };
    let stats = reader.stats();
    Taken { bytes, end, stats }
}

async fn take(scene: &Scene, download: Download, cancel: Cancel) -> Result<Taken, String> {
    match scene.way {
        Way::Leases | Way::Read => Ok(in_order(scene, download.reader(), &cancel).await),
        Way::Memory => {
            let room = scene.size.max(scene.other_size()) + 1;
            let (read, buffer) = download
                .read_into(vec![0; usize::try_from(room).unwrap_or(usize::MAX)])
                .await;
            let mut bytes = buffer.ok_or("the buffer does not come back")?;
            bytes.truncate(*read.as_ref().unwrap_or(&0));
            Ok(Taken {
                bytes,
                end: read.map(|_| ()),
                stats: Stats::default(),
            })
        }
        Way::Destination => {
            let sheet = Arc::new(Sheet {
                start: scene.offset,
                ..Sheet::default()
            });
            let read = download.read_to(Arc::clone(&sheet) as Arc<dyn Destination>).await;
            if *sheet.twice.lock().unwrap_or_else(PoisonError::into_inner) {
                return Err("a byte is put twice".into());
            }
            let sheet = sheet.bytes.lock().unwrap_or_else(PoisonError::into_inner);
            // After an error there may be gaps.
            let bytes = sheet.iter().map_while(|byte| *byte).collect::<Vec<_>>();
            if read.is_ok() && bytes.len() < sheet.len() {
                return Err(format!("a gap at {}", bytes.len()));
            }
            let stats = read.as_ref().copied().unwrap_or_default();
            Ok(Taken {
                bytes,
                end: read.map(|_| ()),
                stats,
            })
        }
        Way::Ranges => in_ranges(scene, &download).await,
    }
}

/// All of the object in pieces, not in their order: some touch, one comes twice, some have no byte.
async fn in_ranges(scene: &Scene, download: &Download) -> Result<Taken, String> {
    let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    let mut rng = Rng::with_seed(scene.seed ^ 0xa6);
    let mut cuts = (0..rng.usize(0..6))
        .map(|_| rng.u64(0..=scene.size))
        .chain([0, scene.size])
        .collect::<Vec<_>>();
    cuts.sort_unstable();
    let mut wanted = cuts.windows(2).map(|cut| cut[0]..cut[1]).collect::<Vec<_>>();
    wanted.push(wanted[rng.usize(..wanted.len())].clone());
    rng.shuffle(&mut wanted);
    let buffer = |range: &Range<u64>| (range.clone(), vec![0; index(range.end - range.start)]);
    let mut reading = download
        .read_ranges(wanted.iter().map(buffer).collect())
        .map_err(|error| error.to_line())?;
    let mut sheet = vec![None; index(scene.size)];
    let mut given = vec![false; wanted.len()];
    let end = loop {
        match reading.next().await {
            Ok(Some((number, buffer))) => {
                let range = &wanted[number];
                if std::mem::replace(&mut given[number], true) {
                    return Err("a range is given twice".into());
                }
                let of = |other| pattern(scene.seed, other).check(range.start, &buffer);
                // What is given is right, whatever comes later.
                if of(false).is_err() && of(true).is_err() {
                    return Err(format!("wrong bytes in range {number}"));
                }
                for (place, byte) in sheet[index(range.start)..].iter_mut().zip(buffer) {
                    *place = Some(byte);
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    if end.is_ok() && given.contains(&false) {
        return Err("a range that is not given".into());
    }
    Ok(Taken {
        bytes: sheet.into_iter().map_while(|byte| byte).collect(),
        end,
        stats: reading.stats(),
    })
}

/// Drops what is inside at its `at`th poll.
pub(crate) struct DropAt<F> {
    inside: Option<Pin<Box<F>>>,
    at: u64,
    polls: u64,
}

impl<F: Future> DropAt<F> {
    pub(crate) fn new(inside: F, at: u64) -> Self {
        Self {
            inside: Some(Box::pin(inside)),
            at,
            polls: 0,
        }
    }
}

impl<F: Future> Future for DropAt<F> {
    /// What came of it, if it was not dropped.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == self.at {
            self.inside = None;
        }
        self.polls += 1;
        match &mut self.inside {
            None => Poll::Ready(None),
            Some(inside) => inside.as_mut().poll(cx).map(Some),
        }
    }
}

/// What a scene is played with, and what must come back.
struct Stage {
    network: Arc<Network>,
    budget: Arc<Budget>,
    cancel: Cancel,
}

impl Stage {
    fn new(scene: &Scene) -> Self {
        Self {
            network: Arc::new(Network::new(scene.clone())),
            budget: Budget::new(scene.budget, scene.connections),
            cancel: Cancel::new(),
        }
    }

    fn download(&self, scene: &Scene) -> Result<Download, String> {
        let mut options = scene.options(&self.budget);
        options.cancel = Some(self.cancel.clone());
        Download::new(Arc::clone(&self.network) as _, options).map_err(|error| error.to_line())
    }

    /// Everything is back within [`SETTLES`].
    async fn settle(&self) -> Result<(), String> {
        sleep(SETTLES).await;
        if self.network.met().blocked {
            sleep(BLOCKS).await;
        }
        let tasks = Handle::current().metrics().num_alive_tasks();
        let held = (
            Arc::strong_count(&self.network) - 1,
            self.budget.taken(),
            self.budget.in_flight(),
            tasks,
        );
        if held == (0, 0, 0, 0) {
            Ok(())
        } else {
            Err(format!(
                "left behind: {} of the source, {} bytes, {} requests, {} tasks",
                held.0, held.1, held.2, held.3
            ))
        }
    }
}

/// Plays `scene`.
///
/// # Errors
/// What was wrong with what came of it.
pub(crate) async fn play(scene: &Scene, counts: &mut Counts) -> Result<(), String> {
    let stage = Stage::new(scene);
    let began = Instant::now();
    let taking = take(scene, stage.download(scene)?, stage.cancel.clone());
    let longest = longest(scene);
    let taken = match scene.leaves {
        Leaves::No => Some(timeout(longest, taking).await.map_err(|_| "it hangs")??),
        Leaves::Drops(after) => timeout(after, taking).await.ok().transpose()?,
        Leaves::Cancels(after) => {
            let cancel = stage.cancel.clone();
            let both = async {
                let mut taking = std::pin::pin!(taking);
                tokio::select! {
                    biased;
                    taken = &mut taking => return taken,
                    () = sleep(after) => cancel.trigger(),
                }
                timeout(SETTLES + scene.pause, taking)
                    .await
                    .map_err(|_| "a cancel is not heard".to_owned())?
            };
            // A source that cannot be stopped holds up what waits for its memory.
            match both.await {
                Err(_) if stage.network.met().blocked => None,
                taken => Some(taken?),
            }
        }
    };
    let took = began.elapsed();
    stage.settle().await?;
    let mut met = stage.network.met();
    if let Some(wrong) = met.wrong {
        return Err(format!("{wrong}: {met:?}"));
    }
    counts.add(&met.counts);
    counts.tight_budgets += u64::from(scene.budget == 1 || scene.connections < 512);
    *match scene.way {
        Way::Leases => &mut counts.ordered,
        Way::Read => &mut counts.read,
        Way::Memory => &mut counts.into_memory,
        Way::Destination => &mut counts.to_a_destination,
        Way::Ranges => &mut counts.into_buffers,
    } += 1;
    let Some(taken) = taken else {
        counts.drops += 1;
        return Ok(());
    };
    counts.fences += taken.stats.fences;
    judge(scene, &mut met, &taken, took, counts)
}

/// Plays `scene`, and drops the consumer at its `at`th poll; whether it had ended before.
pub(crate) async fn drop_at(scene: &Scene, at: u64) -> Result<bool, String> {
    let stage = Stage::new(scene);
    let taking = DropAt::new(take(scene, stage.download(scene)?, stage.cancel.clone()), at);
    let taken = timeout(longest(scene), taking).await.map_err(|_| "it hangs")?;
    stage.settle().await?;
    Ok(taken.transpose()?.is_some())
}

/// Plays `scene`, and cancels at the consumer's `at`th poll.
pub(crate) async fn cancel_at(scene: &Scene, at: u64) -> Result<(), String> {
    let stage = Stage::new(scene);
    let mut taking = std::pin::pin!(take(scene, stage.download(scene)?, stage.cancel.clone()));
    let mut polls = 0;
    let cancel = stage.cancel.clone();
    let cancelled = std::future::poll_fn(|cx| {
        if polls == at {
            cancel.trigger();
        }
        polls += 1;
        taking.as_mut().poll(cx)
    });
    let taken = timeout(longest(scene), cancelled)
        .await
        .map_err(|_| "it hangs")??;
    match &taken.end {
        Err(error) if error.kind() == ErrorKind::Internal => return Err(error.to_line()),
        _ => {}
    }
    drop(taken);
    stage.settle().await
}
