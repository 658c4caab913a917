//! Readers: an object in order, by leases or by copies, for a thread or an event loop, with `seek`
//! under the pinned revision.
//!
//! Invariants: one call at a time is in a reader; a second one is refused. A call takes the state
//! out and puts it back, so an abandoned call loses no byte: the next one finds the bytes there.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use pget_rs::{Builder, Cancel, Error, ErrorKind, Monitor, ObjectInfo, Reader, blocking, fork::Own};
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    types::{PyBytes, PyDict},
};
use tokio::time::timeout;

use crate::{
    error::{exception, in_use},
    lease::{Lease, View},
    memory::{Lent, Loan, new_bytes},
    op::{Call, Op, STEP, is_main, object, size_unknown, unless_given_up},
    settings::{LatestProgress, Settings, object_info, stats},
};

struct State {
    /// `None` before the first read at a place that was sought.
    reader: Option<Reader>,
    /// What has come and was not taken.
    view: Option<View>,
    /// Bytes that were put back and follow `view`; empty without one.
    later: VecDeque<View>,
    /// The next byte to be taken, counted from the first that was asked for.
    position: u64,
    at_end: bool,
}

struct Shared {
    /// `None` while a call has it.
    state: Mutex<Option<State>>,
    builder: Builder,
    cancel: Cancel,
    monitor: Mutex<Monitor>,
    info: ObjectInfo,
    offset: u64,
    /// Bytes from the first that was asked for to the last, if that is known.
    total: Option<u64>,
    closed: AtomicBool,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn take(&self) -> PyResult<State> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(PyValueError::new_err("I/O operation on a closed reader"));
        }
        lock(&self.state).take().ok_or_else(|| in_use("reader"))
    }

    fn put(&self, state: State) {
        // A reader that was closed during the call ends here.
        if !self.closed.load(Ordering::SeqCst) {
            *lock(&self.state) = Some(state);
        }
    }

    /// A builder for what begins at `position`.
    fn at(&self, position: u64) -> Builder {
        let builder = self
            .builder
            .clone()
            .offset(self.offset + position)
            .pin(self.info.clone());
        match self.total {
            Some(total) => builder.length(total - position),
            None => builder,
        }
    }

    /// Opens the object again at the state's place.
    async fn reopen(&self, state: &mut State) -> Result<(), Error> {
        let reader = object(&self.at(state.position))?.reader().await?;
        *lock(&self.monitor) = reader.monitor();
        state.reader = Some(reader);
        Ok(())
    }

    /// Waits until there are bytes, or the end.
    async fn fill(&self, state: &mut State) -> Result<(), Error> {
        if state.view.is_some() || state.at_end {
            return Ok(());
        }
        if self.total.is_some_and(|total| state.position >= total) && state.reader.is_none() {
            state.at_end = true;
            return Ok(());
        }
        if state.reader.is_none() {
            self.reopen(state).await?;
        }
        let Some(reader) = &mut state.reader else {
            return Ok(());
        };
        let lease = reader.next().await?;
        state.came(lease);
        Ok(())
    }

    /// Fills `place`, which is not longer than what is left.
    async fn copy(&self, state: &mut State, place: &mut [u8]) -> Result<(), Error> {
        let mut filled = 0;
        while filled < place.len() {
            self.fill(state).await?;
            let Some(view) = state.take(place.len() - filled) else {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "",
                    "the object ended before its end",
                ));
            };
            place[filled..filled + view.len()].copy_from_slice(view.bytes());
            filled += view.len();
        }
        Ok(())
    }
}

impl State {
    fn came(&mut self, lease: Option<pget_rs::Lease>) {
        match lease {
            Some(lease) => self.view = Some(View::new(lease)),
            None => self.at_end = true,
        }
    }

    /// Takes up to `most` bytes of what is there.
    fn take(&mut self, most: usize) -> Option<View> {
        let view = self.view.as_mut()?;
        let taken = if most >= view.len() {
            let next = self.later.pop_front();
            std::mem::replace(&mut self.view, next)?
        } else {
            view.split_to(most)
        };
        self.position += taken.len() as u64;
        Some(taken)
    }

    /// Puts back what was taken last.
    fn put_back(&mut self, taken: Vec<View>) {
        self.position -= taken.iter().map(|view| view.len() as u64).sum::<u64>();
        let rest = self.view.take().into_iter().chain(self.later.drain(..));
        self.later = taken.into_iter().chain(rest).collect();
        self.view = self.later.pop_front();
    }
}

/// The state in the hands of one call; goes back when that ends.
struct Held {
    shared: Arc<Shared>,
    state: Option<State>,
}

impl Held {
    fn new(shared: &Arc<Shared>) -> PyResult<Self> {
        Ok(Self {
            state: Some(shared.take()?),
            shared: Arc::clone(shared),
        })
    }

    fn state(&mut self) -> PyResult<&mut State> {
        self.state
            .as_mut()
            .ok_or_else(|| PyRuntimeError::new_err("the reader lost its state: a defect"))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            self.shared.put(state);
        }
    }
}

/// The core of `pget.Reader`.
#[pyclass(frozen, module = "pget._pget")]
pub(crate) struct RawReader {
    shared: Own<Arc<Shared>>,
    latest: Arc<LatestProgress>,
    progress: Option<Py<PyAny>>,
}

impl RawReader {
    fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        Own::generation(&self.shared)
            .check("the reader")
            .map_err(|error| exception(py, &error))
    }

    fn held(&self, py: Python<'_>) -> PyResult<Held> {
        self.check_process(py)?;
        Held::new(&self.shared)
    }

    /// Waits on this thread until there are bytes, or the end. Looks at signals.
    fn fill(&self, py: Python<'_>, state: &mut State) -> PyResult<()> {
        if state.view.is_some() || state.at_end {
            return Ok(());
        }
        // Most of the time there is something.
        if let Some(reader) = &mut state.reader
            && let Poll::Ready(next) = reader.poll_lease(&mut Context::from_waker(Waker::noop()))
        {
            state.came(next.map_err(|error| exception(py, &error))?);
            return self.tell_progress(py);
        }
        let runtime = blocking::runtime().map_err(|error| exception(py, &error))?;
        let looks = is_main(py)?;
        let shared = &**self.shared;
        loop {
            let filled = py.detach(|| {
                let fill = shared.fill(state);
                if looks {
                    runtime.block_on(async { timeout(STEP, fill).await.ok() })
                } else {
                    Some(runtime.block_on(fill))
                }
            });
            if let Some(filled) = filled {
                filled.map_err(|error| exception(py, &error))?;
                return self.tell_progress(py);
            }
            py.check_signals()?;
        }
    }

    fn tell_progress(&self, py: Python<'_>) -> PyResult<()> {
        let Some(progress) = &self.progress else {
            return Ok(());
        };
        self.latest
            .call(progress.bind(py))
            .inspect_err(|_| self.shared.cancel.trigger())
    }
}

/// Opens the object, and waits for the first reply.
#[pyfunction]
pub(crate) fn open(url: &Bound<'_, PyAny>, options: &Bound<'_, PyDict>) -> PyResult<Op> {
    let mut settings = Settings::new(url, options)?;
    let (offset, progress) = (settings.offset, settings.progress.take());
    let (builder, latest) = match progress {
        Some(_) => LatestProgress::by(settings.builder),
        None => (settings.builder, Arc::default()),
    };
    settings.builder = builder;
    // The handle of the caller goes on to end the reader after this call.
    let user = settings.cancel.clone();
    let call = Call::new(settings);
    let (builder, cancel) = (call.builder.clone(), call.cancel.clone());
    let work = async move {
        let reader = object(&builder)?.reader().await?;
        let info = reader.info().await?;
        Ok((reader, info, builder))
    };
    Ok(call.op(
        Vec::new(),
        Loan::new(),
        work,
        move |py, (reader, info, builder)| {
            let shared = Arc::new(Shared {
                monitor: Mutex::new(reader.monitor()),
                total: reader.total(),
                state: Mutex::new(Some(State {
                    reader: Some(reader),
                    view: None,
                    later: VecDeque::new(),
                    position: 0,
                    at_end: false,
                })),
                builder,
                cancel,
                info,
                offset,
                closed: AtomicBool::new(false),
            });
            if let Some(user) = user {
                let weak = Arc::downgrade(&shared);
                let watch = async move {
                    user.triggered().await;
                    if let Some(shared) = weak.upgrade() {
                        shared.cancel.trigger();
                    }
                };
                blocking::runtime()
                    .map_err(|error| exception(py, &error))?
                    .spawn(watch);
            }
            let reader = RawReader {
                shared: Own::new(shared),
                latest,
                progress,
            };
            Ok(Py::new(py, reader)?.into_any())
        },
    ))
}

#[pymethods]
impl RawReader {
    /// The next bytes where the socket wrote them; `None` at the end.
    fn next(&self, py: Python<'_>) -> PyResult<Option<Lease>> {
        let mut held = self.held(py)?;
        let state = held.state()?;
        self.fill(py, state)?;
        Ok(state.take(usize::MAX).map(Lease::new))
    }

    /// Begins a wait until there are bytes, or the end, for `take`; the caller's loop waits.
    fn fill_op(&self, py: Python<'_>) -> PyResult<Op> {
        let mut held = self.held(py)?;
        let progress = self.progress.as_ref().map(|progress| progress.clone_ref(py));
        let call = Call::of_read(Arc::clone(&self.latest), progress);
        let stop = call.cancel.clone();
        let work = async move {
            let shared = Arc::clone(&held.shared);
            let Some(state) = &mut held.state else {
                return Ok(());
            };
            // If the waiter gives up, the read goes on.
            unless_given_up(&stop, shared.fill(state)).await
        };
        Ok(call.op(Vec::new(), Loan::new(), work, |py, ()| Ok(py.None())))
    }

    /// Begins a read of `size` bytes, less only at the end, into a `bytes` object; all of them for
    /// a negative `size`. The caller's loop waits.
    ///
    /// A wait that is given up leaves the reader somewhere in between: the caller seeks.
    fn read_op(&self, py: Python<'_>, size: i64) -> PyResult<Op> {
        let mut held = self.held(py)?;
        let total = self.shared.total.ok_or_else(|| exception(py, &size_unknown()))?;
        let left = total.saturating_sub(held.state()?.position);
        let length = usize::try_from(u64::try_from(size).map_or(left, |size| size.min(left)))?;
        let progress = self.progress.as_ref().map(|progress| progress.clone_ref(py));
        let call = Call::of_read(Arc::clone(&self.latest), progress);
        let stop = call.cancel.clone();
        let (loan, (bytes, start)) = (Loan::new(), new_bytes(py, length)?);
        // SAFETY: the object has no other owner yet, and is kept until the call has ended, when the
        // memory is unused.
        let mut memory = unsafe { loan.lender().raw(start, length) };
        let work = async move {
            let shared = Arc::clone(&held.shared);
            let Some(state) = &mut held.state else {
                return Ok(());
            };
            unless_given_up(&stop, shared.copy(state, memory.as_mut())).await
        };
        let op = call.op(Vec::new(), loan, work, |py, ()| Ok(py.None()));
        op.keep(bytes);
        Ok(op)
    }

    /// Puts back what was taken last, in its order.
    fn put_back(&self, py: Python<'_>, taken: Vec<Py<Lease>>) -> PyResult<()> {
        let views: Option<Vec<View>> = taken.iter().map(|lease| lease.get().to_view()).collect();
        let views = views.ok_or_else(|| PyValueError::new_err("a lease was released"))?;
        self.held(py)?.state()?.put_back(views);
        Ok(())
    }

    /// Returns up to `most` bytes that are there, where the socket wrote them; `None` if there are
    /// none.
    #[pyo3(signature = (most=None))]
    fn take(&self, py: Python<'_>, most: Option<usize>) -> PyResult<Option<Lease>> {
        let mut held = self.held(py)?;
        Ok(held.state()?.take(most.unwrap_or(usize::MAX)).map(Lease::new))
    }

    /// Up to `size` bytes, less only at the end; all of them for a negative one.
    fn read(&self, py: Python<'_>, size: i64) -> PyResult<Py<PyBytes>> {
        let mut held = self.held(py)?;
        let state = held.state()?;
        let known = self
            .shared
            .total
            .map(|total| total.saturating_sub(state.position));
        let wanted = match (u64::try_from(size), known) {
            (Ok(size), Some(known)) => size.min(known),
            (Ok(size), None) => return self.gather(py, state, size),
            (Err(_), Some(known)) => known,
            (Err(_), None) => return self.gather(py, state, u64::MAX),
        };
        let length = usize::try_from(wanted)?;
        let (bytes, start) = new_bytes(py, length)?;
        if length == 0 {
            return Ok(bytes.unbind());
        }
        // SAFETY: `length` bytes of an object that has no other owner yet.
        let place = unsafe { std::slice::from_raw_parts_mut(start, length) };
        let filled = self.fill_place(py, state, place, true)?;
        if filled < place.len() {
            return Ok(PyBytes::new(py, &place[..filled]).unbind());
        }
        Ok(bytes.unbind())
    }

    /// Up to `size` bytes as they are there; waits for the first only.
    fn read1(&self, py: Python<'_>, size: i64) -> PyResult<Py<PyBytes>> {
        let mut held = self.held(py)?;
        let state = held.state()?;
        if size == 0 {
            return Ok(PyBytes::new(py, &[]).unbind());
        }
        self.fill(py, state)?;
        let most = usize::try_from(size).unwrap_or(usize::MAX);
        let view = state.take(most);
        Ok(PyBytes::new(py, view.as_ref().map_or(&[], |view| view.bytes())).unbind())
    }

    /// Fills `buffer`, or as much of it as there is to the end.
    ///
    /// With `once`, waits for the first bytes only.
    fn readinto(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>, once: bool) -> PyResult<usize> {
        let lent = Lent::new(buffer)?;
        let mut held = self.held(py)?;
        let state = held.state()?;
        // SAFETY: only this call writes to it. It runs no Python code except signal handlers and
        // the progress function, which must not touch the buffer, as with any `readinto`.
        let place = unsafe { lent.bytes() };
        self.fill_place(py, state, place, !once)
    }

    /// A copy of what is there, not taken; waits for the first bytes.
    fn peek(&self, py: Python<'_>) -> PyResult<Py<PyBytes>> {
        let mut held = self.held(py)?;
        let state = held.state()?;
        self.fill(py, state)?;
        Ok(PyBytes::new(py, state.view.as_ref().map_or(&[], |view| view.bytes())).unbind())
    }

    /// Goes to `position`, from the first byte that was asked for.
    fn seek(&self, py: Python<'_>, position: u64) -> PyResult<()> {
        let mut held = self.held(py)?;
        let state = held.state()?;
        let Some(ahead) = position.checked_sub(state.position) else {
            state.go_to(position);
            return Ok(());
        };
        let there = state.view.as_ref().map_or(0, View::len) as u64;
        if ahead <= there {
            state.take(usize::try_from(ahead).unwrap_or(usize::MAX));
        } else {
            state.go_to(position);
        }
        Ok(())
    }

    /// The next byte to be read, from the first that was asked for.
    fn tell(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.held(py)?.state()?.position)
    }

    /// Whether there is a revision to seek under, and an end to seek from.
    fn seekable(&self) -> bool {
        self.shared.total.is_some() && self.shared.info.revision.is_identity()
    }

    #[getter]
    fn total(&self) -> Option<u64> {
        self.shared.total
    }

    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        object_info(py, &self.shared.info)
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.check_process(py)?;
        let latest = py.detach(|| lock(&self.shared.monitor).stats());
        stats(py, &latest)
    }

    /// Ends the download; calls that wait, and later ones, raise `CancelledError`.
    fn cancel(&self, py: Python<'_>) {
        if !Own::is_forked(&self.shared) {
            py.detach(|| self.shared.cancel.trigger());
        }
    }

    /// Ends the download, and releases its memory. A call that waits raises `CancelledError`.
    fn close(&self, py: Python<'_>) {
        if Own::is_forked(&self.shared) || self.shared.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        py.detach(|| {
            let state = lock(&self.shared.state).take();
            drop(state);
            self.shared.cancel.trigger();
        });
    }
}

impl State {
    /// What is there is of another place.
    fn go_to(&mut self, position: u64) {
        self.reader = None;
        self.view = None;
        self.later.clear();
        self.at_end = false;
        self.position = position;
    }
}

impl RawReader {
    /// Fills `place`: all of it, or with what comes first. Returns how much there was.
    fn fill_place(&self, py: Python<'_>, state: &mut State, place: &mut [u8], all: bool) -> PyResult<usize> {
        let mut filled = 0;
        while filled < place.len() && (all || filled == 0) {
            self.fill(py, state)?;
            let Some(view) = state.take(place.len() - filled) else {
                break;
            };
            let to = &mut place[filled..filled + view.len()];
            if view.len() < 64 << 10 {
                to.copy_from_slice(view.bytes());
            } else {
                py.detach(|| to.copy_from_slice(view.bytes()));
            }
            filled += view.len();
        }
        Ok(filled)
    }

    /// Up to `most` bytes of an object whose length is not known.
    fn gather(&self, py: Python<'_>, state: &mut State, most: u64) -> PyResult<Py<PyBytes>> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < most {
            self.fill(py, state)?;
            let left = usize::try_from(most - bytes.len() as u64).unwrap_or(usize::MAX);
            let Some(view) = state.take(left) else { break };
            bytes.extend_from_slice(view.bytes());
        }
        Ok(PyBytes::new(py, &bytes).unbind())
    }
}
