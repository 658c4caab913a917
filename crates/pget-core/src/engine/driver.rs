//! The thin driver: a task that does what the schedule says, and one task for each attempt under a
//! watchdog.
//!
//! Invariant: when the driver task ends, however it ends, no attempt of its download is left (its
//! `JoinSet` goes with it).

use std::{
    collections::{HashMap, hash_map::RandomState},
    future::{Future, pending},
    hash::BuildHasher,
    ops::Range,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use tokio::{
    runtime::Handle,
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::{Instant, sleep_until},
};

use tracing::Instrument as _;

use pget_schedule::{Action, Attempt, Schedule, Settings};

use super::{
    classify::{classify, ended_without_result, explained},
    delivery::{Delivery, Order},
    gathered::Gathered,
    hosts,
    state::Engine,
    watchdog::watch,
};
use crate::{
    Budget, Deadlines, Error, ErrorKind, Options, RangeRequest, RangeSource, Retry, SourceError,
    budget::Reservation,
    fork::Generation,
    memory::{ChunkWriter, Pool, PoolGuard},
};

/// Begins a download on `runtime`; one that is `refused` ends at once with that error.
///
/// If no reader takes the chunks in order, the window does not bound memory, so it is as wide as
/// can be.
pub(crate) fn start(
    source: Arc<dyn RangeSource>,
    options: &Options,
    runtime: &Handle,
    extents: Option<Vec<Range<u64>>>,
    delivery: Arc<dyn Delivery>,
    refused: Option<Error>,
) -> Arc<Engine> {
    let seed = options.seed.unwrap_or_else(seed);
    let mut settings = options.settings(seed, source.most_requests());
    if delivery.order() == Order::Landing {
        (settings.window, settings.window_follows) = (Settings::UNBOUNDED, false);
    }
    let mut schedule = match extents {
        None => Schedule::new(settings),
        Some(extents) => Schedule::of_extents(settings, extents),
    };
    let endpoint = source.endpoint();
    if let Some(learned) = endpoint.as_deref().and_then(hosts::recall) {
        schedule.start_from(learned);
    }
    let (budget, pin) = (Arc::clone(&options.budget), options.pin.clone());
    let engine = Engine::new(schedule, source.name(), budget, pin, delivery);
    if let Some(error) = refused {
        engine.finish(Err(error));
        return engine;
    }
    if let Some(cancel) = &options.cancel {
        cancel.watch(&engine);
    }
    let driver = Driver {
        engine: Arc::clone(&engine),
        source,
        deadlines: options.deadlines,
        budget: Arc::clone(&options.budget),
        began: engine.began,
        endpoint: endpoint.clone(),
        tells_at: TELLS_AFTER,
        attempts: JoinSet::new(),
        tasks: HashMap::new(),
        held: Vec::new(),
        _pool: Pool::enter(),
        memory: None,
        reserving: None,
        _abandoned: Abandoned(Arc::clone(&engine)),
    };
    let span = tracing::debug_span!("download", object = %engine.object());
    runtime.spawn(driver.run().instrument(span));
    engine
}

/// Looks once more at an object that changed, and adds to `error` what that shows. Nothing is
/// opened in that time, and a cancelled download does not wait for it.
async fn looked_at(source: &dyn RangeSource, engine: &Engine, deadlines: Deadlines, error: Error) -> Error {
    let mut looking = pin!(explained(source, engine, deadlines, error.clone()));
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

/// Reports how the download ended, after how long, and what was done.
fn report_end(engine: &Engine, time: Duration) {
    let (milliseconds, stats) = (time.as_millis(), engine.stats());
    let (bytes, requests, retries) = (stats.received, stats.requests, stats.retries);
    let outcome = engine.state().outcome.clone();
    match outcome {
        Some(Err(error)) if error.kind() != ErrorKind::Cancelled => {
            tracing::debug!(
                error = error.to_line(),
                bytes,
                requests,
                retries,
                milliseconds,
                "download failed"
            );
        }
        outcome => tracing::debug!(
            bytes,
            requests,
            retries,
            milliseconds,
            verification = %stats.verification,
            cancelled = outcome.is_some_and(|outcome| outcome.is_err()),
            "download over"
        ),
    }
}

/// For the jitter of backoffs. Forked children have the same keys, and must not retry in step.
fn seed() -> u64 {
    RandomState::new().hash_one(Generation::current())
}

/// A shorter wait for a server is not reported.
const TELLS_AFTER: Duration = Duration::from_millis(500);

struct Driver {
    engine: Arc<Engine>,
    source: Arc<dyn RangeSource>,
    deadlines: Deadlines,
    budget: Arc<Budget>,
    began: Instant,
    /// The server, if the source names it.
    endpoint: Option<String>,
    /// When a wait for the server has lasted for so long, it is reported.
    tells_at: Duration,
    attempts: JoinSet<Result<(), SourceError>>,
    tasks: HashMap<Id, Task>,
    /// Attempts whose task has ended while their source still has the writer.
    held: Vec<Held>,
    /// While bytes are received, freed pages are received into again.
    _pool: PoolGuard,
    /// Memory for the next chunk.
    memory: Option<Reservation>,
    reserving: Option<Pin<Box<dyn Future<Output = Reservation> + Send>>>,
    /// A field and not a variable of `run`, which a runtime that shuts down may never poll.
    _abandoned: Abandoned,
}

/// An attempt's task.
struct Task {
    /// The attempt.
    id: u64,
    abort: AbortHandle,
}

/// An attempt whose task has ended while its source still has the writer.
struct Held {
    id: u64,
    since: Duration,
    /// How the task ended, unless it was fenced.
    result: Option<Result<(), SourceError>>,
}

/// If the driver is dropped before it is done (its runtime shuts down), the consumer must not wait
/// without end.
struct Abandoned(Arc<Engine>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        let object = self.0.object().to_owned();
        let (kind, message) = if std::thread::panicking() {
            (ErrorKind::Internal, "the download panicked")
        } else {
            (ErrorKind::Cancelled, "the runtime has shut down")
        };
        self.0.finish(Err(Error::new(kind, object, message)));
    }
}

impl Driver {
    async fn run(mut self) {
        while let Some(until) = self.act() {
            self.tell_waiting();
            let until = earlier(until, self.patience());
            let full = self.engine.state().schedule.is_window_full().then(Instant::now);
            let reserving = async {
                match &mut self.reserving {
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
                // In this order, so that a seeded test goes the same way again; after each, all is
                // looked at again.
                biased;
                Some(ended) = self.attempts.join_next_with_id() => {
                    if let Some(error) = self.ended(ended) {
                        let (source, engine) = (&*self.source, &*self.engine);
                        let error = looked_at(source, engine, self.deadlines, error).await;
                        self.engine.finish(Err(error));
                        break;
                    }
                }
                memory = reserving => {
                    self.reserving = None;
                    self.memory = Some(memory);
                    self.engine.state().schedule.reserved();
                }
                () = self.engine.driver.notified() => {}
                () = due => {}
            }
            if let Some(since) = full {
                self.engine.counters.window_full.add(since.elapsed());
            }
            self.fence();
        }
        if let Some(endpoint) = &self.endpoint {
            let learned = self.engine.state().schedule.learned();
            hosts::remember(endpoint, learned);
        }
        // Does nothing if it is over already.
        let outcome = self.engine.settle().await;
        self.engine.finish(outcome);
        report_end(&self.engine, self.began.elapsed());
    }

    /// Notes that an attempt's task has ended. Returns the download's error if that was its end.
    fn ended(&mut self, ended: Result<(Id, Result<(), SourceError>), JoinError>) -> Option<Error> {
        let now = self.began.elapsed();
        let (task, result) = match ended {
            Ok((task, result)) => (self.tasks.remove(&task)?, result),
            Err(error) => {
                let task = self.tasks.remove(&error.id())?;
                if error.is_cancelled() && self.engine.is_fenced(task.id) {
                    if !self.engine.let_fenced_go(task.id, now) {
                        self.hold(task.id, now, None);
                    }
                    return None;
                }
                (task, Err(ended_without_result(error)))
            }
        };
        // No other attempt may begin while a read that could not be stopped has the writer.
        let goes_on = matches!(&result, Err(error) if error.retry() != Retry::Never);
        if goes_on && self.engine.lingers(task.id) {
            self.hold(task.id, now, Some(result));
            return None;
        }
        self.engine.attempt_ended(task.id, now, result)
    }

    fn hold(&mut self, id: u64, since: Duration, result: Option<Result<(), SourceError>>) {
        self.held.push(Held { id, since, result });
    }

    /// Goes on with the attempts whose writers are gone. Returns the download's error if that was
    /// its end.
    fn let_go(&mut self, now: Duration) -> Option<Error> {
        for held in std::mem::take(&mut self.held) {
            let Held { id, since, result } = held;
            match result {
                None if self.engine.let_fenced_go(id, now) => {}
                Some(result) if !self.engine.lingers(id) => {
                    if let Some(error) = self.engine.attempt_ended(id, now, result) {
                        return Some(error);
                    }
                }
                // Where the destination takes its time, the source is not to blame.
                result if self.engine.waits_for_consumer(id) => self.hold(id, now, result),
                result => self.hold(id, since, result),
            }
        }
        None
    }

    /// Ends the attempt that is far slower than the others, if there is one, and goes on with those
    /// that have let go.
    fn fence(&mut self) {
        let now = self.began.elapsed();
        if let Some(error) = self.let_go(now) {
            self.engine.finish(Err(error));
            return;
        }
        // With its task, its watchdog has ended.
        if self.patience().is_some_and(|until| until <= now) {
            self.engine.finish(Err(self.engine.not_let_go()));
            return;
        }
        if let Some(id) = self.engine.look(now)
            && let Some(task) = self.tasks.values().find(|task| task.id == id)
        {
            task.abort.abort();
        }
    }

    /// Reports that the download waits for its server: soon after that began, each time that it has
    /// lasted twice as long, and when it is over.
    fn tell_waiting(&mut self) {
        let waiting = self.engine.waiting(&self.engine.state());
        let of = self.endpoint.as_deref().unwrap_or_else(|| self.engine.object());
        match waiting {
            Some(waiting) if waiting.lasted() >= self.tells_at => {
                self.tells_at = waiting.lasted() * 2;
                tracing::info!(attempts = waiting.attempts, "waiting for {of}: {waiting}");
            }
            None if self.tells_at > TELLS_AFTER => {
                self.tells_at = TELLS_AFTER;
                tracing::info!("{of} serves again");
            }
            Some(_) | None => {}
        }
    }

    /// When an attempt that still has its writer is waited for no longer.
    fn patience(&self) -> Option<Duration> {
        let since = self.held.iter().map(|held| held.since).min()?;
        Some(since.saturating_add(self.deadlines.stall))
    }

    /// Does what the schedule says until it says to wait, then returns the time to wait for, if
    /// any. `None`: the download is over.
    #[allow(
        clippy::option_option,
        reason = "the outer one ends the loop, the inner one is the time"
    )]
    fn act(&mut self) -> Option<Option<Duration>> {
        loop {
            if self.engine.is_over() {
                return None;
            }
            let mut state = self.engine.state();
            if state.waits_for_delivery() {
                return Some(None);
            }
            match state.schedule.poll(self.began.elapsed()) {
                Action::Request(attempt) => {
                    let memory = if attempt.opens { self.memory.take() } else { None };
                    let launched = self.engine.launch(&mut state, &attempt, memory);
                    drop(state);
                    match launched {
                        Ok((writer, request)) => self.spawn(attempt, request, writer),
                        Err(error) => {
                            self.engine.finish(Err(error));
                            return None;
                        }
                    }
                }
                Action::Reserve {
                    bytes,
                    at_cursor,
                    retry_at,
                } => {
                    let Some(bytes) = self.engine.delivery.memory_for(bytes) else {
                        state.schedule.reserved();
                        continue;
                    };
                    if let Some(memory) = self.budget.try_reserve(bytes, at_cursor) {
                        state.schedule.reserved();
                        self.memory = Some(memory);
                        self.reserving = None;
                        continue;
                    }
                    if self.reserving.is_none() {
                        self.reserving = Some(Box::pin(Arc::clone(&self.budget).reserve(bytes)));
                    }
                    return Some(earlier(retry_at, state.schedule.look_at()));
                }
                Action::Wait(until) => return Some(earlier(until, state.schedule.look_at())),
                Action::GiveUp(limit) => {
                    let last = state.last_failure.take();
                    drop(state);
                    self.engine.finish(Err(self.engine.gave_up(last, limit)));
                    return None;
                }
                Action::Finished => {
                    return None;
                }
            }
        }
    }

    fn spawn(&mut self, attempt: Attempt, request: RangeRequest, writer: ChunkWriter) {
        let source = Arc::clone(&self.source);
        let engine = Arc::clone(&self.engine);
        let budget = Arc::clone(&self.budget);
        let deadlines = self.deadlines;
        let span = tracing::debug_span!(
            "request",
            start = request.start,
            end = request.end,
            attempt = attempt.fruitless,
            chunk = attempt.chunk,
        );
        let began = Instant::now();
        let work = async move {
            if request.end.is_some_and(|end| request.start >= end) {
                // The earlier attempt at it has put its last byte after all.
                return Ok(());
            }
            let _connection = tokio::select! {
                biased;
                connection = budget.connection() => connection,
                // Streams hold their connections while they wait for their consumers, so the chunk
                // at the cursor, or that gets there in that time, goes without one.
                () = engine.cursor_reaches(attempt.chunk) => None,
            };
            let pulse = writer.pulse();
            pulse.ask();
            let result = watch(
                Gathered::new(source.read(&request, writer), &engine),
                &pulse,
                deadlines,
                &engine.counters.stalls,
            )
            .await;
            let result = classify(&*source, &engine, &request, &pulse, deadlines, result).await;
            let milliseconds = began.elapsed().as_millis();
            match &result {
                Ok(()) => tracing::trace!(bytes = pulse.bytes(), milliseconds, "request done"),
                Err(error) => tracing::debug!(bytes = pulse.bytes(), milliseconds, %error, "request failed"),
            }
            result
        };
        let task = self.attempts.spawn(work.instrument(span));
        let task_id = task.id();
        self.tasks.insert(
            task_id,
            Task {
                id: attempt.id,
                abort: task,
            },
        );
    }
}

fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}
