//! Credentials are found in the places where the clouds' own tools find them.
//!
//! A server that checks its requests imitates each service, and each test has a home directory of
//! its own. Every secret contains the canary, and the tests' log at its finest level must not
//! contain it.

mod aws;
mod azure;
mod every;
mod google;
mod world;

#[path = "../s3/common.rs"]
mod common;
#[path = "../s3/lines.rs"]
mod lines;
#[path = "../s3/standin.rs"]
mod standin;
