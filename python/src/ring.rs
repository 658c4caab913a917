//! Rings: a stream of objects through shared memory of fixed size, to one other process.
//!
//! Invariant: the next call of a ring's reader releases the bytes that it has lent; the call is
//! refused while a view of them is exported.

use std::{
    ffi::c_int,
    sync::{
        Arc, Mutex, MutexGuard, TryLockError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use pget_rs::{Error, ErrorKind, shm};
use pyo3::{
    exceptions::{PyBufferError, PyValueError},
    ffi,
    prelude::*,
    types::{PyDict, PyTuple},
};

use crate::{
    error::{exception, in_use},
    lease::export,
    memory::Loan,
    op::{Call, Op, STEP},
    settings::{Settings, stats},
};

fn enter<T>(of: &Mutex<T>) -> PyResult<MutexGuard<'_, T>> {
    match of.try_lock() {
        Ok(held) => Ok(held),
        Err(TryLockError::WouldBlock) => Err(in_use("ring")),
        Err(TryLockError::Poisoned(held)) => Ok(held.into_inner()),
    }
}

/// Makes a ring, and puts objects into it.
#[pyclass(frozen, module = "pget")]
pub(crate) struct RingWriter {
    ring: Arc<Mutex<Option<shm::RingWriter>>>,
    name: String,
}

#[pymethods]
impl RingWriter {
    /// A ring of at least `capacity` bytes, under a name that is free, or without one.
    #[new]
    #[pyo3(signature = (capacity, name=None))]
    fn new(py: Python<'_>, capacity: usize, name: Option<&str>) -> PyResult<Self> {
        let ring = shm::RingWriter::create(name, capacity).map_err(|error| exception(py, &error))?;
        Ok(Self {
            name: ring.name().to_owned(),
            ring: Arc::new(Mutex::new(Some(ring))),
        })
    }

    /// What its reader attaches by.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Closes the ring: its reader hears that no more objects come.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let ring = enter(&self.ring)?.take();
        py.detach(|| drop(ring));
        Ok(())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        format!("<pget.RingWriter {:?}>", self.name)
    }
}

/// Puts the object into the ring, as its next one; returns when the reader has taken all of it.
#[pyfunction]
pub(crate) fn put_into_ring(
    url: &Bound<'_, PyAny>,
    ring: &Bound<'_, RingWriter>,
    options: &Bound<'_, PyDict>,
) -> PyResult<Op> {
    let call = Call::new(Settings::new(url, options)?);
    let (builder, ring) = (call.builder.clone(), Arc::clone(&ring.get().ring));
    let work = async move {
        let put = tokio::task::spawn_blocking(move || {
            let refused = |what: &str| Err(Error::new(ErrorKind::InvalidArgument, "", what));
            let mut ring = match ring.try_lock() {
                Ok(ring) => ring,
                Err(TryLockError::Poisoned(ring)) => ring.into_inner(),
                Err(TryLockError::WouldBlock) => return refused("the ring is in use by another thread"),
            };
            match &mut *ring {
                Some(ring) => builder.blocking()?.put_into_ring(ring),
                None => refused("the ring is closed"),
            }
        });
        put.await.unwrap_or_else(|cause| {
            Err(Error::with_cause(
                ErrorKind::Internal,
                "",
                "the put panicked",
                cause,
            ))
        })
    };
    Ok(call.op(Vec::new(), Loan::new(), work, |py, done| {
        Ok(stats(py, &done)?.unbind())
    }))
}

struct Taken {
    ring: shm::RingReader,
    /// Counts the calls: what an earlier one lent has gone back.
    calls: u64,
}

/// Reads the objects that another process puts into a ring.
#[pyclass(frozen, module = "pget")]
pub(crate) struct RingReader {
    ring: Mutex<Option<Taken>>,
    /// Views of what was lent last.
    exported: AtomicUsize,
    name: String,
}

/// Bytes that a ring's reader has lent, until its next call: a read-only buffer.
#[pyclass(frozen, module = "pget")]
pub(crate) struct RingView {
    reader: Py<RingReader>,
    call: u64,
    start: usize,
    length: usize,
}

impl RingReader {
    fn wait<T>(
        &self,
        py: Python<'_>,
        time: Option<f64>,
        once: impl Fn(&mut Taken, Instant) -> Result<T, Error> + Sync,
    ) -> PyResult<T>
    where
        T: Send,
    {
        let mut held = enter(&self.ring)?;
        if self.exported.load(Ordering::SeqCst) > 0 {
            return Err(PyBufferError::new_err("a view of the bytes before is exported"));
        }
        let Some(taken) = &mut *held else {
            return Err(PyValueError::new_err("the ring is closed"));
        };
        taken.calls += 1;
        let deadline = match time {
            None => None,
            Some(seconds) => Duration::try_from_secs_f64(seconds)
                .map(|time| Instant::now().checked_add(time))
                .map_err(|_| PyValueError::new_err("timeout must be 0 or more seconds"))?,
        };
        loop {
            let step = Instant::now() + STEP;
            let until = deadline.map_or(step, |deadline| deadline.min(step));
            match py.detach(|| once(&mut *taken, until)) {
                Ok(value) => return Ok(value),
                Err(error)
                    if error.kind() == ErrorKind::Timeout
                        && deadline.is_none_or(|deadline| Instant::now() < deadline) => {}
                Err(error) => return Err(exception(py, &error)),
            }
            py.check_signals()?;
        }
    }
}

#[pymethods]
impl RingReader {
    /// Attaches to the ring of that name as its one reader.
    #[new]
    fn new(py: Python<'_>, name: &str) -> PyResult<Self> {
        let ring = py
            .detach(|| shm::RingReader::attach(name))
            .map_err(|error| exception(py, &error))?;
        Ok(Self {
            ring: Mutex::new(Some(Taken { ring, calls: 0 })),
            exported: AtomicUsize::new(0),
            name: name.to_owned(),
        })
    }

    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Waits for the next object: its revision and its size (`None` if that is not known).
    ///
    /// Returns `None` if no more come.
    #[pyo3(signature = (timeout=None))]
    fn next_object<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let object = self.wait(py, timeout, |taken, until| {
            taken.ring.next_object_unless(Some(until), &|| false)
        })?;
        object
            .map(|object| (object.revision, object.size).into_pyobject(py))
            .transpose()
    }

    /// Waits for the next bytes of the object, and lends them until the next call; `None` at its
    /// end.
    #[pyo3(signature = (timeout=None))]
    fn next_bytes(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Option<RingView>> {
        let lent = slf.get().wait(slf.py(), timeout, |taken, until| {
            let call = taken.calls;
            let bytes = taken.ring.next_bytes_unless(Some(until), &|| false)?;
            Ok(bytes.map(|bytes| (call, bytes.as_ptr() as usize, bytes.len())))
        })?;
        Ok(lent.map(|(call, start, length)| RingView {
            reader: slf.clone().unbind(),
            call,
            start,
            length,
        }))
    }

    /// Lets go of the ring; its writer hears of it.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let mut held = enter(&self.ring)?;
        if self.exported.load(Ordering::SeqCst) > 0 {
            return Err(PyBufferError::new_err("a view of the ring's bytes is exported"));
        }
        let ring = held.take();
        drop(held);
        py.detach(|| drop(ring));
        Ok(())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        format!("<pget.RingReader {:?}>", self.name)
    }
}

#[pymethods]
impl RingView {
    const fn __len__(&self) -> usize {
        self.length
    }

    /// # Safety
    /// Called by Python only, with a place for a view.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, place: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let reader = this.reader.get();
        let held = enter(&reader.ring)?;
        if held.as_ref().is_none_or(|taken| taken.calls != this.call) {
            return Err(PyBufferError::new_err("these bytes have gone back to the ring"));
        }
        // SAFETY: the ring lends them until the next call of its reader, which is refused while a
        // view is exported.
        unsafe { export(slf.as_any(), place, this.start as *const u8, this.length, flags)? };
        reader.exported.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// # Safety
    /// Called by Python only, for a view that `__getbuffer__` filled.
    unsafe fn __releasebuffer__(&self, _place: *mut ffi::Py_buffer) {
        self.reader.get().exported.fetch_sub(1, Ordering::SeqCst);
    }
}
