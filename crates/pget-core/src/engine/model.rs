//! Models of a download: what writers, driver, consumer and budget share, run through many
//! interleavings by shuttle (see [`sync`](crate::sync)).
//!
//! The code under test is the real one: `Schedule`, `Driver`, `Engine` with its fence, slots,
//! writers, leases, `Reader`, the deliveries with the destination's gate, `Cancel`, `Budget`. Two
//! things are models: the source, which writes a few bytes at a time, breaks off, and may be one
//! that cannot be stopped; and the executor, on which time jumps to whatever is waited for, and any
//! attempt may be fenced at any moment.
//!
//! Run by `cargo test -p pget-core --features model --lib model`; `PGET_SCHEDULES=n` runs another
//! number of schedules.
//!
//! A lost wake-up or a deadlock leaves nothing to run, which shuttle reports, with the schedule
//! that leads there.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::BufMut as _;
use futures_util::future::{Either, select};
use shuttle::{
    future::{JoinHandle, block_on, spawn, yield_now},
    rand::{Rng as _, thread_rng},
};

use pget_schedule::{Attempt, Schedule, Settings, Wanted};

use super::{
    delivery::{Delivery, Order},
    driver::Driver,
    executor::{Event, Executor, Reserving, TaskEnd, connected},
    gathered::Gathered,
    state::Engine,
};
use crate::{
    Budget, Cancel, Destination, Error, ErrorKind, ObjectInfo, RangeRequest, Reader, Reply, Revision,
    SourceError, Transfer, Verify,
    delivery::{in_order::InOrder, into_destination::IntoDestination, verified::Verified},
    memory::ChunkWriter,
    sync::Mutex,
};

const CHUNK: u64 = 3;
/// Time jumps to whatever is waited for, except to what is further away: the end of all patience.
const PATIENT: Duration = Duration::from_secs(3600);

fn byte(at: u64) -> u8 {
    u8::try_from(at % 251).unwrap_or_default()
}

/// What one download is.
#[derive(Clone, Copy)]
struct Shape {
    size: u64,
    concurrency: u32,
    window: u32,
    /// Attempts that may break off.
    breaks: u32,
    /// Attempts that may be fenced.
    fences: u32,
    /// No attempt can be stopped: the task of a fenced one leaves its writer.
    stuck: bool,
}

const SHAPE: Shape = Shape {
    size: 3 * CHUNK - 1,
    concurrency: 2,
    window: 2,
    breaks: 1,
    fences: 1,
    stuck: false,
};

type Ends = Arc<Mutex<VecDeque<(u64, TaskEnd)>>>;

/// The model of what a driver runs on; the rest is real.
struct Model {
    shape: Shape,
    now: Duration,
    /// How tasks have ended, until the driver takes it.
    ends: Ends,
    tasks: HashMap<u64, JoinHandle<()>>,
    /// Attempts that were stopped. What their tasks do later means nothing.
    stopped: HashSet<u64>,
}

fn engine(shape: Shape, budget: &Arc<Budget>, delivery: Arc<dyn Delivery>) -> Arc<Engine> {
    let window = if delivery.order() == Order::InOrder {
        shape.window
    } else {
        Settings::UNBOUNDED
    };
    let schedule = Schedule::new(Settings {
        wanted: Wanted::all(),
        chunk_size: CHUNK,
        follow_hint: false,
        concurrency: shape.concurrency,
        window,
        window_follows: false,
        control: None,
        retries: Some(8),
        retry_timeout: 2 * PATIENT,
        seed: 1,
    });
    let object = String::new();
    Engine::new(schedule, object, Arc::clone(budget), None, delivery)
}

/// A download with its driver running.
fn start(shape: Shape, budget: &Arc<Budget>, delivery: Arc<dyn Delivery>) -> (Arc<Engine>, JoinHandle<()>) {
    let engine = engine(shape, budget, delivery);
    let model = Model {
        shape,
        now: Duration::ZERO,
        ends: Ends::default(),
        tasks: HashMap::new(),
        stopped: HashSet::new(),
    };
    let mut driver = Driver::new(Arc::clone(&engine), model, 2 * PATIENT, None);
    let run = async move {
        driver.run().await;
        driver.executor.end().await;
    };
    (engine, spawn(run))
}

/// A delivery as downloads have it.
fn verified<D: Delivery>(delivery: D) -> Arc<Verified<D>> {
    Arc::new(Verified::new(delivery, Verify::Auto, String::new()))
}

/// A download with its driver running, and its reader.
fn start_reader(shape: Shape, budget: &Arc<Budget>) -> (Reader, Arc<Engine>, JoinHandle<()>) {
    let delivery = verified(InOrder);
    let (engine, driver) = start(shape, budget, Arc::clone(&delivery) as _);
    (Reader::new(Arc::clone(&engine), delivery, None), engine, driver)
}

impl Model {
    /// Waits until every task has ended. Those that cannot be stopped go on until they are done.
    async fn end(&mut self) {
        for (_, task) in self.tasks.drain() {
            if !self.shape.stuck {
                task.abort();
            }
            drop(task.await);
        }
    }

    fn next_end(&mut self) -> Option<(u64, TaskEnd)> {
        let mut ends = self.ends.lock().expect("no panic");
        while let Some((id, end)) = ends.pop_front() {
            if matches!(end, TaskEnd::Stopped) {
                return Some((id, end));
            }
            self.tasks.remove(&id);
            if !self.stopped.contains(&id) {
                return Some((id, end));
            }
        }
        None
    }
}

impl Executor for Model {
    fn now(&self) -> Duration {
        self.now
    }

    fn spawn(&mut self, engine: &Arc<Engine>, attempt: Attempt, request: RangeRequest, writer: ChunkWriter) {
        let breaks_off = self.shape.breaks > 0 && thread_rng().gen_bool(0.3);
        self.shape.breaks -= u32::from(breaks_off);
        let (engine, ends) = (Arc::clone(engine), Arc::clone(&self.ends));
        let (id, size) = (attempt.id, self.shape.size);
        let task = spawn(async move {
            let read = async {
                let read = Box::pin(read(size, &request, writer, breaks_off));
                Gathered::new(read, &engine).await
            };
            let result = connected(&engine, attempt.chunk, &request, read).await;
            let mut ends = ends.lock().expect("no panic");
            ends.push_back((id, TaskEnd::Returned(result)));
            drop(ends);
            engine.driver.notify_one();
        });
        self.tasks.insert(id, task);
    }

    fn stop(&mut self, id: u64) {
        let mut ends = self.ends.lock().expect("no panic");
        // It may still have ended, as when it is too late to stop it.
        if ends.iter().any(|end| end.0 == id) {
            return;
        }
        ends.push_back((id, TaskEnd::Stopped));
        drop(ends);
        self.shape.fences -= 1;
        self.stopped.insert(id);
        if !self.shape.stuck {
            self.tasks[&id].abort();
        }
    }

    async fn next(
        &mut self,
        engine: &Engine,
        reserving: Option<&mut Reserving>,
        until: Option<Duration>,
    ) -> Event {
        if let Some((id, end)) = self.next_end() {
            return Event::Ended(id, end);
        }
        let until = until.filter(|at| *at < self.now + PATIENT);
        match (until, reserving) {
            (Some(at), _) => {
                self.now = self.now.max(at);
                yield_now().await;
            }
            (None, None) => engine.driver.notified().await,
            (None, Some(memory_to_come)) => {
                let notified = std::pin::pin!(engine.driver.notified());
                if let Either::Left((reserved, _)) = select(memory_to_come, notified).await {
                    return Event::Reserved(reserved);
                }
            }
        }
        Event::Woken
    }

    /// Never: time would jump there again and again.
    fn look_at(&self, _schedule: &Schedule) -> Option<Duration> {
        None
    }

    /// At any moment, and at any attempt.
    fn look(&mut self, engine: &Engine) -> Option<u64> {
        if self.shape.fences == 0 || !thread_rng().gen_bool(0.3) {
            return None;
        }
        let running = self.tasks.keys().copied();
        let id = running.filter(|id| !self.stopped.contains(id)).min()?;
        engine.fence_at_will(id).then_some(id)
    }
}

/// The model of a source.
async fn read(
    size: u64,
    request: &RangeRequest,
    mut writer: ChunkWriter,
    breaks_off: bool,
) -> Result<(), SourceError> {
    let end = request.end.unwrap_or(u64::MAX).min(size);
    writer.begin(Reply {
        start: request.start,
        length: Some(end - request.start),
        total: Some(size),
        revision: Revision {
            etag: Some("\"one\"".into()),
            ..Revision::default()
        },
        ..Reply::default()
    })?;
    let mut at = request.start;
    while writer.ready().await? {
        let most = u64::try_from(writer.remaining_mut()).unwrap_or(u64::MAX);
        for _ in 0..thread_rng().gen_range(1..=most) {
            writer.put_u8(byte(at));
            at += 1;
        }
        if breaks_off {
            return Err(SourceError::retryable(ErrorKind::Unavailable, "broken off"));
        }
    }
    Ok(())
}

/// Takes all there is, and holds it against what it must be.
async fn take(reader: &mut Reader, size: u64) -> Result<(), Error> {
    let mut at = 0;
    while let Some(lease) = reader.next().await? {
        for &got in &*lease {
            assert_eq!(got, byte(at), "a wrong byte at {at}");
            at += 1;
        }
    }
    assert_eq!(at, size, "the end comes too early");
    Ok(())
}

/// Explores `world`, by random schedules and by some that delay few tasks for long (PCT, Burckhardt
/// and others, 2010).
fn explore(world: impl Fn() + Send + Sync + Clone + 'static) {
    explore_often(1, world);
}

/// So many times as many schedules, for a small world with one moment that matters.
fn explore_often(times: usize, world: impl Fn() + Send + Sync + Clone + 'static) {
    let schedules = std::env::var("PGET_SCHEDULES").ok();
    let schedules = times * schedules.and_then(|text| text.parse().ok()).unwrap_or(200);
    let mut config = shuttle::Config::new();
    // Debug builds need more than the default.
    config.stack_size = 256 << 10;
    let random = shuttle::scheduler::RandomScheduler::new(schedules);
    shuttle::Runner::new(random, config.clone()).run(world.clone());
    let delayed = shuttle::scheduler::PctScheduler::new(3, schedules / 2);
    shuttle::Runner::new(delayed, config).run(world);
}

fn nothing_is_held(budget: &Budget) {
    assert_eq!((budget.taken(), budget.in_flight()), (0, 0), "not all came back");
}

fn reads(shape: Shape) {
    explore(move || {
        block_on(async move {
            let budget = Budget::tiny(2, 2);
            let (mut reader, _, driver) = start_reader(shape, &budget);
            take(&mut reader, shape.size).await.expect("it ends well");
            drop(reader);
            driver.await.expect("it ends");
            nothing_is_held(&budget);
        });
    });
}

#[test]
fn every_byte_comes_once_and_in_order() {
    reads(SHAPE);
}

#[test]
fn a_source_that_cannot_be_stopped_keeps_its_slot_until_it_lets_go() {
    reads(Shape {
        stuck: true,
        fences: 2,
        ..SHAPE
    });
}

#[test]
fn a_stream_goes_from_slot_to_slot() {
    reads(Shape {
        concurrency: 1,
        window: 1,
        fences: 0,
        ..SHAPE
    });
}

/// Memory and connections for one request in all; the consumer reads the one to its end before it
/// looks at the other.
#[test]
fn downloads_that_share_a_budget_never_wait_for_each_other() {
    for concurrency in [1, 2] {
        let shape = Shape {
            concurrency,
            breaks: 0,
            fences: 0,
            ..SHAPE
        };
        explore(move || {
            block_on(async move {
                let budget = Budget::tiny(1, 1);
                let (mut first, _, one) = start_reader(shape, &budget);
                let (mut second, _, other) = start_reader(shape, &budget);
                take(&mut second, shape.size).await.expect("it ends well");
                take(&mut first, shape.size).await.expect("it ends well");
                drop((first, second));
                one.await.expect("it ends");
                other.await.expect("it ends");
                nothing_is_held(&budget);
            });
        });
    }
}

/// Also if all is received in the very moment of the cancel.
#[test]
fn after_a_cancel_nothing_is_handed_out() {
    let shape = Shape {
        size: CHUNK,
        breaks: 0,
        fences: 0,
        ..SHAPE
    };
    explore_often(20, move || {
        block_on(async move {
            let (mut reader, engine, driver) = start_reader(shape, &Budget::tiny(1, 1));
            let canceller = spawn(async move {
                for _ in 0..thread_rng().gen_range(0..12) {
                    yield_now().await;
                }
                engine.cancel();
            });
            canceller.await.expect("it ends");
            let error = reader.next().await.expect_err("cancelled");
            assert_eq!(error.kind(), ErrorKind::Cancelled);
            drop(reader);
            driver.await.expect("it ends");
        });
    });
}

#[test]
fn a_cancel_is_heard_and_a_drop_gives_everything_back() {
    for stuck in [false, true] {
        let shape = Shape { stuck, ..SHAPE };
        explore(move || {
            block_on(async move {
                let budget = Budget::tiny(1, 1);
                let (mut reader, engine, driver) = start_reader(shape, &budget);
                let cancel = Cancel::new();
                cancel.watch(&engine);
                drop(engine);
                let drops_early = thread_rng().gen_bool(0.3);
                let canceller = spawn(async move { cancel.trigger() });
                if drops_early {
                    drop(reader.next().await);
                } else if let Err(error) = take(&mut reader, shape.size).await {
                    assert_eq!(error.kind(), ErrorKind::Cancelled);
                }
                drop(reader);
                canceller.await.expect("it ends");
                driver.await.expect("it ends");
                nothing_is_held(&budget);
            });
        });
    }
}

/// Takes bytes, each once.
#[derive(Debug, Default)]
struct Sheet {
    bytes: Mutex<Vec<Option<u8>>>,
    given_back: crate::sync::atomic::AtomicBool,
}

impl Destination for Sheet {
    fn begin(&self, _: &ObjectInfo, _: u64, _: Option<u64>) -> Result<Transfer, Error> {
        Ok(Transfer::Put)
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let late = self.given_back.load(crate::sync::atomic::Ordering::SeqCst);
        assert!(!late, "bytes after the call has returned");
        let mut sheet = self.bytes.lock().expect("no panic");
        for (at, &got) in (offset..).zip(bytes) {
            let index = usize::try_from(at).unwrap_or(usize::MAX);
            if sheet.len() <= index {
                sheet.resize(index + 1, None);
            }
            assert_eq!(got, byte(at), "a wrong byte at {at}");
            assert_eq!(sheet[index].replace(got), None, "byte {at} comes twice");
        }
        Ok(())
    }
}

#[test]
fn a_destination_gets_each_byte_once_and_none_after_its_call_has_returned() {
    for (stuck, cancels) in [(false, false), (true, false), (false, true), (true, true)] {
        let shape = Shape { stuck, ..SHAPE };
        explore(move || {
            block_on(async move {
                let budget = Budget::tiny(1, 1);
                let sheet = Arc::new(Sheet::default());
                let destination = IntoDestination::new(Arc::clone(&sheet) as _, String::new());
                let delivery = verified(destination.expect("it does not panic"));
                let (engine, driver) = start(shape, &budget, Arc::clone(&delivery) as _);
                let canceller = cancels.then(|| {
                    let engine = Arc::clone(&engine);
                    spawn(async move { engine.cancel() })
                });
                let ended = engine.ended().await;
                delivery.inner().deserted().await;
                sheet
                    .given_back
                    .store(true, crate::sync::atomic::Ordering::SeqCst);
                match ended {
                    Ok(()) => assert_eq!(sheet.bytes.lock().expect("no panic").len() as u64, shape.size),
                    Err(error) => assert!(cancels && error.kind() == ErrorKind::Cancelled, "{error}"),
                }
                if let Some(canceller) = canceller {
                    canceller.await.expect("it ends");
                }
                drop(engine);
                driver.await.expect("it ends");
                nothing_is_held(&budget);
            });
        });
    }
}
