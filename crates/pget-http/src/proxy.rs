//! Requests through a proxy, by `reqwest`: the one way here whose bodies are copied into the slot.
//!
//! Nothing of reqwest shows outside this file: the rest of the crate sees a head and [`Pieces`]. Redirects, retries and limits stay those of the direct path, and so
//! does what failures of TLS mean; a proxy that wants other credentials is not asked again.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf as _, BufMut, Bytes};
use hyper_util::client::proxy::matcher::Matcher;
use percent_encoding::percent_decode_str;
use pget_core::{Error, ErrorKind, SourceError};
use tokio::sync::OnceCell;
use url::{Host, Url};

use crate::{
    head::{Head, MOST_HEADERS},
    options::{ClientOptions, ProxyChoice},
    pool::Origin,
    request::{Method, RequestHead, authority, invalid, is_the_clients},
    tls::{self, Tls},
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
    Environment(Box<Environment>),
    All {
        proxy: Box<reqwest::Proxy>,
        /// Host and port.
        at: String,
    },
}

/// What the environment says, read as reqwest's matcher reads it, but for values that this passes over in silence.
struct Environment {
    /// Takes every request but those that `NO_PROXY` exempts.
    all_but_exempt: Matcher,
    http: Named,
    https: Named,
}

/// What the variable for a scheme, else the one for all, holds.
enum Named {
    Nothing,
    /// Its host and port.
    Proxy(String),
    /// The variable's name.
    Unusable(&'static str),
}

impl Environment {
    /// `None` if it names no proxy.
    fn read() -> Option<Self> {
        // As a CGI program, a request's `Proxy` header would be that variable.
        if std::env::var_os("REQUEST_METHOD").is_some() {
            return None;
        }
        let (http, https) = (
            named(["HTTP_PROXY", "http_proxy"]),
            named(["HTTPS_PROXY", "https_proxy"]),
        );
        if let (Named::Nothing, Named::Nothing) = (&http, &https) {
            return None;
        }
        let exempt = ["NO_PROXY", "no_proxy"]
            .map(std::env::var)
            .into_iter()
            .find_map(Result::ok);
        let all_but_exempt = Matcher::builder().all(ANY).no(exempt.unwrap_or_default()).build();
        Some(Self {
            all_but_exempt,
            http,
            https,
        })
    }

    fn named(&self, url: &Url) -> &Named {
        if url.scheme() == "https" {
            &self.https
        } else {
            &self.http
        }
    }

    fn serves(&self, url: &Url) -> Result<bool, SourceError> {
        let named = self.named(url);
        if matches!(named, Named::Nothing) || is_loopback(url) {
            return Ok(false);
        }
        // Without its path, which may be too long for a `Uri`.
        let origin = format!("{}://{}/", url.scheme(), authority(url)?);
        let origin = origin
            .parse()
            .map_err(|cause: http::uri::InvalidUri| invalid(NOT_THROUGH_A_PROXY).with_cause(cause))?;
        match named {
            _ if self.all_but_exempt.intercept(&origin).is_none() => Ok(false),
            Named::Unusable(variable) => {
                Err(invalid(format!("{variable} is not the address of an HTTP proxy")))
            }
            Named::Nothing | Named::Proxy(_) => Ok(true),
        }
    }
}

fn named(own: [&'static str; 2]) -> Named {
    let first = |names: [&'static str; 2]| {
        let mut found = names
            .into_iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)));
        // An empty variable is none, but hides the other one of its name.
        found.next().filter(|(_, value)| !value.is_empty())
    };
    match first(own).or_else(|| first(["ALL_PROXY", "all_proxy"])) {
        None => Named::Nothing,
        Some((name, value)) => value
            .to_str()
            .and_then(http_proxy)
            .map_or(Named::Unusable(name), Named::Proxy),
    }
}

/// Host and port of the HTTP proxy that `value` names, if it does.
fn http_proxy(value: &str) -> Option<String> {
    let matcher = Matcher::builder().all(value).build();
    let found = matcher.intercept(&http::Uri::from_static(ANY))?;
    let is_http = matches!(found.uri().scheme_str(), Some("http" | "https"));
    let at = found.uri().authority().filter(|_| is_http)?.as_str();
    // What a password with an at sign leaves there is dropped.
    at.rsplit('@').next().map(str::to_owned)
}

/// Some address, and some proxy.
const ANY: &str = "http://any.invalid/";

/// The error for a 407 to CONNECT, of a type that has no name outside hyper-util.
const ASKED_WHO: &str = "tunnel error: proxy authorization required";

const NOT_THROUGH_A_PROXY: &str = "the address cannot be sent through a proxy";

impl Proxies {
    pub(crate) fn new(options: &ClientOptions, tls: Arc<Tls>) -> Result<Self, Error> {
        let choice = match &options.proxy {
            ProxyChoice::None => Choice::None,
            ProxyChoice::Environment => {
                Environment::read().map_or(Choice::None, |read| Choice::Environment(Box::new(read)))
            }
            ProxyChoice::Url(url) => {
                // A cause may quote the address with its password.
                let refused = || {
                    Error::new(
                        ErrorKind::InvalidArgument,
                        "",
                        "the proxy's address cannot be used",
                    )
                };
                if !matches!(url.scheme(), "http" | "https") {
                    return Err(refused());
                }
                Choice::All {
                    proxy: Box::new(reqwest::Proxy::all(url.clone()).map_err(|_| refused())?),
                    at: Origin::of(url).map_err(|_| refused())?.to_string(),
                }
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
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if it should, but what the environment names is none.
    pub(crate) fn serve(&self, url: &Url) -> Result<bool, SourceError> {
        match &self.choice {
            Choice::None => Ok(false),
            Choice::All { .. } => Ok(true),
            Choice::Environment(environment) => environment.serves(url),
        }
    }

    pub(crate) async fn exchange(&self, request: &RequestHead) -> Result<(Head, Detour), SourceError> {
        sendable(request)?;
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
        let response = sent
            .send()
            .await
            .map_err(|error| self.failed(error, &request.url))?;
        // Of an https address, it would be the server's.
        if response.status() == http::StatusCode::PROXY_AUTHENTICATION_REQUIRED
            && request.url.scheme() == "http"
        {
            return Err(self.asked_who(&request.url));
        }
        let modern = response.version() == http::Version::HTTP_11;
        let head = Head::received(response.status(), response.headers().clone(), modern)?;
        let left = response.content_length();
        let detour = Detour {
            pieces: Box::new(Proxied { response, left }),
            rest: Bytes::new(),
        };
        Ok((head, detour))
    }

    fn failed(&self, error: reqwest::Error, url: &Url) -> SourceError {
        let failure = tls::failure(&error).filter(|found| error.is_connect() || tls::is_refusal(found));
        if let Some(failure) = failure {
            let host = url.host_str().unwrap_or_default();
            let message = format!(
                "no secure connection to {host} through the proxy {}",
                self.at(url)
            );
            return tls::failed(failure.clone(), message);
        }
        if tls::causes(&error).any(|cause| cause.to_string() == ASKED_WHO) {
            return self.asked_who(url).with_cause(error.without_url());
        }
        failed(error)
    }

    fn asked_who(&self, url: &Url) -> SourceError {
        let message = format!(
            "the proxy {} refuses the credentials in its address, or their lack (HTTP status 407)",
            self.at(url)
        );
        SourceError::fatal(ErrorKind::PermissionDenied, message)
    }

    /// Host and port of the proxy for `url`.
    fn at(&self, url: &Url) -> &str {
        match &self.choice {
            Choice::All { at, .. } => at,
            Choice::Environment(environment) => match environment.named(url) {
                Named::Proxy(at) => at,
                Named::Nothing | Named::Unusable(_) => "",
            },
            Choice::None => "",
        }
    }

    async fn build(&self) -> Result<reqwest::Client, SourceError> {
        let config = rustls::ClientConfig::clone(&*self.tls.config().await?);
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .http1_only()
            .http1_max_headers(MOST_HEADERS)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(&self.options.user_agent)
            .connect_timeout(self.options.connect_timeout);
        let builder = match &self.choice {
            Choice::All { proxy, .. } => builder.proxy(reqwest::Proxy::clone(proxy)),
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

/// Whether what reqwest would send names the same object as what is to be sent: it knows parsed addresses only.
fn sendable(request: &RequestHead) -> Result<(), SourceError> {
    let parsed = request.url.as_str().parse::<http::Uri>();
    parsed.map_err(|cause| invalid(NOT_THROUGH_A_PROXY).with_cause(cause))?;
    let Some(exact) = &request.exact_path else {
        return Ok(());
    };
    // Parsing encodes other characters than we do, which does not matter; it decodes none.
    let kept = &request.url[url::Position::BeforePath..url::Position::AfterQuery];
    if percent_decode_str(exact).eq(percent_decode_str(kept)) {
        return Ok(());
    }
    Err(invalid(
        "the address's path has dot segments or backslashes, which cannot be sent through a proxy as they are",
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_named_without_its_credentials() {
        for (value, named) in [
            ("http://user:hunter2@h:3128", Some("h:3128")),
            ("https://user:hunt@er2@[::1]:3128/", Some("[::1]:3128")),
            ("h", Some("h")),
            ("socks5://h:1080", None),
        ] {
            assert_eq!(http_proxy(value).as_deref(), named, "{value}");
        }
    }
}
