//! The C ABI: `include/pget.h` is made from this crate, and its documentation is that of the
//! functions here.
//!
//! Purpose: let C, C++ and Go call the library. Who may call: foreign code, through the header.
//! Invariants:
//!
//! - every function goes through [`boundary`]: a panic becomes `PGET_ERR_INTERNAL`, a failure
//!   becomes a status and, where asked for, an error object; nothing is kept for a thread;
//! - a forked child has handles and threads of its own; a handle from before the fork is
//!   `PGET_ERR_FORKED` there;
//! - a handle is a number that [`handle`] looks up, never an address that is followed, so that a
//!   stale, foreign or null one is an error and not a crash;
//! - foreign memory is touched only between a function's entry and its return.

#![deny(unsafe_op_in_unsafe_fn)]
#![allow(unsafe_code, reason = "foreign pointers; each block says why it is sound")]
#![allow(non_camel_case_types, reason = "the names are those of the C header")]
#![allow(
    clippy::missing_safety_doc,
    reason = "what a caller owes stands in each function's text, which is the header's"
)]

mod boundary;
mod guard;
mod handle;
mod text;

// The header's order: the simple first. The empty lines keep rustfmt from sorting them.
mod version;

mod status;

mod error;

mod get;

mod ranges;

mod reader;

mod info;

mod options;

mod cancel;

mod wait;

mod shared;

mod ring;

pub use cancel::{pget_cancel, pget_cancel_free, pget_cancel_new, pget_cancel_trigger};
pub use error::{pget_error, pget_error_free, pget_error_message, pget_error_needed, pget_error_status};
pub use get::{parallel_get, parallel_get_file, parallel_get_into, pget_write_fn};
pub use info::{
    PGET_ALGORITHM_SIZE, PGET_REVISION_SIZE, pget_info, pget_stat, pget_stats, pget_verification_code,
};
pub use options::*;
pub use ranges::{parallel_get_ranges, pget_range, pget_range_fn};
pub use reader::{
    pget_open, pget_reader, pget_reader_cancel, pget_reader_close, pget_reader_info, pget_reader_next,
    pget_reader_read, pget_reader_stats,
};
pub use ring::{
    parallel_get_ring, pget_ring, pget_ring_close, pget_ring_create, pget_ring_name, pget_ring_next,
    pget_ring_next_object, pget_ring_open, pget_ring_reader, pget_ring_reader_close,
};
pub use shared::{
    pget_shared, pget_shared_available, pget_shared_begin, pget_shared_close, pget_shared_data,
    pget_shared_length, pget_shared_name, pget_shared_open, pget_shared_revision, pget_shared_state,
    pget_shared_state_code, pget_shared_wait,
};
pub use status::{pget_status, pget_status_code, pget_status_name};
pub use version::{
    PGET_ABI_VERSION, PGET_VERSION_MAJOR, PGET_VERSION_MINOR, PGET_VERSION_PATCH, pget_abi_version,
    pget_version,
};
