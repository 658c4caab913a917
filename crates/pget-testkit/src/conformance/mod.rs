//! What every [`RangeSource`](pget_core::RangeSource) must do, as one suite that each transport's tests run against their own servers.
//!
//! A transport implements [`Fixture`] and calls [`run`]; a failure panics and names the check. Each check has a deadline. It covers what the contract says of well-behaved
//! servers; what a lying server does to a transport is for that transport's own tests.

mod checks;
mod fixture;
mod whole;

use std::time::Duration;

pub use fixture::Fixture;

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
