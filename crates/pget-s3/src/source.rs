//! The source for `s3://`, `gs://` and `az://` objects: signed requests, whose bodies go straight
//! into their slots.
//!
//! Invariants: a read asks once more with new credentials, once more in another region, once more
//! for the server's time, and follows a bounded number of redirects, each signed again (and as
//! often by HEAD, for the checksum, on the first range); each answer is compared with the request
//! and the pin before a byte counts (by [`ChunkWriter::begin`]); no text has a signature in it, as
//! only the object's own address is ever named.

use std::{
    fmt,
    pin::pin,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::future::{Either, select};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pget_core::{
    ChunkWriter, Error, ErrorKind, Match, ObjectInfo, Published, RangeRequest, RangeSource, Retry, Revision,
    SourceError, Verify,
};
use pget_http::{
    ByteRange, Client, Codings, Conditions, ConnectionPolicy, Method, Ranges, Response, amazon_checksum,
    amazon_etag, google_checksum, range_of, refused_without_condition, revision_from_headers,
};
use tokio::time::timeout;
use url::Url;

use crate::{
    address::{Address, Cloud},
    cloud,
    errors::Refusal,
    exchange::{Again, examine, may_be_an_error, reply_of, request},
    session::{Session, SignedRequest, Wanted},
    settings::Settings,
};

/// An error's body that is not read is drained so that its connection can be used again, up to
/// this many bytes.
const DRAIN: u64 = 16 << 10;

/// How long an answered GET waits for the checksum by HEAD, if verification is required; after
/// that the read fails.
const PATIENCE: Duration = Duration::from_secs(5);

/// The same on the first attempt, if the download may go without.
const GRACE: Duration = Duration::from_secs(1);

/// Redirects of a gateway that are followed in a row.
const MOST_REDIRECTS: u32 = 5;

/// Reads one object of S3 (or what speaks like it), Google Cloud Storage or Azure Blob Storage.
///
/// Credentials are looked for where the cloud's own tools look for them, once for all ranges, and
/// renewed ahead of their end. Each request is signed in its headers. A server that refuses this
/// machine's time is signed for by its own (its `Date`), if that is at most a day off.
pub struct S3Source {
    client: Client,
    session: Session,
    cloud: Cloud,
    /// The version that is asked for; none: the one that is there.
    version: Option<String>,
    name: String,
    endpoint_id: String,
    ranges: Ranges,
    codings: Codings,
    conditions: Conditions,
}

impl S3Source {
    /// Opens the object at `address`, by what `settings` say. Reads the files that they name, and
    /// sends nothing.
    ///
    /// # Addresses
    /// `s3://bucket/key`, `gs://bucket/key`, `az://container/key`. In place of a bucket of S3, the
    /// ARN of an access point or Ceph's `tenant:bucket` may stand. In a key, `%` and two
    /// hexadecimal digits stand for a byte; every other character, `+` and `#` and spaces and
    /// non-ASCII ones too, stands for itself. So `%` is written `%25`, and `?`, after which only a
    /// version may stand, `%3F`: `s3://bucket/key?versionId=ID`,
    /// `gs://bucket/key?generation=NUMBER`. An answer that names another one is
    /// [`Protocol`](ErrorKind::Protocol). A key is read byte for byte or refused: those with `.` or
    /// `..` between slashes are, as HTTP takes them away.
    ///
    /// # Endpoints
    /// Without one, the cloud's own. One of the form `http://…` is used without further permission.
    /// Slashes at its end mean nothing. With `aws.virtual_hosted_style_request=true`, the host of
    /// an endpoint must be the address's bucket or begin with it and a dot. The region is
    /// `us-east-1` unless it is set; a server that names another one is believed once.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) and [`Unsupported`](ErrorKind::Unsupported)
    /// for an address or settings that cannot be used.
    pub fn open(address: &str, settings: &Settings, client: Client) -> Result<Self, Error> {
        let address = Address::parse(address)?;
        let (cloud, name) = (address.cloud, address.text.clone());
        let version = address.version.clone();
        let session = Session::new(cloud::open(address, settings, client.clone())?);
        Ok(Self {
            client,
            endpoint_id: session.endpoint_id(),
            session,
            cloud,
            version,
            name,
            ranges: Ranges::default(),
            codings: Codings::default(),
            conditions: Conditions::default(),
        })
    }

    /// Where the bucket is looked for, by what distinguishes it from another's of the same name:
    /// the endpoint that is set (none: the cloud's own) and, of Azure, the account. Holds no
    /// credential.
    #[must_use]
    pub fn endpoint_id(&self) -> &str {
        &self.endpoint_id
    }

    /// Asks until there is an answer that a new signature, another region or another time would not
    /// change.
    async fn ask(
        &self,
        method: Method,
        range: Option<ByteRange>,
        pin: Option<&str>,
        connection: ConnectionPolicy,
    ) -> Result<Response, SourceError> {
        let (mut again, since) = (Again::default(), Instant::now());
        let text = range.map(|range| range.to_string());
        loop {
            let signed = self
                .session
                .sign(&Wanted {
                    since,
                    method,
                    range: text.as_deref(),
                    pin,
                    to: again.to.as_ref(),
                })
                .await?;
            let mut head = request(method, range, pin, &signed)?;
            head.connection = connection;
            head.from_server = again.to.is_some();
            let response = self.client.get(head).await?;
            match response.status {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                    self.check_version(&response.headers)?;
                    return Ok(response);
                }
                _ => {}
            }
            let to = self.followable(&response);
            let refusal = Refusal::read(response).await;
            if !again.moved && self.is_elsewhere(&refusal, &signed)? {
                again.moved = true;
            } else if let Some(to) = to.filter(|_| again.followed < MOST_REDIRECTS) {
                again.followed += 1;
                again.to = Some(to);
            } else if !again.corrected && self.is_skewed(&refusal, &signed) {
                again.corrected = true;
            } else if !again.renewed && refusal.may_be_stale(&signed) {
                again.renewed = true;
                self.session.refused(&signed);
            } else {
                return Err(self.session.explained(&signed, refusal.status, refusal.error()));
            }
            tracing::debug!(object = %self.name, status = %refusal.status, ?again, "asking again with another signature");
        }
    }

    /// Returns where a gateway that spreads its work sends a request on to.
    fn followable(&self, response: &Response) -> Option<Url> {
        if !matches!(response.status.as_u16(), 307 | 308) {
            return None;
        }
        let to = response.location().ok()?;
        self.session.may_follow(&to).then_some(to)
    }

    /// Whether the server sends us to another region than we signed for.
    ///
    /// Source: "Making requests by using REST to dual-stack endpoints" and "Request redirection and
    /// the REST API" of the Amazon S3 user guide: 301 and 307, or 400 for a signature of another
    /// region, with the bucket's region in `x-amz-bucket-region` or in the error document.
    fn is_elsewhere(&self, refusal: &Refusal, signed: &SignedRequest) -> Result<bool, SourceError> {
        if self.cloud != Cloud::Aws || !matches!(refusal.status.as_u16(), 301 | 307 | 400 | 403) {
            return Ok(false);
        }
        match &refusal.region {
            Some(region) => self.session.moved(signed, region),
            None => Ok(false),
        }
    }

    /// Whether the server's clock is not the one that we signed by.
    fn is_skewed(&self, refusal: &Refusal, signed: &SignedRequest) -> bool {
        let blamed = matches!(refusal.status.as_u16(), 400 | 401 | 403) && refusal.document.may_be_skew();
        match refusal.clock {
            Some(offset) if blamed => self.session.late(signed, offset),
            _ => false,
        }
    }

    /// What is known by a GET of the first byte.
    async fn probe(&self) -> Result<ObjectInfo, SourceError> {
        let response = self.get(&RangeRequest::new(0, Some(1)), None).await?;
        let reply = match reply_of(&RangeRequest::new(0, Some(1)), &response) {
            Ok(reply) => reply,
            Err(error) => {
                response.body.drain_small(DRAIN).await;
                return Err(error);
            }
        };
        let info = ObjectInfo {
            size: reply.total,
            revision: self.revision(reply.revision, &response.headers),
            chunk_hint: None,
            checksum: self.checksum(&response.headers),
            ranges: Some(!reply.whole),
        };
        if !reply.whole {
            response.body.drain_small(1).await;
        }
        Ok(info)
    }

    /// Asks for the range, or for everything where ranges are refused and a plain GET is not.
    async fn get(&self, request: &RangeRequest, pin: Option<&str>) -> Result<Response, SourceError> {
        let range = range_of(request)?.filter(|_| !self.ranges.are_refused(request));
        let mut pin = pin.filter(|_| !self.conditions.are_refused());
        let mut answer = self.ask(Method::Get, range, pin, request.into()).await;
        let is_change = |error: &SourceError| error.kind() == ErrorKind::ObjectChanged;
        if pin.is_some() && answer.as_ref().is_err_and(is_change) {
            // The reply's identity shows whether it has changed, or conditions are refused.
            pin = None;
            answer = match self.ask(Method::Get, range, None, request.into()).await {
                Err(error) if is_change(&error) => Err(refused_without_condition()),
                answer => answer,
            };
            if let Ok(response) = &answer {
                let revision = revision_from_headers(&response.headers);
                let revision = self.revision(revision, &response.headers);
                self.conditions.compared(request, &revision);
            }
        }
        let refused = match &answer {
            Ok(response) if response.status == StatusCode::PARTIAL_CONTENT => {
                self.ranges.served();
                None
            }
            Ok(response) if response.headers.contains_key(header::CONTENT_RANGE) => None,
            Ok(response) => Some(response.status),
            // By its status; other failures sent no request, or are about the object.
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) if error.retry() == Retry::Refused => Some(StatusCode::BAD_REQUEST),
            Err(error) if error.kind() == ErrorKind::Unsupported => Some(StatusCode::NOT_IMPLEMENTED),
            Err(_) => None,
        };
        let refused = refused.is_some_and(|status| self.ranges.may_be_refused(request, status));
        if range.is_none() || !refused {
            return answer;
        }
        tracing::debug!(object = %self.name, "the range is refused; asking for everything");
        let answer = self.ask(Method::Get, None, pin, request.into()).await;
        match &answer {
            Ok(response) if response.status == StatusCode::OK => self.ranges.refused(),
            Err(error) if matches!(error.retry(), Retry::Refused | Retry::Never) => {
                self.ranges.all_refused();
            }
            _ => {}
        }
        answer
    }

    /// What every answer says of the object's checksum.
    fn checksum(&self, headers: &HeaderMap) -> Option<Published> {
        google_checksum(headers).filter(|_| self.cloud == Cloud::Google)
    }

    /// Returns revision and checksum by HEAD, or none if HEAD reports none. If the object is not
    /// there, or the server has no time, GET reports it.
    ///
    /// # Errors
    /// If HEAD is refused and verification is required.
    async fn known(&self, verify: Verify) -> Result<Option<Known>, SourceError> {
        let response = match self.ask(Method::Head, None, None, ConnectionPolicy::Any).await {
            Ok(response) => response,
            Err(cause) if verify == Verify::Require && cause.kind() == ErrorKind::PermissionDenied => {
                let message = "HEAD, which reports its checksum, is refused";
                return Err(SourceError::fatal(ErrorKind::Unverifiable, message).with_cause(cause));
            }
            Err(_) => return Ok(None),
        };
        let headers = response.headers.clone();
        response.body.drain_small(0).await;
        let checksum = amazon_checksum(&headers).or_else(|| {
            // Its MD5 costs more than receiving does, and is a by-product: for who asks for it.
            // ETags of directory buckets are none.
            let directory = self
                .name
                .split('/')
                .nth(2)
                .is_some_and(|bucket| bucket.ends_with("--x-s3"));
            amazon_etag(&headers).filter(|_| verify == Verify::Require && !directory)
        });
        let revision = || self.revision(revision_from_headers(&headers), &headers);
        Ok(checksum.map(|checksum| (revision(), checksum)))
    }

    /// Refuses an answer that names another version than the one asked for. Of one that names none,
    /// nothing is known.
    fn check_version(&self, headers: &HeaderMap) -> Result<(), SourceError> {
        let Some(asked) = &self.version else { return Ok(()) };
        let mut told = headers.get_all(self.version_header()).iter();
        if told.any(|told| !told.is_empty() && told.as_bytes() != asked.as_bytes()) {
            let message = "the answer is of another version than the one asked for";
            return Err(SourceError::retryable(ErrorKind::Protocol, message));
        }
        Ok(())
    }

    const fn version_header(&self) -> &'static str {
        match self.cloud {
            Cloud::Aws => "x-amz-version-id",
            Cloud::Google => "x-goog-generation",
            Cloud::Azure => "x-ms-version-id",
        }
    }

    /// Adds what states the content's identity beyond ETag and Last-Modified.
    fn revision(&self, revision: Revision, headers: &HeaderMap) -> Revision {
        let version = headers
            .get(self.version_header())
            .and_then(|version| version.to_str().ok());
        // S3's word for an object from before its bucket had versions: each one has it.
        let version = version.filter(|version| !version.is_empty() && *version != "null");
        Revision {
            version: version.map(str::to_owned),
            ..revision
        }
    }
}

#[async_trait]
impl RangeSource for S3Source {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        let response = match timeout(
            PATIENCE,
            self.ask(Method::Head, None, None, ConnectionPolicy::Any),
        )
        .await
        {
            Ok(Ok(response)) if response.status == StatusCode::OK => response,
            // An answer to HEAD has no document that says why; one to GET has, and may be allowed
            // where HEAD is not, or never answered.
            _ => return self.probe().await,
        };
        let size = match response
            .headers
            .get(header::CONTENT_LENGTH)
            .map(HeaderValue::to_str)
        {
            Some(Ok(text)) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse().ok()
            }
            _ => None,
        };
        let info = ObjectInfo {
            size,
            revision: self.revision(revision_from_headers(&response.headers), &response.headers),
            chunk_hint: None,
            checksum: self
                .checksum(&response.headers)
                .or_else(|| amazon_checksum(&response.headers).filter(|_| self.cloud == Cloud::Aws)),
            ranges: Some(true),
        };
        response.body.drain_small(0).await;
        Ok(info)
    }

    async fn read(&self, request: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        let pin = request
            .pinned
            .as_deref()
            .and_then(|info| info.revision.strong_etag());
        // S3's ranged answers do not contain the object's checksum, but HEAD's does.
        // Both go out at once, so that the first byte does not wait.
        let asks = self.cloud == Cloud::Aws && request.verify != Verify::Off;
        let get = self.get(request, pin);
        let (response, known) = if asks {
            match select(pin!(get), pin!(self.known(request.verify))).await {
                Either::Left((response, known)) => {
                    let response = response?;
                    (
                        response,
                        timeout(patience(request), known).await.unwrap_or(Ok(None)),
                    )
                }
                Either::Right((known, get)) => (get.await?, known),
            }
        } else {
            (get.await?, Ok(None))
        };
        let mut reply = match reply_of(request, &response) {
            Ok(reply) => reply,
            Err(error) => {
                response.body.drain_small(DRAIN).await;
                return Err(error);
            }
        };
        reply.revision = self.revision(reply.revision, &response.headers);
        reply.checksum = match known? {
            // Of a revision that came or went in between, it says nothing.
            Some((revision, checksum)) => {
                Some(checksum).filter(|_| revision.compare(&reply.revision) == Match::Same)
            }
            None => self.checksum(&response.headers),
        };
        if response.status != StatusCode::RANGE_NOT_SATISFIABLE {
            self.codings.hold(request, &response.headers)?;
        }
        if may_be_an_error(&response, &reply) {
            return examine(response, reply, chunk).await;
        }
        chunk.begin(reply)?;
        response.body.read_into(&mut chunk).await
    }

    fn most_requests(&self) -> u32 {
        128
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    /// The endpoint that is set; the hosts of a cloud are many.
    fn endpoint(&self) -> Option<String> {
        let url = Url::parse(self.endpoint_id.split(' ').next()?).ok()?;
        let (host, port) = (url.host_str()?, url.port_or_known_default()?);
        Some(format!("{}://{host}:{port}", url.scheme()))
    }
}

impl fmt::Debug for S3Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Source")
            .field("name", &self.name)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// A revision, and the checksum that HEAD reports for it.
type Known = (Revision, Published);

/// How long HEAD is waited for once GET has answered.
///
/// The wait is under the download's deadline for the first byte, which a source does not know and
/// the next attempt meets again. So it is halved with each attempt: a HEAD that hangs comes below
/// any deadline. Who requires verification waits as long every time: to go on without would be to
/// fail for good, although the next HEAD may answer.
fn patience(request: &RangeRequest) -> Duration {
    match request.verify {
        Verify::Require => PATIENCE,
        _ => GRACE / (1 << request.attempt.min(16)),
    }
}

#[cfg(test)]
mod tests {
    use pget_core::Collector;
    use pget_testkit::{
        content::Pattern,
        servers::{Versitygw, VersitygwOptions, require},
    };

    use super::*;
    use crate::clock::Offset;

    const LIMIT: Duration = Duration::from_secs(60);

    async fn collect(source: &S3Source, start: u64, end: u64) -> Vec<u8> {
        let collector = Collector::new(RangeRequest::new(start, Some(end)));
        let writer = collector.writer().expect("it is free");
        source.read(collector.request(), writer).await.expect("it reads");
        collector.bytes()
    }

    /// A versitygw with 1000 bytes of `pattern` under each of `keys` (as they stand in a URL), and
    /// what reaches it.
    async fn served(
        pattern: Pattern,
        keys: &'static [&'static str],
    ) -> Option<(Versitygw, Settings, Client)> {
        let started = tokio::task::spawn_blocking(move || {
            let server = require(Versitygw::start(VersitygwOptions::default()))?;
            for key in keys {
                server.endpoint().put_pattern(key, pattern, 1000).expect("put");
            }
            Some(server)
        });
        let server = started.await.expect("it starts")?;
        let endpoint = server.endpoint();
        let settings = Settings::new()
            .property("aws.endpoint", endpoint.url())
            .property("aws.region", endpoint.region())
            .property("aws.access_key_id", endpoint.access_key())
            .property("aws.secret_access_key", endpoint.secret_key());
        let client = Client::new(&pget_http::ClientOptions::default()).expect("a client");
        Some((server, settings, client))
    }

    /// Case 36 by a server that checks: versitygw refuses a signature that was made 20 minutes ago,
    /// or will be.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn case_36_versitygw_refuses_a_time_and_is_signed_for_by_its_own() {
        let pattern = Pattern::new(72);
        let Some((_server, settings, client)) = served(pattern, &["k%20%C3%A4%2B%25", "plain"]).await else {
            return;
        };
        for late in [-3600, -20 * 60, 20 * 60, -20 * 3600] {
            for address in ["s3://bucket/k ä+%25", "s3://bucket/plain"] {
                let source = S3Source::open(address, &settings, client.clone()).expect("usable");
                let offset = Offset::new(late).expect("within a day");
                source.session.be_late(offset);
                let read = async {
                    let (one, two) = tokio::join!(collect(&source, 0, 20), collect(&source, 20, 30));
                    assert_eq!(pattern.check(0, &[one, two].concat()), Ok(()));
                    let corrected = source.session.offset();
                    assert!(!corrected.is_like(offset), "{late}: nothing was refused");
                    let info = source.head().await.expect("HEAD, too");
                    assert_eq!(info.size, Some(1000));
                    assert_eq!(source.session.offset(), corrected, "once for all");
                };
                timeout(LIMIT, read).await.expect("it must end");
            }
        }
    }
}
