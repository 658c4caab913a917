//! Checks that the misbehaving server's faults are on the wire as documented, and that it counts
//! them.
//!
//! The tests read from bare sockets, because a client library would hide half of the faults.

mod answers;
mod client;
mod server;
mod transfer;
