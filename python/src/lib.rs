//! The extension module `pget._pget`: what the Python package `pget` is made of.
//!
//! [`settings`] makes a builder of Python's arguments. [`op`] runs one call on the library's threads,
//! for a thread that waits or for an event loop. [`memory`] lends Python's buffers, and [`lease`]
//! lends the library's memory to Python. [`reader`], [`ranges`], [`shared`] and [`ring`] are the
//! objects; [`error`] makes exceptions.
//!
//! Invariants:
//! - importing the module starts nothing: no thread, no file, no socket;
//! - no Python code runs on a thread of the library, and no such thread waits for the GIL;
//! - the GIL is released around every wait;
//! - an exception leaves no writer in a buffer that was lent.

#![allow(unsafe_code, reason = "the buffer protocol; each block says why it is sound")]

mod error;
mod lease;
mod memory;
mod op;
mod ranges;
mod reader;
mod ring;
mod settings;
mod shared;
mod verbs;

use pyo3::{exceptions::PyImportError, ffi, prelude::*, types::PyModule};

/// Runs the program `pget` and returns its exit status; the first of `arguments` is its name.
#[pyfunction]
fn main(py: Python<'_>, arguments: Vec<std::ffi::OsString>) -> u8 {
    py.detach(|| pget_cli::main(arguments))
}

/// Refuses an interpreter beside the main one: classes and what is kept of them are one for the
/// process.
///
/// Python itself refuses only those that have a GIL of their own.
fn check_interpreter() -> PyResult<()> {
    // SAFETY: the GIL is held, so there is a current interpreter.
    let current = unsafe { ffi::PyInterpreterState_Get() };
    // SAFETY: the current one is alive.
    let number = unsafe { ffi::PyInterpreterState_GetID(current) };
    if number == 0 {
        return Ok(());
    }
    Err(PyImportError::new_err(
        "pget cannot be imported into a sub-interpreter: use the main interpreter, or another process",
    ))
}

#[pymodule(gil_used = false)]
fn _pget(module: &Bound<'_, PyModule>) -> PyResult<()> {
    check_interpreter()?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<op::Op>()?;
    module.add_class::<op::Bridge>()?;
    module.add_class::<settings::Cancel>()?;
    module.add_class::<lease::Lease>()?;
    module.add_class::<reader::RawReader>()?;
    module.add_class::<ranges::RawRanges>()?;
    module.add_class::<shared::SharedBuffer>()?;
    module.add_class::<ring::RingWriter>()?;
    module.add_class::<ring::RingReader>()?;
    module.add_class::<ring::RingView>()?;
    for function in [
        wrap_pyfunction!(verbs::stat, module)?,
        wrap_pyfunction!(verbs::read, module)?,
        wrap_pyfunction!(verbs::read_into, module)?,
        wrap_pyfunction!(verbs::get_file, module)?,
        wrap_pyfunction!(verbs::check, module)?,
        wrap_pyfunction!(verbs::has_property, module)?,
        wrap_pyfunction!(ranges::read_ranges, module)?,
        wrap_pyfunction!(reader::open, module)?,
        wrap_pyfunction!(shared::get_shared, module)?,
        wrap_pyfunction!(ring::put_into_ring, module)?,
        wrap_pyfunction!(main, module)?,
    ] {
        module.add_function(function)?;
    }
    Ok(())
}
