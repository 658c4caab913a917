//! Writes a reply to a connection, byte by byte as the reply demands.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

use super::reply::{Cut, Framing, Part, Reply, Shows};

/// Receives the events of a send.
pub(super) trait Witness {
    /// Reports that the reply's fault goes on the wire now.
    ///
    /// The call happens at most once, before the client can notice the fault.
    fn fault_goes_out(&mut self);
    /// Reports that the write with the fault has failed before its first byte.
    fn fault_was_lost(&mut self);
    /// Reports that `body_bytes` further body bytes go on the wire now.
    fn sending(&mut self, body_bytes: u64);
}

/// Writes `bytes`. They carry the fault if `shows` is true.
async fn write(
    stream: &mut TcpStream,
    bytes: &[u8],
    shows: bool,
    witness: &mut impl Witness,
) -> io::Result<()> {
    if shows {
        witness.fault_goes_out();
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = stream.write(rest).await.and_then(|count| match count {
            0 => Err(io::ErrorKind::WriteZero.into()),
            _ => Ok(count),
        });
        match written {
            Ok(count) => rest = &rest[count..],
            Err(error) => {
                // After a partial write the fault still counts. The client may have met it, and
                // closed for that.
                if shows && rest.len() == bytes.len() {
                    witness.fault_was_lost();
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Whether the connection may carry another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Keep,
    Close,
}

/// Sends `reply`, without its body if it answers a HEAD.
pub(super) async fn send(
    stream: &mut TcpStream,
    reply: Reply,
    to_head: bool,
    witness: &mut impl Witness,
) -> io::Result<After> {
    if !reply.delay.is_zero() {
        sleep(reply.delay).await;
    }
    if let Some((bytes, end)) = &reply.instead {
        let shows = !bytes.is_empty();
        write(stream, bytes, shows, witness).await?;
        return cut(stream, *end, !shows, witness).await;
    }
    if let Some(every) = reply.endless_head {
        return endless_head(stream, &reply, every, witness).await;
    }
    let (preface, times) = &reply.preface;
    for index in 0..*times {
        write(stream, preface, index == 0, witness).await?;
    }
    let bodiless = to_head || (reply.length() == 0 && reply.cut.is_none() && reply.excess == 0);
    // Interim answers are themselves the fault.
    let shows = (reply.shows == Shows::InHead && *times == 0)
        || (reply.shows == Shows::AtEnd && bodiless && !to_head);
    write(stream, &head(&reply), shows, witness).await?;
    if !to_head {
        let mut sender = Sender {
            stream,
            reply: &reply,
            length: reply.length(),
            sent: 0,
            start: Instant::now(),
            buffer: Vec::new(),
        };
        if let Some(end) = sender.body(bodiless, witness).await? {
            return cut(stream, end, true, witness).await;
        }
    }
    Ok(if reply.closes { After::Close } else { After::Keep })
}

/// Ends the connection. The end is the fault if `shows` is true.
async fn cut(stream: &mut TcpStream, end: Cut, shows: bool, witness: &mut impl Witness) -> io::Result<After> {
    // The kernel sends the reset when the connection is dropped, which happens next.
    if end == Cut::Reset {
        SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?;
    }
    if shows {
        witness.fault_goes_out();
    }
    match end {
        Cut::Reset => {}
        Cut::Fin => {
            let closed = stream.shutdown().await;
            if shows && closed.is_err() {
                witness.fault_was_lost();
            }
            closed?;
        }
        Cut::Stall => {
            // The server reads further requests and does not answer them.
            let mut ignored = [0; 1024];
            while stream.read(&mut ignored).await? > 0 {}
        }
    }
    Ok(After::Close)
}

async fn endless_head(
    stream: &mut TcpStream,
    reply: &Reply,
    every: Duration,
    witness: &mut impl Witness,
) -> io::Result<After> {
    let text = format!("HTTP/1.1 {} {}\r\nX-Slow: ", reply.status, reason(reply.status));
    let mut first = true;
    for byte in text.bytes().chain(std::iter::repeat(b's')) {
        sleep(every).await;
        write(stream, &[byte], std::mem::take(&mut first), witness).await?;
    }
    Ok(After::Close)
}

fn head(reply: &Reply) -> Vec<u8> {
    let version = if matches!(reply.framing, Framing::Close) {
        "HTTP/1.0"
    } else {
        "HTTP/1.1"
    };
    let mut head = format!("{version} {} {}\r\n", reply.status, reason(reply.status));
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match &reply.framing {
        Framing::Length(text) => head.push_str(&format!("Content-Length: {text}\r\n")),
        Framing::Chunked { .. } => head.push_str("Transfer-Encoding: chunked\r\n"),
        Framing::Close => {}
    }
    head.push_str("\r\n");
    head.into_bytes()
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|code| code.canonical_reason())
        .unwrap_or("Whatever")
}

struct Sender<'a> {
    stream: &'a mut TcpStream,
    reply: &'a Reply,
    /// Length of the uncut body in bytes.
    length: u64,
    /// Number of body bytes sent so far.
    sent: u64,
    start: Instant,
    buffer: Vec<u8>,
}

impl Sender<'_> {
    /// Sends the body with its framing, up to the cut, which it returns.
    ///
    /// `told` is true if a fault at the end has already been reported.
    async fn body(&mut self, told: bool, witness: &mut impl Witness) -> io::Result<Option<Cut>> {
        let reply = self.reply;
        let limit = reply.cut.map_or(u64::MAX, |(after, _)| after);
        let at_end = reply.shows == Shows::AtEnd && !told && reply.cut.is_none();
        let chunked = matches!(reply.framing, Framing::Chunked { .. });
        for part in &reply.body {
            let mut at = 0;
            while at < part.length() && self.sent < limit {
                let rest = (part.length() - at).min(limit - self.sent);
                let piece = usize::try_from(rest).map_or(reply.piece, |rest| rest.min(reply.piece));
                self.wait_for_turn().await;
                self.fill(part, at, piece);
                let last = self.sent + piece as u64 == self.length;
                let shows = (reply.shows == Shows::InBody && self.sent == 0)
                    || (reply.shows == Shows::InLastPiece && last)
                    || (at_end && last && !chunked && reply.excess == 0);
                witness.sending(piece as u64);
                write(self.stream, &self.buffer, shows, witness).await?;
                at += piece as u64;
                self.sent += piece as u64;
            }
        }
        if let Some((_, end)) = reply.cut {
            return Ok(Some(end));
        }
        if let Framing::Chunked { trailers, .. } = &reply.framing {
            let trailers: String = trailers
                .iter()
                .map(|(name, value)| format!("{name}: {value}\r\n"))
                .collect();
            let end = format!("0\r\n{trailers}\r\n");
            write(self.stream, end.as_bytes(), at_end, witness).await?;
        }
        if reply.excess > 0 {
            let length = usize::try_from(reply.excess).unwrap_or(usize::MAX);
            write(self.stream, &vec![b'x'; length], at_end, witness).await?;
        }
        Ok(None)
    }

    async fn wait_for_turn(&self) {
        if !self.reply.pause.is_zero() {
            sleep(self.reply.pause).await;
        }
        if let Some(rate) = self.reply.bytes_per_second {
            let due = u128::from(self.sent) * 1_000_000_000 / u128::from(rate);
            sleep_until(self.start + Duration::from_nanos(u64::try_from(due).unwrap_or(u64::MAX))).await;
        }
    }

    /// Puts the next piece with its framing into the buffer.
    fn fill(&mut self, part: &Part, at: u64, length: usize) {
        self.buffer.clear();
        let extension = match &self.reply.framing {
            Framing::Chunked { extension, .. } => Some(extension),
            Framing::Length(_) | Framing::Close => None,
        };
        if let Some(extension) = extension {
            self.buffer
                .extend_from_slice(format!("{length:x}{extension}\r\n").as_bytes());
        }
        let data = self.buffer.len();
        match part {
            Part::Bytes(bytes) => {
                // A part in memory has offsets that fit.
                let from = usize::try_from(at).unwrap_or(usize::MAX);
                self.buffer.extend_from_slice(&bytes[from..from + length]);
            }
            Part::Object { pattern, start, .. } => {
                self.buffer.resize(data + length, 0);
                pattern.fill(start.wrapping_add(at), &mut self.buffer[data..]);
            }
        }
        if extension.is_some() {
            self.buffer.extend_from_slice(b"\r\n");
        }
    }
}
