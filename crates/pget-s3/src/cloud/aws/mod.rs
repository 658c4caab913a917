//! Amazon S3, and what speaks like it.
//!
//! - [`config`]: what properties, environment and profile come to, by the names of [`table`];
//! - [`profile`]: the files `~/.aws/config` and `~/.aws/credentials`;
//! - [`credential`]: keys, as files and services name them;
//! - [`chain`], [`sts`], [`sso`], [`metadata`]: where credentials are looked for;
//! - [`endpoint`], [`partition`]: where a bucket is;
//! - [`sign`]: the signature of a request.

use std::fmt;

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::utf8_percent_encode;
use pget_core::{Error, ErrorKind, SourceError};
use pget_http::{Client, Method};
use url::Url;

use crate::{
    address::{Address, PATH, VALUE},
    cloud::{
        contract::{Access, Ask, Cloud, Signed},
        keys::{Credential, unusable},
        search::Search,
    },
    settings::Settings,
};
use chain::Chain;
use config::Config;
use endpoint::{Place, Style, resolve};
use partition::Partition;
use sign::{Scope, TOKEN, sign};

mod chain;
mod config;
mod credential;
mod endpoint;
mod metadata;
mod partition;
mod profile;
mod sign;
mod sso;
mod sts;
mod table;

pub(crate) use config::roots;
#[cfg(test)]
pub(crate) use table::TABLE;

/// The header that asks HEAD for the object's checksum.
const CHECKSUM_MODE: HeaderName = HeaderName::from_static("x-amz-checksum-mode");
const PAYER: HeaderName = HeaderName::from_static("x-amz-request-payer");
/// The header of a token of S3 Express.
const EXPRESS_TOKEN: HeaderName = HeaderName::from_static("x-amz-s3session-token");

/// S3, for one object.
pub(crate) struct Aws {
    address: Address,
    config: Config,
}

impl Aws {
    /// Reads the settings and the files that they name; sends nothing.
    pub(crate) fn new(address: Address, settings: &Settings, client: Client) -> Result<Self, Error> {
        let named = |error: Error| {
            let text = error.to_line();
            Error::new(error.kind(), address.text.clone(), text)
        };
        let config = Config::new(&address.bucket, settings, client).map_err(named)?;
        let aws = Self { address, config };
        let refuse = |text: String| Error::new(ErrorKind::InvalidArgument, aws.address.text.clone(), text);
        aws.check_host().map_err(refuse)?;
        aws.place_in(None).map_err(refuse)?;
        Ok(aws)
    }

    /// With virtual hosting, the endpoint alone says which bucket is read, which must be the
    /// address's.
    fn check_host(&self) -> Result<(), String> {
        let (Style::Hosted, Some(endpoint)) = (self.config.style, &self.config.endpoint) else {
            return Ok(());
        };
        let bucket = &self.address.bucket;
        let rest = endpoint
            .host_str()
            .and_then(|host| host.strip_prefix(bucket.as_str()));
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
            return Ok(());
        }
        Err(format!(
            "with virtual_hosted_style_request, the endpoint's host begins with the bucket's name: set one for \
             {bucket} (http[s]://{bucket}.HOST), or leave virtual_hosted_style_request away"
        ))
    }

    fn place_in(&self, named: Option<&str>) -> Result<Place, String> {
        resolve(&self.config.rules(&self.address.bucket, named))
    }

    /// Returns the object's URL.
    fn url(&self, base: &str) -> Result<Url, SourceError> {
        let key = utf8_percent_encode(&self.address.key, &PATH);
        let mut text = format!("{base}/{key}");
        if let Some(version) = &self.address.version {
            text.push_str(&format!("?versionId={}", utf8_percent_encode(version, &VALUE)));
        }
        let url = Url::parse(&text).map_err(|_| unusable("the endpoint is not a URL"))?;
        if url.as_str() == text {
            Ok(url)
        } else {
            Err(unusable("the key would be changed on its way into a URL"))
        }
    }

    /// Returns the headers that are signed if anything is.
    fn headers(&self, method: Method) -> Result<HeaderMap, SourceError> {
        let mut headers = HeaderMap::new();
        if method == Method::Head {
            headers.insert(CHECKSUM_MODE, HeaderValue::from_static("ENABLED"));
        }
        if self.config.payer {
            headers.insert(PAYER, HeaderValue::from_static("requester"));
        }
        if let Some(key) = &self.config.customer_key {
            let prefix = "x-amz-server-side-encryption-customer-";
            let parts = [
                ("algorithm", "AES256"),
                ("key", key.key.expose()),
                ("key-md5", &key.md5),
            ];
            for (name, value) in parts {
                let name = HeaderName::try_from(format!("{prefix}{name}"));
                let mut value = HeaderValue::try_from(value);
                if let Ok(value) = &mut value {
                    value.set_sensitive(true);
                }
                let (Ok(name), Ok(value)) = (name, value) else {
                    return Err(unusable("sse_customer_key_base64 cannot be sent"));
                };
                headers.insert(name, value);
            }
        }
        Ok(headers)
    }
}

#[async_trait]
impl Cloud for Aws {
    async fn find(&self, search: &mut Search) -> Result<Option<Credential>, SourceError> {
        let chain = Chain::new(&self.config).await?;
        let found = chain.find(search).await?;
        let place = self.place_in(None).map_err(unusable)?;
        match found {
            Some(found) if place.express && self.config.session => {
                let session = sts::express(&self.config, &place.base, &place.region, &found).await?;
                Ok(Some(session))
            }
            found => Ok(found),
        }
    }

    fn access(&self) -> Access {
        self.config.access
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Signed, SourceError> {
        let place = self.place_in(ask.region).map_err(unusable)?;
        let url = match ask.to {
            Some(url) => url.clone(),
            None => self.url(&place.base)?,
        };
        let mut headers = self.headers(ask.method)?;
        if let Some(keys) = ask.keys {
            let session = place.express && self.config.session;
            let scope = Scope {
                service: place.service,
                region: &place.region,
                time: ask.time,
                token: if session { EXPRESS_TOKEN } else { TOKEN },
            };
            sign(ask.method.as_str(), &url, &mut headers, b"", keys, &scope)?;
        }
        Ok(Signed { url, headers })
    }

    fn region<'a>(&'a self, named: Option<&'a str>) -> Option<&'a str> {
        Some(self.config.region(named))
    }

    /// A gateway that the caller has named may send on to where it likes; AWS to its own hosts
    /// only.
    fn may_follow(&self, url: &Url) -> bool {
        let partition = Partition::of(self.config.region(None));
        self.config.endpoint.is_some() || url.host_str().is_some_and(|host| partition.has(host))
    }

    fn endpoint_id(&self) -> String {
        let endpoint = self.config.endpoint.as_ref();
        endpoint.map_or_else(String::new, |url| url.as_str().trim_end_matches('/').to_owned())
    }
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aws")
            .field("address", &self.address.text)
            .finish_non_exhaustive()
    }
}
