//! Requests through a proxy, by `reqwest`: the one way here whose bodies are copied into the slot.
//!
//! Nothing of reqwest shows outside this file: the rest of the crate sees a head and [`Pieces`]. Redirects, retries and limits stay those of the direct path.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf as _, BufMut, Bytes};
use http::{HeaderMap, StatusCode};
use hyper_util::client::proxy::matcher::Matcher;
use pget_core::{Error, ErrorKind, SourceError};
use tokio::sync::OnceCell;
use url::{Host, Url};

use crate::{
    options::{ClientOptions, ProxyChoice},
    request::{Method, RequestHead, is_the_clients},
    tls::Tls,
};

/// A body that comes in buffers of somebody else's.
#[async_trait]
pub(crate) trait Pieces: Send {
    /// The next piece, not empty; `None` at the body's end.
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError>;

    /// Bytes of the body that are still to come, if that is told.
    fn left(&self) -> Option<u64>;
}

/// A body in pieces, with the rest of the piece at hand.
pub(crate) struct Detour {
    pieces: Box<dyn Pieces>,
    rest: Bytes,
}

impl Detour {
    pub(crate) fn length(&self) -> Option<u64> {
        Some(self.pieces.left()? + self.rest.len() as u64)
    }

    pub(crate) async fn receive(&mut self, into: &mut impl BufMut) -> Result<usize, SourceError> {
        while self.rest.is_empty() {
            match self.pieces.next().await? {
                Some(piece) => self.rest = piece,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(into.remaining_mut());
        into.put_slice(&self.rest[..count]);
        self.rest.advance(count);
        Ok(count)
    }
}

/// Which requests go through a proxy, and the client for those.
pub(crate) struct Proxies {
    choice: Choice,
    options: ClientOptions,
    tls: Arc<Tls>,
    client: OnceCell<reqwest::Client>,
}

enum Choice {
    None,
    /// By the environment; the same matcher that reqwest uses, so that both agree.
    Environment(Box<Matcher>),
    All(Box<reqwest::Proxy>),
}

impl Proxies {
    pub(crate) fn new(options: &ClientOptions, tls: Arc<Tls>) -> Result<Self, Error> {
        let choice = match &options.proxy {
            ProxyChoice::None => Choice::None,
            ProxyChoice::Environment => Choice::Environment(Box::new(Matcher::from_env())),
            ProxyChoice::Url(url) => {
                // The cause may quote the address with its password.
                let refused = |_| {
                    Error::new(
                        ErrorKind::InvalidArgument,
                        "",
                        "the proxy's address cannot be used",
                    )
                };
                Choice::All(Box::new(reqwest::Proxy::all(url.clone()).map_err(refused)?))
            }
        };
        Ok(Self {
            choice,
            options: options.clone(),
            tls,
            client: OnceCell::new(),
        })
    }

    /// Whether a request to `url` goes through a proxy.
    pub(crate) fn serve(&self, url: &Url) -> bool {
        match &self.choice {
            Choice::None => false,
            Choice::All(_) => true,
            Choice::Environment(matcher) => {
                !is_loopback(url)
                    && url
                        .as_str()
                        .parse()
                        .is_ok_and(|uri| matcher.intercept(&uri).is_some())
            }
        }
    }

    pub(crate) async fn exchange(
        &self,
        request: &RequestHead,
    ) -> Result<(StatusCode, HeaderMap, Detour), SourceError> {
        if request.exact_path.is_some() {
            return Err(SourceError::fatal(
                ErrorKind::Unsupported,
                "a path with dot segments cannot be sent through a proxy",
            ));
        }
        let client = self.client.get_or_try_init(|| self.build()).await?;
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Head => reqwest::Method::HEAD,
        };
        let mut sent = client
            .request(method, request.url.clone())
            .header(http::header::ACCEPT_ENCODING, "identity");
        for (name, value) in &request.headers {
            if !is_the_clients(name) {
                sent = sent.header(name, value);
            }
        }
        if let Some(range) = &request.range {
            sent = sent.header(http::header::RANGE, range.to_string());
        }
        let response = sent.send().await.map_err(failed)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let left = response.content_length();
        let detour = Detour {
            pieces: Box::new(Proxied { response, left }),
            rest: Bytes::new(),
        };
        Ok((status, headers, detour))
    }

    async fn build(&self) -> Result<reqwest::Client, SourceError> {
        let config = rustls::ClientConfig::clone(&*self.tls.config().await?);
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(&self.options.user_agent)
            .connect_timeout(self.options.connect_timeout);
        let builder = match &self.choice {
            Choice::All(proxy) => builder.proxy(reqwest::Proxy::clone(proxy)),
            Choice::None | Choice::Environment(_) => builder,
        };
        builder.build().map_err(|error| {
            SourceError::fatal(ErrorKind::InvalidArgument, "the proxy cannot be used")
                .with_cause(error.without_url())
        })
    }
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proxies")
    }
}

struct Proxied {
    response: reqwest::Response,
    left: Option<u64>,
}

#[async_trait]
impl Pieces for Proxied {
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        loop {
            match self.response.chunk().await.map_err(failed)? {
                Some(piece) if piece.is_empty() => {}
                Some(piece) => {
                    self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
                    return Ok(Some(piece));
                }
                None => return Ok(None),
            }
        }
    }

    fn left(&self) -> Option<u64> {
        self.left
    }
}

fn failed(error: reqwest::Error) -> SourceError {
    let kind = if error.is_timeout() {
        ErrorKind::Timeout
    } else {
        ErrorKind::Unavailable
    };
    // The address may hold a signature.
    SourceError::retryable(kind, "the request through the proxy failed").with_cause(error.without_url())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        None => false,
    }
}
