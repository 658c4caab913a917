//! The misbehaving server's faults are on the wire as its documentation claims, and are counted when they are.
//!
//! Read with bare sockets: a client library would hide half of it.

mod answers;
mod client;
mod server;
mod transfer;
