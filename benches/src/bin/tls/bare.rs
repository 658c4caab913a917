//! The bare loop: rustls' unbuffered API over sockets that wait in one epoll.
//!
//! Each connection takes ranges in turn. It receives in pieces of 256 KiB with a low-water mark,
//! and decrypts them in place. It copies the plaintext into a reused buffer of one range.

use std::{
    error::Error,
    io::{Read as _, Write as _},
    net::TcpStream,
    ops::Range,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use nix::sys::socket::setsockopt;
use rustix::event::epoll;
use rustls::{
    ClientConfig,
    client::UnbufferedClientConnection,
    pki_types::ServerName,
    unbuffered::{ConnectionState, EncodeError, UnbufferedStatus},
};

type Failure = Box<dyn Error>;

/// Bytes received at a time.
const PIECE: usize = 256 * 1024;

/// One connection and the range that it receives.
struct Connection {
    socket: TcpStream,
    session: UnbufferedClientConnection,
    /// Received records. The first `filled` bytes are not decrypted yet.
    records: Vec<u8>,
    filled: usize,
    head: Vec<u8>,
    body: Vec<u8>,
    /// Bytes of the body that are missing, or `None` before its head has ended.
    left: Option<usize>,
    mark: i32,
}

impl Connection {
    fn open(host: &str, config: &Arc<ClientConfig>) -> Result<Self, Failure> {
        let name = host.rsplit_once(':').ok_or("no port")?.0.to_owned();
        let socket = TcpStream::connect(host)?;
        socket.set_nodelay(true)?;
        let mut this = Self {
            socket,
            session: UnbufferedClientConnection::new(Arc::clone(config), ServerName::try_from(name)?)?,
            records: vec![0; PIECE + 17 * 1024],
            filled: 0,
            head: Vec::new(),
            body: Vec::new(),
            left: None,
            mark: 1,
        };
        // The handshake may block.
        this.process()?;
        while this.session.is_handshaking() {
            this.filled += this.socket.read(&mut this.records[this.filled..])?;
            this.process()?;
        }
        this.socket.set_nonblocking(true)?;
        Ok(this)
    }

    fn ask(&mut self, host: &str, path: &str, range: &Range<u64>) -> Result<(), Failure> {
        let request = format!(
            "GET /{path} HTTP/1.1\r\nHost: {host}\r\nRange: bytes={}-{}\r\n\r\n",
            range.start,
            range.end - 1
        );
        self.head.clear();
        self.body.clear();
        self.left = None;
        let mut sealed = vec![0; request.len() + 256];
        let state = self.session.process_tls_records(&mut []).state?;
        let ConnectionState::WriteTraffic(mut traffic) = state else {
            return Err("the session cannot send".into());
        };
        let length = traffic
            .encrypt(request.as_bytes(), &mut sealed)
            .map_err(|_| "not encrypted")?;
        self.socket.write_all(&sealed[..length])?;
        Ok(())
    }

    /// Receives the bytes that have arrived. Returns whether the body is complete.
    fn receive(&mut self, length: usize) -> Result<bool, Failure> {
        loop {
            let room = &mut self.records[self.filled..];
            let size = room.len().min(PIECE);
            match self.socket.read(&mut room[..size]) {
                Ok(0) => return Err("the connection ended".into()),
                Ok(count) => {
                    self.filled += count;
                    self.process()?;
                    self.took(length)?;
                    if self.left == Some(0) {
                        return Ok(true);
                    }
                    if count < size {
                        break;
                    }
                }
                Err(cause) if cause.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(cause) => return Err(cause.into()),
            }
        }
        let due = self.left.map_or(1, |left| left.saturating_sub(self.filled));
        let mark = i32::try_from(due.clamp(1, PIECE))?;
        if mark != self.mark {
            setsockopt(&self.socket, option::ReceiveLowWaterMark, &mark)?;
            self.mark = mark;
        }
        Ok(false)
    }

    /// Separates the head from the body.
    fn took(&mut self, length: usize) -> Result<(), Failure> {
        if self.left.is_some() {
            return Ok(());
        }
        let Some(end) = self.head.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(());
        };
        self.body.extend_from_slice(&self.head[end + 4..]);
        self.left = Some(length.checked_sub(self.body.len()).ok_or("a long body")?);
        Ok(())
    }

    fn process(&mut self) -> Result<(), Failure> {
        let mut used = 0;
        loop {
            let records = &mut self.records[used..self.filled];
            let UnbufferedStatus { mut discard, state } = self.session.process_tls_records(records);
            match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        match &mut self.left {
                            Some(left) => {
                                self.body.extend_from_slice(record.payload);
                                *left = left.checked_sub(record.payload.len()).ok_or("a long body")?;
                            }
                            None => self.head.extend_from_slice(record.payload),
                        }
                    }
                    used += discard;
                }
                ConnectionState::EncodeTlsData(mut message) => {
                    let Err(EncodeError::InsufficientSize(size)) = message.encode(&mut []) else {
                        return Err("nothing to send".into());
                    };
                    let mut sealed = vec![0; size.required_size];
                    message.encode(&mut sealed).map_err(|_| "not encoded")?;
                    self.socket.write_all(&sealed)?;
                    used += discard;
                }
                ConnectionState::TransmitTlsData(message) => {
                    message.done();
                    used += discard;
                }
                _ => {
                    used += discard;
                    break;
                }
            }
        }
        self.records.copy_within(used..self.filled, 0);
        self.filled -= used;
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Receives the object. Returns the number of bytes.
pub(crate) fn run(
    url: &str,
    size: u64,
    chunk: u64,
    connections: u32,
    config: &Arc<ClientConfig>,
) -> Result<u64, Failure> {
    let (host, path) = url
        .strip_prefix("https://")
        .and_then(|rest| rest.split_once('/'))
        .ok_or("no https address")?;
    let epoll: OwnedFd = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut next = (0..size.div_ceil(chunk)).map(|index| {
        let start = index * chunk;
        start..size.min(start + chunk)
    });
    let mut open = Vec::new();
    for (index, range) in (0..u64::from(connections)).zip(next.by_ref()) {
        let mut connection = Connection::open(host, config)?;
        connection.ask(host, path, &range)?;
        let data = epoll::EventData::new_u64(index);
        epoll::add(
            &epoll,
            &connection,
            data,
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )?;
        open.push((connection, range));
    }
    let (mut moved, mut working) = (0, open.len());
    let mut events = Vec::with_capacity(64);
    while working > 0 {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let (connection, range) = &mut open[usize::try_from(event.data.u64())?];
            let mut length = usize::try_from(range.end - range.start)?;
            // Receive after each request too: bytes of its answer that are already here cause no
            // event.
            while connection.receive(length)? {
                moved += length as u64;
                let Some(another) = next.next() else {
                    working -= 1;
                    epoll::delete(&epoll, &*connection)?;
                    break;
                };
                connection.ask(host, path, &another)?;
                length = usize::try_from(another.end - another.start)?;
                *range = another;
            }
        }
    }
    Ok(moved)
}

mod option {
    #![allow(
        unsafe_code,
        reason = "nix's macro calls setsockopt; nothing here does by itself"
    )]

    #[derive(Clone, Copy, Debug)]
    pub(super) struct ReceiveLowWaterMark;

    nix::setsockopt_impl!(
        ReceiveLowWaterMark,
        libc::SOL_SOCKET,
        libc::SO_RCVLOWAT,
        i32,
        nix::sys::socket::sockopt::SetStruct<'_, i32>
    );
}
