//! One revision of an object: its identity, and whether a reply is of it.
//!
//! - [`Revision`] and [`ObjectInfo`] describe a revision; [`Match`] is the result of comparing two;
//! - [`accept`] checks every reply against its request and the pinned revision.

mod accept;
mod identity;

pub(crate) use accept::{accept, hold_against, learn};
pub use identity::{Checksum, Match, ObjectInfo, Revision};
