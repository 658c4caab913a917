//! Where the clouds' own tools find credentials, this program does: each place stands in as a server
//! that checks what it gets, or as a file in a home of its own.
//!
//! Every secret here has the canary in it, and the log of all tests, at its most talkative, has not.

mod aws;
mod azure;
mod every;
mod google;
mod world;

#[path = "../s3/common.rs"]
mod common;
#[path = "../s3/standin.rs"]
mod standin;
