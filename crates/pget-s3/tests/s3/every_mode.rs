//! Answers of S3 in every mode and at concurrency 1, 4 and 16.
//!
//! `answers` checks their results in detail.

use pget_core::ErrorKind;
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, When},
    modes::{self, Expected, Mode},
};

use super::{
    answers::{CHUNK, SEED, SIZE, document, object, settings, skewed},
    common::{open, options, within},
};

async fn meets(name: &str, route: Route, due: Option<ErrorKind>, concurrencies: &[u32]) {
    let server = &Hostile::start().expect("a server");
    let runs = Mode::ALL.into_iter().flat_map(|mode| {
        let each = |concurrency: &u32| (mode, *concurrency);
        concurrencies.iter().map(each).collect::<Vec<_>>()
    });
    let run = async |(mode, concurrency): (Mode, u32)| {
        let key = format!("{mode:?}-{concurrency}");
        let path = format!("/bucket/{key}");
        server.route(&path, route.clone());
        let source = open(&format!("s3://bucket/{key}"), &settings(server));
        let expected = Expected {
            pattern: Pattern::new(SEED),
            offset: 0,
            size: SIZE,
        };
        let outcome = modes::run(mode, source, options(CHUNK, concurrency), expected).await;
        let what = format!("{name}, {mode} at {concurrency}");
        assert_eq!(outcome.kind(), due, "{what}: {:?}", outcome.end);
        assert!(server.served(&path) > 0, "{what}: not met");
    };
    within(futures_util::future::join_all(runs.map(run))).await;
}

const ALL: [u32; 3] = [1, 4, 16];
/// A single stream has no later requests.
const RANGES: [u32; 2] = [4, 16];

#[tokio::test]
async fn answers_that_pass_are_survived_in_every_mode() {
    for (name, fault) in [
        ("30, throttling", document(503, "SlowDown", "slower")),
        ("32, internal error", document(500, "InternalError", "again")),
        ("33, a 200 with an error", Fault::error_document()),
        (
            "35, an expired signature",
            document(403, "AccessDenied", "Request has expired"),
        ),
        ("35, an expired token", document(400, "ExpiredToken", "renew it")),
    ] {
        let later = Route::new(object()).fault_times(When::Later, 1, fault.clone());
        meets(name, later, None, &RANGES).await;
        // The first answer to a plain GET has no earlier identity to be compared with.
        if !name.starts_with("33") {
            let first = Route::new(object()).fault_times(When::First, 1, fault);
            meets(name, first, None, &ALL).await;
        }
    }
}

#[tokio::test]
async fn case_36_a_clock_that_is_off_is_survived_in_every_mode() {
    for ahead in [3600, -3600] {
        let (when, fault) = skewed(ahead, "RequestTimeTooSkewed", "too far");
        meets("36", Route::new(object()).fault(when, fault), None, &ALL).await;
    }
}

#[tokio::test]
async fn answers_that_do_not_pass_are_errors_in_every_mode() {
    let denied = ErrorKind::PermissionDenied;
    for (name, fault, kind) in [
        ("34, denied", document(403, "AccessDenied", "no"), denied),
        (
            "34, no such key",
            document(404, "NoSuchKey", "no"),
            ErrorKind::NotFound,
        ),
        ("36, clock", document(403, "RequestTimeTooSkewed", "late"), denied),
        (
            "32, endlessly",
            document(500, "InternalError", "no"),
            ErrorKind::Unavailable,
        ),
    ] {
        meets(
            name,
            Route::new(object()).fault(When::Always, fault),
            Some(kind),
            &ALL,
        )
        .await;
    }
    let changed = ErrorKind::ObjectChanged;
    for (name, fault, kind) in [
        ("35, revoked", document(403, "InvalidAccessKeyId", "no"), denied),
        (
            "39, condition",
            document(412, "PreconditionFailed", "no"),
            changed,
        ),
        ("45, deleted", document(404, "NoSuchKey", "no"), changed),
        (
            "40, overwritten",
            Fault::Revision(Object::new(SEED + 1, SIZE)),
            changed,
        ),
        (
            "47, shrunk",
            Fault::Revision(Object::new(SEED, SIZE - 1)),
            changed,
        ),
    ] {
        let route = Route::new(object())
            .fault(When::Later, fault)
            .ignoring_conditions();
        meets(name, route, Some(kind), &RANGES).await;
    }
}

/// A gateway that refuses every condition has the same object without it, or another one.
#[tokio::test]
async fn case_39_a_bucket_that_refuses_conditions_is_read_without_them() {
    let refusing = || {
        let refusal = document(412, "PreconditionFailed", "no");
        Route::new(object()).fault(When::Conditional, refusal)
    };
    meets("39, refused conditions", refusing(), None, &RANGES).await;
    let other = Fault::Revision(Object::new(SEED + 1, SIZE));
    let changed = refusing().ignoring_conditions().fault(When::Later, other);
    let due = Some(ErrorKind::ObjectChanged);
    meets("39, refused as it has changed", changed, due, &RANGES).await;
}
