//! Files as both ends of a download: a source that reads one, and a destination that fills one.
//!
//! - [`FileSource`] reads a file by positional reads;
//! - [`Target`] distinguishes a file from a device, a pipe or what is open already;
//! - [`Part`] is the destination: it writes each range at its offset into `FILE.pget-part`, which
//!   is renamed when it is complete;
//! - `journal` holds what has landed and was synced (`FILE.pget-journal`), from which another
//!   download resumes: its writer syncs the part from time to time, its reader checks what an
//!   earlier one left.
//!
//! What the name stood for before is replaced, also a symbolic link (the file that it points to
//! stays as it is). A device, a pipe or what is open already is written to in order, through
//! [`Stream`].

mod descriptor;
mod failure;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[path = "../../../fuzz/oracles/file.rs"]
pub mod fuzzing;
mod journal;
mod names;
mod part;
mod refusal;
mod replace;
mod settings;
mod source;
mod system;
mod target;
mod warnings;

pub use failure::destination;
pub use journal::Asked;
pub use names::Names;
pub use part::{Part, Plan};
pub use settings::Settings;
pub use source::FileSource;
pub use target::{Stream, Target, Wanted, absolute_target};
pub use warnings::Warnings;
