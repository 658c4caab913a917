//! The program as users see it: arguments, exit status, output, and files.
//!
//! Servers are real, or really misbehave. Each run has a deadline.

mod conveniences;
mod finish;
mod huge;
mod interrupts;
mod kept;
mod many;
mod names;
mod output;
mod permissions;
mod replaced;
mod report;
mod resume;
mod run;
mod secrets;
mod servers;
mod shared;
mod shim;
mod status;
mod surroundings;
mod target;
mod terminal;
mod usage;
mod verify;
