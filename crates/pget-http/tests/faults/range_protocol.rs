//! Cases 1 to 18.

use http::HeaderMap;
use pget_core::{ErrorKind, RangeSource as _};
use pget_testkit::{
    aistore::{self, Cluster, ClusterOptions},
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, When},
    modes::Expected,
    servers::{Nginx, NginxOptions, PythonServer, require},
};

use crate::{
    CHUNK, RANGES, SEED, SIZE, Shape, client, expected, fails, fails_as, kinds, object, once, options, read,
    read_with, reads, source, survives, survives_as, with, within,
};

#[tokio::test]
async fn case_01_a_range_ignored_at_first_becomes_one_stream() {
    let stats = survives(with(When::Always, Fault::RangeIgnored)).await;
    assert!(stats.one_stream);
    assert_eq!(stats.requests, 1);
    let Some(python) = require(PythonServer::start()) else {
        return;
    };
    python
        .put("o", Pattern::new(SEED).bytes(0, 1_000_003))
        .expect("a file");
    let stats = read(&python.url("/o")).await.complete(Pattern::new(SEED), SIZE);
    assert!(stats.one_stream);
    reads(&python.url("/o"), SIZE).await;
    let Some(nginx) = require(Nginx::start(&NginxOptions {
        server: "max_ranges 0;".into(),
        ..NginxOptions::default()
    })) else {
        return;
    };
    nginx
        .put("o", Pattern::new(SEED).bytes(0, 1_000_003))
        .expect("a file");
    let stats = read(&nginx.url("/o")).await.complete(Pattern::new(SEED), SIZE);
    assert!(stats.one_stream && stats.requests == 1);
    reads(&nginx.url("/o"), SIZE).await;
}

#[tokio::test]
async fn case_02_a_range_ignored_later_is_asked_again_then_refused() {
    survives(once(When::Later, Fault::RangeIgnored)).await;
    fails(with(When::Later, Fault::RangeIgnored), ErrorKind::Protocol).await;
    // Exactly as long as the range: its length proves nothing.
    fails(with(When::Later, Fault::WrongOk), ErrorKind::Protocol).await;
}

#[tokio::test]
async fn case_02_a_200_that_names_its_range_is_that_range() {
    let options = ClusterOptions {
        before_4_1: true,
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(options).await;
    cluster.put("b", "o", aistore::Object::pattern(SEED, SIZE));
    let url = format!("{}/v1/objects/b/o?provider=ais", cluster.endpoint());
    let stats = read(&url).await.complete(Pattern::new(SEED), SIZE);
    // AIStore's identity is in headers of its own, so a plain HTTP read goes on as one stream: of all of the object, not of its first range.
    assert!(stats.one_stream && stats.requests == 2, "{stats:?}");
}

#[tokio::test]
async fn case_03_a_200_for_a_range_that_is_the_whole_object_is_right() {
    let server = Hostile::start().expect("a server");
    let route = Route::new(Object::new(SEED, CHUNK)).fault(When::Always, Fault::RangeIgnored);
    let url = server.route("/o", route);
    let stats = read(&url).await.complete(Pattern::new(SEED), CHUNK);
    assert_eq!((stats.requests, server.served("/o")), (1, 1));
    reads(&url, CHUNK).await;
}

#[tokio::test]
async fn case_04_another_start_of_equal_length_is_refused() {
    for by in [1, CHUNK] {
        fails(with(When::Later, Fault::Shifted { by }), ErrorKind::Protocol).await;
        fails(with(When::First, Fault::Shifted { by }), ErrorKind::Protocol).await;
    }
}

#[tokio::test]
async fn case_05_a_clipped_range_is_taken_and_the_rest_asked_for() {
    let stats = survives(with(When::Always, Fault::Clipped { length: 40_000 })).await;
    assert!(stats.requests > SIZE.div_ceil(CHUNK) * 2, "{stats:?}");
}

#[tokio::test]
async fn case_06_a_longer_range_is_refused() {
    fails(with(When::Later, Fault::Extended { by: 1 }), ErrorKind::Protocol).await;
    fails(with(When::First, Fault::Extended { by: 1 }), ErrorKind::Protocol).await;
}

#[tokio::test]
async fn case_07_a_206_without_content_range_is_refused() {
    fails(with(When::First, Fault::NoContentRange), ErrorKind::Protocol).await;
    fails(with(When::Later, Fault::NoContentRange), ErrorKind::Protocol).await;
}

#[tokio::test]
async fn case_08_an_unknown_total_will_do_later_but_not_at_first() {
    let star = || Fault::content_range("bytes {start}-{end}/*");
    survives(with(When::Later, star())).await;
    fails(with(When::Always, star()), ErrorKind::Protocol).await;
}

#[tokio::test]
async fn case_09_another_total_is_a_change() {
    for total in ["1000004", "1000002", "9223372036854775807"] {
        let fault = Fault::ContentRange(vec![format!("bytes {{start}}-{{end}}/{total}")]);
        // A range that ends behind the total it states contradicts itself before it contradicts the pin.
        fails(with(When::Later, fault), ErrorKind::ObjectChanged).await;
    }
}

#[tokio::test]
async fn case_10_impossible_content_ranges_are_refused() {
    let max = u64::MAX;
    let values = [
        format!("bytes {max}-{max}/{max}"),
        format!("bytes {{start}}-{max}/*"),
        "bytes -5-{end}/{total}".into(),
        "bytes {start}-{end}/-1".into(),
        format!("bytes {{start}}-{}/{{total}}", "9".repeat(30)),
        "bytes  {start} - {end} / {total}".into(),
        "bytes {end}-{start}/{total}".into(),
        "bytes */{total}".into(),
        "lines {start}-{end}/{total}".into(),
        String::new(),
    ];
    for value in values {
        let fault = Fault::ContentRange(vec![value]);
        fails(with(When::Always, fault), ErrorKind::Protocol).await;
    }
    let one = "bytes {start}-{end}/{total}".to_owned();
    let twice = vec![one, "bytes {start}-{end}/1{total}".into()];
    fails(
        with(When::Always, Fault::ContentRange(twice)),
        ErrorKind::Protocol,
    )
    .await;
}

#[tokio::test]
async fn case_11_parts_for_one_range_are_refused() {
    fails(with(When::Always, Fault::Multipart), ErrorKind::Protocol).await;
    fails(with(When::Later, Fault::Multipart), ErrorKind::Protocol).await;
}

#[tokio::test]
async fn case_12_identity_is_asked_for_and_a_body_coded_on_the_way_refused() {
    for coding in ["gzip", "br", "identity, gzip"] {
        let coded = Fault::ContentEncoding(coding.into());
        fails(with(When::Later, coded.clone()), ErrorKind::Protocol).await;
        fails_as(&RANGES, with(When::Nth(1), coded), ErrorKind::Protocol).await;
    }
    survives(with(When::Always, Fault::ContentEncoding("identity".into()))).await;
    survives(with(When::Later, Fault::ContentEncoding("identity".into()))).await;
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(object()));
    read(&url).await.complete(Pattern::new(SEED), SIZE);
    for request in server.requests("/o") {
        assert_eq!(request.header("accept-encoding"), Some("identity"));
    }
    // A server that would gladly compress.
    let Some(nginx) = require(Nginx::start(&NginxOptions {
        server: "gzip on; gzip_types *; gzip_min_length 1;".into(),
        ..NginxOptions::default()
    })) else {
        return;
    };
    nginx.put("o", vec![b'a'; 300_000]).expect("a file");
    let outcome = read(&nginx.url("/o")).await;
    assert!(outcome.end.is_ok() && outcome.bytes == vec![b'a'; 300_000]);
}

/// The object as it is stored with this coding.
fn stored(coding: &str) -> Object {
    let mut stored = object();
    stored.headers = vec![("Content-Encoding".into(), coding.into())];
    stored
}

#[tokio::test]
async fn case_115_an_object_that_is_stored_with_a_coding_is_read_as_stored() {
    let shapes = [Shape::Whole, Shape::Part, Shape::Ranges(4)];
    for coding in [
        "gzip",
        "x-gzip",
        "br",
        "zstd",
        "identity, gzip",
        "UTF-8",
        "none",
        "binary",
    ] {
        let coded = Fault::ContentEncoding(coding.into());
        survives_as(&shapes, with(When::Always, coded)).await;
    }
    // By its date, if it has no ETag; as one stream, if ranges are not served.
    let mut dated = stored("gzip");
    dated.etag = None;
    survives_as(
        &shapes,
        Route::new(dated).fault_times(When::Always, 1, Fault::Fin { after: 9 }),
    )
    .await;
    survives_as(
        &shapes,
        Route::new(stored("br")).fault(When::Always, Fault::RangeIgnored),
    )
    .await;
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(stored("gzip")));
    let info = within(source(&url).head()).await.expect("it is served");
    assert_eq!(info.size, Some(SIZE));
}

#[tokio::test]
async fn case_115_a_server_that_codes_on_the_way_is_refused() {
    let route = || Route::new(stored("gzip"));
    let total = Fault::content_range("bytes {start}-{end}/2{total}");
    let etag = |etag: &str| Fault::Etag(Some(etag.into()));
    for (when, fault) in [
        (When::Later, total),
        (When::Later, etag("\"7-f4243-gzip\"")),
        (When::Always, etag("W/\"7-f4243\"")),
        (When::Always, Fault::NoContentRange),
        (When::Always, Fault::content_range("bytes {start}-{end}/*")),
    ] {
        fails(route().fault(when, fault), ErrorKind::Protocol).await;
    }
    // A plain stream of no length; and nothing to hold it to.
    let chunked = Fault::Chunked {
        bytes: 5000,
        extension: String::new(),
        trailers: Vec::new(),
    };
    let whole = [Shape::Whole];
    fails_as(&whole, route().fault(When::Always, chunked), ErrorKind::Protocol).await;
    let mut unknown = stored("gzip");
    (unknown.etag, unknown.last_modified) = (None, None);
    fails(
        Route::new(unknown).fault(When::Always, Fault::RangeIgnored),
        ErrorKind::Protocol,
    )
    .await;
    // A coded object that is replaced has changed.
    fails(
        route().fault(When::Later, etag("\"other\"")),
        ErrorKind::ObjectChanged,
    )
    .await;
}

#[tokio::test]
async fn case_116_equal_headers_are_one_and_others_refused() {
    let header = |name: &str, value: &str| Fault::Headers(vec![(name.into(), value.into())]);
    let shapes = [Shape::Part, Shape::Ranges(4)];
    let label = "bytes {start}-{end}/{total}";
    for fault in [
        header("ETag", "\"7-f4243\""),
        header("Last-Modified", "Wed, 01 Jan 2020 00:00:07 GMT"),
        Fault::ContentRange(vec![label.into(); 2]),
        Fault::ContentRange(vec![format!("{label}, {label}")]),
        Fault::ContentRange(vec!["{start}-{end}/{total}".into()]),
        Fault::ContentRange(vec!["BYTES  {start}-{end}/{total}".into()]),
        Fault::ContentRange(vec!["bytes: {start}-{end}/{total}".into()]),
        Fault::ContentRange(vec!["bytes={start}-{end}/{total}".into()]),
    ] {
        survives_as(&shapes, with(When::Always, fault)).await;
    }
    let whole = [Shape::Whole];
    survives_as(&whole, with(When::Always, header("Content-Length", "1000003"))).await;
    let list = Fault::ContentLength("1000003, 1000003".into());
    survives_as(&whole, with(When::Always, list)).await;
    for fault in [
        header("ETag", "\"7-f4244\""),
        header("ETag", "W/\"7-f4243\""),
        header("Last-Modified", "Wed, 01 Jan 2020 00:00:08 GMT"),
        Fault::ContentRange(vec![label.into(), "bytes 0-0/{total}".into()]),
        header("Content-Length", "5"),
        Fault::ContentLength("1000003, 5".into()),
    ] {
        fails(with(When::Always, fault), ErrorKind::Protocol).await;
    }
    // A length beside a chunked body stays refused.
    let both = header("Transfer-Encoding", "chunked");
    fails(with(When::Always, both), ErrorKind::Protocol).await;
}

#[tokio::test]
async fn case_116_a_location_that_is_not_encoded_leads_where_it_says() {
    let server = Hostile::start().expect("a server");
    for (location, path) in [
        ("/caf\u{e9}", "/caf%C3%A9"),
        ("/a b", "/a%20b"),
        ("/a b?c=\u{e9} d", "/a%20b?c=%C3%A9%20d"),
    ] {
        let file = path.split('?').next().expect("it has a path");
        server.route(file, Route::new(object()));
        let url = server.route("/o", with(When::Always, Fault::redirect(302, location)));
        read(&url).await.complete(Pattern::new(SEED), SIZE);
        let seen = server.requests(file);
        assert!(!seen.is_empty() && seen.iter().any(|request| request.target == path));
    }
    let twice = |second: &str| Fault::Answer {
        status: 302,
        headers: vec![
            ("Location".into(), "/a%20b".into()),
            ("Location".into(), second.into()),
        ],
        body: Vec::new(),
    };
    let url = server.route("/o", with(When::Always, twice("/a%20b")));
    read(&url).await.complete(Pattern::new(SEED), SIZE);
    fails(with(When::Always, twice("/b")), ErrorKind::Protocol).await;
}

#[tokio::test]
async fn case_13_wrong_bytes_behind_right_headers_are_the_documented_limit() {
    // Plain HTTP publishes no checksum, so nothing can tell; the test holds the limit where it is: only the faulty range differs.
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", once(When::Later, Fault::WrongBytes));
    let outcome = read(&url).await;
    assert!(outcome.end.is_ok() && outcome.bytes.len() as u64 == SIZE);
    let wrong = Pattern::new(SEED)
        .check(0, &outcome.bytes)
        .expect_err("the bytes are of another seed");
    assert_eq!((wrong / CHUNK > 0, server.served("/o")), (true, 1));
}

#[tokio::test]
async fn case_14_a_refused_range_inside_the_object_is_a_change() {
    fails(
        with(When::Later, Fault::unsatisfiable(Some(100))),
        ErrorKind::ObjectChanged,
    )
    .await;
    fails(
        with(When::Later, Fault::unsatisfiable(None)),
        ErrorKind::ObjectChanged,
    )
    .await;
}

#[tokio::test]
async fn case_15_an_empty_object_is_an_empty_read() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(SEED, 0)));
    reads(&url, 0).await;
    let url = server.route("/p", with(When::Always, Fault::unsatisfiable(Some(0))));
    read(&url).await.complete(Pattern::new(SEED), 0);
    assert_eq!(server.served("/p"), 1);
    reads(&url, 0).await;
}

#[tokio::test]
async fn case_16_a_refusal_that_does_not_tell_the_size_is_looked_up() {
    let server = Hostile::start().expect("a server");
    let route = Route::new(Object::new(SEED, 0)).fault(When::Always, Fault::unsatisfiable(None));
    let url = server.route("/o", route);
    read(&url).await.complete(Pattern::new(SEED), 0);
    // Once for a range, and once for everything.
    assert_eq!(server.served("/o"), 2);
    reads(&url, 0).await;
    // Asked for what begins at the end, and behind it.
    let url = server.route("/p", with(When::Always, Fault::unsatisfiable(None)));
    for (offset, kind) in [(SIZE, None), (SIZE + 1, Some(ErrorKind::Range))] {
        let mut options = options();
        options.offset = offset;
        let nothing = Expected {
            offset,
            ..expected(0)
        };
        assert_eq!(kinds(source(&url), options, nothing).await, kind, "{offset}");
    }
    assert!(server.served("/p") >= 2);
}

#[tokio::test]
async fn case_17_every_range_sent_is_one_range_with_an_end_behind_its_start() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", with(When::Always, Fault::Clipped { length: 33_333 }));
    for (offset, length) in [(0, None), (1, Some(1)), (SIZE - 1, Some(5)), (17, None)] {
        let mut options = options();
        (options.offset, options.length) = (offset, length);
        assert!(read_with(source(&url), options).await.end.is_ok());
    }
    let requests = server.requests("/o");
    assert!(requests.len() > 20 && server.served("/o") > 0);
    for request in requests {
        let range = request.header("range").expect("all of these have one");
        let (first, last) = range
            .strip_prefix("bytes=")
            .and_then(|rest| rest.split_once('-'))
            .expect("bytes=A-B");
        let number = |text: &str| text.parse::<u64>().expect("a number");
        assert!(last.is_empty() || number(first) <= number(last), "{range}");
    }
}

#[tokio::test]
async fn case_18_redirects_that_are_none_are_refused() {
    for status in [300, 304, 305, 306] {
        fails(
            with(When::Always, Fault::redirect(status, "/elsewhere")),
            ErrorKind::Protocol,
        )
        .await;
    }
    let client = client();
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", with(When::HeadToo, Fault::redirect(305, "/o")));
    let source = pget_http::HttpSource::new(client, &url, HeaderMap::new()).expect("an address");
    let error = within(source.head()).await.expect_err("305 is no answer");
    assert_eq!(error.kind(), ErrorKind::Protocol);
}
