//! Bodies and connections that end early, late, slowly or never.

use std::io::{self, Read as _};
use std::time::{Duration, Instant};

use pget_testkit::hostile::Fault;

use crate::client::{ConcatData as _, DEADLINE, met, pattern};

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
    // The last of four pieces is due after 750 bytes' time.
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
