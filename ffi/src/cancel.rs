//! Cancel handles.

use std::sync::Arc;

use pget_rs::{Cancel, Error};

use crate::{guard, handle::Registry};

/// Stops the calls, readers and background downloads (pget_shared_begin) whose options name it. One
/// handle may stop many; once triggered it stays so, and stops those that begin later too.
#[derive(Debug)]
pub struct pget_cancel {
    _opaque: (),
}

static CANCELS: Registry<Cancel> = Registry::new(2, "cancel handle");

/// The handle of a caller; null stands for no handle.
pub(crate) fn given(cancel: *const pget_cancel) -> Result<Option<Arc<Cancel>>, Error> {
    if cancel.is_null() {
        return Ok(None);
    }
    CANCELS.get(cancel).map(Some)
}

/// A new cancel handle, owned by the caller; freed by pget_cancel_free.
///
/// Any thread. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_cancel_new() -> *mut pget_cancel {
    guard::quietly(std::ptr::null_mut(), || CANCELS.insert(Cancel::new()))
}

/// Stops every call and every reader that was given the handle: they return PGET_ERR_CANCELLED,
/// also those that wait now, and those that begin later. A download that goes on in the background,
/// as its pget_shared_begin has returned, stops, too: who waits for its bytes gets
/// PGET_ERR_CANCELLED. It does not wait for them. Does nothing the second time, or if cancel is
/// null or freed.
///
/// Any thread, also from within callbacks; not from a signal handler. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_cancel_trigger(cancel: *const pget_cancel) {
    guard::quietly((), || {
        if let Ok(cancel) = CANCELS.get(cancel) {
            cancel.trigger();
        }
    });
}

/// Frees a cancel handle. Options that name it keep what they need, and stay as they are. Does
/// nothing if cancel is null or was freed before.
///
/// Any thread, also while calls that were given it run. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_cancel_free(cancel: *mut pget_cancel) {
    guard::quietly((), || drop(CANCELS.remove(cancel)));
}
