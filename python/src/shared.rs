//! Shared memory that an object is read into, and that other processes attach to.

use std::{
    ffi::c_int,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use pget_rs::{Builder, Error, ErrorKind, Placement, SharedDownload, shm::State};
use pyo3::{
    exceptions::{PyBufferError, PyTypeError, PyValueError},
    ffi,
    prelude::*,
    types::{PyDict, PyMemoryView},
};

use crate::{
    error::{exception, in_use},
    lease::export,
    memory::Loan,
    op::{Call, Op, STEP, is_main, object},
    settings::Settings,
};

enum Content {
    Buffer(pget_rs::SharedBuffer),
    /// Closing it ends the download.
    Arriving(SharedDownload),
}

impl Content {
    const fn buffer(&self) -> &pget_rs::SharedBuffer {
        match self {
            Self::Buffer(buffer) => buffer,
            Self::Arriving(download) => download.buffer(),
        }
    }
}

/// An object in shared memory, whole or arriving; a read-only buffer of the bytes that are there.
#[pyclass(frozen, module = "pget")]
pub(crate) struct SharedBuffer {
    content: Mutex<Option<Arc<Content>>>,
    /// Views exported now. Counted under the lock.
    exported: AtomicUsize,
    closed: Arc<AtomicBool>,
    name: String,
    length: usize,
    revision: String,
}

impl SharedBuffer {
    fn new(content: Content) -> Self {
        let buffer = content.buffer();
        Self {
            name: buffer.name().to_owned(),
            length: buffer.len(),
            revision: buffer.revision().to_owned(),
            content: Mutex::new(Some(Arc::new(content))),
            exported: AtomicUsize::new(0),
            closed: Arc::default(),
        }
    }

    fn content(&self) -> MutexGuard<'_, Option<Arc<Content>>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> PyResult<Arc<Content>> {
        self.content()
            .clone()
            .ok_or_else(|| PyValueError::new_err("the shared memory is closed"))
    }

    /// Takes it for another object.
    fn give_up(&self) -> PyResult<pget_rs::SharedBuffer> {
        let mut content = self.content();
        if self.exported.load(Ordering::Relaxed) > 0 {
            return Err(PyBufferError::new_err("views of the shared memory are exported"));
        }
        let Some(owned) = content.take() else {
            return Err(PyValueError::new_err("the shared memory is closed"));
        };
        match Arc::try_unwrap(owned) {
            Ok(Content::Buffer(buffer)) => Ok(buffer),
            Ok(Content::Arriving(download)) => Ok(download.into_buffer()),
            Err(owned) => {
                *content = Some(owned);
                Err(in_use("shared memory"))
            }
        }
    }
}

async fn begin(builder: &Builder, placement: Placement) -> Result<SharedDownload, Error> {
    object(builder)?.get_shared(placement).await
}

/// Reads the object into shared memory, in the background; returns when its length is known.
#[pyfunction]
pub(crate) fn get_shared(
    url: &Bound<'_, PyAny>,
    name: Option<String>,
    reuse: Option<&Bound<'_, SharedBuffer>>,
    options: &Bound<'_, PyDict>,
) -> PyResult<Op> {
    let settings = Settings::new(url, options)?;
    if settings.progress.is_some() {
        return Err(PyTypeError::new_err(
            "get_shared reads in the background and reports no progress",
        ));
    }
    let placement = match (name, reuse) {
        (Some(_), Some(_)) => {
            return Err(PyTypeError::new_err(
                "a name and memory to reuse exclude each other",
            ));
        }
        (Some(name), None) => Placement::Named(name),
        (None, Some(shared)) => Placement::Reuse(shared.get().give_up()?),
        (None, None) => Placement::Anonymous,
    };
    // The download outlives the call, so it has the caller's handle and not the call's.
    let user = settings.cancel.clone();
    let call = Call::new(settings);
    let builder = match &user {
        Some(user) => call.builder.clone().cancel(user.clone()),
        None => call.builder.clone(),
    };
    let stop = call.cancel.clone();
    let work = async move {
        tokio::select! {
            biased;
            begun = begin(&builder, placement) => begun,
            () = stop.triggered() => Err(Error::new(ErrorKind::Cancelled, "", "")),
        }
    };
    Ok(call.op(Vec::new(), Loan::new(), work, |py, download| {
        let shared = SharedBuffer::new(Content::Arriving(download));
        Ok(Py::new(py, shared)?.into_any())
    }))
}

#[pymethods]
impl SharedBuffer {
    /// Attaches to shared memory that a process of the same user has made, also while it is filled.
    #[staticmethod]
    fn attach(py: Python<'_>, name: &str) -> PyResult<Self> {
        let buffer = py.detach(|| pget_rs::SharedBuffer::attach(name));
        let buffer = buffer.map_err(|error| exception(py, &error))?;
        Ok(Self::new(Content::Buffer(buffer)))
    }

    /// What other processes attach by.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Which content of the object it is, for people.
    #[getter]
    fn revision(&self) -> &str {
        &self.revision
    }

    /// Bytes of the object, there or not.
    fn __len__(&self) -> usize {
        self.length
    }

    /// How many bytes are there, from the first on.
    #[getter]
    fn available(&self) -> PyResult<usize> {
        Ok(self.open()?.buffer().as_slice().len())
    }

    /// `"filling"`, `"complete"` or `"failed"`.
    #[getter]
    fn state(&self) -> PyResult<&'static str> {
        Ok(match self.open()?.buffer().state() {
            State::Filling => "filling",
            State::Complete => "complete",
            _ => "failed",
        })
    }

    /// Waits until the first `upto` bytes are there (all of them for `None`).
    ///
    /// Returns a view of the bytes that are there.
    ///
    /// Raises what ended the download, if it has; `TimedOutError` after `timeout` seconds.
    #[pyo3(signature = (upto=None, timeout=None))]
    fn wait<'py>(
        slf: &Bound<'py, Self>,
        upto: Option<usize>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyMemoryView>> {
        let (py, this) = (slf.py(), slf.get());
        let content = this.open()?;
        let upto = upto.unwrap_or(this.length);
        let deadline = match timeout {
            None => None,
            Some(seconds) => {
                let time = Duration::try_from_secs_f64(seconds)
                    .map_err(|_| PyValueError::new_err("timeout must be 0 or more seconds"))?;
                Instant::now().checked_add(time)
            }
        };
        let looks = is_main(py)?;
        loop {
            let step = Instant::now() + if looks { STEP } else { Duration::from_millis(250) };
            let until = deadline.map_or(step, |deadline| deadline.min(step));
            let waited = py.detach(|| {
                let stop = || this.closed.load(Ordering::Relaxed);
                content.buffer().wait_unless(upto, Some(until), &stop).map(drop)
            });
            match waited {
                Ok(()) => return PyMemoryView::from(slf.as_any()),
                Err(error)
                    if error.kind() == ErrorKind::Timeout
                        && deadline.is_none_or(|deadline| Instant::now() < deadline) => {}
                Err(error) => return Err(exception(py, &error)),
            }
            py.check_signals()?;
        }
    }

    /// Lets go of it; where it was made, its name goes, and a download that fills it ends.
    ///
    /// Raises `BufferError` while a view of it is exported.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let mut content = self.content();
        match self.exported.load(Ordering::Relaxed) {
            0 => {
                self.closed.store(true, Ordering::Relaxed);
                let last = content.take();
                drop(content);
                py.detach(|| {
                    if let Some(content) = last {
                        content.buffer().wake();
                    }
                });
                Ok(())
            }
            count => Err(PyBufferError::new_err(format!(
                "{count} views of the shared memory are exported"
            ))),
        }
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        format!("<pget.SharedBuffer {:?}: {} bytes>", self.name, self.length)
    }

    /// # Safety
    /// Called by Python only, with a place for a view.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, place: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let held = this.content();
        let Some(content) = &*held else {
            return Err(PyBufferError::new_err("the shared memory is closed"));
        };
        let there = content.buffer().as_slice();
        // SAFETY: these bytes never change, and the memory stays while a view is exported.
        unsafe { export(slf.as_any(), place, there.as_ptr(), there.len(), flags)? };
        this.exported.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// # Safety
    /// Called by Python only, for a view that `__getbuffer__` filled.
    unsafe fn __releasebuffer__(&self, _place: *mut ffi::Py_buffer) {
        let _held = self.content();
        self.exported.fetch_sub(1, Ordering::Relaxed);
    }
}
