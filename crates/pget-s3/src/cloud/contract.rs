//! What a source asks of a cloud: credentials, and requests that carry them.
//!
//! Invariant: a request for an object carries its credential in headers, except a shared access
//! signature, which is a query.

use std::{fmt, time::SystemTime};

use async_trait::async_trait;
use http::HeaderMap;
use pget_core::SourceError;
use pget_http::Method;
use url::Url;

use crate::cloud::{
    keys::{Credential, Keys},
    search::Search,
};

/// One cloud, for one address.
#[async_trait]
pub(crate) trait Cloud: fmt::Debug + Send + Sync {
    /// Finds credentials by the cloud's own order of places; `None` if nothing is set up.
    ///
    /// # Errors
    /// If a place that is set up does not yield credentials.
    async fn find(&self, search: &mut Search) -> Result<Option<Credential>, SourceError>;

    /// Whether requests go out without a credential.
    fn access(&self) -> Access;

    /// Returns where a request goes and what it carries.
    fn request(&self, ask: &Ask<'_>) -> Result<Signed, SourceError>;

    /// Returns the region that `ask` would be signed for, if regions exist.
    fn region<'a>(&'a self, named: Option<&'a str>) -> Option<&'a str>;

    /// Whether a signed request may be sent to `url`, which a server named in a redirect.
    fn may_follow(&self, url: &Url) -> bool;

    /// Returns what distinguishes the bucket from another of the same name. Holds no credential.
    fn endpoint_id(&self) -> String;
}

/// Whether requests carry a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// If one is found; else the request is tried without.
    Found,
    /// Always: a search that finds none is an error.
    Required,
    /// Never: none is looked for.
    Anonymous,
}

/// What is to be asked for.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    /// `None`: without a signature.
    pub(crate) keys: Option<&'a Keys>,
    /// The server's time, as far as it is known.
    pub(crate) time: SystemTime,
    /// The region that a server named.
    pub(crate) region: Option<&'a str>,
    /// Where a redirect leads.
    pub(crate) to: Option<&'a Url>,
    /// The `Range` header that goes along.
    pub(crate) range: Option<&'a str>,
    /// The `If-Match` header that goes along.
    pub(crate) pin: Option<&'a str>,
}

/// Where and with what a request goes.
pub(crate) struct Signed {
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed")
            .field("path", &self.url.path())
            .finish_non_exhaustive()
    }
}
