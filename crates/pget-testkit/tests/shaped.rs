//! Checks the shaped network: rates, latency, limits, odd connections, counters.
//!
//! Lower bounds of times are strict, because the server must never be faster than its network.
//! Upper bounds are wide, because the machine may be busy.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use pget_testkit::shaped::{Network, Odd, Shaped, fill};

const LONGEST: Duration = Duration::from_secs(10);

struct Client(TcpStream);

impl Client {
    fn connect(server: &Shaped) -> Self {
        let stream = TcpStream::connect(server.address()).expect("it listens");
        stream.set_read_timeout(Some(LONGEST)).expect("a socket");
        Self(stream)
    }

    fn send(&mut self, path: &str, range: &str) {
        let range = if range.is_empty() {
            String::new()
        } else {
            format!("Range: bytes={range}\r\n")
        };
        write!(self.0, "GET /{path} HTTP/1.1\r\nHost: x\r\n{range}\r\n").expect("sent");
    }

    /// Reads a head and its body.
    fn receive(&mut self) -> io::Result<(String, Vec<u8>)> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("ASCII");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .expect("a length")
            .parse()
            .expect("a number");
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((head, body))
    }

    fn get(&mut self, path: &str, range: &str) -> (String, Vec<u8>) {
        self.send(path, range);
        self.receive().expect("an answer")
    }
}

fn network(settings: &str) -> Network {
    let mut network = Network::unshaped();
    network.set_all(settings).expect("known settings");
    network
}

fn serve(settings: &str) -> Shaped {
    Shaped::start(network(settings)).expect("a server")
}

#[test]
fn ranges_are_exact_and_the_content_is_known() {
    let server = serve("");
    let mut client = Client::connect(&server);
    for (range, from, length) in [
        ("", 0, 5 << 20),
        ("0-0", 0, 1),
        ("1000-3000000", 1000, 2_999_001),
        ("2101240-2101260", 2_101_240, 21),
        ("-7", (5 << 20) - 7, 7),
        ("5242870-9999999", 5_242_870, 10),
    ] {
        let (head, body) = client.get("5MiB", range);
        let mut expected = vec![0; length];
        fill(from, &mut expected);
        assert!(
            head.starts_with(if range.is_empty() {
                "HTTP/1.1 200"
            } else {
                "HTTP/1.1 206"
            }),
            "{head}"
        );
        assert!(head.contains("ETag: \"shaped-5242880\""), "{head}");
        assert!(body == expected, "{range}");
    }
    assert!(client.get("5MiB", "5242880-").0.starts_with("HTTP/1.1 416"));
    assert!(client.get("nonsense", "").0.starts_with("HTTP/1.1 404"));
    let counters = server.counters();
    assert_eq!(
        (counters.requests, counters.connections, counters.in_flight),
        (8, 1, 0)
    );
}

#[test]
fn a_connection_has_its_rate_and_its_latency() {
    let server = serve("rate=20MB,latency=20ms");
    let began = Instant::now();
    let mut client = Client::connect(&server);
    client.get("2MB", "");
    let first = began.elapsed();
    // The time consists of the set-up, the answer, and 100 ms of body.
    assert!(
        first >= Duration::from_millis(138) && first < Duration::from_millis(600),
        "{first:?}"
    );
    let began = Instant::now();
    client.get("2MB", "");
    let second = began.elapsed();
    assert!(second >= Duration::from_millis(118), "{second:?}");
}

#[test]
fn connections_share_the_link() {
    let server = serve("link=40MB");
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| Client::connect(&server).get("2MB", ""));
        }
    });
    let took = began.elapsed();
    // The bound is 200 ms minus the burst of 5 ms.
    assert!(
        took >= Duration::from_millis(190) && took < Duration::from_secs(1),
        "{took:?}"
    );
}

#[test]
fn a_fresh_connection_starts_slowly_and_stays_fast() {
    let server = serve("latency=20ms,rate=10MB,slow-start=20000");
    let mut client = Client::connect(&server);
    let time = |client: &mut Client| {
        let began = Instant::now();
        client.get("1MB", "");
        began.elapsed()
    };
    let (cold, warm) = (time(&mut client), time(&mut client));
    // Four rounds of 20 ms carry 20, 40, 80 and 160 KB before the full 200 KB per round. At the
    // full rate, they would have carried 500 KB more.
    assert!(cold >= Duration::from_millis(170), "{cold:?}");
    assert!(warm >= Duration::from_millis(118), "{warm:?}");
    assert!(cold > warm + Duration::from_millis(20), "{cold:?} {warm:?}");
}

#[test]
fn requests_are_answered_one_after_the_other() {
    let server = serve("per-request=20ms");
    let mut clients: Vec<_> = (0..8).map(|_| Client::connect(&server)).collect();
    let began = Instant::now();
    clients.iter_mut().for_each(|client| client.send("1", ""));
    clients
        .iter_mut()
        .for_each(|client| drop(client.receive().expect("an answer")));
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(160) && took < Duration::from_secs(5),
        "{took:?}"
    );
}

#[test]
fn requests_above_the_limits_are_refused_and_counted() {
    let server = serve("rate=1MB,in-flight=2,retry-after=3");
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect(&server)).collect();
    for client in &mut clients {
        client.send("200KB", "");
        // Let the request arrive before the next one.
        std::thread::sleep(Duration::from_millis(30));
    }
    let statuses: Vec<_> = clients
        .iter_mut()
        .map(|client| client.receive().expect("an answer").0)
        .collect();
    assert!(statuses[0].starts_with("HTTP/1.1 200") && statuses[1].starts_with("HTTP/1.1 200"));
    assert!(
        statuses[2].starts_with("HTTP/1.1 503") && statuses[2].contains("Retry-After: 3"),
        "{}",
        statuses[2]
    );
    let counters = server.counters();
    assert_eq!(
        (counters.requests, counters.refused, counters.most_in_flight),
        (3, 1, 2)
    );

    server.set(network("per-second=10"));
    server.reset();
    let mut client = Client::connect(&server);
    let began = Instant::now();
    let mut served = 0_u32;
    while began.elapsed() < Duration::from_millis(500) {
        served += u32::from(client.get("1", "").0.starts_with("HTTP/1.1 200"));
    }
    assert!((1..=7).contains(&served), "{served} in half a second");
    assert!(server.counters().refused > 0);
}

#[test]
fn one_connection_in_k_is_slow() {
    let server = serve("every=2,odd=slow:100KB");
    Client::connect(&server).get("1MB", "");
    let began = Instant::now();
    Client::connect(&server).get("50KB", "");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(490), "{took:?}");
}

#[test]
fn one_connection_in_k_stalls_or_is_silent() {
    for odd in [Odd::Stalled(10_000), Odd::Silent] {
        let mut settings = network("every=2");
        settings.odd = Some(odd);
        let server = Shaped::start(settings).expect("a server");
        let mut good = Client::connect(&server);
        assert_eq!(good.get("1MB", "").1.len(), 1_000_000);
        let mut other = Client::connect(&server);
        let short = Duration::from_millis(300);
        other.0.set_read_timeout(Some(short)).expect("a socket");
        other.send("1MB", "");
        let kind = other.receive().err().map(|error| error.kind());
        assert_eq!(kind, Some(io::ErrorKind::WouldBlock), "{odd:?}");
        assert_eq!(server.counters().in_flight, 1, "{odd:?}");
        drop(other);
        let began = Instant::now();
        while server.counters().in_flight > 0 {
            assert!(
                began.elapsed() < LONGEST,
                "{odd:?}: a closed connection still counts"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_network_changes_while_it_runs() {
    let server = serve("rate=1MB,at=100ms:rate=none");
    let began = Instant::now();
    Client::connect(&server).get("1MB", "");
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(95) && took < Duration::from_millis(800),
        "{took:?}"
    );
    let mut client = Client::connect(&server);
    assert!(client.get("-/set?latency=50ms", "").0.starts_with("HTTP/1.1 200"));
    let began = Instant::now();
    client.get("1", "");
    assert!(began.elapsed() >= Duration::from_millis(49));
    assert!(client.get("-/set?latency=5", "").0.starts_with("HTTP/1.1 400"));
    let stats = String::from_utf8(client.get("-/stats", "").1).expect("text");
    assert!(
        stats.contains("\"requests\":2,") && stats.contains("\"connections\":2,"),
        "{stats}"
    );
}

#[test]
fn connections_above_the_limit_are_closed() {
    let server = serve("connections=1");
    let mut first = Client::connect(&server);
    first.get("1", "");
    let mut second = Client::connect(&server);
    assert!(second.receive().is_err());
    first.get("1", "");
}

#[test]
fn the_files_of_a_folder_are_served_over_the_network() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut content = vec![0; 3_000_000];
    fill(5, &mut content);
    std::fs::write(folder.path().join("table.csv"), &content).expect("written");
    let server = Shaped::files(network("latency=30ms,rate=20MB"), folder.path()).expect("a server");
    let mut client = Client::connect(&server);
    let began = Instant::now();
    let (head, body) = client.get("table.csv", "");
    // The first slice of a body is sent with the answer.
    assert!(
        began.elapsed() >= Duration::from_millis(150),
        "{:?}",
        began.elapsed()
    );
    assert!(head.starts_with("HTTP/1.1 200") && body == content, "{head}");
    let (head, body) = client.get("table.csv", "2999990-4000000");
    assert!(
        head.contains("Content-Range: bytes 2999990-2999999/3000000"),
        "{head}"
    );
    assert_eq!(body, content[2_999_990..]);
    assert!(client.get("1", "").0.starts_with("HTTP/1.1 404"));
}
