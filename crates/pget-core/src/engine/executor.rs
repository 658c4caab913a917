//! What a driver runs on: [`Executor`], which runs attempts and has the clock, and [`Tokio`], the
//! one that downloads have. The models have one of their own (`model.rs`), so that they run the
//! driver's loop as it ships.

use std::{
    collections::HashMap,
    future::{Future, pending, ready},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::{AbortHandle, Id, JoinSet},
    time::{Instant, sleep_until},
};
use tracing::Instrument as _;

use pget_schedule::{Attempt, Schedule};

use super::{
    classify::{classify, explained, panicked},
    gathered::Gathered,
    state::Engine,
    watchdog::{Watch, watch},
};
use crate::{Error, RangeRequest, RangeSource, SourceError, budget::Reservation, memory::ChunkWriter};

/// Memory to come.
pub(crate) type Reserving = Pin<Box<dyn Future<Output = Reservation> + Send>>;

/// What a driver waits for.
pub(crate) enum Event {
    /// The task of this attempt has ended.
    Ended(u64, TaskEnd),
    /// Memory is there.
    Reserved(Reservation),
    /// The engine has notified its driver, or the time has come.
    Woken,
}

/// How an attempt's task ended.
pub(crate) enum TaskEnd {
    /// By itself.
    Returned(Result<(), SourceError>),
    /// It was stopped.
    Stopped,
}

/// What runs the attempts of one download, and its clock.
pub(crate) trait Executor: Send {
    /// Returns the time since the download began.
    fn now(&self) -> Duration;

    /// Starts a task for the attempt.
    fn spawn(&mut self, engine: &Arc<Engine>, attempt: Attempt, request: RangeRequest, writer: ChunkWriter);

    /// Stops the attempt's task, unless it has ended. Its end is an event in either case.
    fn stop(&mut self, id: u64);

    /// Waits for the next event, at most until the time `until`.
    fn next(
        &mut self,
        engine: &Engine,
        reserving: Option<&mut Reserving>,
        until: Option<Duration>,
    ) -> impl Future<Output = Event> + Send;

    /// Looks once more at an object that changed, and adds to `error` what that shows.
    fn explain(&mut self, _engine: &Engine, error: Error) -> impl Future<Output = Error> + Send {
        ready(error)
    }

    /// Returns when [`look`](Self::look) is due next.
    fn look_at(&self, schedule: &Schedule) -> Option<Duration> {
        schedule.look_at()
    }

    /// Returns the attempt to be stopped as far slower than the others, if there is one.
    fn look(&mut self, engine: &Engine) -> Option<u64> {
        engine.look(self.now())
    }
}

/// Lets `read` run once the attempt at `chunk` has a connection. If the earlier attempt has put the
/// last byte after all, `read` does not run.
pub(crate) async fn connected(
    engine: &Engine,
    chunk: u64,
    request: &RangeRequest,
    read: impl Future<Output = Result<(), SourceError>>,
) -> Result<(), SourceError> {
    if request.end.is_some_and(|end| request.start >= end) {
        return Ok(());
    }
    let _connection = tokio::select! {
        biased;
        connection = engine.budget.connection() => connection,
        // Streams hold their connections while they wait for their consumers, so the chunk at the
        // cursor, or that gets there in that time, goes without one.
        () = engine.cursor.reaches(chunk) => None,
    };
    read.await
}

/// Tasks and time of tokio.
///
/// When it is dropped, no attempt of its download is left: its `JoinSet` goes with it.
pub(crate) struct Tokio {
    source: Arc<dyn RangeSource>,
    watch: Watch,
    began: Instant,
    attempts: JoinSet<Result<(), SourceError>>,
    tasks: HashMap<Id, Task>,
}

/// An attempt's task.
struct Task {
    /// The attempt.
    id: u64,
    abort: AbortHandle,
}

impl Tokio {
    pub(crate) fn new(source: Arc<dyn RangeSource>, watch: Watch, began: Instant) -> Self {
        Self {
            source,
            watch,
            began,
            attempts: JoinSet::new(),
            tasks: HashMap::new(),
        }
    }
}

impl Executor for Tokio {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn spawn(&mut self, engine: &Arc<Engine>, attempt: Attempt, request: RangeRequest, writer: ChunkWriter) {
        let (source, engine) = (Arc::clone(&self.source), Arc::clone(engine));
        let limits = self.watch;
        let span = tracing::debug_span!(
            "request",
            start = request.start,
            end = request.end,
            attempt = attempt.fruitless,
            chunk = attempt.chunk,
        );
        let began = Instant::now();
        let work = async move {
            let read = async {
                let pulse = writer.pulse();
                pulse.ask();
                let result = watch(
                    Gathered::new(source.read(&request, writer), &engine),
                    &pulse,
                    limits,
                    &engine.counters.stalls,
                )
                .await;
                let result = classify(&*source, &engine, &request, &pulse, limits.deadlines, result).await;
                let (bytes, milliseconds) = (pulse.bytes(), began.elapsed().as_millis());
                match &result {
                    Ok(()) => tracing::trace!(bytes, milliseconds, "request done"),
                    Err(error) => tracing::debug!(bytes, milliseconds, %error, "request failed"),
                }
                result
            };
            connected(&engine, attempt.chunk, &request, read).await
        };
        let abort = self.attempts.spawn(work.instrument(span));
        let task = Task {
            id: attempt.id,
            abort,
        };
        self.tasks.insert(task.abort.id(), task);
    }

    fn stop(&mut self, id: u64) {
        if let Some(task) = self.tasks.values().find(|task| task.id == id) {
            task.abort.abort();
        }
    }

    async fn next(
        &mut self,
        engine: &Engine,
        reserving: Option<&mut Reserving>,
        until: Option<Duration>,
    ) -> Event {
        let reserving = async {
            match reserving {
                Some(reserving) => reserving.await,
                None => pending().await,
            }
        };
        let due = async {
            match until {
                Some(at) => sleep_until(self.began + at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            // In this order, so that a seeded test goes the same way again.
            biased;
            Some(ended) = self.attempts.join_next_with_id() => {
                let (task, end) = match ended {
                    Ok((task, result)) => (task, TaskEnd::Returned(result)),
                    Err(error) if error.is_cancelled() => (error.id(), TaskEnd::Stopped),
                    Err(error) => (error.id(), TaskEnd::Returned(Err(panicked(error)))),
                };
                self.tasks.remove(&task).map_or(Event::Woken, |task| Event::Ended(task.id, end))
            }
            memory = reserving => Event::Reserved(memory),
            () = engine.driver.notified() => Event::Woken,
            () = due => Event::Woken,
        }
    }

    /// A cancelled download does not wait for it.
    async fn explain(&mut self, engine: &Engine, error: Error) -> Error {
        let mut looking = pin!(explained(
            &*self.source,
            engine,
            self.watch.deadlines,
            error.clone()
        ));
        loop {
            tokio::select! {
                biased;
                error = &mut looking => return error,
                () = engine.driver.notified() => if engine.is_over() {
                    return error;
                }
            }
        }
    }
}
