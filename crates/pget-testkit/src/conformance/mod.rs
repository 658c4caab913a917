//! What every [`RangeSource`] must do, as one suite that each transport's tests run against their own servers.
//!
//! A transport implements [`Fixture`] and calls [`run`]; a failure panics and names the check. Each check has a deadline. It covers what the contract says of well-behaved
//! servers; what a lying server does to a transport is for that transport's own tests.

mod checks;
mod whole;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pget_core::RangeSource;

use crate::content::Pattern;

/// A place where objects can be put, and how the transport under test reads them.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// Makes `size` bytes of `pattern` the content of object `name`, in place of what it was, and gives a source that reads that object.
    async fn put(&self, name: &str, pattern: Pattern, size: u64) -> Arc<dyn RangeSource>;

    /// A source of an object that does not exist.
    async fn missing(&self) -> Arc<dyn RangeSource>;

    /// Whether two contents of the same size that are put at once after another differ in their identity. Not with servers that only know seconds and size.
    fn tells_same_size(&self) -> bool {
        true
    }

    /// Bytes in a chunk for whole reads. Larger where a request is dear.
    fn chunk_size(&self) -> u64 {
        64 << 10
    }
}

/// How long one check may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// Runs every check. On a runtime with time enabled; multi-threaded, unless all that the fixture runs is on other threads.
///
/// # Panics
/// If the source does not conform.
pub async fn run(fixture: &dyn Fixture) {
    macro_rules! check {
        ($($check:path),* $(,)?) => {
            $(
                tokio::time::timeout(DEADLINE, $check(fixture))
                    .await
                    .unwrap_or_else(|_| panic!("{}: not done within {DEADLINE:?}", stringify!($check)));
            )*
        };
    }
    check!(
        checks::exact_ranges,
        checks::an_empty_range_brings_nothing,
        checks::head_tells_what_a_read_tells,
        checks::a_half_filled_chunk_is_completed,
        checks::another_revision_is_refused,
        checks::missing_is_not_found,
        checks::drop_leaves_no_writer,
        checks::concurrent_reads,
        whole::empty_object,
        whole::offsets_at_and_behind_the_end,
        whole::sizes_windows_and_concurrencies,
    );
}
