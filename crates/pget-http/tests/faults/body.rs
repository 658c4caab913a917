//! Cases 19 to 29.

use std::time::Duration;

use pget_core::ErrorKind;
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Route, When},
    servers::{Nginx, NginxOptions, require},
};

use crate::{
    RANGES, SEED, SIZE, fails, object, once, patient, read, read_with, source, survives, survives_as, with,
};

#[tokio::test]
async fn case_19_a_body_shorter_than_its_range_is_asked_for_again() {
    // Content-Length and Content-Range disagree: nothing of it can be believed, but another answer may be better.
    survives(once(When::Later, Fault::ShortLength { by: 5 })).await;
    survives(once(When::First, Fault::ShortLength { by: 5 })).await;
    fails(
        with(When::Later, Fault::ShortLength { by: 5 }),
        ErrorKind::Protocol,
    )
    .await;
    fails(
        with(When::First, Fault::ShortLength { by: 5 }),
        ErrorKind::Protocol,
    )
    .await;
}

#[tokio::test]
async fn case_20_a_short_chunked_body_is_completed_or_truncated() {
    survives(once(When::Later, Fault::ShortChunked { by: 5 })).await;
    survives(with(When::UpTo(3), Fault::ShortChunked { by: 5 })).await;
}

#[tokio::test]
async fn case_21_a_short_body_ended_by_the_close_is_completed() {
    survives(once(When::Later, Fault::ShortClosed { by: 5 })).await;
    survives(with(When::UpTo(3), Fault::ShortClosed { by: 5 })).await;
}

#[tokio::test]
async fn case_22_a_broken_connection_resumes_at_the_byte_reached() {
    for fault in [
        Fault::Reset { after: 50_000 },
        Fault::Fin { after: 50_000 },
        Fault::Fin { after: 0 },
        Fault::Reset { after: 0 },
    ] {
        let stats = survives(with(When::UpTo(2), fault)).await;
        assert!(stats.retries >= 1);
    }
    // What had come is not asked for again.
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", once(When::First, Fault::Fin { after: 50_000 }));
    read(&url).await.complete(Pattern::new(SEED), SIZE);
    let ranges: Vec<_> = server
        .requests("/o")
        .iter()
        .map(|request| request.header("range").unwrap_or_default().to_owned())
        .collect();
    assert!(ranges.contains(&"bytes=50000-99999".to_owned()), "{ranges:?}");
    assert_eq!(server.served("/o"), 1);
}

#[tokio::test]
async fn case_23_a_longer_body_is_refused_and_lands_nowhere() {
    fails(
        with(When::Later, Fault::LongLength { by: 3 }),
        ErrorKind::Protocol,
    )
    .await;
    fails(
        with(When::Always, Fault::LongLength { by: 3 }),
        ErrorKind::Protocol,
    )
    .await;
    fails(
        with(When::Later, Fault::LongChunked { by: 3 }),
        ErrorKind::Protocol,
    )
    .await;
    fails(
        with(When::Always, Fault::LongChunked { by: 3 }),
        ErrorKind::Protocol,
    )
    .await;
    // Bytes behind a well framed body belong to no answer: they must not be taken for the next one's head.
    survives(with(When::Always, Fault::Excess { by: 9 })).await;
}

#[tokio::test]
async fn case_24_a_drip_is_given_up_and_the_rest_asked_for() {
    let drip = |chunked| Fault::Drip {
        bytes: 1,
        every: Duration::from_millis(50),
        chunked,
    };
    survives(once(When::Later, drip(false))).await;
    survives(once(When::First, drip(true))).await;
    survives(once(
        When::Later,
        Fault::DripHead {
            every: Duration::from_millis(20),
        },
    ))
    .await;
    fails(
        with(
            When::Always,
            Fault::DripHead {
                every: Duration::from_millis(20),
            },
        ),
        ErrorKind::Timeout,
    )
    .await;
}

#[tokio::test]
async fn case_25_a_stall_anywhere_is_given_up_and_the_rest_asked_for() {
    for fault in [
        Fault::StallBeforeHead,
        Fault::Stall { after: 0 },
        Fault::Stall { after: 50_000 },
    ] {
        survives(once(When::Later, fault.clone())).await;
        survives(once(When::First, fault.clone())).await;
    }
    fails(with(When::Always, Fault::StallBeforeHead), ErrorKind::Timeout).await;
    fails(with(When::Always, Fault::Stall { after: 0 }), ErrorKind::Timeout).await;
}

#[tokio::test]
async fn case_26_interim_answers_trailers_and_extensions_are_skipped_and_excess_refused() {
    for (status, count) in [(100, 1), (103, 3), (102, 15)] {
        survives(with(When::Always, Fault::Interim { status, count })).await;
    }
    fails(
        with(
            When::Always,
            Fault::Interim {
                status: 100,
                count: 17,
            },
        ),
        ErrorKind::Protocol,
    )
    .await;
    fails(
        with(
            When::Always,
            Fault::Interim {
                status: 101,
                count: 1,
            },
        ),
        ErrorKind::Protocol,
    )
    .await;
    for bytes in [1000, 8192, 70_000] {
        survives(with(
            When::Always,
            Fault::Chunked {
                bytes,
                extension: ";name=\"value\"".into(),
                trailers: vec![("X-Trailer".into(), "yes".into())],
            },
        ))
        .await;
    }
    let rich = |extension: String, trailer: usize| Fault::Chunked {
        bytes: 10_000,
        extension,
        trailers: vec![("X-Trailer".into(), "t".repeat(trailer))],
    };
    fails(
        with(When::Always, rich(format!(";{}", "x".repeat(100_000)), 1)),
        ErrorKind::Protocol,
    )
    .await;
    fails(
        with(When::Always, rich(String::new(), 100_000)),
        ErrorKind::Protocol,
    )
    .await;
    survives(with(When::Always, Fault::many_headers(100, 200))).await;
    fails(
        with(When::Always, Fault::many_headers(10_000, 1)),
        ErrorKind::Protocol,
    )
    .await;
    fails(
        with(When::Always, Fault::many_headers(1, 70_000)),
        ErrorKind::Protocol,
    )
    .await;
    for rubbish in [
        &b"SSH-2.0-OpenSSH_9\r\n"[..],
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"<html>",
    ] {
        fails(
            with(When::Always, Fault::Raw(rubbish.to_vec())),
            ErrorKind::Protocol,
        )
        .await;
    }
}

#[tokio::test]
async fn case_29_a_connection_closed_while_idle_costs_nothing() {
    // One stream is one request, and uses no connection again.
    let route = Route::new(object()).fault(When::Reused, Fault::CloseOnReuse);
    let stats = survives_as(&RANGES, route).await;
    assert_eq!(stats.retries, 0);
    let Some(nginx) = require(Nginx::start(&NginxOptions {
        server: "keepalive_requests 3;".into(),
        ..NginxOptions::default()
    })) else {
        return;
    };
    nginx
        .put("o", Pattern::new(SEED).bytes(0, 1_000_003))
        .expect("a file");
    let outcome = read_with(source(&nginx.url("/o")), patient()).await;
    let stats = outcome.complete(Pattern::new(SEED), SIZE);
    assert_eq!(stats.retries, 0);
    let lines = nginx.access_log().expect("a log");
    assert!(
        lines.iter().any(|line| line.split(' ').nth(1) == Some("3")),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_close_that_was_not_announced_and_silence_are_survived() {
    survives(with(When::Always, Fault::CloseAfter)).await;
    survives(once(When::Later, Fault::Empty)).await;
    survives(once(When::Later, Fault::ResetBeforeHead)).await;
    fails(with(When::Always, Fault::Empty), ErrorKind::Unavailable).await;
}

#[tokio::test]
async fn slow_and_jerky_data_is_not_held_back() {
    // Below the speed that raises the mark: the bytes come as they come.
    let server = Hostile::start().expect("a server");
    let url = server.route(
        "/o",
        with(
            When::Always,
            Fault::Drip {
                bytes: 30_000,
                every: Duration::from_millis(3),
                chunked: false,
            },
        ),
    );
    let begun = std::time::Instant::now();
    read(&url).await.complete(Pattern::new(SEED), SIZE);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(server.served("/o") > 0);
}
