//! A stand-in for an AIStore cluster inside the test's process.
//!
//! It consists of a proxy and two targets on loopback sockets. It supports the part of AIStore
//! 5.0's HTTP API that a reading client and the official Python client use, oddities included. The
//! S3 API, TLS and erasure coding are missing.
//!
//! Tests of an AIStore client need no AIStore. They can also cause events that a real cluster does
//! not produce on demand: faults, moves and overwrites at a certain request, cold objects, old
//! servers.
//!
//! - `tests/aistore_standin.rs` compares the answers with exchanges recorded from a real cluster.
//!   It can also run against a real one.
//! - `tests/aistore_python.rs` reads from the stand-in with the official Python client.
//!
//! Invariants:
//! - An answer is of a single revision, as under a real target's read lock.
//! - Every effect of a rule is counted.
//! - Nothing outlives the [`Cluster`].
//!
//! ```
//! use pget_testkit::aistore::{Cluster, ClusterOptions, Fault, Object, Rule};
//!
//! # #[tokio::main] async fn main() {
//! let cluster = Cluster::start(ClusterOptions::default()).await;
//! cluster.put("bucket", "object", Object::pattern(7, 64 << 20));
//! cluster.inject(Rule::new(Fault::Reset { after: 1000 }).object("object").times(3));
//! // … read ais://bucket/object from cluster.endpoint() …
//! assert_eq!(cluster.counts().fault("reset"), 0);
//! # }
//! ```

mod bucket;
mod checksum;
mod cluster;
mod failure;
mod fault;
mod ledger;
mod object;
mod proxy;
mod range;
mod serve;
mod shared;
mod store;
mod target;
mod upload;
mod wire;

pub use bucket::Bucket;
pub use cluster::Cluster;
pub use fault::{Fault, Node, Rule};
pub use ledger::{Counts, Exchange};
pub use object::{Object, Pull};
pub use shared::{ClusterOptions, RateLimit};
pub use store::BucketOptions;
