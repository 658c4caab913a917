//! Many ranges of one object, each into its own buffer, handed on as it is complete.
//!
//! Invariant: the buffers are exported until no writer has any of them. [`RawRanges`] holds them,
//! and waits for that when it is closed or dropped.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pget_rs::{Cancel, Ranges, blocking, fork::Own};
use pyo3::{
    exceptions::{PyBufferError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyDict, PyList, PyMemoryView},
};

use crate::{
    error::{exception, in_use},
    memory::{Lent, Loan, Raw, new_bytearray, refuse_overlap},
    op::{Call, Op, object, unless_given_up},
    settings::{LatestProgress, Settings},
};

/// The core of `read_ranges` and `iter_ranges`.
#[pyclass(frozen, module = "pget._pget")]
pub(crate) struct RawRanges {
    running: Own<Arc<Running>>,
    /// The caller's buffers, or those that were made for it, by range.
    views: Vec<Py<PyAny>>,
    latest: Arc<LatestProgress>,
    progress: Option<Py<PyAny>>,
}

struct Running {
    ranges: Mutex<Option<Ranges<Raw>>>,
    cancel: Cancel,
    ended: Mutex<Option<(Vec<Lent>, Loan)>>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The ranges while a call waits for the next of them; they go back when that ends.
struct Held {
    running: Arc<Running>,
    ranges: Option<Ranges<Raw>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        *lock(&self.running.ranges) = self.ranges.take();
    }
}

/// Begins the reads; sends nothing if an argument cannot be used.
#[pyfunction]
pub(crate) fn read_ranges(
    py: Python<'_>,
    url: &Bound<'_, PyAny>,
    ranges: Vec<(u64, u64)>,
    into: Option<Vec<Bound<'_, PyAny>>>,
    options: &Bound<'_, PyDict>,
) -> PyResult<RawRanges> {
    let mut settings = Settings::new(url, options)?;
    let (progress, user) = (settings.progress.take(), settings.cancel.clone());
    let (builder, latest) = match progress {
        Some(_) => LatestProgress::by(settings.builder),
        None => (settings.builder, Arc::default()),
    };
    settings.builder = builder;
    let made = into.is_none();
    let buffers = match into {
        Some(buffers) if buffers.len() != ranges.len() => {
            let message = format!("{} buffers for {} ranges", buffers.len(), ranges.len());
            return Err(PyTypeError::new_err(message));
        }
        Some(buffers) => buffers,
        None => ranges
            .iter()
            .map(|&(start, end)| new_bytearray(py, usize::try_from(end.saturating_sub(start))?))
            .collect::<PyResult<_>>()?,
    };
    let lent: Vec<Lent> = buffers.iter().map(Lent::new).collect::<PyResult<_>>()?;
    refuse_overlap(&lent)?;
    let loan = Loan::new();
    let mut wanted: Vec<(Range<u64>, Raw)> = Vec::with_capacity(ranges.len());
    let mut views = Vec::with_capacity(ranges.len());
    for (index, ((start, end), (buffer, place))) in
        ranges.into_iter().zip(lent.iter().zip(&buffers)).enumerate()
    {
        let Some(length) = end.checked_sub(start) else {
            return Err(PyValueError::new_err(format!(
                "range {index} from {start} to {end}"
            )));
        };
        let capacity = buffer.len() as u64;
        if !made && capacity < length {
            let message = format!("range {index} has {length} bytes, its buffer {capacity}");
            return Err(PyBufferError::new_err(message));
        }
        wanted.push((start..end, buffer.raw(&loan)));
        let view = PyMemoryView::from(place)?.call_method1("cast", ("B",))?;
        let view = view.get_item(pyo3::types::PySlice::new(py, 0, isize::try_from(length)?, 1))?;
        views.push(view.unbind());
    }
    let call = Call::new(settings);
    let runtime = blocking::runtime().map_err(|error| exception(py, &error))?;
    let begun = py.detach(|| {
        let _entered = runtime.enter();
        object(&call.builder)?.read_ranges(wanted)
    });
    let ranges = begun.map_err(|error| exception(py, &error))?;
    let running = Arc::new(Running {
        ranges: Mutex::new(Some(ranges)),
        cancel: call.cancel.clone(),
        ended: Mutex::new(Some((lent, loan))),
    });
    if let Some(user) = user {
        let cancel = call.cancel.clone();
        let weak = Arc::downgrade(&running);
        runtime.spawn(async move {
            user.triggered().await;
            if weak.strong_count() > 0 {
                cancel.trigger();
            }
        });
    }
    Ok(RawRanges {
        running: Own::new(running),
        views,
        latest,
        progress,
    })
}

#[pymethods]
impl RawRanges {
    /// Begins a wait for the next complete range: its place in the list, `None` after the last one.
    fn next_op(&self, py: Python<'_>) -> PyResult<Op> {
        Own::generation(&self.running)
            .check("the read of many ranges")
            .map_err(|error| exception(py, &error))?;
        let running = Arc::clone(&self.running);
        let ranges = lock(&running.ranges)
            .take()
            .ok_or_else(|| in_use("read of many ranges"))?;
        let mut held = Held {
            running,
            ranges: Some(ranges),
        };
        let progress = self.progress.as_ref().map(|progress| progress.clone_ref(py));
        let call = Call::of_read(Arc::clone(&self.latest), progress);
        let stop = call.cancel.clone();
        let work = async move {
            let Some(ranges) = &mut held.ranges else {
                return Ok(None);
            };
            // If the waiter gives up, the read ends with its `close`.
            let next = unless_given_up(&stop, ranges.next()).await?;
            Ok(next.map(|(index, _)| index))
        };
        Ok(call.op(Vec::new(), Loan::new(), work, |py, index| {
            Ok(index.into_pyobject(py)?.into_any().unbind())
        }))
    }

    /// The memory of range `index`.
    fn view(&self, py: Python<'_>, index: usize) -> PyResult<Py<PyAny>> {
        let view = self
            .views
            .get(index)
            .ok_or_else(|| PyValueError::new_err("no such range"))?;
        Ok(view.clone_ref(py))
    }

    /// All of them.
    fn views<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.views.iter().map(|view| view.clone_ref(py)))
    }

    /// Ends the read if it has not ended, and waits until nothing writes to the buffers.
    fn close(&self, py: Python<'_>) {
        if Own::is_forked(&self.running) {
            return;
        }
        self.end(py);
    }
}

impl RawRanges {
    fn end(&self, py: Python<'_>) {
        let Some((lent, loan)) = lock(&self.running.ended).take() else {
            return;
        };
        let running = &**self.running;
        py.detach(|| {
            running.cancel.trigger();
            let ranges = lock(&running.ranges).take();
            drop(ranges);
            if let Ok(runtime) = blocking::runtime() {
                runtime.block_on(loan.returned());
            }
        });
        drop(lent);
    }
}

impl Drop for RawRanges {
    fn drop(&mut self) {
        if !Own::is_forked(&self.running) {
            Python::attach(|py| self.end(py));
        }
    }
}
