//! Where the bytes of a download go: the deliveries that the engine calls by its trait
//! (`engine::delivery`), and the calls that begin them.
//!
//! - [`in_order`]: to a [`reader`], or a [`blocking`] one;
//! - [`buffer`]: into the caller's memory;
//! - [`into_destination`]: to a [`destination`], through its [`gate`];
//! - [`ranges`], [`range_buffers`]: many ranges into their buffers;
//! - [`landing`]: memory of deliveries without a reader;
//! - [`verified`]: the wrapper that compares the bytes with the published checksum.

mod blocking;
mod buffer;
mod destination;
mod gate;
pub(crate) mod in_order;
pub(crate) mod into_destination;
mod landing;
mod range_buffers;
mod ranges;
mod reader;
pub(crate) mod verified;

pub use blocking::BlockingReader;
pub use destination::{Destination, Keeps, Transfer};
pub use ranges::Ranges;
pub use reader::{Monitor, Reader};
