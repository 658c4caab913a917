//! AIStore: one object read as parallel ranges, straight from the target that holds it.
//!
//! An AIStore cluster answers each object request at a proxy, which redirects to the target that
//! holds the object. This source asks the proxy once for each connection that it uses and then goes
//! to the target directly; when a remembered target fails, it asks the proxy again, once.
//!
//! Facts of the wire were checked against a live AIStore 5.0 cluster. What a client can get wrong,
//! and where it is dealt with:
//!
//! - redirects (GET 301, HEAD 307), a remembered target that fails, tokens that must not leave the
//!   proxy: `exchange` and `route`;
//! - identity: conditional headers are ignored by the server and a 206 has no ETag, so it is
//!   version + checksum + size; checksums of ranges: `identity`;
//! - listing, storing and removing, which reads do not need: `objects`; uploads by parts, where no
//!   part may be sent twice: `upload`;
//! - chunked objects, whose chunks may be uneven and very large: `hint`;
//! - errors in JSON bodies and in the header `Hdr-Error`: `failure`.

mod address;
mod config;
mod exchange;
mod failure;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[path = "../../../fuzz/oracles/aistore.rs"]
pub mod fuzzing;
mod hint;
mod identity;
mod objects;
mod properties;
mod route;
mod source;
mod token;
mod upload;

pub use address::{Bucket, ObjectAddress};
pub use config::Config;
pub use objects::{Continuation, Entry, Listing, Objects, Page};
pub use source::AistoreSource;
