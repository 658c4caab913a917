//! One connection: reads and writes its bytes, plain or over TLS.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::ServerConnection;

use super::{Odd, content::Content, pace::Pace};

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The connection waits for a request.
    Reading,
    /// The connection sends an answer, or waits for the time at which it is due.
    Answering,
    /// The connection sends nothing more.
    Dead,
}

/// The result of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Number of bytes of the body that were sent, at least one.
    Bytes(u64),
    /// The socket accepts nothing now.
    Blocked,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    tls: Option<Box<ServerConnection>>,
    pub(super) odd: Option<Odd>,
    pub(super) stage: Stage,
    /// The server reads nothing before this time, because the connection is being set up.
    pub(super) opens_at: Instant,
    /// The server sends nothing before this time.
    pub(super) answer_at: Instant,
    /// The time of the connection's entry in the queue of times.
    pub(super) due: Option<Instant>,
    /// Whether the connection is in the queue of those that may send.
    pub(super) ready: bool,
    /// Whether the socket was full.
    pub(super) blocked: bool,
    pub(super) input: Vec<u8>,
    pub(super) ended: bool,
    /// The part of the answer's head that is not sent yet.
    pub(super) head: Vec<u8>,
    /// The bytes of the object that are not sent yet.
    pub(super) body: Range<u64>,
    /// The object, if there is a body to send.
    pub(super) content: Option<Arc<Content>>,
    /// Whether the answer counts as a request in flight.
    pub(super) counted: bool,
    /// Whether the body's pacing has begun.
    pub(super) paced: bool,
    pub(super) closes: bool,
    pub(super) pace: Pace,
    /// Bytes per round trip during the slow start. `round` is the time at which the current round
    /// trip began.
    pub(super) window: Option<u64>,
    pub(super) round: Instant,
    /// Time that the preceding body has used of its last round trip.
    pub(super) in_round: Duration,
    /// Bytes of bodies that this connection has sent.
    pub(super) brought: u64,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        tls: Option<Box<ServerConnection>>,
        odd: Option<Odd>,
        opens_at: Instant,
        window: Option<u64>,
    ) -> Self {
        Self {
            stream,
            tls,
            odd,
            stage: Stage::Reading,
            opens_at,
            answer_at: opens_at,
            due: None,
            ready: false,
            blocked: false,
            input: Vec::new(),
            ended: false,
            head: Vec::new(),
            body: 0..0,
            content: None,
            counted: false,
            paced: false,
            closes: false,
            pace: Pace::new(opens_at),
            window,
            round: opens_at,
            in_round: Duration::ZERO,
            brought: 0,
        }
    }

    pub(super) const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Returns whether encrypted bytes, of the handshake or of the body, wait for the socket.
    pub(super) fn has_ciphertext(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Reads all bytes that have arrived, and records the end of the stream.
    pub(super) fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        loop {
            let Some(tls) = &mut self.tls else {
                match self.stream.read(&mut buffer) {
                    Ok(0) => {
                        self.ended = true;
                        return Ok(());
                    }
                    Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error),
                }
                continue;
            };
            match tls.read_tls(&mut self.stream) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(());
                }
                Ok(_) => {
                    tls.process_new_packets().map_err(io::Error::other)?;
                    loop {
                        match tls.reader().read(&mut buffer) {
                            Ok(0) => {
                                self.ended = true;
                                break;
                            }
                            Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                            Err(error) => return Err(error),
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends the rest of the head and of the encrypted bytes. Returns whether all of it was sent.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        if let Some(tls) = &mut self.tls {
            if !self.head.is_empty() {
                tls.writer().write_all(&self.head)?;
                self.head.clear();
            }
            while tls.wants_write() {
                match tls.write_tls(&mut self.stream) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            return Ok(true);
        }
        while !self.head.is_empty() {
            match self.stream.write(&self.head) {
                Ok(count) => {
                    self.head.drain(..count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Sends up to `most` bytes of the body.
    pub(super) fn send(&mut self, most: u64) -> io::Result<Sent> {
        let Some(content) = &self.content else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let (at, stored) = content.place(self.body.start);
        let most = most.min(self.body.end - self.body.start).min(stored);
        let sent = if let Some(tls) = &mut self.tls {
            let length = usize::try_from(most.min(64 << 10)).map_err(io::Error::other)?;
            content.with(at, length, |piece| tls.writer().write_all(piece))?;
            length as u64
        } else {
            let mut offset = at;
            let most = usize::try_from(most).map_err(io::Error::other)?;
            match rustix::fs::sendfile(&self.stream, content.file(), Some(&mut offset), most) {
                // The file was cut.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count as u64,
                Err(rustix::io::Errno::AGAIN) => return Ok(Sent::Blocked),
                Err(error) => return Err(error.into()),
            }
        };
        self.body.start += sent;
        self.brought += sent;
        Ok(Sent::Bytes(sent))
    }
}
