//! One connection: request out, head in, body bytes into wherever the caller points.
//!
//! Invariants: bytes received after a head are in `buffer` and come before what the socket has; an
//! exchange begins with an empty buffer. Everything is cancel-safe in the sense that a dropped
//! exchange takes its connection with it.

use std::{
    fmt,
    future::{Future as _, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BufMut, BytesMut, buf::Limit};
use pget_core::{
    ChunkWriter,
    fork::{Own, forked},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    low_water_mark::{Demand, LowWaterMark},
    secure::Secure,
    socket::Socket,
    speed::Speed,
};

/// Bytes asked for while a head or framing is due: few, as what comes after it is copied.
const HEAD_PIECE: usize = 8 * 1024;
/// Bytes of memory that an idle connection may keep for what it receives.
const IDLE_BUFFER: usize = 16 * 1024;

pub(crate) struct Connection {
    /// A forked child, whose copy of the socket is closed, neither uses nor drops it.
    stream: Own<Stream>,
    /// Received and not yet used.
    buffer: BytesMut,
    low_water_mark: LowWaterMark,
    speed: Speed,
    /// Ends a wait with a raised mark.
    patience: Option<Pin<Box<Sleep>>>,
}

enum Stream {
    Plain(Socket),
    Tls(Box<Secure>),
}

impl Connection {
    pub(crate) fn plain(socket: Socket) -> Self {
        Self::new(Stream::Plain(socket), BytesMut::new())
    }

    /// With what has been received with the handshake.
    pub(crate) fn tls(stream: Secure, buffer: BytesMut) -> Self {
        Self::new(Stream::Tls(Box::new(stream)), buffer)
    }

    fn new(stream: Stream, buffer: BytesMut) -> Self {
        Self {
            stream: Own::new(stream),
            buffer,
            low_water_mark: LowWaterMark::new(),
            speed: Speed::default(),
            patience: None,
        }
    }

    /// The address it leads to.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.socket().peer_addr().ok()
    }

    /// Bytes a second of its latest body, unless that was short.
    pub(crate) const fn rate(&self) -> Option<u64> {
        self.speed.rate
    }

    fn socket(&self) -> &TcpStream {
        self.stream.socket()
    }

    fn check_process(&self) -> io::Result<()> {
        if Own::is_forked(&self.stream) {
            return Err(forked("the connection").into());
        }
        Ok(())
    }

    /// Sends a request.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.check_process()?;
        self.low_water_mark.pause();
        self.speed.pause();
        match &mut *self.stream {
            Stream::Plain(stream) => stream.write_all(bytes).await,
            Stream::Tls(stream) => stream.send(bytes).await,
        }
    }

    /// What is received and not yet used.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    /// `count` of the buffered bytes are used.
    pub(crate) fn use_buffered(&mut self, count: usize) {
        self.buffer.advance(count);
        if self.buffer.is_empty() {
            // Back to the memory's start, without a copy or an allocation: a pointer to its end,
            // kept while the connection is idle, looks to leak checkers as if the memory had no
            // owner.
            self.buffer.reserve(HEAD_PIECE);
        }
    }

    /// Receives into the buffer; 0 at the connection's end.
    pub(crate) async fn fill_buffer(&mut self) -> io::Result<usize> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.reserve(HEAD_PIECE);
        let received = self.receive(&mut buffer, HEAD_PIECE, 1).await;
        // What did not fit comes after it.
        buffer.unsplit(std::mem::take(&mut self.buffer));
        self.buffer = buffer;
        received
    }

    /// Moves up to `most` bytes of the body into `into`: buffered ones first, else straight from
    /// the socket. `most` must not be 0, and `into` must have room; 0 is the connection's end. At
    /// least `expected` bytes, these included, are sure to come if the peer keeps its word.
    pub(crate) async fn body(&mut self, into: &mut impl Sink, most: u64, expected: u64) -> io::Result<usize> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if !self.buffer.is_empty() {
            let count = most.min(self.buffer.len()).min(into.remaining_mut());
            into.put_slice(&self.buffer[..count]);
            self.use_buffered(count);
            return Ok(count);
        }
        self.receive(into, most, expected).await
    }

    /// Receives up to `most` bytes into `into`, what TLS has decrypted beyond that into the buffer,
    /// which is empty.
    async fn receive(&mut self, into: &mut impl Sink, most: usize, expected: u64) -> io::Result<usize> {
        self.check_process()?;
        let mut wait: Option<(Demand, Instant)> = None;
        poll_fn(|cx| {
            let (received, ahead) = match &mut *self.stream {
                Stream::Plain(stream) => {
                    let read = pin!(stream.read_buf(&mut (&mut *into).limit(most))).poll(cx);
                    (read, 0)
                }
                Stream::Tls(stream) => {
                    let read = stream.poll_receive(cx, into, most, &mut self.buffer);
                    (read, stream.incomplete())
                }
            };
            match received {
                Poll::Ready(Ok(count)) => {
                    let now = std::time::Instant::now();
                    self.low_water_mark.received(now, count);
                    self.speed.received(now, count);
                    return Poll::Ready(Ok(count));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
            // The waker is registered: what the next lines signal is not lost.
            let demand = match into.poll_awaited(cx) {
                Poll::Ready(()) => Demand::Near,
                Poll::Pending => Demand::Far,
            };
            let since = match wait {
                Some((before, since)) if before == demand => since,
                _ => {
                    // Encrypted, it is no less than in plain.
                    let expected = expected.saturating_sub(ahead as u64);
                    let socket = self.stream.socket();
                    self.low_water_mark.aim(socket, demand, expected)?;
                    wait.insert((demand, Instant::now())).1
                }
            };
            if self.low_water_mark.is_raised() {
                let until = since + demand.patience();
                ready!(poll_patience(&mut self.patience, until, cx));
                self.low_water_mark.slow();
                self.low_water_mark.lower(self.stream.socket())?;
            }
            Poll::Pending
        })
        .await
    }

    /// Whether nothing has come from the peer since the last exchange, not even its end. Over TLS,
    /// nothing but what TLS keeps to itself: an answer that was not asked for may be decrypted
    /// already, or lie in front of that, where the socket does not show it.
    pub(crate) fn is_quiet(&mut self) -> bool {
        match &mut *self.stream {
            Stream::Plain(stream) => {
                matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            Stream::Tls(stream) => stream.is_quiet(),
        }
    }

    /// Prepares for the next exchange; `false` if there cannot be one.
    pub(crate) fn rest(&mut self) -> bool {
        self.patience = None;
        self.speed.pause();
        if let Stream::Tls(stream) = &mut *self.stream {
            stream.rest();
        }
        let lowered = self.low_water_mark.lower(self.stream.socket()).is_ok();
        // Bytes after a body answer nothing that was asked.
        let clean = self.buffer.is_empty();
        if self.buffer.capacity() > IDLE_BUFFER {
            self.buffer = BytesMut::new();
        }
        lowered && clean
    }
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.socket(),
        }
    }
}

/// Ready at `until`. The timer is set again only when it has fired, or would fire too late, so that
/// a wait costs no timer operation most of the time.
fn poll_patience(timer: &mut Option<Pin<Box<Sleep>>>, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
    if timer.deadline() > until {
        timer.as_mut().reset(until);
    }
    loop {
        ready!(timer.as_mut().poll(cx));
        if Instant::now() >= until {
            return Poll::Ready(());
        }
        timer.as_mut().reset(until);
    }
}

/// Where received bytes go.
pub(crate) trait Sink: BufMut {
    /// Ready while a reader may wait for the next byte; else `cx` is woken when it comes to that.
    fn poll_awaited(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }
}

impl Sink for ChunkWriter {
    fn poll_awaited(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Self::poll_awaited(self, cx)
    }
}

impl Sink for BytesMut {}
impl Sink for &mut [u8] {}
impl Sink for Limit<&mut Vec<u8>> {}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("tls", &matches!(*self.stream, Stream::Tls(_)))
            .field("low_water_mark", &self.low_water_mark)
            .finish_non_exhaustive()
    }
}
