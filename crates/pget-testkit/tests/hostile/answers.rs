//! Heads, ranges, statuses, redirects and identities that are wrong.

use pget_testkit::content::Pattern;
use pget_testkit::hostile::{Fault, Hostile, Object, Route, When};

use crate::client::{Client, ConcatData as _, PATTERN, SIZE, met, object, pattern};

#[test]
fn ranges_that_are_not_what_was_asked() {
    let whole = (200, "", 0, 100_000);
    let cases = [
        (Fault::RangeIgnored, whole),
        (Fault::WrongOk, (200, "", 0, 1000)),
        (
            Fault::Shifted { by: 8 },
            (206, "bytes 1008-2007/100000", 1008, 1000),
        ),
        (
            Fault::Shifted { by: u64::MAX },
            (206, "bytes 99000-99999/100000", 99_000, 1000),
        ),
        (
            Fault::Clipped { length: 10 },
            (206, "bytes 1000-1009/100000", 1000, 10),
        ),
        (
            Fault::Extended { by: 5 },
            (206, "bytes 1000-2004/100000", 1000, 1005),
        ),
        (Fault::NoContentRange, (206, "", 1000, 1000)),
        (
            Fault::content_range("bytes {start}-{end}/*"),
            (206, "bytes 1000-1999/*", 1000, 1000),
        ),
        (
            Fault::content_range("bytes 0-18446744073709551615/1"),
            (206, "bytes 0-18446744073709551615/1", 1000, 1000),
        ),
        (
            Fault::ContentEncoding("gzip".into()),
            (206, "bytes 1000-1999/100000", 1000, 1000),
        ),
        (
            Fault::LongLength { by: 3 },
            (206, "bytes 1000-1999/100000", 1000, 1003),
        ),
        (
            Fault::ShortLength { by: 3 },
            (206, "bytes 1000-1999/100000", 1000, 997),
        ),
    ];
    for (fault, (status, range, start, length)) in cases {
        let (server, mut client) = met(fault.clone());
        let head = client.head();
        assert_eq!(head.status[9..12], status.to_string(), "{fault:?}");
        assert_eq!(head.get("content-range"), range, "{fault:?}");
        assert_eq!(head.length(), length, "{fault:?}");
        assert_eq!(client.body(length), pattern(start, length), "{fault:?}");
        assert_eq!(server.served("/a"), 1, "{fault:?}");
        assert_eq!(
            head.get("content-encoding") == "gzip",
            matches!(fault, Fault::ContentEncoding(_))
        );
        // The framing was right, so the connection can carry another request.
        client.ask("HEAD", "/a", "");
        assert_eq!(client.head().length(), 100_000, "{fault:?}");
        assert_eq!(server.served("/a"), 1, "HEAD is not met by {fault:?}");
    }
}

#[test]
fn other_bytes_two_ranges_and_multipart() {
    let (server, mut client) = met(Fault::WrongBytes);
    let head = client.head();
    assert_eq!(head.get("content-range"), "bytes 1000-1999/100000");
    assert!(
        PATTERN
            .check(1000, &client.body(1000))
            .is_err_and(|wrong| wrong < 1008)
    );
    assert_eq!(server.served("/a"), 1);

    let (_server, mut client) = met(Fault::ContentRange(vec![
        "bytes 0-1/2".into(),
        "bytes  -1-5/9".into(),
    ]));
    assert_eq!(
        client.head().all("content-range"),
        ["bytes 0-1/2", "bytes  -1-5/9"]
    );

    let (_server, mut client) = met(Fault::Multipart);
    let head = client.head();
    assert_eq!(head.get("content-type"), "multipart/byteranges; boundary=pget");
    let body = client.body(head.length());
    assert!(body.windows(1000).any(|window| window == pattern(1000, 1000)));
}

#[test]
fn strange_but_lawful_heads_and_huge_ones() {
    let (server, mut client) = met(Fault::Interim {
        status: 103,
        count: 3,
    });
    for _ in 0..3 {
        assert_eq!(client.head().status, "HTTP/1.1 103 Interim");
    }
    assert_eq!(client.head().length(), 1000);
    assert_eq!(server.served("/a"), 1);

    let trailers = vec![("X-Sum".to_owned(), "1".to_owned())];
    let (_server, mut client) = met(Fault::Chunked {
        bytes: 300,
        extension: ";a=b".into(),
        trailers,
    });
    client.head();
    let (chunks, trailers) = client.chunks();
    assert_eq!(
        chunks.iter().map(|(size, _)| size.as_str()).collect::<Vec<_>>(),
        ["12c;a=b", "12c;a=b", "12c;a=b", "64;a=b"]
    );
    assert_eq!(
        (chunks.concat_data(), trailers),
        (pattern(1000, 1000), vec!["X-Sum: 1".to_owned()])
    );

    let (_server, mut client) = met(Fault::many_headers(10_000, 3));
    assert_eq!(
        client
            .head()
            .headers
            .iter()
            .filter(|(name, _)| name.starts_with("x-filler"))
            .count(),
        10_000
    );
    let (_server, mut client) = met(Fault::many_headers(1, 70_000));
    assert_eq!(client.head().get("x-filler-0").len(), 70_000);
    let (_server, mut client) = met(Fault::Headers(vec![("X".into(), "a\r\nInjected: yes".into())]));
    assert_eq!(client.head().get("injected"), "yes");
    let (_server, mut client) = met(Fault::ContentLength("9223372036854775808".into()));
    assert_eq!(client.head().get("content-length"), "9223372036854775808");
    assert_eq!(client.rest().0, pattern(1000, 1000));
}

#[test]
fn answers_with_other_statuses() {
    for status in [
        300, 304, 305, 400, 401, 403, 404, 405, 408, 409, 410, 451, 500, 502, 504,
    ] {
        let (server, mut client) = met(Fault::status(status));
        assert_eq!(client.head().status[9..12], status.to_string());
        assert_eq!(server.served("/a"), 1);
    }
    let (_server, mut client) = met(Fault::throttle(503, "1000000000"));
    assert_eq!(client.head().get("retry-after"), "1000000000");
    let (_server, mut client) = met(Fault::unsatisfiable(None));
    let head = client.head();
    assert_eq!(
        (
            &head.status[9..12],
            head.all("content-range").len(),
            head.length()
        ),
        ("416", 0, 0)
    );
    let (_server, mut client) = met(Fault::unsatisfiable(Some(5)));
    assert_eq!(client.head().get("content-range"), "bytes */5");
    let (_server, mut client) = met(Fault::error_document());
    let head = client.head();
    assert_eq!(&head.status[9..12], "200");
    assert!(client.body(head.length()).ends_with(b"</Error>"));
}

#[test]
fn redirects() {
    let other = Hostile::start().expect("a server");
    let target = other.route("/b", Route::new(object()));
    let (_server, mut client) = met(Fault::redirect(307, &target));
    assert_eq!(client.head().get("location"), target);
    let mut client = Client::new(&other);
    client.get("/b", "Authorization: secret\r\nCookie: c\r\nRange: bytes=0-9\r\n");
    assert_eq!(other.requests("/b")[0].header("authorization"), Some("secret"));

    let server = Hostile::start().expect("a server");
    server.route(
        "/a",
        Route::new(object()).fault(When::Always, Fault::RedirectChain { hops: 2 }),
    );
    let mut client = Client::new(&server);
    assert_eq!(client.get("/a", "").0.get("location"), "/a?hop=1");
    assert_eq!(client.get("/a?hop=1", "").0.get("location"), "/a?hop=2");
    assert_eq!(&client.get("/a?hop=2", "").0.status[9..12], "200");
    assert_eq!(server.served("/a"), 2);
}

#[test]
fn identities() {
    let (server, mut client) = met(Fault::Etag(None));
    let head = client.head();
    assert_eq!((head.all("etag").len(), head.all("last-modified").len()), (0, 1));
    assert_eq!(server.served("/a"), 1);
    let (_server, mut client) = met(Fault::Etag(Some("W/\"a\"".into())));
    assert_eq!(client.head().get("etag"), "W/\"a\"");

    let server = Hostile::start().expect("a server");
    server.route(
        "/a",
        Route::new(object()).fault(
            When::Always,
            Fault::EtagCycle(vec!["\"A\"".into(), "\"B\"".into()]),
        ),
    );
    let mut client = Client::new(&server);
    let etags: Vec<String> = (0..3)
        .map(|_| client.get("/a", "If-Match: \"A\"\r\n").0.get("etag").to_owned())
        .collect();
    assert_eq!(etags, ["\"A\"", "\"B\"", "\"A\""]);

    // The object changes exactly between the reset and the resume. One server ignores conditions,
    // and one does not.
    let changed = || {
        Route::new(object())
            .fault(When::Nth(1), Fault::Reset { after: 100 })
            .fault(When::AfterFault, Fault::Revision(Object::new(8, SIZE)))
    };
    let range = "Range: bytes=1100-1999\r\n";
    let server = Hostile::start().expect("a server");
    for (path, route, expected) in [
        ("/a", changed().ignoring_conditions(), "206"),
        ("/b", changed(), "412"),
    ] {
        server.route(path, route);
        let mut client = Client::new(&server);
        client.ask("GET", path, "Range: bytes=1000-1999\r\n");
        let etag = client.head().get("etag").to_owned();
        assert!(client.rest().1.is_err());
        let (head, body) = Client::new(&server).get(path, &format!("{range}If-Match: {etag}\r\n"));
        assert_eq!(&head.status[9..12], expected);
        assert_ne!(head.get("etag"), etag);
        assert!(expected == "412" || Pattern::new(8).check(1100, &body).is_ok());
        assert_eq!(server.served_by_rule(path), [1, 1]);
    }
}

#[test]
fn heads() {
    let server = Hostile::start().expect("a server");
    server.route("/a", Route::new(object()).fault(When::Head, Fault::HeadLength(5)));
    server.route("/b", Route::new(object()).fault(When::Head, Fault::status(405)));
    let mut client = Client::new(&server);
    client.ask("HEAD", "/a", "");
    assert_eq!(client.head().length(), 5);
    assert_eq!(client.get("/a", "").1, pattern(0, 100_000));
    client.ask("HEAD", "/b", "");
    assert_eq!(&client.head().status[9..12], "405");
    assert_eq!((server.served("/a"), server.served("/b")), (1, 1));
}
