//! One call, on the library's threads. A thread waits for it ([`Op::wait`]), or an event loop
//! ([`Op::start`]).
//!
//! Invariants:
//! - the call's future owns no Python object that it drops, and touches none;
//! - the memory that was lent to a call is unused when the call ends;
//! - a caller that stops waiting cancels the call and waits for its end, as does an [`Op`] that is
//!   dropped while it runs.

use std::{
    collections::VecDeque,
    os::fd::AsRawFd,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use pget_rs::{Builder, Cancel, Error, ErrorKind, Object, blocking, fork::Own};
use pyo3::{exceptions::PyRuntimeError, prelude::*, sync::PyOnceLock, types::PyBytes};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    error::exception,
    memory::{Lender, Lent, Loan, Raw, new_bytes},
    settings::{LatestProgress, Settings},
};

/// How long a thread waits before it looks at signals.
pub(crate) const STEP: Duration = Duration::from_millis(50);

/// How long one delivery of events keeps an event loop. The loop then runs what else is due.
const TURN: Duration = Duration::from_millis(1);

/// Ends of calls in one delivery. Each of them wakes a task, which takes longer than the delivery.
const ENDS: usize = 64;

/// How often a progress function is called.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// What makes the result, on a thread of Python's.
type Finish = Box<dyn for<'py> FnOnce(Python<'py>) -> PyResult<Py<PyAny>> + Send>;

type Work = Pin<Box<dyn Future<Output = Finish> + Send>>;

/// What a call reports to its waiter.
enum Event {
    /// Memory is wanted for an object whose length is known by now.
    Wanted(Wanted),
    /// There may be progress to report.
    Progress,
    /// It is over, and nothing that was lent is used any more.
    Ended(Finish),
}

struct Wanted {
    length: usize,
    lender: Lender,
    reply: Sender<Raw>,
}

/// Who waits.
enum Waits {
    /// Nobody yet.
    Nobody,
    Thread(UnboundedSender<Event>),
    Loop(Arc<Queue>, u64),
}

/// Where a call's events go.
pub(crate) struct EventSink(Mutex<Waits>);

impl EventSink {
    fn send(&self, event: Event) {
        match &*lock(&self.0) {
            Waits::Nobody => {}
            // The waiter may be gone; the call is cancelled then.
            Waits::Thread(sender) => drop(sender.send(event)),
            Waits::Loop(queue, token) => queue.push(*token, event),
        }
    }

    /// Returns memory of `length` bytes from the waiter; `None` if the call is cancelled.
    ///
    /// Runs on the thread of the library that has just learned the length.
    pub(crate) fn memory(&self, length: usize, lender: Lender, cancel: &Cancel) -> Option<Raw> {
        let (reply, answer) = channel();
        self.send(Event::Wanted(Wanted {
            length,
            lender,
            reply,
        }));
        loop {
            match answer.recv_timeout(STEP) {
                Ok(memory) => return Some(memory),
                Err(RecvTimeoutError::Timeout) if !cancel.is_triggered() => {}
                Err(_) => return None,
            }
        }
    }
}

/// The object that `builder` names, to be read on the library's threads.
pub(crate) fn object(builder: &Builder) -> Result<Object, Error> {
    Ok(builder.blocking()?.asynchronous())
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says that the call is over, however its future ends.
struct Ends {
    sink: Arc<EventSink>,
    finish: Option<Finish>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        let lost: Finish = Box::new(|_| {
            Err(PyRuntimeError::new_err(
                "the call has ended without a result: a defect",
            ))
        });
        self.sink.send(Event::Ended(self.finish.take().unwrap_or(lost)));
        // The last sender to a thread goes with this.
        *lock(&self.sink.0) = Waits::Nobody;
    }
}

/// One call of the library.
#[pyclass(frozen, module = "pget._pget")]
pub(crate) struct Op {
    state: Mutex<State>,
    sink: Arc<EventSink>,
    cancel: Cancel,
    latest: Arc<LatestProgress>,
    progress: Option<Py<PyAny>>,
    /// Buffers lent for the call.
    lent: Mutex<Vec<Lent>>,
    /// The object's bytes, if the call asked for memory.
    memory: Mutex<Option<Py<PyBytes>>>,
    /// What ended the call on Python's side.
    failure: Mutex<Option<PyErr>>,
}

enum State {
    Ready(Work),
    Running(Own<JoinHandle<()>>),
    Ended,
}

/// What a call needs before its future is made.
pub(crate) struct Call {
    pub(crate) builder: Builder,
    pub(crate) cancel: Cancel,
    pub(crate) sink: Arc<EventSink>,
    user: Option<Cancel>,
    latest: Arc<LatestProgress>,
    progress: Option<Py<PyAny>>,
}

impl Call {
    pub(crate) fn new(settings: Settings) -> Self {
        let Settings {
            builder,
            cancel: user,
            progress,
            ..
        } = settings;
        let (builder, latest) = match progress {
            Some(_) => LatestProgress::by(builder),
            None => (builder, Arc::default()),
        };
        Self::of(builder, user, latest, progress)
    }

    /// Returns a wait for a read that has begun, and that reports its progress to `latest`.
    pub(crate) fn of_read(latest: Arc<LatestProgress>, progress: Option<Py<PyAny>>) -> Self {
        Self::of(pget_rs::builder(""), None, latest, progress)
    }

    fn of(
        builder: Builder,
        user: Option<Cancel>,
        latest: Arc<LatestProgress>,
        progress: Option<Py<PyAny>>,
    ) -> Self {
        let cancel = Cancel::new();
        Self {
            builder: builder.cancel(cancel.clone()),
            cancel,
            sink: Arc::new(EventSink(Mutex::new(Waits::Nobody))),
            user,
            latest,
            progress,
        }
    }

    /// Returns the call: `finish` makes an object of the result of `work`.
    ///
    /// `lent`, and what `loan` lends, are released when the call ends.
    pub(crate) fn op<T: Send + 'static>(
        self,
        lent: Vec<Lent>,
        loan: Loan,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
        finish: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> Op {
        let (user, cancel) = (self.user, self.cancel.clone());
        let work: Work = Box::pin(async move {
            let result = {
                let mut work = std::pin::pin!(work);
                match user {
                    None => work.await,
                    Some(user) => tokio::select! {
                        biased;
                        result = &mut work => result,
                        () = user.triggered() => {
                            cancel.trigger();
                            work.await
                        }
                    },
                }
            };
            loan.returned().await;
            let finish: Finish = Box::new(move |py| match result {
                Ok(value) => finish(py, value),
                Err(error) => Err(exception(py, &error)),
            });
            finish
        });
        Op {
            state: Mutex::new(State::Ready(work)),
            sink: self.sink,
            cancel: self.cancel,
            latest: self.latest,
            progress: self.progress,
            lent: Mutex::new(lent),
            memory: Mutex::default(),
            failure: Mutex::default(),
        }
    }
}

impl Op {
    /// Has the library's threads begin the call.
    fn run(&self, py: Python<'_>, waits: Waits, reports_progress: bool) -> PyResult<()> {
        let runtime = blocking::runtime().map_err(|error| exception(py, &error))?;
        let mut state = lock(&self.state);
        let State::Ready(work) = std::mem::replace(&mut *state, State::Ended) else {
            return Err(PyRuntimeError::new_err("a call is made once"));
        };
        *lock(&self.sink.0) = waits;
        let sink = Arc::clone(&self.sink);
        let task = runtime.spawn(async move {
            let mut ends = Ends { sink, finish: None };
            let mut work = work;
            ends.finish = Some(loop {
                if !reports_progress {
                    break work.await;
                }
                match timeout(PROGRESS_EVERY, &mut work).await {
                    Ok(finish) => break finish,
                    Err(_) => ends.sink.send(Event::Progress),
                }
            });
        });
        *state = State::Running(Own::new(task));
        Ok(())
    }

    /// Makes `bytes` the result. The call fills it through memory that it was lent.
    pub(crate) fn keep(&self, bytes: Bound<'_, PyBytes>) {
        *lock(&self.memory) = Some(bytes.unbind());
    }

    /// Does what `event` asks for; the result, if that was the end.
    fn accept(&self, py: Python<'_>, event: Event) -> Option<PyResult<Py<PyAny>>> {
        match event {
            Event::Wanted(wanted) => {
                // Without a reply, the call ends.
                if let Err(error) = self.provide(py, wanted) {
                    self.fail(error);
                }
                None
            }
            Event::Progress => {
                self.report(py);
                None
            }
            Event::Ended(finish) => {
                *lock(&self.state) = State::Ended;
                lock(&self.lent).clear();
                self.report(py);
                let result = finish(py);
                let memory = lock(&self.memory).take();
                if let Some(failure) = lock(&self.failure).take() {
                    return Some(Err(failure));
                }
                Some(match (result, memory) {
                    (Ok(_), Some(bytes)) => Ok(bytes.into_any()),
                    (result, _) => result,
                })
            }
        }
    }

    fn provide(&self, py: Python<'_>, wanted: Wanted) -> PyResult<()> {
        if self.cancel.is_triggered() {
            return Ok(());
        }
        let (bytes, start) = new_bytes(py, wanted.length)?;
        // SAFETY: the object has no other owner yet, and is kept until the call has ended, when the
        // memory is unused.
        let memory = unsafe { wanted.lender.raw(start, wanted.length) };
        *lock(&self.memory) = Some(bytes.unbind());
        // The call may have been cancelled by now.
        wanted.reply.send(memory).ok();
        Ok(())
    }

    fn report(&self, py: Python<'_>) {
        if let Some(progress) = &self.progress
            && lock(&self.failure).is_none()
            && let Err(error) = self.latest.call(progress.bind(py))
        {
            self.fail(error);
        }
    }

    /// Ends the call, which then raises `error`.
    fn fail(&self, error: PyErr) {
        lock(&self.failure).get_or_insert(error);
        self.cancel.trigger();
    }
}

/// Whether signals are handled on this thread.
pub(crate) fn is_main(py: Python<'_>) -> PyResult<bool> {
    static ASK: PyOnceLock<(Py<PyAny>, Py<PyAny>)> = PyOnceLock::new();
    let (main, current) = ASK.get_or_try_init(py, || {
        let threading = py.import("threading")?;
        PyResult::Ok((
            threading.getattr("main_thread")?.unbind(),
            threading.getattr("get_ident")?.unbind(),
        ))
    })?;
    let main = main.bind(py).call0()?.getattr("ident")?;
    main.eq(current.bind(py).call0()?)
}

#[pymethods]
impl Op {
    /// Waits for the call, and returns its result.
    pub(crate) fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (sender, mut events): (_, UnboundedReceiver<Event>) = unbounded_channel();
        self.run(py, Waits::Thread(sender), self.progress.is_some())?;
        let runtime = blocking::runtime().map_err(|error| exception(py, &error))?;
        let mut looks = is_main(py)?;
        loop {
            let event = py.detach(|| {
                runtime.block_on(async {
                    if looks {
                        timeout(STEP, events.recv()).await.ok()
                    } else {
                        Some(events.recv().await)
                    }
                })
            });
            match event {
                Some(Some(event)) => {
                    if let Some(result) = self.accept(py, event) {
                        return result;
                    }
                }
                Some(None) => return Err(PyRuntimeError::new_err("the call was lost: a defect")),
                None => {}
            }
            if looks && let Err(error) = py.check_signals() {
                self.fail(error);
                // What comes now is its end.
                looks = false;
            }
        }
    }

    /// Begins the call; its events go to `bridge` under `token`.
    fn start(&self, py: Python<'_>, bridge: &Bridge, token: u64) -> PyResult<()> {
        self.run(
            py,
            Waits::Loop(Arc::clone(&bridge.queue), token),
            self.progress.is_some(),
        )
    }

    /// Ends the call, which still is to be waited for.
    fn cancel(&self) {
        self.cancel.trigger();
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        let State::Running(task) = std::mem::replace(&mut *lock(&self.state), State::Ended) else {
            return;
        };
        if Own::is_forked(&task) {
            return;
        }
        // Writers may have the buffers that go with this.
        self.cancel.trigger();
        let Ok(runtime) = blocking::runtime() else { return };
        Python::attach(|py| {
            py.detach(|| {
                runtime.block_on(async {
                    let mut task = task;
                    (&mut *task).await.ok();
                });
            });
        });
    }
}

/// Events on their way to an event loop.
struct Queue {
    events: Mutex<VecDeque<(u64, Event)>>,
    ready: EventFd,
}

impl Queue {
    fn push(&self, token: u64, event: Event) {
        lock(&self.events).push_back((token, event));
        self.signal();
    }

    fn pop(&self) -> Option<(u64, Event)> {
        lock(&self.events).pop_front()
    }

    fn signal(&self) {
        // It counts up, and could only be full after 2^64 - 1 of them.
        self.ready.write(1).ok();
    }
}

/// Between the library's threads and one event loop, whose thread alone uses it.
#[pyclass(frozen, module = "pget._pget")]
pub(crate) struct Bridge {
    queue: Arc<Queue>,
}

#[pymethods]
impl Bridge {
    #[new]
    fn new() -> PyResult<Self> {
        let ready = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let ready = ready.map_err(std::io::Error::from)?;
        Ok(Self {
            queue: Arc::new(Queue {
                events: Mutex::default(),
                ready,
            }),
        })
    }

    /// What becomes readable when there are events.
    fn fileno(&self) -> i32 {
        self.queue.ready.as_raw_fd()
    }

    /// Hands events to their calls, which `calls` has by token, for about a millisecond.
    ///
    /// Returns the tokens of those that are over, with a result or an exception. If events are
    /// left, the descriptor stays readable, so that a loop runs what else is due before the next.
    fn drain(
        &self,
        py: Python<'_>,
        calls: &Bound<'_, pyo3::types::PyDict>,
    ) -> PyResult<Vec<(u64, Py<PyAny>, bool)>> {
        let began = Instant::now();
        self.queue.ready.read().ok();
        let mut over = Vec::new();
        while let Some((token, event)) = self.queue.pop() {
            if began.elapsed() >= TURN || over.len() >= ENDS {
                lock(&self.queue.events).push_front((token, event));
                self.queue.signal();
                break;
            }
            let Some(op) = calls.get_item(token)? else {
                continue;
            };
            let op = op.cast::<Op>()?.get();
            match op.accept(py, event) {
                None => {}
                Some(Ok(value)) => over.push((token, value, true)),
                Some(Err(error)) => over.push((token, error.into_value(py).into_any(), false)),
            }
        }
        Ok(over)
    }
}

/// Waits for `work`, unless the waiter gives up first.
///
/// # Errors
/// Those of `work`; `Cancelled` if `stop` is triggered before it is done.
pub(crate) async fn unless_given_up<T>(
    stop: &Cancel,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        biased;
        done = work => done,
        () = stop.triggered() => Err(Error::new(ErrorKind::Cancelled, "", "the wait was given up")),
    }
}

/// The error of a read whose object does not say how long it is, where that must be known.
pub(crate) fn size_unknown() -> Error {
    Error::new(ErrorKind::Unsupported, "", "the server reports no size")
}
