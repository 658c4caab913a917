//! Servers and sources for pget's tests: a misbehaving HTTP server, an AIStore stand-in, real servers started on free ports, conformance, and the
//! ways in which a download's bytes go.

pub mod aistore;
pub mod conformance;
pub mod content;
pub mod corpus;
pub mod hostile;
pub mod modes;
pub mod servers;
pub mod sources;
