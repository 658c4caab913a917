//! The server without faults: its counters, its selectors and its end.

use std::time::{Duration, Instant};

use pget_testkit::hostile::{Asked, Fault, Hostile, Object, Route, When};

use crate::client::{Client, DEADLINE, met, object, pattern};

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
