//! Requests of one object: sent to a remembered target, or to the proxy and where that redirects.
//! Called by the source.
//!
//! Invariants: the token goes to the endpoint only, never along a redirect, and into no error; one
//! redirect is followed, never a second, so nothing can lead in a circle; a redirect to another
//! object's path is refused.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pget_core::{ErrorKind, SourceError};
use pget_http::{
    ByteRange, Client, ConnectionPolicy, Method, RedirectPolicy, RequestHead, Response, error_for_status,
    redacted, retry_after,
};
use url::Url;

use crate::{
    Config, ObjectAddress,
    failure::Failure,
    route::{Route, Routes, same_origin},
    token::Token,
};

/// A redirect's body and a refused one, read so that the connection can be used again.
pub(crate) const SMALL_BODY: u64 = 16 << 10;

/// How long a target that never served the object is not believed that the object does not exist. A
/// target that leaves the cluster for a restart has its objects looked for at others until it is
/// back.
const REJOINS_WITHIN: Duration = Duration::from_secs(60);

/// Error bodies are short; more than this of one is not worth reading.
const LARGEST_ERROR: usize = 64 << 10;

/// A request of the object, before it is known who answers it.
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// The object's URL at the proxy.
    pub(crate) url: Url,
    pub(crate) range: Option<ByteRange>,
    pub(crate) headers: HeaderMap,
    /// The same Location may serve other ranges.
    pub(crate) remember: bool,
    pub(crate) connection: ConnectionPolicy,
    /// What is sent with it.
    pub(crate) content: Content,
}

/// What is sent with a request. A proxy redirects without looking at what the target is to get.
pub(crate) enum Content {
    Nothing,
    ToProxy(Bytes),
    ToTarget(Bytes),
    /// A proxy that redirects by what it reads there.
    ToBoth(Bytes),
}

/// What answered.
pub(crate) struct Answer {
    pub(crate) response: Response,
    /// The redirect that led there, to be [kept](Cluster::keep) once it has served.
    pub(crate) route: Option<Route>,
}

enum Proxied {
    Answer(Response),
    Redirect(Url),
}

/// The way to one object in a cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    client: Client,
    address: ObjectAddress,
    token: Token,
    routes: Routes,
    served: Mutex<Served>,
}

/// Who has served the object.
#[derive(Debug, Default)]
struct Served {
    /// A location at each target.
    by: Vec<Url>,
    /// Since when others say that there is no such object.
    missing_since: Option<Instant>,
}

impl Cluster {
    pub(crate) fn new(client: Client, config: &Config, address: ObjectAddress) -> Self {
        Self {
            client,
            address,
            token: Token::new(config.token.clone(), config.token_file.clone()),
            routes: Routes::default(),
            served: Mutex::default(),
        }
    }

    pub(crate) const fn address(&self) -> &ObjectAddress {
        &self.address
    }

    /// Keeps the redirect of a request that was served, for the next one.
    pub(crate) fn keep(&self, route: Option<Route>) {
        if let Some(Route(location)) = &route {
            let mut served = self.served();
            served.missing_since = None;
            if !served.by.iter().any(|by| same_origin(by, location)) {
                served.by.push(location.clone());
            }
        }
        self.routes.put(route);
    }

    fn served(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a 404 from `location` says little: another target has served the object, and was
    /// there a moment ago.
    fn may_be_elsewhere(&self, location: &Url) -> bool {
        let mut served = self.served();
        if served.by.is_empty() || served.by.iter().any(|by| same_origin(by, location)) {
            return false;
        }
        let since = served.missing_since.get_or_insert_with(Instant::now);
        since.elapsed() < REJOINS_WITHIN
    }

    /// The answer of the target at `location`, unless it is a 404 that will pass.
    async fn settled(
        &self,
        location: Url,
        response: Response,
        remember: bool,
    ) -> Result<Answer, SourceError> {
        if response.status == StatusCode::NOT_FOUND && self.may_be_elsewhere(&location) {
            response.body.drain_small(SMALL_BODY).await;
            let host = location.host_str().unwrap_or_default();
            let port = location.port_or_known_default().unwrap_or_default();
            let message = format!(
                "the cluster looks for the object at {host}:{port}, which does not have it; another target did"
            );
            return Err(SourceError::retryable(ErrorKind::Unavailable, message));
        }
        Ok(Answer {
            response,
            route: remember.then_some(Route(location)),
        })
    }

    /// Sends `ask` to a remembered target, or else to the proxy and where it redirects.
    pub(crate) async fn fetch(&self, ask: &Ask) -> Result<Answer, SourceError> {
        let remembered = ask.remember.then(|| self.routes.try_one()).flatten();
        let mut may_ask_again = remembered.is_none();
        if let Some(trial) = remembered {
            match self.ask_at(trial.url(), ask, None).await {
                Ok(response) if is_settled(response.status) => {
                    return Ok(Answer {
                        response,
                        route: Some(trial.passed()),
                    });
                }
                Ok(response) => {
                    tracing::debug!(object = %self.address, status = %response.status, "the remembered target refuses; asking the proxy again");
                    response.body.drain_small(SMALL_BODY).await;
                }
                Err(error) => {
                    tracing::debug!(object = %self.address, %error, "the remembered target fails; asking the proxy again");
                }
            }
        }
        let mut before: Option<(Url, Response)> = None;
        loop {
            let location = match self.ask_proxy(ask).await? {
                Proxied::Answer(response) => {
                    return Ok(Answer {
                        response,
                        route: None,
                    });
                }
                Proxied::Redirect(location) => location,
            };
            if let Some((there, response)) = before.take_if(|(there, _)| same_origin(there, &location)) {
                return self.settled(there, response, ask.remember).await;
            }
            let response = self.ask_at(&location, ask, None).await?;
            if response.is_redirect() {
                // Of a target none is known; following it could go in a circle with the proxy.
                let message = format!("{} redirects once more, as no target does", redacted(&location));
                return Err(SourceError::fatal(ErrorKind::Protocol, message));
            }
            if may_ask_again && response.status == StatusCode::NOT_FOUND {
                // The object may have been moved just now: then the proxy names another target.
                may_ask_again = false;
                before = Some((location, response));
                continue;
            }
            return self.settled(location, response, ask.remember).await;
        }
    }

    /// Sends `ask`, which changes an object, where the proxy redirects. The proxy itself changes
    /// nothing, so another answer of it cannot mean success.
    pub(crate) async fn fetch_from_target(&self, ask: &Ask) -> Result<Response, SourceError> {
        let location = match self.ask_proxy(ask).await? {
            Proxied::Answer(response) if response.status.is_success() => {
                let message = format!("{} answers without a redirect to a target", redacted(&ask.url));
                return Err(SourceError::fatal(ErrorKind::Protocol, message));
            }
            Proxied::Answer(response) => return Ok(response),
            Proxied::Redirect(location) => location,
        };
        let response = self.ask_at(&location, ask, None).await?;
        if response.is_redirect() {
            let message = format!("{} redirects once more, as no target does", redacted(&location));
            return Err(SourceError::fatal(ErrorKind::Protocol, message));
        }
        Ok(response)
    }

    /// Asks the proxy, with the token; after a 401 once more if the token file has another one by
    /// now.
    async fn ask_proxy(&self, ask: &Ask) -> Result<Proxied, SourceError> {
        let token = self.token.get().await?;
        let mut response = self.ask_at(&ask.url, ask, token.as_deref()).await?;
        if response.status == StatusCode::UNAUTHORIZED
            && let Some(renewed) = self.token.renewed(token.as_deref()).await?
        {
            response.body.drain_small(SMALL_BODY).await;
            response = self.ask_at(&ask.url, ask, Some(&renewed)).await?;
        }
        if !response.is_redirect() {
            return Ok(Proxied::Answer(response));
        }
        let location = response.location()?;
        if !self.address.is_at(&location) {
            // A server that cleans the path of a name (`a//b`) would serve another object.
            let message = format!("the cluster redirects to another object: {}", redacted(&location));
            return Err(SourceError::fatal(ErrorKind::Unsupported, message));
        }
        response.body.drain_small(SMALL_BODY).await;
        Ok(Proxied::Redirect(location))
    }

    async fn ask_at(&self, url: &Url, ask: &Ask, token: Option<&str>) -> Result<Response, SourceError> {
        let mut head = RequestHead::get(url.clone());
        head.method = ask.method;
        head.range = ask.range;
        head.from_server = url.host() != ask.url.host();
        head.follow = RedirectPolicy::No;
        head.connection = ask.connection;
        head.headers = ask.headers.clone();
        head.content = match &ask.content {
            Content::ToProxy(content) if *url == ask.url => content.clone(),
            Content::ToTarget(content) if *url != ask.url => content.clone(),
            Content::ToBoth(content) => content.clone(),
            _ => Bytes::new(),
        };
        if let Some(token) = token {
            let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
                SourceError::fatal(
                    ErrorKind::InvalidArgument,
                    "the AIStore token cannot be sent in a header",
                )
            })?;
            value.set_sensitive(true);
            head.headers.insert(header::AUTHORIZATION, value);
        }
        self.client.get(head).await
    }

    /// Returns the error that a status stands for: its text is JSON in the body, or in a header for
    /// HEAD.
    pub(crate) async fn failed(&self, response: Response) -> SourceError {
        let (status, pause) = (response.status, retry_after(&response.headers));
        let text = match response
            .headers
            .get("hdr-error")
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        {
            Some(text) => {
                response.body.drain_small(SMALL_BODY).await;
                text
            }
            None => response.body.text(LARGEST_ERROR).await.unwrap_or_default(),
        };
        // A server may quote what it was shown.
        let text = self.token.struck_out(text);
        let failure = Failure::parse(&text);
        if failure.is_no_object() {
            let message = format!("{failure}: HTTP status {}", status.as_u16());
            return SourceError::refused(ErrorKind::NotFound, message).with_status(status.as_u16());
        }
        error_for_status(status, pause, failure.to_string())
    }
}

/// A remembered target's answer that need not be asked for again at the proxy.
fn is_settled(status: StatusCode) -> bool {
    !(status.is_server_error() || status.is_redirection() || matches!(status.as_u16(), 401 | 403 | 404 | 410))
}
