//! Where the bytes of a download go.
//!
//! - [`reader`], [`blocking`]: in order, to a reader;
//! - [`buffer`]: into the caller's memory;
//! - [`destination`]: to a [`Destination`];
//! - [`ranges`], [`range_buffers`]: many ranges into their buffers;
//! - [`verified`]: the published checksum of what is delivered.

mod blocking;
mod buffer;
pub(crate) mod destination;
pub(crate) mod range_buffers;
mod ranges;
mod reader;
mod verified;

pub use blocking::BlockingReader;
pub use destination::{Destination, Keeps, Transfer};
pub use ranges::Ranges;
pub use reader::{Monitor, Reader};
