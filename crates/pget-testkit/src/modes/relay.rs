//! A relay between one read and its server, which records the server's answers.
//!
//! If a read delivers bytes of two revisions, the record shows whether the server labelled them
//! wrongly.
//!
//! Invariants:
//! - A byte is recorded before it is passed on. The record therefore contains everything that a
//!   client has received.
//! - The relay changes nothing. A signature that names the relay's address as its host stays valid.
//! - The relay supports the HTTP/1.1 that pget sends: a length for each body, one request at a time
//!   per connection.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// Limit of a head in bytes. The servers of these tests send far shorter ones.
const HEAD_LIMIT: usize = 64 << 10;

/// An answer with bytes of the object, as far as the relay has passed it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The `ETag` of the answer, as written. It is empty if the answer had none.
    pub(super) etag: String,
    /// The offset in the object of the first byte, according to the answer.
    pub(super) start: u64,
    /// The body of the answer.
    pub(super) bytes: Vec<u8>,
}

/// A relay before one server. It needs a tokio runtime.
///
/// Drop ends it, with all its connections.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    told: Arc<Mutex<Vec<Told>>>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Starts a relay on a free loopback port, before the server at this address.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn before(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let told = Arc::<Mutex<Vec<Told>>>::default();
        let keep = Arc::clone(&told);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let keep = Arc::clone(&keep);
                // A connection that breaks is closed, as it would be without a relay.
                connections.spawn(async move { relay(client, server, &keep).await.ok() });
            }
        });
        Ok(Self { address, told, task })
    }

    /// Returns the address at which the relay listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the answers so far.
    pub(super) fn told(&self) -> Vec<Told> {
        lock(&self.told).clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(told: &Mutex<Vec<Told>>) -> MutexGuard<'_, Vec<Told>> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn relay(mut client: TcpStream, server: SocketAddr, keep: &Mutex<Vec<Told>>) -> io::Result<()> {
    let mut server = BufReader::new(TcpStream::connect(server).await?);
    let (reader, mut client) = client.split();
    let mut reader = BufReader::new(reader);
    loop {
        let request = tokio::select! {
            request = head(&mut reader) => request?,
            // No answer is due, so the server has closed the connection. The relay closes its side
            // too.
            _ = server.fill_buf() => return Ok(()),
        };
        server.write_all(&request).await?;
        let answer = head(&mut server).await?;
        client.write_all(&answer).await?;
        let Answer { told, length } = Answer::of(&answer)?;
        if request.starts_with(b"HEAD ") {
            continue;
        }
        let index = told.map(|told| {
            let mut all = lock(keep);
            all.push(told);
            all.len() - 1
        });
        let mut left = length;
        let mut piece = vec![0; 64 << 10];
        while left > 0 {
            let most = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
            let count = server.read(&mut piece[..most]).await?;
            if count == 0 {
                return Ok(());
            }
            if let Some(index) = index {
                lock(keep)[index].bytes.extend_from_slice(&piece[..count]);
            }
            client.write_all(&piece[..count]).await?;
            left -= count as u64;
        }
    }
}

/// Reads a head up to its empty line.
async fn head(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_LIMIT {
            return Err(io::Error::other("a head without an end"));
        }
        head.push(from.read_u8().await?);
    }
    Ok(head)
}

/// The head of an answer.
struct Answer {
    /// The record of the answer, if its body consists of bytes of the object.
    told: Option<Told>,
    length: u64,
}

impl Answer {
    fn of(head: &[u8]) -> io::Result<Self> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut answer = httparse::Response::new(&mut fields);
        answer.parse(head).map_err(io::Error::other)?;
        let field = |name: &str| {
            let field = (answer.headers.iter()).find(|field| field.name.eq_ignore_ascii_case(name));
            field.and_then(|field| std::str::from_utf8(field.value).ok())
        };
        let length = field("content-length").and_then(|length| length.parse().ok());
        let length = length.ok_or_else(|| io::Error::other("an answer without a length"))?;
        let start = match answer.code {
            Some(200) => Some(0),
            Some(206) => field("content-range")
                .and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()),
            _ => None,
        };
        let told = start.map(|start| Told {
            etag: field("etag").unwrap_or_default().to_owned(),
            start,
            bytes: Vec::new(),
        });
        Ok(Self { told, length })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        time::Duration,
    };

    use super::*;
    use crate::{
        content::Pattern,
        hostile::{Fault, Hostile, Object, Route, When},
    };

    /// Sends one request over a socket, and returns everything that comes back.
    fn ask(address: SocketAddr, request: &str) -> Vec<u8> {
        let mut stream = std::net::TcpStream::connect(address).expect("it listens");
        let limit = Some(Duration::from_secs(30));
        stream.set_read_timeout(limit).expect("a limit");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        answer
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_keeps_what_the_server_told_and_passes_it_on() {
        let server = Hostile::start().expect("a server");
        let other = Some("\"other\"".to_owned());
        let route = Route::new(Object::new(3, 100_000)).fault(When::Later, Fault::Etag(other));
        server.route("/o", route);
        let relay = Relay::before(server.address()).await.expect("a port");
        let address = relay.address();
        let asked = tokio::task::spawn_blocking(move || {
            for (request, length) in [
                ("HEAD /o HTTP/1.1\r\nHost: h\r\n", 0),
                ("GET /o HTTP/1.1\r\nHost: h\r\nRange: bytes=7-1006\r\n", 1000),
                ("GET /o HTTP/1.1\r\nHost: h\r\n", 100_000),
                ("GET /missing HTTP/1.1\r\nHost: h\r\n", 0),
            ] {
                let answer = ask(address, &format!("{request}Connection: close\r\n\r\n"));
                assert!(answer.len() > length, "{}", String::from_utf8_lossy(&answer));
            }
        });
        asked.await.expect("it does not panic");
        let told = relay.told();
        let kept: Vec<_> = told
            .iter()
            .map(|told| (&*told.etag, told.start, told.bytes.len()))
            .collect();
        assert_eq!(kept, [("\"other\"", 7, 1000), ("\"3-186a0\"", 0, 100_000)]);
        for told in told {
            assert_eq!(Pattern::new(3).check(told.start, &told.bytes), Ok(()));
        }
    }
}
