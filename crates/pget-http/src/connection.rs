//! One connection: request out, head in, body bytes into wherever the caller points.
//!
//! Invariants: bytes received behind a head are in `buffer` and come before what the socket has; an exchange begins with an empty buffer. Everything is
//! cancel-safe in the sense that a dropped exchange takes its connection with it.

use std::{
    fmt,
    future::{Future as _, poll_fn},
    io::{self, IoSlice},
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf as _, BufMut, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, ReadBuf},
    net::TcpStream,
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};
use tokio_rustls::client::TlsStream;

use crate::gather::{Gather, PATIENCE};

/// Bytes asked for while a head or framing is due: few, as what comes behind it is copied.
const HEAD_PIECE: usize = 8 * 1024;
/// What TLS reads from the socket at a time; by itself it would ask for 4 KiB.
const TLS_PIECE: usize = 256 * 1024;

pub(crate) struct Connection {
    stream: Stream,
    /// Received and not yet used.
    buffer: BytesMut,
    gather: Gather,
    /// Ends a wait with a raised mark.
    patience: Option<Pin<Box<Sleep>>>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<BufReader<Wire>>>),
}

impl Connection {
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self::new(Stream::Plain(stream))
    }

    pub(crate) fn tls(stream: TlsStream<BufReader<Wire>>) -> Self {
        Self::new(Stream::Tls(Box::new(stream)))
    }

    fn new(stream: Stream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            gather: Gather::new(),
            patience: None,
        }
    }

    /// The address it leads to.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.socket().peer_addr().ok()
    }

    fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => &stream.get_ref().0.get_ref().0,
        }
    }

    /// Sends a request.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes).await,
            Stream::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
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
            // Back to the memory's start, without a copy or an allocation: a pointer to its end, kept while the connection is idle, looks to leak checkers as if the
            // memory were nobody's.
            self.buffer.reserve(HEAD_PIECE);
        }
    }

    /// Receives into the buffer; 0 at the connection's end.
    pub(crate) async fn fill_buffer(&mut self) -> io::Result<usize> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.reserve(HEAD_PIECE);
        let received = self.receive(&mut (&mut buffer).limit(HEAD_PIECE), 1).await;
        self.buffer = buffer;
        received
    }

    /// Moves up to `most` bytes of the body into `into`: buffered ones first, else straight from the socket. `most` must not be 0, and `into` must have room; 0 is
    /// the connection's end. At least `expected` bytes, these included, are sure to come if the peer keeps its word.
    pub(crate) async fn body(
        &mut self,
        into: &mut impl BufMut,
        most: u64,
        expected: u64,
    ) -> io::Result<usize> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if !self.buffer.is_empty() {
            let count = most.min(self.buffer.len()).min(into.remaining_mut());
            into.put_slice(&self.buffer[..count]);
            self.use_buffered(count);
            return Ok(count);
        }
        self.receive(&mut into.limit(most), expected).await
    }

    async fn receive(&mut self, into: &mut impl BufMut, expected: u64) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Tls(stream) => stream.read_buf(into).await,
            Stream::Plain(stream) => {
                let mut waits_since = None;
                poll_fn(|cx| {
                    match pin!(stream.read_buf(into)).poll(cx) {
                        Poll::Ready(Ok(count)) => {
                            self.gather.received(count);
                            return Poll::Ready(Ok(count));
                        }
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending => {}
                    }
                    // The waker is registered: what the next lines signal is not lost.
                    let since = match waits_since {
                        Some(since) => since,
                        None => {
                            self.gather.aim(stream, expected)?;
                            *waits_since.insert(Instant::now())
                        }
                    };
                    if self.gather.is_raised() {
                        let until = since + PATIENCE;
                        ready!(poll_patience(&mut self.patience, until, cx));
                        self.gather.slow();
                        self.gather.lower(stream)?;
                    }
                    Poll::Pending
                })
                .await
            }
        }
    }

    /// Whether nothing has come from the peer since the last exchange, not even its end. Over TLS, nothing but what TLS keeps to itself: an answer that nobody asked for may be decrypted already, or
    /// lie in front of that, where the socket does not show it.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        match &mut self.stream {
            Stream::Plain(stream) => {
                matches!(stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            Stream::Tls(stream) => {
                let mut byte = ReadBuf::new(&mut byte);
                // Without tokio's budget: that it is spent would look like silence.
                let read = unconstrained(poll_fn(|cx| Pin::new(&mut **stream).poll_read(cx, &mut byte)));
                pin!(read)
                    .poll(&mut Context::from_waker(Waker::noop()))
                    .is_pending()
            }
        }
    }

    /// Prepares for the next exchange; `false` if there cannot be one.
    pub(crate) fn rest(&mut self) -> bool {
        self.patience = None;
        let lowered = match &self.stream {
            Stream::Plain(stream) => self.gather.lower(stream).is_ok(),
            Stream::Tls(_) => true,
        };
        // Bytes behind a body answer nothing that was asked.
        lowered && self.buffer.is_empty()
    }
}

/// Ready at `until`. The timer is set anew only when it has fired, so that a wait costs no timer operation most of the time.
fn poll_patience(timer: &mut Option<Pin<Box<Sleep>>>, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
    loop {
        ready!(timer.as_mut().poll(cx));
        if Instant::now() >= until {
            return Poll::Ready(());
        }
        timer.as_mut().reset(until);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("tls", &matches!(self.stream, Stream::Tls(_)))
            .field("gather", &self.gather)
            .finish_non_exhaustive()
    }
}

/// A socket that is never written to in vectors: those lack `MSG_NOSIGNAL`, and a library must not raise SIGPIPE in its host.
#[derive(Debug)]
pub(crate) struct Wire(TcpStream);

impl Wire {
    pub(crate) fn buffered(stream: TcpStream) -> BufReader<Self> {
        BufReader::with_capacity(TLS_PIECE, Self(stream))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = bufs.iter().find(|buf| !buf.is_empty());
        self.poll_write(cx, first.map_or(&[], |buf| buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
