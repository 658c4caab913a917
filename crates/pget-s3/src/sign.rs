//! Signatures: where a request for an address goes, and with what.
//!
//! Invariants: the URL asks for exactly the address's key (checked, as the libraries on the way normalise paths); without a signature asked for, none is made and no
//! credential is looked for. Signers come from [`store`](crate::store); called by [`urls`](crate::urls) only.

use std::{fmt, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use object_store::{
    Error as StoreError,
    aws::{AmazonS3, AwsAuthorizer},
    azure::MicrosoftAzure,
    client::{HttpRequest, HttpRequestBody},
    gcp::GoogleCloudStorage,
    path::Path,
    signer::{SignedUrlOptions, Signer as _},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::address::{Address, Cloud};

/// What RFC 3986 calls unreserved stays, and the slashes between segments: the encoding that SigV4 wants ("Create a canonical request" of the IAM user guide).
pub(crate) const PATH: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');
/// The same for a value in a query.
const VALUE: AsciiSet = PATH.add(b'/');

/// How long the servers let a request in after the time in its signed header, of which none but S3 has one: 15 minutes
/// ("RequestTimeTooSkewed" of the Amazon S3 API reference).
pub(crate) const HEADER_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Where and with what a request goes.
pub(crate) struct Signed {
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
}

/// Signs for one address.
pub(crate) enum Signer {
    Aws {
        store: AmazonS3,
        region: String,
        payer: bool,
        unsigned: bool,
    },
    Google(GoogleCloudStorage),
    Azure {
        store: MicrosoftAzure,
        query: Option<String>,
    },
    Plain(Url),
}

impl Signer {
    /// Where to send a request of this method for `address`. May ask for credentials over the network.
    pub(crate) async fn sign(
        &self,
        method: pget_http::Method,
        address: &Address,
        lifetime: Duration,
    ) -> Result<Signed, StoreError> {
        let method = &match method {
            pget_http::Method::Get => http::Method::GET,
            pget_http::Method::Head => http::Method::HEAD,
        };
        let signed = match (self, address.path()) {
            (Self::Plain(url), _) => Signed {
                url: with_version(url.clone(), address),
                headers: HeaderMap::new(),
            },
            (
                Self::Aws {
                    store,
                    unsigned: true,
                    ..
                },
                _,
            ) => {
                let url = bucket_url(store, method).await?;
                Signed {
                    url: with_version(url_of(&url, &address.key)?, address),
                    headers: checksum_mode(method).into_iter().collect(),
                }
            }
            (Self::Aws { store, .. }, Some(path)) if method != http::Method::HEAD => {
                let mut options = SignedUrlOptions::new();
                if let Some(version) = &address.version {
                    options = options.with_query([("versionId", version.as_str())]);
                }
                let url = store
                    .signed_url_opts(method.clone(), &path, lifetime, &options)
                    .await?;
                Signed {
                    url,
                    headers: HeaderMap::new(),
                }
            }
            (
                Self::Aws {
                    store, region, payer, ..
                },
                _,
            ) => {
                let url = with_version(url_of(&bucket_url(store, method).await?, &address.key)?, address);
                let credential = store.credentials().get_credential().await?;
                // object_store takes for granted that these can.
                let texts = [Some(&credential.key_id), credential.token.as_ref(), Some(region)];
                if !texts.into_iter().flatten().all(|text| is_visible(text)) {
                    return Err(generic("a credential or the region cannot stand in a header"));
                }
                let authorizer = AwsAuthorizer::new(&credential, "s3", region).with_request_payer(*payer);
                Signed {
                    headers: signed_headers(method, &url, &authorizer)?,
                    url,
                }
            }
            (Self::Google(store), _) => {
                // Unlike the others, this one puts the path into the URL as it is.
                let path = Path::parse(utf8_percent_encode(&address.key, &PATH).to_string())?;
                let mut options = SignedUrlOptions::new();
                if let Some(version) = &address.version {
                    options = options.with_query([("generation", version.as_str())]);
                }
                let url = store
                    .signed_url_opts(method.clone(), &path, lifetime, &options)
                    .await?;
                Signed {
                    url,
                    headers: HeaderMap::new(),
                }
            }
            (Self::Azure { store, query }, path) => {
                let path = path.ok_or_else(|| generic("the key cannot be expressed"))?;
                let mut url = store.signed_url(method.clone(), &path, lifetime).await?;
                if let Some(query) = query {
                    url.set_query((!query.is_empty()).then_some(query.as_str()));
                }
                Signed {
                    url,
                    headers: HeaderMap::new(),
                }
            }
        };
        let path: Vec<u8> = percent_decode_str(signed.url.path()).collect();
        if path.ends_with(format!("/{}", address.key).as_bytes()) {
            Ok(signed)
        } else {
            Err(generic("the key would be changed on its way into a URL"))
        }
    }

    /// The region that is signed for.
    pub(crate) fn region(&self) -> Option<&str> {
        match self {
            Self::Aws { region, .. } => Some(region),
            _ => None,
        }
    }
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed")
            .field("path", &self.url.path())
            .finish_non_exhaustive()
    }
}

/// The bucket's URL, by the library's own rules, with a slash at its end.
async fn bucket_url(store: &AmazonS3, method: &http::Method) -> Result<Url, StoreError> {
    let second = Duration::from_secs(1);
    let options = SignedUrlOptions::new();
    let mut url = store
        .signed_url_opts(method.clone(), &Path::from("x"), second, &options)
        .await?;
    url.set_query(None);
    let text = url.as_str().strip_suffix('x').unwrap_or_default();
    parse(text)
}

fn url_of(bucket: &Url, key: &str) -> Result<Url, StoreError> {
    parse(&format!("{bucket}{}", utf8_percent_encode(key, &PATH)))
}

fn with_version(mut url: Url, address: &Address) -> Url {
    let name = match address.cloud {
        Cloud::Aws => "versionId",
        Cloud::Google => "generation",
        Cloud::Azure => return url,
    };
    if let Some(version) = &address.version {
        url.set_query(Some(&format!("{name}={}", utf8_percent_encode(version, &VALUE))));
    }
    url
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// The signature as headers, which unlike a signed URL can be had for any path.
fn signed_headers(
    method: &http::Method,
    url: &Url,
    authorizer: &AwsAuthorizer<'_>,
) -> Result<HeaderMap, StoreError> {
    let mut request: HttpRequest = Request::builder()
        .method(method)
        .uri(url.as_str())
        .body(HttpRequestBody::empty())
        .map_err(|_| generic("the key cannot be expressed in a URL"))?;
    request.headers_mut().extend(checksum_mode(method));
    authorizer.try_authorize(&mut request, None)?;
    let mut headers = std::mem::take(request.headers_mut());
    headers
        .values_mut()
        .for_each(|value: &mut HeaderValue| value.set_sensitive(true));
    Ok(headers)
}

/// HEAD is asked for the object's checksum. As a header, which a signed URL cannot have: what S3 reads of the kind must be signed.
fn checksum_mode(method: &http::Method) -> Option<(HeaderName, HeaderValue)> {
    let mode = HeaderName::from_static("x-amz-checksum-mode");
    (method == http::Method::HEAD).then(|| (mode, HeaderValue::from_static("ENABLED")))
}

pub(crate) fn parse(text: &str) -> Result<Url, StoreError> {
    Url::parse(text).map_err(|_| generic("the endpoint is no URL"))
}

fn generic(text: &str) -> StoreError {
    StoreError::Generic {
        store: "pget",
        source: text.into(),
    }
}
