//! One AIStore object as a `RangeSource`. See the head of the crate for what it has to know.

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pget_core::{
    Checksum, ChunkWriter, Error, ErrorKind, Match, ObjectInfo, RangeRequest, RangeSource, Reply, Retry,
    Revision, SourceError, verify::Hasher,
};
use pget_http::{
    Body, Client, Codings, ConnectionPolicy, Method, Ranges, Response, head_or_byte, range_of,
    reply_from_parts,
};
use url::Url;

use crate::{
    Config, ObjectAddress,
    exchange::{Answer, Ask, Cluster, Content, SMALL_BODY},
    identity,
    properties::{PROPS, Properties},
};

/// The whole of a cold object is sent while it is being pulled from its backend.
const BLOB_DOWNLOAD: HeaderName = HeaderName::from_static("ais-blob-download");

/// An object in an AIStore cluster.
#[derive(Debug)]
pub struct AistoreSource {
    config: Config,
    cluster: Cluster,
    ranges: Ranges,
    codings: Codings,
}

impl AistoreSource {
    /// The object at `address`, through `client`. Sends nothing.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) or [`InvalidArgument`](ErrorKind::InvalidArgument)
    /// if its name or the endpoint cannot be asked for.
    pub fn new(client: Client, config: Config, address: ObjectAddress) -> Result<Self, Error> {
        address.check()?;
        address.url(&config.endpoint, &[])?;
        let cluster = Cluster::new(client, &config, address);
        Ok(Self {
            config,
            cluster,
            ranges: Ranges::default(),
            codings: Codings::default(),
        })
    }

    /// Whether the object is read through an archive or a transformation: ranges do not apply to
    /// what comes out.
    const fn is_derived(&self) -> bool {
        self.config.archpath.is_some() || self.config.etl.is_some()
    }

    /// Whose bytes an answer's are, by its headers. They describe the object: a transformation may
    /// give others from the same one each time, so what comes out of it has no identity, and
    /// nothing that was begun goes on in it.
    fn revision(&self, headers: &HeaderMap) -> Revision {
        if self.config.etl.is_some() {
            Revision::default()
        } else {
            identity::revision(headers)
        }
    }

    /// Where the object is asked for, by what distinguishes it from another cluster's of the same
    /// name: the endpoint, the backend, the archive's member, the transformation. Without user and
    /// password.
    #[must_use]
    pub fn endpoint_id(&self) -> String {
        // An address that cannot be made was refused when this was.
        self.url(&[]).map_or_else(
            |_| String::new(),
            |mut url| {
                // Fails where there is nothing of the kind.
                url.set_username("").and_then(|()| url.set_password(None)).ok();
                url.into()
            },
        )
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
        let url = self.cluster.address().url(&self.config.endpoint, &query);
        url.map_err(|error| {
            SourceError::fatal(error.kind(), "the object's address cannot be made").with_cause(error)
        })
    }

    /// Size, identity, whether the object is in the cluster, and its chunks.
    async fn properties(&self) -> Result<Properties, SourceError> {
        let ask = |url| Ask {
            method: Method::Head,
            url,
            range: None,
            headers: HeaderMap::new(),
            remember: false,
            connection: ConnectionPolicy::Any,
            content: Content::Nothing,
        };
        let url = self.url(&[("props", PROPS)])?;
        let mut response = self.cluster.fetch(&ask(url)).await?.response;
        if response.status == StatusCode::BAD_REQUEST {
            // A server that does not know one of the properties; without any, it reports what it
            // always did.
            response.body.drain_small(SMALL_BODY).await;
            response = self.cluster.fetch(&ask(self.url(&[])?)).await?.response;
        }
        if !response.status.is_success() {
            return Err(self.cluster.failed(response).await);
        }
        let headers = response.headers;
        // Otherwise its connection would be closed: one more for each range that HEAD is asked
        // about.
        response.body.drain_small(0).await;
        let mut properties = Properties::read(&headers)?;
        properties.revision = self.revision(&headers);
        Ok(properties)
    }

    /// Returns what HEAD says; `None` where HEAD is refused, or failed on the attempts before this
    /// one, too: a token, or a gateway, may let an object be read and not be asked about.
    async fn permitted_properties(&self, attempt: u32) -> Result<Option<Properties>, SourceError> {
        match self.properties().await {
            Err(error) if attempt >= 2 || matches!(error.retry(), Retry::Refused | Retry::Never) => Ok(None),
            result => result.map(Some),
        }
    }

    /// Asks by HEAD whether the object is still what it was.
    ///
    /// A reply whose headers came between two of these is of that revision: targets hold the
    /// object's lock while they answer.
    async fn vouch(&self, was: &Revision) -> Result<(), SourceError> {
        match was.compare(&self.properties().await?.revision) {
            Match::Same => Ok(()),
            Match::Changed(how) => Err(SourceError::fatal(ErrorKind::ObjectChanged, how)),
            Match::Untold => Err(SourceError::retryable(
                ErrorKind::Protocol,
                format!("the server does not say whether it is still {was}"),
            )),
        }
    }

    /// One plain stream of the whole of a cold object: a ranged read would wait for all of it to be
    /// pulled first.
    async fn read_cold(&self, size: u64, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        let mut headers = HeaderMap::new();
        headers.insert(BLOB_DOWNLOAD, HeaderValue::from_static("true"));
        let mut ask = Ask {
            method: Method::Get,
            url: self.url(&[])?,
            range: None,
            headers,
            remember: false,
            connection: ConnectionPolicy::Any,
            content: Content::Nothing,
        };
        let mut response = self.cluster.fetch(&ask).await?.response;
        if response.status == StatusCode::BAD_REQUEST {
            // Buckets that are served without such jobs refuse the header.
            response.body.drain_small(SMALL_BODY).await;
            ask.headers.clear();
            response = self.cluster.fetch(&ask).await?.response;
        }
        if !response.status.is_success() {
            return Err(self.cluster.failed(response).await);
        }
        let mut reply = whole(&response)?;
        reply.total = reply.total.or(Some(size));
        reply.checksum = identity::published(&reply.revision);
        chunk.begin(reply)?;
        response.body.read_into(&mut chunk).await
    }

    /// A GET and what its headers say: of the range, or of everything where ranges are refused and
    /// a plain GET is not.
    async fn get(&self, request: &RangeRequest, latest: bool) -> Result<(Reply, Answer), SourceError> {
        let range = if self.is_derived() || self.ranges.are_refused(request) {
            None
        } else {
            range_of(request)?
        };
        let mut ask = Ask {
            method: Method::Get,
            url: self.url(if latest { &[("latest-ver", "true")] } else { &[] })?,
            range,
            headers: HeaderMap::new(),
            remember: !latest,
            connection: request.into(),
            content: Content::Nothing,
        };
        let answer = self.cluster.fetch(&ask).await?;
        let status = answer.response.status;
        let error = match self.answered(request, answer).await {
            Ok(answered) => {
                if status == StatusCode::PARTIAL_CONTENT {
                    self.ranges.served();
                }
                return Ok(answered);
            }
            Err(error) => error,
        };
        // That there is no such object is not about its range: the proxy and a target say so.
        let is_missing = error.kind() == ErrorKind::NotFound;
        if range.is_none() || is_missing || !self.ranges.may_be_refused(request, status) {
            return Err(error);
        }
        tracing::debug!(object = %self.cluster.address(), %error, "the range is refused; asking for everything");
        ask.range = None;
        let answer = self.cluster.fetch(&ask).await?;
        let answered = self.answered(request, answer).await?;
        if answered.0.whole {
            self.ranges.refused();
        }
        Ok(answered)
    }

    /// What the headers of an answer to a GET say.
    async fn answered(&self, request: &RangeRequest, answer: Answer) -> Result<(Reply, Answer), SourceError> {
        let Response { status, headers, .. } = &answer.response;
        let ranged = headers.contains_key(header::CONTENT_RANGE);
        let mut reply = match *status {
            // Servers before 4.1 answer a range with 200 and Content-Range. That is a part, too.
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => reply_from_parts(request, *status, headers)?,
            StatusCode::RANGE_NOT_SATISFIABLE if ranged => reply_from_parts(request, *status, headers)?,
            _ => return Err(self.cluster.failed(answer.response).await),
        };
        reply.revision = self.revision(headers);
        Ok((reply, answer))
    }

    /// What HEAD says of the object.
    async fn ask_head(&self) -> Result<Option<ObjectInfo>, SourceError> {
        let properties = self.properties().await?;
        Ok(Some(ObjectInfo {
            size: Some(properties.size).filter(|_| !self.is_derived()),
            checksum: identity::published(&properties.revision).filter(|_| !self.is_derived()),
            revision: properties.revision,
            chunk_hint: properties.chunk_hint,
            ranges: Some(properties.present && !self.is_derived()),
        }))
    }

    /// What the answer to a GET of the first byte says of the object.
    async fn probe(&self) -> Result<ObjectInfo, SourceError> {
        let (mut reply, answer) = self.get(&RangeRequest::new(0, Some(1)), false).await?;
        if is_part(&reply) {
            // It may be that of the byte.
            reply.revision.checksum = None;
        }
        if !reply.whole {
            answer.response.body.drain_small(1).await;
        }
        Ok(ObjectInfo {
            size: reply.total.filter(|_| !self.is_derived()),
            checksum: identity::published(&reply.revision).filter(|_| !self.is_derived()),
            revision: reply.revision,
            chunk_hint: None,
            ranges: Some(!reply.whole && !self.is_derived()),
        })
    }
}

/// A 200 as the whole object, or what an archive or a transformation returns.
fn whole(response: &Response) -> Result<Reply, SourceError> {
    let mut reply = reply_from_parts(&RangeRequest::new(0, None), response.status, &response.headers)?;
    reply.revision = identity::revision(&response.headers);
    Ok(reply)
}

/// Whether the object has, or may have, bytes before this reply's or after them: then the
/// checksum that it states may be that of the range alone.
fn is_part(reply: &Reply) -> bool {
    !reply.whole && (reply.start > 0 || reply.length != reply.total)
}

/// Receives a body that must have the `stated` checksum; nothing of it is handed out before it
/// does.
async fn read_verified(body: Body, chunk: &mut ChunkWriter, stated: &Checksum) -> Result<(), SourceError> {
    // A stream that spans chunks is handed out as it comes; whose bytes they are is known without
    // the checksum.
    let expected = identity::digest(stated).filter(|_| chunk.withhold().is_ok());
    body.read_into(chunk).await?;
    let Some(expected) = expected else { return Ok(()) };
    let mut hash = Hasher::new(expected.algorithm());
    chunk.read_withheld(|bytes| hash.update(bytes));
    if chunk.remaining() != Some(0) || hash.finish() != expected {
        return Err(identity::damaged(stated));
    }
    chunk.release();
    Ok(())
}

#[async_trait]
impl RangeSource for AistoreSource {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        head_or_byte(Box::pin(self.ask_head()), Box::pin(self.probe())).await
    }

    async fn read(&self, request: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        let pinned = request.pinned.as_deref().map(|info| &info.revision);
        if pinned.is_none()
            && self.cluster.address().bucket.can_be_cold()
            && !self.is_derived()
            && let Some(properties) = self.permitted_properties(request.attempt).await?
            && !properties.present
        {
            return self.read_cold(properties.size, chunk).await;
        }
        let latest = pinned.is_none() && self.config.latest;
        let (mut reply, mut answer) = self.get(request, latest).await?;
        // Whether the checksum of a reply is that of the object or of the range, only HEAD shows.
        let mut doubtful = None;
        if let Some(pinned) = pinned {
            if pinned.checksum.is_none() && is_part(&reply) {
                // Perhaps of this range alone: the next range's would be taken for that of another
                // object.
                reply.revision.checksum = None;
            }
            doubtful = identity::differing(pinned, &reply.revision);
            if doubtful.is_some() {
                self.vouch(pinned).await?;
                reply.revision = identity::vouched(pinned, reply.revision);
            }
        } else if is_part(&reply)
            && let Some(known) = self.permitted_properties(request.attempt).await?
        {
            if identity::differing(&known.revision, &reply.revision).is_some() {
                drop(answer.response);
                (reply, answer) = self.get(request, false).await?;
                doubtful = identity::differing(&known.revision, &reply.revision);
                if doubtful.is_some() {
                    self.vouch(&known.revision).await.map_err(|cause| {
                        let message = "the object is being replaced while its reading begins";
                        SourceError::retryable(ErrorKind::Unavailable, message).with_cause(cause)
                    })?;
                    reply.revision = identity::vouched(&known.revision, reply.revision);
                }
            }
            // Ranges that align with the object's chunks touch one file each.
            reply.chunk_hint = known.chunk_hint;
        }
        // What comes out of an archive is not what the headers have the checksum of.
        reply.checksum = identity::published(&reply.revision).filter(|_| !self.is_derived());
        if answer.response.status != StatusCode::RANGE_NOT_SATISFIABLE {
            self.codings.hold(request, &answer.response.headers)?;
        }
        chunk.begin(reply)?;
        let Answer { response, route } = answer;
        match doubtful {
            None => response.body.read_into(&mut chunk).await?,
            Some(stated) => read_verified(response.body, &mut chunk, &stated).await?,
        }
        self.cluster.keep(route);
        Ok(())
    }

    fn most_requests(&self) -> u32 {
        128
    }

    fn name(&self) -> String {
        pget_core::redact::name(&self.cluster.address().to_string())
    }

    /// The proxy, which stands for the cluster.
    fn endpoint(&self) -> Option<String> {
        let proxy = &self.config.endpoint;
        let (host, port) = (proxy.host_str()?, proxy.port_or_known_default()?);
        Some(format!("{}://{host}:{port}", proxy.scheme()))
    }
}
