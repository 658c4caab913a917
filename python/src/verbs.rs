//! The functions that read all of an object, or only look at it.

use std::{
    fmt,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use pget_rs::{Address, Cancel, Destination, Error, ErrorKind, Object, ObjectInfo, Transfer};
use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict},
};

use crate::{
    memory::{Lender, Lent, Loan},
    op::{Call, EventSink, Op, object, size_unknown},
    settings::{Settings, address, object_info, stats},
};

/// Objects up to this size are read into the library's memory and copied: asking Python for memory
/// would cost more.
const SMALL: usize = 256 << 10;

/// Checks the arguments, as every call does first.
#[pyfunction]
pub(crate) fn check(url: &Bound<'_, PyAny>, options: &Bound<'_, PyDict>) -> PyResult<()> {
    Settings::new(url, options).map(drop)
}

/// Returns whether a property of this name may be one of the address. No property is one of an
/// address that cannot be read: its call reports the reason.
#[pyfunction]
pub(crate) fn has_property(url: &Bound<'_, PyAny>, name: &str) -> PyResult<bool> {
    Ok(Address::parse(&address(url)?).is_ok_and(|address| address.has_property(name)))
}

#[pyfunction]
pub(crate) fn stat(url: &Bound<'_, PyAny>, options: &Bound<'_, PyDict>) -> PyResult<Op> {
    let call = Call::new(Settings::new(url, options)?);
    let builder = call.builder.clone();
    let work = async move { object(&builder)?.stat().await };
    Ok(call.op(Vec::new(), Loan::new(), work, |py, info| {
        Ok(object_info(py, &info)?.unbind())
    }))
}

/// An object whose bytes go to memory that is made when its length is known.
struct Whole {
    sink: Arc<EventSink>,
    cancel: Cancel,
    lender: Lender,
    /// A small object; filled through a `Raw` of the same loan.
    small: Mutex<Vec<u8>>,
    is_unknown: AtomicBool,
}

impl fmt::Debug for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Whole")
    }
}

impl Destination for Whole {
    fn begin(&self, _: &ObjectInfo, start: u64, end: Option<u64>) -> Result<Transfer, Error> {
        let Some(end) = end else {
            self.is_unknown.store(true, Ordering::Relaxed);
            return Err(size_unknown());
        };
        let too_long = || {
            Error::new(
                ErrorKind::Unsupported,
                "",
                "the object is longer than memory can be",
            )
        };
        let length = usize::try_from(end.saturating_sub(start)).map_err(|_| too_long())?;
        if length <= SMALL {
            let mut small = self.small.lock().unwrap_or_else(PoisonError::into_inner);
            *small = vec![0; length];
            // SAFETY: the vector is not touched before the loan has been returned.
            let memory = unsafe { self.lender.raw(small.as_mut_ptr(), length) };
            return Ok(Transfer::Memory(Box::new(memory)));
        }
        // Another thread takes over the other tasks of this one.
        let memory =
            tokio::task::block_in_place(|| self.sink.memory(length, self.lender.clone(), &self.cancel));
        match memory {
            Some(memory) => Ok(Transfer::Fresh(Box::new(memory))),
            None => Err(Error::new(ErrorKind::Cancelled, "", "")),
        }
    }

    fn put(&self, _: u64, _: &[u8]) -> Result<(), Error> {
        Err(Error::new(ErrorKind::Internal, "", "bytes for memory were put"))
    }

    fn landed(&self, _: Range<u64>) -> Result<(), Error> {
        Ok(())
    }
}

#[pyfunction]
pub(crate) fn read(url: &Bound<'_, PyAny>, options: &Bound<'_, PyDict>) -> PyResult<Op> {
    let call = Call::new(Settings::new(url, options)?);
    let (loan, builder) = (Loan::new(), call.builder.clone());
    let whole = Arc::new(Whole {
        sink: Arc::clone(&call.sink),
        cancel: call.cancel.clone(),
        lender: loan.lender(),
        small: Mutex::default(),
        is_unknown: AtomicBool::new(false),
    });
    let work = async move {
        let object = object(&builder)?;
        match object.read_to(Arc::clone(&whole) as _).await {
            Err(_) if whole.is_unknown.load(Ordering::Relaxed) => in_order(&object).await.map(Bytes::Copied),
            Err(error) => Err(error),
            // Its lender is a part of the loan, so only the small object goes on from here.
            Ok(_) => Ok(Bytes::Small(Arc::clone(&whole))),
        }
        .map(|bytes| match bytes {
            Bytes::Small(whole) => {
                std::mem::take(&mut *whole.small.lock().unwrap_or_else(PoisonError::into_inner))
            }
            Bytes::Copied(bytes) => bytes,
        })
    };
    Ok(call.op(Vec::new(), loan, work, |py, bytes| {
        Ok(PyBytes::new(py, &bytes).into_any().unbind())
    }))
}

enum Bytes {
    Small(Arc<Whole>),
    Copied(Vec<u8>),
}

/// Reads an object whose length is known at its end only.
async fn in_order(object: &Object) -> Result<Vec<u8>, Error> {
    let mut reader = object.reader().await?;
    let mut bytes = Vec::new();
    while let Some(lease) = reader.next().await? {
        bytes.extend_from_slice(&lease);
    }
    Ok(bytes)
}

#[pyfunction]
pub(crate) fn read_into(
    url: &Bound<'_, PyAny>,
    buffer: &Bound<'_, PyAny>,
    options: &Bound<'_, PyDict>,
) -> PyResult<Op> {
    let call = Call::new(Settings::new(url, options)?);
    let (lent, loan, builder) = (Lent::new(buffer)?, Loan::new(), call.builder.clone());
    let memory = lent.raw(&loan);
    let work = async move { object(&builder)?.read_into(memory).await.0 };
    Ok(call.op(vec![lent], loan, work, |py, count| {
        Ok(count.into_pyobject(py)?.into_any().unbind())
    }))
}

#[pyfunction]
pub(crate) fn get_file(url: &Bound<'_, PyAny>, path: PathBuf, options: &Bound<'_, PyDict>) -> PyResult<Op> {
    let call = Call::new(Settings::new(url, options)?);
    let builder = call.builder.clone();
    let work = async move { object(&builder)?.get_file(&path).await };
    Ok(call.op(Vec::new(), Loan::new(), work, |py, done| {
        Ok(stats(py, &done)?.unbind())
    }))
}
