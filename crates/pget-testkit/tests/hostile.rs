//! The misbehaving server's faults are on the wire as its documentation claims, and are counted when they are.
//!
//! Read with bare sockets: a client library would hide half of it.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use pget_testkit::content::Pattern;
use pget_testkit::hostile::{Asked, Fault, Hostile, Object, Route, When};

const SIZE: u64 = 100_000;
const PATTERN: Pattern = Pattern::new(7);
/// No test waits longer for a byte.
const DEADLINE: Duration = Duration::from_secs(10);

fn object() -> Object {
    Object::new(7, SIZE)
}

struct Client {
    stream: BufReader<TcpStream>,
}

/// An answer's head.
#[derive(Debug)]
struct Head {
    status: String,
    headers: Vec<(String, String)>,
}

impl Head {
    fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    fn get(&self, name: &str) -> &str {
        self.all(name).first().copied().unwrap_or_default()
    }

    fn length(&self) -> usize {
        self.get("content-length").parse().expect("a length")
    }
}

impl Client {
    fn new(server: &Hostile) -> Self {
        let stream = TcpStream::connect(server.address()).expect("the server listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        Self {
            stream: BufReader::new(stream),
        }
    }

    fn ask(&mut self, method: &str, path: &str, headers: &str) {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
        self.stream.get_mut().write_all(request.as_bytes()).expect("sent");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream
            .read_line(&mut line)
            .expect("a line before the deadline");
        line.trim_end().to_owned()
    }

    fn head(&mut self) -> Head {
        let status = self.line();
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        Head { status, headers }
    }

    /// What comes until the end of the connection, and how it ends.
    fn rest(&mut self) -> (Vec<u8>, io::Result<()>) {
        let mut data = Vec::new();
        let mut piece = [0; 4096];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return (data, Ok(())),
                Ok(count) => data.extend_from_slice(&piece[..count]),
                Err(error) => return (data, Err(error)),
            }
        }
    }

    fn body(&mut self, length: usize) -> Vec<u8> {
        let mut data = vec![0; length];
        self.stream
            .read_exact(&mut data)
            .expect("the whole body before the deadline");
        data
    }

    /// Chunks until the last, and the trailer lines; each chunk with its size line.
    fn chunks(&mut self) -> (Vec<(String, Vec<u8>)>, Vec<String>) {
        let mut chunks = Vec::new();
        loop {
            let size = self.line();
            let digits = size.split(';').next().expect("a size");
            let length = usize::from_str_radix(digits, 16).expect("a hex size");
            if length == 0 {
                let trailers = std::iter::from_fn(|| Some(self.line()).filter(|line| !line.is_empty()));
                let trailers = trailers.collect();
                return (chunks, trailers);
            }
            let data = self.body(length);
            assert_eq!(self.line(), "");
            chunks.push((size, data));
        }
    }

    fn get(&mut self, path: &str, headers: &str) -> (Head, Vec<u8>) {
        self.ask("GET", path, headers);
        let head = self.head();
        let body = self.body(head.length());
        (head, body)
    }
}

/// A server with one route `/a`, which has one fault for every GET; and a client that has asked for bytes 1000 to 1999.
fn met(fault: Fault) -> (Hostile, Client) {
    met_when(When::Always, fault)
}

fn met_when(when: When, fault: Fault) -> (Hostile, Client) {
    let server = Hostile::start().expect("a server");
    server.route("/a", Route::new(object()).fault(when, fault));
    let mut client = Client::new(&server);
    client.ask("GET", "/a", "Range: bytes=1000-1999\r\n");
    (server, client)
}

fn pattern(start: u64, length: usize) -> Vec<u8> {
    PATTERN.bytes(start, length)
}

#[test]
fn a_good_server_without_rules() {
    let server = Hostile::start().expect("a server");
    server.route("/a", Route::new(object()));
    server.route("/empty", Route::new(Object::new(1, 0)));
    let mut client = Client::new(&server);
    let (head, body) = client.get("/a", "Range: bytes=1000-1999\r\n");
    assert_eq!(head.status, "HTTP/1.1 206 Partial Content");
    assert_eq!(head.get("content-range"), "bytes 1000-1999/100000");
    let etag = head.get("etag").to_owned();
    assert_eq!(body, pattern(1000, 1000));
    let (head, body) = client.get("/a", "Range: bytes=99990-200000\r\n");
    assert_eq!(
        (head.get("content-range"), body),
        ("bytes 99990-99999/100000", pattern(99_990, 10))
    );
    let (head, body) = client.get("/a", "Range: bytes=-5\r\n");
    assert_eq!(
        (head.get("content-range"), body),
        ("bytes 99995-99999/100000", pattern(99_995, 5))
    );
    let (head, body) = client.get("/a", "");
    assert_eq!(
        (head.status.as_str(), body),
        ("HTTP/1.1 200 OK", pattern(0, 100_000))
    );
    let (head, _) = client.get("/a", "Range: bytes=100000-\r\n");
    assert_eq!(
        (&head.status[9..12], head.get("content-range")),
        ("416", "bytes */100000")
    );
    assert_eq!(
        client
            .get("/empty", "Range: bytes=0-9\r\n")
            .0
            .get("content-range"),
        "bytes */0"
    );
    assert_eq!(&client.get("/a", "If-Match: \"x\"\r\n").0.status[9..12], "412");
    assert_eq!(
        &client.get("/a", &format!("If-Match: {etag}\r\n")).0.status[9..12],
        "200"
    );
    let (head, _) = client.get("/a", "Range: bytes=1-2\r\nIf-Range: \"x\"\r\n");
    assert_eq!(&head.status[9..12], "200");
    assert_eq!(&client.get("/none", "").0.status[9..12], "404");
    client.ask("HEAD", "/a", "");
    assert_eq!(client.head().length(), 100_000);

    assert_eq!(server.served("/a"), 0);
    let requests = server.requests("/a");
    assert_eq!(
        requests[0].asked,
        Some(Asked::From {
            start: 1000,
            end: Some(2000)
        })
    );
    assert_eq!(requests[0].header("host"), Some("test"));
    assert!(!requests[0].reused && requests[1].reused);
    assert_eq!(requests.last().map(|seen| seen.method.as_str()), Some("HEAD"));
    let load = server.load();
    assert_eq!((load.connections, load.open, load.peak_in_flight), (1, 1, 1));
}

#[tokio::test]
async fn offsets_beyond_four_gib_and_counting_of_connections() {
    let server = Hostile::start().expect("a server");
    server.route("/a", Route::new(Object::new(7, 6 << 40)));
    let mut clients = [Client::new(&server), Client::new(&server)];
    for client in &mut clients {
        let (head, body) = client.get("/a", "Range: bytes=5497558138881-5497558138890\r\n");
        assert_eq!(
            head.get("content-range"),
            "bytes 5497558138881-5497558138890/6597069766656"
        );
        assert_eq!(body, pattern(5_497_558_138_881, 10));
    }
    assert_eq!(server.load().peak_open, 2);
    drop(clients);
    let closed = server.wait_until(|server| server.load().open == 0);
    tokio::time::timeout(DEADLINE, closed)
        .await
        .expect("both are noticed to close");
}

#[test]
fn drop_is_prompt_and_closes_everything() {
    let (server, mut client) = met(Fault::Stall { after: 10 });
    let head = client.head();
    assert_eq!((head.length(), client.body(10)), (1000, pattern(1000, 10)));
    let start = Instant::now();
    drop(server);
    let (data, _) = client.rest();
    assert!(data.is_empty());
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "took {:?}",
        start.elapsed()
    );
}

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
        // The framing was honest, so the connection is good for more.
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
fn bodies_cut_short() {
    for after in [0, 10, 999] {
        let (server, mut client) = met(Fault::Reset { after });
        assert_eq!(client.head().length(), 1000);
        let (data, end) = client.rest();
        assert_eq!(
            end.expect_err("reset, not closed").kind(),
            io::ErrorKind::ConnectionReset
        );
        assert_eq!(data, pattern(1000, data.len()));
        assert!(data.len() as u64 <= after);
        assert_eq!(server.served("/a"), 1);

        let (server, mut client) = met(Fault::Fin { after });
        client.head();
        let (data, end) = client.rest();
        assert!(end.is_ok());
        assert_eq!(data.len() as u64, after);
        assert_eq!(server.served("/a"), 1);
    }
    let (server, mut client) = met(Fault::ShortChunked { by: 1 });
    assert_eq!(client.head().get("transfer-encoding"), "chunked");
    let (chunks, _) = client.chunks();
    assert_eq!(chunks.concat_data(), pattern(1000, 999));
    assert_eq!(server.served("/a"), 1);

    let (server, mut client) = met(Fault::ShortClosed { by: 1 });
    let head = client.head();
    assert_eq!(
        (head.status.as_str(), head.get("content-length")),
        ("HTTP/1.0 206 Partial Content", "")
    );
    assert_eq!(client.rest().0, pattern(1000, 999));
    assert_eq!(server.served("/a"), 1);
}

trait ConcatData {
    fn concat_data(&self) -> Vec<u8>;
}

impl ConcatData for Vec<(String, Vec<u8>)> {
    fn concat_data(&self) -> Vec<u8> {
        self.iter().flat_map(|(_, data)| data.clone()).collect()
    }
}

#[test]
fn a_cut_past_the_end_is_no_fault_and_not_counted() {
    let (server, mut client) = met(Fault::Reset { after: 1000 });
    assert_eq!(client.head().length(), 1000);
    assert_eq!(client.body(1000), pattern(1000, 1000));
    assert_eq!(server.served("/a"), 0);
}

#[test]
fn bodies_too_long() {
    let (server, mut client) = met(Fault::LongChunked { by: 7 });
    client.head();
    assert_eq!(client.chunks().0.concat_data(), pattern(1000, 1007));
    assert_eq!(server.served("/a"), 1);

    let (server, mut client) = met(Fault::Excess { by: 7 });
    assert_eq!(client.head().length(), 1000);
    assert_eq!(client.body(1007)[1000..], *b"xxxxxxx");
    assert_eq!(server.served("/a"), 1);
}

#[test]
fn slow_ones() {
    let every = Duration::from_millis(20);
    let start = Instant::now();
    let (server, mut client) = met(Fault::Drip {
        bytes: 200,
        every,
        chunked: true,
    });
    client.head();
    let (chunks, _) = client.chunks();
    assert_eq!(
        chunks.iter().map(|(size, _)| size.as_str()).collect::<Vec<_>>(),
        ["c8"; 5]
    );
    assert_eq!(chunks.concat_data(), pattern(1000, 1000));
    assert!(start.elapsed() >= every * 5);
    assert_eq!(server.served("/a"), 1);

    let start = Instant::now();
    let (_server, mut client) = met(Fault::Pace {
        bytes_per_second: 5000,
    });
    client.head();
    assert_eq!(client.body(1000), pattern(1000, 1000));
    // The last of four pieces is due after 750 bytes.
    assert!(
        start.elapsed() >= Duration::from_millis(150),
        "{:?}",
        start.elapsed()
    );

    let start = Instant::now();
    let (_server, mut client) = met(Fault::Delay(every * 5));
    client.head();
    assert!(start.elapsed() >= every * 5);

    let (server, mut client) = met(Fault::DripHead {
        every: Duration::from_millis(1),
    });
    assert_eq!(client.line(), "HTTP/1.1 206 Partial Content");
    assert!(client.body(30).starts_with(b"X-Slow: sss"));
    assert_eq!(server.served("/a"), 1);
}

#[tokio::test]
async fn silence() {
    let (server, client) = met(Fault::StallBeforeHead);
    tokio::time::timeout(DEADLINE, server.wait_until(|server| server.served("/a") == 1))
        .await
        .expect("counted");
    assert_eq!(server.load().in_flight, 1);
    let mut byte = [0];
    client.stream.get_ref().set_nonblocking(true).expect("set");
    let nothing = client
        .stream
        .get_ref()
        .read(&mut byte)
        .expect_err("nothing to read");
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    drop(client);
    let closed = server.wait_until(|server| server.load().in_flight == 0);
    tokio::time::timeout(DEADLINE, closed)
        .await
        .expect("the stall ends with the client");
}

#[test]
fn no_answer_at_all() {
    let (server, mut client) = met(Fault::Empty);
    assert!(matches!(client.rest(), (data, Ok(())) if data.is_empty()));
    assert_eq!(server.served("/a"), 1);

    let (server, mut client) = met(Fault::ResetBeforeHead);
    let end = client.rest().1.expect_err("a reset");
    assert_eq!(
        (end.kind(), server.served("/a")),
        (io::ErrorKind::ConnectionReset, 1)
    );

    let (server, mut client) = met(Fault::Raw(b"\x16\x03\x01rubbish".to_vec()));
    assert_eq!(
        (client.rest().0.as_slice(), server.served("/a")),
        (b"\x16\x03\x01rubbish".as_slice(), 1)
    );
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
fn kept_alive_connections_that_are_closed() {
    let (server, mut client) = met(Fault::CloseOnReuse);
    assert_eq!(client.head().length(), 1000);
    client.body(1000);
    assert_eq!(server.served("/a"), 0);
    client.ask("GET", "/a", "");
    assert!(matches!(client.rest(), (data, Ok(())) if data.is_empty()));
    assert_eq!(server.served("/a"), 1);

    let (server, mut client) = met(Fault::CloseAfter);
    assert_eq!(client.head().get("connection"), "");
    assert_eq!(client.rest().0, pattern(1000, 1000));
    assert_eq!(server.served("/a"), 1);
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

    // The object changes exactly between the reset and the resume, for a server that ignores conditions and one that does not.
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

#[test]
fn selectors_choose() {
    let server = Hostile::start().expect("a server");
    let route = Route::new(object())
        .fault(When::Nth(2), Fault::status(502))
        .fault_times(When::Later, 1, Fault::status(503))
        .fault(When::From(5), Fault::status(504));
    server.route("/a", route);
    let mut client = Client::new(&server);
    let mut status = |range: &str| client.get("/a", range).0.status[9..12].to_owned();
    let later = "Range: bytes=10-19\r\n";
    let statuses = [
        status(""),
        status(""),
        status(later),
        status(later),
        status(""),
        status(""),
    ];
    assert_eq!(statuses, ["200", "502", "503", "206", "504", "504"]);
    assert_eq!(server.served_by_rule("/a"), [1, 1, 2]);
    assert_eq!(
        server
            .requests("/a")
            .iter()
            .map(|seen| seen.rule)
            .collect::<Vec<_>>(),
        [None, Some(0), Some(1), None, Some(2), Some(2)]
    );

    server.route("/a", Route::new(object()).fault(When::First, Fault::status(500)));
    assert_eq!(
        ["500", "206"].map(str::to_owned),
        [status("Range: bytes=0-0\r\n"), status(later)]
    );
    server.route(
        "/a",
        Route::new(object()).fault(When::UpTo(1), Fault::status(500)),
    );
    assert_eq!(["500", "206"].map(str::to_owned), [status(later), status(later)]);
    server.route("/a", Route::new(object()).fault(When::Reused, Fault::status(500)));
    assert_eq!(status(later), "500");
    assert_eq!(Client::new(&server).get("/a", later).0.status[9..12], *"206");
}
