//! To a connection: look-up, TCP to the first address that answers, TLS; all within the connect
//! deadline. A look-up that takes longer goes on, for the next attempt.
//!
//! What failures mean:
//! - what may pass (a resolver without an answer, refused, unreachable, reset) is `Unavailable` and
//!   may be tried again;
//! - a name that does not exist, and was never found before, is refused: it is likely misspelt;
//! - the deadline is `Timeout`;
//! - no more descriptors is a request for fewer connections.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use pget_core::{ErrorKind, SourceError};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    connection::Connection,
    pool::Origin,
    redirect::is_metadata,
    resolve::{NO_SUCH_NAME, Resolver},
    secure::Secure,
    socket::Socket,
    tls::{Tls, handshake_failed},
};

/// Before the next address is tried beside the one that has not answered yet (RFC 8305 section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// What is needed to connect.
#[derive(Debug)]
pub(crate) struct Dialer {
    pub(crate) connect_timeout: Duration,
    pub(crate) tls: Arc<Tls>,
    pub(crate) resolver: Resolver,
}

impl Dialer {
    /// A fresh connection to `origin`, which may be named by a server; to the address `avoid` only
    /// if no other lets us in.
    pub(crate) async fn connect(
        &self,
        origin: &Origin,
        avoid: Option<SocketAddr>,
        from_server: bool,
    ) -> Result<Connection, SourceError> {
        let connecting = async {
            let socket = Socket::new(self.tcp(origin, avoid, from_server).await?);
            // Requests are one small write each; waiting to fill a segment would only delay them.
            socket
                .set_nodelay(true)
                .map_err(|cause| io_failed(cause, origin))?;
            if origin.tls {
                self.secure(socket, origin).await
            } else {
                Ok(Connection::plain(socket))
            }
        };
        timeout(self.connect_timeout, connecting)
            .await
            .unwrap_or_else(|_| {
                Err(SourceError::retryable(
                    ErrorKind::Timeout,
                    format!("no connection to {origin} within {:?}", self.connect_timeout),
                ))
            })
    }

    async fn tcp(
        &self,
        origin: &Origin,
        avoid: Option<SocketAddr>,
        from_server: bool,
    ) -> Result<TcpStream, SourceError> {
        let mut addresses = self
            .resolver
            .addresses(&origin.host, origin.port)
            .await
            .map_err(|cause| {
                if cause.kind() == NO_SUCH_NAME {
                    let message = format!("there is no host named {}", origin.host);
                    return SourceError::refused(ErrorKind::Unavailable, message).with_cause(cause);
                }
                let message = format!("no address for {}", origin.host);
                SourceError::retryable(ErrorKind::Unavailable, message).with_cause(cause)
            })?;
        addresses.sort_by_key(|&address| Some(address) == avoid);
        if from_server {
            addresses.retain(|address| !is_metadata(address.ip()));
            if addresses.is_empty() {
                let message = format!("a redirect to {}, which is link-local, is refused", origin.host);
                return Err(SourceError::fatal(ErrorKind::Protocol, message));
            }
        }
        self.race(addresses, &origin.host, dial)
            .await
            .map_err(|cause| io_failed(cause, origin))
    }

    /// To the first of `host`'s addresses that answers; those that failed, or answered nothing for
    /// a whole head start, come last from here on.
    async fn race<D: Future<Output = io::Result<TcpStream>>>(
        &self,
        addresses: Vec<SocketAddr>,
        host: &str,
        dial: impl Fn(SocketAddr) -> D,
    ) -> io::Result<TcpStream> {
        let dial = |address| {
            let dialling = dial(address);
            async move { (address, dialling.await) }
        };
        let mut waiting = addresses.into_iter();
        let mut racing = FuturesUnordered::new();
        let (mut started, mut silent) = (Vec::new(), Vec::new());
        let mut last = None;
        loop {
            if let Some(address) = waiting.next() {
                started.push(address);
                racing.push(dial(address));
            }
            let next = if waiting.len() == 0 {
                racing.next().await
            } else {
                match timeout(HEAD_START, racing.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        silent.clone_from(&started);
                        continue;
                    }
                }
            };
            match next {
                Some((winner, Ok(stream))) => {
                    self.resolver.answered(host, winner.ip());
                    for address in silent.into_iter().filter(|&address| address != winner) {
                        tracing::debug!(%address, "another address answered first");
                        self.resolver.failed(host, address.ip());
                    }
                    return Ok(stream);
                }
                Some((address, Err(cause))) => {
                    tracing::debug!(%address, %cause, "connection failed");
                    self.resolver.failed(host, address.ip());
                    started.retain(|&other| other != address);
                    silent.retain(|&other| other != address);
                    last = Some(cause);
                }
                None => return Err(last.unwrap_or_else(|| io::ErrorKind::NotFound.into())),
            }
        }
    }

    async fn secure(&self, socket: Socket, origin: &Origin) -> Result<Connection, SourceError> {
        let literal = origin.host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(literal.to_owned()).map_err(|cause| {
            SourceError::fatal(
                ErrorKind::InvalidArgument,
                format!("{literal} cannot stand in a certificate"),
            )
            .with_cause(cause)
        })?;
        let mut early = BytesMut::new();
        let stream = Secure::handshake(socket, self.tls.config().await?, name, &mut early)
            .await
            .map_err(|cause| handshake_failed(cause, literal))?;
        Ok(Connection::tls(stream, early))
    }
}

async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(address).await
}

fn io_failed(cause: io::Error, origin: &Origin) -> SourceError {
    let message = format!("no connection to {origin}");
    match cause.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => {
            SourceError::throttled(format!("{message}: too many open files"), None)
        }
        _ if cause.kind() == io::ErrorKind::TimedOut => SourceError::retryable(ErrorKind::Timeout, message),
        _ => SourceError::retryable(ErrorKind::Unavailable, message),
    }
    .with_cause(cause)
}

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr},
        sync::atomic::{AtomicUsize, Ordering},
    };

    use socket2::{Domain, Socket, Type};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{options::TlsOptions, resolve::tests::Held};

    fn loopback(last: u8) -> IpAddr {
        Ipv4Addr::new(127, 9, 58, last).into()
    }

    fn dialer(addresses: &[IpAddr]) -> (Dialer, Origin) {
        let dialer = Dialer {
            connect_timeout: Duration::from_secs(10),
            tls: Arc::new(Tls::new(&TlsOptions::default()).expect("sound options")),
            resolver: Resolver::knowing("many.test", addresses),
        };
        let origin = Origin {
            tls: false,
            host: "many.test".into(),
            port: 0,
        };
        (dialer, origin)
    }

    async fn listen() -> (TcpListener, u16) {
        let listener = TcpListener::bind((loopback(1), 0)).await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        (listener, port)
    }

    #[tokio::test]
    async fn case_58_dead_addresses_among_sixteen_are_passed_over_and_then_tried_last() {
        // No server listens on that port of the others.
        let (_listener, port) = listen().await;
        let addresses: Vec<IpAddr> = (0..16).map(|index| loopback(16 - index)).collect();
        let (dialer, mut origin) = dialer(&addresses);
        origin.port = port;
        let connect = async || {
            let stream = dialer
                .tcp(&origin, None, false)
                .await
                .expect("one of them listens");
            assert_eq!(stream.peer_addr().expect("a peer").ip(), loopback(1));
        };
        connect().await;
        let next = dialer
            .resolver
            .addresses("many.test", port)
            .await
            .expect("it is known");
        assert_eq!(next[0].ip(), loopback(1), "what let us in is tried first");
        connect().await;
    }

    #[tokio::test]
    async fn case_58_an_address_that_does_not_answer_costs_a_head_start_only() {
        let (_listener, port) = listen().await;
        // A queue that is full: further connections wait without end.
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let address = SocketAddr::new(loopback(2), port);
        silent
            .bind(&address.into())
            .expect("the same port of another address");
        silent.listen(0).expect("it listens");
        let mut fillers = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
            fillers.push(stream);
            assert!(fillers.len() < 100, "the queue never fills");
        }
        let (dialer, mut origin) = dialer(&[loopback(2), loopback(1)]);
        origin.port = port;
        let dialled = AtomicUsize::new(0);
        for connection in 0..8 {
            let addresses = dialer.resolver.addresses(&origin.host, port).await;
            let counting = |to: SocketAddr| {
                dialled.fetch_add(usize::from(to == address), Ordering::Relaxed);
                dial(to)
            };
            let stream = dialer.race(addresses.expect("it is known"), &origin.host, counting);
            let stream = timeout(Duration::from_secs(5), stream).await;
            let stream = stream
                .expect("not the deadline of the dead one")
                .expect("the other listens");
            assert_eq!(stream.peer_addr().expect("a peer").ip(), loopback(1));
            assert_eq!(dialled.load(Ordering::Relaxed), 1, "connection {connection}");
        }
    }

    #[tokio::test]
    async fn case_58_a_look_up_that_outlasts_the_deadline_serves_the_next_attempt() {
        let (_listener, port) = listen().await;
        let (mut dialer, mut origin) = dialer(&[]);
        origin.port = port;
        let held;
        (held, dialer.resolver) = Held::new();
        dialer.connect_timeout = Duration::from_millis(20);
        for _ in 0..2 {
            let error = dialer.connect(&origin, None, false).await.expect_err("too late");
            assert_eq!(error.kind(), ErrorKind::Timeout);
        }
        held.tell(&[loopback(1)]);
        dialer.connect_timeout = Duration::from_secs(10);
        let connection = dialer.connect(&origin, None, false).await.expect("it listens");
        assert_eq!(connection.peer(), Some(SocketAddr::new(loopback(1), port)));
        assert_eq!(held.asked(), 1);
    }

    #[tokio::test]
    async fn case_63_a_name_of_a_servers_choice_is_not_looked_for_at_link_local_addresses() {
        let metadata: IpAddr = Ipv4Addr::new(169, 254, 169, 254).into();
        let (_listener, port) = listen().await;
        let (alone, mut origin) = dialer(&[metadata]);
        origin.port = port;
        let error = alone
            .tcp(&origin, None, true)
            .await
            .expect_err("it must not be asked");
        assert_eq!(error.kind(), ErrorKind::Protocol);
        let (dialer, _) = dialer(&[metadata, loopback(1)]);
        let stream = dialer.tcp(&origin, None, true).await.expect("the other listens");
        assert_eq!(stream.peer_addr().expect("a peer").ip(), loopback(1));
    }

    #[tokio::test]
    async fn an_address_to_be_avoided_is_only_taken_when_no_other_lets_us_in() {
        let (first, port) = listen().await;
        let second = TcpListener::bind((loopback(2), port))
            .await
            .expect("the same port");
        let (dialer, mut origin) = dialer(&[loopback(1), loopback(2)]);
        origin.port = port;
        let slow = first.local_addr().expect("an address");
        for _ in 0..4 {
            let connection = dialer
                .connect(&origin, Some(slow), false)
                .await
                .expect("a connection");
            assert_eq!(connection.peer(), Some(second.local_addr().expect("an address")));
        }
        drop(second);
        let connection = dialer
            .connect(&origin, Some(slow), false)
            .await
            .expect("a connection");
        assert_eq!(connection.peer(), Some(slow));
    }
}
