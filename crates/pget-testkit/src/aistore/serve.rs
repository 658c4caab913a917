//! One connection of a node: reads requests, applies faults, sends answers.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::bucket::{Bucket, decode_path};
use super::failure::Failure;
use super::fault::{Fault, Node};
use super::ledger::Exchange;
use super::shared::Shared;
use super::store::Stored;
use super::target::{self, Reaction};
use super::wire::{Answer, Body, Request, Wire};
use super::{object, proxy};

/// Largest piece of a body that is passed to the socket at a time.
const WRITE: usize = 1 << 20;
/// Pieces per second of a paced body.
const PACES_A_SECOND: u64 = 50;

/// Whether the connection continues after an answer.
#[derive(PartialEq, Eq)]
enum Next {
    Request,
    Close,
}

/// Counts a connection as open as long as this value lives.
struct Open(Arc<Shared>, Node);

impl Drop for Open {
    fn drop(&mut self) {
        self.0
            .ledger
            .count(|counts| *counts.open.entry(self.1).or_default() -= 1);
    }
}

/// Serves a connection until either side ends it.
pub(super) async fn connection(shared: Arc<Shared>, node: Node, stream: TcpStream, peer: String) {
    let number = shared.next_connection();
    shared.ledger.count(|counts| {
        *counts.open.entry(node).or_default() += 1;
        *counts.connections.entry(node).or_default() += 1;
    });
    // Declare the count before the socket. The socket is then closed before the count decreases.
    let _open = Open(Arc::clone(&shared), node);
    let mut session = Session {
        shared,
        node,
        number,
        wire: Wire::new(stream, peer),
    };
    // Ignore a socket error: the client has ended the connection and sees that itself.
    session.run().await.ok();
}

struct Session {
    shared: Arc<Shared>,
    node: Node,
    number: u64,
    wire: Wire,
}

impl Session {
    async fn run(&mut self) -> io::Result<()> {
        self.wire.stream.set_nodelay(true)?;
        let idle = self.shared.options.idle_close;
        while let Ok(request) = timeout(idle, self.wire.request()).await {
            let Some(request) = request? else { return Ok(()) };
            let last = request
                .header("connection")
                .is_some_and(|value| value.eq_ignore_ascii_case("close"));
            self.shared.ledger.count(|counts| {
                *counts
                    .requests
                    .entry((self.node, request.method.clone()))
                    .or_default() += 1;
            });
            if self.one(&request).await? == Next::Close || last {
                return self.wire.stream.shutdown().await;
            }
        }
        Ok(())
    }

    /// Answers one request.
    async fn one(&mut self, request: &Request) -> io::Result<Next> {
        let place = place(request);
        let object = place.as_ref().map(|(_, name)| name.as_str());
        let fault = self.shared.rules().of_request(self.node, request, object);
        if let Some(fault) = &fault {
            self.shared.ledger.fault(fault.name());
        }
        let mut ignore_range = false;
        match fault {
            Some(Fault::Hangup) => {
                self.record(request, 0);
                return Ok(Next::Close);
            }
            Some(Fault::Silence) => {
                self.record(request, 0);
                self.wire.closed().await;
                return Ok(Next::Close);
            }
            Some(Fault::Status(status)) => {
                let named = place.map(|(bucket, name)| format!("{}/{name}", bucket.display()));
                let failure =
                    Failure::of_status(status, self.shared.printed(self.node), &named.unwrap_or_default());
                let answer = failure.answer(self.shared.printed(self.node), request);
                return self.send(request, object_of(request).as_deref(), answer).await;
            }
            Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
            Some(Fault::Replace(object)) => self.at(place.as_ref(), |store, bucket, name| {
                store.put(bucket, name, object);
            }),
            Some(Fault::Delete) => self.at(place.as_ref(), |store, bucket, name| {
                store.delete(bucket, name);
            }),
            Some(Fault::Move) => self.at(place.as_ref(), |store, bucket, name| {
                store.relocate(bucket, name);
            }),
            Some(Fault::IgnoreRange) => ignore_range = true,
            _ => {}
        }
        let object = object_of(request);
        match self.react(request, ignore_range).await {
            Reaction::Answer(answer) => self.send(request, object.as_deref(), answer).await,
            Reaction::Streaming(answer, arriving) => {
                let next = self.send(request, object.as_deref(), answer).await;
                drop(arriving);
                next
            }
            Reaction::Hangup => {
                self.record(request, 0);
                Ok(Next::Close)
            }
        }
    }

    fn at(&self, place: Option<&(Bucket, String)>, change: impl FnOnce(&super::store::Store, &Bucket, &str)) {
        if let Some((bucket, name)) = place {
            change(&self.shared.store, bucket, name);
        }
    }

    async fn react(&mut self, request: &Request, ignore_range: bool) -> Reaction {
        let printed = self.shared.printed(self.node);
        if self.shared.is_starting() {
            return Reaction::Answer(Answer::new(503));
        }
        let reaction = match self.node {
            Node::Proxy => proxy::answer(&self.shared, request, &mut self.wire)
                .await
                .map(Reaction::Answer),
            Node::Target(index) => {
                target::react(&self.shared, index, request, ignore_range, &mut self.wire).await
            }
        };
        reaction.unwrap_or_else(|failure| {
            let mut answer = failure.answer(printed, request);
            // The body of the request may not have been read.
            answer.close = matches!(request.method.as_str(), "PUT" | "POST");
            Reaction::Answer(answer)
        })
    }

    fn record(&self, request: &Request, status: u16) {
        let query = if request.query.is_empty() { "" } else { "?" };
        self.shared.ledger.exchange(Exchange {
            node: self.node,
            connection: self.number,
            method: request.method.clone(),
            target: format!("{}{query}{}", request.path, request.query),
            headers: request.headers.clone(),
            status,
        });
    }

    async fn send(&mut self, request: &Request, object: Option<&str>, answer: Answer) -> io::Result<Next> {
        self.record(request, answer.status);
        let mut head = answer.head().into_bytes();
        let next = if answer.close { Next::Close } else { Next::Request };
        match answer.body {
            Body::Bare => self.wire.stream.write_all(&head).await?,
            Body::Bytes(bytes) => {
                head.extend_from_slice(&bytes);
                self.wire.stream.write_all(&head).await?;
            }
            Body::Content(stored, range, _lock) => {
                self.wire.stream.write_all(&head).await?;
                let fault = self.shared.rules().of_body(self.node, request, object, &range);
                if let Some(fault) = &fault {
                    self.shared.ledger.fault(fault.name());
                }
                if self.content(&stored, range, fault).await? == Next::Close {
                    return Ok(Next::Close);
                }
            }
            Body::Chunked(stored, range, _lock) => {
                self.wire.stream.write_all(&head).await?;
                self.chunks(&stored, range).await?;
            }
        }
        Ok(next)
    }

    async fn content(
        &mut self,
        stored: &Stored,
        range: Range<u64>,
        fault: Option<Fault>,
    ) -> io::Result<Next> {
        let stop = match fault {
            Some(Fault::Reset { after } | Fault::Cut { after } | Fault::Stall { after }) => {
                range.start + after
            }
            _ => range.end,
        };
        let began = tokio::time::Instant::now();
        let mut at = range.start;
        while at < stop {
            let wanted = match fault {
                Some(Fault::Pace { rate }) => (rate / PACES_A_SECOND).max(1),
                _ => WRITE as u64,
            };
            let mut piece = stored.object.piece(at, limited(wanted.min(stop - at)));
            if let Some(Fault::Flip { offset }) = fault {
                piece = flipped(piece, at, offset);
            }
            self.write(&piece).await?;
            at += piece.len() as u64;
            if let Some(Fault::Pace { rate }) = fault {
                // Compute the time from the beginning, so that late wake-ups do not add up.
                #[allow(clippy::cast_precision_loss, reason = "a pace is no offset")]
                let due = Duration::from_secs_f64((at - range.start) as f64 / rate as f64);
                tokio::time::sleep_until(began + due).await;
            }
        }
        match fault {
            Some(Fault::Reset { .. }) => self.wire.reset_on_close(),
            Some(Fault::Stall { .. }) => self.wire.closed().await,
            Some(Fault::Cut { .. }) => {}
            _ => return Ok(Next::Request),
        }
        Ok(Next::Close)
    }

    async fn chunks(&mut self, stored: &Stored, range: Range<u64>) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end {
            let piece = stored
                .object
                .piece(at, limited((range.end - at).min(object::PIECE as u64)));
            let head = format!("{:x}\r\n", piece.len());
            self.wire.stream.write_all(head.as_bytes()).await?;
            self.write(&piece).await?;
            self.wire.stream.write_all(b"\r\n").await?;
            at += piece.len() as u64;
        }
        self.wire.stream.write_all(b"0\r\n\r\n").await
    }

    async fn write(&mut self, piece: &Bytes) -> io::Result<()> {
        self.wire.stream.write_all(piece).await?;
        self.shared
            .ledger
            .count(|counts| counts.body_bytes += piece.len() as u64);
        Ok(())
    }
}

/// Limits a length to the size of a piece.
fn limited(length: u64) -> usize {
    usize::try_from(length).map_or(WRITE, |length| length.min(WRITE))
}

/// Inverts one bit of the byte at `offset`, if `piece`, which begins at `at`, contains it.
fn flipped(piece: Bytes, at: u64, offset: u64) -> Bytes {
    let index = offset
        .checked_sub(at)
        .and_then(|index| usize::try_from(index).ok());
    let Some(index) = index.filter(|index| *index < piece.len()) else {
        return piece;
    };
    let mut changed = BytesMut::from(piece);
    changed[index] ^= 1;
    changed.freeze()
}

/// Returns the object that a request names.
fn place(request: &Request) -> Option<(Bucket, String)> {
    let path = decode_path(&request.path)?;
    let (bucket, name) = path.strip_prefix("/v1/objects/")?.split_once('/')?;
    let bucket = Bucket::of_request(bucket, &request.query).ok()?;
    Some((bucket, name.to_owned()))
}

fn object_of(request: &Request) -> Option<String> {
    place(request).map(|(_, name)| name)
}
