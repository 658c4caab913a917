//! Cases 30 to 36. Refreshing credentials and regions (35 to 38) belongs to the sources that have them.

use std::time::{Duration, Instant, SystemTime};

use pget_core::ErrorKind;
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Route, When},
};

use crate::{SEED, fails, object, once, options, read_with, source, survives, with};

#[tokio::test]
async fn case_30_retry_after_is_waited_for_in_seconds_and_as_a_date() {
    for status in [429, 503] {
        let begun = Instant::now();
        survives(once(When::Later, Fault::throttle(status, "1"))).await;
        assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3));
    let begun = Instant::now();
    survives(once(When::Later, Fault::throttle(503, &soon))).await;
    // The date has whole seconds.
    assert!(
        begun.elapsed() >= Duration::from_millis(1500),
        "{:?}",
        begun.elapsed()
    );
    fails(
        with(When::Always, Fault::throttle(503, "0")),
        ErrorKind::Unavailable,
    )
    .await;
}

#[tokio::test]
async fn case_31_junk_in_retry_after_is_ignored() {
    for junk in ["-1", "soon", "", "1.5", "Thu, 99 Foo 2020 00:00:00 GMT"] {
        let begun = Instant::now();
        survives(once(When::Later, Fault::throttle(429, junk))).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "{junk:?}");
    }
}

#[tokio::test]
async fn case_32_passing_failures_are_tried_again() {
    for status in [500, 502, 504, 408, 409] {
        let stats = survives(once(When::Later, Fault::status(status))).await;
        assert!(stats.retries >= 1, "{status}");
        survives(once(When::First, Fault::status(status))).await;
    }
    fails(with(When::Always, Fault::status(500)), ErrorKind::Unavailable).await;
}

#[tokio::test]
async fn case_33_a_200_that_is_an_error_document_is_never_data() {
    survives(once(When::Later, Fault::error_document())).await;
    // It has no identity, which the pinned revision has.
    fails(with(When::Later, Fault::error_document()), ErrorKind::Protocol).await;
}

#[tokio::test]
async fn case_34_refusals_are_final_and_typed() {
    for (status, kind) in [
        (400, ErrorKind::Protocol),
        (401, ErrorKind::PermissionDenied),
        (403, ErrorKind::PermissionDenied),
        (404, ErrorKind::NotFound),
        (405, ErrorKind::Protocol),
        (410, ErrorKind::NotFound),
        (451, ErrorKind::PermissionDenied),
        (418, ErrorKind::Protocol),
        (501, ErrorKind::Protocol),
        (505, ErrorKind::Protocol),
    ] {
        let error = fails(with(When::Always, Fault::status(status)), kind).await;
        assert_eq!(error.attempts(), 1, "{status}");
        assert!(
            error.to_line().contains(&status.to_string()),
            "{}",
            error.to_line()
        );
    }
}

#[tokio::test]
async fn case_35_a_refusal_in_mid_read_is_final() {
    let error = fails(with(When::Later, Fault::status(403)), ErrorKind::PermissionDenied).await;
    // Once the object was served, three more refusals within a few seconds confirm the first.
    assert!(error.attempts() >= 4, "{}", error.to_line());
    // A caller that wants no second attempt gets none.
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", with(When::Later, Fault::status(403)));
    let mut once = options();
    once.retries = Some(0);
    let outcome = read_with(source(&url), once).await;
    let error = outcome.failed(Pattern::new(SEED), ErrorKind::PermissionDenied);
    assert_eq!(error.attempts(), 1);
}

/// A gateway that limits the rate refuses also what arrives alone, and not by 429.
#[tokio::test]
async fn case_107_lone_refusals_of_an_object_that_was_served_pass() {
    for status in [401, 403, 404, 400] {
        survives(Route::new(object()).fault_times(When::Later, 3, Fault::status(status))).await;
    }
}

#[tokio::test]
async fn case_114_unknown_statuses_pass() {
    for status in [520, 523, 530, 598, 425, 499, 509, 555, 600, 999] {
        let rules = Route::new(object())
            .fault_times(When::First, 1, Fault::status(status))
            .fault_times(When::Later, 1, Fault::status(status));
        let stats = survives(rules).await;
        assert!(stats.retries >= 2, "{status}");
    }
    // A status of the class that stays is still the end of patience, not of understanding.
    fails(with(When::Always, Fault::status(599)), ErrorKind::Unavailable).await;
}

/// A front end that is being restarted answers with something else for a moment. An object that was
/// served is waited for; one that never was is not.
#[tokio::test]
async fn case_104_an_answer_that_is_no_http_passes_in_mid_read() {
    for garbage in [
        &b"\x15\x03\x03\x00\x02\x02\x28"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"busy\r\n\r\n",
    ] {
        let garbage = Fault::Raw(garbage.to_vec());
        let stats = survives(Route::new(object()).fault_times(When::Later, 3, garbage.clone())).await;
        assert!(stats.retries > 0, "{garbage:?}");
        let error = fails(with(When::Always, garbage), ErrorKind::Protocol).await;
        assert_eq!(error.attempts(), 1, "{}", error.to_line());
    }
}

#[tokio::test]
async fn case_114_a_rate_limit_is_waited_for() {
    for (name, value) in [
        ("RateLimit", "\"downloads\";r=0;t=1"),
        ("X-RateLimit-Reset", "1"),
        ("x-ms-retry-after-ms", "1000"),
    ] {
        let begun = Instant::now();
        let fault = Fault::Answer {
            status: 429,
            headers: vec![(name.into(), value.into())],
            body: Vec::new(),
        };
        survives(once(When::Later, fault)).await;
        assert!(begun.elapsed() >= Duration::from_secs(1), "{name}");
    }
}

#[tokio::test]
async fn case_142_an_error_says_which_limit_ended_it_and_what_was_met() {
    let troubles = [
        (Fault::status(503), ErrorKind::Unavailable, "503"),
        (Fault::status(500), ErrorKind::Unavailable, "500"),
        (Fault::Reset { after: 0 }, ErrorKind::Unavailable, "reset"),
        (Fault::Fin { after: 0 }, ErrorKind::Protocol, "ended in the body"),
    ];
    for (fault, kind, met) in troubles {
        let server = Hostile::start().expect("a server");
        let url = server.route("/o", with(When::From(3), fault));
        // By the count of attempts, and by time.
        let mut counted = options();
        counted.retries = Some(2);
        let error = read_with(source(&url), counted)
            .await
            .failed(Pattern::new(SEED), kind);
        let text = error.to_line();
        assert_eq!(error.attempts(), 3, "{text}");
        for word in ["gave up after 3 attempts", "(retries)", met] {
            assert!(text.contains(word), "{word}: {text}");
        }
        let mut timed = options();
        timed.retries = None;
        timed.retry_timeout = Duration::from_secs(2);
        let error = read_with(source(&url), timed)
            .await
            .failed(Pattern::new(SEED), kind);
        let text = error.to_line();
        let attempts = format!("{} attempts", error.attempts());
        for word in ["gave up after 2", "(retry_timeout)", &attempts, met] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert!(error.attempts() > 1, "{text}");
        // A single attempt explains itself.
        let mut once = options();
        once.retries = Some(0);
        let error = read_with(source(&url), once)
            .await
            .failed(Pattern::new(SEED), kind);
        let text = error.to_line();
        assert!(!text.contains("gave up") && text.contains(met), "{text}");
    }
}
