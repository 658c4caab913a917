//! One TLS connection over rustls' unbuffered API: sends requests, receives records, hands out
//! their plaintext.
//!
//! [`Secure::handshake`] makes one; [`Secure::send`] encrypts a request; [`Secure::poll_receive`]
//! receives as many records as are there, decrypts them where they were received, and copies their
//! plaintext once, to where the caller wants it.
//!
//! Invariants:
//! - the session sees every byte once and in order; it keeps only the beginning of what is not
//!   complete yet (`incomplete`);
//! - records leave in the order in which they were encrypted: after a change of keys, the message
//!   that announces it comes before what the new keys encrypt;
//! - a clean end is a `close_notify`; the socket's end without one is an error;
//! - what was decrypted before an error is handed out before the error is.

use std::{
    cell::Cell,
    fmt,
    future::{Future as _, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{BufMut, BytesMut};
use rustls::{
    ClientConfig,
    client::UnbufferedClientConnection,
    pki_types::ServerName,
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus},
};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    net::TcpStream,
    task::unconstrained,
};

use crate::socket::Socket;

/// Bytes received at a time. Larger pieces do not fit the second-level cache beside the rest.
const PIECE: usize = 256 * 1024;
/// The longest record: a header, 16 KiB, and what encryption may add (RFC 5246 section 6.2.3).
const RECORD: usize = 5 + 16 * 1024 + 2048;
/// More of a message that is not complete is refused. Rustls joins up to 64 KiB of handshake.
const MOST_INCOMPLETE: usize = 256 * 1024;
/// Added by the encryption of each 16 KiB, at most.
const OVERHEAD: usize = 256;

thread_local! {
    /// The memory that records are received and decrypted in. A thread has one for all its
    /// connections, so that it stays in cache and an idle connection holds none.
    ///
    /// It is taken out while it is used: a caller's code may run below that and receive from
    /// another connection.
    static DESK: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

pub(crate) struct Secure {
    socket: Socket,
    session: UnbufferedClientConnection,
    /// Received, and kept until the rest of its record or message comes.
    incomplete: Vec<u8>,
    /// Encrypted and not sent yet.
    outgoing: Vec<u8>,
    /// The peer has sent a `close_notify`.
    closed: bool,
    /// What the next receive reports.
    failed: Option<rustls::Error>,
}

impl Secure {
    /// Agrees with the server `name` on keys. Plaintext that comes with that is appended to
    /// `early`.
    ///
    /// # Errors
    /// An error of rustls comes as the inner error of an [`io::Error`], as from
    /// [`poll_receive`](Self::poll_receive).
    pub(crate) async fn handshake(
        socket: Socket,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        early: &mut BytesMut,
    ) -> io::Result<Self> {
        let session = UnbufferedClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut this = Self {
            socket,
            session,
            incomplete: Vec::new(),
            outgoing: Vec::new(),
            closed: false,
            failed: None,
        };
        this.process_incomplete();
        let ended = || {
            let message = "the connection ended in the TLS handshake";
            io::Error::new(io::ErrorKind::UnexpectedEof, message)
        };
        loop {
            if let Err(cause) = poll_fn(|cx| this.poll_flush(cx)).await {
                return Err(this.reason(cause).await);
            }
            if !this.session.is_handshaking() {
                return Ok(this);
            }
            if this.closed {
                return Err(ended());
            }
            let received = poll_fn(|cx| {
                // No byte is wanted before the handshake is done.
                this.poll_records(cx, RECORD, |plaintext| early.put_slice(plaintext))
            });
            if received.await? == 0 {
                return Err(ended());
            }
        }
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Bytes of an incomplete record, received already.
    pub(crate) fn incomplete(&self) -> usize {
        self.incomplete.len()
    }

    /// Encrypts `plaintext` and sends it.
    pub(crate) async fn send(&mut self, plaintext: &[u8]) -> io::Result<()> {
        if let Some(error) = &self.failed {
            return Err(of_tls(error.clone()));
        }
        self.encrypt(plaintext)?;
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Appends `plaintext` to what is to be sent. If the peer has changed its keys, the answer to
    /// that comes first.
    fn encrypt(&mut self, plaintext: &[u8]) -> io::Result<()> {
        let records = plaintext.len() / (16 * 1024) + 1;
        let mut room = plaintext.len() + records * OVERHEAD;
        loop {
            self.process_incomplete();
            let from = self.outgoing.len();
            // With what is not complete, as the session counts on what it has seen of that.
            let state = self.session.process_tls_records(&mut self.incomplete).state;
            let ConnectionState::WriteTraffic(mut traffic) = state.map_err(of_tls)? else {
                return Err(io::ErrorKind::BrokenPipe.into());
            };
            self.outgoing.resize(from + room, 0);
            match traffic.encrypt(plaintext, &mut self.outgoing[from..]) {
                Ok(length) => {
                    self.outgoing.truncate(from + length);
                    return Ok(());
                }
                Err(cause) => {
                    self.outgoing.truncate(from);
                    match cause {
                        EncryptError::InsufficientSize(size) if size.required_size > room => {
                            room = size.required_size;
                        }
                        cause => return Err(io::Error::other(cause)),
                    }
                }
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            // Never in vectors: those lack `MSG_NOSIGNAL`, and a library must not raise SIGPIPE.
            let sent = ready!(Pin::new(&mut *self.socket).poll_write(cx, &self.outgoing))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.drain(..sent);
        }
        Poll::Ready(Ok(()))
    }

    /// Why the handshake could not be sent: a server that refuses it sends an alert and closes.
    async fn reason(&mut self, cause: io::Error) -> io::Error {
        // Only if the peer has closed, so that there is nothing to wait for.
        if !matches!(
            cause.kind(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
        ) {
            return cause;
        }
        loop {
            match poll_fn(|cx| self.poll_records(cx, RECORD, |_| {})).await {
                Ok(0) => return cause,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return error,
                Err(_) => return cause,
            }
        }
    }

    /// Receives until there is plaintext: up to `most` bytes go to `into`, which has room, the rest
    /// is appended to `rest`. Returns how many bytes went to `into`; 0 is a clean end.
    ///
    /// Ready with the plaintext of one receive, which may be many records.
    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut impl BufMut,
        most: usize,
        rest: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let mut left = most.min(into.remaining_mut());
        let room = left;
        loop {
            if self.closed && self.failed.is_none() {
                return Poll::Ready(Ok(0));
            }
            // Not much more than there is room for, as that is copied twice. Encryption adds a
            // little, which the next piece makes up for.
            let piece = PIECE.min(left.saturating_add(OVERHEAD)).max(RECORD);
            let received = ready!(self.poll_records(cx, piece, |plaintext| {
                let fits = if rest.is_empty() {
                    plaintext.len().min(left)
                } else {
                    0
                };
                into.put_slice(&plaintext[..fits]);
                left -= fits;
                rest.extend_from_slice(&plaintext[fits..]);
            }))?;
            if left < room {
                return Poll::Ready(Ok(room - left));
            }
            if received == 0 && !self.closed {
                let message = "the connection ended without a close_notify of TLS";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, message)));
            }
        }
    }

    /// Receives once, up to `most` bytes, and calls `put` with the plaintext of each record that is
    /// complete with them. Returns how many bytes were received; 0 is the socket's end.
    fn poll_records(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        put: impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(of_tls(error.clone())));
        }
        let front = self.incomplete.len().max(RECORD);
        let mut desk = DESK.take();
        if desk.len() < front + most {
            desk = vec![0; front + most.max(PIECE)];
        }
        let received = self.poll_records_on(cx, &mut desk, front, most, put);
        DESK.set(desk);
        if received.is_ready() && !self.outgoing.is_empty() {
            // An alert, or what a server of TLS 1.2 wants to hear. If there is no room for it now,
            // it goes with the next request.
            drop(self.poll_flush(cx));
        }
        received
    }

    fn poll_records_on(
        &mut self,
        cx: &mut Context<'_>,
        desk: &mut [u8],
        front: usize,
        most: usize,
        mut put: impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(&mut desk[front..front + most]);
        ready!(Pin::new(&mut *self.socket).poll_read(cx, &mut room))?;
        let received = room.filled().len();
        if received == 0 {
            return Poll::Ready(Ok(0));
        }
        let begin = front - self.incomplete.len();
        desk[begin..front].copy_from_slice(&self.incomplete);
        let records = &mut desk[begin..front + received];
        let mut any = false;
        let used = self.process(records, |plaintext| {
            any = true;
            put(plaintext);
        });
        self.incomplete.clear();
        if self.failed.is_none() && !self.closed {
            self.incomplete.extend_from_slice(&records[used..]);
        }
        if self.incomplete.len() > MOST_INCOMPLETE {
            self.failed = Some(rustls::Error::General("a message is too long".into()));
        }
        match &self.failed {
            Some(error) if !any => Poll::Ready(Err(of_tls(error.clone()))),
            _ => Poll::Ready(Ok(received)),
        }
    }

    /// Collects what the session wants to send.
    fn process_incomplete(&mut self) {
        // The session counts on what it has seen of a message that is not complete.
        let mut records = std::mem::take(&mut self.incomplete);
        let used = self.process(&mut records, |_| {});
        records.drain(..used);
        self.incomplete = records;
    }

    /// Lets the session work through `records`, and collects what it wants to send. Returns how
    /// many bytes it is done with.
    fn process(&mut self, records: &mut [u8], mut put: impl FnMut(&[u8])) -> usize {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.session.process_tls_records(&mut records[used..]);
            let mut done = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                discard += record.discard;
                                put(record.payload);
                            }
                            Err(error) => {
                                self.failed.get_or_insert(error);
                                done = true;
                                break;
                            }
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(message)) => encode(message, &mut self.outgoing),
                // It is sent, in order, from `outgoing`.
                Ok(ConnectionState::TransmitTlsData(message)) => message.done(),
                Ok(ConnectionState::PeerClosed) => self.closed = true,
                // Nothing more comes of these records; the other states are a server's.
                Ok(_) => done = true,
                Err(error) => {
                    self.failed.get_or_insert(error);
                    done = true;
                }
            }
            used = records.len().min(used + discard);
            if done {
                break;
            }
        }
        // After an error, the alert that reports it to the peer.
        while self.failed.is_some() && self.session.wants_write() {
            match self.session.process_tls_records(&mut records[used..]).state {
                Ok(ConnectionState::EncodeTlsData(message)) => encode(message, &mut self.outgoing),
                _ => break,
            }
        }
        used
    }

    /// Whether nothing has come since the last exchange but what TLS keeps to itself (tickets).
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut answered = false;
        // Without tokio's budget: that it is spent would look like silence.
        let read = unconstrained(poll_fn(|cx| {
            loop {
                if self.closed || self.failed.is_some() {
                    return Poll::Ready(());
                }
                match ready!(self.poll_records(cx, RECORD, |_| answered = true)) {
                    Ok(1..) if !answered => {}
                    _ => return Poll::Ready(()),
                }
            }
        }));
        let silent = pin!(read)
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending();
        silent && self.incomplete.is_empty()
    }

    /// Returns memory, for an idle connection.
    pub(crate) fn rest(&mut self) {
        if self.incomplete.is_empty() {
            self.incomplete = Vec::new();
        }
        if self.outgoing.is_empty() {
            self.outgoing = Vec::new();
        }
    }
}

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secure")
            .field("version", &self.session.protocol_version())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// Appends a record of the session's own to `outgoing`.
fn encode<Data>(mut message: EncodeTlsData<'_, Data>, outgoing: &mut Vec<u8>) {
    let from = outgoing.len();
    if let Err(EncodeError::InsufficientSize(size)) = message.encode(&mut []) {
        outgoing.resize(from + size.required_size, 0);
        let length = message.encode(&mut outgoing[from..]).unwrap_or(0);
        outgoing.truncate(from + length);
    }
}

/// An error of TLS itself, to be found by [`failure`](crate::tls::failure).
fn of_tls(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
