//! A stand-in for an AIStore cluster, inside the test's process: one proxy and two targets on loopback sockets, speaking as
//! much of AIStore 5.0's HTTP API as a reading client and the official Python client meet, its oddities included.
//!
//! Purpose: tests of an AIStore client that need no AIStore, and that need what a real one does not do on demand (faults,
//! moves and overwrites at a certain request, cold objects, old servers). What it answers is compared with exchanges
//! recorded from a real cluster (`tests/aistore_standin.rs`, which also runs against a real one), and the official Python
//! client reads from it (`tests/aistore_python.rs`).
//!
//! Invariants: one answer is of one revision, as under a real target's read lock; whatever a rule did is counted; nothing
//! outlives the [`Cluster`]. The S3 API, TLS, and erasure coding are not there.
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
mod wire;

pub use bucket::Bucket;
pub use cluster::Cluster;
pub use fault::{Fault, Node, Rule};
pub use ledger::{Counts, Exchange};
pub use object::{Object, Pull};
pub use shared::{ClusterOptions, RateLimit};
pub use store::BucketOptions;
