//! A client of bare sockets, and functions that the tests share.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use pget_testkit::content::Pattern;
use pget_testkit::hostile::{Fault, Hostile, Object, Route, When};

pub(crate) const SIZE: u64 = 100_000;
pub(crate) const PATTERN: Pattern = Pattern::new(7);
/// The longest wait of a test for a byte.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) fn object() -> Object {
    Object::new(7, SIZE)
}

pub(crate) struct Client {
    pub(crate) stream: BufReader<TcpStream>,
}

/// An answer's head.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub(crate) fn get(&self, name: &str) -> &str {
        self.all(name).first().copied().unwrap_or_default()
    }

    pub(crate) fn length(&self) -> usize {
        self.get("content-length").parse().expect("a length")
    }
}

impl Client {
    pub(crate) fn new(server: &Hostile) -> Self {
        let stream = TcpStream::connect(server.address()).expect("the server listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str, headers: &str) {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
        self.stream.get_mut().write_all(request.as_bytes()).expect("sent");
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream
            .read_line(&mut line)
            .expect("a line before the deadline");
        line.trim_end().to_owned()
    }

    pub(crate) fn head(&mut self) -> Head {
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

    /// Reads until the end of the connection. Returns the bytes, and the way in which it ended.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, io::Result<()>) {
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

    pub(crate) fn body(&mut self, length: usize) -> Vec<u8> {
        let mut data = vec![0; length];
        self.stream
            .read_exact(&mut data)
            .expect("the whole body before the deadline");
        data
    }

    /// Reads chunks up to the last one, and the trailer lines. Each chunk comes with its size line.
    pub(crate) fn chunks(&mut self) -> (Vec<(String, Vec<u8>)>, Vec<String>) {
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

    pub(crate) fn get(&mut self, path: &str, headers: &str) -> (Head, Vec<u8>) {
        self.ask("GET", path, headers);
        let head = self.head();
        let body = self.body(head.length());
        (head, body)
    }
}

pub(crate) trait ConcatData {
    fn concat_data(&self) -> Vec<u8>;
}

impl ConcatData for Vec<(String, Vec<u8>)> {
    fn concat_data(&self) -> Vec<u8> {
        self.iter().flat_map(|(_, data)| data.clone()).collect()
    }
}

/// Starts a server whose route `/a` has one fault for every GET.
///
/// Returns the server, and a client that has requested the bytes 1000 to 1999.
pub(crate) fn met(fault: Fault) -> (Hostile, Client) {
    met_when(When::Always, fault)
}

pub(crate) fn met_when(when: When, fault: Fault) -> (Hostile, Client) {
    let server = Hostile::start().expect("a server");
    server.route("/a", Route::new(object()).fault(when, fault));
    let mut client = Client::new(&server);
    client.ask("GET", "/a", "Range: bytes=1000-1999\r\n");
    (server, client)
}

pub(crate) fn pattern(start: u64, length: usize) -> Vec<u8> {
    PATTERN.bytes(start, length)
}
