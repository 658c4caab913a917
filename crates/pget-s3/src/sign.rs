//! Signatures: where a request for an address goes, and with what.
//!
//! Invariants: without a signature asked for, none is made and no credential is looked for. Signers come from [`store`](crate::store), which calls them and holds their URLs against the
//! address.

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
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::{
    address::{Address, Cloud},
    clock::{self, Ask, Offset},
};

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
    /// Where to send a request of this method for `address`, `offset` being the server's clock where it is known to be another. May ask for credentials over the network.
    pub(crate) async fn sign(
        &self,
        method: pget_http::Method,
        address: &Address,
        lifetime: Duration,
        offset: Option<Offset>,
    ) -> Result<Signed, StoreError> {
        let method = &match method {
            pget_http::Method::Get => http::Method::GET,
            pget_http::Method::Head => http::Method::HEAD,
        };
        Ok(match (self, address.path()) {
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
            (
                Self::Aws {
                    store, region, payer, ..
                },
                _,
            ) if let Some(offset) = offset => {
                let headers: HeaderMap = checksum_mode(method).into_iter().collect();
                let ask = Ask {
                    method,
                    url: url_of(&bucket_url(store, method).await?, &address.key)?,
                    version: address.version.as_deref(),
                    region,
                    payer: *payer,
                    headers: &headers,
                };
                let credential = store.credentials().get_credential().await?;
                let url = clock::presign(ask, &credential, lifetime, offset)
                    .ok_or_else(|| generic("this machine's clock is beyond all dates"))?;
                Signed { url, headers }
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
        })
    }

    /// Whether its signatures hold a time that can be [another](Offset) than this machine's.
    pub(crate) fn takes_time(&self) -> bool {
        matches!(self, Self::Aws { unsigned: false, .. })
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

pub(crate) fn generic(text: &str) -> StoreError {
    StoreError::Generic {
        store: "pget",
        source: text.into(),
    }
}

#[cfg(test)]
mod tests {
    use object_store::aws::AmazonS3Builder;

    use super::*;
    use crate::connector::Connector;

    fn signer(style: bool, endpoint: Option<&str>, token: Option<&str>, payer: bool) -> Signer {
        let region = "eu-north-9";
        let client = pget_http::Client::new(&pget_http::ClientOptions::default()).expect("a client");
        let mut builder = AmazonS3Builder::new()
            .with_http_connector(Connector::new(client))
            .with_bucket_name("bucket")
            .with_region(region)
            .with_access_key_id("key/+id")
            .with_secret_access_key("secret")
            .with_virtual_hosted_style_request(style)
            .with_request_payer(payer)
            .with_allow_http(true);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(token) = token {
            builder = builder.with_token(token);
        }
        Signer::Aws {
            store: builder.build().expect("a store"),
            region: region.into(),
            payer,
            unsigned: false,
        }
    }

    fn pairs(url: &Url) -> Vec<(String, String)> {
        let mut pairs: Vec<_> = url.query_pairs().into_owned().collect();
        pairs.sort();
        pairs
    }

    const PLAIN: [&str; 8] = [
        "a",
        "a/b.c/~d-_",
        "a b+c%2Bd%d",
        "ä/\u{1f980}/\u{7f}",
        "a?b=c&d#e",
        "!$&'()*,;=:@[]{}|\\^`\"<>",
        "a%2Fb",
        "%2e%2e/x",
    ];

    /// What object_store signs is, in the same second, the same to the last digit: address, parameters and signature.
    #[tokio::test]
    async fn with_the_machines_own_time_both_signers_make_the_same_signature() {
        let endpoints = [
            (false, None),
            (true, None),
            (false, Some("http://127.0.0.1:9000")),
            (false, Some("https://[::1]:443/under/a/path")),
            (true, Some("https://bucket.s3.example:8443")),
        ];
        let mut compared = 0;
        for (style, endpoint) in endpoints {
            for (token, payer) in [(None, false), (Some("t/+o=k en"), true)] {
                let signer = signer(style, endpoint, token, payer);
                for key in PLAIN {
                    for version in [None, Some("v/+1 =&")] {
                        let mut address = Address::parse("s3://bucket/k").expect("an address");
                        address.key = key.into();
                        address.version = version.map(str::to_owned);
                        let sign = async |offset| {
                            let lifetime = Duration::from_secs(900);
                            let signed = signer.sign(pget_http::Method::Get, &address, lifetime, offset);
                            signed.await.expect("it signs").url
                        };
                        let date = |url: &Url| pairs(url).into_iter().find(|(name, _)| name == "X-Amz-Date");
                        let (theirs, ours) = loop {
                            let both = (sign(None).await, sign(Some(Offset::default())).await);
                            // It signs for some keys only as headers.
                            if address.path().is_none() || date(&both.0) == date(&both.1) {
                                break both;
                            }
                        };
                        let what = format!("{key} {version:?} {endpoint:?} {style}");
                        assert_eq!(theirs.path(), ours.path(), "{what}");
                        assert_eq!(theirs.authority(), ours.authority(), "{what}");
                        if address.path().is_some() {
                            assert_eq!(pairs(&theirs), pairs(&ours), "{what}");
                            compared += 1;
                        }
                    }
                }
            }
        }
        assert!(compared >= 100, "{compared}: most keys can be signed for by both");
    }

    /// Keys that object_store signs for only as headers.
    #[tokio::test]
    async fn keys_with_empty_parts_keep_their_path() {
        let signer = signer(false, Some("http://127.0.0.1:9000"), Some("token"), false);
        for key in ["/", "//", "a//b", "/a", "a/", "a//", "//a?%2F"] {
            let mut address = Address::parse("s3://bucket/k").expect("an address");
            address.key = key.into();
            for method in [pget_http::Method::Get, pget_http::Method::Head] {
                let lifetime = Duration::from_secs(900);
                let theirs = signer.sign(method, &address, lifetime, None).await.expect(key);
                let ours = signer.sign(method, &address, lifetime, Offset::new(3600));
                let ours = ours.await.expect(key);
                assert_eq!(theirs.url.path(), ours.url.path());
                let signed = pairs(&ours.url)
                    .into_iter()
                    .find(|(name, _)| name == "X-Amz-SignedHeaders");
                let names = if method == pget_http::Method::Head {
                    "host;x-amz-checksum-mode"
                } else {
                    "host"
                };
                assert_eq!(signed.map(|(_, names)| names).as_deref(), Some(names));
                assert!(!format!("{ours:?}").contains("Signature"), "{ours:?}");
            }
        }
    }
}
