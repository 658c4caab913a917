//! Python's buffers in the hands of the library.
//!
//! Invariants:
//! - a buffer is exported as long as its [`Lent`] lives, so that Python neither frees nor moves it;
//! - writers have a [`Raw`], which is only an address;
//! - a [`Lent`] is dropped after its last [`Raw`], for which [`Loan::returned`] waits.

use std::{convert::Infallible, ffi::c_char};

use pyo3::{
    exceptions::{PyBufferError, PyTypeError},
    ffi,
    prelude::*,
    types::PyBytes,
};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// A writable buffer of any item type, exported by its owner.
pub(crate) struct Lent(Box<ffi::Py_buffer>);

// SAFETY: a view may be released on any thread that has the GIL, as `drop` has; else it is only
// read.
unsafe impl Send for Lent {}
// SAFETY: as above.
unsafe impl Sync for Lent {}

impl Lent {
    /// # Errors
    /// `TypeError` if `object` has no buffer, `BufferError` if it cannot be written to or is not
    /// contiguous, and what the owner raises.
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = object.py();
        let mut view = Box::new(ffi::Py_buffer::new());
        // Strides may be missing, as ctypes arrays have none: so the checks are Python's own.
        // SAFETY: an object and a place for a view.
        let status = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, ffi::PyBUF_FULL_RO) };
        if status != 0 {
            let error = PyErr::fetch(py);
            if !error.is_instance_of::<PyTypeError>(py) {
                return Err(error);
            }
            let kind = object.get_type().name();
            let kind = kind.map_or_else(|_| "this".into(), |name| name.to_string());
            return Err(PyTypeError::new_err(format!(
                "a writable buffer is needed, not {kind}"
            )));
        }
        let lent = Self(view);
        if lent.0.readonly != 0 {
            return Err(PyBufferError::new_err("the buffer cannot be written to"));
        }
        let order = b'C' as c_char;
        // SAFETY: a view that was filled above.
        if unsafe { ffi::PyBuffer_IsContiguous(&raw const *lent.0, order) } == 0 {
            return Err(PyBufferError::new_err("the buffer is not C-contiguous"));
        }
        Ok(lent)
    }

    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.0.len).unwrap_or_default()
    }

    pub(crate) fn address(&self) -> usize {
        self.0.buf as usize
    }

    /// Its memory for writers.
    pub(crate) fn raw(&self, loan: &Loan) -> Raw {
        Raw {
            start: self.0.buf.cast(),
            length: self.len(),
            _loan: loan.sender.clone(),
        }
    }

    /// Its memory for this thread.
    ///
    /// # Safety
    /// No [`Raw`] of it is alive, and no Python code that touches it runs during the call.
    #[allow(
        clippy::mut_from_ref,
        reason = "the memory is Python's; exclusiveness is the caller's promise"
    )]
    pub(crate) unsafe fn bytes(&self) -> &mut [u8] {
        if self.len() == 0 {
            return &mut [];
        }
        // SAFETY: it is exported, so valid for its length; the caller promises that nothing else
        // touches it.
        unsafe { std::slice::from_raw_parts_mut(self.0.buf.cast(), self.len()) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // SAFETY: `new` has filled it, and it is released once. An interpreter that is gone does not
        // need it.
        Python::try_attach(|_| unsafe { ffi::PyBuffer_Release(&raw mut *self.0) });
    }
}

/// Memory lent to writers, which end before the lender takes it back.
pub(crate) struct Raw {
    start: *mut u8,
    length: usize,
    _loan: Sender<Infallible>,
}

// SAFETY: it is an address and a length; what is there is written by its one owner.
unsafe impl Send for Raw {}

impl AsMut<[u8]> for Raw {
    fn as_mut(&mut self) -> &mut [u8] {
        if self.length == 0 {
            return &mut [];
        }
        // SAFETY: it is lent to this `Raw`, whose one owner has it exclusively until the loan is
        // returned.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.length) }
    }
}

/// What was lent to one call.
pub(crate) struct Loan {
    sender: Sender<Infallible>,
    receiver: Receiver<Infallible>,
}

impl Loan {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = channel(1);
        Self { sender, receiver }
    }

    /// Lends the memory later, when its length is known.
    pub(crate) fn lender(&self) -> Lender {
        Lender(self.sender.clone())
    }

    /// Waits until no writer has any of it.
    pub(crate) async fn returned(self) {
        let Self { sender, mut receiver } = self;
        drop(sender);
        // Nothing is ever sent: this is the end of the last sender.
        receiver.recv().await;
    }
}

/// Lends memory for a loan that is waited for elsewhere.
#[derive(Clone)]
pub(crate) struct Lender(Sender<Infallible>);

impl Lender {
    /// # Safety
    /// `length` bytes at `start` are the writers' until [`Loan::returned`] says so.
    pub(crate) unsafe fn raw(&self, start: *mut u8, length: usize) -> Raw {
        Raw {
            start,
            length,
            _loan: self.0.clone(),
        }
    }
}

/// Refuses buffers of which two would be written to at the same place.
pub(crate) fn refuse_overlap(buffers: &[Lent]) -> PyResult<()> {
    let mut places: Vec<(usize, usize, usize)> = buffers
        .iter()
        .enumerate()
        .filter(|(_, buffer)| buffer.len() > 0)
        .map(|(index, buffer)| (buffer.address(), buffer.address() + buffer.len(), index))
        .collect();
    places.sort_unstable();
    match places.windows(2).find(|two| two[1].0 < two[0].1) {
        Some(two) => Err(pyo3::exceptions::PyValueError::new_err(format!(
            "the buffers of ranges {} and {} overlap",
            two[0].2, two[1].2
        ))),
        None => Ok(()),
    }
}

/// Makes a `bytes` object of this length, and returns it and where its bytes are.
///
/// The bytes are not initialised: the caller fills all of them before another owner sees the
/// object.
///
/// # Errors
/// `MemoryError`, or `OverflowError` if memory cannot be that long.
pub(crate) fn new_bytes(py: Python<'_>, length: usize) -> PyResult<(Bound<'_, PyBytes>, *mut u8)> {
    let length = isize::try_from(length)?;
    // SAFETY: a null source is allowed.
    let made = unsafe { ffi::PyBytes_FromStringAndSize(std::ptr::null(), length) };
    // SAFETY: null after an error, else a new reference.
    let bytes = unsafe { Bound::from_owned_ptr_or_err(py, made)? }.cast_into::<PyBytes>()?;
    // SAFETY: a bytes object.
    let start = unsafe { ffi::PyBytes_AsString(bytes.as_ptr()) };
    Ok((bytes, start.cast()))
}

/// A `bytearray` of this length, whose bytes are not initialised.
///
/// # Errors
/// As [`new_bytes`].
pub(crate) fn new_bytearray(py: Python<'_>, length: usize) -> PyResult<Bound<'_, PyAny>> {
    let length = isize::try_from(length)?;
    // SAFETY: a null source is allowed.
    let made = unsafe { ffi::PyByteArray_FromStringAndSize(std::ptr::null(), length) };
    // SAFETY: null after an error, else a new reference.
    unsafe { Bound::from_owned_ptr_or_err(py, made) }
}
