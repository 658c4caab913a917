//! Cases 39 to 52.

use std::sync::Arc;

use pget_core::{Download, ErrorKind, RangeSource as _};
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, When},
};

use crate::{
    RANGES, SEED, SIZE, fails, fails_as, object, once, options, read, read_with, reads, source, survives,
    survives_as, with, within,
};

fn other() -> Object {
    Object::new(SEED + 1, SIZE)
}

#[tokio::test]
async fn case_39_a_failed_condition_is_a_change() {
    fails(with(When::Later, Fault::status(412)), ErrorKind::ObjectChanged).await;
    // A server that checks conditions answers so by itself.
    fails(
        with(When::Later, Fault::Revision(other())),
        ErrorKind::ObjectChanged,
    )
    .await;
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(object()));
    read(&url).await.complete(Pattern::new(SEED), SIZE);
    let etag = object().etag;
    let requests = server.requests("/o");
    let conditions = requests
        .iter()
        .filter(|request| request.header("if-match") == etag.as_deref());
    assert_eq!(conditions.count(), requests.len() - 1, "all but the first");
}

#[tokio::test]
async fn case_40_another_etag_is_a_change_where_conditions_are_ignored() {
    fails(
        with(When::Later, Fault::Revision(other())).ignoring_conditions(),
        ErrorKind::ObjectChanged,
    )
    .await;
    fails(
        with(When::Later, Fault::Etag(Some("\"other\"".into()))),
        ErrorKind::ObjectChanged,
    )
    .await;
}

/// A gateway that compares another form of the ETag refuses every condition.
#[tokio::test]
async fn case_39_an_object_whose_condition_is_refused_is_read_without_it() {
    let refusing = || with(When::Conditional, Fault::status(412));
    survives(refusing()).await;
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", refusing());
    read(&url).await.complete(Pattern::new(SEED), SIZE);
    let requests = server.requests("/o");
    let refused = requests
        .iter()
        .filter(|request| request.header("if-match").is_some());
    let refused = refused.count();
    assert!(
        refused <= 4,
        "{refused} requests had a condition after it was refused"
    );
    // The condition is refused because the object has changed.
    let changed = refusing()
        .ignoring_conditions()
        .fault(When::Later, Fault::Revision(other()));
    fails(changed, ErrorKind::ObjectChanged).await;
}

#[tokio::test]
async fn case_41_a_change_between_a_reset_and_the_resume_is_seen() {
    let route = Route::new(object())
        .ignoring_conditions()
        .fault_times(When::First, 1, Fault::Reset { after: 50_000 })
        .fault(When::AfterFault, Fault::Revision(other()));
    fails(route, ErrorKind::ObjectChanged).await;
}

#[tokio::test]
async fn case_42_a_weak_etag_is_no_pin_but_its_date_is() {
    let mut weak = object();
    weak.etag = Some("W/\"weak\"".into());
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(weak.clone()));
    let stats = read(&url).await.complete(Pattern::new(SEED), SIZE);
    assert!(!stats.one_stream);
    reads(&url, SIZE).await;
    for request in server.requests("/o") {
        assert_eq!(
            request.header("if-match"),
            None,
            "servers answer 412 to a weak one"
        );
    }
    // Without a date, one stream is one revision.
    weak.last_modified = None;
    let url = server.route("/p", Route::new(weak));
    let stats = read(&url).await.complete(Pattern::new(SEED), SIZE);
    assert!(stats.one_stream);
    reads(&url, SIZE).await;
}

#[tokio::test]
async fn case_42_an_etag_beyond_ascii_is_no_pin_but_its_date_is() {
    let mut foreign = object();
    foreign.etag = Some("\"\u{e9}\"".into());
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(foreign.clone()));
    let stats = read(&url).await.complete(Pattern::new(SEED), SIZE);
    assert!(!stats.one_stream);
    reads(&url, SIZE).await;
    // It is not dropped in favour of an ETag that another revision had.
    fails(
        with(When::Later, Fault::Etag(foreign.etag.clone())),
        ErrorKind::Protocol,
    )
    .await;
    // Without a date, one stream is one revision.
    foreign.last_modified = None;
    let url = server.route("/p", Route::new(foreign));
    let stats = read(&url).await.complete(Pattern::new(SEED), SIZE);
    assert!(stats.one_stream);
    reads(&url, SIZE).await;
}

#[tokio::test]
async fn case_43_without_etag_the_date_pins_and_without_both_one_stream_is_read() {
    let mut bare = object();
    bare.etag = None;
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(bare.clone()));
    assert!(!read(&url).await.complete(Pattern::new(SEED), SIZE).one_stream);
    reads(&url, SIZE).await;
    let mut later = other();
    later.etag = None;
    let route = Route::new(bare.clone()).fault(When::Later, Fault::Revision(later));
    fails(route, ErrorKind::ObjectChanged).await;
    bare.last_modified = None;
    let url = server.route("/p", Route::new(bare));
    assert!(read(&url).await.complete(Pattern::new(SEED), SIZE).one_stream);
    reads(&url, SIZE).await;
}

#[tokio::test]
async fn case_44_quoting_does_not_matter_but_case_does() {
    let etag = object().etag.expect("it has one");
    let bare = etag.trim_matches('"').to_owned();
    survives(with(When::Later, Fault::Etag(Some(bare)))).await;
    survives(with(When::Later, Fault::Etag(Some(format!("  {etag}  "))))).await;
    let mut object = object();
    object.etag = Some("\"abc\"".into());
    let route = Route::new(object).fault(When::Later, Fault::Etag(Some("\"ABC\"".into())));
    fails(route, ErrorKind::ObjectChanged).await;
    // A later answer without the pinned ETag is not to be trusted, whatever its date.
    fails(with(When::Later, Fault::Etag(None)), ErrorKind::Protocol).await;
}

#[tokio::test]
async fn case_45_deleted_in_mid_read_is_a_change() {
    let error = fails(with(When::Later, Fault::status(404)), ErrorKind::ObjectChanged).await;
    assert!(error.to_line().contains("deleted"), "{}", error.to_line());
}

#[tokio::test]
async fn case_46_deleted_and_made_again_alike_is_the_same() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(object()));
    let download = Download::new(Arc::new(source(&url)), options()).expect("sound options");
    within(async {
        let mut reader = download.reader();
        let first = reader.next().await.expect("it reads").expect("not empty");
        let mut bytes = first.to_vec();
        drop(first);
        server.route("/o", Route::new(object()));
        while let Some(lease) = reader.next().await.expect("it reads on") {
            bytes.extend_from_slice(&lease);
        }
        assert_eq!(Pattern::new(SEED).check(0, &bytes), Ok(()));
        assert_eq!(bytes.len() as u64, SIZE);
    })
    .await;
}

#[tokio::test]
async fn case_47_growth_and_shrinking_are_changes() {
    for size in [SIZE + 1, SIZE - 1, SIZE * 2, 5] {
        let changed = Object { size, ..object() };
        // The same ETag: only the size tells.
        let route = with(When::Later, Fault::Revision(changed)).ignoring_conditions();
        fails(route, ErrorKind::ObjectChanged).await;
    }
}

#[tokio::test]
async fn case_50_the_get_is_believed_not_the_head() {
    for length in [SIZE * 2, SIZE / 2, 0] {
        let server = Hostile::start().expect("a server");
        let url = server.route("/o", with(When::Head, Fault::HeadLength(length)));
        reads(&url, SIZE).await;
        let told = within(source(&url).head()).await.expect("HEAD is answered");
        assert_eq!(told.size, Some(length));
        assert_eq!(server.served("/o"), 1);
    }
}

#[tokio::test]
async fn case_51_where_head_is_refused_the_first_byte_is_asked_for() {
    for status in [403, 405, 501] {
        let server = Hostile::start().expect("a server");
        let url = server.route("/o", with(When::Head, Fault::status(status)));
        let info = within(source(&url).head()).await.expect("GET is not refused");
        assert_eq!((info.size, info.ranges), (Some(SIZE), Some(true)));
        assert_eq!(info.revision.etag, object().etag);
        assert_eq!(server.served("/o"), 1);
        reads(&url, SIZE).await;
        let url = server.route(
            "/e",
            Route::new(Object::new(SEED, 0)).fault(When::Head, Fault::status(status)),
        );
        let info = within(source(&url).head()).await.expect("GET is not refused");
        assert_eq!(info.size, Some(0));
    }
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", with(When::HeadToo, Fault::status(404)));
    let error = within(source(&url).head()).await.expect_err("there is nothing");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn case_52_replicas_that_disagree_are_a_change_and_no_loop() {
    let route = with(
        When::Always,
        Fault::EtagCycle(vec!["\"a\"".into(), "\"b\"".into()]),
    );
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", route);
    read(&url)
        .await
        .failed(Pattern::new(SEED), ErrorKind::ObjectChanged);
    assert!(server.served("/o") > 0 && server.requests("/o").len() < 10);
    let route = with(
        When::Always,
        Fault::EtagCycle(vec!["\"a\"".into(), "\"b\"".into()]),
    );
    // One answer is of one revision.
    fails_as(&RANGES, route, ErrorKind::ObjectChanged).await;
    survives(once(When::Always, Fault::EtagCycle(vec!["\"7-f4243\"".into()]))).await;
}

/// An object without ETag and date: its first range is answered by 206, and then all of it is read
/// by one plain GET, whose answer meets `fault`.
fn unidentified(fault: Fault) -> Route {
    let mut bare = object();
    bare.etag = None;
    bare.last_modified = None;
    Route::new(bare).fault(When::From(2), fault)
}

#[tokio::test]
async fn case_133_half_of_the_size_that_was_reported_is_never_all() {
    let error = fails_as(
        &RANGES,
        unidentified(Fault::ShortLength { by: SIZE / 2 }),
        ErrorKind::ObjectChanged,
    )
    .await;
    let line = error.to_line();
    assert!(line.contains("1000003") && line.contains("500002"), "{line}");
    // A body without a length may only end where the size that was reported does.
    for fault in [
        Fault::ShortChunked { by: SIZE / 2 },
        Fault::ShortChunked { by: 1 },
        Fault::ShortClosed { by: SIZE / 2 },
        Fault::ShortClosed { by: 1 },
    ] {
        fails_as(&RANGES, unidentified(fault), ErrorKind::Protocol).await;
    }
}

#[tokio::test]
async fn case_133_an_object_without_identity_that_has_grown_is_a_change() {
    for fault in [
        Fault::LongLength { by: SIZE },
        Fault::LongLength { by: 1 },
        Fault::LongChunked { by: 1 },
    ] {
        fails_as(&RANGES, unidentified(fault), ErrorKind::ObjectChanged).await;
    }
    // The right size is accepted, with and without a length.
    for fault in [
        Fault::Headers(vec![("X-Nothing".into(), "wrong".into())]),
        Fault::Chunked {
            bytes: 10_000,
            extension: String::new(),
            trailers: Vec::new(),
        },
    ] {
        survives_as(&RANGES, unidentified(fault)).await;
    }
}

#[tokio::test]
async fn case_133_a_stream_is_held_to_the_size_that_head_reported() {
    for (fault, kind) in [
        (Fault::ShortLength { by: 1 }, ErrorKind::ObjectChanged),
        (Fault::ShortChunked { by: 1 }, ErrorKind::Protocol),
        (Fault::LongLength { by: 1 }, ErrorKind::ObjectChanged),
        (Fault::LongChunked { by: 1 }, ErrorKind::ObjectChanged),
    ] {
        let mut dated = object();
        dated.etag = None;
        let server = Hostile::start().expect("a server");
        let url = server.route("/o", Route::new(dated).fault(When::Always, fault.clone()));
        let mut options = options();
        options.concurrency = Some(1);
        options.pin = Some(within(source(&url).head()).await.expect("HEAD is right"));
        let error = read_with(source(&url), options)
            .await
            .failed(Pattern::new(SEED), kind);
        assert!(server.served("/o") > 0, "{fault:?}: {}", error.to_line());
    }
}

#[tokio::test]
async fn case_112_replicas_that_disagree_are_named_and_never_spliced() {
    let others = [
        Fault::Revision(other()),
        Fault::Etag(Some("\"other\"".into())),
        Fault::Etag(Some("W/\"other\"".into())),
    ];
    for (which, fault) in others.into_iter().enumerate() {
        for times in [1, 3] {
            let server = Hostile::start().expect("a server");
            let route =
                Route::new(object())
                    .ignoring_conditions()
                    .fault_times(When::From(4), times, fault.clone());
            let url = server.route("/o", route);
            let error = read(&url)
                .await
                .failed(Pattern::new(SEED), ErrorKind::ObjectChanged);
            let text = error.to_line();
            assert!(
                text.contains("replicas or mirrors disagree") && text.contains("--concurrency 1"),
                "{which}, {times} times: {text}"
            );
        }
    }
    // An object that was overwritten for good is a change like any other.
    let server = Hostile::start().expect("a server");
    let route = Route::new(object())
        .ignoring_conditions()
        .fault(When::From(4), Fault::Revision(other()))
        .fault(When::Head, Fault::Revision(other()));
    let url = server.route("/o", route);
    let error = read(&url)
        .await
        .failed(Pattern::new(SEED), ErrorKind::ObjectChanged);
    assert!(!error.to_line().contains("replicas"), "{}", error.to_line());
}

/// Replicas that differ by one second, or by their size, differ.
#[tokio::test]
async fn case_112_replicas_that_differ_by_date_or_size_alone_disagree() {
    let dated = |seed| {
        let mut dated = Object::new(seed, SIZE);
        (dated.etag, dated.pattern) = (None, Pattern::new(SEED));
        dated
    };
    let mut shorter = object();
    shorter.size = SIZE - 5;
    for (object, other) in [(dated(SEED), dated(SEED + 1)), (object(), shorter)] {
        for times in [1, 3] {
            let server = Hostile::start().expect("a server");
            let route = Route::new(object.clone()).ignoring_conditions();
            let route = route.fault_times(When::From(4), times, Fault::Revision(other.clone()));
            let url = server.route("/o", route);
            let outcome = read(&url).await;
            let text = outcome.failed(Pattern::new(SEED), ErrorKind::ObjectChanged);
            let text = text.to_line();
            assert!(text.contains("replicas or mirrors disagree"), "{text}");
        }
    }
}

/// A replica that leaves the identity out, or does not have the object yet, says nothing of another
/// revision: it is asked again.
#[tokio::test]
async fn case_112_a_replica_that_lags_behind_is_asked_again() {
    for times in [1, 3] {
        for fault in [Fault::Etag(None), Fault::status(404), Fault::status(410)] {
            let route = Route::new(object()).ignoring_conditions();
            let stats = survives(route.fault_times(When::Later, times, fault)).await;
            assert!(stats.retries >= 1);
        }
    }
}
