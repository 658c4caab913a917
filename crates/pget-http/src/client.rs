//! The client: one request to one final answer, over kept or fresh connections, through redirects.
//!
//! Invariants: an idle connection that turns out closed costs one repetition on a fresh one, never
//! an error; credentials stay with their origin (see [`redirect`](crate::redirect)); nothing is
//! sent for a request that cannot be written.

use std::{fmt, io, sync::Arc};

use http::{HeaderMap, HeaderValue, StatusCode};
use pget_core::{Error, ErrorKind, SourceError, fork::PerProcess};
use url::Url;

use crate::{
    body::{Body, Direct, Remaining},
    connection::Connection,
    dial::Dialer,
    head::{Head, HeadScanner, protocol},
    options::ClientOptions,
    pool::{Origin, Pool},
    proxy::Proxies,
    redirect::{self, MOST_REDIRECTS},
    request::{ConnectionPolicy, Method, RedirectPolicy, RequestHead, redacted},
    resolve::Resolver,
    tls::{self, Tls},
};

/// Interim answers (1xx) skipped before the final one.
const MOST_INTERIM: usize = 16;
/// Of a redirect's body, read so that the connection can be used again.
const REDIRECT_BODY: u64 = 16 * 1024;

/// An HTTP/1.1 client with one pool of connections. Cheap to clone; clones share everything. Use it
/// on a tokio runtime with I/O and time enabled.
///
/// A forked child may use its copy of a client: it has the same settings and connections of its
/// own.
#[derive(Clone)]
pub struct Client(Arc<Kept>);

struct Kept {
    options: ClientOptions,
    inner: PerProcess<Inner>,
}

struct Inner {
    user_agent: HeaderValue,
    dialer: Dialer,
    pool: Arc<Pool>,
    proxies: Proxies,
}

impl Inner {
    fn new(options: &ClientOptions) -> Result<Self, Error> {
        let user_agent = HeaderValue::from_str(&options.user_agent)
            .map_err(|_| Error::new(ErrorKind::InvalidArgument, "", "the user agent cannot be sent"))?;
        let tls = Arc::new(Tls::new(&options.tls)?);
        let proxies = Proxies::new(options, Arc::clone(&tls))?;
        let dialer = Dialer {
            connect_timeout: options.connect_timeout,
            tls,
            resolver: Resolver::default(),
        };
        Ok(Self {
            user_agent,
            dialer,
            pool: Arc::default(),
            proxies,
        })
    }
}

/// An answer: its head, and its body still to be received.
#[non_exhaustive]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// Where it came from in the end, after redirects; without user and password.
    pub url: Url,
    /// What follows.
    pub body: Body,
}

impl fmt::Debug for Response {
    /// Without query values and header values: a `Location` may be signed, a cookie opens a
    /// session.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("url", &redacted(&self.url))
            .field("body", &self.body)
            .finish()
    }
}

impl Response {
    /// Where a redirect that was not followed leads: resolved, without user and password, and held
    /// to the same rules as one that is followed.
    ///
    /// # Errors
    /// [`Protocol`](ErrorKind::Protocol) if there is no `Location`, or it may not be
    /// followed.
    pub fn location(&self) -> Result<Url, SourceError> {
        redirect::location(&self.url, &self.headers)
    }

    /// Whether this is a redirect: 301, 302, 303, 307 or 308.
    #[must_use]
    pub fn is_redirect(&self) -> bool {
        redirect::is_redirect(self.status)
    }
}

impl Client {
    /// Checks the options; connects nowhere.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for certificates that cannot be read, a user
    /// agent that cannot be sent, an invalid proxy.
    pub fn new(options: &ClientOptions) -> Result<Self, Error> {
        let client = Self(Arc::new(Kept {
            options: options.clone(),
            inner: PerProcess::new(),
        }));
        client.inner()?;
        Ok(client)
    }

    /// What this process has of it.
    fn inner(&self) -> Result<&Inner, Error> {
        let Kept { options, inner } = &*self.0;
        inner.get_or_try_init(|| Inner::new(options))
    }

    /// As [`inner`](Self::inner), for a request.
    fn ready(&self) -> Result<&Inner, SourceError> {
        self.inner()
            .map_err(|error| SourceError::fatal(error.kind(), error.to_line()))
    }

    /// Sends `request` and returns the answer, whatever its status, once its head is here. Dropping
    /// the future closes the connection.
    ///
    /// # Errors
    /// - [`InvalidArgument`](ErrorKind::InvalidArgument) for a request that cannot be sent; no
    ///   connection is opened then;
    /// - [`Unavailable`](ErrorKind::Unavailable), [`Timeout`](ErrorKind::Timeout) if there is no
    ///   connection or no answer; another attempt may help;
    /// - [`PermissionDenied`](ErrorKind::PermissionDenied) if the server refuses the client's
    ///   certificate or its lack (its cause is a [`TlsError`](crate::TlsError)), or a proxy the
    ///   credentials in its address or their lack;
    /// - [`Protocol`](ErrorKind::Protocol) for an answer that is not HTTP/1.1, redirects that may
    ///   not be followed, and a server that is not who it should be (its cause is a
    ///   [`TlsError`](crate::TlsError)).
    pub async fn get(&self, request: RequestHead) -> Result<Response, SourceError> {
        self.follow(request, &mut Vec::new()).await
    }

    /// As [`get`](Self::get). Each address that a redirect led to is added to `hops`.
    pub(crate) async fn follow(
        &self,
        mut request: RequestHead,
        hops: &mut Vec<Url>,
    ) -> Result<Response, SourceError> {
        request.move_userinfo()?;
        for _ in 0..=MOST_REDIRECTS {
            let response = self.exchange(&request).await?;
            if request.follow == RedirectPolicy::No || !response.is_redirect() {
                return Ok(response);
            }
            let to = response.location()?;
            response.body.drain_small(REDIRECT_BODY).await;
            hops.push(to.clone());
            redirect::redirect_to(&mut request, to);
        }
        Err(protocol(format!("more than {MOST_REDIRECTS} redirects in a row")))
    }

    /// The TLS configuration of this client, for transports that must also speak with other
    /// services (credentials) and should trust the same.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if there are no roots to trust.
    pub async fn tls_config(&self) -> Result<Arc<rustls::ClientConfig>, SourceError> {
        self.ready()?.dialer.tls.config().await
    }

    /// The proxy for requests to `url`, with its user and password; `None`: they go straight there.
    /// For transports that must also speak with other services, as
    /// [`tls_config`](Self::tls_config).
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the environment names a proxy for it that
    /// cannot be used.
    pub fn proxy_for(&self, url: &Url) -> Result<Option<Url>, SourceError> {
        self.ready()?.proxies.proxy(url)
    }

    async fn exchange(&self, request: &RequestHead) -> Result<Response, SourceError> {
        let inner = self.ready()?;
        let origin = Origin::of(&request.url)?;
        let bytes = request.encode(&inner.user_agent)?;
        if !request.direct && inner.proxies.serve(&request.url)? {
            let (head, detour) = inner.proxies.exchange(request).await?;
            // hyper resolves contradictions; here they are refused, as on the direct way.
            let framing = head.framing(request.method)?;
            let partial = is_part(request, &head);
            return Ok(Response {
                status: head.status,
                headers: head.headers,
                url: request.url.clone(),
                body: Body::detour(detour, &framing, partial),
            });
        }
        let (kept, avoid) = match request.connection {
            ConnectionPolicy::Any => (inner.pool.take(&origin), None),
            ConnectionPolicy::Fresh { avoid } => (None, avoid),
        };
        if let Some(mut connection) = kept {
            match round_trip(&mut connection, &bytes).await {
                Ok(head) => return self.response(request, origin, connection, head),
                Err(Failed::Silent(cause)) => {
                    tracing::debug!(%origin, ?cause, "a kept connection was closed; again on a fresh one");
                }
                // Bytes after an earlier body that came late, as they answer nothing that was
                // asked.
                Err(Failed::Rubbish(cause)) => {
                    tracing::debug!(%origin, %cause, "a kept connection was out of step; again on a fresh one");
                }
                Err(Failed::Answered(error)) => return Err(error),
            }
        }
        let mut connection = inner.dialer.connect(&origin, avoid, request.from_server).await?;
        match round_trip(&mut connection, &bytes).await {
            Ok(head) => self.response(request, origin, connection, head),
            Err(Failed::Answered(error) | Failed::Rubbish(error)) => Err(error),
            Err(Failed::Silent(cause)) => {
                let message = format!("{origin} closed the connection without an answer");
                let error = SourceError::retryable(ErrorKind::Unavailable, message);
                Err(match cause {
                    Some(cause) if tls::failure(&cause).is_some_and(tls::is_refusal) => {
                        tls::handshake_failed(cause, &origin.host)
                    }
                    Some(cause) => error.with_cause(cause),
                    None => error,
                })
            }
        }
    }

    fn response(
        &self,
        request: &RequestHead,
        origin: Origin,
        connection: Connection,
        head: Head,
    ) -> Result<Response, SourceError> {
        tracing::trace!(%origin, status = head.status.as_u16(), "answered");
        let left = Remaining::from(head.framing(request.method)?);
        let direct = Direct {
            connection,
            left,
            keeps_alive: head.keeps_alive(),
            origin,
            pool: Arc::clone(&self.ready()?.pool),
        };
        let partial = is_part(request, &head);
        Ok(Response {
            status: head.status,
            headers: head.headers,
            url: request.url.clone(),
            body: Body::direct(direct, partial),
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// Whatever the status: what names its range is a part.
fn is_part(request: &RequestHead, head: &Head) -> bool {
    request.method == Method::Get
        && (head.status == StatusCode::PARTIAL_CONTENT
            || head.headers.contains_key(http::header::CONTENT_RANGE))
}

/// How an exchange failed.
enum Failed {
    /// Before the first byte of an answer.
    Silent(Option<io::Error>),
    /// The first bytes are no answer.
    Rubbish(SourceError),
    /// With or after it.
    Answered(SourceError),
}

/// Sends a request and receives the final answer's head; what has come after it stays in the
/// connection's buffer.
async fn round_trip(connection: &mut Connection, request: &[u8]) -> Result<Head, Failed> {
    if let Err(cause) = connection.send(request).await {
        return Err(Failed::Silent(Some(reason(connection, cause).await)));
    }
    let mut answered = false;
    for interim in 0..MOST_INTERIM {
        let mut scanner = HeadScanner::default();
        let (head, length) = loop {
            match scanner.scan(connection.buffered()) {
                Ok(Some(found)) => break found,
                Ok(None) => {}
                Err(error) if interim == 0 => return Err(Failed::Rubbish(error)),
                Err(error) => return Err(Failed::Answered(error)),
            }
            match connection.fill_buffer().await {
                Ok(0) if !answered => return Err(Failed::Silent(None)),
                Err(cause) if !answered => return Err(Failed::Silent(Some(cause))),
                Ok(0) => return Err(Failed::Answered(cut_head())),
                Err(cause) => return Err(Failed::Answered(cut_head().with_cause(cause))),
                Ok(_) => answered = true,
            }
        };
        connection.use_buffered(length);
        if !head.status.is_informational() {
            return Ok(head);
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failed::Answered(protocol(
                "the server switches to another protocol unasked",
            )));
        }
    }
    Err(Failed::Answered(protocol(format!(
        "more than {MOST_INTERIM} interim answers"
    ))))
}

/// Why a request could not be sent: a server that refuses our certificate says so and closes, and
/// then there may be nowhere to send to before that is read.
async fn reason(connection: &mut Connection, cause: io::Error) -> io::Error {
    // Only where the peer has closed, so that there is nothing to wait for.
    if !matches!(
        cause.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    ) {
        return cause;
    }
    match connection.fill_buffer().await {
        Err(told) if tls::failure(&told).is_some() => told,
        _ => cause,
    }
}

fn cut_head() -> SourceError {
    SourceError::retryable(
        ErrorKind::Unavailable,
        "the connection broke off in the answer's head",
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pget_testkit::servers::{Authority, Validity};
    use rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
    };
    use socket2::SockRef;
    use tokio::{net::TcpListener, sync::oneshot};
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::options::TlsOptions;

    /// With one pool, one resolver and one TLS configuration for all clones, whose locks another
    /// thread may hold.
    #[test]
    fn a_child_of_a_process_whose_client_is_locked_has_connections_of_its_own() {
        let client = Client::new(&ClientOptions::default()).expect("sound options");
        let kept = client.clone();
        client.inner().expect("made").pool.while_locked(|| {
            pget_testkit::forked::in_child(Duration::from_secs(30), || {
                let url = Url::parse("http://127.0.0.1:1/").expect("an address");
                let origin = Origin::of(&url).expect("an origin");
                assert!(kept.inner().expect("made").pool.take(&origin).is_none());
            });
        });
    }

    #[tokio::test]
    async fn why_we_are_refused_is_read_although_nothing_can_be_sent_any_more() {
        let authority = Authority::new().expect("an authority");
        let leaf = authority
            .leaf(&["127.0.0.1"], Validity::Now)
            .expect("a certificate");
        let certificate = CertificateDer::from_pem_slice(leaf.certificate_pem.as_bytes()).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).expect("PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der().into()).expect("an authority");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(vec![certificate], key)
            .expect("they belong together");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let (tell, closed) = oneshot::channel();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            let accepting = TlsAcceptor::from(Arc::new(config)).accept(stream);
            let (_, stream) = accepting
                .into_fallible()
                .await
                .expect_err("it shows no certificate");
            // The connection is reset after the alert.
            SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .expect("a socket");
            drop(stream);
            tell.send(()).expect("the test waits");
        });
        let options = TlsOptions {
            platform_roots: false,
            extra_roots: vec![authority.der()],
            ..TlsOptions::default()
        };
        let dialer = Dialer {
            connect_timeout: Duration::from_secs(10),
            tls: Arc::new(Tls::new(&options).expect("sound options")),
            resolver: Resolver::default(),
        };
        let origin = Origin {
            tls: true,
            host: "127.0.0.1".into(),
            port,
        };
        let connected = dialer.connect(&origin, None, false).await;
        let mut connection = connected.expect("the server looks after the handshake");
        closed.await.expect("the server is done");
        let Err(Failed::Silent(Some(cause))) = round_trip(&mut connection, b"GET").await else {
            panic!("it was refused");
        };
        assert!(tls::failure(&cause).is_some_and(tls::is_refusal), "{cause:?}");
    }
}
