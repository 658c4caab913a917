//! Decides which range of an object to request next: events in, actions out.
//!
//! The schedule is a plain state machine. It has no clock, task or memory of chunks, and no
//! randomness except a seed.
//!
//! The cast, in the order in which it acts: a *chunk* has a number, its place in the delivery
//! order. The *cursor* is the chunk that the consumer is at. Chunks from the cursor to `cursor +
//! window` may be open, that is, fetched or being fetched. At most `concurrency` *attempts* are in
//! flight. The driver calls [`Schedule::look`] and [`Schedule::poll`] after every event, and does
//! what `poll` returns until it returns [`Action::Wait`].
//!
//! A download goes through phases. *Probe*: one attempt only, whose reply fixes size and plan.
//! *Parallel*: one attempt per chunk. *Stream*: one attempt that spans chunks, by choice
//! (`concurrency == 1`), or because the source cannot serve ranges, or because the object has no
//! identity that ties two replies together.
//!
//! Invariants, which [`Schedule::check`] checks in tests after every event:
//! - At most `concurrency` attempts are in flight, at most one per chunk.
//! - No chunk is open outside the window; chunks open in order, without a gap.
//! - While the download is not over, an attempt is in flight, a retry has its time, memory is asked
//!   for, or the consumer has something to take.

mod action;
mod backoff;
mod control;
mod controller;
mod health;
mod open_chunk;
mod plan;
mod schedule;
mod settings;
mod straggler;
mod throttle;
mod track;
mod wanted;

pub use action::{Action, AfterAttempt, Attempt, AttemptEnd, Flow, Limit, ReplyOutcome};
pub use backoff::Backoff;
pub use controller::{Bounds, Choice, Controller, Found};
pub use health::Trial;
pub use plan::Plan;
pub use schedule::Schedule;
pub use settings::Settings;
pub use throttle::Learned;
pub use wanted::Wanted;
