//! Cases 109, 110, 117 and 118: what the first answers have proved (where the object is served
//! from, whether ranges are, whether HEAD is) is kept for the download.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use pget_core::{ErrorKind, Options, RangeSource as _};
use pget_http::HttpSource;
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, Seen, When},
};

use crate::{
    CHUNK, SEED, SIZE, Shape, client, expected, fails, kinds, object, options, patient, read, read_with,
    source, survives_as, with, within,
};

/// Many small chunks, so that a redirect for each would be seen.
fn small_chunks() -> Options {
    let mut options = patient();
    options.chunk_size = Some(CHUNK / 10);
    options.concurrency = Some(8);
    options
}

fn hub_to(url: &str) -> Route {
    with(When::HeadToo, Fault::redirect(302, url))
}

/// Leads to `first` once, and to `then` from there on.
fn hub_to_two(first: &str, then: &str) -> Route {
    Route::new(object())
        .fault(When::Nth(1), Fault::redirect(302, first))
        .fault(When::Always, Fault::redirect(302, then))
}

fn signed(url: &str, number: u32) -> String {
    format!("{url}?X-Amz-Expires=60&X-Amz-Signature={number}")
}

fn gets(server: &Hostile, path: &str) -> usize {
    let seen = server.requests(path);
    seen.iter().filter(|request| request.method == "GET").count()
}

#[tokio::test]
async fn case_109_the_target_of_redirects_serves_the_whole_download() {
    for status in [301, 302, 303, 307, 308] {
        let (first, second, last) = (
            Hostile::start().expect("a server"),
            Hostile::start().expect("a server"),
            Hostile::start().expect("a server"),
        );
        let target = signed(&last.route("/o", Route::new(object())), 1);
        let target = second.route("/hop", with(When::HeadToo, Fault::redirect(status, &target)));
        let url = first.route("/o", with(When::HeadToo, Fault::redirect(status, &target)));
        let source = source(&url);
        within(source.head()).await.expect("it is served");
        read_with(source, small_chunks())
            .await
            .complete(Pattern::new(SEED), SIZE);
        let asked = (first.requests("/o").len(), second.requests("/hop").len());
        assert!(asked.0 <= 2 && asked.1 <= 2, "{status}: {asked:?}");
        assert!(last.requests("/o").len() > 100);
    }
}

#[tokio::test]
async fn case_109_a_target_that_has_expired_is_asked_for_again() {
    for status in [400, 401, 403, 404, 410, 451, 501] {
        let server = Hostile::start().expect("a server");
        let expiring = with(When::From(5), Fault::status(status));
        let first = signed(&server.route("/t1", expiring), 1);
        let second = signed(&server.route("/t2", Route::new(object())), 2);
        let url = server.route("/o", hub_to_two(&first, &second));
        let stats = read_with(source(&url), small_chunks())
            .await
            .complete(Pattern::new(SEED), SIZE);
        assert_eq!(stats.retries, 0, "{status}: the same attempt goes on");
        assert_eq!(gets(&server, "/o"), 2, "{status}: one of them asks for all");
        assert!(server.served("/t1") > 0, "{status}");
    }
}

#[tokio::test]
async fn case_109_a_hub_that_limits_redirects_is_not_asked_again() {
    let server = Hostile::start().expect("a server");
    let target = server.route("/t", Route::new(object()));
    let limit = Fault::Answer {
        status: 429,
        headers: vec![("RateLimit".into(), "\"resolvers\";r=0;t=87".into())],
        body: Vec::new(),
    };
    let hub = Route::new(object())
        .fault(When::Nth(1), Fault::redirect(302, &target))
        .fault(When::Always, limit);
    let url = server.route("/o", hub);
    read_with(source(&url), small_chunks())
        .await
        .complete(Pattern::new(SEED), SIZE);
    assert_eq!(gets(&server, "/o"), 1);
    // A target that fails in passing is no reason to ask it, either.
    let server = Hostile::start().expect("a server");
    let failing = Route::new(object())
        .fault(When::Nth(4), Fault::status(503))
        .fault(When::Nth(6), Fault::ResetBeforeHead)
        .fault(When::Nth(8), Fault::status(429));
    let target = server.route("/t", failing);
    let url = server.route("/o", hub_to(&target));
    read_with(source(&url), small_chunks())
        .await
        .complete(Pattern::new(SEED), SIZE);
    assert_eq!((gets(&server, "/o"), server.served("/t")), (1, 3));
}

#[tokio::test]
async fn case_109_a_target_that_is_gone_is_looked_for_again() {
    for fault in [
        Fault::status(500),
        Fault::status(530),
        Fault::status(421),
        Fault::ResetBeforeHead,
        Fault::Empty,
        Fault::StallBeforeHead,
        Fault::redirect(302, "file:///etc/passwd"),
    ] {
        let server = Hostile::start().expect("a server");
        let first = signed(&server.route("/t1", with(When::From(4), fault.clone())), 1);
        let second = signed(&server.route("/t2", Route::new(object())), 2);
        let url = server.route("/o", hub_to_two(&first, &second));
        read(&url).await.complete(Pattern::new(SEED), SIZE);
        let asked = gets(&server, "/o");
        assert!((2..=4).contains(&asked), "{fault:?}: {asked}");
        assert!(server.served("/t1") > 0, "{fault:?}");
    }
}

#[tokio::test]
async fn case_109_a_target_that_fails_outlasts_a_hub_that_cannot_tell() {
    let server = Hostile::start().expect("a server");
    let failing = Route::new(object()).fault_times(When::From(4), 12, Fault::status(500));
    let target = server.route("/t", failing);
    let hub = Route::new(object())
        .fault(When::Nth(1), Fault::redirect(302, &target))
        .fault(When::Always, Fault::status(503));
    let url = server.route("/o", hub);
    let mut options = options();
    options.retries = Some(30);
    read_with(source(&url), options)
        .await
        .complete(Pattern::new(SEED), SIZE);
    assert!(server.served("/t") == 12 && gets(&server, "/o") < 10);
}

#[tokio::test]
async fn case_109_what_stays_with_an_origin_does_so_on_the_remembered_way() {
    let (origin, elsewhere) = (
        Hostile::start().expect("a server"),
        Hostile::start().expect("a server"),
    );
    // There and back again: what the first hop took away does not come back.
    let target = origin.route("/target", Route::new(object()));
    let target = elsewhere.route("/hop", hub_to(&target));
    let url = origin.route("/o", hub_to(&target));
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static("Bearer hunter2"));
    headers.insert("x-own", HeaderValue::from_static("hunter2"));
    let source = HttpSource::new(client(), &url, headers).expect("an address");
    let shown = source.clone();
    read_with(source, small_chunks())
        .await
        .complete(Pattern::new(SEED), SIZE);
    let has = |seen: &Seen| seen.header("authorization").is_some() || seen.header("x-own").is_some();
    assert!(origin.requests("/o").iter().all(has));
    let target = origin.requests("/target");
    assert!(target.len() > 50 && !target.iter().any(has));
    assert!(!elsewhere.requests("/hop").iter().any(has));
    // Nor is a signature shown.
    let server = Hostile::start().expect("a server");
    let target = server.route("/t", with(When::From(3), Fault::status(403)));
    let target = format!("{target}?sig=hunter2");
    let url = server.route("/o", hub_to(&target));
    let refused = read(&url)
        .await
        .failed(Pattern::new(SEED), ErrorKind::PermissionDenied);
    let text = format!("{shown:?} {refused:?} {}", refused.to_line());
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn case_110_one_of_several_mirrors_serves_a_download() {
    let server = Hostile::start().expect("a server");
    let mirror = |etag: Option<&str>| {
        let mut mirrored = object();
        mirrored.etag = etag.map(str::to_owned);
        Route::new(mirrored)
    };
    for etags in [
        (Some("\"a\""), Some("\"b\"")),
        (Some("\"a\""), None),
        (None, Some("\"b\"")),
    ] {
        let first = server.route("/first", mirror(etags.0));
        let second = server.route("/second", mirror(etags.1));
        let url = server.route("/o", hub_to_two(&first, &second));
        let asked = server.requests("/second").len();
        read_with(source(&url), small_chunks())
            .await
            .complete(Pattern::new(SEED), SIZE);
        assert_eq!(server.requests("/second").len(), asked, "{etags:?}");
    }
}

/// Checks that the error `text` says that redirects differ, and names both servers.
fn names_both(text: &str, first: &Hostile, second: &Hostile) {
    for word in [
        "redirects lead to different servers",
        &first.address().to_string(),
        &second.address().to_string(),
    ] {
        assert!(text.contains(word), "{text}");
    }
}

#[tokio::test]
async fn case_110_mirrors_that_differ_are_named_when_one_has_to_follow_another() {
    for etag in [Some("\"other\"".to_owned()), None] {
        let (first, second, hub) = (
            Hostile::start().expect("a server"),
            Hostile::start().expect("a server"),
            Hostile::start().expect("a server"),
        );
        let from = first.route("/o", with(When::From(4), Fault::status(403)));
        let mut other = object();
        other.etag = etag;
        let to = second.route("/o", Route::new(other).ignoring_conditions());
        let hub_route = hub_to_two(&format!("{from}?sig=hunter2"), &format!("{to}?sig=hunter2"));
        let url = hub.route("/o", hub_route);
        let error = read(&url)
            .await
            .failed(Pattern::new(SEED), ErrorKind::ObjectChanged);
        let text = error.to_line();
        names_both(&text, &first, &second);
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(error.attempts(), 1);
    }
}

/// One stream whatever is asked for; the last one is cut, so that it has to go on.
const SHAPES: [Shape; 3] = [Shape::Part, Shape::Ranges(4), Shape::Ranges(16)];

/// Neither the download nor its caller has set a condition, and nothing was read that could have
/// changed.
#[tokio::test]
async fn case_117_a_condition_that_was_not_set_is_no_change() {
    let error = fails(with(When::Always, Fault::status(412)), ErrorKind::Protocol).await;
    let text = error.to_line();
    assert!(text.contains("to a request without a condition"), "{text}");
}

#[tokio::test]
async fn case_117_a_refused_first_range_becomes_one_plain_stream() {
    for status in [400, 403, 404, 405, 406, 410, 412, 416, 451, 501, 505] {
        let refusing = || with(When::Ranged, Fault::status(status));
        survives_as(&SHAPES, refusing()).await;
        let cut = Fault::Fin { after: CHUNK * 2 + 7 };
        survives_as(&SHAPES, refusing().fault_times(When::First, 1, cut)).await;
        let server = Hostile::start().expect("a server");
        let url = server.route("/o", refusing());
        read(&url).await.complete(Pattern::new(SEED), SIZE);
        let ranged = server.served("/o");
        assert_eq!((ranged, server.requests("/o").len()), (1, 2), "{status}");
    }
    // From the middle on, by what comes before it; but for 416, which may be right there.
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", with(When::Ranged, Fault::status(403)));
    let mut options = options();
    options.offset = SIZE / 2;
    let half = pget_testkit::modes::Expected {
        offset: SIZE / 2,
        ..expected(SIZE - SIZE / 2)
    };
    assert_eq!(kinds(source(&url), options, half).await, None);
}

/// Some servers never answer where a range is asked for.
#[tokio::test]
async fn case_117_a_first_range_without_an_answer_becomes_one_plain_stream() {
    for shape in [Shape::Part, Shape::Ranges(4)] {
        let server = Hostile::start().expect("a server");
        let url = server.route("/o", with(When::Ranged, Fault::StallBeforeHead));
        let mut options = options();
        options.deadlines.first_byte = Duration::from_secs(30);
        let mut size = SIZE;
        if shape == Shape::Part {
            options.concurrency = Some(1);
            size -= 1000;
            options.length = Some(size);
        }
        read_with(source(&url), options)
            .await
            .complete(Pattern::new(SEED), size);
        let (ranged, all) = (server.served("/o"), server.requests("/o").len());
        assert_eq!((ranged, all), (1, 2), "{shape:?}");
    }
}

/// Some servers fail at ranges instead of refusing them, again and again, and serve a plain GET.
#[tokio::test]
async fn case_117_a_first_range_that_always_fails_becomes_one_plain_stream() {
    for fault in [
        Fault::status(500),
        Fault::status(502),
        Fault::status(503),
        Fault::ResetBeforeHead,
        Fault::Empty,
    ] {
        survives_as(&SHAPES, with(When::Ranged, fault.clone())).await;
        let server = Hostile::start().expect("a server");
        let url = server.route("/o", with(When::Ranged, fault.clone()));
        read(&url).await.complete(Pattern::new(SEED), SIZE);
        let (ranged, all) = (server.served("/o"), server.requests("/o").len());
        assert!(
            ranged >= 3 && all == usize::try_from(ranged).expect("few") + 1,
            "{fault:?}: {ranged} of {all}"
        );
    }
    // A server that is away is asked no more than once beside each second probe.
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", with(When::HeadToo, Fault::status(503)));
    let error = read(&url)
        .await
        .failed(Pattern::new(SEED), ErrorKind::Unavailable);
    let asked = server.requests("/o").len();
    assert!(
        asked <= 5 && error.attempts() == 4,
        "{asked} requests: {}",
        error.to_line()
    );
}

#[tokio::test]
async fn case_117_a_real_refusal_is_final_after_few_requests() {
    for (status, kind) in [
        (400, ErrorKind::Protocol),
        (401, ErrorKind::PermissionDenied),
        (403, ErrorKind::PermissionDenied),
        (404, ErrorKind::NotFound),
        (501, ErrorKind::Protocol),
    ] {
        let server = Hostile::start().expect("a server");
        let url = server.route("/o", with(When::HeadToo, Fault::status(status)));
        read(&url).await.failed(Pattern::new(SEED), kind);
        let asked = server.requests("/o").len();
        assert!(asked <= 4, "{status}: {asked} requests");
    }
    // Where ranges were served, a refusal is one.
    let error = fails(with(When::Later, Fault::status(403)), ErrorKind::PermissionDenied).await;
    assert!(error.to_line().contains("403"));
}

#[tokio::test]
async fn case_118_a_refused_head_is_made_up_for_by_a_byte() {
    for fault in [
        Fault::status(400),
        Fault::status(401),
        Fault::status(403),
        Fault::status(404),
        Fault::status(405),
        Fault::status(411),
        Fault::status(429),
        Fault::status(500),
        Fault::status(501),
        Fault::status(503),
        Fault::status(204),
        Fault::Empty,
        Fault::ResetBeforeHead,
        Fault::StallBeforeHead,
        Fault::Raw(b"220 mail.example ESMTP\r\n".to_vec()),
        Fault::ContentLength("-5".into()),
    ] {
        let server = Hostile::start().expect("a server");
        let url = server.route("/o", with(When::Head, fault.clone()));
        let info = within(source(&url).head()).await;
        let info = info.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!((info.size, info.ranges), (Some(SIZE), Some(true)), "{fault:?}");
        // Where ranges are refused, too.
        let refusing = Route::new(object())
            .fault(When::Head, fault.clone())
            .fault(When::Ranged, Fault::status(403));
        let url = server.route("/p", refusing);
        let info = within(source(&url).head()).await;
        let info = info.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!((info.size, info.ranges), (Some(SIZE), Some(false)), "{fault:?}");
    }
    // Nothing is made up for where there is nothing.
    for (status, kind) in [(404, ErrorKind::NotFound), (403, ErrorKind::PermissionDenied)] {
        let server = Hostile::start().expect("a server");
        let url = server.route("/o", with(When::HeadToo, Fault::status(status)));
        let error = within(source(&url).head()).await.expect_err("it is refused");
        assert_eq!(error.kind(), kind);
    }
    let server = Hostile::start().expect("a server");
    let empty = Route::new(Object::new(SEED, 0)).fault(When::Head, Fault::status(405));
    let url = server.route("/empty", empty);
    let info = within(source(&url).head()).await.expect("it is there");
    assert_eq!(info.size, Some(0));
}

#[tokio::test]
async fn case_118_a_head_that_is_late_is_not_waited_for() {
    let server = Hostile::start().expect("a server");
    let late = Fault::Delay(Duration::from_secs(20));
    let url = server.route("/o", with(When::Head, late));
    let info = within(source(&url).head()).await.expect("it is served");
    assert_eq!(info.size, Some(SIZE));
}

/// A mirror whose copy has the same identity goes on where another one ended.
#[tokio::test]
async fn case_110_a_mirror_with_the_same_identity_follows_another() {
    for ends in [Fault::status(403), Fault::status(404), Fault::ResetBeforeHead] {
        let (first, second, hub) = (
            Hostile::start().expect("a server"),
            Hostile::start().expect("a server"),
            Hostile::start().expect("a server"),
        );
        let from = first.route("/o", with(When::From(4), ends.clone()));
        let to = second.route("/o", Route::new(object()));
        let url = hub.route("/o", hub_to_two(&from, &to));
        let mut options = patient();
        options.retries = None;
        read_with(source(&url), options)
            .await
            .complete(Pattern::new(SEED), SIZE);
        assert!(first.served("/o") > 0, "{ends:?}");
        assert!(!second.requests("/o").is_empty(), "{ends:?}");
    }
}

/// The mirrors' copies have no ETag and equal dates; their sizes alone differ.
#[tokio::test]
async fn case_110_mirrors_whose_sizes_differ_are_named() {
    let (first, second, hub) = (
        Hostile::start().expect("a server"),
        Hostile::start().expect("a server"),
        Hostile::start().expect("a server"),
    );
    let dated = |size| {
        let mut dated = object();
        (dated.etag, dated.size) = (None, size);
        Route::new(dated)
    };
    let from = first.route("/o", dated(SIZE).fault(When::From(4), Fault::status(403)));
    let to = second.route("/o", dated(SIZE + 5));
    let url = hub.route("/o", hub_to_two(&from, &to));
    let outcome = read(&url).await;
    let error = outcome.failed(Pattern::new(SEED), ErrorKind::ObjectChanged);
    names_both(&error.to_line(), &first, &second);
}
