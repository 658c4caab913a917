//! A small HTTP server whose answers are a function of the request.
//!
//! It imitates services that issue credentials, and gateways that check their requests.

#![allow(dead_code, reason = "each program of tests uses what it needs")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) method: String,
    /// Path with query.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Returns a decoded field of a form in the body.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let mut pairs = url::form_urlencoded::parse(self.body.as_bytes());
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Returns the requested part of `object`.
    pub(crate) fn object(got: &Got, object: &[u8]) -> Self {
        let range = got.header("range").and_then(|range| range.strip_prefix("bytes="));
        let bounds = range
            .and_then(|range| range.split_once('-'))
            .map(|(first, last)| {
                let last = last.parse().unwrap_or(usize::MAX).min(object.len() - 1);
                (first.parse::<usize>().expect("a number"), last)
            });
        let reply = match bounds {
            None => Self::new(200, object),
            Some((first, last)) => {
                let value = format!("bytes {first}-{last}/{}", object.len());
                Self::new(206, &object[first..=last]).with("Content-Range", value)
            }
        };
        reply.with("ETag", "\"standin\"")
    }
}

/// A running server with a port of its own. It ends with the process.
#[derive(Clone)]
pub(crate) struct Standin {
    port: u16,
    seen: Arc<Mutex<Vec<Got>>>,
}

impl Standin {
    pub(crate) fn start(answer: impl Fn(&Got) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                std::thread::spawn(move || serve(stream, &*answer, &log));
            }
        });
        Self { port, seen }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Returns the requests whose paths begin with `path`.
    pub(crate) fn seen(&self, path: &str) -> Vec<Got> {
        let seen = self.seen.lock().expect("no panic");
        seen.iter()
            .filter(|got| got.target.starts_with(path))
            .cloned()
            .collect()
    }
}

fn serve(stream: TcpStream, answer: &dyn Fn(&Got) -> Reply, log: &Mutex<Vec<Got>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut got = Got {
        method,
        target,
        headers,
        body: String::new(),
    };
    let length = got
        .header("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    got.body = String::from_utf8_lossy(&body).into_owned();
    log.lock().expect("no panic").push(got.clone());
    let reply = answer(&got);
    let mut head = format!("HTTP/1.1 {} Said\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", reply.body.len()));
    let mut stream = stream;
    stream.write_all(head.as_bytes()).ok()?;
    if got.method != "HEAD" {
        stream.write_all(&reply.body).ok()?;
    }
    stream.flush().ok()
}
