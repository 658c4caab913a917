//! The engine of one download: it does what the schedule says.
//!
//! - [`state`]: what the driver, the writers and the reader share, under one lock;
//! - [`driver`]: the loop that starts attempts and ends them;
//! - [`executor`]: what the loop runs on: one task for each attempt, and the clock;
//! - [`attempts`], [`in_flight`], [`fence`]: an attempt from its launch to its end;
//! - [`cursor`]: where the consumer is;
//! - [`delivery`]: the trait by which the engine hands on what has arrived;
//! - [`events`]: what a writer asks of its download;
//! - [`classify`], [`watchdog`]: how an attempt failed, and its deadlines;
//! - [`gathered`]: one wake-up for all bytes of a poll;
//! - [`hosts`]: what downloads of this process have learned about servers;
//! - [`stat`]: what is known of an object without reading it.

mod attempts;
mod classify;
mod cursor;
pub(crate) mod delivery;
pub(crate) mod driver;
mod events;
mod executor;
mod fence;
mod gathered;
mod hosts;
mod in_flight;
#[cfg(all(test, feature = "model"))]
mod model;
mod stat;
pub(crate) mod state;
mod watchdog;

pub use stat::{head, patiently};
