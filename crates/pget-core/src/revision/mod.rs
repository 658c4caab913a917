//! One revision of an object: its identity, and whether a reply is of it.
//!
//! - [`Revision`] and [`ObjectInfo`] describe a revision; [`Match`] is the result of comparing two;
//! - [`accept`] checks every reply against its request and the pinned revision;
//! - [`known`] has what a download knows of its object.

mod accept;
mod identity;
mod known;

pub(crate) use accept::{Answer, accept};
pub use identity::{Checksum, Match, ObjectInfo, Revision};
pub(crate) use known::Known;
