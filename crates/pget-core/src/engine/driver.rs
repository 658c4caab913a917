//! The driver of one download: a loop that does what the schedule says. It runs on an [`Executor`],
//! tokio's or that of the models.
//!
//! Invariant: however the driver ends, its download has an outcome.

use std::{collections::hash_map::RandomState, hash::BuildHasher, sync::Arc, time::Duration};

use tokio::{runtime::Handle, time::Instant};
use tracing::Instrument as _;

use pget_schedule::{Action, Schedule, Settings, Wanted};

use super::{
    delivery::{Delivery, Order},
    executor::{Event, Executor, Reserving, TaskEnd, Tokio},
    hosts,
    state::Engine,
    watchdog::Watch,
};
use crate::{
    Error, ErrorKind, Options, RangeSource, Retry, SourceError,
    budget::Reservation,
    fork::Generation,
    memory::{Pool, PoolGuard},
};

/// Begins a download on `runtime`; one that is `refused` ends at once with that error.
///
/// If no reader takes the chunks in order, the window does not bound memory, so it is as wide as
/// can be.
pub(crate) fn start(
    source: Arc<dyn RangeSource>,
    options: &Options,
    runtime: &Handle,
    wanted: Option<Wanted>,
    delivery: Arc<dyn Delivery>,
    refused: Option<Error>,
) -> Arc<Engine> {
    let seed = options.seed.unwrap_or_else(seed);
    let mut settings = options.settings(seed, source.most_requests());
    if delivery.order() == Order::Landing {
        (settings.window, settings.window_follows) = (Settings::UNBOUNDED, false);
    }
    if let Some(wanted) = wanted {
        settings.wanted = wanted;
    }
    let mut schedule = Schedule::new(settings);
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
    let watch = Watch {
        deadlines: options.deadlines.within(options.retry_timeout),
        retry_timeout: options.retry_timeout,
    };
    let executor = Tokio::new(source, watch, engine.began);
    let mut driver = Driver::new(Arc::clone(&engine), executor, options.deadlines.stall, endpoint);
    let span = tracing::debug_span!("download", object = %engine.object());
    let run = async move { driver.run().await };
    runtime.spawn(run.instrument(span));
    engine
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
const REPORTED_AFTER: Duration = Duration::from_millis(500);

pub(crate) struct Driver<E> {
    engine: Arc<Engine>,
    pub(crate) executor: E,
    /// How long a writer whose task has ended is waited for.
    stall: Duration,
    /// The server, if the source names it.
    endpoint: Option<String>,
    /// When a wait for the server has lasted for so long, it is reported.
    reported_at: Duration,
    /// Attempts whose task has ended while their source still has the writer.
    held: Vec<Held>,
    /// While bytes are received, freed pages are received into again.
    _pool: PoolGuard,
    /// Memory for the next chunk.
    memory: Option<Reservation>,
    reserving: Option<Reserving>,
    /// A field and not a variable of `run`, which a runtime that shuts down may never poll.
    _abandoned: Abandoned,
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

impl<E: Executor> Driver<E> {
    pub(crate) fn new(engine: Arc<Engine>, executor: E, stall: Duration, endpoint: Option<String>) -> Self {
        Self {
            executor,
            stall,
            endpoint,
            reported_at: REPORTED_AFTER,
            held: Vec::new(),
            _pool: Pool::enter(),
            memory: None,
            reserving: None,
            _abandoned: Abandoned(Arc::clone(&engine)),
            engine,
        }
    }

    /// Runs the download to its end.
    pub(crate) async fn run(&mut self) {
        while let Some(until) = self.act() {
            self.report_waiting();
            let until = earlier(until, self.patience());
            let full = self.engine.state().schedule.is_window_full().then(Instant::now);
            // After each event, all is looked at again.
            let event = self.executor.next(&self.engine, self.reserving.as_mut(), until);
            match event.await {
                Event::Ended(id, end) => {
                    if let Some(error) = self.ended(id, end) {
                        // Nothing is started while the object is looked at.
                        let error = self.executor.explain(&self.engine, error).await;
                        self.engine.finish(Err(error));
                        break;
                    }
                }
                Event::Reserved(memory) => {
                    self.reserving = None;
                    self.memory = Some(memory);
                    self.engine.state().schedule.reserved();
                }
                Event::Woken => {}
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
        report_end(&self.engine, self.executor.now());
        (self.memory, self.reserving) = (None, None);
    }

    /// Notes that an attempt's task has ended. Returns the download's error if that was its end.
    fn ended(&mut self, id: u64, end: TaskEnd) -> Option<Error> {
        let now = self.executor.now();
        let result = match end {
            TaskEnd::Returned(result) => result,
            TaskEnd::Stopped if self.engine.is_fenced(id) => {
                if !self.engine.fenced_released(id, now) {
                    self.wait_for_writer(id, now, None);
                }
                return None;
            }
            TaskEnd::Stopped => Err(SourceError::fatal(
                ErrorKind::Cancelled,
                "the runtime has shut down",
            )),
        };
        // No other attempt may begin while a read that could not be stopped has the writer.
        let goes_on = matches!(&result, Err(error) if error.retry() != Retry::Never);
        if goes_on && self.engine.lingers(id) {
            self.wait_for_writer(id, now, Some(result));
            return None;
        }
        self.engine
            .attempt_ended(id, now, result, self.endpoint.as_deref())
    }

    fn wait_for_writer(&mut self, id: u64, since: Duration, result: Option<Result<(), SourceError>>) {
        self.held.push(Held { id, since, result });
    }

    /// Goes on with the attempts whose writers are gone. Returns the download's error if that was
    /// its end.
    fn resume_released(&mut self, now: Duration) -> Option<Error> {
        for held in std::mem::take(&mut self.held) {
            let Held { id, since, result } = held;
            match result {
                None if self.engine.fenced_released(id, now) => {}
                Some(result) if !self.engine.lingers(id) => {
                    if let Some(error) = self
                        .engine
                        .attempt_ended(id, now, result, self.endpoint.as_deref())
                    {
                        return Some(error);
                    }
                }
                // Where the destination takes its time, the source is not to blame.
                result if self.engine.waits_for_consumer(id) => self.wait_for_writer(id, now, result),
                result => self.wait_for_writer(id, since, result),
            }
        }
        None
    }

    /// Ends the attempt that is far slower than the others, if there is one, and goes on with those
    /// that have let go.
    fn fence(&mut self) {
        let now = self.executor.now();
        if let Some(error) = self.resume_released(now) {
            self.engine.finish(Err(error));
            return;
        }
        // With its task, its watchdog has ended.
        if self.patience().is_some_and(|until| until <= now) {
            self.engine.finish(Err(self.engine.writer_kept()));
            return;
        }
        if let Some(id) = self.executor.look(&self.engine) {
            self.executor.stop(id);
        }
    }

    /// Reports that the download waits for its server: soon after that began, each time that it has
    /// lasted twice as long, and when it is over.
    fn report_waiting(&mut self) {
        let waiting = self.engine.waiting(&self.engine.state());
        let of = self.endpoint.as_deref().unwrap_or_else(|| self.engine.object());
        match waiting {
            Some(waiting) if waiting.lasted() >= self.reported_at => {
                self.reported_at = waiting.lasted() * 2;
                tracing::info!(attempts = waiting.attempts, "waiting for {of}: {waiting}");
            }
            None if self.reported_at > REPORTED_AFTER => {
                self.reported_at = REPORTED_AFTER;
                tracing::info!("{of} serves again");
            }
            Some(_) | None => {}
        }
    }

    /// When an attempt that still has its writer is waited for no longer.
    fn patience(&self) -> Option<Duration> {
        let since = self.held.iter().map(|held| held.since).min()?;
        Some(since.saturating_add(self.stall))
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
            match state.schedule.poll(self.executor.now()) {
                Action::Request(attempt) => {
                    let memory = if attempt.opens { self.memory.take() } else { None };
                    let launched = self.engine.launch(&mut state, &attempt, memory);
                    drop(state);
                    match launched {
                        Ok((writer, request)) => {
                            self.executor.spawn(&self.engine, attempt, request, writer);
                        }
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
                    let Some(bytes) = self.engine.memory_for(bytes) else {
                        state.schedule.reserved();
                        continue;
                    };
                    if let Some(memory) = self.engine.budget.try_reserve(bytes, at_cursor) {
                        state.schedule.reserved();
                        self.memory = Some(memory);
                        self.reserving = None;
                        continue;
                    }
                    if self.reserving.is_none() {
                        let budget = Arc::clone(&self.engine.budget);
                        self.reserving = Some(Box::pin(budget.reserve(bytes)));
                    }
                    return Some(earlier(retry_at, self.executor.look_at(&state.schedule)));
                }
                Action::Wait(until) => return Some(earlier(until, self.executor.look_at(&state.schedule))),
                Action::GiveUp(limit) => {
                    let last = state.last_failure.take();
                    drop(state);
                    let error = self.engine.gave_up(last, limit, self.endpoint.as_deref());
                    self.engine.finish(Err(error));
                    return None;
                }
                Action::Finished => {
                    return None;
                }
            }
        }
    }
}

fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}
