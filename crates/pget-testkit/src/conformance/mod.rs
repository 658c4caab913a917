//! The contract of [`RangeSource`](pget_core::RangeSource), as a suite of checks.
//!
//! The tests of each transport run the suite with their own servers. A transport implements
//! [`Fixture`] and calls [`run`]. A failure panics and names the check. Each check has a deadline.
//!
//! The suite covers the contract for well-behaved servers. Each transport tests separately that
//! lying servers do no harm.

mod checks;
mod fixture;
mod whole;

use std::time::Duration;

pub use fixture::Fixture;

/// Time limit of one check.
const DEADLINE: Duration = Duration::from_secs(120);

/// Runs every check.
///
/// The runtime must have its timer enabled. It must be multi-threaded unless the whole fixture runs
/// on other threads.
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
