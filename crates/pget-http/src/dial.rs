//! To a connection: look-up, TCP to the first address that answers, TLS; all within the connect deadline.
//!
//! What failures mean: everything that may pass (no such name *now*, refused, unreachable, reset) is `Unavailable` and may be tried again; the deadline is
//! `Timeout`; no more descriptors is a request for fewer connections. A name that does not exist cannot be told from a resolver that has lost its upstream, so it
//! is tried again like the rest.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use pget_core::{ErrorKind, SourceError};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{
    connection::{Connection, Wire},
    pool::Origin,
    resolve::Resolver,
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
    /// A fresh connection to `origin`, to the address `avoid` only if no other lets us in.
    pub(crate) async fn connect(
        &self,
        origin: &Origin,
        avoid: Option<SocketAddr>,
    ) -> Result<Connection, SourceError> {
        let connecting = async {
            let stream = self.tcp(origin, avoid).await?;
            // Requests are one small write each; waiting to fill a segment would only delay them.
            stream
                .set_nodelay(true)
                .map_err(|cause| io_failed(cause, origin))?;
            if origin.tls {
                self.secure(stream, origin).await
            } else {
                Ok(Connection::plain(stream))
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

    async fn tcp(&self, origin: &Origin, avoid: Option<SocketAddr>) -> Result<TcpStream, SourceError> {
        let mut addresses = self
            .resolver
            .addresses(&origin.host, origin.port)
            .await
            .map_err(|cause| {
                let message = format!("no address for {}", origin.host);
                SourceError::retryable(ErrorKind::Unavailable, message).with_cause(cause)
            })?;
        addresses.sort_by_key(|&address| Some(address) == avoid);
        let mut waiting = addresses.into_iter();
        let mut racing = FuturesUnordered::new();
        let mut last = None;
        racing.extend(waiting.next().map(dial));
        loop {
            let next = if waiting.len() == 0 {
                racing.next().await
            } else {
                match timeout(HEAD_START, racing.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        racing.extend(waiting.next().map(dial));
                        continue;
                    }
                }
            };
            match next {
                Some((_, Ok(stream))) => return Ok(stream),
                Some((address, Err(cause))) => {
                    tracing::debug!(%address, %cause, "connection failed");
                    self.resolver.failed(&origin.host, address.ip()).await;
                    last = Some(cause);
                    racing.extend(waiting.next().map(dial));
                }
                None => {
                    let cause = last.unwrap_or_else(|| io::ErrorKind::NotFound.into());
                    return Err(io_failed(cause, origin));
                }
            }
        }
    }

    async fn secure(&self, stream: TcpStream, origin: &Origin) -> Result<Connection, SourceError> {
        let literal = origin.host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(literal.to_owned()).map_err(|cause| {
            SourceError::fatal(
                ErrorKind::InvalidArgument,
                format!("{literal} cannot stand in a certificate"),
            )
            .with_cause(cause)
        })?;
        let connector = TlsConnector::from(self.tls.config().await?);
        let stream = connector
            .connect(name, Wire::buffered(stream))
            .await
            .map_err(|cause| handshake_failed(cause, literal))?;
        Ok(Connection::tls(stream))
    }
}

async fn dial(address: SocketAddr) -> (SocketAddr, io::Result<TcpStream>) {
    (address, TcpStream::connect(address).await)
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
    use tokio::net::TcpListener;

    use super::*;
    use crate::{TlsOptions, resolve::tests::with};

    #[tokio::test]
    async fn an_address_to_be_avoided_is_only_taken_when_no_other_lets_us_in() {
        let first = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = first.local_addr().expect("an address").port();
        let second = TcpListener::bind(("127.0.0.2", port))
            .await
            .expect("the same port");
        let dialer = Dialer {
            connect_timeout: Duration::from_secs(5),
            tls: Arc::new(Tls::new(&TlsOptions::default()).expect("sound options")),
            resolver: with(&["127.0.0.1", "127.0.0.2"]),
        };
        let origin = Origin {
            tls: false,
            host: "h".into(),
            port,
        };
        let slow = first.local_addr().expect("an address");
        for _ in 0..4 {
            let connection = dialer.connect(&origin, Some(slow)).await.expect("a connection");
            assert_eq!(connection.peer(), Some(second.local_addr().expect("an address")));
        }
        drop(second);
        let connection = dialer.connect(&origin, Some(slow)).await.expect("a connection");
        assert_eq!(connection.peer(), Some(slow));
    }
}
