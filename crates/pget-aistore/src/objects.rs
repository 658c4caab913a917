//! The objects of one bucket: listed, described, stored and removed.
//!
//! A list is a GET with a JSON message at the proxy. PUT and DELETE are redirected to the target
//! that holds the object, which alone gets the content.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pget_core::{Error, ErrorKind, Revision, SourceError};
use pget_http::{Client, ConnectionPolicy, Method};
use serde::Deserialize;
use serde_json::json;

use crate::{
    AistoreSource, Bucket, Config, ObjectAddress,
    exchange::{Ask, Cluster, Content, SMALL_BODY},
    identity,
    properties::{PROPS, Properties},
};

/// A page of a list has at most 10,000 entries of some hundred bytes, and names are at most 1 KiB.
const LARGEST_PAGE: usize = 64 << 20;

/// The time format of lists, in Go's notation: RFC 3339 with nanoseconds.
const TIME_FORMAT: &str = "2006-01-02T15:04:05.999999999Z07:00";

/// A bucket in a cluster.
#[derive(Clone, Debug)]
pub struct Objects {
    client: Client,
    config: Config,
    bucket: Bucket,
}

/// What is known of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Its name in the bucket.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its version. It starts again at 1 after a delete.
    pub version: Option<String>,
    /// The value of its checksum.
    pub checksum: Option<String>,
    /// The algorithm of its checksum, which lists do not state.
    pub checksum_type: Option<String>,
    /// When it was changed last. In a list it is when it was accessed last, because AIStore lists
    /// no other time.
    pub modified: Option<SystemTime>,
}

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "made by callers")]
pub struct Listing {
    /// Names that begin with it.
    pub prefix: String,
    /// Names after it. Buckets of another provider than AIStore list all.
    pub start_after: Option<String>,
    /// At most so many entries a page; 0: as many as the server likes, which are 10,000.
    pub page_size: usize,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// The objects, by name.
    pub entries: Vec<Entry>,
    /// Continues the list after this page, if there is more.
    pub next: Option<Continuation>,
}

/// Where a list continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation {
    list: String,
    token: String,
}

/// As a text that can be kept.
impl fmt::Display for Continuation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.list, self.token)
    }
}

impl FromStr for Continuation {
    type Err = Error;

    /// Reads the text of [`Display`](fmt::Display).
    fn from_str(text: &str) -> Result<Self, Error> {
        let Some((list, token)) = text.split_once('/').filter(|(_, token)| !token.is_empty()) else {
            let message = "this is not where a list continues";
            return Err(Error::new(ErrorKind::InvalidArgument, "", message));
        };
        Ok(Self {
            list: list.to_owned(),
            token: token.to_owned(),
        })
    }
}

impl Objects {
    /// The objects of `bucket`, through `client`. Sends nothing.
    #[must_use]
    pub const fn new(client: Client, config: Config, bucket: Bucket) -> Self {
        Self {
            client,
            config,
            bucket,
        }
    }

    /// The bucket.
    #[must_use]
    pub const fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The object of this name, to be read. Sends nothing.
    ///
    /// # Errors
    /// As of [`AistoreSource::new`].
    pub fn source(&self, name: &str) -> Result<AistoreSource, Error> {
        AistoreSource::new(self.client.clone(), self.config.clone(), self.address(name))
    }

    /// Reports size, identity and time of the object of this name.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if the object does not exist.
    pub async fn head(&self, name: &str) -> Result<Entry, SourceError> {
        let cluster = self.cluster(name)?;
        let props = format!("{PROPS},last-modified");
        let mut query: &[(&str, &str)] = &[("props", &props)];
        let response = loop {
            let ask = self.ask(Method::Head, name, query, Content::Nothing)?;
            let response = cluster.fetch(&ask).await?.response;
            // An older server does not know one of the properties.
            if response.status != StatusCode::BAD_REQUEST || query.is_empty() {
                break response;
            }
            response.body.drain_small(SMALL_BODY).await;
            query = &[];
        };
        if !response.status.is_success() {
            return Err(cluster.failed(response).await);
        }
        let headers = response.headers;
        response.body.drain_small(0).await;
        let properties = Properties::read(&headers)?;
        Ok(entry(
            name,
            properties.size,
            properties.revision,
            modified(&headers),
        ))
    }

    /// Stores `content` as the object of this name, in place of an earlier one.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if the bucket does not exist.
    pub async fn put(&self, name: &str, content: Bytes) -> Result<Entry, SourceError> {
        let cluster = self.cluster(name)?;
        let size = content.len() as u64;
        let ask = self.ask(Method::Put, name, &[], Content::ToTarget(content))?;
        let answer = cluster.fetch_from_target(&ask).await?;
        if !answer.status.is_success() {
            return Err(cluster.failed(answer).await);
        }
        let headers = answer.headers;
        answer.body.drain_small(SMALL_BODY).await;
        Ok(entry(
            name,
            size,
            identity::revision(&headers),
            modified(&headers),
        ))
    }

    /// Removes the object of this name.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if the object does not exist.
    pub async fn delete(&self, name: &str) -> Result<(), SourceError> {
        let cluster = self.cluster(name)?;
        let ask = self.ask(Method::Delete, name, &[], Content::Nothing)?;
        let answer = cluster.fetch_from_target(&ask).await?;
        if !answer.status.is_success() {
            return Err(cluster.failed(answer).await);
        }
        answer.body.drain_small(SMALL_BODY).await;
        Ok(())
    }

    /// Lists objects, from `after` on.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if the bucket does not exist.
    pub async fn list(&self, listing: &Listing, after: Option<&Continuation>) -> Result<Page, SourceError> {
        let (list, token) = after.map_or(("", ""), |after| (&after.list, &after.token));
        let mut message = json!({
            "action": "list",
            "value": {
                "uuid": list,
                "continuation_token": token,
                "prefix": listing.prefix,
                "props": "name,size,version,checksum,atime",
                "time_format": TIME_FORMAT,
                "flags": "0",
                "pagesize": listing.page_size,
            },
        });
        // A bucket of another provider refuses it.
        if let Some(name) = &listing.start_after
            && self.bucket.provider == "ais"
        {
            message["value"]["start_after"] = name.as_str().into();
        }
        let cluster = self.cluster("list")?;
        let url = self.bucket.url(&self.config.endpoint).map_err(in_vain)?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let ask = Ask {
            method: Method::GetWithContent,
            url,
            range: None,
            headers,
            remember: false,
            connection: ConnectionPolicy::Any,
            content: Content::ToProxy(message.to_string().into()),
        };
        let response = cluster.fetch(&ask).await?.response;
        if !response.status.is_success() {
            return Err(cluster.failed(response).await);
        }
        page(&response.body.bytes(LARGEST_PAGE).await?)
    }

    fn address(&self, name: &str) -> ObjectAddress {
        ObjectAddress {
            bucket: self.bucket.clone(),
            object: name.to_owned(),
        }
    }

    pub(crate) fn cluster(&self, name: &str) -> Result<Cluster, SourceError> {
        let address = self.address(name);
        address.check().map_err(in_vain)?;
        Ok(Cluster::new(self.client.clone(), &self.config, address))
    }

    pub(crate) fn ask(
        &self,
        method: Method,
        name: &str,
        query: &[(&str, &str)],
        content: Content,
    ) -> Result<Ask, SourceError> {
        let url = self
            .address(name)
            .url(&self.config.endpoint, query)
            .map_err(in_vain)?;
        Ok(Ask {
            method,
            url,
            range: None,
            headers: HeaderMap::new(),
            remember: false,
            connection: ConnectionPolicy::Any,
            content,
        })
    }
}

fn in_vain(error: Error) -> SourceError {
    SourceError::fatal(error.kind(), "the object cannot be asked for").with_cause(error)
}

fn entry(name: &str, size: u64, revision: Revision, modified: Option<SystemTime>) -> Entry {
    let checksum = revision.checksum;
    let (checksum_type, checksum) = checksum.map(|sum| (sum.algorithm, sum.value)).unzip();
    Entry {
        name: name.to_owned(),
        size,
        version: revision.version,
        checksum,
        checksum_type,
        modified,
    }
}

/// `Last-Modified`, else the time of the last access, in nanoseconds.
fn modified(headers: &HeaderMap) -> Option<SystemTime> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    if let Some(time) = text("last-modified").and_then(|text| httpdate::parse_http_date(text).ok()) {
        return Some(time);
    }
    let nanoseconds = text("ais-atime")?.parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanoseconds))
}

/// A page as it is on the wire.
#[derive(Deserialize)]
struct WirePage {
    #[serde(default)]
    uuid: String,
    #[serde(default)]
    continuation_token: String,
    #[serde(default)]
    entries: Option<Vec<WireEntry>>,
}

#[derive(Deserialize)]
struct WireEntry {
    name: String,
    /// A number in quotes. Empty objects have none.
    #[serde(default)]
    size: Option<String>,
    #[serde(default)]
    version: String,
    #[serde(default)]
    checksum: String,
    #[serde(default)]
    atime: String,
}

fn page(text: &[u8]) -> Result<Page, SourceError> {
    let unusable = |what: String| SourceError::fatal(ErrorKind::Protocol, what);
    let wire: WirePage = serde_json::from_slice(text)
        .map_err(|cause| unusable("the list is not the JSON of a page".into()).with_cause(cause))?;
    let mut entries = Vec::new();
    for listed in wire.entries.unwrap_or_default() {
        let size = match &listed.size {
            None => 0,
            Some(size) => size
                .parse()
                .map_err(|_| unusable(format!("the size of a listed object is not a number: {size:?}")))?,
        };
        let time = listed.atime.parse::<jiff::Timestamp>().ok();
        entries.push(Entry {
            name: listed.name,
            size,
            version: Some(listed.version).filter(|version| !version.is_empty()),
            checksum: Some(listed.checksum).filter(|checksum| !checksum.is_empty()),
            checksum_type: None,
            modified: time.map(SystemTime::from),
        });
    }
    Ok(Page {
        entries,
        next: (!wire.continuation_token.is_empty()).then_some(Continuation {
            list: wire.uuid,
            token: wire.continuation_token,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_as_the_server_writes_them() {
        let text = br#"{"uuid":"u","continuation_token":"b","flags":0,"entries":[
            {"name":"a","size":"5","version":"2","checksum":"c0ffee","atime":"2026-11-30T14:12:32.5Z","flags":64},
            {"name":"b","flags":64}]}"#;
        let page = page(text).expect("a page");
        let [first, second] = &page.entries[..] else {
            panic!("{page:?}");
        };
        assert_eq!((first.size, first.version.as_deref()), (5, Some("2")));
        assert_eq!(first.checksum.as_deref(), Some("c0ffee"));
        assert!(first.modified.is_some());
        // An empty object has no size, and what was not asked for is missing.
        assert_eq!((second.size, second.modified), (0, None));
        let next = page.next.expect("more");
        assert_eq!(next.token, "b");
        assert_eq!(
            next.to_string().parse::<Continuation>().expect("its own text"),
            next
        );
        for text in ["", "u", "u/"] {
            text.parse::<Continuation>().expect_err(text);
        }
    }

    #[test]
    fn an_empty_bucket_has_one_page_without_entries() {
        let page = page(br#"{"uuid":"u","continuation_token":"","entries":null,"flags":0}"#).expect("a page");
        assert_eq!((page.entries.len(), page.next), (0, None));
    }

    #[test]
    fn what_is_not_a_page_is_an_error() {
        for text in [
            &b"<html>"[..],
            br#"{"entries":[{"name":"a","size":"-1"}]}"#,
            br#"{"entries":[{"size":"1"}]}"#,
            b"",
        ] {
            assert_eq!(page(text).expect_err("refused").kind(), ErrorKind::Protocol);
        }
    }
}
