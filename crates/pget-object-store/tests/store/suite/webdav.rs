//! A small WebDAV server that fails every few requests, so that object_store's own tests run over
//! `HttpStore` on a bad day.
//!
//! It answers 503, closes without an answer, and ends bodies early. It never fails a request that
//! object_store would not repeat: a MKCOL, COPY or DELETE is only refused by 503.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use httpdate::{fmt_http_date, parse_http_date};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// One request in so many fails.
const FAILS: u64 = 5;

/// A running server. Drop ends it.
pub(super) struct WebDav {
    pub(super) address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct State {
    files: Mutex<BTreeMap<String, File>>,
    folders: Mutex<BTreeSet<String>>,
    revision: AtomicU64,
    requests: AtomicU64,
    failures: AtomicU64,
}

#[derive(Clone)]
struct File {
    content: Vec<u8>,
    etag: String,
    modified: SystemTime,
}

struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Answer {
    status: &'static str,
    headers: String,
    body: Vec<u8>,
}

fn answer(status: &'static str) -> Answer {
    Answer {
        status,
        headers: String::new(),
        body: Vec::new(),
    }
}

impl WebDav {
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                // A client that has gone is no failure.
                connections.spawn(async move { state.serve(stream).await.ok() });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            state,
            _tasks: tasks,
        })
    }

    /// How many requests have failed on purpose.
    pub(super) fn failures(&self) -> u64 {
        self.state.failures.load(Ordering::Relaxed)
    }
}

impl State {
    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut buffer = Vec::new();
        while let Some(request) = read(&mut stream, &mut buffer).await? {
            let number = self.requests.fetch_add(1, Ordering::Relaxed);
            let is_failing = number % FAILS == FAILS - 1;
            let failure = is_failing.then_some(number / FAILS % 3);
            if failure.is_some() {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
            let may_break_off = matches!(request.method.as_str(), "GET" | "HEAD" | "PUT" | "PROPFIND");
            let reply = match failure {
                Some(0) if may_break_off => return Ok(()),
                Some(0 | 1) => answer("503 Service Unavailable"),
                _ => self.answer(&request),
            };
            let mut head = format!("HTTP/1.1 {}\r\n{}", reply.status, reply.headers);
            if !reply.headers.contains("Content-Length") {
                write!(head, "Content-Length: {}\r\n", reply.body.len()).ok();
            }
            head.push_str("\r\n");
            stream.write_all(head.as_bytes()).await?;
            if failure == Some(2) && request.method == "GET" && !reply.body.is_empty() {
                let end = reply.body.len() / 2;
                return stream.write_all(&reply.body[..end]).await;
            }
            if request.method != "HEAD" {
                stream.write_all(&reply.body).await?;
            }
        }
        Ok(())
    }

    fn answer(&self, request: &Request) -> Answer {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let path = request.path.as_str();
        let has_parent = |path: &str, folders: &BTreeSet<String>| {
            path.rsplit_once('/')
                .is_none_or(|(parent, _)| folders.contains(parent))
        };
        match request.method.as_str() {
            "GET" | "HEAD" if folders.contains(path) => answer("405 Method Not Allowed"),
            "GET" | "HEAD" => files
                .get(path)
                .map_or_else(|| answer("404 Not Found"), |file| read_file(request, file)),
            "PUT" if !has_parent(path, &folders) => answer("409 Conflict"),
            "PUT" => {
                let file = self.file(request.body.clone());
                let mut created = answer("201 Created");
                created.headers = format!("ETag: {}\r\n", file.etag);
                files.insert(path.into(), file);
                created
            }
            "MKCOL" if folders.contains(path) => answer("405 Method Not Allowed"),
            "MKCOL" if !has_parent(path, &folders) => answer("409 Conflict"),
            "MKCOL" => {
                folders.insert(path.into());
                answer("201 Created")
            }
            "DELETE" => {
                if files.remove(path).is_none() {
                    return answer("404 Not Found");
                }
                // Folders without files go, too: the tests know none.
                folders.retain(|folder| {
                    let inside = format!("{folder}/");
                    files.keys().any(|file| file.starts_with(&inside))
                });
                answer("204 No Content")
            }
            "COPY" => {
                let to = request.headers.get("destination").map_or("", String::as_str);
                let to = to.split_once("://").map_or(to, |(_, rest)| rest);
                let to = decoded(to.split_once('/').map_or("", |(_, path)| path));
                let Some(file) = files.get(path).cloned() else {
                    return answer("404 Not Found");
                };
                if !has_parent(&to, &folders) {
                    return answer("409 Conflict");
                }
                if files.contains_key(&to) && request.headers.get("overwrite").is_some_and(|it| it == "F") {
                    return answer("412 Precondition Failed");
                }
                files.insert(to, self.file(file.content));
                answer("201 Created")
            }
            "PROPFIND" => {
                if !path.is_empty() && !folders.contains(path) && !files.contains_key(path) {
                    return answer("404 Not Found");
                }
                let is_deep = request.headers.get("depth").is_some_and(|it| it == "infinity");
                let inside = if path.is_empty() {
                    String::new()
                } else {
                    format!("{path}/")
                };
                let is_listed = |name: &str| {
                    name == path
                        || name
                            .strip_prefix(&inside)
                            .is_some_and(|rest| is_deep || !rest.contains('/'))
                };
                let mut text = r#"<?xml version="1.0"?><D:multistatus xmlns:D="DAV:">"#.to_owned();
                let kind = "<D:resourcetype><D:collection/></D:resourcetype>";
                let now = fmt_http_date(SystemTime::now());
                let root = String::new();
                let all = std::iter::once(&root).chain(folders.iter());
                for folder in all.filter(|name| is_listed(name)) {
                    let kind = format!("{kind}<D:getlastmodified>{now}</D:getlastmodified>");
                    listed(&mut text, folder, &kind);
                }
                for (name, file) in files.iter().filter(|(name, _)| is_listed(name)) {
                    let properties = format!(
                        "<D:resourcetype/><D:getcontentlength>{}</D:getcontentlength>\
                         <D:getlastmodified>{}</D:getlastmodified><D:getetag>{}</D:getetag>",
                        file.content.len(),
                        fmt_http_date(file.modified),
                        file.etag
                    );
                    listed(&mut text, name, &properties);
                }
                text.push_str("</D:multistatus>");
                let mut listed = answer("207 Multi-Status");
                listed.body = text.into();
                listed
            }
            _ => answer("501 Not Implemented"),
        }
    }

    fn file(&self, content: Vec<u8>) -> File {
        let revision = self.revision.fetch_add(1, Ordering::Relaxed);
        File {
            content,
            etag: format!("\"{revision}\""),
            modified: SystemTime::now(),
        }
    }
}

fn listed(text: &mut String, name: &str, properties: &str) {
    write!(
        text,
        "<D:response><D:href>/{}</D:href><D:propstat><D:prop>{properties}</D:prop>\
         <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>",
        encoded(name)
    )
    .ok();
}

fn read_file(request: &Request, file: &File) -> Answer {
    let header = |name: &str| request.headers.get(name);
    let names = |value: &String| value == "*" || value.split(',').any(|tag| tag.trim() == file.etag);
    let modified = fmt_http_date(file.modified);
    let written = parse_http_date(&modified).expect("its own text");
    let time = |name: &str| parse_http_date(header(name)?).ok();
    let is_other = header("if-match").is_some_and(|value| !names(value));
    if is_other || time("if-unmodified-since").is_some_and(|time| written > time) {
        return answer("412 Precondition Failed");
    }
    if header("if-none-match").is_some_and(names)
        || time("if-modified-since").is_some_and(|time| written <= time)
    {
        return answer("304 Not Modified");
    }
    let size = file.content.len();
    let mut found = answer("200 OK");
    found.headers = format!("ETag: {}\r\nLast-Modified: {modified}\r\n", file.etag);
    found.body = file.content.clone();
    let range = header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    if let Some((from, to)) = range {
        let number = |text: &str| text.parse::<usize>().ok();
        let (start, end) = match (number(from), number(to)) {
            (Some(start), end) => (start, end.map_or(size, |end| (end + 1).min(size))),
            (None, Some(last)) => (size.saturating_sub(last), size),
            (None, None) => return answer("400 Bad Request"),
        };
        if start >= end {
            return answer("416 Range Not Satisfiable");
        }
        found.status = "206 Partial Content";
        write!(
            found.headers,
            "Content-Range: bytes {start}-{}/{size}\r\n",
            end - 1
        )
        .ok();
        found.body = file.content[start..end].to_vec();
    }
    write!(found.headers, "Content-Length: {}\r\n", found.body.len()).ok();
    found
}

/// Reads a request; `None` at the end of the connection.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end);
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").and_then(|text| text.parse().ok());
    let length: usize = length.unwrap_or(0);
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(Request {
        method: method.into(),
        path: decoded(path.trim_matches('/')),
        headers,
        body: buffer.drain(..length).collect(),
    }))
}

fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits: String = rest.by_ref().take(2).map(char::from).collect();
        bytes.push(u8::from_str_radix(&digits, 16).expect("a client writes correct escapes"));
    }
    String::from_utf8(bytes).expect("names are UTF-8")
}

fn encoded(path: &str) -> String {
    path.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => text.push(byte.into()),
            _ => _ = write!(text, "%{byte:02X}"),
        }
        text
    })
}
