//! The limit: one epoll loop that receives an object over N connections, in order.
//!
//! The loop does only the necessary work of a download: no retries, no checks, no tasks. It
//! receives into reused slots. Each socket has a low-water mark of at most 256 KiB. The loop writes
//! the slots in order to `/dev/null`, and prints one line of JSON.

use std::{
    collections::VecDeque,
    error::Error,
    fs::File,
    io::{self, Write as _},
    net::TcpStream,
    time::Instant,
};

use clap::Parser;
use nix::sys::{
    resource::{UsageWho, getrusage},
    socket::setsockopt,
};
use pget_bench::cpu_of_this_process;
use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, EventData, EventFlags},
    net::{RecvFlags, recv},
};

/// Bytes that a socket gathers before it wakes the loop.
const GATHER: usize = 256 << 10;

/// Options of the program.
#[derive(Debug, Parser)]
struct Args {
    /// An `http` URL.
    url: String,
    /// Size of the object in bytes.
    #[arg(long)]
    size: u64,
    /// Number of connections.
    #[arg(long, default_value_t = 8)]
    concurrency: usize,
    /// Bytes per range.
    #[arg(long, default_value_t = 8 << 20)]
    chunk_size: u64,
    /// Number of slots. The default is one and a half per connection.
    #[arg(long)]
    window: Option<usize>,
}

struct Connection {
    stream: TcpStream,
    mark: usize,
    /// The chunk that the connection receives, and its slot.
    work: Option<Work>,
}

struct Work {
    chunk: u64,
    slot: Vec<u8>,
    /// The head as received so far, or `None` once the body arrives.
    head: Option<Vec<u8>>,
    filled: usize,
    length: usize,
}

struct Loop {
    host: String,
    path: String,
    size: u64,
    chunk_size: u64,
    next: u64,
    cursor: u64,
    window: usize,
    /// The complete chunks from the cursor on.
    complete: VecDeque<Option<(Vec<u8>, usize)>>,
    free: Vec<Vec<u8>>,
    sink: File,
    bytes: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let rest = args
        .url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'));
    let (host, path) = rest.ok_or("the URL must begin with http://")?;
    let began = Instant::now();
    let mut all = Loop {
        host: host.to_owned(),
        path: path.to_owned(),
        size: args.size,
        chunk_size: args.chunk_size,
        next: 0,
        cursor: 0,
        window: args.window.unwrap_or(args.concurrency * 3 / 2).max(1),
        complete: VecDeque::new(),
        free: Vec::new(),
        sink: File::options().write(true).open("/dev/null")?,
        bytes: 0,
    };
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections = Vec::new();
    for index in 0..args.concurrency {
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        epoll::add(&epoll, &stream, EventData::new_u64(index as u64), EventFlags::IN)?;
        connections.push(Connection {
            stream,
            mark: 1,
            work: None,
        });
    }
    let mut events = Vec::with_capacity(args.concurrency);
    loop {
        for connection in &mut connections {
            if connection.work.is_none() && !all.begin(connection)? {
                break;
            }
        }
        if all.bytes == all.size {
            break;
        }
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let index = usize::try_from(event.data.u64())?;
            all.receive(&mut connections[index])?;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let peak = getrusage(UsageWho::RUSAGE_SELF)?.max_rss() >> 10;
    println!(
        "{{\"seconds\":{seconds:.4},\"cpu\":{:.4},\"peak_mib\":{peak},\"bytes\":{}}}",
        cpu_of_this_process()?,
        all.bytes
    );
    Ok(())
}

impl Loop {
    /// Requests the next chunk. Returns false if the window has no room for one.
    fn begin(&mut self, connection: &mut Connection) -> Result<bool, Box<dyn Error>> {
        let start = self.next * self.chunk_size;
        if start >= self.size || self.next - self.cursor >= self.window as u64 {
            return Ok(false);
        }
        let end = self.size.min(start + self.chunk_size);
        let request = format!(
            "GET /{} HTTP/1.1\r\nHost: {}\r\nRange: bytes={start}-{}\r\n\r\n",
            self.path,
            self.host,
            end - 1
        );
        connection.stream.write_all(request.as_bytes())?;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => vec![0; usize::try_from(self.chunk_size)?],
        };
        connection.work = Some(Work {
            chunk: self.next,
            slot,
            head: Some(Vec::new()),
            filled: 0,
            length: usize::try_from(end - start)?,
        });
        self.next += 1;
        self.complete.push_back(None);
        Ok(true)
    }

    fn receive(&mut self, connection: &mut Connection) -> Result<(), Box<dyn Error>> {
        let Some(work) = &mut connection.work else {
            return Err("the server closed a connection".into());
        };
        if let Some(head) = &mut work.head {
            let mut piece = [0; 4096];
            let (count, _) = recv(&connection.stream, &mut piece[..], RecvFlags::DONTWAIT)?;
            head.extend_from_slice(&piece[..count]);
            if count == 0 {
                return Err("the server closed a connection".into());
            }
            let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") else {
                return Ok(());
            };
            if !head.starts_with(b"HTTP/1.1 206") {
                return Err("the server refused a range".into());
            }
            let body = &head[end + 4..];
            work.slot[..body.len()].copy_from_slice(body);
            work.filled = body.len();
            work.head = None;
        } else {
            let room = &mut work.slot[work.filled..work.length];
            match recv(&connection.stream, room, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err("the server closed a connection".into()),
                Ok((count, _)) => work.filled += count,
                Err(rustix::io::Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let rest = work.length - work.filled;
        let mark = if rest == 0 { 1 } else { rest.min(GATHER) };
        if mark != connection.mark {
            connection.mark = mark;
            setsockopt(
                &connection.stream,
                option::ReceiveLowWaterMark,
                &i32::try_from(mark)?,
            )?;
        }
        if rest == 0
            && let Some(work) = connection.work.take()
        {
            let place = usize::try_from(work.chunk - self.cursor)?;
            self.complete[place] = Some((work.slot, work.length));
            self.consume()?;
            self.begin(connection)?;
        }
        Ok(())
    }

    fn consume(&mut self) -> io::Result<()> {
        while matches!(self.complete.front(), Some(Some(_))) {
            if let Some(Some((slot, length))) = self.complete.pop_front() {
                self.sink.write_all(&slot[..length])?;
                self.bytes += length as u64;
                self.cursor += 1;
                self.free.push(slot);
            }
        }
        Ok(())
    }
}

mod option {
    #![allow(
        unsafe_code,
        reason = "nix's macro calls setsockopt; nothing here does by itself"
    )]

    /// The socket option `SO_RCVLOWAT`, which nix does not have.
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
