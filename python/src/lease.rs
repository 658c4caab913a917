//! Leases: memory that the socket wrote, shown to Python without a copy.
//!
//! Invariant: the bytes of an exported lease neither move nor change. The buffer's exporter is the
//! lease, which `release` refuses to drop while a view is exported.

use std::{
    ffi::c_int,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use pyo3::{
    exceptions::{PyBufferError, PyValueError},
    ffi,
    prelude::*,
    types::PyBytes,
};

/// A part of a lease of the library's.
#[derive(Clone)]
pub(crate) struct View {
    lease: Arc<pget_rs::Lease>,
    start: usize,
    end: usize,
}

impl View {
    pub(crate) fn new(lease: pget_rs::Lease) -> Self {
        Self {
            start: 0,
            end: lease.len(),
            lease: Arc::new(lease),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.lease[self.start..self.end]
    }

    pub(crate) const fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn offset(&self) -> u64 {
        self.lease.offset() + self.start as u64
    }

    /// Takes the first `count` bytes off.
    pub(crate) fn split_to(&mut self, count: usize) -> Self {
        let at = (self.start + count).min(self.end);
        let first = Self {
            end: at,
            ..self.clone()
        };
        self.start = at;
        first
    }
}

/// Bytes of an object, in the memory that the socket wrote: a read-only buffer.
#[pyclass(frozen, module = "pget")]
pub(crate) struct Lease {
    view: Mutex<Option<View>>,
    /// Views exported now. Counted under the lock.
    exported: AtomicUsize,
    offset: u64,
    length: usize,
}

impl Lease {
    pub(crate) fn new(view: View) -> Self {
        Self {
            offset: view.offset(),
            length: view.len(),
            view: Mutex::new(Some(view)),
            exported: AtomicUsize::new(0),
        }
    }

    /// The same bytes again; `None` after `release`.
    pub(crate) fn to_view(&self) -> Option<View> {
        self.view().clone()
    }

    fn view(&self) -> std::sync::MutexGuard<'_, Option<View>> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Lease {
    /// Where in the object its first byte stands.
    #[getter]
    const fn offset(&self) -> u64 {
        self.offset
    }

    fn __len__(&self) -> usize {
        self.length
    }

    /// A copy.
    fn bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        match &*self.view() {
            Some(view) => Ok(PyBytes::new(py, view.bytes())),
            None => Err(PyValueError::new_err("the lease was released")),
        }
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.bytes(py)
    }

    /// Gives the memory back for reuse, as the end of the last reference would.
    ///
    /// Raises `BufferError` while a view of it is exported.
    fn release(&self) -> PyResult<()> {
        let mut view = self.view();
        match self.exported.load(Ordering::Relaxed) {
            0 => {
                view.take();
                Ok(())
            }
            count => Err(PyBufferError::new_err(format!(
                "{count} views of the lease are exported"
            ))),
        }
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.release()
    }

    fn __repr__(&self) -> String {
        format!("<pget.Lease: {} bytes at {}>", self.length, self.offset)
    }

    /// # Safety
    /// Called by Python only, with a place for a view.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, place: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let held = this.view();
        let Some(view) = &*held else {
            return Err(PyBufferError::new_err("the lease was released"));
        };
        let bytes = view.bytes();
        // SAFETY: the bytes neither change nor move while the view is exported (module's head).
        unsafe { export(slf.as_any(), place, bytes.as_ptr(), bytes.len(), flags)? };
        this.exported.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// # Safety
    /// Called by Python only, for a view that `__getbuffer__` filled.
    unsafe fn __releasebuffer__(&self, _place: *mut ffi::Py_buffer) {
        let _held = self.view();
        self.exported.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Fills `place` with a read-only view of `length` bytes at `start`, kept by `owner`.
///
/// # Safety
/// `place` is null or a place for a view; the bytes stay as they are until the view is released.
pub(crate) unsafe fn export(
    owner: &Bound<'_, PyAny>,
    place: *mut ffi::Py_buffer,
    start: *const u8,
    length: usize,
    flags: c_int,
) -> PyResult<()> {
    if place.is_null() {
        return Err(PyBufferError::new_err("there is no place for a view"));
    }
    let length = isize::try_from(length).map_err(|_| PyBufferError::new_err("the memory is too long"))?;
    // SAFETY: the place is not null, the owner is alive, and the caller promises the bytes.
    let status =
        unsafe { ffi::PyBuffer_FillInfo(place, owner.as_ptr(), start.cast_mut().cast(), length, 1, flags) };
    if status == 0 {
        Ok(())
    } else {
        Err(PyErr::fetch(owner.py()))
    }
}
