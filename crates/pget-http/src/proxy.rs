//! Requests through a proxy, by `reqwest`: the one way here whose bodies are copied into the slot.
//!
//! Nothing of reqwest shows outside this file: the rest of the crate sees a head and [`Pieces`].
//! Redirects, retries and limits stay those of the direct path, and so does what failures of TLS
//! mean; a proxy that wants other credentials is not asked again.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf as _, BufMut, Bytes};
use percent_encoding::percent_decode_str;
use pget_core::{Error, ErrorKind, SourceError};
use tokio::sync::OnceCell;
use url::{Host, Url};

use crate::{
    exempt::Exempt,
    head::{Head, MOST_HEADERS},
    options::{ClientOptions, ProxyChoice},
    pool::Origin,
    request::{Method, RequestHead, invalid, is_reserved_header},
    resolve::Resolver,
    tls::{self, Tls},
};

/// A body that comes in buffers that another library owns.
#[async_trait]
pub(crate) trait Pieces: Send {
    /// The next piece, not empty; `None` at the body's end.
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError>;

    /// Bytes of the body that are still to come, if that is known.
    fn left(&self) -> Option<u64>;
}

/// A body in pieces, with the rest of the piece at hand.
pub(crate) struct ProxyBody {
    pieces: Box<dyn Pieces>,
    rest: Bytes,
}

impl ProxyBody {
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
    choice: Arc<Choice>,
    options: ClientOptions,
    tls: Arc<Tls>,
    client: OnceCell<reqwest::Client>,
}

enum Choice {
    None,
    Environment(Box<Environment>),
    All(Box<Url>),
}

impl Choice {
    fn proxy(&self, url: &Url) -> Result<Option<&Url>, SourceError> {
        match self {
            Self::None => Ok(None),
            Self::All(proxy) => Ok(Some(proxy)),
            Self::Environment(environment) => environment.proxy(url),
        }
    }
}

/// What the environment says.
struct Environment {
    exempt: Exempt,
    http: Named,
    https: Named,
}

/// What the variable for a scheme, else the one for all, holds.
enum Named {
    Nothing,
    Proxy(Url),
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
            .into_iter()
            .filter_map(|name| std::env::var(name).ok())
            // An empty one hides no other.
            .find(|entries| !entries.is_empty());
        Some(Self {
            exempt: Exempt::parse(&exempt.unwrap_or_default()),
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

    fn proxy(&self, url: &Url) -> Result<Option<&Url>, SourceError> {
        let named = self.named(url);
        if matches!(named, Named::Nothing) || is_loopback(url) || self.exempt.contains(url) {
            return Ok(None);
        }
        match named {
            Named::Nothing => Ok(None),
            Named::Proxy(proxy) => Ok(Some(proxy)),
            Named::Unusable(variable) => {
                Err(invalid(format!("{variable} is not the address of an HTTP proxy")))
            }
        }
    }
}

fn named(own: [&'static str; 2]) -> Named {
    let first = |names: [&'static str; 2]| {
        let mut found = names
            .into_iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)));
        // An empty variable does not count, but hides the other one of its name.
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

/// The HTTP proxy that `value` names, if it does; a bare host is one.
fn http_proxy(value: &str) -> Option<Url> {
    let value = value.trim();
    let url = if value.contains("://") {
        Url::parse(value)
    } else {
        Url::parse(&format!("http://{value}"))
    };
    let mut url = url.ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    Origin::of(&url).ok()?;
    url.set_path("");
    url.set_query(None);
    url.set_fragment(None);
    Some(url)
}

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
                Origin::of(url).map_err(|_| refused())?;
                Choice::All(Box::new(url.clone()))
            }
        };
        Ok(Self {
            choice: Arc::new(choice),
            options: options.clone(),
            tls,
            client: OnceCell::new(),
        })
    }

    /// Whether a request to `url` goes through a proxy.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if it should, but what the environment names
    /// is not one.
    pub(crate) fn serve(&self, url: &Url) -> Result<bool, SourceError> {
        self.choice.proxy(url).map(|proxy| proxy.is_some())
    }

    /// The proxy for a request to `url`, with its user and password; see [`serve`](Self::serve).
    pub(crate) fn proxy(&self, url: &Url) -> Result<Option<Url>, SourceError> {
        self.choice.proxy(url).map(Option::<&Url>::cloned)
    }

    pub(crate) async fn exchange(&self, request: &RequestHead) -> Result<(Head, ProxyBody), SourceError> {
        sendable(request)?;
        let client = self.client.get_or_try_init(|| self.build()).await?;
        let method = match request.method {
            Method::Get | Method::GetWithContent => reqwest::Method::GET,
            Method::Head => reqwest::Method::HEAD,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Delete | Method::DeleteWithContent => reqwest::Method::DELETE,
        };
        let mut sent = client
            .request(method, request.url.clone())
            .header(http::header::ACCEPT_ENCODING, "identity");
        for (name, value) in &request.headers {
            if !is_reserved_header(name) {
                sent = sent.header(name, value);
            }
        }
        if let Some(range) = &request.range {
            sent = sent.header(http::header::RANGE, range.to_string());
        }
        if request.method.has_content() {
            sent = sent.body(request.content.clone());
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
        let detour = ProxyBody {
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
    fn at(&self, url: &Url) -> String {
        let proxy = self.choice.proxy(url).ok().flatten();
        proxy
            .and_then(|proxy| Origin::of(proxy).ok())
            .map_or_else(String::new, |origin| origin.to_string())
    }

    async fn build(&self) -> Result<reqwest::Client, SourceError> {
        let config = rustls::ClientConfig::clone(&*self.tls.config().await?);
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .http1_only()
            .http1_max_headers(MOST_HEADERS)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .dns_resolver(Names::default())
            .user_agent(&self.options.user_agent)
            .connect_timeout(self.options.connect_timeout);
        // One matcher decides: what is exempt never gets here.
        let choice = Arc::clone(&self.choice);
        let builder = builder.proxy(reqwest::Proxy::custom(move |url| {
            choice.proxy(url).ok().flatten().cloned()
        }));
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

/// How the names of proxies are looked up: as those of servers.
#[derive(Default)]
struct Names(Arc<Resolver>);

impl reqwest::dns::Resolve for Names {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let resolver = Arc::clone(&self.0);
        Box::pin(async move {
            let found = resolver.addresses(name.as_str(), 0).await?;
            Ok(Box::new(found.into_iter()) as reqwest::dns::Addrs)
        })
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

/// Whether what reqwest would send names the same object as what is to be sent: it knows parsed
/// addresses only.
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
    fn a_proxy_is_an_http_address_with_or_without_its_scheme() {
        for (value, named) in [
            ("http://user:hunter2@h:3128", Some("http://user:hunter2@h:3128/")),
            (
                "https://user:hunt@er2@[::1]:3128/",
                Some("https://user:hunt%40er2@[::1]:3128/"),
            ),
            ("h", Some("http://h/")),
            (" user:p@h:3128/x?y#z ", Some("http://user:p@h:3128/")),
            ("socks5://h:1080", None),
            ("http://", None),
            ("://", None),
        ] {
            assert_eq!(http_proxy(value).as_ref().map(Url::as_str), named, "{value}");
        }
    }

    #[test]
    fn a_proxy_is_shown_without_its_credentials() {
        let mut options = ClientOptions::default();
        let url = Url::parse("http://user:hunter2@h:3128/").expect("an address");
        options.proxy = ProxyChoice::Url(url);
        let tls = Arc::new(Tls::new(&options.tls).expect("sound options"));
        let proxies = Proxies::new(&options, tls).expect("sound options");
        let target = Url::parse("https://elsewhere/").expect("an address");
        assert_eq!(proxies.at(&target), "h:3128");
        assert!(!format!("{proxies:?}").contains("hunter2"));
    }
}
