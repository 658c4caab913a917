//! One AIStore object as a `RangeSource`. See the head of the crate for what it has to know.

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pget_core::{ChunkWriter, Error, ErrorKind, ObjectInfo, RangeRequest, RangeSource, Reply, SourceError};
use pget_http::{
    ByteRange, Client, Follow, Method, RequestHead, Response, error_for_status, reply_from_parts, retry_after,
};
use url::Url;

use crate::{
    Config, ObjectAddress,
    failure::Failure,
    hint,
    identity::{self, RangeHash},
    route::{Route, Routes, same_origin},
    token::Token,
};

/// The properties that tell everything that matters; an unknown one is refused with 400.
const PROPS: &str = "size,version,checksum,chunked,etag";

/// The whole of a cold object is sent while it is being pulled from its backend.
const BLOB_DOWNLOAD: HeaderName = HeaderName::from_static("ais-blob-download");

/// A redirect's body and a refused one, read so that the connection can be used again.
const SMALL_BODY: u64 = 16 << 10;

/// Error bodies are short; more than this of one is not worth reading.
const LARGEST_ERROR: usize = 64 << 10;

/// An object in an AIStore cluster.
#[derive(Debug)]
pub struct AistoreSource {
    client: Client,
    config: Config,
    address: ObjectAddress,
    token: Token,
    routes: Routes,
}

/// A request of the object, before it is known who answers it.
struct Ask {
    method: Method,
    /// The object's URL at the proxy.
    url: Url,
    range: Option<ByteRange>,
    headers: HeaderMap,
    /// The same Location may serve other ranges.
    remember: bool,
}

/// What answered.
struct Answer {
    response: Response,
    /// The redirect that led there, to be used again.
    route: Option<Route>,
}

impl AistoreSource {
    /// The object at `address`, through `client`. Sends nothing.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) or [`InvalidArgument`](ErrorKind::InvalidArgument) if its name cannot be asked for.
    pub fn new(client: Client, config: Config, address: ObjectAddress) -> Result<Self, Error> {
        address.check()?;
        address.url(&config.endpoint, &[])?;
        let token = Token::new(config.token.clone(), config.token_file.clone());
        Ok(Self {
            client,
            config,
            address,
            token,
            routes: Routes::default(),
        })
    }

    /// Whether the object is read through an archive or a transformation: ranges do not apply to what comes out.
    const fn is_derived(&self) -> bool {
        self.config.archpath.is_some() || self.config.etl.is_some()
    }

    fn url(&self, extra: &[(&str, &str)]) -> Result<Url, SourceError> {
        let derived = [
            ("archpath", &self.config.archpath),
            ("etl_name", &self.config.etl),
        ];
        let mut query: Vec<(&str, &str)> = derived
            .iter()
            .filter_map(|(key, value)| Some((*key, value.as_deref()?)))
            .collect();
        query.extend_from_slice(extra);
        self.address.url(&self.config.endpoint, &query).map_err(|error| {
            SourceError::fatal(error.kind(), "the object's address cannot be made").with_cause(error)
        })
    }

    /// Sends `ask` to a remembered target, or else to the proxy and where it redirects.
    async fn fetch(&self, ask: &Ask) -> Result<Answer, SourceError> {
        if ask.remember
            && let Some(route) = self.routes.take()
        {
            match self.ask_at(&route.0, ask, None).await {
                Ok(response) if is_settled(response.status) => {
                    return Ok(Answer {
                        response,
                        route: Some(route),
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
            self.routes.forget(&route);
        }
        let location = match self.ask_proxy(ask).await? {
            Proxied::Answer(response) => {
                return Ok(Answer {
                    response,
                    route: None,
                });
            }
            Proxied::Redirect(location) => location,
        };
        let response = self.ask_at(&location, ask, None).await?;
        Ok(Answer {
            response,
            route: ask.remember.then_some(Route(location)),
        })
    }

    /// Asks the proxy, with the token; after a 401 once more if the token file has another one by now.
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
        if same_origin(&location, &ask.url) && location.path() != ask.url.path() {
            // A Go server cleans the path of a name that it cannot tell from another (`a//b`): that would be another object.
            let message = "the cluster resolves this object name to another one";
            return Err(SourceError::fatal(ErrorKind::Unsupported, message));
        }
        response.body.drain_small(SMALL_BODY).await;
        Ok(Proxied::Redirect(location))
    }

    async fn ask_at(&self, url: &Url, ask: &Ask, token: Option<&str>) -> Result<Response, SourceError> {
        let mut head = RequestHead::get(url.clone());
        head.method = ask.method;
        head.range = ask.range;
        head.follow = Follow::No;
        head.headers = ask.headers.clone();
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

    /// Size, identity, whether the object is in the cluster, and its chunks.
    async fn properties(&self) -> Result<Properties, SourceError> {
        let ask = |url| Ask {
            method: Method::Head,
            url,
            range: None,
            headers: HeaderMap::new(),
            remember: false,
        };
        let mut response = self.fetch(&ask(self.url(&[("props", PROPS)])?)).await?.response;
        if response.status == StatusCode::BAD_REQUEST {
            // A server that does not know one of the properties; without any, it tells what it always did.
            response = self.fetch(&ask(self.url(&[])?)).await?.response;
        }
        if !response.status.is_success() {
            return Err(failed(response).await);
        }
        Properties::read(&response.headers)
    }

    /// One plain stream of the whole of a cold object: a ranged read would wait for all of it to be pulled first.
    async fn read_cold(&self, cold: Properties, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        let mut headers = HeaderMap::new();
        headers.insert(BLOB_DOWNLOAD, HeaderValue::from_static("true"));
        let mut ask = Ask {
            method: Method::Get,
            url: self.url(&[])?,
            range: None,
            headers,
            remember: false,
        };
        let mut response = self.fetch(&ask).await?.response;
        if response.status == StatusCode::BAD_REQUEST {
            // Buckets that are served without such jobs refuse the header.
            response.body.drain_small(SMALL_BODY).await;
            ask.headers.clear();
            response = self.fetch(&ask).await?.response;
        }
        if !response.status.is_success() {
            return Err(failed(response).await);
        }
        let mut reply = whole(&response)?;
        reply.total = reply.total.or(cold.size);
        chunk.begin(reply)?;
        response.body.read_into(&mut chunk).await
    }
}

enum Proxied {
    Answer(Response),
    Redirect(Url),
}

/// What HEAD tells.
struct Properties {
    size: Option<u64>,
    present: bool,
    revision: pget_core::Revision,
    chunk_hint: Option<u64>,
}

impl Properties {
    fn read(headers: &HeaderMap) -> Result<Self, SourceError> {
        let number = |name: &str| match headers.get(name) {
            None => Ok(None),
            Some(value) => value
                .to_str()
                .ok()
                .and_then(|text| text.parse::<u64>().ok())
                .map(Some)
                .ok_or_else(|| {
                    SourceError::fatal(ErrorKind::Protocol, format!("the header {name} is no number"))
                }),
        };
        // HEAD without `props` leaves the length of an empty object out.
        let size = number("content-length")?.or(Some(0));
        let chunks = (number("ais-chunks-count")?, number("ais-chunks-max-chunk-size")?);
        let chunk_hint = match (size, chunks) {
            (Some(size), (Some(count), Some(largest))) => hint::range_length(size, count, largest),
            _ => None,
        };
        let present = headers
            .get("ais-present")
            .is_none_or(|value| value.as_bytes() != b"false");
        Ok(Self {
            size,
            present,
            revision: identity::revision(headers),
            chunk_hint,
        })
    }
}

/// A 200 as the whole object, or what an archive or a transformation gives.
fn whole(response: &Response) -> Result<Reply, SourceError> {
    let mut reply = reply_from_parts(&RangeRequest::new(0, None), response.status, &response.headers)?;
    reply.revision = identity::revision(&response.headers);
    Ok(reply)
}

/// A remembered target's answer that need not be asked for again at the proxy.
fn is_settled(status: StatusCode) -> bool {
    !(status.is_server_error() || status.is_redirection() || matches!(status.as_u16(), 401 | 403 | 404))
}

/// The error behind a status: its text is JSON in the body, or in a header for HEAD.
async fn failed(response: Response) -> SourceError {
    let (status, pause) = (response.status, retry_after(&response.headers));
    let text = match response
        .headers
        .get("hdr-error")
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    {
        Some(text) => text,
        None => response.body.text(LARGEST_ERROR).await.unwrap_or_default(),
    };
    error_for_status(status, pause, Failure::parse(&text).to_string())
}

#[async_trait]
impl RangeSource for AistoreSource {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        let properties = self.properties().await?;
        Ok(ObjectInfo {
            size: properties.size.filter(|_| !self.is_derived()),
            revision: properties.revision,
            chunk_hint: properties.chunk_hint,
            ranges: Some(properties.present && !self.is_derived()),
        })
    }

    async fn read(&self, request: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        let first = request.pinned.is_none();
        if first && self.address.bucket.can_be_cold() && !self.is_derived() {
            let properties = self.properties().await?;
            if !properties.present {
                return self.read_cold(properties, chunk).await;
            }
        }
        let range = if request.is_whole() || self.is_derived() {
            None
        } else {
            ByteRange::new(request.start, request.end)
        };
        let latest = first && self.config.latest;
        let url = self.url(if latest { &[("latest-ver", "true")] } else { &[] })?;
        let ask = Ask {
            method: Method::Get,
            url,
            range,
            headers: HeaderMap::new(),
            remember: !latest,
        };
        let Answer { response, route } = self.fetch(&ask).await?;
        let mut reply = match response.status {
            // Servers before 4.1 answer a range with 200 and Content-Range.
            StatusCode::OK if range.is_some() && response.headers.contains_key(header::CONTENT_RANGE) => {
                reply_from_parts(request, StatusCode::PARTIAL_CONTENT, &response.headers)?
            }
            StatusCode::OK => whole(&response)?,
            StatusCode::PARTIAL_CONTENT => reply_from_parts(request, response.status, &response.headers)?,
            StatusCode::RANGE_NOT_SATISFIABLE => {
                match reply_from_parts(request, response.status, &response.headers) {
                    Ok(reply) => reply,
                    Err(error) if response.headers.contains_key(header::CONTENT_RANGE) => return Err(error),
                    Err(_) => return Err(failed(response).await),
                }
            }
            _ => return Err(failed(response).await),
        };
        reply.revision = identity::revision(&response.headers);
        if first
            && reply
                .length
                .is_some_and(|length| reply.total > reply.start.checked_add(length))
        {
            // Ranges that align with the object's chunks touch one file each; not knowing them costs little, so an error here is none.
            reply.chunk_hint = self
                .properties()
                .await
                .ok()
                .and_then(|properties| properties.chunk_hint);
        }
        let pinned = request.pinned.as_deref().map(|info| &info.revision);
        let doubtful = identity::differing(pinned, &reply.revision);
        if doubtful.is_some() {
            reply.revision.checksum = pinned.and_then(|revision| revision.checksum.clone());
        }
        chunk.begin(reply)?;
        let Some(stated) = doubtful else {
            response.body.read_into(&mut chunk).await?;
            self.routes.put(route);
            return Ok(());
        };
        // Another checksum under the same version: that of the range, if the bytes say so, and they are kept back until they do.
        let mut hash = RangeHash::new(&stated.algorithm).ok_or_else(|| identity::changed(&stated))?;
        chunk
            .withhold()
            .map_err(|error| identity::changed(&stated).with_cause(error))?;
        response.body.read_into(&mut chunk).await?;
        chunk.read_withheld(|bytes| hash.update(bytes));
        if hash.finish() != stated.value {
            return Err(identity::changed(&stated));
        }
        chunk.release();
        self.routes.put(route);
        Ok(())
    }

    fn name(&self) -> String {
        self.address.to_string()
    }
}
