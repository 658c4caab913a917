//! Faults of AIStore in every mode and at concurrency 1, 4 and 16.
//!
//! The other files test their effects in detail.

mod support;

use std::time::Duration;

use pget_core::{ErrorKind, Options};
use pget_testkit::{
    aistore::{BucketOptions, ClusterOptions, Fault, Rule},
    content::Pattern,
    modes::{self, Expected, Mode},
};
use support::{BUCKET, options, pattern, standin};

const SIZE: u64 = 1_000_003;
const CONCURRENCIES: [u32; 3] = [1, 4, 16];

fn impatient(concurrency: u32) -> Options {
    let mut options = options(100_000, concurrency);
    options.retries = Some(3);
    options.deadlines.first_byte = Duration::from_millis(800);
    options.deadlines.stall = Duration::from_millis(800);
    options
}

/// The number of answers that meet the fault.
#[derive(Clone, Copy)]
enum Often {
    Once,
    Always,
    /// All except the first.
    Later,
}

/// Reads an object under `fault`, from a bucket with or without checksums of ranges.
///
/// Each run has a stand-in of its own.
async fn meets(fault: Fault, often: Often, checksums: bool, due: Option<ErrorKind>) {
    let runs = Mode::ALL
        .into_iter()
        .flat_map(|mode| CONCURRENCIES.map(|concurrency| (mode, concurrency)));
    for (mode, concurrency) in runs {
        // A single stream is one request, whose checksum is the object's. A wrong one is noticed at
        // the end and not retried.
        let only_ranges = matches!(often, Often::Later) || matches!(fault, Fault::Flip { .. });
        if only_ranges && concurrency == 1 {
            continue;
        }
        // Bytes of a range with a wrong checksum stay in memory if they were received in place.
        // They do not count as landed.
        let in_place = matches!(mode, Mode::Memory | Mode::Lent | Mode::Placed);
        if due == Some(ErrorKind::Checksum) && in_place {
            continue;
        }
        let place = standin(ClusterOptions::default()).await;
        if checksums {
            let bucket = BucketOptions::default().read_range_checksum();
            place.fake().create_bucket(BUCKET, bucket);
        }
        place.fake().put(BUCKET, "o", pattern(1, SIZE));
        let rule = Rule::new(fault.clone()).at_targets().method("GET");
        place.fake().inject(match often {
            Often::Once => rule,
            Often::Always => rule.times(u64::MAX),
            Often::Later => rule.skip(1).times(u64::MAX),
        });
        let expected = Expected {
            pattern: Pattern::new(1),
            offset: 0,
            size: SIZE,
        };
        let outcome = modes::run(mode, place.object("o"), impatient(concurrency), expected).await;
        assert_eq!(
            outcome.kind(),
            due,
            "{fault:?}, {mode} at {concurrency}: {:?}",
            outcome.end
        );
        let met = place.counts().fault(fault.name());
        assert!(met > 0, "{fault:?}, {mode} at {concurrency}: not met");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_survived_in_every_mode() {
    for fault in [
        Fault::Reset { after: 50_000 },
        Fault::Cut { after: 50_000 },
        Fault::Stall { after: 50_000 },
        Fault::Hangup,
        Fault::Status(409),
        Fault::Status(429),
        Fault::Status(503),
        Fault::Move,
    ] {
        meets(fault, Often::Once, false, None).await;
    }
    meets(Fault::Flip { offset: 123_456 }, Often::Once, true, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_is_an_error_in_every_mode() {
    meets(
        Fault::Flip { offset: 123_456 },
        Often::Always,
        true,
        Some(ErrorKind::Checksum),
    )
    .await;
    meets(
        Fault::Status(410),
        Often::Always,
        false,
        Some(ErrorKind::NotFound),
    )
    .await;
    meets(
        Fault::Status(403),
        Often::Always,
        false,
        Some(ErrorKind::PermissionDenied),
    )
    .await;
    meets(Fault::Silence, Often::Always, false, Some(ErrorKind::Timeout)).await;
    let changed = Some(ErrorKind::ObjectChanged);
    meets(Fault::Replace(pattern(2, SIZE)), Often::Later, false, changed).await;
    meets(Fault::Replace(pattern(2, SIZE - 5)), Often::Later, false, changed).await;
    meets(Fault::Delete, Often::Later, false, changed).await;
}
